"""Low light: what a camera would have recorded with less light, including its sensor noise."""

from collections.abc import Callable
from functools import partial

import chex
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from lumloss_jax.color import linear_to_srgb, rgb_to_luma, srgb_to_linear
from lumloss_jax.degradations import _inputs
from lumloss_jax.degradations._sensor import sensor_sigma
from lumloss_jax.degradations._straight_through import clip_to_range

# A camera at low ISO: the lowest values that blind_sensor_variances draws.
_SHOT_VARIANCE = 1e-4
_READ_VARIANCE = 6.3e-9

# The range of exposures that calibration searches, as powers of two, and the number of its steps,
# which shrink 24 stops to less than 1e-4 of one.
_DARKEST, _BRIGHTEST = -20.0, 4.0
_ITERATIONS = 12
# Brightness is compared by its logarithm, which a black image does not have.
_SMALLEST_BRIGHTNESS = 1e-7


def low_light(
    key: jax.Array,
    image: ArrayLike,
    *,
    exposure: ArrayLike,
    gamma: ArrayLike = 1.0,
    shot_variance: ArrayLike = _SHOT_VARIANCE,
    read_variance: ArrayLike = _READ_VARIANCE,
    clip: bool = True,
) -> jax.Array:
    r"""Turns a normally lit photograph into one taken with less light.

    .. math:: s = \mathrm{lin}(x^\gamma), \quad
        y = \mathrm{enc}\big(\mathrm{clip}(e s + \sqrt{a e s + b} \, n)\big), \quad
        n \sim \mathcal{N}(0, 1)

    lin and enc are the sRGB curve and its inverse (:func:`lumloss_jax.color.srgb_to_linear`). Light
    is scaled and noise is added in linear light, so that the noise drowns the shadows and is
    coarser there, as in a real file. :func:`low_light_exposure` finds the exposure that gives a
    chosen brightness.

    Args:
      key: one random key, typed or legacy, for the whole batch.
      image: float array ``[..., H, W, C]``, C = 3 or 1, gamma-encoded sRGB, range [0, 1]; below 0
        counts as 0.
      exposure: e, the share of the light that is left, 0 or more: 1/8 is three stops down. One
        number or one per image, ``image.shape[:-3]``; may be traced, like all the following except
        ``clip``.
      gamma: contrast of the scene, a power of the encoded values, at least 0.01. Values above 1
        deepen the shadows before the light is reduced; 1 changes nothing.
      shot_variance: a, as in :func:`poisson_gaussian_noise`, on linear light with white at 1. The
        default is for a camera at low ISO; :func:`blind_sensor_variances` draws a and b for any
        ISO.
      read_variance: b, as in the same function.
      clip: whether the sensor clips to [0, 1], as all sensors do. This lifts the mean of the
        deepest shadows a little, because noise cannot go below black. Clipped values pass no
        gradient.

    Returns:
      The dark image, same shape, gamma-encoded; float64 for float64 input, else float32.

    Raises:
      ValueError: when traced, for something that is not a random key, an image that is not float
        ``[..., H, W, 1 or 3]``, an amount of a different shape, or a concrete one out of its range.

    References:
      Lv et al., "Attention Guided Low-Light Image Enhancement with a Large Scale Low-Light
      Simulation Dataset", IJCV 2021 (gamma and exposure); Foi et al., TIP 2008 (noise).

    Example:
      >>> import jax, jax.numpy as jnp
      >>> grey = jnp.full((1, 16, 16, 1), 0.5)
      >>> dark = jax.jit(low_light)(jax.random.key(0), grey, exposure=1 / 16)  # four stops
      >>> print(f"{jnp.mean(dark):.2f}")
      0.12
    """
    key, image = _inputs.check_degradation(key, image)
    clip = _inputs.check_flag("clip", clip)
    exposure = _inputs.check_amount("exposure", exposure, image.shape, image.dtype)
    dark = _camera(key, image, *_check_camera(image, gamma, shot_variance, read_variance), clip)(
        exposure
    )
    chex.assert_equal_shape([dark, image])
    return dark


def low_light_exposure(
    key: jax.Array,
    image: ArrayLike,
    *,
    brightness: ArrayLike,
    gamma: ArrayLike = 1.0,
    shot_variance: ArrayLike = _SHOT_VARIANCE,
    read_variance: ArrayLike = _READ_VARIANCE,
    clip: bool = True,
) -> jax.Array:
    r"""The exposure at which :func:`low_light` gives each image a chosen mean brightness.

    .. math:: \text{find } e: \quad
        \mathrm{mean} \, Y'(\mathrm{low\_light}(x; e)) = \text{brightness}

    with Y' the luma (Rec. 601). Give it the same key and options as :func:`low_light`. The noise
    that will be drawn is then part of the calibration, so that the mean is reached with a relative
    error of 1e-4, and not only on average. The exposure is found by a bracketed secant method
    (Illinois) over 24 stops, in 14 evaluations.

    Args:
      key: the key that :func:`low_light` will get.
      image: float array ``[..., H, W, C]``, C = 3 or 1, gamma-encoded sRGB, range [0, 1].
      brightness: mean luma to reach, in [1e-4, 1]; one number or one per image,
        ``image.shape[:-3]``; may be traced. The dark photographs of LOL lie at about 0.05.
      gamma: as for :func:`low_light`.
      shot_variance: as for :func:`low_light`.
      read_variance: as for :func:`low_light`.
      clip: as for :func:`low_light`.

    Returns:
      The exposure, ``image.shape[:-3]``, from 2^-20 to 2^4. It is at an end of that range if the
      brightness cannot be reached (for a black image, or one whose clipped noise alone is
      brighter). It is a constant for gradients. float64 for float64 input, else float32.

    Raises:
      ValueError: in the same cases as :func:`low_light`.

    References:
      Dowell and Jarratt, "A modified regula falsi method for computing the root of an equation",
      BIT 1971.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> key = jax.random.key(0)
      >>> photographs = jnp.array([0.3, 0.6]).reshape(2, 1, 1, 1) * jnp.ones((2, 8, 8, 1))
      >>> exposure = low_light_exposure(key, photographs, brightness=0.05)
      >>> dark = jax.jit(low_light)(key, photographs, exposure=exposure)
      >>> [f"{mean:.4f}" for mean in dark.mean(axis=(1, 2, 3))]
      ['0.0500', '0.0500']
    """
    key, image = _inputs.check_degradation(key, image)
    clip = _inputs.check_flag("clip", clip)
    target = _inputs.check_amount(
        "brightness", brightness, image.shape, image.dtype, minimum=1e-4, maximum=1
    )
    options = _check_camera(image, gamma, shot_variance, read_variance)
    exposure = lax.stop_gradient(_calibrate(key, image, target, *options, clip=clip))
    chex.assert_shape(exposure, image.shape[:-3])
    return exposure


def _check_camera(
    image: jax.Array, gamma: ArrayLike, shot: ArrayLike, read: ArrayLike
) -> tuple[jax.Array, jax.Array, jax.Array]:
    return (
        _inputs.check_amount("gamma", gamma, image.shape, image.dtype, minimum=0.01),
        _inputs.check_amount("shot_variance", shot, image.shape, image.dtype),
        _inputs.check_amount("read_variance", read, image.shape, image.dtype),
    )


def _camera(
    key: jax.Array, image: jax.Array, gamma: jax.Array, shot: jax.Array, read: jax.Array, clip: bool
) -> Callable[[jax.Array], jax.Array]:
    """The dark image as a function of exposure.

    Everything that does not depend on it, including the noise, is computed once.
    """
    lit = image > 0
    # The power of 0 has no finite gradient with respect to gamma, nor to the image if gamma is
    # below 1.
    contrasted = jnp.where(
        lit, jnp.where(lit, image, jnp.ones_like(image)) ** gamma, jnp.zeros_like(image)
    )
    scene = srgb_to_linear(contrasted)
    normal = jax.random.normal(key, image.shape, image.dtype)

    def take(exposure: jax.Array) -> jax.Array:
        light = exposure * scene
        light = light + sensor_sigma(light, shot, read) * normal
        return linear_to_srgb(clip_to_range(light) if clip else light)

    return take


@partial(jax.jit, static_argnames="clip")  # a loop outside jit would compile again at every call
def _calibrate(
    key: jax.Array,
    image: jax.Array,
    target: jax.Array,
    gamma: jax.Array,
    shot: jax.Array,
    read: jax.Array,
    *,
    clip: bool,
) -> jax.Array:
    """The exposure, one per image, at which the camera's luma has the mean ``target``."""
    take = _camera(key, image, gamma, shot, read, clip)

    def excess(stops: jax.Array) -> jax.Array:
        mean = jnp.mean(rgb_to_luma(take(jnp.exp2(stops))), axis=(-3, -2, -1), keepdims=True)
        return jnp.log(jnp.maximum(mean, _SMALLEST_BRIGHTNESS)) - jnp.log(target)

    darkest = jnp.full((*image.shape[:-3], 1, 1, 1), _DARKEST, image.dtype)
    stops = _find_root(excess, darkest, jnp.full_like(darkest, _BRIGHTEST))
    return jnp.reshape(jnp.exp2(stops), image.shape[:-3])


def _find_root(
    function: Callable[[jax.Array], jax.Array], low: jax.Array, high: jax.Array
) -> jax.Array:
    """The root of an increasing function between ``low`` and ``high``, or the nearer end."""

    def step(_: int, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        low, at_low, high, at_high, root, was_below = state
        rise = at_high - at_low
        root = high - at_high * (high - low) / jnp.where(rise == 0, jnp.ones_like(rise), rise)
        root = jnp.clip(root, low, high)
        value = function(root)
        below = value < 0
        # Plain regula falsi may keep one end forever. The Illinois method halves the value at an
        # end that is kept a second time.
        kept = jnp.where(below == was_below, 0.5, 1.0).astype(value.dtype)
        return (
            jnp.where(below, root, low),
            jnp.where(below, value, kept * at_low),
            jnp.where(below, high, root),
            jnp.where(below, kept * at_high, value),
            root,
            below,
        )

    at_low, at_high = function(low), function(high)
    return lax.fori_loop(0, _ITERATIONS, step, (low, at_low, high, at_high, low, at_low < 0))[4]
