"""The arithmetic of FLIP, which the metric and the loss share."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from lumloss_jax import _checks, _filters
from lumloss_jax import _local_similarity as local
from lumloss_jax._ciede2000 import chroma, safe_sqrt
from lumloss_jax._pair import Pair
from lumloss_jax.color._luma import sum_channels
from lumloss_jax.color._srgb import linearise

# 0.7 m from a display that is 0.7 m and 3,840 pixels wide, as the authors assume.
PIXELS_PER_DEGREE = 0.7 * 3840 / 0.7 * math.pi / 180

# FLIP's own matrices, between linear sRGB and XYZ relative to its white.
_WHITE = (0.950428545, 1.0, 1.088900371)
_FROM_RGB = np.array(
    [
        [10135552 / 24577794, 8788810 / 24577794, 4435075 / 24577794],
        [2613072 / 12288897, 8788810 / 12288897, 887015 / 12288897],
        [1425312 / 73733382, 8788810 / 73733382, 70074185 / 73733382],
    ]
) * [[1.052156925], [1.0], [0.918357670]]
_TO_RGB = np.array(
    [
        [3.241003275, -1.537398934, -0.498615861],
        [-0.969224334, 1.875930071, 0.041554224],
        [0.055639423, -0.204011202, 1.057148933],
    ]
) * [_WHITE]
_THRESHOLD = (6 / 29) ** 3
_KNEE = 0.4


def _largest_difference() -> float:
    """The colour difference of pure green and pure blue, which ends the scale: 41.276099."""
    lab = []
    for xyz in (_FROM_RGB[:, 1], _FROM_RGB[:, 2]):  # all six above the straight part of f
        f_x, f_y, f_z = np.cbrt(xyz)
        lightness = 116 * f_y - 16
        lab.append(lightness * np.array([1, 5 * (f_x - f_y), 2 * (f_y - f_z)]))
    lightness, a, b = lab[0] - lab[1]
    return float((abs(lightness) + math.hypot(a, b)) ** 0.7)


_LARGEST = _largest_difference()


class View(NamedTuple):
    """The filters of an observer: taps along one axis, each over a window of 2 r + 1 pixels."""

    luminance: tuple[float, ...]
    red_green: tuple[float, ...]
    blue_yellow: tuple[tuple[float, tuple[float, ...]], ...]  # weights and taps; their sum is 1
    smooth: tuple[float, ...]
    edge: tuple[float, ...]
    point: tuple[float, ...]


def check_view(pixels_per_degree: object) -> View:
    """The filters at a distance from the display, given in pixels per degree."""
    density = _checks.check_static_number("pixels_per_degree", pixels_per_degree, above=0)
    radius = math.ceil(3 * math.sqrt(0.04 / (2 * math.pi**2)) * density)
    degrees = np.arange(-radius, radius + 1) / density

    def gaussian(spread: float) -> np.ndarray:
        return np.exp(-(math.pi**2) * degrees**2 / spread)

    def normalized(values: np.ndarray) -> tuple[float, ...]:
        return tuple(float(value) for value in values / values.sum())

    pairs = ((34.1, 0.04), (13.5, 0.025))
    # Weights of the two-dimensional kernels, which as a whole sum to 1
    sums = [a * math.sqrt(math.pi / b) * gaussian(b).sum() ** 2 for a, b in pairs]
    blue_yellow = tuple(
        (float(of_pair / sum(sums)), normalized(gaussian(b)))
        for of_pair, (_, b) in zip(sums, pairs, strict=True)
    )

    sigma = 0.041 * density  # in pixels
    reach = math.ceil(3 * sigma)
    pixels = np.arange(-reach, reach + 1)
    smooth = np.exp(-(pixels**2) / (2 * sigma**2))

    def balanced(values: np.ndarray) -> tuple[float, ...]:
        """Positive taps that sum to 1 and negative ones that sum to -1."""
        positive, negative = values.clip(min=0), values.clip(max=0)
        return tuple(float(v) for v in positive / positive.sum() - negative / negative.sum())

    return View(
        luminance=normalized(gaussian(0.0047)),
        red_green=normalized(gaussian(0.0053)),
        blue_yellow=blue_yellow,
        smooth=normalized(smooth),
        edge=balanced(-pixels * smooth),
        point=balanced((pixels**2 / sigma**2 - 1) * smooth),
    )


def flip_of_pair(
    pair: Pair, view: View, floor: ArrayLike = 0.0
) -> tuple[jax.Array, jax.Array | None]:
    """The map ``[..., H, W, 1]``, and the weight of each of its pixels.

    ``floor`` is the least change of a feature and the least square of a chroma difference. Both
    stand under roots, whose slopes at 0 have no bound.
    """
    images = jnp.clip(jnp.stack([pair.predictions, pair.targets]), 0, 1)
    if images.shape[-1] == 1:
        images = jnp.repeat(images, 3, axis=-1)
    x, y, z = (sum_channels(linearise(images), tuple(row.tolist())) for row in _FROM_RGB)
    color_error = _color_error(_hunt_lab(_as_seen(x, y, z, view)), floor)
    feature_error = _feature_error(y, view, floor)

    sides = local.both_sides(pair)
    radius = max(len(view.luminance), len(view.edge)) // 2
    same = (color_error <= 0) | (local.least_around(sides.equal, radius, radius) > 0)
    # The power of 0 has no slope, and `where` would carry its NaN into the gradient
    base = jnp.where(same, jnp.ones_like(color_error), color_error)
    values = jnp.where(same, jnp.zeros_like(base), base ** (1 - feature_error))
    counts = None if sides.counts is None else local.least_around(sides.counts, radius, radius)
    return values, counts


def _as_seen(x: jax.Array, y: jax.Array, z: jax.Array, view: View) -> jax.Array:
    """X, Y, Z, relative to white, after the eye's filters and within what a display shows."""
    # Opponent planes without the cube root, so that filtering is linear in light
    luminance = _blur(116 * y - 16, view.luminance)
    red_green = _blur(500 * (x - y), view.red_green)
    blue_yellow = sum(w * _blur(200 * (y - z), taps) for w, taps in view.blue_yellow)
    y = (luminance + 16) / 116
    seen = jnp.concatenate([y + red_green / 500, y, y - blue_yellow / 200], axis=-1)
    rgb = jnp.concatenate([sum_channels(seen, tuple(row.tolist())) for row in _TO_RGB], axis=-1)
    rgb = jnp.clip(rgb, 0, 1)
    return jnp.concatenate([sum_channels(rgb, tuple(row.tolist())) for row in _FROM_RGB], axis=-1)


def _hunt_lab(xyz: jax.Array) -> jax.Array:
    """CIE L*a*b* whose a* and b* fade with lightness, as the Hunt effect has it."""
    curved = xyz > _THRESHOLD
    safe = jnp.where(curved, xyz, jnp.ones_like(xyz))
    f = jnp.where(curved, jnp.cbrt(safe), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    f_x, f_y, f_z = (f[..., i : i + 1] for i in range(3))
    lightness = 116 * f_y - 16
    a, b = 500 * (f_x - f_y), 200 * (f_y - f_z)
    return jnp.concatenate([lightness, 0.01 * lightness * a, 0.01 * lightness * b], axis=-1)


def _color_error(lab: jax.Array, floor: ArrayLike) -> jax.Array:
    """HyAB^0.7 of the two images, with the upper 60 % of its range pressed into 5 %."""
    lightness, a, b = (lab[0][..., i : i + 1] - lab[1][..., i : i + 1] for i in range(3))
    distance = local.magnitude(lightness) + safe_sqrt(jnp.maximum(a * a + b * b, floor))
    zero = distance <= 0
    difference = jnp.where(zero, jnp.ones_like(distance), distance) ** 0.7
    difference = jnp.where(zero, jnp.zeros_like(difference), difference)
    knee = _KNEE * _LARGEST
    return jnp.where(
        difference < knee,
        0.95 / knee * difference,
        0.95 + 0.05 * (difference - knee) / (_LARGEST - knee),
    )


def _feature_error(y: jax.Array, view: View, floor: ArrayLike) -> jax.Array:
    """How much edges and points have changed, from 0 to 1."""
    strengths = []
    for taps in (view.edge, view.point):
        across = _filter(_filter(y, taps, -2), view.smooth, -3)
        down = _filter(_filter(y, taps, -3), view.smooth, -2)
        strengths.append(chroma(across, down))  # the length of the two
    edge, point = (local.magnitude(strength[0] - strength[1]) for strength in strengths)
    return safe_sqrt(jnp.maximum(jnp.maximum(edge, point), floor) / math.sqrt(2))


def _blur(plane: jax.Array, taps: tuple[float, ...]) -> jax.Array:
    return _filter(_filter(plane, taps, -3), taps, -2)


def _filter(plane: jax.Array, taps: tuple[float, ...], axis: int) -> jax.Array:
    """Correlates one axis with ``taps``; the border's pixels are repeated outside the image."""
    axis += plane.ndim
    widths = [(0, 0)] * plane.ndim
    widths[axis] = (len(taps) // 2, len(taps) // 2)
    return _filters.slide(jnp.pad(plane, widths, mode="edge"), taps, axis)
