"""Weights for networks that are timed. Any values will do, as long as all results stay finite."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np

from lumloss_jax.models import variable_shapes


def random_variables(model: nn.Module) -> dict[str, Any]:
    """Parameters, and running statistics; {} where the network has none."""
    rng = np.random.default_rng(0)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        scale = 0.5 / np.sqrt(max(np.prod(leaf.shape[:-1]), 1))
        return rng.normal(0, scale, leaf.shape).astype(np.float32)

    variables = jax.tree.map(draw, variable_shapes(model))
    return {
        **variables,
        "batch_stats": jax.tree.map(lambda x: np.abs(x) + 0.5, variables.get("batch_stats", {})),
    }
