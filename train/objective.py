"""What the step differentiates: the terms of a loss, learned weights, and the noise level.

With aggregation (:mod:`train.balancing.aggregation`), each term is differentiated separately.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lumloss_jax import losses
from train.balancing.aggregation import METHODS, MOST_TERMS, Aggregation
from train.balancing.learned_weights import Balancing, Dwa, GradNorm, Terms, Uncertainty
from train.errors import InputError
from train.randomness import AGGREGATION_STREAM

LEVEL = "noise_level"  # the value that BUIFD sows, and the term that trains it


class ObjectiveValues(NamedTuple):
    """The parts of the objective for one batch."""

    terms: Terms  # all terms by name
    balanced: Terms  # terms with learned weights; {} without any
    norms: Terms  # norms of their gradients at the restored image; {} if they are not needed
    # Weights that the aggregation of their gradients has found; {} before and without it
    weights: Terms = {}


@dataclass(frozen=True)
class Objective:
    """A function ``(balance, restored, clean) -> (loss, values)``, from :func:`make_objective`."""

    loss: losses.ComposedLoss
    shown: tuple[str, ...]  # names of the terms to report
    # Names of the terms with learned weights, and the weights that the spec gives them
    scales: tuple[tuple[str, float], ...]
    balancing: Balancing | Aggregation | None  # None if the weights are fixed
    level_weight: float  # weight of the error of the predicted noise level, 0 or more
    level_sigma: float  # noise that a predicted level of 1 stands for, in image units

    def init(self) -> Any:
        """Returns the first state of the learned weights; {} without any."""
        if self.balancing is None:
            return {}
        return self.balancing.init([name for name, _ in self.scales])

    def __call__(
        self,
        balance: Any,
        restored: jax.Array,
        clean: jax.Array,
        *,
        level: jax.Array | None = None,
        sigma: jax.Array | float = 0.0,
    ) -> tuple[jax.Array, ObjectiveValues]:
        """Computes the loss and the terms of a batch.

        Args:
          balance: from :meth:`init` or :meth:`update`.
          restored: the network's output, ``[B, H, W, C]``.
          clean: the target, ``[B, H, W, C]``.
          level: noise level that the network predicts, relative to ``level_sigma``,
            ``[B, H, W, C]``.
          sigma: true noise level in image units: one number, or one per image.

        Returns:
          The loss, a scalar, and its parts.
        """
        total, terms = self.loss(restored, clean)
        reported = {name: terms[name] for name in self.shown}
        balanced: Terms = {}
        norms: Terms = {}
        if self.balancing is not None:
            balanced = self._balanced(terms)
            total = self.balancing.total(balance, balanced)
            if self.balancing.needs_norms:
                image = jax.lax.stop_gradient(restored)
                norms = losses.gradient_norms(
                    lambda image: self._balanced(self.loss(image, clean)[1]), image
                )
        if level is not None and self.level_weight:
            target = jnp.reshape(jnp.asarray(sigma, jnp.float32) / self.level_sigma, (-1, 1, 1, 1))
            reported[LEVEL] = jnp.mean(jnp.square(level - target))
            total = total + self.level_weight * reported[LEVEL]
        return total, ObjectiveValues(reported, balanced, norms)

    def parts(self, total: jax.Array, values: ObjectiveValues) -> tuple[jax.Array, ...]:
        """Divides the loss into the scalars that are differentiated separately.

        Args:
          total: the loss.
          values: its parts, from the same call.

        Returns:
          The loss, or with aggregation each of its terms, and then the error of the noise level.
        """
        if not isinstance(self.balancing, Aggregation):
            return (total,)
        level = [self.level_weight * values.terms[LEVEL]] if LEVEL in values.terms else []
        return (*values.balanced.values(), *level)

    def combine(
        self,
        gradients: tuple[Any, ...],
        values: ObjectiveValues,
        *,
        key: jax.Array,
        index: jax.Array,
    ) -> tuple[Any, ObjectiveValues]:
        """Combines the gradients of :meth:`parts`, averaged over the whole batch.

        Args:
          gradients: one gradient for each part.
          values: the parts of the loss.
          key: random key of the run.
          index: index of the step.

        Returns:
          The gradient to follow, and the values with the weights that were found.
        """
        if not isinstance(self.balancing, Aggregation):
            return gradients[0], values
        key = jax.random.fold_in(jax.random.fold_in(key, AGGREGATION_STREAM), index)
        count = len(values.balanced)
        named = dict(zip(values.balanced, gradients[:count], strict=True))
        direction, weights = self.balancing.combine(named, key)
        for level in gradients[count:]:
            direction = jax.tree.map(jnp.add, direction, level)
        return direction, values._replace(weights=weights)

    def weights(self, balance: Any) -> Terms:
        """Returns the learned weights by the names of their terms."""
        return {} if self.balancing is None else self.balancing.weights(balance)

    def update(self, balance: Any, values: ObjectiveValues) -> Any:
        """Returns the state of the learned weights for the next step."""
        if self.balancing is None:
            return balance
        if isinstance(self.balancing, Aggregation):
            return {"weights": dict(values.weights)}
        return self.balancing.update(balance, values.balanced, values.norms)

    def _balanced(self, terms: Terms) -> dict[str, jax.Array]:
        return {name: scale * terms[name] for name, scale in self.scales}


def make_objective(
    spec: str,
    *,
    balance: str = "none",
    balance_rate: float = 0.025,
    balance_every: int = 200,
    level_weight: float = 0.0,
    level_sigma: float = 75 / 255,
) -> Objective:
    """Makes the objective of a spec such as "luminance_l1(window_size=7)".

    Args:
      spec: a loss, as :func:`lumloss_jax.losses.parse_loss` reads it.
      balance: method to learn the weights of the terms ("uncertainty", "gradnorm" or "dwa"), or to
        combine their gradients ("pcgrad", "mgda", "cagrad" or "upgrad"), or "none". If the spec has
        a single term with parts, this is about the parts.
      balance_rate: learning rate of the weights ("uncertainty" and "gradnorm").
      balance_every: number of steps over which losses are averaged ("dwa").
      level_weight: weight of the squared error of the noise level that the network predicts.
      level_sigma: noise that a predicted level of 1 stands for, in image units.

    Returns:
      The objective, which the step calls.

    Raises:
      InputError: ``balance`` needs two terms or more and the spec has fewer, or it combines the
        gradients of too many terms.
    """
    parsed = losses.parse_loss(spec)
    loss = losses.make_loss(parsed)
    # This finds the names of the terms. Nothing is computed.
    image = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    names = tuple(jax.eval_shape(loss, image, image)[1])
    labels = tuple(term.label for term in parsed.terms)
    # A single term equals the loss up to its weight, so only its parts are shown.
    shown = names if len(labels) > 1 else tuple(name for name in names if name not in labels)
    scales: Mapping[str, float] = {}
    method: Balancing | Aggregation | None = None
    if balance != "none":
        scales = (
            {term.label: term.weight for term in parsed.terms}
            if len(labels) > 1
            else dict.fromkeys(shown, 1.0)
        )
        if len(scales) < 2:
            raise InputError(
                f"--balance {balance} needs a --loss with two or more terms, such as "
                f'"l1 + ssim"; got {spec}.'
            )
        if balance in METHODS and len(scales) > MOST_TERMS:
            raise InputError(
                f"--balance {balance} accepts at most {MOST_TERMS} terms, because it tries all "
                f"subsets of them; {spec} has {len(scales)}. Leave some out, or use --balance "
                "gradnorm."
            )
        parents = {name: parsed.terms[0] for name in scales} | {
            term.label: term for term in parsed.terms
        }
        squared = [name for name in scales if _is_squared(parents[name])]
        methods: dict[str, Balancing | Aggregation] = {
            "uncertainty": Uncertainty(frozenset(squared), balance_rate),
            "gradnorm": GradNorm(balance_rate),
            "dwa": Dwa(balance_every),
            **{name: Aggregation(name) for name in METHODS},
        }
        method = methods[balance]
    return Objective(loss, shown, tuple(scales.items()), method, level_weight, level_sigma)


def _is_squared(term: losses.LossTerm) -> bool:
    """Whether a term is a squared error. All others are absolute errors."""
    return term.name == "mse" or dict(term.options).get("penalty") == "l2"
