"""HaarPSI: similarity of two images' Haar wavelets, which resemble early stages of vision."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _checks
from lumloss_jax import _local_similarity as local
from lumloss_jax._haarpsi import haarpsi_of_pair
from lumloss_jax.metrics._protocol import prepare

# A constant of 0 would give 0/0 where neither image has any detail.
_SMALLEST_CONSTANT = 1e-6


def haarpsi(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike = 1.0,
    crop_border: int = 0,
    mask: ArrayLike | None = None,
    gt_mean: str | None = None,
    constant: ArrayLike = 30.0,
    steepness: ArrayLike = 4.2,
    downsample: bool = True,
) -> jax.Array:
    r"""Haar wavelet-based perceptual similarity index of each image.

    .. math::
        \left( \frac{1}{\alpha} \, s^{-1} \! \left(
        \frac{\sum w \, s(\alpha S)}{\sum w} \right) \right)^2, \quad
        s(x) = \frac{1}{1 + e^{-x}}, \quad
        S = \mathrm{mean}_k \frac{2 \, |c_k(P)| \, |c_k(T)| + C}{c_k(P)^2 + c_k(T)^2 + C}

    with :math:`c_1, c_2` the Haar coefficients of luma at the two finest scales, down and across.
    Each map is weighted by :math:`w = \max(|c_3(P)|, |c_3(T)|)`. Colour images add a map of the
    chroma I and Q.

    It agrees with human opinions far better than SSIM does. It compares the sizes of details but
    not their signs: a photograph and its negative score 0.95. Report it together with a metric that
    sees brightness.

    Protocol: the authors' ``haar_psi(255 * t, 255 * p)`` in MATLAB and NumPy. piq's I and Q are
    rounded differently, so that its values of colour images differ by up to 1e-3.

    Args:
      predictions: float array ``[..., H, W, C]``, C = 3 (red, green, blue) or 1, at least 16 x 16
        pixels; not clipped.
      targets: float array of the same shape.
      data_range: the distance from black to white in the images' own units, above 0; it may be
        traced.
      crop_border: pixels cut off each side first; static.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1. The
        weight of a coefficient is the smallest weight in its largest window, 16 x 16 pixels. Where
        the mask is 0, the images are not read. An image in which nothing counts scores NaN
        (``jnp.nanmean`` leaves it out).
      gt_mean: None, ``"luma"`` or ``"channels"``: see :func:`psnr`; report the number as "HaarPSI
        (GT-mean)".
      constant: C, 1e-6 or more, on the 8-bit scale; it may be traced. A fit to medical images gave
        5.
      steepness: alpha, above 0; it may be traced. A fit to medical images gave 4.9.
      downsample: whether images are first averaged over 2 x 2 pixels, as the authors do; static.

    Returns:
      Similarity, shape ``[...]``, above 0 and at most 1 (for equal images), higher is better;
      float64 for float64 input, else float32. Two black images score 1.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape or smaller than 16 x 16, a border that leaves nothing, an unknown ``gt_mean``, a
        ``downsample`` that is not True or False, a concrete negative mask, data range, constant or
        steepness.

    References:
      Reisenhofer, Bosse, Kutyniok, Wiegand, "A Haar wavelet-based perceptual similarity index for
      image quality assessment", Signal Processing: Image Communication 61, 2018, arXiv:1607.06140.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> targets = jnp.zeros((1, 16, 16, 1)).at[:, :, 8:].set(1.0)
      >>> blurred = targets.at[:, :, 6:10].set(0.5)
      >>> metric = jax.jit(haarpsi)
      >>> print(f"{metric(targets, targets)[0]:.4f} {metric(blurred, targets)[0]:.4f}")
      1.0000 0.4129
    """
    pair = prepare(
        predictions,
        targets,
        data_range=data_range,
        crop_border=crop_border,
        mask=mask,
        gt_mean=gt_mean,
    )
    dtype = pair.targets.dtype
    constant = _checks.check_scalar("constant", constant, dtype, minimum=_SMALLEST_CONSTANT)
    steepness = _checks.check_scalar("steepness", steepness, dtype, minimum=_SMALLEST_CONSTANT)
    local.check_flag("downsample", downsample)
    excess, counts = haarpsi_of_pair(pair, constant, steepness, downsample=downsample)
    return local.nan_where_nothing_counts(jnp.square(1 + excess), counts)
