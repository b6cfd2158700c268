import dataclasses
import functools
import importlib.util

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import SingleDeviceSharding

from lumloss_jax import luminance_l1_loss
from lumloss_jax.models import PRESETS
from train import aot, sharding
from train.__main__ import main
from train.config import DataConfig, FitConfig, ModelConfig
from train.errors import InputError

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu: the extra tpu")

TINY = FitConfig(
    data=DataConfig(patch_size=8, batch_size=8), model=ModelConfig(model="dncnn(depth=3, features=4, batch_norm=False)")
)


def with_model(spec):
    return dataclasses.replace(TINY, model=dataclasses.replace(TINY.model, model=spec))


def accessed(loss, image):
    """Bytes that the compiled value and gradient reads and writes."""
    with aot.uncached():
        return jax.jit(jax.value_and_grad(loss)).lower(image, image).compile().cost_analysis()["bytes accessed"]


def test_one_sum_over_devices_carries_all_gradients():
    """Read off the program that XLA makes for four devices: without batch norm one all-reduce, and nothing else."""
    program = aot.compile_for(TINY, sharding.make_mesh(4))
    assert program.collectives == {"all-reduce": 1}
    parameters = 9 * 3 * 4 + 4 + 9 * 4 * 4 + 4 + 9 * 4 * 3 + 3
    assert 4 * parameters <= program.collective_bytes < 4 * parameters + 64  # and loss and terms
    assert aot.compile_for(TINY, sharding.make_mesh(1)).collectives == {}


@pytest.mark.parametrize(("depth", "norms"), [(3, 1), (5, 3)])
def test_batch_norm_adds_two_sums_a_layer_at_most(depth, norms):
    program = aot.compile_for(with_model(f"dncnn(depth={depth}, features=4)"), sharding.make_mesh(4))
    assert set(program.collectives) == {"all-reduce"}
    assert 1 < program.collectives["all-reduce"] <= 1 + 2 * norms


def test_collectives_are_read_off_a_programs_text():
    text = """
    %x = f32[3,4]{1,0} all-reduce(%a), replica_groups={{0,1}}
    %y = (f32[2]{0}, bf16[8]{0}) all-reduce-start(%b, %c), channel_id=1
    %z = (f32[2]{0}, bf16[8]{0}) all-reduce-done(%y)
    %w = s32[] all-gather(%d)
    %all-reduce.1 = f32[7] add(%x, %x)
    """
    assert aot.read_collectives(text) == ({"all-reduce": 2, "all-gather": 1}, 48 + 8 + 16 + 4)


def test_sums_over_slices_are_read_off_a_programs_text():
    """The two lines of one sum as libtpu writes them, shortened; what is received is the same sum."""
    text = """
    %send.1 = (f32[9,2,128]{2,1,0:T(2,128)}, u32[], token[]) send(%bitcast.3, %after-all.1), channel_id=4, \
is_host_transfer=true, frontend_attributes={_xla_megascale_transfer_type="ALL_REDUCE"}
    %recv.1 = (f32[9,2,128]{2,1,0:T(2,128)}, u32[], token[]) recv(%after-all.1), channel_id=3, \
is_host_transfer=true, frontend_attributes={_xla_megascale_transfer_type="ALL_REDUCE"}
    %send.2 = (f32[4]{0}, u32[], token[]) send(%x, %after-all.2), channel_id=5, is_host_transfer=true
    """
    assert aot.read_slice_transfers(text) == (1, 4 * 9 * 2 * 128)


def test_memory_and_work_grow_with_the_batch():
    small = aot.compile_for(TINY, sharding.make_mesh(1))
    large = aot.compile_for(
        dataclasses.replace(TINY, data=dataclasses.replace(TINY.data, batch_size=32)), sharding.make_mesh(1)
    )
    assert large.memory > small.memory and large.flops == pytest.approx(4 * small.flops, rel=0.2)


def test_batches_that_do_not_divide_are_refused_before_compiling():
    with pytest.raises(InputError, match="does not divide over 3 devices"):
        aot.compile_for(TINY, sharding.make_mesh(3))


def test_unknown_chips_are_refused(capsys):
    assert main(["compile", "smoke", "--topology", "v99:7x7"]) == 2
    error = capsys.readouterr().err
    assert "--topology v99:7x7 cannot be compiled for" in error and "pip install -e '.[tpu]'" in error


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--topology", "cuda:0"), "GPUs are cuda:8, eight in one machine"),
        (("--topology", "cuda:2x2", "--slices", "2"), "GPUs are cuda:8, eight in one machine"),
        (("--topology", "cuda:2", "--gpu", "no/such/file"), "No such file"),
        (("--topology", "v5e:2x2", "--gpu", "h100_sxm.txtpb"), "--gpu describes the GPUs of --topology cuda:8"),
    ],
)
def test_gpus_that_cannot_be_compiled_for_are_refused(flags, said, capsys):
    assert main(["compile", "smoke", *flags]) == 2
    assert said in capsys.readouterr().err


@needs_libtpu
@pytest.mark.parametrize("topology", ["v4:2x2x1", "v5e:2x2", "v6e:2x2"])
def test_the_loss_compiles_for_tpu(topology):
    device = SingleDeviceSharding(aot.topology_mesh(topology).devices.flat[0])
    image = jax.ShapeDtypeStruct((2, 32, 128, 3), jnp.float32, sharding=device)
    assert accessed(functools.partial(luminance_l1_loss, window_size=7, brightness="lightness"), image) > 0


@needs_libtpu
@pytest.mark.parametrize(
    "topology", ["v5e:2x2", *(pytest.param(name, marks=pytest.mark.slow) for name in ("v4:2x2x1", "v6e:2x2"))]
)
def test_the_step_compiles_for_tpu_with_one_sum_over_the_chips(topology):
    # Patches of 8 pixels are so small that the compiler shares out the counters of the noise, and gathers them again.
    patches = dataclasses.replace(TINY, data=dataclasses.replace(TINY.data, patch_size=24))
    assert aot.compile_for(patches, aot.topology_mesh(topology)).collectives == {"all-reduce": 1}


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PRESETS if name != "dncnn_blind"])
def test_every_network_compiles_for_tpu(name):
    """At its published size: one chip has room for a step of eight patches."""
    config = dataclasses.replace(with_model(name), data=DataConfig(patch_size=64, batch_size=8))
    program = aot.compile_for(config, aot.topology_mesh("v5e:1x1"))
    assert 0 < program.memory < 16 * 2**30


@needs_libtpu
def test_the_loss_reads_and_writes_at_most_what_is_promised():
    """2.8 times the bytes of plain L1, value and gradient, on a v5e."""
    device = SingleDeviceSharding(aot.topology_mesh("v5e:1x1").devices.flat[0])
    image = jax.ShapeDtypeStruct((8, 128, 128, 3), jnp.float32, sharding=device)

    plain = accessed(lambda p, t: jnp.mean(jnp.abs(p - t)), image)
    assert plain <= accessed(luminance_l1_loss, image) <= 2.8 * plain


@needs_libtpu
@pytest.mark.slow
def test_the_verb_says_what_a_step_asks_of_a_chip(capsys):
    assert main(["compile", "smoke", "--topology=v5e:2x2"]) == 0
    printed = capsys.readouterr().out
    assert "on 4 x TPU v5 lite: it compiles" in printed and "MiB of 16 GiB a device" in printed
    assert "1 all-reduce" in printed


@needs_libtpu
@pytest.mark.slow
def test_slices_are_summed_over_by_their_hosts(capsys):
    """Chips of a slice sum first, by their own links; only then do the slices."""
    assert main(["compile", "smoke", "--topology=v5e:2x2", "--slices=2"]) == 0
    printed = capsys.readouterr().out
    assert "on 8 x TPU v5 lite: it compiles" in printed
    assert "1 all-reduce" in printed and "sums by the hosts' network" in printed


# What XLA asks of a GPU before it compiles for it, answered for an H100.
H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  memory_bandwidth: 3352320000000
  device_memory_size: 84942979072
  l2_cache_size: 52428800
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  shared_memory_per_core: 233472
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  threads_per_core_limit: 2048
  threads_per_block_limit: 1024
  threads_per_warp: 32
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
}
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 10 }
"""


@pytest.mark.skipif(importlib.util.find_spec("jax_cuda13_plugin") is None, reason="needs JAX's CUDA plugin, and ptxas")
@pytest.mark.slow
def test_the_step_compiles_for_gpus(tmp_path, capsys):
    (tmp_path / "h100.txtpb").write_text(H100)
    assert main(["compile", "smoke", "--topology=cuda:2x2", f"--gpu={tmp_path / 'h100.txtpb'}"]) == 0
    printed = capsys.readouterr().out
    assert "on 4 x NVIDIA H100 80GB HBM3: it compiles" in printed and "MiB a device" in printed


def test_the_largest_batch_is_the_last_that_fits(monkeypatch):
    asked = []

    def compiled(config, mesh):
        asked.append(config.data.batch_size)
        if config.data.batch_size > 32:
            raise sharding.DoesNotFit("too large")
        return aot.Program(1.0, 1.0, 1, {}, 0)

    monkeypatch.setattr(aot, "compile_for", compiled)
    assert aot.largest_batch(TINY, sharding.make_mesh(1), aot.Console(quiet=True)) == 32
    assert asked == [8, 16, 32, 64]


def test_a_step_beyond_the_devices_memory_is_refused_and_other_errors_are_passed_on(monkeypatch):
    class Refused:
        lower = staticmethod(lambda state, batch: Refused)

        @staticmethod
        def compile():
            raise jax.errors.JaxRuntimeError(message)

    monkeypatch.setattr(sharding, "compile_step", lambda step, mesh, layout: Refused)
    message = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm.\nPages of it."
    with pytest.raises(
        sharding.DoesNotFit, match=r"--batch-size 8 does not fit a device's memory .* in memory space hbm\)"
    ):
        aot.compile_for(TINY, sharding.make_mesh(1))
    message = "INTERNAL: a bug"
    with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
        aot.compile_for(TINY, sharding.make_mesh(1))


@needs_libtpu
def test_a_batch_that_no_chip_has_room_for_is_refused_in_a_sentence(capsys):
    assert main(["compile", "smoke", "--topology=v5e:1x1", "--batch-size=4194304"]) == 2
    assert "error: --batch-size 4194304 does not fit a device's memory" in capsys.readouterr().err
