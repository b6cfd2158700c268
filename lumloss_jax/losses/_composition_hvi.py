"""Losses in HVI, a colour space for dark images."""

from typing import Any

import jax
from jax.typing import ArrayLike

from lumloss_jax import _checks, _means
from lumloss_jax._means import AxisName
from lumloss_jax.color._hvi import pair_to_hvi
from lumloss_jax.losses._composition import make_loss
from lumloss_jax.losses._spec import LossSpec, LossTerm, add_loss, factor
from lumloss_jax.losses._spec_parser import parse_loss


def hvi_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    loss: LossSpec | str = "l1",
    k: ArrayLike = 0.2,
    mask: ArrayLike | None = None,
    axis_name: AxisName | None = None,
) -> jax.Array:
    r"""Any loss, of the images in HVI, where dark colours lie close together.

    .. math:: L_\text{HVI}(P, T) = L\big(\mathrm{HVI}(P), \mathrm{HVI}(T)\big)

    In a spec, the losses are written inside: ``"l1 + hvi(l1 + 0.5*ssim, k=0.3)"``. H and V may be
    negative, and losses that read brightness or colour take H, V, I for red, green, blue.

    Args:
      predictions: float array ``[..., H, W, 3]``, red, green, blue, nominal range [0, 1].
      targets: float array of the same shape.
      loss: a :class:`LossSpec`, or its text.
      k: exponent of :func:`lumloss_jax.color.rgb_to_hvi`, above 0; one number, may be traced.
      mask: weights per pixel, see :func:`l1_loss`.
      axis_name: mapped axis or axes to take the means over, see :func:`l1_loss`.

    Returns:
      The loss, shape (), lower is better; float64 for float64 input, else float32. Near black its
      gradient is large: up to thousands for k = 0.2.

    Raises:
      ValueError: for images that are not float ``[..., H, W, 3]`` of the same shape, a k that is
        concretely 0 or less, and in the same cases as :func:`parse_loss` and the losses inside.

    References:
      Yan et al., "HVI: a new color space for low-light image enhancement", CVPR 2025,
      arXiv:2502.20272.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.full((1, 4, 4, 3), 0.5)
      >>> # of a grey image only the intensity changes, one of three axes
      >>> print(f"{hvi_loss(targets + 0.3, targets):.4f}")
      0.1000
    """
    value, _ = hvi_with_parts(predictions, targets, loss=loss, k=k, mask=mask, axis_name=axis_name)
    return value


def hvi_with_parts(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    loss: LossSpec | str = "l1",
    k: ArrayLike = 0.2,
    mask: ArrayLike | None = None,
    axis_name: AxisName | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """:func:`hvi_loss`, and the value of each loss inside by its label."""
    predictions, targets = _checks.check_pair(predictions, targets)
    weights = _checks.check_mask(mask, predictions)
    predictions, targets = (_means.hide_masked(x, weights) for x in (predictions, targets))
    context: Any = {"mask": mask, "axis_name": axis_name}
    return make_loss(loss)(*pair_to_hvi(predictions, targets, k), **context)


def _inner(option: str, value: Any) -> LossSpec:
    """The losses inside."""
    spec = parse_loss(value) if isinstance(value, str) else value
    if not isinstance(spec, LossSpec):
        raise ValueError(f"{option} must be a loss spec or its text; got {value!r}.")
    if any(term.name == "hvi" for term in spec.terms):
        raise ValueError("hvi cannot contain hvi: its images are in that space already.")
    return spec


add_loss(
    "hvi",
    hvi_loss,
    checks={"loss": _inner, "k": factor},
    with_parts=hvi_with_parts,
    implied={"loss": LossSpec((LossTerm(1.0, "l1"),))},
)
