"""Checkpoints of averaged networks with batch norm: each set of weights has its own statistics."""

import json
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import optax
import pytest

from train.checkpoints import checkpoint_writer
from train.checkpoints.checkpoint import load_network, load_newest, training_item
from train.checkpoints.checkpoint_writer import open_checkpoints
from train.devices import sharding
from train.network import build_model, init_variables
from train.state import TrainState, create_state

SPEC = "dncnn(depth=3, features=2)"


@pytest.fixture(scope="module")
def state() -> TrainState:
    variables = init_variables(build_model(SPEC), jax.random.key(0))
    state = create_state(variables, optax.sgd(0.1), averaged=True)
    return state.replace(
        step=jnp.asarray(3, jnp.int32),
        average=jax.tree.map(lambda x: x + 0.25, state.average),
        average_stats=jax.tree.map(lambda x: x + 0.5, state.average_stats),
    )


def saved(state: TrainState, folder: Path) -> Path:
    with open_checkpoints(folder, {"model": SPEC}) as checkpoints:
        checkpoints.save(state)
    return folder


def restored(folder: Path, like: TrainState) -> TrainState:
    layout = sharding.replicated(sharding.make_mesh(1))
    return load_newest(folder, jax.eval_shape(lambda: like), layout, pytest.fail)[0]


def test_both_sets_come_back_and_the_averages_are_released(
    state: TrainState, tmp_path: Path
) -> None:
    folder = saved(state, tmp_path / "checkpoints")
    chex.assert_trees_all_equal(jax.device_get(restored(folder, state)), jax.device_get(state))
    network = load_network(folder)
    chex.assert_trees_all_equal(network.params, state.average)
    chex.assert_trees_all_equal(network.batch_stats, state.average_stats)


def test_a_checkpoint_of_an_earlier_version_is_read(
    state: TrainState, tmp_path: Path, monkeypatch
) -> None:
    """It has averaged weights, but only running statistics. So averages start from these."""

    def weights_before(state: TrainState) -> dict:
        return {"params": state.eval_params, "batch_stats": state.batch_stats}

    def training_before(state: TrainState) -> dict:
        return {
            name: value for name, value in training_item(state).items() if name != "batch_stats"
        }

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_writer, "weights_item", weights_before)
        patch.setattr(checkpoint_writer, "training_item", training_before)
        folder = saved(state, tmp_path / "checkpoints")
    about = json.loads((folder / "3" / "about" / "metadata").read_text())
    assert not any("batch_stats" in path for path in about["digests"]["training"])
    found = restored(folder, state)
    expected = state.replace(average_stats=state.batch_stats)
    chex.assert_trees_all_equal(jax.device_get(found), jax.device_get(expected))
    arrays = zip(
        jax.tree.leaves(found.batch_stats), jax.tree.leaves(found.average_stats), strict=True
    )
    # Each is given away once
    assert all(x.unsafe_buffer_pointer() != y.unsafe_buffer_pointer() for x, y in arrays)
    chex.assert_trees_all_equal(load_network(folder).batch_stats, state.batch_stats)


def test_a_run_without_an_average_is_written_as_before(state: TrainState, tmp_path: Path) -> None:
    plain = state.replace(average={}, average_stats={})
    folder = saved(plain, tmp_path / "checkpoints")
    assert "batch_stats" not in training_item(plain)
    chex.assert_trees_all_equal(jax.device_get(restored(folder, plain)), jax.device_get(plain))
