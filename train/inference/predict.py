"""The only way to run a trained network on a photograph, so that scores belong to what is written.

Photographs may have any size. Batch norm is folded into the convolutions, except in BUIFD and
SCICO's UNet, which have no form without it. A photograph larger than a tile is cut up
(:mod:`train.inference.tiles.tiling`); memory then holds a row of tiles, and the network's
activations of one tile for each device. Matrix products have full float32 precision on every
backend.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, cast

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lumloss_jax.models import ReceptiveField, fold_batch_norm
from train.devices.cpu_programs import inference_options
from train.devices.sharding import BATCH_AXIS
from train.inference.tiles.depthwise import quick_depthwise
from train.inference.tiles.footprint import largest_tile
from train.inference.tiles.tiles import (
    IDENTITY,
    TRANSFORMS,
    Grid,
    StreamedPhotograph,
    Tile,
    Transform,
    apply_transform,
    clipped,
    cut_photograph,
    photograph_of,
    undo_transform,
)
from train.inference.tiles.tiling import DEFAULT_SIDE, check_tile, default_tile

# Maps a batch of tiles [B, h, w, C] on the host to the network's output, without waiting for it.
Forward = Callable[[np.ndarray], jax.Array]
OnProgress = Callable[[float], None]

NOT_FINITE = (
    "the output of the network contains NaN or infinity, so its weights are broken. Use a "
    "different checkpoint."
)


class Predictor:
    """A trained network, ready to restore.

    Compiled programs are shared with every network that has the same fields.
    """

    default_side: ClassVar[int] = DEFAULT_SIDE

    def __init__(
        self,
        model: Any,
        params: Any,
        batch_stats: Any,
        *,
        tile: int | None = None,
        self_ensemble: bool = False,
    ) -> None:
        """Folds batch norm into the convolutions, if the network has a form without it.

        Args:
          model: the network, a Flax module.
          params: its parameters.
          batch_stats: its running statistics; {} without batch norm.
          tile: side of a tile in pixels. None: one that fits 1.5 GB of memory.
          self_ensemble: average over the eight flips and rotations of the input, which takes eight
            times as long.

        Raises:
          InputError: if a tile is smaller than the network's receptive field, or the network is too
            wide for any tile.
        """
        self.model, self._variables = for_inference(model, params, batch_stats)
        self._field = self._field_of_tiles()
        if tile is None:
            most = largest_tile(self.model)
            self.tile = default_tile(self._field, side=self.default_side, most=most)
        else:
            self.tile = check_tile(tile, self._field)
        self._transforms = TRANSFORMS if self_ensemble else (IDENTITY,)
        self._placed: dict[int, Any] = {}  # the variables by number of devices
        self._running: Any = None

    def restore(self, image: np.ndarray, *, sigma: float | None = None) -> np.ndarray:
        """Restores ``image``, ``[H, W, C]`` with the network's channels: float32 in [0, 1]."""
        strips = list(self.strips(photograph_of(image), sigma=sigma))
        return strips[0] if len(strips) == 1 else np.concatenate(strips)

    def restore_all(
        self, images: Sequence[np.ndarray], *, sigma: float | None = None
    ) -> list[np.ndarray]:
        """Restores images of the same size, each as :meth:`restore` does.

        Images that fit one tile are restored together, one on each device. ``sigma``, in image
        units, is the same for all.
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

        forwards = [self._forward(sigma)] * len(self._transforms)
        restored_images = []
        for tiles, restored in self._restored(batches(), self._transforms, forwards):
            for one in restored[: len(tiles)]:
                restored_images.append(clipped(one[:height, :width]))
        return restored_images

    def strips(
        self,
        photograph: StreamedPhotograph,
        *,
        sigma: float | None = None,
        on_progress: OnProgress = lambda share: None,
    ) -> Iterator[np.ndarray]:
        """Restores a photograph from top to bottom.

        Args:
          photograph: what to restore.
          sigma: standard deviation of its noise in image units, for networks that need it.
          on_progress: called repeatedly with the share of the work done since the last call.

        Returns:
          An iterator over pieces ``[h, W, C]``, float32 in [0, 1]. The work is done as it is read.
        """
        grid = cut_photograph(photograph, self.tile, self._field)
        return map(clipped, self._strips(photograph, grid, self._transforms, sigma, on_progress))

    def _field_of_tiles(self) -> ReceptiveField:
        """How far the network looks beyond the core of a tile."""
        return cast(ReceptiveField, self.model.receptive_field)

    def _strips(
        self,
        photograph: StreamedPhotograph,
        grid: Grid,
        transforms: Sequence[Transform],
        sigma: float | None,
        on_progress: OnProgress,
    ) -> Iterator[np.ndarray]:
        """Like :meth:`strips`, but not clipped."""
        forwards = [self._forward(sigma)] * len(transforms)
        share = 1 / grid.count(self._at_once(grid))
        return self._assembled(
            photograph, grid, transforms, forwards, functools.partial(on_progress, share)
        )

    def _assembled(
        self,
        photograph: StreamedPhotograph,
        grid: Grid,
        transforms: Sequence[Transform],
        forwards: Sequence[Forward],
        on_batch: Callable[[], None],
    ) -> Iterator[np.ndarray]:
        """Assembles strips from cores of restored tiles; calls ``on_batch`` after each batch."""
        strip = np.empty((0, 0, 0), np.float32)
        batches = grid.batches(photograph, self._at_once(grid))
        for tiles, restored in self._restored(batches, transforms, forwards):
            # A batch may be filled up with copies.
            for tile, pixels in zip(tiles, restored, strict=False):
                (y, rows), (x, columns) = grid.rows.kept(tile.rows), grid.columns.kept(tile.columns)
                if columns.start == 0:
                    strip = np.empty(
                        (rows.stop - rows.start, photograph.width, pixels.shape[-1]), np.float32
                    )
                strip[:, columns] = pixels[y, x]
                if columns.stop == photograph.width:
                    yield strip
            on_batch()

    def _restored(
        self,
        batches: Iterable[tuple[list[Tile], np.ndarray]],
        transforms: Sequence[Transform],
        forwards: Sequence[Forward],
    ) -> Iterator[tuple[list[Tile], np.ndarray]]:
        """Restores batches; while the host waits for one, the devices work on the next."""
        ahead: tuple[list[Tile], list[jax.Array]] | None = None
        for tiles, batch in batches:
            outputs = [
                forward(apply_transform(batch, transform))
                for transform, forward in zip(transforms, forwards, strict=True)
            ]
            if ahead is not None:
                yield ahead[0], _mean(ahead[1], transforms)
            ahead = tiles, outputs
        if ahead is not None:
            yield ahead[0], _mean(ahead[1], transforms)

    def _forward(self, sigma: float | None) -> Forward:
        """The network as a function of a batch."""
        level = np.float32(sigma) if self.model.takes_sigma else None
        return lambda batch: self._run(_restorer(self.model), batch, arguments=(level,))

    def _at_once(self, grid: Grid) -> int:
        return 1 if grid.whole else len(jax.local_devices())

    def _run(
        self, function: Callable[..., Any], *images: np.ndarray, arguments: tuple[Any, ...] = ()
    ) -> Any:
        """Calls ``function(variables, *images, *arguments)``, with images divided over devices.

        It waits for the result of the previous call, and not for its own. Otherwise a CPU would
        work on both at once, in twice the memory.
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


def for_inference(model: Any, params: Any, batch_stats: Any) -> tuple[Any, dict[str, Any]]:
    """Brings the network and its variables into the form that runs fastest, on the host.

    Args:
      model: the network, a Flax module.
      params: its parameters.
      batch_stats: its running statistics; {} without batch norm.

    Returns:
      The network, without batch norm if it has such a form, and its variables.
    """
    variables = jax.device_get(
        {"params": params, "batch_stats": batch_stats} if batch_stats else {"params": params}
    )
    if getattr(model, "batch_norm", False):
        model, variables = fold_batch_norm(model, variables)
    return model.clone(remat=False), variables


def _mean(outputs: list[jax.Array], transforms: Sequence[Transform]) -> np.ndarray:
    """The mean of the network's outputs for all transforms, which are undone."""
    total = sum(undo_transform(np.asarray(o), t) for o, t in zip(outputs, transforms, strict=True))
    return np.asarray(total) / np.float32(len(outputs))


@functools.cache
def _restorer(model: nn.Module) -> Callable[..., jax.Array]:
    def restore(variables: Any, tiles: jax.Array, sigma: jax.Array | None) -> jax.Array:
        with quick_depthwise(), jax.default_matmul_precision("float32"):
            # It would be a tuple only if some variables were mutable.
            return cast(jax.Array, model.apply(variables, tiles, sigma=sigma))

    return jax.jit(restore, compiler_options=inference_options())


@functools.cache
def _mesh(count: int) -> Mesh:
    """The first ``count`` devices of this process."""
    devices = jax.local_devices()[:count]
    return jax.make_mesh((count,), (BATCH_AXIS,), axis_types=(AxisType.Auto,), devices=devices)
