"""The one way to run a trained network on a photograph of any size: what is scored is what gets written.

Batch norm is folded into the convolutions, but in BUIFD and SCICO's UNet, which have no form
without it. A photograph larger than a tile is cut up (:mod:`train.inference.tiling`): in memory are
then a row of tiles, and what the network makes of one tile for each device. Networks that attend
over the whole photograph read it several times (:mod:`train.inference.attention`). On every backend
matrix products are of full float32 precision.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lumloss_jax.models import Retinexformer, fold_batch_norm
from train.inference.attention import (
    ATTENDING_SIDE,
    Sums,
    apply_with_sums,
    reduce_photograph,
    sums_of_photograph,
    sums_of_reduced,
)
from train.inference.depthwise import quick_depthwise
from train.inference.stages import on_disk, with_padding
from train.inference.tiles import (
    IDENTITY,
    TRANSFORMS,
    Grid,
    Photograph,
    Tile,
    Transform,
    apply_transform,
    clipped,
    cut_photograph,
    photograph_of,
    undo_transform,
)
from train.inference.tiling import DEFAULT_SIDE, check_tile, default_tile
from train.sharding import BATCH_AXIS, compiler_options

Predict = Callable[[np.ndarray], np.ndarray]
NOT_FINITE = "the network gives values that are not finite, so its weights are broken: take another checkpoint."


def make_predictor(model: nn.Module, params: Any, batch_stats: Any, *, sigma: float) -> Predict:
    """predict(noisy) -> restored, both float32 ``[H, W, C]``; the output is clipped to [0, 1].

    ``sigma``, in image units, is told to networks that take it.
    """
    return functools.partial(Predictor(model, params, batch_stats).restore, sigma=sigma)


class FastError(NamedTuple):
    """By how much attention from a reduced photograph changes what is restored."""

    factor: int  # that the photograph is reduced by
    width: int  # of what the change was measured on
    height: int
    mean: float  # of the absolute change, in image units
    largest: float


class Predictor:
    """A trained network, ready to restore; what is compiled for it serves every network of the same fields."""

    def __init__(
        self,
        model: nn.Module,
        params: Any,
        batch_stats: Any,
        *,
        tile: int | None = None,
        self_ensemble: bool = False,
        fast: bool = False,
    ) -> None:
        """Folds batch norm away where the network has a form without it.

        Args:
          model: the network.
          params: its parameters.
          batch_stats: its running statistics; {} without batch norm.
          tile: side of a tile in pixels; None: one that fits 1.5 GB of memory.
          self_ensemble: average over the eight flips and rotations of the input: eight times the
            work.
          fast: where the network attends over the whole photograph, let it do so over one reduced
            to a tile's size.
        """
        model, variables = without_batch_norm(model, params, batch_stats)
        self.model: Any = model
        self.fast = fast
        self.attends = isinstance(model, Retinexformer)
        stages = model.separate_stages(variables["params"]) if self.attends else []
        self._field = (stages[0][0] if stages else model).receptive_field
        side = default_tile(self._field, side=ATTENDING_SIDE if self.attends else DEFAULT_SIDE)
        self.tile = side if tile is None else check_tile(tile, self._field)
        self._transforms = TRANSFORMS if self_ensemble else (IDENTITY,)
        self._variables = variables
        self._placed: dict[int, Any] = {}  # on one device, or on all
        self._running: Any = None
        self._stages = [
            Predictor(one, params, {}, tile=self.tile, fast=fast)
            for one, params in (stages if len(stages) > 1 else [])
        ]

    def restore(self, image: np.ndarray, *, sigma: float | None = None) -> np.ndarray:
        """``image``, ``[H, W, C]`` with the network's channels, restored: float32, clipped to [0, 1]."""
        strips = list(self.strips(photograph_of(image), sigma=sigma))
        return strips[0] if len(strips) == 1 else np.concatenate(strips)

    def restore_all(
        self, images: Sequence[np.ndarray], *, sigma: float | None = None
    ) -> list[np.ndarray]:
        """Images of one size, each as :meth:`restore` does; those of one tile go through together, one on each device.

        ``sigma`` is that of them all.
        """
        height, width = images[0].shape[:2]
        grid = cut_photograph(photograph_of(images[0]), self.tile, self._field)
        if not grid.whole or len(images) == 1:
            return [self.restore(image, sigma=sigma) for image in images]
        devices = len(jax.local_devices())

        def batches() -> Iterator[tuple[list[Tile], np.ndarray]]:
            for first in range(0, len(images), devices):
                found = [
                    next(grid.batches(photograph_of(one), 1))
                    for one in images[first : first + devices]
                ]
                pixels = [batch for _, batch in found]
                yield (
                    [tile for (tile,), _ in found],
                    np.concatenate(pixels + pixels[-1:] * (devices - len(pixels))),
                )

        return [
            clipped(one[:height, :width])
            for tiles, restored in self._restored(
                batches(), self._transforms, [()] * len(self._transforms), sigma
            )
            for one in restored[: len(tiles)]
        ]

    def strips(
        self,
        photograph: Photograph,
        *,
        sigma: float | None = None,
        seen: Callable[[float], None] = lambda share: None,
    ) -> Iterator[np.ndarray]:
        """The restored photograph from top to bottom, in pieces ``[h, W, C]``, float32, clipped to [0, 1].

        Args:
          photograph: what to restore.
          sigma: standard deviation of its noise in image units; told to networks that take it.
          seen: called as the work goes on, with the share of it that was done since the last call.
        """
        grid = cut_photograph(photograph, self.tile, self._field)
        if self._stages and not grid.whole:
            yield from self._staged(photograph, grid, seen)
        else:
            yield from map(clipped, self._strips(photograph, grid, self._transforms, sigma, seen))

    def _staged(
        self, photograph: Photograph, grid: Grid, seen: Callable[[float], None]
    ) -> Iterator[np.ndarray]:
        """As :meth:`strips`, one stage after the other; under each transform by itself, and their mean."""
        padded = with_padding(photograph, grid)
        height, width, _ = padded
        runs = len(self._stages) * len(self._transforms)

        def restored(transform: Transform, kept: ExitStack) -> Photograph:
            made, last = padded, kept.enter_context(ExitStack())
            for stage in self._stages:
                between = cut_photograph(made, self.tile, self._field)
                strips = stage._strips(
                    made, between, (transform,), None, lambda share: seen(share / runs)
                )
                # What the stage read: as large as the photograph, and not needed again
                with last.pop_all():
                    made = last.enter_context(on_disk(strips, height, width))
            return made

        with ExitStack() as kept:
            rows = [restored(transform, kept).open() for transform in self._transforms]
            for start in range(0, photograph.height, self.tile):
                stop = min(start + self.tile, photograph.height)
                total: Any = sum(of_transform(start, stop) for of_transform in rows) / np.float32(
                    len(rows)
                )
                yield clipped(total[:, : photograph.width])

    def _strips(
        self,
        photograph: Photograph,
        grid: Grid,
        transforms: Sequence[Transform],
        sigma: float | None,
        seen: Callable[[float], None],
    ) -> Iterator[np.ndarray]:
        """As :meth:`strips`, not clipped, all stages at once."""
        sums: list[Sums] = [()] * len(transforms)
        # Of one batch under one transform
        share = 1 / (grid.count(self._at_once(grid)) * len(sums))
        if self.attends and not grid.whole:
            share /= 1 if self.fast else 1 + self.model.attention_blocks
            sums = self.sums_of(photograph, transforms, functools.partial(seen, share))
        strip = np.empty((0, 0, 0), np.float32)
        batches = grid.batches(photograph, self._at_once(grid))
        for tiles, restored in self._restored(batches, transforms, sums, sigma):
            # A batch may be filled up with copies
            for tile, pixels in zip(tiles, restored, strict=False):
                (y, rows), (x, columns) = grid.rows.kept(tile.rows), grid.columns.kept(tile.columns)
                if columns.start == 0:
                    strip = np.empty(
                        (rows.stop - rows.start, photograph.width, pixels.shape[-1]), np.float32
                    )
                strip[:, columns] = pixels[y, x]
                if columns.stop == photograph.width:
                    yield strip
            seen(share * len(sums))

    def _restored(
        self,
        batches: Iterable[tuple[list[Tile], np.ndarray]],
        transforms: Sequence[Transform],
        sums: list[Sums],
        sigma: float | None,
    ) -> Iterator[tuple[list[Tile], np.ndarray]]:
        """Restored batches; while one is waited for, the devices work on the next."""
        known = np.float32(sigma) if self.model.takes_sigma else None
        ahead: tuple[list[Tile], list[jax.Array]] | None = None
        for tiles, batch in batches:
            outputs = [
                self._run(
                    _restorer(self.model),
                    apply_transform(batch, transform),
                    arguments=(known, of_transform),
                )
                for transform, of_transform in zip(transforms, sums, strict=True)
            ]
            if ahead is not None:
                yield ahead[0], _mean(ahead[1], transforms)
            ahead = tiles, outputs
        if ahead is not None:
            yield ahead[0], _mean(ahead[1], transforms)

    def sums_of(
        self,
        photograph: Photograph,
        transforms: Sequence[Transform] = (IDENTITY,),
        seen: Callable[[], None] = lambda: None,
    ) -> list[Sums]:
        """What the network attends to in the whole photograph, under each transform; ``seen`` is called often."""
        if self.fast:
            reduced, _ = reduce_photograph(photograph, self.tile)
            return [
                sums_of_reduced(self.model, self._run, reduced, transform)
                for transform in transforms
            ]
        grid = cut_photograph(photograph, self.tile, self._field)
        return [
            sums_of_photograph(
                self.model, self._run, photograph, grid, transform, self._at_once(grid), seen
            )
            for transform in transforms
        ]

    def fast_error(self, photograph: Photograph) -> FastError | None:
        """What ``fast`` costs, as far as that can be known without doing all that it saves; None where it does nothing.

        The photograph, reduced to a tile's size, is restored under attention from all its pixels,
        and under attention from as much less of it as its own are of the photograph.
        """
        if cut_photograph(photograph, self.tile, self._field).whole:
            return None
        reduced, factor = reduce_photograph(photograph, self.tile)
        _, height, width, _ = reduced.shape
        again, _ = reduce_photograph(photograph_of(reduced[0]), -(-max(height, width) // factor))
        sums = sums_of_reduced(self.model, self._run, again, IDENTITY)
        restored = [
            self._run(_restorer(self.model), reduced, arguments=(None, known))
            for known in ((), sums)
        ]
        exact, fast = (np.clip(np.asarray(images), 0, 1) for images in restored)
        error = np.abs(fast - exact)
        return FastError(factor, width, height, float(error.mean()), float(error.max()))

    def _at_once(self, grid: Grid) -> int:
        return 1 if grid.whole else len(jax.local_devices())

    def _run(
        self, function: Callable[..., Any], *images: np.ndarray, arguments: tuple[Any, ...] = ()
    ) -> Any:
        """``function(variables, *images, *arguments)``, the images divided over the devices; not waited for.

        But for the call before: a CPU would work on both at once, in twice the memory.
        """
        count = len(images[0])
        mesh = _mesh(count)
        if count not in self._placed:
            self._placed[count] = jax.device_put(
                self._variables, NamedSharding(mesh, PartitionSpec())
            )
        divided = jax.device_put(images, NamedSharding(mesh, PartitionSpec(BATCH_AXIS)))
        jax.block_until_ready(self._running)
        self._running = function(self._placed[count], *divided, *arguments)
        return self._running


def without_batch_norm(
    model: nn.Module, params: Any, batch_stats: Any
) -> tuple[Any, dict[str, Any]]:
    """The network and its variables in the form that is quickest to run, on the host."""
    variables = jax.device_get(
        {"params": params, "batch_stats": batch_stats} if batch_stats else {"params": params}
    )
    if getattr(model, "batch_norm", False):
        model, variables = fold_batch_norm(model, variables)
    return model.clone(remat=False), variables


def _mean(outputs: list[jax.Array], transforms: Sequence[Transform]) -> np.ndarray:
    """Of what the network made of each transform, turned back."""
    total = sum(undo_transform(np.asarray(o), t) for o, t in zip(outputs, transforms, strict=True))
    return np.asarray(total) / np.float32(len(outputs))


@functools.cache
def _restorer(model: nn.Module) -> Callable[..., jax.Array]:
    def restore(variables: Any, tiles: jax.Array, sigma: jax.Array | None, sums: Sums) -> jax.Array:
        if sums:
            return apply_with_sums(model, variables, tiles, sums)
        with quick_depthwise(), jax.default_matmul_precision("float32"):
            # A tuple only where some are mutable
            return cast(jax.Array, model.apply(variables, tiles, sigma=sigma))

    return jax.jit(restore, compiler_options=compiler_options())


@functools.cache
def _mesh(count: int) -> Mesh:
    """The first ``count`` devices of this process."""
    devices = jax.local_devices()[:count]
    return jax.make_mesh((count,), (BATCH_AXIS,), axis_types=(AxisType.Auto,), devices=devices)
