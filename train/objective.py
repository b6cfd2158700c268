"""What the step differentiates: the terms of a loss, learned weights, and the noise level."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lumloss_jax import losses
from train.balancing import Balancing, Dwa, GradNorm, Terms, Uncertainty
from train.errors import InputError

LEVEL = "noise_level"  # the value that BUIFD sows, and the term that trains it


class ObjectiveValues(NamedTuple):
    """The parts of the objective for one batch."""

    terms: Terms  # all terms by name
    balanced: Terms  # terms with learned weights; {} without any
    norms: Terms  # norms of their gradients at the restored image; {} if they are not needed


@dataclass(frozen=True)
class Objective:
    """A function ``(balance, restored, clean) -> (loss, values)``, from :func:`make_objective`."""

    loss: losses.ComposedLoss
    shown: tuple[str, ...]  # names of the terms to report
    # Names of the terms with learned weights, and the weights that the spec gives them
    scales: tuple[tuple[str, float], ...]
    balancing: Balancing | None  # None if the weights are fixed
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

    def weights(self, balance: Any) -> Terms:
        """Returns the learned weights by the names of their terms."""
        return {} if self.balancing is None else self.balancing.weights(balance)

    def update(self, balance: Any, values: ObjectiveValues) -> Any:
        """Returns the state of the learned weights for the next step."""
        if self.balancing is None:
            return balance
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
      balance: method to learn the weights of the terms: "none", "uncertainty", "gradnorm" or "dwa".
        If the spec has a single term with parts, the weights of the parts are learned.
      balance_rate: learning rate of the weights ("uncertainty" and "gradnorm").
      balance_every: number of steps over which losses are averaged ("dwa").
      level_weight: weight of the squared error of the noise level that the network predicts.
      level_sigma: noise that a predicted level of 1 stands for, in image units.

    Returns:
      The objective, which the step calls.

    Raises:
      InputError: ``balance`` needs two terms or more, and the spec has fewer.
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
    method: Balancing | None = None
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
        parents = {name: parsed.terms[0] for name in scales} | {
            term.label: term for term in parsed.terms
        }
        squared = [name for name in scales if _is_squared(parents[name])]
        methods: dict[str, Balancing] = {
            "uncertainty": Uncertainty(frozenset(squared), balance_rate),
            "gradnorm": GradNorm(balance_rate),
            "dwa": Dwa(balance_every),
        }
        method = methods[balance]
    return Objective(loss, shown, tuple(scales.items()), method, level_weight, level_sigma)


def _is_squared(term: losses.LossTerm) -> bool:
    """Whether a term is a squared error. All others are absolute errors."""
    return term.name == "mse" or dict(term.options).get("penalty") == "l2"
