"""One direction from the gradients of a loss's terms, as an alternative to a weighted sum.

The gradient of each term is averaged over microbatches and devices first. The methods depend on
angles between gradients, so the directions of parts of a batch would not add up to that of the
batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from lumloss_jax import losses
from train.balancing.learned_weights import Terms

METHODS = ("pcgrad", "mgda", "cagrad", "upgrad")
MOST_TERMS = 6


@dataclass(frozen=True)
class Aggregation:
    """Combines the gradients of terms by a method of :mod:`lumloss_jax.losses`."""

    method: str  # one of METHODS
    needs_norms: bool = False

    def init(self, names: Sequence[str]) -> Any:
        """Starts with weights of 1, which the first update replaces."""
        return {"weights": {name: jnp.ones(()) for name in names}}

    def total(self, state: Any, values: Terms) -> jax.Array:
        """Returns the sum of the losses, for the log. It is not differentiated as a whole."""
        scalars = list(values.values())
        return sum(scalars[1:], start=scalars[0])

    def weights(self, state: Any) -> Terms:
        """Returns the weights of the last update: 1 with upgrad and pcgrad if nothing conflicts."""
        return state["weights"]

    def combine(self, gradients: Mapping[str, Any], key: jax.Array) -> tuple[Any, Terms]:
        """Combines gradients.

        Args:
          gradients: gradients of the terms by name.
          key: random key of the update, which only pcgrad uses.

        Returns:
          The direction and the weight of each gradient. Means are multiplied by the number of
          terms. With upgrad and pcgrad, terms that do not conflict train as with their sum.
        """
        found = self._method(key)(gradients)
        factor = 1 if self.method == "pcgrad" else len(gradients)
        direction = jax.tree.map(lambda x: factor * x, found.direction)
        return direction, {name: factor * weight for name, weight in found.weights.items()}

    def _method(self, key: jax.Array) -> Callable[..., losses.GradientAggregation]:
        if self.method == "pcgrad":
            return lambda gradients: losses.pcgrad(key, gradients)
        return {"mgda": losses.mgda, "cagrad": losses.cagrad, "upgrad": losses.upgrad}[self.method]


def gradients_of_parts(
    parts_of: Callable[[Any], tuple[tuple[jax.Array, ...], Any]],
    params: Any,
    *,
    own: Callable[[Any], Any] = lambda x: x,
) -> tuple[Any, tuple[Any, ...]]:
    """Differentiates several scalars, with one forward pass and one backward pass for each.

    Args:
      parts_of: function of the parameters that returns the scalars, and anything else.
      params: the parameters.
      own: under a mapped axis, marks arrays as different on each device.

    Returns:
      Whatever the function returns in addition to the scalars, and a gradient for each scalar.
    """
    parts, pull_back, more = jax.vjp(parts_of, params, has_aux=True)
    gradients = []
    for i in range(len(parts)):
        seeds = own(tuple(jnp.full((), j == i, part.dtype) for j, part in enumerate(parts)))
        (gradient,) = pull_back(seeds)
        gradients.append(gradient)
    return more, tuple(gradients)
