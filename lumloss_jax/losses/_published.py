"""Losses that published networks were trained with: NAFNet's, HVI-CIDNet's, and its edge term."""

import math

import chex
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _checks, _filters, _laplacian, _means, _ssim
from lumloss_jax._absolute import absolute
from lumloss_jax._means import AxisName
from lumloss_jax.color._hvi import pair_to_hvi

_DECIBELS = 10 / math.log(10)
# Keeps the logarithm and its slope finite for equal images, whose value is -80 dB.
_PSNR_FLOOR = 1e-8


def psnr_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    axis_name: AxisName | None = None,
) -> jax.Array:
    r"""The negative PSNR of each image in dB, averaged over images.

    .. math::
        L = \mathrm{mean}_n \, 10 \log_{10} \big(\mathrm{mean}_\text{elements} \, (P_n - T_n)^2
          + 10^{-8}\big)

    The gradient grows as the error shrinks, so NAFNet clips its norm at 0.01.

    Args:
      predictions: float array ``[..., H, W, C]``, as for :func:`l1_loss`.
      targets: float array of the same shape.
      mask: weights per pixel, see :func:`l1_loss`. The mean over images becomes a weighted mean, in
        which the weight of an image is the mean of its mask.
      axis_name: mapped axis or axes to take the mean over images over, see :func:`l1_loss`. H and W
        themselves cannot be sharded.

    Returns:
      The loss in dB, shape (), -80 (equal) or more, lower is better; negative for good images;
      float64 for float64 input, else float32.

    Raises:
      ValueError: in the same cases as :func:`l1_loss`.

    References:
      Chen et al., "Simple baselines for image restoration", ECCV 2022, arXiv:2204.04676.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.zeros((1, 2, 2, 1))
      >>> print(f"{psnr_loss(targets + 0.1, targets):.2f} {psnr_loss(targets, targets):.2f}")
      -20.00 -80.00
    """
    predictions, targets, mask = _prepare(predictions, targets, mask)
    squares = jnp.square(predictions - targets)
    axes = (-3, -2, -1)
    if mask is None:
        weights, errors = None, jnp.mean(squares, axes)
    else:
        spread = jnp.broadcast_to(mask, squares.shape)
        total, weight = jnp.sum(squares * mask, axes), jnp.sum(spread, axes)
        # An image without weight counts as equal, with weight 0
        errors = total / jnp.where(weight == 0, jnp.ones_like(weight), weight)
        weights = (weight / math.prod(squares.shape[-3:]))[..., None]
    values = _DECIBELS * jnp.log(errors + _PSNR_FLOOR)
    return _means.weighted_mean(values[..., None], weights, axis_name)


def laplacian_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    axis_name: AxisName | None = None,
) -> jax.Array:
    r"""Mean squared error of the Laplacians, which sees edges and details.

    .. math::
        L = \mathrm{mean}_\text{elements} \, \big(\Delta(P - T)\big)^2, \quad
        \Delta x = x - G(D(G(x)))

    with G a 5 x 5 filter, the outer product of 0.05, 0.25, 0.4, 0.25, 0.05, which repeats the edges
    of the image, and D the multiplication of every second row and column by 4 and of all other
    pixels by 0. A constant shift of brightness counts at the border only.

    Args:
      predictions: float array ``[..., H, W, C]``, as for :func:`l1_loss`.
      targets: float array of the same shape.
      mask: weights per pixel, see :func:`l1_loss`. The weight of a Laplacian is the smallest weight
        within the 4 pixels that it reads, so that masked pixels do not leak.
      axis_name: mapped axis or axes to take the mean over, see :func:`l1_loss`. H and W themselves
        cannot be sharded.

    Returns:
      The loss, shape (), 0 or more, lower is better; float64 for float64 input, else float32.

    Raises:
      ValueError: in the same cases as :func:`l1_loss`.

    References:
      Protocol: the edge loss of HVI-CIDNet's code. Jiang et al., "Multi-scale progressive fusion
      network for single image deraining", CVPR 2020, arXiv:2003.10985, has a Charbonnier penalty
      instead of the square.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.zeros((1, 32, 32, 1))
      >>> columns = targets.at[:, :, ::2].set(0.1)  # its blurred form is 0.05 everywhere
      >>> print(f"{laplacian_loss(targets + 0.1, targets):.4f}")
      0.0003
      >>> print(f"{laplacian_loss(columns, targets):.4f}")
      0.0025
    """
    predictions, targets, mask = _prepare(predictions, targets, mask)
    return _edge_error(predictions - targets, mask, axis_name)


def cidnet_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    k: ArrayLike = 0.2,
    l1_weight: ArrayLike = 1.0,
    ssim_weight: ArrayLike = 0.5,
    edge_weight: ArrayLike = 50.0,
    hvi_weight: ArrayLike = 1.0,
    mask: ArrayLike | None = None,
    axis_name: AxisName | None = None,
) -> jax.Array:
    r"""HVI-CIDNet's loss: three terms in RGB, and the same three in HVI.

    .. math::
        L = T(P, T) + w_h \, T\big(\mathrm{HVI}(P), \mathrm{HVI}(T)\big), \quad
        T = w_1 \, L_1 + w_s \, (1 - \mathrm{SSIM}) + w_e \, L_\text{edge}

    L1 is :func:`l1_loss` and the edge term :func:`laplacian_loss`. Here SSIM is the mean over all
    pixels, as in the authors' code: windows reach beyond the border, where images count as 0, which
    makes it different from :func:`ssim_loss`. The published loss has one more term, 0.01 times the
    distance of VGG19 features, which needs weights: add :func:`perceptual_loss` for it.

    Args:
      predictions: float array ``[..., H, W, 3]``, red, green, blue, nominal range [0, 1].
      targets: float array of the same shape.
      k: exponent of HVI, above 0; one number, may be traced. The authors use the one that the
        network is learning.
      l1_weight: w_1, a number of shape (), 0 or more; it may be traced, as the following ones.
      ssim_weight: w_s.
      edge_weight: w_e.
      hvi_weight: w_h, the weight of the terms in HVI.
      mask: weights per pixel, see :func:`l1_loss`. The weight of an SSIM window or a Laplacian is
        the smallest weight in it.
      axis_name: mapped axis or axes to take the means over, see :func:`l1_loss`. H and W themselves
        cannot be sharded.

    Returns:
      The loss, shape (), 0 or more, lower is better; float64 for float64 input, else float32. Near
      black its gradient is large: up to thousands for k = 0.2.

    Raises:
      ValueError: in the same cases as :func:`l1_loss`, for images without three channels, and for a
        k that is concretely 0 or less.

    References:
      Yan et al., "HVI: a new color space for low-light image enhancement", CVPR 2025,
      arXiv:2502.20272.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.full((1, 16, 16, 3), 0.5)
      >>> print(f"{cidnet_loss(targets, targets):.4f}")
      0.0000
    """
    predictions, targets, mask = _prepare(predictions, targets, mask)
    if predictions.shape[-1] != 3:
        raise ValueError(
            f"cidnet_loss needs images with 3 channels, red, green, blue; these have "
            f"{predictions.shape[-1]}. Use l1_loss, ssim_loss and laplacian_loss for greyscale "
            "images."
        )
    weights = {"l1": l1_weight, "ssim": ssim_weight, "edge": edge_weight, "hvi": hvi_weight}
    checked = {
        name: _checks.check_scalar(f"{name}_weight", weight, predictions.dtype)
        for name, weight in weights.items()
    }

    def total(predictions: jax.Array, targets: jax.Array) -> jax.Array:
        terms = {
            "l1": _means.weighted_mean(absolute(predictions - targets), mask, axis_name),
            "ssim": _dissimilarity(predictions, targets, mask, axis_name),
            "edge": _edge_error(predictions - targets, mask, axis_name),
        }
        return (
            checked["l1"] * terms["l1"]
            + checked["ssim"] * terms["ssim"]
            + checked["edge"] * terms["edge"]
        )

    in_hvi = pair_to_hvi(predictions, targets, k)
    return total(predictions, targets) + checked["hvi"] * total(*in_hvi)


def _prepare(
    predictions: ArrayLike, targets: ArrayLike, mask: ArrayLike | None
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    predictions, targets = _checks.check_pair(predictions, targets)
    weights = _checks.check_mask(mask, predictions)
    chex.assert_equal_shape([predictions, targets])
    predictions, targets = (_means.hide_masked(x, weights) for x in (predictions, targets))
    return predictions, targets, weights


def _edge_error(
    difference: jax.Array, mask: jax.Array | None, axis_name: AxisName | None
) -> jax.Array:
    # The Laplacian is linear, so it is taken once, of the difference
    squares = jnp.square(_laplacian.laplacian(difference))
    if mask is not None:
        mask = _filters.least_around(mask, difference, _laplacian.REACH)
    return _means.weighted_mean(squares, mask, axis_name)


def _dissimilarity(
    predictions: jax.Array,
    targets: jax.Array,
    mask: jax.Array | None,
    axis_name: AxisName | None,
) -> jax.Array:
    """1 - SSIM over all pixels, with zeros around the images."""
    reach = _ssim.WINDOW_SIZE // 2
    around = [(0, 0)] * (predictions.ndim - 3) + [(reach, reach), (reach, reach), (0, 0)]
    padded = (jnp.pad(image, around) for image in (predictions, targets))
    similarity = _ssim.similarity_maps(*padded).similarity
    if mask is not None:
        mask = _filters.least_around(mask, predictions, reach)
    return _means.weighted_mean(1 - similarity, mask, axis_name)
