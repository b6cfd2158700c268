"""What moves between devices and to their memory, read from shortened lines of XLA."""

import pytest

from train.compilation.hlo import read_collectives, read_hbm_bytes, read_slice_transfers

ENTRY = """
ENTRY %main (p: f32[8]) -> f32[8] {{
  %a = f32[3,4]{{1,0:T(8,128)}} parameter(0)
  %b = bf16[8]{{0:T(256)(2,1)}} parameter(1)
{}
}}
"""


# A computation inside a fusion, where nothing moves.
FUSED = (
    "%fused (p.2: f32[3,4]) -> f32[3,4] {\n"
    "  %p.2 = f32[3,4]{1,0} parameter(0)\n"
    "  ROOT %m = f32[3,4]{1,0} multiply(%p.2, %p.2)\n}\n"
)


@pytest.mark.parametrize(
    ("line", "kind", "taken"),
    [
        (
            "%x = f32[3,4]{1,0} all-reduce(%a), replica_groups={{0,1}}, to_apply=%add",
            "all-reduce",
            48,
        ),
        (
            "%x = (f32[3,4]{1,0}, bf16[8]{0}) all-reduce(%a, /*index=1*/%b), to_apply=%add",
            "all-reduce",
            64,
        ),
        (
            "%x = (f32[3,4]{1,0:T(8,128)S(1)}, bf16[8]{0}) all-reduce-start(%a, %b), channel_id=1",
            "all-reduce",
            64,
        ),
        ("%x = f32[12,4]{1,0} all-gather(%a), channel_id=1, dimensions={0}", "all-gather", 48),
        (
            "%x = (f32[3,4]{1,0}, f32[12,4]{1,0}) all-gather-start(%a), dimensions={0}",
            "all-gather",
            48,
        ),
        (
            "ROOT %x = bf16[2]{0} reduce-scatter(%b), dimensions={0}, to_apply=%add",
            "reduce-scatter",
            16,
        ),
        (
            "%x = ((bf16[8]{0}), bf16[2]{0}) reduce-scatter-start(%b), dimensions={0}",
            "reduce-scatter",
            16,
        ),
        (
            "%x = f32[3,4]{1,0} collective-permute(%a), source_target_pairs={{0,1},{1,0}}",
            "collective-permute",
            48,
        ),
        (
            "%x = (f32[3,4]{1,0}, f32[3,4]{1,0}, u32[]{:S(2)}, u32[]{:S(2)}) "
            "collective-permute-start(%a)",
            "collective-permute",
            48,
        ),
        ("%x = (bf16[4]{0}, bf16[4]{0}) all-to-all(%b, %b), channel_id=1", "all-to-all", 32),
    ],
)
def test_a_collective_takes_in_its_operands(line, kind, taken):
    assert read_collectives(ENTRY.format(f"  {line}")) == ({kind: 1}, {kind: taken})


@pytest.mark.parametrize(
    "line",
    [
        "%x = (f32[3,4]{1,0}, f32[12,4]{1,0}) all-gather-done(%a)",
        "%x = f32[3,4]{1,0} collective-permute-done(%a)",
        "%all-reduce.1 = f32[3,4]{1,0} add(%a, %a)",
    ],
)
def test_only_the_start_of_a_collective_counts(line):
    assert read_collectives(ENTRY.format(f"  {line}")) == ({}, {})


LOOPS = """
%inner (p: f32[4]) -> f32[4] {
  %i = f32[4]{0} parameter(0)
  %sum.1 = f32[4]{0} all-reduce(%i), to_apply=%add
}

%inner_condition (p: f32[4]) -> pred[] {
  %bound = s32[]{:T(128)} constant(3)
}

%outer (p: f32[4]) -> f32[4] {
  %o = f32[4]{0} parameter(0)
  %sum.2 = f32[4]{0} all-reduce(%o), to_apply=%add
  %while.1 = f32[4]{0} while(%o), condition=%inner_condition, body=%inner, \
metadata={op_name="a(b)/while"}
}

%outer_condition (p: f32[4]) -> pred[] {
  %other = pred[] parameter(0)
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %e = f32[4]{0} parameter(0)
  ROOT %while.2 = f32[4]{0} while(%e), condition=%outer_condition, body=%outer, TRIPS
}
"""


@pytest.mark.parametrize(
    ("note", "times"),
    # Nothing says how often: once
    [
        ('backend_config={"known_trip_count":{"n":"5"}}', 5),
        ("metadata={}", 1),
    ],
)
def test_what_is_in_a_loop_moves_as_often_as_the_loop_is_run(note, times):
    """XLA notes the number, or a counter is compared with it. Nested loops multiply."""
    wanted = times * (1 + 3)
    assert read_collectives(LOOPS.replace("TRIPS", note)) == (
        {"all-reduce": wanted},
        {"all-reduce": 16 * wanted},
    )


def test_sums_over_slices_are_read_off():
    """A sum has two lines in the programs of libtpu. The received data belong to the same sum."""
    text = ENTRY.format(
        """
  %bitcast.3 = f32[9,2,128]{2,1,0:T(2,128)} bitcast(%a)
  %send.1 = (f32[9,2,128]{2,1,0:T(2,128)}, u32[], token[]) send(%bitcast.3, %after-all.1), \
channel_id=4, is_host_transfer=true, frontend_attributes={_xla_megascale_transfer_type="ALL_REDUCE"}
  %recv.1 = (f32[9,2,128]{2,1,0:T(2,128)}, u32[], token[]) recv(%after-all.1), channel_id=3, \
is_host_transfer=true, frontend_attributes={_xla_megascale_transfer_type="ALL_REDUCE"}
  %send.2 = (f32[3,4]{1,0}, u32[], token[]) send(%a, %after-all.2), channel_id=5, \
is_host_transfer=true"""
    )
    assert read_slice_transfers(text) == (1, 4 * 9 * 2 * 128)


INNER = "{1,0:T(8,128)S(1)}"


@pytest.mark.parametrize(
    ("line", "moved"),
    [
        # Two operands of 48 and 16 bytes, and a result of 48.
        ("%x = f32[3,4]{1,0} fusion(%a, %b), kind=kLoop, calls=%fused", 112),
        # The result stays inside the chip.
        (f"%x = f32[3,4]{INNER} fusion(%a, %b), kind=kLoop, calls=%fused", 64),
        # A copy into the chip reads, a copy out of it writes, and one within HBM does both.
        (
            f"%x = (f32[3,4]{INNER}, f32[3,4]{{1,0}}, u32[]{{:S(2)}}) copy-start(%a)\n"
            f"  %y = f32[3,4]{INNER} copy-done(%x)",
            48,
        ),
        (f"%x = (f32[3,4]{{1,0}}, f32[3,4]{INNER}, u32[]{{:S(2)}}) copy-start(%inner)", 48),
        ("%x = (f32[3,4]{1,0}, f32[3,4]{1,0}, u32[]{:S(2)}) copy-start(%a)", 96),
        # A quarter of an array goes into the chip.
        (
            f"%x = ((f32[3,4]{{1,0}}), f32[3,1]{INNER}, s32[]{{:S(2)}}) slice-start(%a)\n"
            f"  %y = f32[3,1]{INNER} slice-done(%x)",
            12,
        ),
        # These name arrays, and move nothing.
        ("%x = (f32[3,4]{1,0}, bf16[8]{0}) tuple(%a, %b)", 0),
        ("%x = f32[12]{0} bitcast(%a)", 0),
    ],
)
def test_bytes_of_hbm(line, moved):
    inner = f"  %inner = f32[3,4]{INNER} constant(0)\n  "
    assert read_hbm_bytes(FUSED + ENTRY.format(inner + line)) == moved


def test_a_loop_moves_its_bytes_in_every_iteration():
    loop = "  %x = f32[3,4]{1,0} while(%a), condition=%cond, body=%body"
    body = (
        "%cond (p.3: f32[3,4]) -> pred[] {\n"
        "  ROOT %c = pred[]{:S(1)} constant(true)\n}\n"
        "%body (p.1: f32[3,4]) -> f32[3,4] {\n"
        "  %p.1 = f32[3,4]{1,0} parameter(0)\n"
        "  ROOT %n = f32[3,4]{1,0} fusion(%p.1), kind=kLoop, calls=%fused\n}\n"
    )
    known = loop + ', backend_config={"known_trip_count":{"n":"5"}}'
    assert read_hbm_bytes(FUSED + body + ENTRY.format(known)) == 5 * 96
    assert read_hbm_bytes(FUSED + body + ENTRY.format(loop)) == 96
