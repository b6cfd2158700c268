from pathlib import Path

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest

from train import sharding
from train.checkpoint import open_checkpoints
from train.errors import InputError
from train.state import create_state


def test_a_state_comes_back_bit_for_bit_on_another_number_of_devices(tiny_model: nn.Module, tmp_path: Path) -> None:
    optimizer = optax.adam(1e-3)
    state = create_state(tiny_model, optimizer, jax.random.key(1)).replace(step=jnp.asarray(12))
    placed = jax.device_put(state, sharding.replicated(sharding.make_mesh(1)))
    with open_checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(placed)
        checkpoints.save(placed)  # a second save of a step that is there is no error
        assert checkpoints.newest().name == "12"
    with open_checkpoints(tmp_path / "checkpoints") as checkpoints:
        abstract = jax.eval_shape(lambda: create_state(tiny_model, optimizer, jax.random.key(2)))
        restored = checkpoints.restore(abstract, sharding.replicated(sharding.make_mesh(4)))
    chex.assert_trees_all_equal(jax.device_get(restored), jax.device_get(state))
    assert len(restored.step.sharding.device_set) == 4


def test_the_newest_two_are_kept(tiny_model: nn.Module, tmp_path: Path) -> None:
    state = create_state(tiny_model, optax.sgd(1.0), jax.random.key(1))
    with open_checkpoints(tmp_path / "checkpoints") as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(state.replace(step=jnp.asarray(step)))
    kept = {path.name for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()}
    assert kept == {"2", "3"}


def test_no_checkpoint_is_an_error_that_says_so(tiny_model: nn.Module, tmp_path: Path) -> None:
    state = create_state(tiny_model, optax.sgd(1.0), jax.random.key(1))
    with (
        open_checkpoints(tmp_path / "checkpoints") as checkpoints,
        pytest.raises(InputError, match="holds no checkpoint"),
    ):
        checkpoints.restore(state, sharding.replicated(sharding.make_mesh(1)))
