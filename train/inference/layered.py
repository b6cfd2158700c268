"""Runs NAFNet and HVI-CIDNet, in which every layer needs numbers of the whole photograph.

A photograph that does not fit one tile passes through the network layer by layer
(:mod:`train.inference.tiles.spilled`).
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np

from lumloss_jax.models import NAFNet, ReceptiveField
from train.inference.predict import OnProgress, Predictor
from train.inference.tiles.cidnet_passes import cidnet_passes
from train.inference.tiles.features import Features, check_space, folder_of_features
from train.inference.tiles.nafnet_passes import nafnet_passes
from train.inference.tiles.spilled import Pass, bytes_on_disk, count_strips, run_passes
from train.inference.tiles.tiles import (
    IDENTITY,
    Grid,
    Rows,
    StreamedPhotograph,
    Transform,
    cut_photograph,
    in_float,
    undo_transform,
)

LOCAL_WINDOW = (384, 384)  # pixels; 1.5 times the patches that the published weights saw
_FEWEST_ROWS = 8  # rows of a strip, which are more than any layer reads beyond it
FAR = 0.5  # a change of a pixel that is larger is suspicious, where white is 1
_FAR_SHARE = 1e-3  # share of such pixels from which on a warning is due


class LayeredPredictor(Predictor):
    """A trained NAFNet or HVI-CIDNet, ready to restore."""

    def __init__(
        self,
        model: Any,
        params: Any,
        batch_stats: Any,
        *,
        tile: int | None = None,
        self_ensemble: bool = False,
        exact: bool = False,
    ) -> None:
        """Prepares the network, as :class:`Predictor` does.

        Args:
          model: the network, a Flax module.
          params: its parameters.
          batch_stats: its running statistics; {}.
          tile: a strip has at most as many pixels as a square with this side. None: one that fits
            1.5 GB of memory.
          self_ensemble: average over the eight flips and rotations of the input.
          exact: NAFNet computes its means over the whole photograph. Otherwise it uses its local
            form: means over windows of 384x384 pixels, which change nothing if the photograph fits
            in one. CIDNet is always exact.
        """
        self.local = isinstance(model, NAFNet) and not exact
        if isinstance(model, NAFNet) and not model.window:
            model = model.clone(window=LOCAL_WINDOW if self.local else ())
        super().__init__(model, params, batch_stats, tile=tile, self_ensemble=self_ensemble)
        self.far_share = 0.0  # share of the last photograph's pixels that changed by more than FAR

    def announcement(self, photograph: StreamedPhotograph) -> str:
        """What the user should know before the photograph is restored."""
        if cut_photograph(photograph, self.tile, self._field).whole:
            return ""
        needed = self._bytes_on_disk(photograph)
        size = f"{needed / 1e9:.1f} GB" if needed >= 1e9 else f"{math.ceil(needed / 1e6)} MB"
        return f"features take up to {size} in {folder_of_features()} meanwhile"

    def notes(self, photograph: StreamedPhotograph) -> list[str]:
        """What the user should know after the photograph was restored."""
        notes = []
        window = self.model.window if self.local else LOCAL_WINDOW
        if self.local and (photograph.height > window[0] or photograph.width > window[1]):
            notes.append(
                f"local form: means over windows of {window[0]}x{window[1]} pixels. --exact takes "
                "them over the whole photograph"
            )
        if isinstance(self.model, NAFNet) and self.far_share > _FAR_SHARE:
            notes.append(
                f"warning: {100 * self.far_share:.1f} % of the pixels changed by more than half of "
                "the range. The photograph may be unlike those that the network was trained on"
            )
        return notes

    def strips(
        self,
        photograph: StreamedPhotograph,
        *,
        sigma: float | None = None,
        on_progress: OnProgress = lambda share: None,
    ) -> Iterator[np.ndarray]:
        """Restores a photograph from top to bottom, and counts pixels that change by far.

        Args:
          photograph: what to restore.
          sigma: must be None, because these networks are blind.
          on_progress: called repeatedly with the share of the work done since the last call.

        Returns:
          An iterator over pieces ``[h, W, C]``, float32 in [0, 1]. The work is done as it is read.
        """
        strips = super().strips(photograph, sigma=sigma, on_progress=on_progress)
        rows, start, far = photograph.open(), 0, 0
        for strip in strips:
            stop = start + len(strip)
            change = np.abs(strip - in_float(rows(start, stop)))
            far += int((change.max(axis=-1) > FAR).sum())
            start = stop
            yield strip
        self.far_share = far / (photograph.height * photograph.width)

    def _field_of_tiles(self) -> ReceptiveField:
        # The network pads a photograph itself, and a strip needs no margin.
        return ReceptiveField(stride=1, radius=0)

    def _padded(self, photograph: StreamedPhotograph) -> tuple[int, int]:
        stride = cast(int, self.model.receptive_field.stride)
        height, width = (
            -(-side // stride) * stride for side in (photograph.height, photograph.width)
        )
        return height, width

    def _passes(self, height: int, width: int) -> list[Pass]:
        params = self._variables["params"]
        if isinstance(self.model, NAFNet):
            return nafnet_passes(self.model, params, height, width)
        return cidnet_passes(self.model, params)

    def _bytes_on_disk(self, photograph: StreamedPhotograph) -> int:
        """The most that features, images and their sum over transforms take at once."""
        turned = self._padded(photograph)
        passes = self._passes(*turned)
        needed = bytes_on_disk(passes, *turned, {"image": self.model.channels})
        images = 0 if len(self._transforms) == 1 else 3
        return needed + images * 4 * turned[0] * turned[1] * self.model.channels

    def _strips(
        self,
        photograph: StreamedPhotograph,
        grid: Grid,
        transforms: Sequence[Transform],
        sigma: float | None,
        on_progress: OnProgress,
    ) -> Iterator[np.ndarray]:
        """Like :meth:`strips`, but not clipped."""
        if grid.whole:
            yield from super()._strips(photograph, grid, transforms, sigma, on_progress)
            return
        check_space(self._bytes_on_disk(photograph))
        share = 1 / len(transforms)
        if tuple(transforms) == (IDENTITY,):
            yield from self._layer_by_layer(photograph, on_progress)
            return
        # Each transform of the photograph is a photograph, whose result is turned back.
        channels = self.model.channels
        given = _on_disk(_floats(photograph), photograph.height, photograph.width, channels)
        total = Features(photograph.height, photograph.width, channels)
        rows = max(self.tile**2 // photograph.width, 1)
        for number, transform in enumerate(transforms):
            turned = _turned(given.mapped(), transform)
            restored = _on_disk(
                self._layer_by_layer(turned, lambda part: on_progress(part * share)),
                turned.height,
                turned.width,
                channels,
            )
            back = undo_transform(restored.mapped()[None], transform)[0]
            for start in range(0, photograph.height, rows):
                part = np.array(back[start : start + rows])
                if number:
                    part += total.read(start, start + len(part))
                total.write(start, part)
            restored.close()
        for start in range(0, photograph.height, rows):
            stop = min(start + rows, photograph.height)
            yield total.read(start, stop) / np.float32(len(transforms))

    def _layer_by_layer(
        self, photograph: StreamedPhotograph, on_progress: OnProgress
    ) -> Iterator[np.ndarray]:
        """Restores a photograph in passes; its pieces are not clipped."""
        height, width = self._padded(photograph)
        passes = self._passes(height, width)
        rows = max(self.tile**2 // width // 2 * 2, _FEWEST_ROWS)
        share = 1 / count_strips(passes, height, rows)
        image = _on_disk(
            self._with_padding(photograph, height, width), height, width, self.model.channels
        )
        left = photograph.height
        for strip in run_passes(
            passes, {"image": image}, height, width, rows, on_strip=lambda: on_progress(share)
        ):
            if left > 0:
                yield np.array(strip[:left, : photograph.width])
            left -= len(strip)

    def _with_padding(
        self, photograph: StreamedPhotograph, height: int, width: int
    ) -> Iterator[np.ndarray]:
        """The photograph, padded at the bottom and right as the network does it."""
        reflects = self.model.receptive_field.reflects
        across = [(0, 0), (0, width - photograph.width), (0, 0)]
        below = height - photograph.height
        last = np.zeros((0, width, self.model.channels), np.float32)
        for rows in _floats(photograph):
            padded = np.pad(rows, across, mode="reflect") if reflects else np.pad(rows, across)
            last = np.concatenate([last, padded])[-(below + 1) :]
            yield padded
        if below:
            if not reflects:
                yield np.zeros((below, *last.shape[1:]), np.float32)
            else:
                yield np.pad(last, [(0, below), (0, 0), (0, 0)], mode="reflect")[-below:]


def _floats(photograph: StreamedPhotograph) -> Iterator[np.ndarray]:
    """The rows of a photograph in float32."""
    rows = photograph.open()
    for start in range(0, photograph.height, 64):
        yield in_float(rows(start, min(start + 64, photograph.height)))


def _on_disk(strips: Iterator[np.ndarray], height: int, width: int, channels: int) -> Features:
    features, start = Features(height, width, channels), 0
    for strip in strips:
        features.write(start, strip)
        start += len(strip)
    return features


def _turned(pixels: np.ndarray, transform: Transform) -> StreamedPhotograph:
    """A flipped and rotated photograph, of which only the rows that are read are copied."""
    turns, mirrored = transform
    turned = np.rot90(pixels, turns)
    turned = turned[:, ::-1] if mirrored else turned
    height, width, _ = turned.shape

    def open_rows() -> Rows:
        return lambda start, stop: np.array(turned[start:stop])

    return StreamedPhotograph(height, width, open_rows)
