"""From a loss's spec to the function that the step differentiates."""

from collections.abc import Callable

import jax

from lumloss_jax import losses

Objective = Callable[[jax.Array, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]


def make_objective(spec: str) -> Objective:
    """(restored, clean) -> (loss, its terms by name), for a spec such as "luminance_l1(window_size=7)"."""
    parsed = losses.parse_loss(spec)
    loss = losses.make_loss(parsed)

    def objective(restored: jax.Array, clean: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        total, terms = loss(restored, clean)
        if len(parsed.terms) == 1:
            del terms[parsed.terms[0].label]  # the one term is the loss itself, up to its weight
        return total, terms

    return objective
