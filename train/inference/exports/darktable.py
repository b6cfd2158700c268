"""Packages for darktable's "neural restore": an ONNX model and its description in one archive.

darktable 5.6 (2026) runs models for images of one fixed size, and cuts photographs into overlapping
tiles of that size. A model has channels first, sRGB-encoded red, green, blue from 0 to 1. If a
network needs the noise level, the model has a second input, a map with that level in each pixel.
"""

import io
import json
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lumloss_jax.models import CIDNet, NAFNet, ReceptiveField, Retinexformer
from train.errors import InputError
from train.inference.exports.function import PRODUCER, restoring_function
from train.inference.exports.onnx import Size, convert
from train.network import parse_model

FOR = "darktable 5.6"
SIDE = 768  # pixels; what darktable's own denoisers use
COMMENT = PRODUCER.encode()  # marks an archive as written by this program
_CONFIG_NAME = "config.json"
_MODEL_NAME = "model.onnx"
_OPSET = 20  # as in darktable's own models since version 5.6
_TASK = "denoise"
_LEVEL = 25 / 255  # what darktable 5.6 fills the noise map with
_OVERLAP = 64  # pixels that darktable 5.6 cuts off each side of a tile
# Networks with sums over the whole photograph
_EVERYWHERE = (CIDNet, NAFNet, Retinexformer)
_WRITTEN = (1980, 1, 1, 0, 0, 0)  # time of the entries, so that equal networks are equal files


def to_darktable(
    model: nn.Module, variables: Any, spec: str, *, name: str, size: Size | None
) -> tuple[bytes, list[str]]:
    """Converts a network to a package for darktable.

    Args:
      model: the network, in the form of :func:`~train.inference.predict.for_inference`.
      variables: its variables.
      spec: its spec, for the description and for messages.
      name: what darktable shows. It also gives the identifier, which darktable tells models apart
        by.
      size: height and width of the tiles, which must be equal. None: 768 pixels.

    Returns:
      The content of a .dtmodel file, whose model agrees with the network within 1e-4 in
      onnxruntime, and sentences about what darktable does with it.

    Raises:
      InputError: if a package is missing, the network cannot be converted, or darktable could not
        run it.
    """
    network: Any = model
    side, field = _check(network, spec, size)
    restore = restoring_function(model, variables)
    content = convert(
        _channels_first(restore),
        [_shape(side, network.channels), _shape(side, 1)][: 1 + network.takes_sigma],
        spec,
        names=["input", "sigma"][: 1 + network.takes_sigma],
        output="output",
        samples=[_sample(side, network.takes_sigma)],
        opset=_OPSET,
    )
    identifier = f"{_TASK}-{_slug(name).removeprefix(f'{_TASK}-')}"
    described = {
        "id": identifier,
        "name": name,
        "description": f"{spec}, exported by {PRODUCER}",
        "task": _TASK,
        "arch": parse_model(spec)[0],
        "backend": "onnx",
        "version": "1.0",
        "tiling": True,
        "num_inputs": 1 + network.takes_sigma,
        "attributes": {"input_sizes": [side]},
    }
    said = [
        f"for {FOR}, tiles of {side}x{side} pixels: import the file in darktable's AI preferences. "
        f"It is listed there as {identifier}"
    ]
    if network.takes_sigma:
        said.append(
            f"note: {FOR} gives the network the noise level 25, whatever the noise is. A blind "
            "network adapts to the noise."
        )
    reach = f"{field.radius} pixels far"
    sees_everything = isinstance(network, _EVERYWHERE)
    if sees_everything:
        reach = "at the whole photograph"
    if field.radius > _OVERLAP or sees_everything:
        said.append(
            f"note: the network looks {reach}, but {FOR} lets tiles overlap by {_OVERLAP} pixels "
            "only, so seams may be visible. restore has no seams."
        )
    return _archive(identifier, {_MODEL_NAME: content, _CONFIG_NAME: _as_json(described)}), said


def _check(network: Any, spec: str, size: Size | None) -> tuple[int, ReceptiveField]:
    """The side of a tile, and how far the network looks."""
    if network.channels != 3:
        raise InputError(
            f"{spec} restores grey photographs, but darktable's models restore colour photographs. "
            "Export a network with channels=3."
        )
    height, width = size or (SIDE, SIDE)
    if height != width:
        raise InputError(
            f"--size {height}x{width} is not square, but darktable cuts photographs into square "
            f"tiles. Use --size {height}x{height}, or leave --size out for {SIDE}x{SIDE}."
        )
    field: ReceptiveField = network.receptive_field
    if height % field.stride:
        raise InputError(
            f"--size {height}x{height} is not a multiple of {field.stride} pixels, which {spec} "
            f"needs. Leave --size out for {SIDE}x{SIDE}."
        )
    if height <= 2 * _OVERLAP:
        raise InputError(
            f"--size {height}x{height} is too small: {FOR} lets tiles overlap by {_OVERLAP} pixels "
            f"on each side. Use more than {2 * _OVERLAP}, or leave --size out for {SIDE}x{SIDE}."
        )
    return height, field


def _channels_first(restore: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    def function(images: jax.Array, *level_map: jax.Array) -> jax.Array:
        restored = restore(jnp.moveaxis(images, 1, -1), *(one[:, 0] for one in level_map))
        return jnp.moveaxis(restored, -1, 1)

    return function


def _shape(side: int, channels: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, channels, side, side), jnp.float32)


def _sample(side: int, told: bool) -> Sequence[np.ndarray]:
    """Noise, and the level that darktable gives a network."""
    images = np.random.default_rng(0).uniform(0, 1, (1, 3, side, side)).astype(np.float32)
    return [images, np.full((1, 1, side, side), _LEVEL, np.float32)][: 1 + told]


def _slug(name: str) -> str:
    """A name in small letters, digits and hyphens."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not slug:
        raise InputError(
            f"--output {Path(name)}.dtmodel has no letter or digit of ASCII in its name, which "
            "becomes the identifier in darktable. Use a name such as denoise-mine.dtmodel."
        )
    return slug


def _as_json(described: dict[str, Any]) -> bytes:
    return (json.dumps(described, indent=2, ensure_ascii=False) + "\n").encode()


def _archive(folder: str, contents: dict[str, bytes]) -> bytes:
    """A zip archive of one folder. Weights hardly shrink, so nothing is compressed."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as archive:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(f"{folder}/{name}", _WRITTEN)
            entry.external_attr = 0o644 << 16  # Without it, nobody may read the unpacked file.
            archive.writestr(entry, content)
        archive.comment = COMMENT
    return written.getvalue()
