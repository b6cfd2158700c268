"""Loss weights that are learned together with the network, by three methods with one interface.

The state of a method is a pytree in the train state. ``update`` changes it in each step, after the
network's own update.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax

from lumloss_jax import losses

Terms = Mapping[str, jax.Array]


class Balancing(Protocol):
    """A method of weighing several losses."""

    @property
    def needs_norms(self) -> bool:
        """Whether :meth:`update` needs the norms of the losses' gradients."""

    def init(self, names: Sequence[str]) -> Any:
        """Returns the state before the first step, for losses of these names."""

    def total(self, state: Any, values: Terms) -> jax.Array:
        """Returns the scalar that the network's parameters are trained to minimise."""

    def weights(self, state: Any) -> Terms:
        """Returns the weight of each loss, for the log."""

    def update(self, state: Any, values: Terms, norms: Terms) -> Any:
        """Returns the state for the next step.

        Args:
          state: the state of this step.
          values: the losses of this step, as scalars by name.
          norms: norms of the losses' gradients at the restored image; {} if they are not needed.

        Returns:
          The new state.
        """


@dataclass(frozen=True)
class Uncertainty:
    """Divides each loss by its uncertainty, which Adam learns."""

    squared: frozenset[str]  # losses that are squared errors; the others are absolute errors
    rate: float  # learning rate of Adam
    needs_norms: bool = False

    def init(self, names: Sequence[str]) -> Any:
        """Starts with uncertainties of 1."""
        scales = losses.uncertainty_init(dict.fromkeys(names, 0.0))
        return {"scales": scales, "moments": optax.adam(self.rate).init(scales)}

    def total(self, state: Any, values: Terms) -> jax.Array:
        """Sums the losses, divided by their uncertainties, over both kinds of error."""
        return self._total(state["scales"], values)

    def weights(self, state: Any) -> Terms:
        """Returns 1 / (2 s^2) for squared errors and 1 / |s| for absolute errors."""
        found: dict[str, jax.Array] = {}
        for likelihood, names in self._kinds(state["scales"]):
            scales = {name: state["scales"][name] for name in names}
            found |= losses.uncertainty_weights(scales, likelihood=likelihood)
        return found

    def update(self, state: Any, values: Terms, norms: Terms) -> Any:
        """Takes one step of Adam along the gradient that joint training would have.

        Args:
          state: the state of this step.
          values: the losses of this step. They are constants here.
          norms: not used.

        Returns:
          The new state.
        """
        gradients = jax.grad(self._total)(state["scales"], values)
        updates, moments = optax.adam(self.rate).update(gradients, state["moments"])
        return {"scales": optax.apply_updates(state["scales"], updates), "moments": moments}

    def _total(self, scales: Terms, values: Terms) -> jax.Array:
        totals = [
            losses.uncertainty_loss(
                {n: scales[n] for n in names}, {n: values[n] for n in names}, likelihood=likelihood
            )
            for likelihood, names in self._kinds(values)
        ]
        return sum(totals[1:], start=totals[0])

    def _kinds(self, names: Terms) -> list[tuple[str, list[str]]]:
        squared = [name for name in names if name in self.squared]
        absolute = [name for name in names if name not in self.squared]
        return [kind for kind in (("gaussian", squared), ("laplace", absolute)) if kind[1]]


@dataclass(frozen=True)
class GradNorm:
    """Makes all losses fall at equal rates.

    The gradients are taken at the restored image, which all losses have in common.
    """

    rate: float  # learning rate of the weights
    needs_norms: bool = True

    def init(self, names: Sequence[str]) -> Any:
        """Starts with weights of 1. Progress is measured against the losses of the first step."""
        state = losses.gradnorm_init({name: jnp.zeros(()) for name in names})
        return {"gradnorm": state, "started": jnp.zeros((), bool)}

    def total(self, state: Any, values: Terms) -> jax.Array:
        """Returns the weighted sum of the losses."""
        return _weighted_sum(self.weights(state), values)

    def weights(self, state: Any) -> Terms:
        """Returns the weights, which sum to the number of losses."""
        return state["gradnorm"].weights

    def update(self, state: Any, values: Terms, norms: Terms) -> Any:
        """Takes one step of GradNorm.

        Args:
          state: the state of this step.
          values: the losses of this step.
          norms: norms of the losses' gradients at the restored image.

        Returns:
          The new state.
        """
        before = state["gradnorm"]
        initial = jax.tree.map(
            lambda old, new: jnp.where(state["started"], old, new),
            before.initial_losses,
            dict(values),
        )
        after = losses.gradnorm_update(
            before._replace(initial_losses=initial),
            dict(values),
            dict(norms),
            learning_rate=self.rate,
        )
        return {"gradnorm": after, "started": jnp.ones((), bool)}


@dataclass(frozen=True)
class Dwa:
    """Gives the largest weights to the losses that fell least from one period to the next."""

    every: int  # steps in a period, over which losses are averaged
    needs_norms: bool = False

    def init(self, names: Sequence[str]) -> Any:
        """Starts with weights of 1, which stay until two periods are over."""
        zeros = {name: jnp.zeros(()) for name in names}
        return {"dwa": losses.dwa_init(zeros), "sums": zeros, "count": jnp.zeros((), jnp.int32)}

    def total(self, state: Any, values: Terms) -> jax.Array:
        """Returns the weighted sum of the losses."""
        return _weighted_sum(self.weights(state), values)

    def weights(self, state: Any) -> Terms:
        """Returns the weights, which sum to the number of losses."""
        return losses.dwa_weights(state["dwa"])

    def update(self, state: Any, values: Terms, norms: Terms) -> Any:
        """Adds a step to the period. The last step of a period changes the weights.

        Args:
          state: the state of this step.
          values: the losses of this step.
          norms: not used.

        Returns:
          The new state.
        """
        sums = jax.tree.map(jnp.add, state["sums"], dict(values))
        count = state["count"] + 1
        full = count >= self.every
        ended = losses.dwa_update(state["dwa"], jax.tree.map(lambda x: x / count, sums))
        return {
            "dwa": jax.tree.map(lambda new, old: jnp.where(full, new, old), ended, state["dwa"]),
            "sums": jax.tree.map(lambda x: jnp.where(full, 0, x), sums),
            "count": jnp.where(full, 0, count),
        }


def _weighted_sum(weights: Terms, values: Terms) -> jax.Array:
    products = [weights[name] * values[name] for name in values]
    return sum(products[1:], start=products[0])
