"""The table of every metric's properties, and what the tests of them share."""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lumloss_jax import metrics
from tests.lumloss_jax.enlarged import enlarged
from tests.lumloss_jax.property_tables import rows_holding
from tests.slow_cases import slow_for

SHAPE = (4, 24, 26, 3)
C1 = 0.01**2
STUDIO = 219 / 255


@dataclasses.dataclass(frozen=True)
class Row:
    """One metric and its properties.

    A property that does not hold is a blank: a string that says why.
    """

    metric: Callable
    equal: float = 0.0  # at predictions == targets; 0 for errors, and more where higher is better
    # What a mask averages
    inverse_of_mean: Callable[[np.ndarray], np.ndarray] | str = lambda value: value
    shift: Callable[[float], float] | str = ""  # m(T + c, T)
    monotone: bool | str = True  # worse for each larger shift
    symmetric: bool | str = True  # m(P, T) = m(T, P)
    rectangle: bool | str = True  # a mask of a rectangle is slicing
    by_norm: float = (
        0.0  # compares gradients by their norm, within this share of it, not entry by entry
    )
    white_on_black: float | str = 1.0
    atol: float = 1e-6  # of float32 against float64


CURVE = "L* is a curve: what a shift adds depends on where it starts"
WINDOWS = "a window is more than one pixel"
RATIO = "SSIM is a ratio of moments: it depends on where in the range the images are"
EDGES = "it reads details: a shift changes hardly more than the border, where zeros stand outside"
ZEROS_OUTSIDE = "zeros stand outside the image, but not outside a rectangle of it"
MAPS = "a pixel of its map reads many pixels"
BLOCKS = "it reads blocks of 8 x 8 pixels, which start at the corner of the image"
REPEATED = "what stands outside the image repeats its border, and that of a rectangle is another"
SENSITIVITY = 1.608443  # of the eye to the mean of a block


TABLE = {
    "mae": Row(metrics.mae, shift=lambda c: c),
    "mse": Row(metrics.mse, shift=lambda c: c * c),
    "psnr": Row(
        metrics.psnr,
        equal=100.0,
        inverse_of_mean=lambda value: 10 ** (-value / 10),
        shift=lambda c: -20 * math.log10(c),
        white_on_black=0.0,
    ),
    "psnr_y": Row(
        metrics.psnr_y,
        equal=100.0,
        inverse_of_mean=lambda value: 10 ** (-value / 10),
        shift=lambda c: -20 * math.log10(STUDIO * c),
        white_on_black=-20 * math.log10(STUDIO),
    ),
    "ssim": Row(
        metrics.ssim, equal=1.0, inverse_of_mean=WINDOWS, shift=RATIO, white_on_black=C1 / (1 + C1)
    ),
    "ms_ssim": Row(
        functools.partial(metrics.ms_ssim, scale_weights=(0.4, 0.6)),
        equal=1.0,
        inverse_of_mean=WINDOWS,
        shift=RATIO,
        white_on_black=(C1 / (1 + C1)) ** 0.6,
    ),
    "cie76": Row(metrics.cie76, shift=CURVE, white_on_black=100.0, atol=1e-4),
    "ciede2000": Row(metrics.ciede2000, shift=CURVE, white_on_black=100.0, atol=1e-4),
    "brightness_error": Row(metrics.brightness_error, shift=CURVE, white_on_black=100.0, atol=1e-4),
    "chroma_error": Row(
        metrics.chroma_error,
        shift="it sees what brightness does to chroma, which has no closed form",
        monotone="a shift changes brightness; chroma follows as it may",
        white_on_black="both are greys: their chroma is what is left of rounded constants",
        atol=1e-4,
    ),
    "haarpsi": Row(
        metrics.haarpsi,
        equal=1.0,
        inverse_of_mean=MAPS,
        shift=EDGES,
        monotone=EDGES,
        white_on_black=EDGES,
        rectangle=ZEROS_OUTSIDE,
    ),
    "gmsd": Row(
        metrics.gmsd,
        inverse_of_mean=MAPS,
        shift=EDGES,
        monotone=EDGES,
        white_on_black=EDGES,
        rectangle=ZEROS_OUTSIDE,
    ),
    "ms_gmsd": Row(
        functools.partial(metrics.ms_gmsd, chromatic=True),
        inverse_of_mean=MAPS,
        shift=EDGES,
        monotone=EDGES,
        white_on_black=EDGES,
        rectangle=ZEROS_OUTSIDE,
    ),
    "mdsi": Row(
        metrics.mdsi,
        inverse_of_mean=MAPS,
        shift=EDGES,
        monotone=EDGES,
        white_on_black=EDGES,
        symmetric="its similarity of edges favours the prediction's",
        rectangle=ZEROS_OUTSIDE,
        atol=5e-6,
        by_norm=0.05,  # the slope of a distance to the mean changes its sign at the mean
    ),
    "psnr_hvs": Row(
        metrics.psnr_hvs,
        equal=100.0,
        inverse_of_mean=BLOCKS,
        shift=lambda c: -20 * math.log10(SENSITIVITY * c),
        white_on_black=-20 * math.log10(SENSITIVITY),
        rectangle=BLOCKS,
    ),
    "psnr_hvs_m": Row(
        metrics.psnr_hvs_m,
        equal=100.0,
        inverse_of_mean=BLOCKS,
        shift=lambda c: -20 * math.log10(SENSITIVITY * c),  # the mean of a block is never masked
        white_on_black=-20 * math.log10(SENSITIVITY),
        rectangle=BLOCKS,
    ),
    "flip": Row(
        functools.partial(metrics.flip, pixels_per_degree=8),
        inverse_of_mean=MAPS,
        shift=CURVE,
        # HyAB is 100, and 100^0.7 is above the knee at 0.4 of the largest difference
        white_on_black=0.95 + 0.05 * (100**0.7 / 41.276098585 - 0.4) / 0.6,
        rectangle=REPEATED,
        atol=1e-5,
    ),
    "nlpd": Row(
        enlarged(metrics.nlpd),
        inverse_of_mean=MAPS,
        shift=EDGES,
        white_on_black="its last level is the mean brightness, and the bands see the border",
        rectangle=REPEATED,
    ),
    "s_cielab": Row(
        functools.partial(metrics.s_cielab, pixels_per_degree=8),
        inverse_of_mean=MAPS,
        shift=CURVE,
        white_on_black=100.0,
        rectangle=REPEATED,
        atol=1e-4,
    ),
}
# Its program is the longest, and fast tests compare its value and take its loss's gradient.
LONGEST = ["nlpd"]
every_metric = slow_for("name", TABLE, LONGEST)
# A program of these takes seconds to compile: they have what is tested by a program of its own
# among the slow tests, if it is done by what all metrics share.
LONG = ["flip", "nlpd", "s_cielab", "ms_ssim", "haarpsi", "ms_gmsd", "mdsi"]


def holding(column, *, slow=()):
    """Parametrizes a test over the metrics that have a property; the longest are slow."""
    longest = [name for name in LONGEST if not isinstance(getattr(TABLE[name], column), str)]
    return rows_holding(TABLE, column, slow=[*slow, *longest])


TRACES = dict.fromkeys(TABLE, 0)


@functools.cache
def compiled(name):
    """Values and the gradient of their sum, compiled once for most tests.

    The arguments are predictions, targets, mask and data_range.
    """

    def values(predictions, targets, mask, data_range):
        TRACES[name] += 1
        value = TABLE[name].metric(predictions, targets, mask=mask, data_range=data_range)
        return jnp.sum(value), value

    with_gradient = jax.jit(jax.value_and_grad(values, has_aux=True))

    def call(predictions, targets, mask=None, data_range=1.0):
        (_, value), gradient = with_gradient(predictions, targets, mask, data_range)
        return value, gradient

    return call


@functools.cache
def images(seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.uniform(0.2, 0.7, SHAPE).astype(np.float32)
    return jnp.asarray(
        (targets + 0.1 * rng.normal(size=SHAPE)).clip(0.05, 0.95), jnp.float32
    ), jnp.asarray(targets)


@functools.cache
def pixel_mask():
    """Weights between 0.5 and 1, with a block of zeros.

    The block leaves windows of 11 at both scales of MS-SSIM.
    """
    weights = np.random.default_rng(7).uniform(0.5, 1, SHAPE[:-1]).astype(np.float32)
    weights[:, :1, :2] = 0
    return jnp.asarray(weights)


def assert_gradients_agree(name, gradient, expected, rtol, atol):
    """Compares entry by entry, or by norm if the metric's row says so.

    ``atol`` is relative to the largest entry.
    """
    gradient, expected = np.asarray(gradient, np.float64), np.asarray(expected, np.float64)
    share = TABLE[name].by_norm
    if share:
        assert np.linalg.norm(gradient - expected) <= share * np.linalg.norm(expected)
    else:
        np.testing.assert_allclose(
            gradient, expected, rtol=rtol, atol=atol * np.abs(expected).max()
        )
