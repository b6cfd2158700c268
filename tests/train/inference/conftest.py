"""Checkpoints of tiny networks, in the form that ``import`` and ``fit`` write."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from lumloss_jax.models import variable_shapes
from train.checkpoints.checkpoint import Network, save_network
from train.network import build_model


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from a spec to the folder of that network, with random weights, written once."""
    made: dict[str, Path] = {}

    def make(spec: str) -> Path:
        if spec not in made:
            model = build_model(spec)
            rng = np.random.default_rng(0)
            variables = jax.tree.map(
                lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32),
                variable_shapes(model),
            )
            variables["batch_stats"] = jax.tree.map(
                lambda x: abs(x) + 0.1, variables.get("batch_stats", {})
            )
            made[spec] = tmp_path_factory.mktemp("checkpoints") / str(len(made))
            save_network(
                made[spec], Network(model, spec, variables["params"], variables["batch_stats"]), {}
            )
        return made[spec]

    return make
