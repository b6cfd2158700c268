"""``python -m train export``: writes a trained network as one file that runs by itself."""

import os
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import safetensors.numpy
import tyro

from lumloss_jax.models import ScicoUNet, to_torch_state_dict
from train.bounds import check_name
from train.checkpoints.checkpoint import Network, load_network
from train.console import make_console
from train.errors import InputError
from train.files.json_files import parse_json
from train.files.outputs import check_replaceable, write_bytes
from train.inference.onnx_export import PRODUCER, parse_size, to_onnx
from train.inference.predict import for_inference
from train.network import parse_model

_SUFFIXES = {"stablehlo": ".stablehlo", "torch": ".safetensors", "onnx": ".onnx"}
_PLATFORMS = ("cpu", "cuda", "tpu")
# Each format has a place for the name of the program that wrote the file. Nothing else in an
# existing file is parsed, because the file may come from somebody else.
_PRODUCER_KEY = "producer"  # in the metadata of a safetensors file
_LONGEST_HEADER = 4 * 2**20  # bytes of the header of a safetensors file
# An ONNX model begins with field 1, the version of the format, and field 2, the producer.
_ONNX_STARTS = re.compile(rb"\x08.\x12" + bytes([len(PRODUCER)]) + PRODUCER.encode(), re.DOTALL)
_FUNCTION = f"{PRODUCER}_restore"
# A program ends with the name of its function, after its length, and zeros.
_PROGRAM_ENDS = len(_FUNCTION).to_bytes(4, "little") + _FUNCTION.encode() + b"\0"
_MOST_ZEROS = 16
_LARGEST = 200e6  # bytes of parameters that may be written into a program


@dataclass(frozen=True)
class ExportConfig:
    """Write a trained network as one file that can be used without this repository."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """Folder of a run, or of one of its checkpoints, or the name of a bundled network."""
    format: Literal["stablehlo", "torch", "onnx"]
    """stablehlo: a program for jax.export, for CPU, GPU and TPU and any image size.
    torch: a state dict, as safetensors.
    onnx: a model for onnxruntime and similar programs, for any batch size."""
    output: Path
    """File to write: .stablehlo, .safetensors for torch, or .onnx."""
    size: str | None = None
    """HEIGHTxWIDTH of all images, for onnx.
    None: any height and width that are multiples of the network's stride.
    The stride is 1 to 8, depending on the network."""
    overwrite: bool = False
    """Replace --output even if it was not written by export."""

    def __post_init__(self) -> None:
        check_name("the checkpoint", self.checkpoint)
        check_name("--output", self.output)


def export(config: ExportConfig) -> None:
    """Writes the file, and prints what its inputs and outputs are."""
    if config.output.suffix != _SUFFIXES[config.format]:
        suffix = _SUFFIXES[config.format]
        raise InputError(
            f"--output {config.output} does not end in {suffix}, the ending for --format "
            f"{config.format}. Use {config.output.with_suffix(suffix)}."
        )
    if config.size is not None and config.format != "onnx":
        raise InputError(
            f"--size {config.size} is only for --format onnx: a {config.format} file accepts "
            "images of any size. Leave --size out."
        )
    size = None if config.size is None else parse_size(config.size)
    console = make_console(soft_wrap=True)
    check_replaceable(config.output, _is_ours, option="--output", overwrite=config.overwrite)
    network = load_network(config.checkpoint, warn=lambda line: console.print(f"warning: {line}"))
    said = (
        f"images float32 [b, {'h, w' if size is None else f'{size[0]}, {size[1]}'}, "
        f"{network.model.channels}] in [0, "
        f"1]{', sigma float32 [b], in image units' * network.model.takes_sigma} -> restored "
        "images, clipped to [0, 1]"
    )
    if config.format == "stablehlo":
        content = to_stablehlo(network)
    elif config.format == "onnx":
        model, variables = for_inference(network.model, network.params, network.batch_stats)
        field = model.receptive_field
        content = to_onnx(
            _whole(model, variables),
            network.spec,
            field,
            channels=model.channels,
            told=model.takes_sigma,
            size=size,
        )
        if size is None and field.stride > 1:
            said += f"; h and w must be multiples of {field.stride}"
    else:
        name, fields = parse_model(network.spec)
        variables = {"params": network.params, "batch_stats": network.batch_stats}
        arrays = to_torch_state_dict(name, variables, **fields)
        metadata = {"model": network.spec, _PRODUCER_KEY: PRODUCER}
        content = safetensors.numpy.save(arrays, metadata=metadata)
        named = "as in the network's PyTorch code"
        if isinstance(network.model, ScicoUNet):
            named = "by their Flax paths, joined with dots, because there is no PyTorch code"
        said = f"{len(arrays)} arrays, named {named}"
    try:
        config.output.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(content, config.output)
    except OSError as error:
        raise InputError(
            f"{config.output} could not be written: {error.strerror or error}."
        ) from None
    console.print(f"{config.output}: {len(content) / 1e6:.1f} MB, {network.spec}")
    console.print(said)


def to_stablehlo(network: Network) -> bytes:
    """Serializes the network as a program for any batch, height and width, with its parameters.

    Args:
      network: the network of a checkpoint.

    Returns:
      Bytes for ``jax.export.deserialize``. The ``call`` of the result restores ``[b, h, w, C]`` as
      :class:`~train.inference.predict.Predictor` does, but without tiles.

    Raises:
      InputError: if the parameters are too large for a program.
    """
    model, variables = for_inference(network.model, network.params, network.batch_stats)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(variables))
    if size > _LARGEST:
        raise InputError(
            f"{network.spec} has {size / 1e6:.0f} MB of parameters, but a program holds at most "
            f"{_LARGEST / 1e6:.0f} MB. Use --format torch."
        )
    batch, height, width = jax.export.symbolic_shape("b, h, w")
    images = jax.ShapeDtypeStruct((batch, height, width, model.channels), jnp.float32)
    sigma = (jax.ShapeDtypeStruct((batch,), jnp.float32),) if model.takes_sigma else ()
    return bytes(
        jax.export.export(jax.jit(_whole(model, variables)), platforms=_PLATFORMS)(
            images, *sigma
        ).serialize()
    )


def _is_ours(path: Path) -> bool:
    """Whether export wrote a file; for a file of another program it may raise any error."""
    with path.open("rb") as file:
        if path.suffix == _SUFFIXES["torch"]:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _LONGEST_HEADER:
                return False
            metadata = parse_json(file.read(length))["__metadata__"]
            return metadata[_PRODUCER_KEY] == PRODUCER
        if path.suffix == _SUFFIXES["onnx"]:
            return _ONNX_STARTS.match(file.read(len(PRODUCER) + 4)) is not None
        file.seek(-len(_PROGRAM_ENDS) - _MOST_ZEROS, os.SEEK_END)
        return (file.read().rstrip(b"\0") + b"\0").endswith(_PROGRAM_ENDS)


def _whole(model: nn.Module, variables: Any) -> Callable[..., jax.Array]:
    def restore(images: jax.Array, *levels: jax.Array) -> jax.Array:
        (sigma,) = levels or (None,)
        with jax.default_matmul_precision("float32"):
            restored = model.apply(variables, images, sigma=sigma)
        return jnp.clip(jnp.asarray(restored), 0, 1)

    restore.__name__ = _FUNCTION  # It marks a program as written by export.
    return restore
