"""Runs Retinexformer, which attends to the whole photograph and therefore reads it several times.

:mod:`train.inference.tiles.attention` explains how tiles add up to the attention of a photograph.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import numpy as np

from lumloss_jax.models import ReceptiveField
from train.devices.cpu_programs import compiler_options
from train.inference.predict import Forward, OnProgress, Predictor
from train.inference.tiles.attention import (
    Sums,
    apply_with_sums,
    reduce_photograph,
    sums_of_photograph,
    sums_of_reduced,
)
from train.inference.tiles.stages import on_disk, with_padding
from train.inference.tiles.tiles import (
    IDENTITY,
    Grid,
    StreamedPhotograph,
    Transform,
    clipped,
    cut_photograph,
    photograph_of,
)


class FastError(NamedTuple):
    """How much the result changes if the network attends to a reduced photograph."""

    factor: int  # by which the photograph is reduced
    width: int  # width of the copy on which the change was measured, in pixels
    height: int  # its height, in pixels
    mean: float  # mean absolute change, in image units
    largest: float  # largest absolute change, in image units


class AttendingPredictor(Predictor):
    """A trained Retinexformer, ready to restore."""

    # Its feed-forward layers need 5 kB for each pixel; DnCNN needs 0.7 kB.
    default_side = 320

    def __init__(
        self,
        model: Any,
        params: Any,
        batch_stats: Any,
        *,
        tile: int | None = None,
        self_ensemble: bool = False,
        fast: bool = False,
    ) -> None:
        """Prepares the network, as :class:`Predictor` does.

        Args:
          model: the network, a Flax module.
          params: its parameters.
          batch_stats: its running statistics; {} without batch norm.
          tile: side of a tile in pixels. None: one that fits 1.5 GB of memory.
          self_ensemble: average over the eight flips and rotations of the input.
          fast: attend to the photograph reduced to the size of a tile, instead of the whole one.

        Raises:
          InputError: if a tile is smaller than the network's receptive field.
        """
        super().__init__(model, params, batch_stats, tile=tile, self_ensemble=self_ensemble)
        self.fast = fast
        stages = self.model.separate_stages(self._variables["params"])
        self._stages = [
            AttendingPredictor(stage, of_stage, {}, tile=self.tile, fast=fast)
            for stage, of_stage in (stages if len(stages) > 1 else [])
        ]

    def strips(
        self,
        photograph: StreamedPhotograph,
        *,
        sigma: float | None = None,
        on_progress: OnProgress = lambda share: None,
    ) -> Iterator[np.ndarray]:
        """Restores a photograph from top to bottom; the stages of the network run one by one.

        Args:
          photograph: what to restore.
          sigma: standard deviation of its noise in image units, for networks that need it.
          on_progress: called repeatedly with the share of the work done since the last call.

        Returns:
          An iterator over pieces ``[h, W, C]``, float32 in [0, 1]. The work is done as it is read.
        """
        grid = cut_photograph(photograph, self.tile, self._field)
        if self._stages and not grid.whole:
            return self._staged(photograph, grid, on_progress)
        return super().strips(photograph, sigma=sigma, on_progress=on_progress)

    def sums_of(
        self,
        photograph: StreamedPhotograph,
        *,
        transforms: Sequence[Transform] = (IDENTITY,),
        on_progress: Callable[[], None] = lambda: None,
    ) -> list[Sums]:
        """Computes what the network attends to in the whole photograph.

        Args:
          photograph: what to attend to.
          transforms: flips and rotations of it.
          on_progress: called after each batch of tiles.

        Returns:
          The sums for each transform.
        """
        if self.fast:
            reduced, _ = reduce_photograph(photograph, self.tile)
            return [
                sums_of_reduced(self.model, self._run, reduced, transform)
                for transform in transforms
            ]
        grid = cut_photograph(photograph, self.tile, self._field)
        at_once = self._at_once(grid)
        return [
            sums_of_photograph(
                self.model, self._run, photograph, grid, transform, at_once, on_progress
            )
            for transform in transforms
        ]

    def fast_error(self, photograph: StreamedPhotograph) -> FastError | None:
        """Estimates the error of ``fast`` without the work that it saves; None if it has no effect.

        The photograph is reduced to the size of a tile and restored twice: with attention from all
        its pixels, and with attention from a copy that is reduced by the same factor again.
        """
        if cut_photograph(photograph, self.tile, self._field).whole:
            return None
        reduced, factor = reduce_photograph(photograph, self.tile)
        _, height, width, _ = reduced.shape
        again, _ = reduce_photograph(photograph_of(reduced[0]), -(-max(height, width) // factor))
        sums = sums_of_reduced(self.model, self._run, again, IDENTITY)
        forwards = self._forward(None), self._forward_with(sums)
        exact, fast = (np.clip(np.asarray(forward(reduced)), 0, 1) for forward in forwards)
        error = np.abs(fast - exact)
        return FastError(factor, width, height, float(error.mean()), float(error.max()))

    def _field_of_tiles(self) -> ReceptiveField:
        # A tile passes through one stage at a time.
        return cast(ReceptiveField, self.model.clone(stages=1).receptive_field)

    def _strips(
        self,
        photograph: StreamedPhotograph,
        grid: Grid,
        transforms: Sequence[Transform],
        sigma: float | None,
        on_progress: OnProgress,
    ) -> Iterator[np.ndarray]:
        """Like :meth:`strips`, but not clipped, and with all stages at once."""
        if grid.whole:  # then the attention of the tile is the attention of the photograph
            yield from super()._strips(photograph, grid, transforms, sigma, on_progress)
            return
        readings = 1 if self.fast else 1 + self.model.attention_blocks
        share = 1 / (grid.count(self._at_once(grid)) * len(transforms) * readings)
        sums = self.sums_of(
            photograph, transforms=transforms, on_progress=functools.partial(on_progress, share)
        )
        forwards = [self._forward_with(of_transform) for of_transform in sums]
        on_batch = functools.partial(on_progress, share * len(transforms))
        yield from self._assembled(photograph, grid, transforms, forwards, on_batch)

    def _staged(
        self, photograph: StreamedPhotograph, grid: Grid, on_progress: OnProgress
    ) -> Iterator[np.ndarray]:
        """Like :meth:`strips`, one stage after the other: the mean over the transforms."""
        padded = with_padding(photograph, grid)
        height, width, _ = padded
        runs = len(self._stages) * len(self._transforms)

        def restored(transform: Transform, kept: ExitStack) -> StreamedPhotograph:
            made, last = padded, kept.enter_context(ExitStack())
            for stage in self._stages:
                between = cut_photograph(made, self.tile, self._field)
                strips = stage._strips(
                    made, between, (transform,), None, lambda share: on_progress(share / runs)
                )
                # The input of the stage is as large as the photograph, and is not needed again.
                with last.pop_all():
                    made = last.enter_context(on_disk(strips, height, width))
            return made

        with ExitStack() as kept:
            rows = [restored(transform, kept).open() for transform in self._transforms]
            for start in range(0, photograph.height, self.tile):
                stop = min(start + self.tile, photograph.height)
                total: Any = sum(of_transform(start, stop) for of_transform in rows)
                mean = total / np.float32(len(rows))
                yield clipped(mean[:, : photograph.width])

    def _forward_with(self, sums: Sums) -> Forward:
        """The network as a function of a batch, with attention from sums that are given."""
        return lambda batch: self._run(_restorer_with_sums(self.model), batch, arguments=(sums,))


@functools.cache
def _restorer_with_sums(model: nn.Module) -> Callable[..., jax.Array]:
    def restore(variables: Any, tiles: jax.Array, sums: Sums) -> jax.Array:
        return apply_with_sums(model, variables, tiles, sums)

    return jax.jit(restore, compiler_options=compiler_options("plain"))
