"""Structural losses, 1 - SSIM and 1 - MS-SSIM, computed in the same way as the metrics."""

from collections.abc import Sequence

import chex
import jax
from jax.typing import ArrayLike

from lumloss_jax import _checks, _means, _ssim
from lumloss_jax._means import AxisName


def ssim_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike = 1.0,
    mask: ArrayLike | None = None,
    axis_name: AxisName | None = None,
) -> jax.Array:
    r"""1 minus the mean structural similarity.

    .. math::
        L = 1 - \mathrm{mean} \, \frac{(2 \mu_p \mu_t + C_1)(2 \sigma_{pt} + C_2)}
            {(\mu_p^2 + \mu_t^2 + C_1)(\sigma_p^2 + \sigma_t^2 + C_2)}

    over all 11 x 11 Gaussian windows (sigma 1.5) that lie inside the image, channel by channel.
    This is the SSIM of MATLAB, of scikit-image with ``gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False``, and of ``metrics.ssim``.

    Args:
      predictions: float array ``[..., H, W, C]``, C = 3 (red, green, blue) or 1, H and W at least
        11; nominal range [0, ``data_range``], not clipped.
      targets: float array of the same shape.
      data_range: distance from black to white, above 0; one number, may be traced.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1. The
        weight of a window is the smallest weight in it, so that masked pixels do not leak. Where
        the mask is 0, the images are not read. If no window is left, the loss and its gradient are
        0.
      axis_name: mapped axis or axes (pmap, shard_map) over which numerator and weight are summed
        first, which gives the value over all shards. H and W themselves cannot be sharded.

    Returns:
      The loss, shape (), from 0 (equal) to 2, lower is better; float64 for float64 input, else
      float32.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape or have a side below 11, a data_range that is concretely 0 or less, or a mask that
        does not fit or is concretely negative.

    References:
      Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE
      TIP 13(4), 2004. Zhao et al., "Loss functions for image restoration with neural networks",
      IEEE TCI 3(1), 2017, arXiv:1511.08861.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> black, white = jnp.zeros((1, 16, 16, 3)), jnp.ones((1, 16, 16, 3))
      >>> loss = jax.jit(ssim_loss)
      >>> # C1 / (1 + C1) remains
      >>> print(f"{loss(black, black):.4f} {loss(black, white):.4f}")
      0.0000 0.9999
    """
    predictions, targets, mask = _prepare(predictions, targets, data_range, mask)
    _ssim.check_window(predictions)
    similarity = _ssim.similarity_maps(predictions, targets).similarity
    # The mean of 1 - SSIM, not 1 - the mean of SSIM: without any window it must be 0.
    return _means.weighted_mean(1 - similarity, _ssim.window_weights(mask, predictions), axis_name)


def ms_ssim_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    scale_weights: Sequence[float] = _ssim.SCALE_WEIGHTS,
    data_range: ArrayLike = 1.0,
    mask: ArrayLike | None = None,
    axis_name: AxisName | None = None,
) -> jax.Array:
    r"""1 minus the multi-scale structural similarity.

    .. math::
        L = 1 - \mathrm{mean}_{n, c} \; \mathrm{SSIM}_J^{w_J}
        \prod_{j < J} \mathrm{contrast}_j^{w_j}

    Contrast and structure are compared at each of J scales (five by default, each half the size of
    the one before), brightness only at the coarsest. A negative mean over windows counts as 0, with
    a gradient of 0. Odd sizes lose their last row or column from scale to scale. The loss hardly
    sees a small shift of brightness or colour. Zhao et al. mix it with L1, which is ``"0.84*ms_ssim
    + 0.16*l1"`` as a spec (without the Gaussian that they apply to L1).

    Args:
      predictions: float array ``[..., H, W, C]``, C = 3 (red, green, blue) or 1, H and W at least
        176 for five scales (11 * 2^(J - 1)); nominal range [0, ``data_range``], not clipped.
      targets: float array of the same shape.
      scale_weights: w_1 ... w_J from fine to coarse, above 0, static; fewer for smaller images.
      data_range: distance from black to white, above 0; one number, may be traced.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1. From
        scale to scale, each 2 x 2 block keeps its smallest weight. The weight of a window is the
        smallest weight in it, and the weight of an image is the mean weight of its windows at the
        coarsest scale. Where the mask is 0, the images are not read. If no window is left, the loss
        and its gradient are 0.
      axis_name: mapped axis or axes (pmap, shard_map) over which numerator and weight are summed
        first, which gives the value over all shards. H and W themselves cannot be sharded.

    Returns:
      The loss, shape (), from 0 (equal) to 1, lower is better; float64 for float64 input, else
      float32.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape or too small for the scales, scale weights that are not numbers above 0, a data_range
        that is concretely 0 or less, or a mask that does not fit or is concretely negative.

    References:
      Wang, Simoncelli, Bovik, "Multiscale structural similarity for image quality assessment",
      Asilomar 2003. Zhao et al., "Loss functions for image restoration with neural networks", IEEE
      TCI 3(1), 2017, arXiv:1511.08861.

    Example:
      >>> import functools, jax, jax.numpy as jnp
      >>> targets = jnp.linspace(0, 1, 24 * 24).reshape(1, 24, 24, 1)
      >>> # two scales, since the image is small
      >>> loss = jax.jit(functools.partial(ms_ssim_loss, scale_weights=(0.5, 0.5)))
      >>> print(f"{loss(targets, targets):.4f} {loss(1 - targets, targets):.4f}")
      0.0000 1.0000
    """
    predictions, targets, mask = _prepare(predictions, targets, data_range, mask)
    exponents = _ssim.check_scales(predictions, scale_weights)
    # [...], [...]
    values, weights = _ssim.multi_scale_similarity(predictions, targets, mask, exponents)
    chex.assert_shape(values, predictions.shape[:-3])
    return _means.weighted_mean(
        1 - values[..., None], None if weights is None else weights[..., None], axis_name
    )


def _prepare(
    predictions: ArrayLike, targets: ArrayLike, data_range: ArrayLike, mask: ArrayLike | None
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """The images scaled to range 1, with 0 where the mask is 0, and the mask.

    The images are ``[..., H, W, C]``, the mask ``[..., H, W, 1]``.
    """
    predictions, targets = _checks.check_pair(predictions, targets)
    weights = _checks.check_mask(mask, predictions)
    scale = _checks.check_data_range(data_range, predictions.dtype)
    chex.assert_equal_shape([predictions, targets])
    return (
        _means.hide_masked(predictions, weights) / scale,
        _means.hide_masked(targets, weights) / scale,
        weights,
    )
