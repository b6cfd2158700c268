"""Retinexformer in tiles: it attends to the whole photograph, however that is cut.

The attention map of a head follows from three sums over all pixels (keys times queries, squared
queries, squared keys). The sums over the cores of the tiles add up to those over the photograph.
The input of a block depends on the maps of the blocks before it, so the photograph is read once for
each block. Once all sums are known, every tile is restored by itself.
"""

import functools
from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lumloss_jax.models import Retinexformer
from train.devices.cpu_programs import compiler_options
from train.inference.tiles.depthwise import quick_depthwise
from train.inference.tiles.tiles import (
    Grid,
    StreamedPhotograph,
    Transform,
    apply_transform,
    in_float,
)

# For each block, in the order in which blocks run: float32 [heads, D, D], [heads, D], [heads, D].
Sums = tuple[tuple[Any, Any, Any], ...]
# run(function, *images, arguments=()) returns function(variables, *images, *arguments), computed
# with the images divided over the devices.
RunOnDevices = Callable[..., Any]


def apply_with_sums(model: nn.Module, variables: Any, images: jax.Array, sums: Sums) -> jax.Array:
    """Computes the output of the network with attention from sums that are given.

    Args:
      model: the network.
      variables: its variables.
      images: input images, ``[B, H, W, 3]``.
      sums: the sums of every block.

    Returns:
      The restored images, of the same shape.
    """
    restored, _ = _apply(model, variables, images, sums)
    return restored


def sums_of_photograph(
    model: Retinexformer,
    run: RunOnDevices,
    photograph: StreamedPhotograph,
    grid: Grid,
    transform: Transform,
    at_once: int,
    on_progress: Callable[[], None],
) -> Sums:
    """Computes the sums of every block over the whole photograph.

    Args:
      model: the network.
      run: runs a function of the network's variables and of images.
      photograph: what to attend to.
      grid: its tiles.
      transform: how each tile is flipped and rotated first.
      at_once: number of tiles in a batch.
      on_progress: called after each batch of tiles.

    Returns:
      The sums in float32, on the host.
    """
    sums: Sums = ()
    for _ in range(model.attention_blocks):
        # Float32 would lose digits over thousands of tiles.
        totals = [np.float64(0)] * 3
        for tiles, batch in grid.batches(photograph, at_once):
            core = grid.cores(tiles, at_once)
            moved = (apply_transform(images, transform) for images in (batch, core))
            of_batch = run(_summed(model, len(sums)), *moved, arguments=(sums,))
            totals = [
                total + np.asarray(one, np.float64).sum(axis=0)
                for total, one in zip(totals, of_batch, strict=True)
            ]
            on_progress()
        products, queries, keys = (total.astype(np.float32) for total in totals)
        sums = (*sums, (products, queries, keys))
    return sums


def sums_of_reduced(
    model: nn.Module, run: RunOnDevices, reduced: np.ndarray, transform: Transform
) -> Sums:
    """Computes the sums of every block over a photograph that passes through the network at once.

    They need no scaling to represent a larger photograph, because an attention map depends only on
    their quotients.

    Args:
      model: the network.
      run: runs a function of the network's variables and of images.
      reduced: the photograph, ``[1, h, w, 3]``.
      transform: how it is flipped and rotated first.

    Returns:
      The sums in float32, on the host.
    """
    found = run(_all_summed(model), apply_transform(reduced, transform))
    return tuple(tuple(np.asarray(one)[0] for one in of_block) for of_block in found)


def reduce_photograph(photograph: StreamedPhotograph, side: int) -> tuple[np.ndarray, int]:
    """Reduces a photograph by the smallest whole factor that makes it fit a square.

    Each pixel is the mean of a block; rows and columns that do not fill a block are left out.

    Args:
      photograph: what to reduce.
      side: side of the square, in pixels.

    Returns:
      The reduced photograph, ``[1, h, w, C]``, and the factor.
    """
    factor = -(-max(photograph.height, photograph.width) // side)
    height, width = max(photograph.height // factor, 1), max(photograph.width // factor, 1)
    rows = photograph.open()
    reduced = []
    for y in range(height):
        lines = in_float(rows(y * factor, min((y + 1) * factor, photograph.height)))[
            :, : width * factor
        ]
        reduced.append(lines.mean(axis=0).reshape(width, -1, lines.shape[-1]).mean(axis=1))
    return np.stack(reduced)[None], factor


@functools.cache
def _summed(model: nn.Module, block: int) -> Callable[..., Any]:
    """Sums one block over the cores of tiles, given the sums of the blocks before it.

    The blocks after it do not run, because nothing reads their output.
    """

    def summed(variables: Any, tiles: jax.Array, core: jax.Array, sums: Sums) -> Any:
        return _apply(model, variables, tiles, sums, core=core)[1][block]

    return _compile(summed)


@functools.cache
def _all_summed(model: nn.Module) -> Callable[..., Any]:
    return _compile(lambda variables, images: _apply(model, variables, images, ())[1])


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(function, compiler_options=compiler_options("plain"))


def _apply(
    model: nn.Module,
    variables: Any,
    images: jax.Array,
    sums: Sums,
    *,
    core: jax.Array | None = None,
) -> tuple[jax.Array, list[Any]]:
    """The output, and the sums that each block used: those given, then its own over the core.

    Without ``core`` its own sums are over the whole image.
    """
    used: list[Any] = []

    def intercept(
        method: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        if context.method_name != "channel_sums":
            return method(*args, **kwargs)
        if len(used) < len(sums):
            used.append(
                [jnp.broadcast_to(one, (images.shape[0], *one.shape)) for one in sums[len(used)]]
            )
        elif core is None:
            used.append(method(*args, **kwargs))
        else:
            # Features have [B, h, w, heads, D] at the level of this block. Cores begin and end at
            # multiples of the pixels of every level.
            step = core.shape[1] // args[0].shape[1]
            mask = core[:, ::step, ::step, :, None].astype(args[0].dtype)
            used.append(method(*(mask * features for features in args), **kwargs))
        return used[-1]

    with (
        nn.intercept_methods(intercept),
        quick_depthwise(),
        jax.default_matmul_precision("float32"),
    ):
        # It would be a tuple only if some variables were mutable.
        restored = cast(jax.Array, model.apply(variables, images))
    return restored, used
