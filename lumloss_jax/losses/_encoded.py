"""Losses of images in linear light: encoded first, so that equal steps look equally large."""

from collections.abc import Callable
from typing import Any

import jax
from jax.typing import ArrayLike

from lumloss_jax import _checks, _means
from lumloss_jax._means import AxisName
from lumloss_jax.color._luminance_encodings import linear_to_pq, linear_to_pu21

# PU21 gives 256 for 100 cd/m2, and the authors take that as the data range.
_PU21_RANGE = 256.0


def _pq(image: jax.Array, white: ArrayLike) -> jax.Array:
    return linear_to_pq(image, white=white)


def _pu21(image: jax.Array, white: ArrayLike) -> jax.Array:
    return linear_to_pu21(image, white=white) / _PU21_RANGE


ENCODINGS = {"pq": _pq, "pu21": _pu21}


def encoded(
    loss: Callable[..., Any], *, encode: str = "pu21", white: ArrayLike = 100.0
) -> Callable[..., Any]:
    r"""Adapts a loss to linear light: images are encoded perceptually before they are compared.

    .. math:: L_\text{encoded}(P, T) = L\big(e(P), e(T)\big)

    with e the perceptual encoding. A loss of linear light counts an error in the shadows far less
    than the eye does. Raw and HDR pipelines, whose images are linear, encode them first.

    Args:
      loss: any loss of (predictions, targets) that accepts ``mask`` and ``axis_name``, as those of
        this library do. It may also return (total, terms), as compositions do.
      encode: ``"pu21"``, divided by 256 so that 100 cd/m2 become 1, or ``"pq"``, where 10,000 cd/m2
        are 1. See :func:`lumloss_jax.color.linear_to_pu21` and
        :func:`lumloss_jax.color.linear_to_pq`.
      white: luminance of the value 1 in cd/m2, above 0; it may be traced. Images in cd/m2 have 1.

    Returns:
      ``f(predictions, targets, *, mask=None, axis_name=None, **options)`` of linear images
      ``[..., H, W, C]``. It returns what ``loss`` returns, and passes the options to it. Below
      0.005 cd/m2 its gradient is 0.

    Raises:
      ValueError: for a loss that cannot be called, an unknown encoding, or a white that is
        concretely 0 or less. The function raises what ``loss`` raises.

    References:
      SMPTE ST 2084:2014. Mantiuk, Azimi, "PU21: a novel perceptually uniform encoding for adapting
      existing quality metrics for HDR", PCS 2021.

    Example:
      >>> import jax.numpy as jnp
      >>> from lumloss_jax import losses
      >>> shadows, highlights = jnp.full((1, 4, 4, 3), 0.01), jnp.full((1, 4, 4, 3), 1.0)
      >>> loss = encoded(losses.l1_loss)
      >>> # the same error of 0.01 in linear light
      >>> print(f"{loss(shadows + 0.01, shadows):.3f} {loss(highlights + 0.01, highlights):.3f}")
      0.078 0.003
    """
    if not callable(loss):
        raise ValueError(f"loss must be a function of (predictions, targets); got {loss!r}.")
    encoding = ENCODINGS[_checks.check_option("encode", encode, ENCODINGS)]

    def encoded_loss(
        predictions: ArrayLike,
        targets: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        axis_name: AxisName | None = None,
        **options: Any,
    ) -> Any:
        predictions, targets = _checks.check_pair(predictions, targets)
        weights = _checks.check_mask(mask, predictions)
        return loss(
            encoding(_means.hide_masked(predictions, weights), white),
            encoding(_means.hide_masked(targets, weights), white),
            mask=mask,
            axis_name=axis_name,
            **options,
        )

    return encoded_loss
