"""The table of every loss's properties, and what the tests of them share."""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumloss_jax import losses
from tests.lumloss_jax.enlarged import enlarged
from tests.lumloss_jax.property_tables import rows_holding

SHAPE, PIXELS = (4, 24, 26, 3), 24 * 26


def features(images):
    # A curve without a product at its end: of p * p - t * t the compiler keeps one product
    # unrounded, and then equal images have a difference of 1e-9, of either sign.
    return {"edges": images[..., 1:, :] - images[..., :-1, :], "curve": jnp.tanh(images)}


def composition(predictions, targets, **context):
    return losses.make_loss("0.5*luminance_l1(window_size=3) + 2*mse")(
        predictions, targets, **context
    )[0]


@dataclasses.dataclass(frozen=True)
class Row:
    """One loss and its properties.

    A property that does not hold is a blank: a string that says why.
    """

    loss: Callable
    equal: float = 0.0  # at predictions == targets
    symmetric: bool | str = True  # L(P, T) == L(T, P)
    shift: Callable[[float], float] | str = ""  # L(T + c, T) for c > 0
    degree: int | str = 1  # L(T + a d, T) == a^degree L(T + d, T)
    mask_per_pixel: bool = True  # else per image only


NOT_HOMOGENEOUS = "its curve has a scale of its own"
RATIO = "SSIM is a ratio of moments: it depends on where in the range the images are"
CURVE = "the eye's response to light is a curve: what a shift adds depends on where it starts"
HVI = "HVI bends dark colours: what a shift adds depends on where it starts"
EDGES = "it reads details: a shift changes hardly more than the border"
TABLE = {
    "l1": Row(losses.l1_loss, shift=lambda c: c),
    "mse": Row(losses.mse_loss, shift=lambda c: c * c, degree=2),
    "charbonnier": Row(
        functools.partial(losses.charbonnier_loss, epsilon=0.01),
        equal=0.01,
        shift=lambda c: math.hypot(c, 0.01),
        degree=NOT_HOMOGENEOUS,
    ),
    "huber": Row(losses.huber_loss, shift=lambda c: 0.05 * (c - 0.025), degree=NOT_HOMOGENEOUS),
    "psnr": Row(
        losses.psnr_loss,
        equal=-80.0,
        shift=lambda c: 10 * math.log10(c * c + 1e-8),
        degree="its logarithm turns a factor into a shift",
    ),
    "laplacian": Row(losses.laplacian_loss, shift=EDGES, degree=2),
    "cidnet": Row(losses.cidnet_loss, shift=HVI, degree="its terms have degrees 1 and 2"),
    "hvi": Row(functools.partial(losses.hvi_loss, loss="l1 + 0.5*ssim"), shift=HVI, degree=RATIO),
    "ssim": Row(losses.ssim_loss, shift=RATIO, degree=RATIO),
    "ms_ssim": Row(
        functools.partial(losses.ms_ssim_loss, scale_weights=(0.4, 0.6)), shift=RATIO, degree=RATIO
    ),
    "gradient_sobel": Row(losses.gradient_loss, shift=lambda c: 0.0),
    "gradient_difference": Row(
        functools.partial(losses.gradient_loss, operator="difference"), shift=lambda c: 0.0
    ),
    "frequency_complex": Row(losses.frequency_loss, shift=lambda c: c / 2 / math.sqrt(PIXELS)),
    "frequency_amplitude": Row(
        functools.partial(losses.frequency_loss, spectrum="amplitude"),
        shift=lambda c: c / math.sqrt(PIXELS),  # for images above 0
        degree="amplitudes do not add up: |F(T + a d)| - |F(T)| is not linear in a",
    ),
    "perceptual": Row(
        functools.partial(
            losses.perceptual_loss, features=features, layers={"edges": 1.0, "curve": 0.3}
        ),
        shift="features see it as they like",
        degree="features need not be linear",
        mask_per_pixel=False,
    ),
    "flip": Row(
        functools.partial(losses.flip_loss, pixels_per_degree=8), shift=CURVE, degree=CURVE
    ),
    "ciede2000": Row(losses.ciede2000_loss, shift=CURVE, degree=CURVE),
    "haarpsi": Row(losses.haarpsi_loss, shift=EDGES, degree=RATIO),
    "nlpd": Row(enlarged(losses.nlpd_loss), shift=EDGES, degree=RATIO),
    "gt_mean_l1": Row(
        losses.gt_mean(losses.l1_loss),
        symmetric="the prediction is brightened, the target is not",
        shift="a shift is what GT-mean looks past",
        degree="the gain depends on the prediction",
    ),
    "composition": Row(
        composition, shift=lambda c: 0.5 * c + 2 * c * c, degree="its terms have degrees 1 and 2"
    ),
}
every_loss = pytest.mark.parametrize("name", TABLE)
holding = functools.partial(rows_holding, TABLE)


@functools.cache
def compiled(name):
    """value_and_grad(predictions, targets, mask).

    It is compiled once for all tests with a mask, and once for those without.
    """
    loss = TABLE[name].loss
    return jax.jit(
        jax.value_and_grad(lambda p, t, mask: loss(p, t) if mask is None else loss(p, t, mask=mask))
    )


@functools.cache
def images():
    rng = np.random.default_rng(0)
    targets = rng.uniform(0.2, 0.7, SHAPE)
    predictions = np.clip(targets + rng.normal(0, 0.1, SHAPE), 0.05, 0.95)
    return jnp.asarray(predictions, jnp.float32), jnp.asarray(targets, jnp.float32)


@functools.cache
def pixel_mask():
    """Weights between 0.5 and 1, with a block of zeros.

    The block leaves windows of 11 at both scales of MS-SSIM.
    """
    weights = np.random.default_rng(7).uniform(0.5, 1, SHAPE[:-1])
    weights[:, :1, :2] = 0
    return jnp.asarray(weights, jnp.float32)


def some_mask(name):
    return (
        pixel_mask()
        if TABLE[name].mask_per_pixel
        else jnp.array([1.0, 0.0, 0.5, 2.0]).reshape(4, 1, 1)
    )
