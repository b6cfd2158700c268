"""What training steps need of TPUs that are not here, and the steps per second of a roofline.

    python benchmarks/tpu_roofline.py
    python benchmarks/tpu_roofline.py --networks DnCNN-17/64 --parallel fsdp
    python benchmarks/tpu_roofline.py --dtype bfloat16 --topologies v5e:2x2

The first command compiles two networks, data parallel, for v5e-4, v5e-256 and v6e-8. The second one
divides the state over the chips.

Every row is the step that ``python -m train fit`` would run, compiled ahead of time. This needs
libtpu (the extra tpu) but no TPU. Operations, bytes and memory are XLA's own account of the
compiled program, per chip and step.

The roofline is an optimistic estimate, not a forecast. A step takes the longer of operations / peak
and bytes / HBM bandwidth. To this, the estimate adds the time of the collectives, without any
overlap: the bytes that they receive, divided by what a chip's links carry one way. Bytes of sums
over chips count twice, because each is sent once to be added and once to distribute the sum. The
estimate leaves out latency, matrix units that are not full, and the host.

Bytes are those that fusions and other operations move to and from HBM. XLA's own count, in the
column before, includes what stays in the memory inside a chip.
"""

import os
import time
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

# Before jax: libtpu is loaded to compile with, not to compute.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")

import jax
import tyro

from train.compilation import aot
from train.config import DataConfig, FitConfig, ModelConfig, OptimizerConfig, RunConfig


@dataclass(frozen=True)
class Chip:
    """Peak numbers of one chip, per second, from Google Cloud's documentation (August 2026)."""

    flops: float  # bf16, which is what float32 convolutions and dots are given by default
    hbm: float  # bytes
    links: float  # bytes one way: half of the bidirectional bandwidth of all links together


# cloud.google.com/tpu/docs/v5e: 197 TFLOP/s, 819 GB/s, 400 GB/s both ways; .../v6e: 918 TFLOP/s,
# 1600 and 800 GB/s.
CHIPS = {"TPU v5 lite": Chip(197e12, 819e9, 200e9), "TPU v6 lite": Chip(918e12, 1600e9, 400e9)}


@dataclass(frozen=True)
class Network:
    """A network at its published size, and its share of a batch on each chip."""

    model: str
    patch_size: int
    patches: int  # a chip


NETWORKS = {
    "DnCNN-17/64": Network("dncnn(depth=17, features=64)", 64, 32),
    "Retinexformer": Network("retinexformer", 128, 8),
    # The one size that could be compiled when GELU was written with erfc, for comparison.
    "Retinexformer, 32x32": Network("retinexformer", 32, 8),
}


@dataclass(frozen=True)
class Options:
    """What to compile, for what."""

    topologies: tuple[str, ...] = ("v5e:2x2", "v5e:16x16", "v6e:2x4")
    """Chips, as python -m train compile takes them; v5e and v6e."""
    networks: tuple[str, ...] = ("DnCNN-17/64", "Retinexformer")
    """Networks, out of the ones that this file lists."""
    parallel: Literal["data", "fsdp"] = "data"
    """Whether every chip holds the whole state, or its share of it."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format inside the network."""


def config_of(network: Network, chips: int, options: Options) -> FitConfig:
    """A run of that network with Adam on the default loss."""
    return FitConfig(
        data=DataConfig(patch_size=network.patch_size, batch_size=network.patches * chips),
        model=ModelConfig(model=network.model, dtype=options.dtype),
        optimizer=OptimizerConfig(optimizer="adam"),
        run=RunConfig(parallel=options.parallel),
    )


def row_of(name: str, topology: str, options: Options) -> list[str]:
    """One network on one topology, compiled."""
    network, mesh = NETWORKS[name], aot.topology_mesh(topology)
    chip = CHIPS[mesh.devices.flat[0].device_kind]
    start, worked = time.monotonic(), time.process_time()
    program = aot.compile_for(config_of(network, mesh.size, options), mesh)
    compiled, worked = time.monotonic() - start, time.process_time() - worked
    work, memory = program.flops / chip.flops, program.hbm_bytes / chip.hbm
    taken = sum(program.collective_bytes.values())
    links = (taken + program.collective_bytes.get("all-reduce", 0)) / chip.links
    seconds = max(work, memory) + links
    kinds = ", ".join(f"{count} {kind}" for kind, count in program.collectives.items()) or "none"
    return [
        name,
        f"{topology} ({mesh.size})",
        f"{network.patches} x {network.patch_size}²",
        f"{program.memory / 2**20:.0f} MiB",
        f"{program.flops / 1e9:.0f} GFLOP",
        f"{program.bytes_accessed / 2**30:.2f} GiB",
        f"{program.hbm_bytes / 2**30:.2f} GiB",
        f"{program.flops / program.hbm_bytes:.0f}",
        f"{taken / 2**20:.2f} MiB: {kinds}",
        f"{1e3 * work:.2f} / {1e3 * memory:.2f} / {1e3 * links:.3f}",
        f"{1 / seconds:.0f}",
        f"{network.patches * mesh.size / seconds:,.0f}",
        f"{compiled:.0f} ({worked:.0f}) s",
    ]


COLUMNS = (
    "network",
    "topology (chips)",
    "patches per chip",
    "memory per chip",
    "work",
    "bytes by XLA's count",
    "bytes of HBM",
    "FLOP / byte of HBM",
    "between chips",
    "ms: work / bytes / links",
    "steps/s",
    "patches/s",
    "to compile: wall (processor)",
)


def main(options: Options) -> None:
    """Prints a table, row by row as they are compiled."""
    versions = f"jax {jax.__version__}, libtpu {metadata.version('libtpu')}"
    print(
        f"{options.parallel} parallel, {options.dtype}, {versions}, compiled on {os.cpu_count()} "
        "cores",
        flush=True,
    )
    for line in (COLUMNS, ["---"] * len(COLUMNS)):
        print(f"| {' | '.join(line)} |", flush=True)
    for topology in options.topologies:
        for name in options.networks:
            print(f"| {' | '.join(row_of(name, topology, options))} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
