from pathlib import Path

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest

from train import sharding
from train.checkpoint import load_network, load_weights, open_checkpoints
from train.errors import InputError
from train.network import build_model, init_variables
from train.state import create_state

ABOUT = {"model": "dncnn(depth=3, features=4, batch_norm=False)"}


def test_a_state_comes_back_bit_for_bit_on_another_number_of_devices(tiny_model: nn.Module, tmp_path: Path) -> None:
    optimizer = optax.adam(1e-3)
    state = create_state(init_variables(tiny_model, jax.random.key(1)), optimizer).replace(step=jnp.asarray(12))
    placed = jax.device_put(state, sharding.replicated(sharding.make_mesh(1)))
    with open_checkpoints(tmp_path / "checkpoints", ABOUT) as checkpoints:
        checkpoints.save(placed)
        checkpoints.save(placed)  # a second save of a step that is there is no error
        assert checkpoints.newest().name == "12"
    with open_checkpoints(tmp_path / "checkpoints", ABOUT) as checkpoints:
        abstract = jax.eval_shape(lambda: create_state(init_variables(tiny_model, jax.random.key(2)), optimizer))
        restored = checkpoints.restore(abstract, sharding.replicated(sharding.make_mesh(4)))
    chex.assert_trees_all_equal(jax.device_get(restored), jax.device_get(state))
    assert len(restored.step.sharding.device_set) == 4


def test_the_newest_two_are_kept(tiny_model: nn.Module, tmp_path: Path) -> None:
    state = create_state(init_variables(tiny_model, jax.random.key(1)), optax.sgd(1.0))
    with open_checkpoints(tmp_path / "checkpoints", ABOUT) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(state.replace(step=jnp.asarray(step)))
    kept = {path.name for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()}
    assert kept == {"2", "3"}


def test_no_checkpoint_is_an_error_that_says_so(tiny_model: nn.Module, tmp_path: Path) -> None:
    state = create_state(init_variables(tiny_model, jax.random.key(1)), optax.sgd(1.0))
    with (
        open_checkpoints(tmp_path / "checkpoints", ABOUT) as checkpoints,
        pytest.raises(InputError, match="holds no checkpoint"),
    ):
        checkpoints.restore(state, sharding.replicated(sharding.make_mesh(1)))


def test_a_checkpoint_says_by_itself_what_it_holds(tiny_model: nn.Module, tmp_path: Path) -> None:
    state = create_state(init_variables(tiny_model, jax.random.key(1)), optax.adam(1.0)).replace(step=jnp.asarray(3))
    with open_checkpoints(tmp_path / "run" / "checkpoints", ABOUT) as checkpoints:
        checkpoints.save(state)
    moved = (tmp_path / "run" / "checkpoints" / "3").rename(tmp_path / "moved")  # no config, no folder of a run
    network = load_network(moved)
    assert network.spec == ABOUT["model"]
    assert network.model == tiny_model
    chex.assert_trees_all_equal(jax.device_get(network.params), jax.device_get(state.params))


@pytest.mark.parametrize("below", ["", "checkpoints"])
def test_a_run_stands_for_its_newest_checkpoint(tiny_model: nn.Module, below: str, tmp_path: Path) -> None:
    state = create_state(init_variables(tiny_model, jax.random.key(1)), optax.sgd(1.0))
    with open_checkpoints(tmp_path / "checkpoints", ABOUT) as checkpoints:
        for step in (9, 10):
            params = jax.tree.map(lambda p, step=step: p + step, state.params)
            checkpoints.save(state.replace(step=jnp.asarray(step), params=params))
    weights = load_weights(tmp_path / below, tiny_model, ABOUT["model"])
    chex.assert_trees_all_close(weights["params"], jax.tree.map(lambda p: p + 10, state.params))


def test_weights_of_another_network_are_refused_with_both_named(tiny_model: nn.Module, tmp_path: Path) -> None:
    state = create_state(init_variables(tiny_model, jax.random.key(1)), optax.sgd(1.0))
    with open_checkpoints(tmp_path / "checkpoints", ABOUT) as checkpoints:
        checkpoints.save(state)
    other = "dncnn(depth=4, features=4, batch_norm=False)"
    with pytest.raises(InputError) as caught:
        load_weights(tmp_path, build_model(other), other)
    assert ABOUT["model"] in str(caught.value)
    assert other in str(caught.value)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no folder"):
        load_network(tmp_path / "none")
    with pytest.raises(InputError, match="holds no checkpoint"):
        load_network(tmp_path)
