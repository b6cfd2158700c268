"""NLPD: the distance of two images in a pyramid that normalises contrast as the eye does."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _means
from lumloss_jax._nlpd import nlpd_of_pair
from lumloss_jax.metrics._protocol import prepare


def nlpd(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike = 1.0,
    crop_border: int = 0,
    mask: ArrayLike | None = None,
    gt_mean: str | None = None,
) -> jax.Array:
    r"""Normalised Laplacian pyramid distance of each image.

    .. math::
        \mathrm{mean}_{k = 1}^{6} \sqrt{\mathrm{mean} \, (z_k(P) - z_k(T))^2}, \qquad
        z_k = \frac{b_k}{\sigma_k + \sum_n w_{k,n} |b_k(n)|}

    with :math:`b_1` to :math:`b_5` the bands of a Laplacian pyramid of luma, :math:`b_6` what is
    left of it, and n the neighbours of a pixel. Dividing by the contrast around a pixel makes an
    error in a flat area count more than the same error in texture.

    Networks that were trained to lower it also looked good to people (Ding et al., 2021), which
    few metrics achieve.

    Protocol: the authors' ``NLP_dist.m`` on luma in [0, 1]. Packages differ from it, by 0.003
    (pyiqa) to 0.3 (plenoptic).

    Args:
      predictions: float array ``[..., H, W, C]``, C = 3 (red, green, blue) or 1, at least 33 x 33
        pixels; not clipped.
      targets: float array of the same shape.
      data_range: the distance from black to white in the images' own units, above 0; it may be
        traced.
      crop_border: pixels cut off each side first; static.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1. A
        pixel of a band counts with the least of the mask over the pixels that it was computed from,
        11 x 11 at the finest level and over 200 x 200 at the coarsest. A level in which no pixel
        counts is left out of the mean over levels. Where the mask is 0 the images are not read. An
        image in which no pixel counts at any level scores NaN (``jnp.nanmean`` leaves it out).
      gt_mean: None, ``"luma"`` or ``"channels"``: see :func:`psnr`; name the number "NLPD
        (GT-mean)".

    Returns:
      Distance, shape ``[...]``, from 0 for equal images to about 2, lower is better; float64 for
      float64 input, else float32. The gradient of a level is 0 where its distance is.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape or smaller than 33 x 33, a border that leaves nothing, an unknown ``gt_mean``, a
        concrete negative mask or data range.

    References:
      Laparra, Ballé, Berardino, Simoncelli, "Perceptual image quality assessment using a
      normalized Laplacian pyramid", Human Vision and Electronic Imaging, 2016. Ding, Ma, Wang,
      Simoncelli, "Comparison of full-reference image quality models for optimization of image
      processing systems", IJCV 129, 2021.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.full((1, 33, 33, 1), 0.5)
      >>> brighter, spot = targets + 0.1, targets.at[:, 16, 16].add(0.1)
      >>> print(f"{nlpd(brighter, targets)[0]:.4f} {nlpd(spot, targets)[0]:.4f}")
      0.0384 0.0281
    """
    pair = prepare(
        predictions,
        targets,
        data_range=data_range,
        crop_border=crop_border,
        mask=mask,
        gt_mean=gt_mean,
    )
    distances, levels = nlpd_of_pair(pair)
    return _means.divide_or_nan(distances, jnp.broadcast_to(levels, distances.shape))
