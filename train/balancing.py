"""Loss weights that are learned beside the network: the library's three methods behind one face.

A method's state is a pytree in the train state; ``update`` moves it in the step, after the
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
        """Whether :meth:`update` takes the norms of the losses' gradients."""

    def init(self, names: Sequence[str]) -> Any:
        """State before the first step."""

    def total(self, state: Any, values: Terms) -> jax.Array:
        """What the network's parameters are to make small."""

    def weights(self, state: Any) -> Terms:
        """One for each loss, for the log."""

    def update(self, state: Any, values: Terms, norms: Terms) -> Any:
        """State for the next step."""


@dataclass(frozen=True)
class Uncertainty:
    """Each loss over the uncertainty that it is learned to have; Adam moves the uncertainties."""

    squared: frozenset[str]  # losses that are squared errors; the others are absolute ones
    rate: float
    needs_norms: bool = False

    def init(self, names: Sequence[str]) -> Any:
        """Uncertainties of 1."""
        scales = losses.uncertainty_init(dict.fromkeys(names, 0.0))
        return {"scales": scales, "moments": optax.adam(self.rate).init(scales)}

    def total(self, state: Any, values: Terms) -> jax.Array:
        """Sum over the two kinds of error."""
        return self._total(state["scales"], values)

    def weights(self, state: Any) -> Terms:
        """1 / (2 s^2) or 1 / |s|."""
        found: dict[str, jax.Array] = {}
        for likelihood, names in self._kinds(state["scales"]):
            scales = {name: state["scales"][name] for name in names}
            found |= losses.uncertainty_weights(scales, likelihood=likelihood)
        return found

    def update(self, state: Any, values: Terms, norms: Terms) -> Any:
        """One step of Adam down the gradient that joint training would give.

        The losses hold still under it.
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
    """Losses train at equal rates. Gradients are those at the restored image, which all share."""

    rate: float
    needs_norms: bool = True

    def init(self, names: Sequence[str]) -> Any:
        """Weights of 1; the losses to measure progress against are those of the first step."""
        state = losses.gradnorm_init({name: jnp.zeros(()) for name in names})
        return {"gradnorm": state, "started": jnp.zeros((), bool)}

    def total(self, state: Any, values: Terms) -> jax.Array:
        """Weighted sum."""
        return _weighted(self.weights(state), values)

    def weights(self, state: Any) -> Terms:
        """They sum to the number of losses."""
        return state["gradnorm"].weights

    def update(self, state: Any, values: Terms, norms: Terms) -> Any:
        """One step of GradNorm."""
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
    """Losses that fell least from one stretch of steps to the next count most."""

    every: int  # steps in a stretch, over which losses are averaged
    needs_norms: bool = False

    def init(self, names: Sequence[str]) -> Any:
        """Weights of 1 until two stretches are over."""
        zeros = {name: jnp.zeros(()) for name in names}
        return {"dwa": losses.dwa_init(zeros), "sums": zeros, "count": jnp.zeros((), jnp.int32)}

    def total(self, state: Any, values: Terms) -> jax.Array:
        """Weighted sum."""
        return _weighted(self.weights(state), values)

    def weights(self, state: Any) -> Terms:
        """They sum to the number of losses."""
        return losses.dwa_weights(state["dwa"])

    def update(self, state: Any, values: Terms, norms: Terms) -> Any:
        """Adds a step to the stretch, and ends it where it is full."""
        sums = jax.tree.map(jnp.add, state["sums"], dict(values))
        count = state["count"] + 1
        full = count >= self.every
        ended = losses.dwa_update(state["dwa"], jax.tree.map(lambda x: x / count, sums))
        return {
            "dwa": jax.tree.map(lambda new, old: jnp.where(full, new, old), ended, state["dwa"]),
            "sums": jax.tree.map(lambda x: jnp.where(full, 0, x), sums),
            "count": jnp.where(full, 0, count),
        }


def _weighted(weights: Terms, values: Terms) -> jax.Array:
    products = [weights[name] * values[name] for name in values]
    return sum(products[1:], start=products[0])
