"""GT-mean: makes a loss ignore overall brightness once it is nearly right."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from lumloss_jax import _checks, _means
from lumloss_jax._means import AxisName
from lumloss_jax.color._luma import COEFFICIENTS, sum_channels


def gt_mean(
    loss: Callable[..., Any], *, sigma: float = 0.1, epsilon: float = 1e-3, clip: bool = True
) -> Callable[..., Any]:
    r"""The GT-mean form of a loss, which also compares the images at equal mean brightness.

    .. math::
        L_\text{GT}(P, T) = W \, L(P, T) + (1 - W) \, L\Big(\frac{\mu_T}{\mu_P} P, T\Big)

    image by image, where :math:`\mu` is the mean luma (Rec. 601) of the image and W, clipped to [0,
    1], is the Bhattacharyya distance of two Gaussians with means :math:`\mu_P, \mu_T` and standard
    deviations :math:`\sigma \mu_P, \sigma \mu_T`:

    .. math::
        W = \frac{(\mu_P - \mu_T)^2}{4 \sigma^2 (\mu_P^2 + \mu_T^2)}
          + \frac{1}{2} \log \frac{\mu_P^2 + \mu_T^2}{2 \mu_P \mu_T}

    Far from the right brightness, W is 1 and the loss is unchanged. Close to it, W is 0 and the
    loss sees what brightness had hidden: noise, colour and structure.

    Two things differ from the authors' public code, which can give NaN on black images and
    differentiates through the ratio of the means: here the means are at least ``epsilon``, and no
    gradient flows through the ratio or through W, so the gradient is the gradient of the loss at a
    given gain.

    Args:
      loss: any loss of (predictions, targets) that accepts ``mask`` and ``axis_name``, as the
        losses of this library do; it may also return (total, terms), as composed losses do. Each
        image's W is passed to it as a weight per image.
      sigma: standard deviation of the Gaussians divided by their mean, above 0, static. W is 1 if
        the means are more than about 2.8 sigma apart, relative to their size.
      epsilon: the smallest mean brightness, above 0, static. It keeps the ratio and W finite for
        black images, and for predictions with a mean of 0 or less, which can occur early in
        training.
      clip: whether to clip the brightened prediction to [0, 1], as the authors do. Pixels outside
        get no gradient from the second term then.

    Returns:
      ``f(predictions, targets, *, mask=None, axis_name=None, **options)``, which returns what
      ``loss`` returns, 0 or more and lower is better if that is so for ``loss``. Options are passed
      on to it. A mask also weights the means.

    Raises:
      ValueError: for a loss that cannot be called, or a sigma or epsilon that is not above 0. The
        returned function raises what ``loss`` raises.

    References:
      Liao et al., "GT-mean loss: a simple yet effective solution for brightness mismatch in
      low-light image enhancement", ICCV 2025, arXiv:2507.20148.

    Example:
      >>> import jax.numpy as jnp
      >>> from lumloss_jax import losses
      >>> targets = jnp.full((1, 4, 4, 3), 0.5)
      >>> darker = 0.98 * targets
      >>> plain, matched = losses.l1_loss, gt_mean(losses.l1_loss)
      >>> print(f"{plain(darker, targets):.5f} {matched(darker, targets):.5f}")
      0.01000 0.00005
    """
    if not callable(loss):
        raise ValueError(f"loss must be a function of (predictions, targets); got {loss!r}.")
    sigma = _checks.check_static_number("sigma", sigma, above=0)
    epsilon = _checks.check_static_number("epsilon", epsilon, above=0)

    def gt_mean_loss(
        predictions: ArrayLike,
        targets: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        axis_name: AxisName | None = None,
        **options: Any,
    ) -> Any:
        predictions, targets = _checks.check_pair(predictions, targets)
        mask = _checks.check_mask(mask, predictions)
        if mask is None:
            mask = jnp.ones((*predictions.shape[:-3], 1, 1, 1), predictions.dtype)
        mean_p = jnp.maximum(_mean_luma(predictions, mask), epsilon)  # [..., 1, 1, 1]
        mean_t = jnp.maximum(_mean_luma(targets, mask), epsilon)
        gain = lax.stop_gradient(mean_t / mean_p)
        distance = lax.stop_gradient(jnp.clip(_bhattacharyya(mean_p, mean_t, sigma), 0, 1))

        matched = gain * predictions
        matched = jnp.clip(matched, 0, 1) if clip else matched
        shares = jnp.mean(mask, axis=(-3, -2, -1), keepdims=True)  # weight of each image
        mean_distance = _means.weighted_mean(distance, shares, axis_name)
        # A loss weights an image by its mask and divides by the sum of all weights; multiplying by
        # the mean weight undoes that division.
        as_it_is = loss(predictions, targets, mask=distance * mask, axis_name=axis_name, **options)
        brightened = loss(
            matched, targets, mask=(1 - distance) * mask, axis_name=axis_name, **options
        )
        return jax.tree.map(
            lambda plain, equal: (mean_distance * plain + (1 - mean_distance) * equal).astype(
                plain.dtype
            ),
            as_it_is,
            brightened,
        )

    return gt_mean_loss


def _mean_luma(image: jax.Array, mask: jax.Array) -> jax.Array:
    # [..., H, W, 1]
    luma = sum_channels(_means.hide_masked(image, mask), COEFFICIENTS["rec601"])
    weights = jnp.broadcast_to(mask, luma.shape)
    weight = jnp.sum(weights, axis=(-3, -2, -1), keepdims=True)
    return jnp.sum(weights * luma, axis=(-3, -2, -1), keepdims=True) / jnp.where(
        weight == 0, 1, weight
    )


def _bhattacharyya(mean_p: jax.Array, mean_t: jax.Array, sigma: float) -> jax.Array:
    """Distance of two Gaussians whose standard deviations are sigma times their means."""
    squares = mean_p * mean_p + mean_t * mean_t
    apart = (mean_p - mean_t) ** 2 / (4 * sigma**2 * squares)
    return apart + 0.5 * jnp.log(squares / (2 * mean_p * mean_t))
