"""Weighted sums of named losses, which return the total and every term."""

import collections
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _checks, _means
from lumloss_jax._means import AxisName
from lumloss_jax.losses._spec import LOSSES, LossSpec
from lumloss_jax.losses._spec_parser import parse_loss

Loss = Callable[..., Any]
Terms = dict[str, jax.Array]


class ComposedLoss(Protocol):
    """What :func:`make_loss` returns: a loss that returns its total and its terms."""

    def __call__(
        self,
        predictions: ArrayLike,
        targets: ArrayLike,
        *,
        weights: Mapping[str, ArrayLike] | None = None,
        mask: ArrayLike | None = None,
        axis_name: AxisName | None = None,
    ) -> tuple[jax.Array, Terms]:
        """Returns ``(total, terms)``."""
        ...


def weighted_sum(
    losses: Mapping[str, Loss],
    weights: Mapping[str, ArrayLike],
    predictions: Any,
    targets: Any,
    *,
    mask: ArrayLike | None = None,
    axis_name: AxisName | None = None,
) -> tuple[jax.Array, Terms]:
    r"""Weighted sum of named losses of one prediction, and the value of each loss.

    .. math::
        L = \sum_i w_i \, L_i(P, T)

    The losses may be any functions of (predictions, targets): functions of this library, with
    options bound by ``functools.partial``, or your own. The weights are data: if they are traced
    (learned, scheduled, swept by vmap), changing them does not cause a new trace.

    Args:
      losses: name -> ``loss(predictions, targets)``, which returns one scalar, or a scalar and a
        dict of its parts (as a composed loss does). A loss is also called with ``mask`` and
        ``axis_name`` if these are given.
      weights: name -> weight, one for each loss; numbers of shape (), 0 or more, may be traced.
      predictions: passed unchanged to every loss.
      targets: passed unchanged to every loss.
      mask: weights per pixel, for every loss; if None, the losses are called without it.
      axis_name: mapped axis or axes to take the means over, for every loss; if None, the losses are
        called without it.

    Returns:
      ``(total, terms)``: the weighted sum, shape (), lower is better, float64 if a term is, else
      float32; and the unweighted value of each loss under its name, in the order given. Parts
      follow their loss under their own names, or as ``"loss.part"`` if two would have the same
      name.

    Raises:
      ValueError: when traced, for no losses, for weights whose names differ from the names of the
        losses, for a weight that is not a number or is concretely negative, for a loss that does
        not return a scalar, and for a mask or axis_name that a loss does not accept.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from lumloss_jax import losses
      >>> targets = jnp.zeros((1, 2, 2, 1))
      >>> functions = {"l1": losses.l1_loss, "mse": losses.mse_loss}
      >>> weights = {"l1": 1.0, "mse": 10.0}
      >>> total, terms = losses.weighted_sum(functions, weights, targets + 0.1, targets)
      >>> print(f"{total:.4f} = {terms['l1']:.4f} + 10 * {terms['mse']:.4f}")
      0.2000 = 0.1000 + 10 * 0.0100
    """
    if not losses:
        raise ValueError("losses is empty: give at least one name and function.")
    _check_names(losses, weights)
    context = {"mask": mask, "axis_name": axis_name}
    context = {keyword: value for keyword, value in context.items() if value is not None}
    values: Terms = {}
    parts: dict[str, Terms] = {}
    for name, loss in losses.items():
        _check_takes(name, loss, context)
        values[name], parts[name] = _as_value_and_parts(name, loss(predictions, targets, **context))
    dtype = _means.accumulation_dtype(*values.values())
    total = jnp.zeros((), dtype)
    for name, value in values.items():
        weight = _checks.check_scalar(f"the weight of {name!r}", weights[name], dtype)
        total = total + weight * value.astype(dtype)
    return total, _merge(values, parts)


def make_loss(spec: LossSpec | str) -> ComposedLoss:
    """The loss of a spec as one function of (predictions, targets).

    The same spec gives the same function object, so that jit reuses what it has compiled.

    Args:
      spec: a :class:`LossSpec`, or its text.

    Returns:
      ``f(predictions, targets, *, weights=None, mask=None, axis_name=None) -> (total, terms)``: the
      weighted sum, shape (), lower is better, and the unweighted value of each term by its label. A
      luminance_l1 term is followed by its two parts, "luminance" and "color" (prefixed with
      ``"label."`` if a spec holds several); nothing is computed twice. ``weights``, label ->
      number, replaces the spec's weights; they may be traced, and changing them does not cause a
      new trace.

    Raises:
      ValueError: in the same cases as :func:`parse_loss`. The returned function raises what its
        losses raise.

    Example:
      >>> import jax.numpy as jnp
      >>> loss = make_loss("luminance_l1 + 0.1*mse")
      >>> targets = jnp.zeros((1, 4, 4, 3))
      >>> total, terms = loss(targets + 0.1, targets)
      >>> print(f"{total:.4f}", list(terms))
      0.1010 ['luminance_l1', 'luminance', 'color', 'mse']
    """
    return _loss_of_spec(parse_loss(spec) if isinstance(spec, str) else spec)


@functools.cache
def _loss_of_spec(spec: LossSpec) -> ComposedLoss:
    losses = {
        term.label: functools.partial(LOSSES[term.name].call, **dict(term.options))
        for term in spec.terms
    }
    own_weights = {term.label: term.weight for term in spec.terms}

    def loss(
        predictions: ArrayLike,
        targets: ArrayLike,
        *,
        weights: Mapping[str, ArrayLike] | None = None,
        mask: ArrayLike | None = None,
        axis_name: AxisName | None = None,
    ) -> tuple[jax.Array, Terms]:
        chosen = own_weights if weights is None else weights
        return weighted_sum(losses, chosen, predictions, targets, mask=mask, axis_name=axis_name)

    loss.__doc__ = f"{spec}, as a function of (predictions, targets) that gives (total, terms)."
    return loss


def _check_names(losses: Mapping[str, Loss], weights: Mapping[str, ArrayLike]) -> None:
    for name in weights:
        if name not in losses:
            known = ", ".join(map(repr, losses))
            hint = _checks.did_you_mean(name, losses)
            raise ValueError(f"weights has {name!r}, but the losses are {known}{hint}")
    missing = [name for name in losses if name not in weights]
    if missing:
        raise ValueError(
            f"weights lacks {', '.join(map(repr, missing))}: give every loss a weight, even if it "
            "is 1.0."
        )


def _check_takes(name: str, loss: Loss, keywords: Mapping[str, object]) -> None:
    """Raises an error that names a loss that cannot be masked or averaged over shards."""
    try:
        parameters = inspect.signature(loss).parameters.values()
    except (TypeError, ValueError):
        return  # the signature cannot be read: the loss raises its own error
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    for keyword in keywords:
        if not any(p.name == keyword and p.kind is not p.POSITIONAL_ONLY for p in parameters):
            raise ValueError(
                f"the loss {name!r} does not accept {keyword}: leave {keyword} out, or give the "
                f"loss a keyword argument {keyword}=None."
            )


def _as_value_and_parts(name: str, result: Any) -> tuple[jax.Array, Terms]:
    value, parts = result if isinstance(result, tuple) and len(result) == 2 else (result, {})
    if isinstance(parts, Mapping):
        named = {name: value, **{f"{name}.{part}": number for part, number in parts.items()}}
        shapes = {label: getattr(number, "shape", None) for label, number in named.items()}
        if all(shape == () for shape in shapes.values()):
            return value, dict(parts)
        wrong = next(label for label, shape in shapes.items() if shape != ())
        got = (
            type(named[wrong]).__name__
            if shapes[wrong] is None
            else f"an array of shape {shapes[wrong]}"
        )
    else:
        wrong, got = name, type(result).__name__
    raise ValueError(
        f"the loss {wrong!r} returned {got}, but a loss must return one scalar array: take the "
        "mean of values per image or per pixel. A loss that also returns its parts returns "
        "(scalar, dict of scalars)."
    )


def _merge(values: Terms, parts: dict[str, Terms]) -> Terms:
    """All losses, each followed by its parts.

    Parts that would have the same name are called ``loss.part``.
    """
    uses = collections.Counter(values)
    for terms in parts.values():
        uses.update(terms.keys())
    merged: Terms = {}
    for name, value in values.items():
        merged[name] = value
        for part, number in parts[name].items():
            merged[part if uses[part] == 1 else f"{name}.{part}"] = number
    return merged
