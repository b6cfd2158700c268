"""Scores how well a network restores photographs, with one row per photograph and method.

The noise is Gaussian and fixed by the seed and the photograph's name. The noisy image is not
clipped before it enters the network. The restored image is clipped to [0, 1] and not rounded.
Metrics cover the whole photograph in float.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy  # Its parts take a second to import. Each is imported when it is first used.
from rich.table import Table

from train.data.images import to_float
from train.data.sources import Source
from train.inference.scoring.measure import score
from train.inference.scoring.protocols import add_fixed_noise
from train.inference.scoring.registry import LEGEND, METRICS

_NOISE = (
    "The noise has a fixed seed, and the noisy image is not clipped before it enters the network. "
)
_PROTOCOL = (
    "Outputs are clipped to [0, 1] but not rounded; scores cover whole photographs. "
    '"blur" is the Gaussian blur whose width scores best against the clean photograph.'
)
# Bounds in pixels that contain the best blur for noise of sigma 1 to 100.
_BLUR_BOUNDS = (0.2, 8.0)
REAL = math.nan  # stands for the unknown sigma of photographs with real degradations
# Maps a noisy photograph to the restored one, both float32 [H, W, C].
Predict = Callable[[np.ndarray], np.ndarray]

REPORTED = ("psnr", "ssim", "ciede2000")  # a few, for a first look at a run


@dataclass(frozen=True)
class BaselineRow:
    """One photograph under one method."""

    photograph: str
    sigma: float  # noise level, 0 to 255; REAL if the noise was not added here
    method: str  # noisy, blur or restored
    psnr: float  # dB
    ssim: float  # at most 1; higher is better
    ciede2000: float  # mean colour difference, 0 or more; lower is better


@dataclass(frozen=True)
class Evaluation:
    """One photograph before and after restoration, with scores; images are float [H, W, C]."""

    name: str
    clean: np.ndarray
    noisy: np.ndarray
    restored: np.ndarray
    rows: tuple[BaselineRow, ...]


def score_with_baselines(
    predict: Predict, source: Source, *, sigma: float, seed: int
) -> Iterator[Evaluation]:
    """Adds noise to each photograph, restores it, and scores both and the best blur.

    If the source has pairs, their degraded halves are restored as they are.

    Args:
      predict: the network.
      source: the photographs.
      sigma: noise level, from 0 to 255.
      seed: seed of the noise.

    Returns:
      An iterator over the photographs with their scores.
    """
    sigma = sigma if source.inputs is None else REAL
    for i, name in enumerate(source.names):
        clean = to_float(source.images[i])
        if source.inputs is None:
            noisy = add_fixed_noise(clean, name, sigma=sigma, seed=seed)
        else:
            noisy = to_float(source.inputs[i])
        restored = predict(noisy)
        candidates = {"noisy": noisy, "blur": _best_blur(noisy, clean), "restored": restored}
        rows = tuple(
            BaselineRow(name, sigma, method, **score(candidate, clean, names=REPORTED))
            for method, candidate in candidates.items()
        )
        yield Evaluation(name, clean, noisy, restored, rows)


def make_table(rows: list[BaselineRow], title: str) -> Table:
    """Makes a table for a terminal, under a title that says how photographs were degraded."""
    protocol = _PROTOCOL if math.isnan(rows[0].sigma) else _NOISE + _PROTOCOL
    caption = f"{LEGEND} {protocol}"
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    table.add_column("photograph")
    table.add_column("method")
    for metric in REPORTED:
        table.add_column(METRICS[metric].title, justify="right")
    shown = ""
    for row in rows:
        if shown and row.photograph != shown:
            table.add_section()
        name = "" if row.photograph == shown else row.photograph
        table.add_row(
            name, row.method, f"{row.psnr:.2f}", f"{row.ssim:.3f}", f"{row.ciede2000:.2f}"
        )
        shown = row.photograph
    return table


def _best_blur(noisy: np.ndarray, clean: np.ndarray) -> np.ndarray:
    def blurred(sigma: float) -> np.ndarray:
        return np.clip(
            scipy.ndimage.gaussian_filter(noisy, (sigma, sigma, 0), mode="reflect"), 0, 1
        )

    def error(sigma: float) -> float:
        return float(np.mean((blurred(sigma) - clean) ** 2))

    best = scipy.optimize.minimize_scalar(
        error, bounds=_BLUR_BOUNDS, method="bounded", options={"xatol": 0.01}
    )
    return blurred(best.x)
