"""How each metric responds to four errors of the same PSNR: the figure of the page on metrics.

``python docs/metric_responses.py`` prints the table of that page.
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from scipy import ndimage

from lumloss_jax import metrics

PSNR = 27.0  # dB; every error has it


class Row(NamedTuple):
    """How a metric is computed and shown."""

    metric: Callable
    digits: int  # decimals
    higher_is_better: bool = False
    # How far a value is from that of equal images
    error: Callable[[float], float] = lambda value: value

    @property
    def arrow(self) -> str:
        """Shows which direction is better."""
        return "↑" if self.higher_is_better else "↓"


def _decibels(metric: Callable) -> Row:
    """Decibels become the root mean squared error that they stand for.

    So all of them can be compared within a row.
    """
    return Row(metric, 2, higher_is_better=True, error=lambda value: 10 ** (-value / 20))


def _similarity(metric: Callable) -> Row:
    return Row(metric, 4, higher_is_better=True, error=lambda value: 1 - value)


# In groups: pixels, luma only, structure, colour, and one part of colour only
ROWS = {
    "psnr": _decibels(metrics.psnr),
    "mae": Row(metrics.mae, 4),
    "psnr_y": _decibels(metrics.psnr_y),
    "psnr_hvs": _decibels(metrics.psnr_hvs),
    "psnr_hvs_m": _decibels(metrics.psnr_hvs_m),
    "gmsd": Row(metrics.gmsd, 4),
    "ms_gmsd": Row(metrics.ms_gmsd, 4),
    "nlpd": Row(metrics.nlpd, 4),
    "ssim": _similarity(metrics.ssim),
    "ms_ssim": _similarity(metrics.ms_ssim),
    "haarpsi": _similarity(metrics.haarpsi),
    "mdsi": Row(metrics.mdsi, 4),
    "ms_gmsdc": Row(functools.partial(metrics.ms_gmsd, chromatic=True), 4),
    "cie76": Row(metrics.cie76, 3),
    "ciede2000": Row(metrics.ciede2000, 3),
    "s_cielab": Row(metrics.s_cielab, 3),
    "flip": Row(metrics.flip, 4),
    "brightness_error": Row(metrics.brightness_error, 3),
    "chroma_error": Row(metrics.chroma_error, 3),
}


def four_errors(clean: np.ndarray) -> dict[str, np.ndarray]:
    """A photograph with four kinds of error, each of the same PSNR.

    Args:
      clean: the photograph, ``[H, W, 3]``. Its values leave room at both ends, so nothing is
        clipped.

    Returns:
      The wrong photographs by the name of their error.
    """
    size = 10 ** (-PSNR / 20)
    noise = np.asarray(jax.random.normal(jax.random.key(0), clean.shape))
    # Green falls by what red rises, each with its weight in luma.
    colour = np.array([1, -0.299 / 0.587, 0], np.float32)
    low, high = 0.1, 20.0  # widths of the blur, between which the right one is found
    while high - low > 1e-4:
        width = (low + high) / 2
        blurred = ndimage.gaussian_filter(clean, (width, width, 0), mode="reflect")
        low, high = (low, width) if _size(blurred - clean) > size else (width, high)
    differences = {
        "brightness": np.ones_like(clean),
        "colour": np.broadcast_to(colour, clean.shape),
        "blur": blurred - clean,
        "noise": noise,
    }
    return {
        name: np.asarray(clean + difference * size / _size(difference), np.float32)
        for name, difference in differences.items()
    }


def _size(difference: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(difference, dtype=np.float64))))


def responses(clean: np.ndarray, errors: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """The value of each metric for each error, by name."""
    stacked = jnp.stack([jnp.asarray(image) for image in errors.values()])
    targets = jnp.broadcast_to(jnp.asarray(clean), stacked.shape)
    found = {}
    for name, row in ROWS.items():
        values = jax.jit(row.metric)(stacked, targets)
        found[name] = dict(zip(errors, map(float, values), strict=True))
    return found


def grid(found: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draws a cell for each metric and error: the darker, the worse the metric finds the error.

    Within a row, the error that the metric finds worst is 1.
    """
    kinds = list(next(iter(found.values())))
    shares = np.array([_shares(name, found[name]) for name in found])
    figure, axis = plt.subplots(figsize=(7.4, 0.31 * len(found) + 0.5))
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1.25, aspect="auto")
    for row, name in enumerate(found):
        for column, kind in enumerate(kinds):
            ink = "white" if shares[row, column] > 0.7 else "#1a1a1a"
            value = _written(name, found[name][kind])
            axis.text(column, row, value, ha="center", va="center", color=ink, fontsize=9)
    axis.set_xticks(range(len(kinds)), kinds)
    axis.set_yticks(range(len(found)), [f"{name} {ROWS[name].arrow}" for name in found])
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return figure


def _written(name: str, value: float) -> str:
    return f"{value:.{ROWS[name].digits}f}"


def _shares(name: str, values: Mapping[str, float]) -> list[float]:
    errors = [ROWS[name].error(value) for value in values.values()]
    return [error / max(errors) for error in errors]


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """The same numbers as a table in Markdown; the error that a metric finds worst is bold."""
    kinds = list(next(iter(found.values())))
    lines = [f"| metric | {' | '.join(kinds)} |", f"|---{'|---:' * len(kinds)}|"]
    for name, values in found.items():
        shares = _shares(name, values)
        cells = []
        for value, share in zip(values.values(), shares, strict=True):
            is_worst = share == 1 and min(shares) < 0.999  # not of PSNR, which finds all equal
            written = _written(name, value)
            cells.append(f"**{written}**" if is_worst else written)
        lines.append(f"| `{name}` {ROWS[name].arrow} | {' | '.join(cells)} |")
    return "\n".join(lines)


def middles(images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The middle of each photograph, enlarged enough to show its pixels."""
    side = 80
    found = {}
    for name, image in images.items():
        top, left = ((length - side) // 2 for length in image.shape[:2])
        found[name] = image[top : top + side, left : left + side]
    return found


def photograph() -> np.ndarray:
    """A photograph that scikit-image ships, with values from 0.15 to 0.85."""
    from skimage import data

    crop = data.chelsea()[50:234, 100:284] / 255
    return np.asarray(0.15 + 0.7 * crop, np.float32)


if __name__ == "__main__":
    clean = photograph()
    print(table(responses(clean, four_errors(clean))))
