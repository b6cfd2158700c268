"""``python -m train export``: writes a trained network as one file that runs by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import tyro

from train.bounds import check_name
from train.checkpoints.checkpoint import Network, load_network
from train.console import make_console
from train.devices.host_memory import physical_memory
from train.errors import InputError
from train.files.outputs import check_replaceable, write_bytes
from train.inference.exports.darktable import SIDE, to_darktable
from train.inference.exports.existing import is_ours
from train.inference.exports.function import restoring_function
from train.inference.exports.onnx import SAMPLED, Size, parse_size, to_onnx
from train.inference.exports.stablehlo import ARCHIVES, PROMISE, to_stablehlo
from train.inference.exports.torch import to_torch
from train.inference.predict import for_inference
from train.inference.tiles.footprint import LARGEST_ARRAY, bytes_per_pixel

_SUFFIXES = {
    "stablehlo": ".stablehlo",
    "torch": ".safetensors",
    "onnx": ".onnx",
    "darktable": ".dtmodel",
}
_ARRAYS = 3  # arrays of the largest size that exist at a time


@dataclass(frozen=True)
class ExportConfig:
    """Write a trained network as one file that can be used without this repository."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """Folder of a run, or of one of its checkpoints, or the name of a bundled network."""
    format: Literal["stablehlo", "torch", "onnx", "darktable"]
    """stablehlo: a program for jax.export, for CPU, GPU and TPU and any image size.
    JAX guarantees only six months of compatibility, so use torch or onnx for archives.
    torch: a state dict, as safetensors.
    onnx: a model for onnxruntime and similar programs, for any batch size.
    darktable: a denoiser for the "neural restore" of darktable 5.6."""
    output: Path
    """File to write: .stablehlo, .safetensors for torch, .onnx, or .dtmodel for darktable."""
    size: str | None = None
    """HEIGHTxWIDTH of all images for onnx, or of the tiles for darktable.
    None: for onnx, any height and width that are multiples of the network's stride, which is 1 to
    16. For darktable, 768x768."""
    kair: bool = False
    """Only for torch: fold the batch norm of a DnCNN and use the names of cszn/KAIR.
    ChaiNNer, ComfyUI and other programs that are built on spandrel recognize this form."""
    overwrite: bool = False
    """Replace --output even if it was not written by export."""

    def __post_init__(self) -> None:
        check_name("the checkpoint", self.checkpoint)
        check_name("--output", self.output)


def export(config: ExportConfig) -> None:
    """Writes the file, and prints what its inputs and outputs are."""
    size = _check(config)
    console = make_console(soft_wrap=True)
    check_replaceable(config.output, is_ours, option="--output", overwrite=config.overwrite)
    network = load_network(config.checkpoint, warn=lambda line: console.print(f"warning: {line}"))
    content, said = _convert(network, config, size)
    try:
        config.output.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(content, config.output)
    except OSError as error:
        raise InputError(
            f"{config.output} could not be written: {error.strerror or error}."
        ) from None
    console.print(f"{config.output}: {len(content) / 1e6:.1f} MB, {network.spec}")
    for line in said:
        console.print(line)


def _check(config: ExportConfig) -> Size | None:
    """Refuses options that do not fit --format, and reads --size."""
    if config.output.suffix != _SUFFIXES[config.format]:
        suffix = _SUFFIXES[config.format]
        raise InputError(
            f"--output {config.output} does not end in {suffix}, the ending for --format "
            f"{config.format}. Use {config.output.with_suffix(suffix)}."
        )
    if config.size is not None and config.format not in ("onnx", "darktable"):
        raise InputError(
            f"--size {config.size} is only for --format onnx and darktable: a {config.format} file "
            "accepts images of any size. Leave --size out."
        )
    if config.kair and config.format != "torch":
        raise InputError(
            f"--kair chooses the names in a state dict, so it is only for --format torch, not "
            f"for {config.format}. Leave it out."
        )
    return None if config.size is None else parse_size(config.size)


def _check_width(model: Any, spec: str, kind: str, size: Size | None) -> None:
    """Refuses a network with which the comparison of the two programs would fill the memory."""
    height, width = size or (SIDE, SIDE)
    pixels = {"darktable": height * width, "onnx": 2 * height * width if size else SAMPLED}[kind]
    needed = _ARRAYS * pixels * bytes_per_pixel(model)
    # A user who chooses a size may use half of this machine.
    most = max(_ARRAYS * LARGEST_ARRAY, (physical_memory() or 0) // 2 if size else 0)
    if needed > most:
        smaller = "" if size is None and kind == "onnx" else ", or a smaller --size"
        raise InputError(
            f"{spec} is so wide that about {needed / 1e9:.1f} GB of memory would be needed to "
            "compare it with its exported form. Use --format torch, or a network with fewer "
            f"features{smaller}."
        )


def _convert(
    network: Network, config: ExportConfig, size: Size | None
) -> tuple[bytes, Sequence[str]]:
    """The content of the file, and sentences about it."""
    told = network.model.takes_sigma
    said = (
        f"images float32 [b, {'h, w' if size is None else f'{size[0]}, {size[1]}'}, "
        f"{network.model.channels}] in [0, "
        f"1]{', sigma float32 [b], in image units' * told} -> restored "
        "images, clipped to [0, 1]"
    )
    if config.format == "stablehlo":
        return to_stablehlo(network), [
            said,
            f"exported by jax {jax.__version__}. {PROMISE}. {ARCHIVES}.",
        ]
    if config.format == "torch":
        return to_torch(network, kair=config.kair)
    model, variables = for_inference(network.model, network.params, network.batch_stats)
    _check_width(model, network.spec, config.format, size)
    if config.format == "darktable":
        return to_darktable(model, variables, network.spec, name=config.output.stem, size=size)
    field = model.receptive_field
    content = to_onnx(
        restoring_function(model, variables),
        network.spec,
        field,
        channels=model.channels,
        told=told,
        size=size,
    )
    if size is None and field.stride > 1:
        said += f"; h and w must be multiples of {field.stride}"
    return content, [said]
