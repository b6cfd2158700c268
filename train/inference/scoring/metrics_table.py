"""All metrics of each photograph as rows of a table, and their means for each noise level."""

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jax
import numpy as np
from rich import box
from rich.table import Table

from lumloss_jax import metrics

_LEAST_SIDE = 176  # pixels that the five scales of MS-SSIM need

# Name, heading, decimals.
COLUMNS = (
    ("psnr", "PSNR", 2),
    ("psnr_y", "PSNR-Y", 2),
    ("ssim", "SSIM", 4),
    ("ms_ssim", "MS-SSIM", 4),
    ("ciede2000", "CIEDE2000", 2),
    ("brightness_error", "|ΔL*|", 2),
    ("chroma_error", "|ΔC*|", 2),
)
NAMES = tuple(name for name, _, _ in COLUMNS)


@dataclass(frozen=True)
class MetricsRow:
    """One photograph under one method."""

    photograph: str
    sigma: float  # noise level, 0 to 255; NaN if the noise was not added here
    seed: int  # seed of the noise
    method: str  # input or restored
    psnr: float  # dB
    psnr_y: float  # dB, from studio-range luma
    ssim: float  # at most 1; higher is better
    ms_ssim: float  # at most 1; NaN if the photograph is too small for it
    ciede2000: float  # mean colour difference, 0 or more; lower is better
    brightness_error: float  # mean of |ΔL*|, 0 or more
    chroma_error: float  # mean of |ΔC*|, 0 or more


def score(
    image: np.ndarray, clean: np.ndarray, *, names: tuple[str, ...] = NAMES
) -> tuple[float, ...]:
    """Computes metrics at full float32 precision on every backend.

    Args:
      image: the restored photograph, ``[H, W, 3]``, or ``[H, W, 1]``, which is then repeated.
      clean: the clean photograph, with the same shape.
      names: names of metrics, out of ``COLUMNS``.

    Returns:
      Their values in the order of ``names``.
    """
    image, clean = (np.repeat(one, 3 // clean.shape[-1], axis=-1) for one in (image, clean))
    return tuple(map(float, jax.device_get(_measured(image, clean, names))))


@functools.partial(jax.jit, static_argnums=2)
def _measured(
    image: jax.Array, clean: jax.Array, names: tuple[str, ...]
) -> list[jax.Array | float]:
    too_small = min(clean.shape[:2]) < _LEAST_SIDE
    with jax.default_matmul_precision("float32"):
        return [
            math.nan if name == "ms_ssim" and too_small else getattr(metrics, name)(image, clean)
            for name in names
        ]


def means(scores: Iterable[MetricsRow]) -> dict[tuple[float, str], dict[str, float]]:
    """Means of every metric by noise level and method.

    The mean of MS-SSIM covers only photographs that are large enough for it.
    """
    groups: dict[tuple[float, str], list[MetricsRow]] = {}
    for one in scores:
        groups.setdefault((-1 if math.isnan(one.sigma) else one.sigma, one.method), []).append(one)
    return {
        group: {name: _mean([getattr(s, name) for s in held]) for name, _, _ in COLUMNS}
        for group, held in groups.items()
    }


def make_summary(scores: Sequence[MetricsRow], title: str, caption: str) -> Table:
    """Makes a table of the means for a terminal with 80 columns or more.

    Args:
      scores: rows of all photographs.
      title: stands above the table.
      caption: stands below it.

    Returns:
      The table.
    """
    table = Table(
        title=title,
        caption=caption,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE,
        show_edge=False,
        pad_edge=False,
    )
    table.add_column("sigma", justify="right")
    table.add_column("method")
    for _, heading, _ in COLUMNS:
        table.add_column(heading, justify="right")
    shown = None
    for (sigma, method), values in means(scores).items():
        cells = [_shown(values[name], digits) for name, _, digits in COLUMNS]
        level = "" if sigma == shown else ("real" if sigma < 0 else f"{sigma:g}")
        if shown is not None and sigma != shown:
            table.add_section()
        table.add_row(level, method, *cells)
        shown = sigma
    return table


def _shown(value: float, digits: int) -> str:
    if math.isnan(value):
        return "-"
    # A PSNR of 100 dB, which equal images have, is shown with one decimal: otherwise it would not
    # fit into the line.
    return f"{value:.{digits - (value >= 100)}f}"


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
