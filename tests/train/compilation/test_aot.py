import dataclasses
import functools
import importlib.util
import os
import re

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import SingleDeviceSharding

from lumloss_jax import luminance_l1_loss
from lumloss_jax.models import PRESETS
from tests.slow_cases import slow_for
from train.__main__ import main
from train.compilation import aot
from train.config import DataConfig, FitConfig, ModelConfig, OptimizerConfig
from train.devices import sharding
from train.errors import InputError

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu: the extra tpu"
)

# How many bytes a program reads and writes depends on what XLA fuses.
needs_optimization = pytest.mark.skipif(
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1",
    reason="measures optimized programs: JAX_DISABLE_MOST_OPTIMIZATIONS=0",
)

TINY = FitConfig(
    data=DataConfig(patch_size=8, batch_size=8),
    model=ModelConfig(model="dncnn(depth=3, features=4, batch_norm=False)"),
)


def with_model(spec):
    return dataclasses.replace(TINY, model=dataclasses.replace(TINY.model, model=spec))


def accessed(loss, image):
    """Counts the bytes that the compiled value and gradient read and write."""
    with aot.uncached():
        return (
            jax.jit(jax.value_and_grad(loss))
            .lower(image, image)
            .compile()
            .cost_analysis()["bytes accessed"]
        )


def test_one_sum_over_devices_carries_all_gradients():
    """Without batch norm, the program for four devices has one all-reduce."""
    program = aot.compile_for(TINY, sharding.make_mesh(4))
    assert program.collectives == {"all-reduce": 1}
    parameters = 9 * 3 * 4 + 4 + 9 * 4 * 4 + 4 + 9 * 4 * 3 + 3
    # And loss and terms
    assert 4 * parameters <= program.collective_bytes["all-reduce"] < 4 * parameters + 64
    assert aot.compile_for(TINY, sharding.make_mesh(1)).collectives == {}


@pytest.mark.parametrize(("depth", "norms"), [(3, 1), pytest.param(5, 3, marks=pytest.mark.slow)])
def test_batch_norm_adds_two_sums_a_layer_at_most(depth, norms):
    program = aot.compile_for(
        with_model(f"dncnn(depth={depth}, features=4)"), sharding.make_mesh(4)
    )
    assert set(program.collectives) == {"all-reduce"}
    assert 1 < program.collectives["all-reduce"] <= 1 + 2 * norms


def test_memory_and_work_grow_with_the_batch():
    small = aot.compile_for(TINY, sharding.make_mesh(1))
    large = aot.compile_for(
        dataclasses.replace(TINY, data=dataclasses.replace(TINY.data, batch_size=32)),
        sharding.make_mesh(1),
    )
    assert large.memory > small.memory and large.flops == pytest.approx(4 * small.flops, rel=0.2)


@needs_optimization
@pytest.mark.slow
def test_a_batch_in_parts_does_the_work_of_the_batch_at_once():
    """XLA counts the loop over the parts once, and its sums over devices appear once."""
    config = with_model("dncnn(depth=2, features=4)")
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, batch_size=16))
    in_parts = dataclasses.replace(config, optimizer=OptimizerConfig(accumulate=4))
    at_once, program = (aot.compile_for(each, sharding.make_mesh(4)) for each in (config, in_parts))
    assert program.flops == pytest.approx(at_once.flops, rel=0.05)
    assert program.bytes_accessed == pytest.approx(at_once.bytes_accessed, rel=0.1)
    assert program.collectives == {"all-reduce": 4 * at_once.collectives["all-reduce"]}


def test_pairs_are_compiled_as_pairs():
    """As in a run, pairs have twice the pixels, and no noise is drawn."""
    pairs = dataclasses.replace(TINY, data=dataclasses.replace(TINY.data, source="pairs:low,high"))
    program, noisy = (aot.compile_for(each, sharding.make_mesh(1)) for each in (pairs, TINY))
    assert program.flops < noisy.flops - 8 * 8 * 8 * 3


def test_batches_that_do_not_divide_are_refused_before_compiling():
    with pytest.raises(InputError, match="does not divide over 3 devices"):
        aot.compile_for(TINY, sharding.make_mesh(3))


@pytest.mark.parametrize(
    ("flag", "words"),
    [("--devices=2", "--devices 2. "), ("--distributed", "--distributed, because")],
)
def test_what_the_topology_says_is_not_taken_as_a_flag(flag, words, capsys):
    assert main(["compile", "smoke", flag]) == 2
    assert f"error: compile does not accept {words}" in capsys.readouterr().err


@needs_libtpu
@slow_for("topology", ["v4:2x2x1", "v5e:2x2", "v6e:2x2"], ["v4:2x2x1", "v6e:2x2"])
def test_the_loss_compiles_for_tpu(topology):
    device = SingleDeviceSharding(aot.topology_mesh(topology).devices.flat[0])
    image = jax.ShapeDtypeStruct((2, 32, 128, 3), jnp.float32, sharding=device)
    assert (
        accessed(functools.partial(luminance_l1_loss, window_size=7, brightness="lightness"), image)
        > 0
    )


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize("topology", ["v5e:2x2", "v4:2x2x1", "v6e:2x2"])
def test_the_step_compiles_for_tpu_with_one_sum_over_the_chips(topology):
    # Patches of 8 pixels are so small that the compiler shares out the counters of the noise, and
    # gathers them again.
    patches = dataclasses.replace(TINY, data=dataclasses.replace(TINY.data, patch_size=24))
    assert aot.compile_for(patches, aot.topology_mesh(topology)).collectives == {"all-reduce": 1}


@needs_libtpu
@pytest.mark.slow
def test_a_step_for_tpu_sums_twice_per_batch_norm():
    config = dataclasses.replace(
        with_model("dncnn(depth=6, features=16)"), data=DataConfig(patch_size=24, batch_size=8)
    )
    for parts in (1, 2):
        in_parts = dataclasses.replace(config, optimizer=OptimizerConfig(accumulate=parts))
        program = aot.compile_for(in_parts, aot.topology_mesh("v5e:2x2"))
        assert set(program.collectives) == {"all-reduce"}
        assert program.collectives["all-reduce"] <= 1 + 2 * 4 * parts


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_every_network_compiles_for_tpu(name):
    """At the published size, a step of eight patches fits one chip."""
    config = dataclasses.replace(with_model(name), data=DataConfig(patch_size=64, batch_size=8))
    program = aot.compile_for(config, aot.topology_mesh("v5e:1x1"))
    assert 0 < program.memory < 16 * 2**30


@needs_libtpu
def test_the_loss_reads_and_writes_at_most_what_is_promised():
    """On a v5e, value and gradient need at most 2.8 times the bytes of plain L1."""
    device = SingleDeviceSharding(aot.topology_mesh("v5e:1x1").devices.flat[0])
    image = jax.ShapeDtypeStruct((8, 128, 128, 3), jnp.float32, sharding=device)

    plain = accessed(lambda p, t: jnp.mean(jnp.abs(p - t)), image)
    assert plain <= accessed(luminance_l1_loss, image) <= 2.8 * plain


@needs_libtpu
@pytest.mark.slow
def test_the_verb_says_what_a_step_asks_of_a_chip(capsys):
    assert main(["compile", "smoke", "--topology=v5e:2x2"]) == 0
    printed = capsys.readouterr().out
    assert (
        "on 4 x TPU v5 lite: it compiles" in printed
        and "MiB per device of 15.75 GiB that a program may use" in printed
    )
    assert "1 all-reduce" in printed


@needs_libtpu
@pytest.mark.slow
def test_slices_are_summed_over_by_their_hosts(capsys):
    """The chips of a slice sum first over their own links, and then the slices sum."""
    assert main(["compile", "smoke", "--topology=v5e:2x2", "--slices=2"]) == 0
    printed = capsys.readouterr().out
    assert "on 8 x TPU v5 lite: it compiles" in printed
    assert "1 all-reduce" in printed and re.search(r"[1-9] sums? over the hosts' network", printed)


@pytest.mark.parametrize(
    ("given", "highest", "asked", "largest"),
    [
        (8, 44, [16, 32, 64, 48, 40], 40),  # what is given fits, and is not compiled again
        (64, 44, [32, 48, 40], 40),
        (64, 3, [32, 16, 8, 4], 0),  # not even one patch on each device
        (8, 8, [16, 12], 8),
    ],
)
def test_the_largest_batch_is_searched_for_upwards_or_downwards(
    given, highest, asked, largest, monkeypatch
):
    tried = []

    def compiled(config, mesh):
        tried.append(config.data.batch_size)
        if tried[-1] > highest:
            raise sharding.DoesNotFit("too large")
        return jax.jit(jnp.sin).lower(1.0).compile()

    monkeypatch.setattr(aot, "_compile", compiled)
    config = dataclasses.replace(TINY, data=dataclasses.replace(TINY.data, batch_size=given))
    quiet, mesh = aot.Console(quiet=True), sharding.make_mesh(4)
    assert aot.largest_batch(config, mesh, quiet, fits=given <= highest) == largest
    assert tried == asked


def test_a_program_larger_than_the_given_memory_is_refused():
    with pytest.raises(
        sharding.DoesNotFit, match=r"--batch-size 8 .* \(0.00 GiB of 0.00\). Use a smaller one"
    ):
        aot.compile_for(TINY, sharding.make_mesh(1), room=1000)


@needs_libtpu
@pytest.mark.slow
def test_the_largest_batch_is_found_below_the_given_one(capsys):
    flags = ["--topology=v5e:1x1", "--batch-size=1024", "--patch-size=512", "--largest-batch"]
    assert main(["compile", "smoke", *flags]) == 0
    printed = capsys.readouterr().out
    assert "batch 1024, on 1 x TPU v5 lite: does not fit" in printed
    assert int(printed.rpartition("largest batch that fits: ")[2]) >= 512


def test_only_errors_about_memory_become_a_sentence(monkeypatch):
    class Refused:
        lower = staticmethod(lambda state, batch: Refused)

        @staticmethod
        def compile():
            raise jax.errors.JaxRuntimeError(message)

    monkeypatch.setattr(sharding, "compile_step", lambda step, mesh, **options: Refused)
    message = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm.\nPages of it."
    with pytest.raises(
        sharding.DoesNotFit,
        match=r"--batch-size 8 does not fit into a device's memory .* in memory space hbm\)",
    ):
        aot.compile_for(TINY, sharding.make_mesh(1))
    message = "INTERNAL: a bug"
    with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
        aot.compile_for(TINY, sharding.make_mesh(1))


@needs_libtpu
def test_a_batch_too_large_for_a_chip_is_refused(capsys):
    assert main(["compile", "smoke", "--topology=v5e:1x1", "--batch-size=460800"]) == 2
    assert (
        "error: --batch-size 460800 does not fit into a device's memory" in capsys.readouterr().err
    )
