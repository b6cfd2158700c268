"""Gradient loss: L1 between spatial derivatives, which sees blur and ringing but no shift."""

import functools

import chex
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from lumloss_jax import _checks, _means
from lumloss_jax._absolute import absolute
from lumloss_jax._means import AxisName

OPERATORS = ("sobel", "difference")


def gradient_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    operator: str = "sobel",
    mask: ArrayLike | None = None,
    axis_name: AxisName | None = None,
) -> jax.Array:
    r"""Mean absolute error of the spatial derivatives, down and across, channel by channel.

    .. math::
        L = \tfrac{1}{2} \, \mathrm{mean} \, |\partial_y (P - T)|
          + \tfrac{1}{2} \, \mathrm{mean} \, |\partial_x (P - T)|

    Derivatives are per pixel: a ramp that rises by 0.1 from pixel to pixel has derivative 0.1 under
    both operators. The usual Sobel kernels, which are not normalised, give 8 times that. Nothing is
    padded: there are derivatives only where all the pixels that they read are inside the image. The
    loss does not see a constant shift, so add it to a loss that does.

    Args:
      predictions: float array ``[..., H, W, C]``, C = 3 (red, green, blue) or 1; nominal range [0,
        1], not clipped; H and W at least 3 for Sobel, 2 for differences.
      targets: float array of the same shape.
      operator: ``"sobel"``, a central difference smoothed by (1, 2, 1) / 4 along the other axis,
        which is less sensitive to noise; ``"difference"``, the next pixel minus this one, which
        sees the finest detail.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1. The
        weight of a derivative is the smallest weight in its window (3 x 3, or 2). Where the mask is
        0, the images are not read. If nothing is left, the loss and its gradient are 0.
      axis_name: mapped axis or axes (pmap, shard_map) over which numerator and weight are summed
        first, which gives the value over all shards. H and W themselves cannot be sharded.

    Returns:
      The loss, shape (), 0 or more, lower is better; float64 for float64 input, else float32.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape or are too small, for an unknown operator, or for a mask that does not fit or is
        concretely negative.

    References:
      Sobel and Feldman, "An isotropic 3x3 image gradient operator", 1968. Mathieu, Couprie, LeCun,
      "Deep multi-scale video prediction beyond mean square error", ICLR 2016, arXiv:1511.05440.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.zeros((1, 4, 4, 1))
      >>> # rises by 0.1 across, and not at all down
      >>> ramp = targets + 0.1 * jnp.arange(4.0).reshape(1, 1, 4, 1)
      >>> sobel = gradient_loss(ramp, targets)
      >>> difference = gradient_loss(ramp, targets, operator="difference")
      >>> print(f"{sobel:.4f} {difference:.4f}")
      0.0500 0.0500
    """
    predictions, targets = _checks.check_pair(predictions, targets)
    mask = _checks.check_mask(mask, predictions)
    _checks.check_option("operator", operator, OPERATORS)
    least = 3 if operator == "sobel" else 2
    if any(isinstance(size, int) and size < least for size in predictions.shape[-3:-1]):
        raise ValueError(
            f"images of shape {predictions.shape} are too small: operator={operator!r} needs "
            f"at least {least} x {least} pixels."
        )
    chex.assert_equal_shape([predictions, targets])

    # Derivatives are linear, so they are taken once, of the difference.
    difference = _means.hide_masked(predictions, mask) - _means.hide_masked(targets, mask)
    weights = (
        None
        if mask is None
        else jnp.broadcast_to(mask, (*mask.shape[:-3], *difference.shape[-3:-1], 1))
    )
    terms = []
    for axis, other in ((-3, -2), (-2, -3)):
        if operator == "sobel":
            before, middle, after = _windows(difference, 3, other)
            smooth = 0.25 * before + 0.5 * middle + 0.25 * after
            before, _, after = _windows(smooth, 3, axis)
            derivative, sides = 0.5 * (after - before), (3, 3)
        else:
            this, following = _windows(difference, 2, axis)
            derivative, sides = following - this, (2, 1)
        counts = weights
        if counts is not None:
            for side, along in zip(sides, (axis, other), strict=True):
                counts = functools.reduce(jnp.minimum, _windows(counts, side, along))
        terms.append(_means.weighted_mean(absolute(derivative), counts, axis_name))
    down, across = terms
    return 0.5 * (down + across)


def _windows(image: jax.Array, size: int, axis: int) -> list[jax.Array]:
    """The first, second, ... pixel of each window of ``size`` along an axis.

    Windows lie inside the image.
    """
    axis += image.ndim
    length = image.shape[axis] - (size - 1)
    return [lax.slice_in_dim(image, k, k + length, axis=axis) for k in range(size)]
