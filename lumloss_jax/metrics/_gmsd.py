"""GMSD and MS-GMSD: how unevenly the edges of an image are damaged."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _local_similarity as local
from lumloss_jax._ciede2000 import safe_sqrt
from lumloss_jax.color._luma import COEFFICIENTS, sum_channels
from lumloss_jax.metrics._protocol import prepare

_CONSTANT = 170.0  # on the scale of 8 bits
_SMALLEST_SIDE = 17  # below it, the coarsest of four scales has hardly a pixel inside its border
_SCALE_WEIGHTS = (0.096, 0.596, 0.289, 0.019)  # from fine to coarse
_ALPHA = 0.5
_IN_PHASE = (0.5959, -0.2746, -0.3213)
_QUADRATURE = (0.2115, -0.5227, 0.3112)


def gmsd(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike = 1.0,
    crop_border: int = 0,
    mask: ArrayLike | None = None,
    gt_mean: str | None = None,
) -> jax.Array:
    r"""Gradient magnitude similarity deviation of each image.

    .. math::
        \mathrm{std} \; \frac{2 \, g_P \, g_T + 170}{g_P^2 + g_T^2 + 170}

    with g the size of the Prewitt gradient of luma, on the scale of 8 bits, after averaging 2 x 2
    pixels. The standard deviation divides by the number of pixels.

    It sees uneven damage, such as blur, ringing and blocks. An error that is the same everywhere,
    such as a shift of brightness or colour, scores nearly 0. So it is a poor loss, and you should
    report it together with a metric that sees brightness.

    Protocol: the paper, and ``piq.gmsd``. The authors' MATLAB code divides by the number of pixels
    minus 1, which gives up to 3e-4 more on small images.

    Args:
      predictions: float array ``[..., H, W, C]``, C = 3 (red, green, blue) or 1; not clipped.
      targets: float array of the same shape.
      data_range: the distance from black to white in the images' own units, above 0; it may be
        traced.
      crop_border: pixels cut off each side first; static.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1. The
        weight of a pixel of the similarity map is the smallest weight of the 6 x 6 pixels from
        which it was computed. Where the mask is 0, the images are not read. An image in which
        nothing counts scores NaN (``jnp.nanmean`` leaves it out).
      gt_mean: None, ``"luma"`` or ``"channels"``: see :func:`psnr`; report the number as "GMSD
        (GT-mean)".

    Returns:
      Deviation, shape ``[...]``, from 0 for equal images to about 0.5, lower is better; float64 for
      float64 input, else float32. The gradient is 0 where the deviation is 0.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape, a border that leaves nothing, an unknown ``gt_mean``, a concrete negative mask or
        data range.

    References:
      Xue, Zhang, Mou, Bovik, "Gradient magnitude similarity deviation: a highly efficient
      perceptual image quality index", IEEE Transactions on Image Processing 23(2), 2014,
      arXiv:1308.3052.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> targets = jnp.zeros((1, 16, 16, 1)).at[:, :, 8:].set(1.0)
      >>> blurred = targets.at[:, :, 6:10].set(0.5)
      >>> metric = jax.jit(gmsd)
      >>> print(f"{metric(targets, targets)[0]:.4f} {metric(blurred, targets)[0]:.4f}")
      0.0000 0.3939
    """
    pair = prepare(
        predictions,
        targets,
        data_range=data_range,
        crop_border=crop_border,
        mask=mask,
        gt_mean=gt_mean,
    )
    sides = local.halve(local.both_sides(pair))
    values, counts = _variance_of_similarity(sides, 0.0)
    return local.nan_where_nothing_counts(safe_sqrt(values), counts)


def ms_gmsd(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike = 1.0,
    crop_border: int = 0,
    mask: ArrayLike | None = None,
    gt_mean: str | None = None,
    chromatic: bool = False,
) -> jax.Array:
    r"""Multi-scale gradient magnitude similarity deviation of each image: MS-GMSD and MS-GMSDc.

    .. math::
        G = \sqrt{\textstyle\sum_j w_j \sigma_j^2}, \qquad
        G_c = \gamma \, G + (1 - \gamma) \, \frac{D_{IQ}}{100}, \qquad
        \gamma = \frac{2}{1 + 0.32 \, e^{-15 G}} - 1

    with :math:`\sigma_j` as in :func:`gmsd` at four scales, each half the size of the one before,
    starting at full size, and with a similarity of :math:`(1.5 \, g_P \, g_T + 170) / (g_P^2 +
    g_T^2 - 0.5 \, g_P \, g_T + 170)`. :math:`D_{IQ}` is the root mean square difference of the
    chroma I and Q at the coarsest scale.

    Protocol: ``piq.multi_scale_gmsd(p, t, chromatic=chromatic)``. The authors' code was not found.

    Args:
      predictions: float array ``[..., H, W, C]``, C = 3 (red, green, blue) or 1, at least 17 x 17
        pixels; not clipped.
      targets: float array of the same shape.
      data_range: the distance from black to white in the images' own units, above 0; it may be
        traced.
      crop_border: pixels cut off each side first; static.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1. The
        weight of a pixel of a map is the smallest weight of the pixels from which it was computed,
        24 x 24 at the coarsest scale. Where the mask is 0, the images are not read. An image in
        which nothing counts at the coarsest scale scores NaN.
      gt_mean: None, ``"luma"`` or ``"channels"``: see :func:`psnr`; report the number as "MS-GMSD
        (GT-mean)".
      chromatic: False for MS-GMSD, which reads luma only, True for MS-GMSDc, which needs colour;
        static.

    Returns:
      Deviation, shape ``[...]``, 0 for equal images, lower is better: MS-GMSD is at most about 0.5,
      MS-GMSDc can exceed 1; float64 for float64 input, else float32. The gradient is 0 where the
      deviation is 0.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape or smaller than 17 x 17, a single channel with ``chromatic``, a border that leaves
        nothing, an unknown ``gt_mean``, a concrete negative mask or data range.

    References:
      Zhang, Sander, Bermak, "Gradient magnitude similarity deviation on multiple scales for color
      image quality assessment", ICASSP 2017.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> targets = jnp.full((1, 32, 32, 3), 0.5)
      >>> redder = targets.at[..., 0].add(0.1)
      >>> metric = jax.jit(ms_gmsd, static_argnames="chromatic")
      >>> with_chroma = metric(redder, targets, chromatic=True)
      >>> print(f"{metric(redder, targets)[0]:.4f} {with_chroma[0]:.4f}")
      0.0010 0.0778
    """
    local.check_flag("chromatic", chromatic)
    pair = prepare(
        predictions,
        targets,
        data_range=data_range,
        crop_border=crop_border,
        mask=mask,
        gt_mean=gt_mean,
        channels=(3,) if chromatic else (1, 3),
    )
    local.check_smallest(pair.targets, _SMALLEST_SIDE, "MS-GMSD")
    sides = local.both_sides(pair)
    total, counts = _variance_of_similarity(sides, _ALPHA)
    total = _SCALE_WEIGHTS[0] * total
    for weight in _SCALE_WEIGHTS[1:]:
        sides = local.halve(sides)
        of_scale, counts = _variance_of_similarity(sides, _ALPHA)
        total = total + weight * of_scale
    deviation = safe_sqrt(total)
    if chromatic:
        off = local.zero_where(sides.equal, sides.images[0] - sides.images[1])
        squares = jnp.square(sum_channels(off, _IN_PHASE)) + jnp.square(
            sum_channels(off, _QUADRATURE)
        )
        chroma = safe_sqrt(local.pool(squares, sides.counts))
        share = 2 / (1 + 0.32 * jnp.exp(-15 * deviation)) - 1
        deviation = share * deviation + (1 - share) * 0.01 * chroma
    return local.nan_where_nothing_counts(deviation, counts)


def _variance_of_similarity(sides: local.Sides, alpha: float) -> tuple[jax.Array, jax.Array | None]:
    """Variance of the edges' similarity per image ``[...]``, and the weight of each pixel.

    The variance of 1 - x equals the variance of x.
    """
    edges = local.edge_strength(sum_channels(sides.images, COEFFICIENTS["rec601"]))
    off = local.dissimilarity(edges[0], edges[1], _CONSTANT, alpha)
    off = local.zero_where(local.least_around(sides.equal, 1, 1), off)
    counts = None if sides.counts is None else local.least_around(sides.counts, 1, 1)
    return local.variance(off, counts), counts
