"""What the step differentiates: the terms of a loss, learned weights, and a network's own terms."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lumloss_jax import losses
from train.balancing import Balancing, Dwa, GradNorm, Terms, Uncertainty
from train.errors import InputError

LEVEL = "noise_level"  # what BUIFD sows, and the name of the term that it is trained on


class ObjectiveValues(NamedTuple):
    """What the objective is made of for one batch."""

    terms: Terms  # all, by name
    balanced: Terms  # those whose weights are learned; {} if none are
    norms: Terms  # of their gradients at the restored image; {} if the method needs none


@dataclass(frozen=True)
class Objective:
    """(balance, restored, clean) -> (loss, values). Made by :func:`make_objective`."""

    loss: losses.ComposedLoss
    shown: tuple[str, ...]  # terms to report
    # Terms whose weights are learned, and the weights that the spec gives them
    scales: tuple[tuple[str, float], ...]
    balancing: Balancing | None
    level_weight: float
    level_sigma: float  # noise that a level of 1 stands for, in image units

    def init(self) -> Any:
        """State of the learned weights; {} without any."""
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
        """Loss and terms of a batch.

        Args:
          balance: from :meth:`init` or :meth:`update`.
          restored: ``[B, H, W, C]``.
          clean: likewise.
          level: noise level that the network saw, relative to ``level_sigma``, ``[B, H, W, C]``.
          sigma: the true one, in image units: one number, or one per image.

        Returns:
          The loss, a scalar, and what it is made of.
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
        """The learned weights, by the terms' names."""
        return {} if self.balancing is None else self.balancing.weights(balance)

    def update(self, balance: Any, values: ObjectiveValues) -> Any:
        """The state of the learned weights for the next step."""
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
      balance: how the weights of its terms are learned: "none", "uncertainty", "gradnorm" or "dwa".
        A spec of one term that is made of parts has the weights of the parts learned.
      balance_rate: step of the learned weights ("uncertainty", "gradnorm").
      balance_every: steps over which losses are averaged ("dwa").
      level_weight: weight of the squared error of the noise level that the network sees.
      level_sigma: noise that a level of 1 stands for, in image units.

    Returns:
      The objective, to be called in the step.

    Raises:
      InputError: the weights of fewer than two terms are to be learned.
    """
    parsed = losses.parse_loss(spec)
    loss = losses.make_loss(parsed)
    # This gives the terms' names; nothing is computed.
    image = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    names = tuple(jax.eval_shape(loss, image, image)[1])
    labels = tuple(term.label for term in parsed.terms)
    # A single term is the loss itself, up to its weight, so that only its parts are shown.
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
                f'--balance {balance} weighs two terms or more, such as "l1 + ssim"; --loss has '
                f"{spec}."
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
    """Whether a term is a squared error, and not an absolute one."""
    return term.name == "mse" or dict(term.options).get("penalty") == "l2"
