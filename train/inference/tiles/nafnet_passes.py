"""NAFNet layer by layer: each block in two passes, the first of which computes its means."""

import functools
from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from lumloss_jax.models import NAFNet
from lumloss_jax.models._layers import Settings
from lumloss_jax.models._nafnet import Block, box_sums, channels_to_pixels
from train.devices.cpu_programs import compiler_options
from train.inference.tiles.spilled import (
    Output,
    Pass,
    Place,
    applied,
    as_in_the_whole,
    rows_inside,
)

_Layer = Callable[..., Any]


class Conv(nn.Module):
    """One of the convolutions between the blocks."""

    features: int
    kernel_size: int = 3
    strides: int = 1
    bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``[B, H, W, C]`` to ``[B, H / strides, W / strides, features]``."""
        conv = functools.partial(_SETTINGS.conv, kernel_size=self.kernel_size, strides=self.strides)
        return conv(x, self.features, bias=self.bias, name="conv")


_SETTINGS = Settings(train=False, initializer="torch", dtype=jnp.float32)


def nafnet_passes(model: NAFNet, params: Any, height: int, width: int) -> list[Pass]:
    """The passes that restore a photograph.

    They read the features "image", the photograph padded to multiples of the network's stride.

    Args:
      model: the network. With a window, means are over windows, as in the local form.
      params: its parameters.
      height: rows of the padded photograph.
      width: its pixels in a row.

    Returns:
      The passes. The strips of the last one are the restored photograph.
    """
    passes: list[Pass] = []
    levels = len(model.encoder_blocks)

    def conv(name: str, level: int, source: str, target: str, channels: int) -> None:
        passes.append(
            Pass(
                _conv(Conv(channels)),
                {"conv": params[name]},
                level,
                (source,),
                (Output(target, level, channels),),
                halo=1,
            )
        )

    def blocks(name: str, count: int, level: int, features: str) -> None:
        channels = model.width << level
        window = model.window_at(level)
        size = height >> level, width >> level
        local = bool(window) and not (window[0] >= size[0] and window[1] >= size[1])
        for i in range(count):
            of_block = params[f"{name}_block_{i}"]
            gated = Output("gated", level, channels)
            passes.append(
                Pass(
                    _means(not local),
                    of_block,
                    level,
                    (features,),
                    (gated,) if local else (),
                    halo=1,
                    sums="" if local else "sums",
                )
            )
            passes.append(
                Pass(
                    _block(min(window[1], size[1]) if local else 0, size),
                    of_block,
                    level,
                    (features,),
                    (Output(features, level, channels),),
                    halo=1,
                    numbers="" if local else "sums",
                    window=("gated", window[0]) if local else ("", 0),
                    frees=("gated",) if local else (),
                )
            )

    conv("intro", 0, "image", "x0", model.width)
    for level in range(levels):
        blocks(f"encoder_{level}", model.encoder_blocks[level], level, f"x{level}")
        channels = model.width << (level + 1)
        passes.append(
            Pass(
                _down(Conv(channels, kernel_size=2, strides=2)),
                {"conv": params[f"down_{level}"]},
                level + 1,
                (f"x{level}",),
                (Output(f"x{level + 1}", level + 1, channels),),
            )
        )
    blocks("middle", model.middle_blocks, levels, f"x{levels}")
    for i, level in enumerate(reversed(range(levels))):
        channels = model.width << level
        passes.append(
            Pass(
                _up(Conv(4 * channels, kernel_size=1, bias=False)),
                {"conv": params[f"up_{level}"]},
                level + 1,
                (f"x{level + 1}", f"x{level}"),
                (Output(f"x{level}", level, channels),),
                frees=(f"x{level + 1}",),
            )
        )
        blocks(f"decoder_{level}", model.decoder_blocks[i], level, f"x{level}")
    passes.append(
        Pass(
            _ending(Conv(model.channels)),
            {"conv": params["ending"]},
            0,
            ("x0", "image"),
            halo=1,
            frees=("x0", "image"),
        )
    )
    return passes


def _compiled(layer: _Layer) -> _Layer:
    @functools.wraps(layer)
    def in_full_precision(*arguments: Any) -> Any:
        with jax.default_matmul_precision("float32"):
            return layer(*arguments)

    return cast(_Layer, jax.jit(in_full_precision, compiler_options=compiler_options("plain")))


@functools.cache
def _conv(conv: Conv) -> _Layer:
    def layer(params: Any, place: Place, numbers: Any, x: jax.Array) -> Any:
        with as_in_the_whole(place, x.shape[1]):
            return (applied(conv, params, x)[:, 1:-1],), None

    return _compiled(layer)


@functools.cache
def _down(conv: Conv) -> _Layer:
    return _compiled(lambda params, place, numbers, x: ((applied(conv, params, x),), None))


@functools.cache
def _up(conv: Conv) -> _Layer:
    def layer(params: Any, place: Place, numbers: Any, x: jax.Array, skip: jax.Array) -> Any:
        return (channels_to_pixels(applied(conv, params, x)) + skip,), None

    return _compiled(layer)


@functools.cache
def _ending(conv: Conv) -> _Layer:
    def layer(params: Any, place: Place, numbers: Any, x: jax.Array, image: jax.Array) -> Any:
        with as_in_the_whole(place, x.shape[1]):
            return ((image + applied(conv, params, x))[:, 1:-1],), None

    return _compiled(layer)


@functools.cache
def _means(summed: bool) -> _Layer:
    """The gated features that a block takes the means of, or their sums."""

    def layer(params: Any, place: Place, numbers: Any, x: jax.Array) -> Any:
        seen: list[jax.Array] = []

        def intercept(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
            if context.method_name == "channel_means":
                seen.append(args[0])
            return method(*args, **kwargs)

        with as_in_the_whole(place, x.shape[1]), nn.intercept_methods(intercept):
            applied(Block(_SETTINGS), params, x)
        gated = seen[0][:, 1:-1]
        if not summed:
            return (gated,), None
        inside = rows_inside(place, 1, gated.shape[1])
        return (), jnp.sum(jnp.where(inside, gated, 0), axis=(0, 1, 2))

    return _compiled(layer)


@functools.cache
def _block(window: int, size: tuple[int, int]) -> _Layer:
    """A block with means that are given: sums over the photograph, or means over rows."""

    def layer(params: Any, place: Place, numbers: jax.Array, x: jax.Array) -> Any:
        if window:
            axis = numbers.ndim - 2
            means = box_sums(numbers, window, axis) / window
            around = [(0, 0)] * means.ndim
            around[axis] = ((window - 1) // 2, window // 2)
            means = jnp.pad(means, around, mode="edge")
        else:
            means = numbers.reshape(1, 1, 1, -1) / (size[0] * size[1])

        def intercept(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
            given = context.method_name == "channel_means"
            return means if given else method(*args, **kwargs)

        with as_in_the_whole(place, x.shape[1]), nn.intercept_methods(intercept):
            return (applied(Block(_SETTINGS), params, x)[:, 1:-1],), None

    return _compiled(layer)
