"""The luminance L1 loss: a weighted sum of the absolute errors in brightness and in colour.

De Jonge, "LuminanceL1Loss: A loss function which measures percieved brightness and colour
differences", arXiv:2311.04614, 2023. The weight and the term keep the paper's name "luminance" for
every brightness signal.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _checks, _filters, _means
from lumloss_jax._means import AxisName
from lumloss_jax.color._lab import lightness
from lumloss_jax.color._luma import Coefficients, check_coefficients, sum_channels
from lumloss_jax.color._powers import power_2_4
from lumloss_jax.color._spaces import ColorSpace, check_color_space, difference_in_space
from lumloss_jax.color._srgb import linearise
from lumloss_jax.losses._penalties import make_penalty

BRIGHTNESS = ("luma", "luminance", "lightness")
WINDOWS = ("box", "gaussian")


class LuminanceL1Terms(NamedTuple):
    """The two terms of the luminance L1 loss before weighting, each a scalar.

    Attributes:
      luminance: B, the brightness error.
      color: K, the error of the channels.
    """

    luminance: jax.Array
    color: jax.Array


def luminance_l1_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    luminance_weight: ArrayLike = 0.5,
    color_weight: ArrayLike = 0.5,
    brightness: str = "luma",
    coefficients: Coefficients | None = None,
    window_size: int = 1,
    window: str = "box",
    window_sigma: float | None = None,
    penalty: str = "l1",
    charbonnier_epsilon: ArrayLike | None = None,
    huber_delta: ArrayLike | None = None,
    color_space: ColorSpace = "rgb",
    mask: ArrayLike | None = None,
    axis_name: AxisName | None = None,
) -> jax.Array:
    r"""Weighted sum of a brightness error and a colour error.

    .. math::
        L = w_l \, \mathrm{mean}_\text{pixels} \, \rho\big(G_s(y(P) - y(T))\big)
          + w_c \, \mathrm{mean}_\text{elements} \, \rho(P - T)

    with y the brightness signal, :math:`G_s` a local average over an s x s window and :math:`\rho`
    the penalty, ``|x|`` by default. With the default weights and penalty the loss has the scale of
    plain L1, so a learning rate found for L1 is a good first guess.

    The function is pure: you can use jit, grad, vmap, scan, remat, pmap, shard_map and export on
    it. For one value per image, use ``jax.vmap(luminance_l1_loss)(predictions, targets)``.

    Args:
      predictions: float array ``[..., H, W, C]``, C = 3 (red, green, blue) or 1; nominal range [0,
        1], not clipped.
      targets: float array of the same shape.
      luminance_weight: w_l, a number of shape (), 0 or more; it may be traced (learned, scheduled,
        swept by vmap). Too large a weight costs colour fidelity.
      color_weight: w_c, a number like ``luminance_weight``.
      brightness: y. ``"luma"``, the weighted sum of the gamma-encoded channels, which is the
        paper's greyscale; ``"luminance"``, the same sum in linear light (sRGB curve);
        ``"lightness"``, CIE L* of that luminance, divided by 100.
      coefficients: weights of red, green, blue: ``"rec601"`` (default for luma), ``"rec709"``
        (default for luminance and lightness), ``"rec2020"``, or three Python numbers that sum to 1.
        For linear-light images use ``brightness="luma", coefficients="rec709"``. Greyscale images
        ignore them.
      window_size: s, the side of the window in pixels; odd, static; 1 means no window. At a border,
        it averages the pixels inside the image. It may be larger than the image.
      window: ``"box"`` or ``"gaussian"``.
      window_sigma: sigma of the Gaussian in pixels, static; default 0.3 ((s - 1) / 2 - 1) + 0.8. It
        is an error to give it with a box.
      penalty: rho. ``"l1"``, ``|x|`` with slope 0 at 0 as in PyTorch (``jnp.abs`` has slope 1);
        ``"l2"``, x^2 (without a half); ``"charbonnier"``, sqrt(x^2 + eps^2), which is eps at
        equality; ``"huber"``, x^2 / 2 up to delta, then ``delta (|x| - delta / 2)``.
      charbonnier_epsilon: eps, above 0, 0.001 if not given; may be traced. It is an error to give
        it with any other penalty.
      huber_delta: delta, above 0, 0.05 if not given; may be traced. It is an error to give it with
        any other penalty.
      color_space: where the colour term compares the images, static. ``"rgb"``, the default,
        compares the channels. A name alone compares the chroma axes: ``"lab"`` (a* and b*, divided
        by 100), ``"oklab"`` (a and b), ``"ycbcr"`` (Cb and Cr in full range), ``"hvi"`` (H and V).
        A name with three weights, ``("oklab", (1, 2, 2))``, compares all axes by a weighted mean.
        Spaces other than ``"rgb"`` need three channels.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1; bool,
        integer or float, 0 or more. Means become weighted means. Where the mask is 0, the images
        are not read: NaN there is harmless. If all weights are 0, the loss and its gradient are 0.
      axis_name: mapped axis or axes (pmap, shard_map) over which numerator and weight are summed
        first, which gives the value over all shards, also under uneven masks. Without it, the value
        is the shard's own. For gradients of replicated parameters in pmap, take their
        ``lax.pmean``, with or without ``axis_name``. In shard_map, JAX has already summed them over
        the shards: with ``axis_name`` they are right (a pmean changes nothing), without it they are
        too large by a factor of the number of shards.

    Returns:
      The loss, shape (), 0 or more, lower is better; float64 for float64 input, else float32.
      Half-precision input is accumulated in float32, but its gradients are returned in half
      precision, in which float16 underflows on large batches. Cast the input to float32 first.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape, for an option that is not accepted or that the chosen window or penalty does not use,
        an even or traced window, or a concrete negative weight or mask.

    References:
      De Jonge, arXiv:2311.04614, 2023.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> targets = jnp.zeros((1, 8, 8, 3))
      >>> # if every channel is off by 0.1, so are brightness and colour
      >>> brighter = targets + 0.1
      >>> print(f"{luminance_l1_loss(brighter, targets):.4f}")
      0.1000
      >>> # colour is off by 0.3 / 3, brightness by 0.299 * 0.3
      >>> redder = targets.at[..., 0].add(0.3)
      >>> print(f"{luminance_l1_loss(redder, targets):.4f}")
      0.0949
      >>> loss, gradient = jax.jit(jax.value_and_grad(luminance_l1_loss))(redder, targets)
      >>> gradient.shape
      (1, 8, 8, 3)
    """
    predictions, targets = _checks.check_pair(predictions, targets)
    luminance_weight = _checks.check_scalar("luminance_weight", luminance_weight, predictions.dtype)
    color_weight = _checks.check_scalar("color_weight", color_weight, predictions.dtype)
    terms = luminance_l1_terms(
        predictions,
        targets,
        brightness=brightness,
        coefficients=coefficients,
        window_size=window_size,
        window=window,
        window_sigma=window_sigma,
        penalty=penalty,
        charbonnier_epsilon=charbonnier_epsilon,
        huber_delta=huber_delta,
        color_space=color_space,
        mask=mask,
        axis_name=axis_name,
    )
    dtype = terms.luminance.dtype
    luminance_weight = _checks.check_scalar("luminance_weight", luminance_weight, dtype)
    color_weight = _checks.check_scalar("color_weight", color_weight, dtype)
    return luminance_weight * terms.luminance + color_weight * terms.color


def luminance_l1_terms(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    brightness: str = "luma",
    coefficients: Coefficients | None = None,
    window_size: int = 1,
    window: str = "box",
    window_sigma: float | None = None,
    penalty: str = "l1",
    charbonnier_epsilon: ArrayLike | None = None,
    huber_delta: ArrayLike | None = None,
    color_space: ColorSpace = "rgb",
    mask: ArrayLike | None = None,
    axis_name: AxisName | None = None,
) -> LuminanceL1Terms:
    r"""The two terms of :func:`luminance_l1_loss`, separately, for logging or learned weights.

    .. math::
        B = \mathrm{mean}_\text{pixels} \, \rho\big(G_s(y(P) - y(T))\big), \qquad
        K = \mathrm{mean}_\text{elements} \, \rho(P - T)

    The loss is ``luminance_weight * B + color_weight * K``. If you compute this sum yourself,
    nothing is computed twice.

    Args:
      predictions: float array ``[..., H, W, C]``, as for the loss.
      targets: float array of the same shape.
      brightness: see :func:`luminance_l1_loss`.
      coefficients: see :func:`luminance_l1_loss`.
      window_size: see :func:`luminance_l1_loss`.
      window: see :func:`luminance_l1_loss`.
      window_sigma: see :func:`luminance_l1_loss`.
      penalty: see :func:`luminance_l1_loss`.
      charbonnier_epsilon: see :func:`luminance_l1_loss`.
      huber_delta: see :func:`luminance_l1_loss`.
      color_space: see :func:`luminance_l1_loss`.
      mask: see :func:`luminance_l1_loss`.
      axis_name: see :func:`luminance_l1_loss`.

    Returns:
      ``LuminanceL1Terms(luminance, color)``, two scalars of shape (), 0 or more, lower is better.

    Raises:
      ValueError: in the same cases as the loss.

    References:
      De Jonge, arXiv:2311.04614, 2023.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.full((1, 4, 4, 3), 0.5)
      >>> bluer = targets.at[..., 2].add(0.3)  # blue weighs little in brightness
      >>> terms = luminance_l1_terms(bluer, targets)
      >>> print(f"{terms.luminance:.4f} {terms.color:.4f}")
      0.0342 0.1000
    """
    predictions, targets = _checks.check_pair(predictions, targets)
    mask = _checks.check_mask(mask, predictions)
    rho = make_penalty(
        penalty, predictions.dtype, charbonnier_epsilon=charbonnier_epsilon, huber_delta=huber_delta
    )
    taps = window_taps(window_size, window, window_sigma)
    _checks.check_option("brightness", brightness, BRIGHTNESS)
    if coefficients is None:
        coefficients = "rec601" if brightness == "luma" else "rec709"
    channel_weights = check_coefficients(coefficients)
    color_space = check_color_space("color_space", color_space)
    chex.assert_equal_shape([predictions, targets])

    predictions = _means.hide_masked(predictions, mask)
    targets = _means.hide_masked(targets, mask)
    difference = predictions - targets  # [..., H, W, C]
    brightness_difference = _brightness_difference(
        predictions, targets, difference, brightness, channel_weights
    )
    brightness_difference = _filters.local_average(brightness_difference, taps, mask)
    if penalty == "charbonnier" and len(taps) == 1:
        # Otherwise a CPU takes the roots of three channels for the slope of each pixel
        brightness_difference = _filters.compute_once(brightness_difference)
    chex.assert_shape(brightness_difference, (*difference.shape[:-1], 1))

    if color_space == "rgb":
        color_error = rho(difference)
    else:
        color_difference, shares = difference_in_space(predictions, targets, color_space)
        color_error = rho(color_difference) * shares

    return LuminanceL1Terms(
        luminance=_means.weighted_mean(rho(brightness_difference), mask, axis_name),
        color=_means.weighted_mean(color_error, mask, axis_name),
    )


def _brightness_difference(
    predictions: jax.Array,
    targets: jax.Array,
    difference: jax.Array,
    brightness: str,
    channel_weights: tuple[float, float, float],
) -> jax.Array:
    """y(P) - y(T), ``[..., H, W, 1]``; linear steps are applied once, to the difference."""
    if brightness == "luma":
        return sum_channels(difference, channel_weights)
    p, t = linearise(predictions, power_2_4), linearise(targets, power_2_4)
    if brightness == "luminance":
        return sum_channels(p - t, channel_weights)
    # A CPU takes the roots of a whole array of luminances several at a time, but not while it picks
    # channels out of pixels.
    p, t = (_filters.compute_once(sum_channels(image, channel_weights)) for image in (p, t))
    p, t = lightness(p), lightness(t)
    # In a compiled function, the two curves may be rounded differently for equal colours, and |.|
    # would push them apart with full slope.
    equal = jnp.all(difference == 0, axis=-1, keepdims=True)
    return jnp.where(equal, jnp.zeros_like(p), p - t)


def window_taps(size: object, window: str, sigma: float | None) -> tuple[float, ...]:
    """The window's weights along one axis."""
    size = _checks.check_odd_size("window_size", size)
    check_window(window)
    check_sigma_is_used(window, sigma)
    if window == "box":
        return _filters.box_taps(size)
    if sigma is None:
        sigma = _filters.default_sigma(size)
    return _filters.gaussian_taps(size, _checks.check_static_number("window_sigma", sigma, above=0))


def check_window(window: object) -> str:
    """Checks the shape of the window. A number is probably its size."""
    try:
        return _checks.check_option("window", window, WINDOWS)
    except ValueError as error:
        if isinstance(window, bool) or not isinstance(window, int):
            raise
        raise ValueError(f"{error} For the size of the window, use window_size={window}.") from None


def check_sigma_is_used(window: str, sigma: float | None) -> None:
    """Raises ``ValueError`` if a sigma is given with a box window, which would ignore it."""
    if sigma is not None and window != "gaussian":
        raise ValueError(
            f"window_sigma is for window='gaussian', but the window is {window!r}: leave it out, "
            "or set window='gaussian'."
        )
