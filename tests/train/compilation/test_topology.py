"""Devices of other machines: their number, their memory, and what errors say."""

import importlib.util

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import SingleDeviceSharding

from train.__main__ import main
from train.compilation import topology
from train.devices import sharding

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu: the extra tpu"
)

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


@needs_libtpu
def test_a_regular_expression_of_libtpu_is_not_shown(capsys):
    assert main(["compile", "smoke", "--topology", "v9"]) == 2
    error = capsys.readouterr().err
    assert "libtpu does not accept --topology v9. Use one such as v5e:2x2" in error


@needs_libtpu
def test_unknown_chips_are_refused(capsys):
    assert main(["compile", "smoke", "--topology", "v99:7x7"]) == 2
    error = capsys.readouterr().err
    assert (
        "libtpu does not accept --topology v99:7x7: " in error
        and "Use one such as v5e:2x2" in error
    )


def test_where_the_compiler_is_missing_its_extra_is_named(monkeypatch, capsys):
    def missing(**options):
        raise RuntimeError("no libtpu.so")

    monkeypatch.setattr(topology.topologies, "get_topology_desc", missing)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for chips, extra in (("v5e:2x2", "'.[tpu]'"), ("cuda:8", "'jax[cuda13]'")):
        assert main(["compile", "smoke", "--topology", chips]) == 2
        assert f"pip install {'-e ' if 'tpu' in extra else ''}{extra}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("described", "words"),
    [
        (False, "this machine does not have a GPU (not found). Give --gpu"),
        (True, "gpu.txtpb was not accepted (not found)"),
    ],
)
def test_a_missing_gpu_needs_a_description(described, words, monkeypatch, tmp_path, capsys):
    def missing(**options):
        raise RuntimeError("not found")

    monkeypatch.setattr(topology.topologies, "get_topology_desc", missing)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    (tmp_path / "gpu.txtpb").write_text("nothing")
    gpu = [f"--gpu={tmp_path / 'gpu.txtpb'}"] if described else []
    assert main(["compile", "smoke", "--topology=cuda:8", *gpu]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--topology", "cuda:0"), "For GPUs, use cuda:8 (8 in one machine)"),
        (("--topology", "cuda:2x2", "--slices", "2"), "For GPUs, use cuda:8 (8 in one machine)"),
        (("--topology", "cuda:2", "--gpu", "no/such/file"), "No such file"),
        (
            ("--topology", "v5e:2x2", "--gpu", "h100_sxm.txtpb"),
            "--gpu describes GPUs, and needs a --topology such as cuda:8; got --topology v5e:2x2",
        ),
    ],
)
def test_gpus_that_cannot_be_compiled_for_are_refused(flags, said, capsys):
    assert main(["compile", "smoke", *flags]) == 2
    assert said in capsys.readouterr().err


@needs_libtpu
@pytest.mark.parametrize(
    ("chips", "devices"),
    [("v5e:1x1", 1), ("v6e:1x2", 2), ("v5e:2x1", 2), ("v4:1x1x1", 2), ("v5p:2x1x1", 2)],
)
def test_parts_of_a_host_have_their_chips(chips, devices):
    assert topology.topology_mesh(chips).size == devices


@needs_libtpu
@pytest.mark.parametrize("chips", ["v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:2x2", "tpu7x:2x2x1"])
def test_a_devices_memory_is_what_the_compiler_gives_a_program(chips):
    """The error of a refused program says it. Chips of v4 and TPU7x are two devices."""
    mesh = topology.topology_mesh(chips)
    image = jax.ShapeDtypeStruct(
        (2**38,), jnp.float32, sharding=SingleDeviceSharding(mesh.devices.flat[0])
    )
    with pytest.raises(
        jax.errors.JaxRuntimeError,
        match=rf"available HBM \({topology.memory_per_device(mesh) / 2**30:.2f}G\)",
    ):
        jax.jit(lambda x: x + 1).lower(image).compile()


def test_a_gpus_memory_is_what_its_description_says(tmp_path):
    (tmp_path / "gpu.txtpb").write_text(H100)
    assert (
        topology.memory_per_device(sharding.make_mesh(1), gpu=str(tmp_path / "gpu.txtpb"))
        == 84942979072
    )
    (tmp_path / "gpu.txtpb").write_text("")
    assert (
        topology.memory_per_device(sharding.make_mesh(1), gpu=str(tmp_path / "gpu.txtpb")) is None
    )


@pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda13_plugin") is None,
    reason="needs JAX's CUDA plugin, and ptxas",
)
@pytest.mark.slow
def test_the_step_compiles_for_gpus(tmp_path, capsys):
    (tmp_path / "h100.txtpb").write_text(H100)
    assert (
        main(["compile", "smoke", "--topology=cuda:2x2", f"--gpu={tmp_path / 'h100.txtpb'}"]) == 0
    )
    printed = capsys.readouterr().out
    assert (
        "on 4 x NVIDIA H100 80GB HBM3: it compiles" in printed
        and "MiB per device of 79.11 GiB" in printed
    )
