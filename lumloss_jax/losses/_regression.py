"""Pixel losses (means of a penalty of the difference), with which other losses are compared."""

import chex
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _checks, _means
from lumloss_jax._absolute import absolute
from lumloss_jax._means import AxisName
from lumloss_jax.losses import _penalties


def l1_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    axis_name: AxisName | None = None,
) -> jax.Array:
    r"""Mean absolute error.

    .. math::
        L = \mathrm{mean}_\text{elements} \, |P - T|

    Args:
      predictions: float array ``[..., H, W, C]``, C = 3 (red, green, blue) or 1; nominal range [0,
        1], not clipped.
      targets: float array of the same shape.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1; bool,
        integer or float, 0 or more. The mean becomes a weighted mean. Where the mask is 0, the
        images are not read: NaN there is harmless. If all weights are 0, the loss and its gradient
        are 0.
      axis_name: mapped axis or axes (pmap, shard_map) over which numerator and weight are summed
        first, which gives the value over all shards, also under uneven masks. Without it, the value
        is the shard's own.

    Returns:
      The loss, shape (), 0 or more, lower is better; float64 for float64 input, else float32.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape, or for a mask that does not fit or is concretely negative.

    References:
      Zhao et al., "Loss functions for image restoration with neural networks", IEEE TCI 3(1), 2017,
      arXiv:1511.08861.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.zeros((1, 2, 2, 1))
      >>> print(f"{l1_loss(targets.at[0, 0, 0, 0].set(0.8), targets):.4f}")
      0.2000
    """
    difference, mask = _difference(predictions, targets, mask)
    return _means.weighted_mean(absolute(difference), mask, axis_name)


def mse_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    axis_name: AxisName | None = None,
) -> jax.Array:
    r"""Mean squared error, without a factor of one half.

    .. math::
        L = \mathrm{mean}_\text{elements} \, (P - T)^2

    Args:
      predictions: float array ``[..., H, W, C]``, as for :func:`l1_loss`.
      targets: float array of the same shape.
      mask: weights per pixel, see :func:`l1_loss`.
      axis_name: mapped axis or axes to take the mean over, see :func:`l1_loss`.

    Returns:
      The loss, shape (), 0 or more, lower is better; float64 for float64 input, else float32.

    Raises:
      ValueError: in the same cases as :func:`l1_loss`.

    References:
      Zhang et al., "Beyond a Gaussian denoiser", IEEE TIP 26(7), 2017, arXiv:1608.03981, whose loss
      is a sum instead of a mean, with a half: H W C / 2 times this one.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.zeros((1, 2, 2, 1))
      >>> print(f"{mse_loss(targets.at[0, 0, 0, 0].set(0.8), targets):.4f}")
      0.1600
    """
    difference, mask = _difference(predictions, targets, mask)
    return _means.weighted_mean(jnp.square(difference), mask, axis_name)


def charbonnier_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    epsilon: ArrayLike = 1e-3,
    mask: ArrayLike | None = None,
    axis_name: AxisName | None = None,
) -> jax.Array:
    r"""Charbonnier loss: L1 that is rounded near 0, so that its gradient is smooth.

    .. math::
        L = \mathrm{mean}_\text{elements} \, \sqrt{(P - T)^2 + \epsilon^2}

    For equal images it is epsilon, not 0.

    Args:
      predictions: float array ``[..., H, W, C]``, as for :func:`l1_loss`.
      targets: float array of the same shape.
      epsilon: size below which L1 is rounded, in image units; one number above 0, may be traced.
        Some public code adds a number *e* to the square instead; for that, pass its square root.
      mask: weights per pixel, see :func:`l1_loss`.
      axis_name: mapped axis or axes to take the mean over, see :func:`l1_loss`.

    Returns:
      The loss, shape (), epsilon or more, lower is better; float64 for float64 input, else float32.

    Raises:
      ValueError: in the same cases as :func:`l1_loss`, and for a concrete epsilon below 1e-18,
        whose square is 0 in float32.

    References:
      Charbonnier et al., "Two deterministic half-quadratic regularization algorithms for computed
      imaging", ICIP 1994. Lai et al., "Deep Laplacian pyramid networks", CVPR 2017,
      arXiv:1704.03915.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.zeros((1, 2, 2, 1))
      >>> print(f"{charbonnier_loss(targets + 0.003, targets, epsilon=0.004):.4f}")
      0.0050
    """
    difference, mask = _difference(predictions, targets, mask)
    epsilon = _checks.check_scalar(
        "epsilon", epsilon, difference.dtype, minimum=_penalties.SMALLEST_SCALE
    )
    return _means.weighted_mean(_penalties.charbonnier(difference, epsilon), mask, axis_name)


def huber_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    delta: ArrayLike = 0.05,
    mask: ArrayLike | None = None,
    axis_name: AxisName | None = None,
) -> jax.Array:
    r"""Huber loss: a parabola for small differences, L1 for large ones.

    .. math::
        L = \mathrm{mean}_\text{elements} \begin{cases}
            d^2 / 2 & |d| \le \delta \\
            \delta \, (|d| - \delta / 2) & \text{else} \end{cases}, \quad d = P - T

    Args:
      predictions: float array ``[..., H, W, C]``, as for :func:`l1_loss`.
      targets: float array of the same shape.
      delta: where the parabola ends, in image units; one number above 0, may be traced. The default
        suits images in [0, 1]; with optax's default of 1.0, the loss would be half of
        :func:`mse_loss` on them.
      mask: weights per pixel, see :func:`l1_loss`.
      axis_name: mapped axis or axes to take the mean over, see :func:`l1_loss`.

    Returns:
      The loss, shape (), 0 or more, lower is better; float64 for float64 input, else float32.

    Raises:
      ValueError: in the same cases as :func:`l1_loss`, and for a concrete delta below 1e-18, whose
        square is 0 in float32.

    References:
      Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35(1),
      1964.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.zeros((1, 2, 2, 1))
      >>> print(f"{huber_loss(targets + 0.3, targets, delta=0.1):.4f}")
      0.0250
    """
    difference, mask = _difference(predictions, targets, mask)
    delta = _checks.check_scalar(
        "delta", delta, difference.dtype, minimum=_penalties.SMALLEST_SCALE
    )
    return _means.weighted_mean(_penalties.huber(difference, delta), mask, axis_name)


def _difference(
    predictions: ArrayLike, targets: ArrayLike, mask: ArrayLike | None
) -> tuple[jax.Array, jax.Array | None]:
    """P - T ``[..., H, W, C]``, 0 where the mask is 0, and the mask ``[..., H, W, 1]``."""
    predictions, targets = _checks.check_pair(predictions, targets)
    weights = _checks.check_mask(mask, predictions)
    chex.assert_equal_shape([predictions, targets])
    return _means.hide_masked(predictions, weights) - _means.hide_masked(targets, weights), weights
