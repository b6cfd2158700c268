from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lumloss_jax import luminance_l1_terms
from lumloss_jax.degradations import gaussian_noise
from lumloss_jax.models import create_model
from train import sharding
from train.network import init_variables
from train.objective import make_objective
from train.state import TrainState, create_state
from train.step import NOISE_STREAM, make_step

SGD = optax.sgd(0.1)


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    return np.random.default_rng(0).random((8, 8, 8, 3), np.float32)


def _parts(batch_norm: bool, sigma: float = 0.1) -> tuple[TrainState, Any]:
    model = create_model("dncnn", depth=3, features=4, batch_norm=batch_norm)
    state = create_state(init_variables(model, jax.random.key(0)), SGD)
    # A last layer of zeros passes no gradient on: these weights make every layer's gradient count.
    params = jax.tree.map(
        lambda p: p + 0.01 * jnp.arange(p.size, dtype=p.dtype).reshape(p.shape) / p.size, state.params
    )
    step = make_step(model, SGD, make_objective("luminance_l1"), sigma=sigma, seed=7)
    return state.replace(params=params), step


def test_the_gradient_is_that_of_the_loss_on_freshly_noised_patches(clean: np.ndarray) -> None:
    state, step = _parts(batch_norm=False)
    state = state.replace(step=jnp.asarray(4))
    new_state, metrics = jax.jit(step)(state, clean)

    model = create_model("dncnn", depth=3, features=4, batch_norm=False)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), NOISE_STREAM), 4)
    noisy = gaussian_noise(key, clean, sigma=0.1)

    def loss(params: Any) -> jax.Array:
        terms = luminance_l1_terms(model.apply({"params": params}, noisy), clean)
        return 0.5 * terms.luminance + 0.5 * terms.color

    value, gradients = jax.value_and_grad(loss)(state.params)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], 0.5 * metrics["luminance"] + 0.5 * metrics["color"], rtol=1e-6)
    np.testing.assert_allclose(metrics["gradient_norm"], optax.tree.norm(gradients), rtol=1e-4)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, gradients)
    chex.assert_trees_all_close(new_state.params, expected, atol=1e-6)
    assert int(new_state.step) == 5


def test_noise_is_fresh_each_step_and_the_same_for_the_same_step(clean: np.ndarray) -> None:
    state, step = _parts(batch_norm=False)
    step = jax.jit(step)
    first, again = step(state, clean)[1]["loss"], step(state, clean)[1]["loss"]
    later = step(state.replace(step=jnp.asarray(1)), clean)[1]["loss"]
    assert first == again
    assert first != later


@pytest.mark.parametrize("batch_norm", [False, True])
def test_four_devices_make_the_update_of_one(clean: np.ndarray, batch_norm: bool) -> None:
    """SGD, since Adam would hide a gradient that is off by a factor."""
    state, step = _parts(batch_norm)
    results = []
    for devices in (1, 4):
        mesh = sharding.make_mesh(devices)
        placed = jax.device_put(jax.tree.map(jnp.copy, state), sharding.replicated(mesh))
        batch = jax.device_put(clean, sharding.split_by_batch(mesh))
        results.append(jax.device_get(sharding.compile_step(step, mesh)(placed, batch)))
    (one, one_metrics), (four, four_metrics) = results
    chex.assert_trees_all_close(four_metrics, one_metrics, rtol=1e-5)
    change = jax.tree.map(lambda new, old: new - np.asarray(old), one.params, state.params)
    largest = max(np.abs(c).max() for c in jax.tree.leaves(change))
    chex.assert_trees_all_close(four.params, one.params, atol=1e-5 * largest + 1e-7)
    chex.assert_trees_all_close(four.batch_stats, one.batch_stats, rtol=1e-5, atol=1e-7)


def test_batch_statistics_move_in_training_and_networks_without_have_none(clean: np.ndarray) -> None:
    state, step = _parts(batch_norm=True)
    moved = jax.jit(step)(state, clean)[0].batch_stats
    assert all(np.any(a != b) for a, b in zip(jax.tree.leaves(state.batch_stats), jax.tree.leaves(moved), strict=True))
    assert _parts(batch_norm=False)[0].batch_stats == {}


def test_the_step_compiles_once(clean: np.ndarray) -> None:
    state, step = _parts(batch_norm=True)
    chex.clear_trace_counter()
    counted = jax.jit(chex.assert_max_traces(step, n=1))
    for _ in range(3):
        state, _ = counted(state, clean)


def test_terms_are_reported_by_name() -> None:
    images = jnp.full((1, 8, 8, 3), 0.5)
    total, terms = make_objective("0.84*l1 + 0.16*mse")(images + 0.5, images)
    assert set(terms) == {"l1", "mse"}
    np.testing.assert_allclose(total, 0.84 * 0.5 + 0.16 * 0.25, rtol=1e-6)
    assert make_objective("mse")(images, images)[1] == {}
