"""One update: its gradient, its noise, what it averages and what it refuses.

The tests share a few compilations.
"""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lumloss_jax import luminance_l1_terms
from lumloss_jax.degradations import blind_sigma, gaussian_noise
from train.data.batch import Pair
from train.devices import sharding
from train.guard import nonfinite_names
from train.network import build_model, init_variables
from train.objective import make_objective
from train.randomness import LEVEL_STREAM, NOISE_STREAM
from train.state import Step, TrainState, create_state
from train.step import make_step

SGD = optax.sgd(0.1)
PLAIN = "dncnn(depth=3, features=4, batch_norm=False)"
NORMED = "dncnn(depth=3, features=4)"
BUIFD = "buifd(depth=2, features=2, level_depth=2, level_features=2, fusion_features=2)"
CLEAN = np.random.default_rng(0).random((8, 8, 8, 3), np.float32)
MAX_SKIPS = 3


def _state(model: str, balance: Any = None) -> TrainState:
    state = create_state(
        init_variables(build_model(model), jax.random.key(0)), SGD, averaged=True, balance=balance
    )
    # A last layer of zeros passes no gradient on: these weights make every layer's gradient count.
    params = jax.tree.map(
        lambda p: p + 0.01 * np.arange(p.size, dtype=np.float32).reshape(p.shape) / p.size,
        state.params,
    )
    return state.replace(params=params, average=jax.tree.map(jnp.copy, params))


def _step(model: str, objective: Any = None, dtype: str | None = None, **options: Any) -> Step:
    objective = objective or make_objective("luminance_l1")
    optimizer = options.pop("optimizer", SGD)
    options = {"sigma": 0.1, "seed": 7, "average_decay": 0.9, "max_skips": MAX_SKIPS, **options}
    return make_step(build_model(model, dtype=dtype), optimizer, objective, **options)


def _key(stream: int, sample: int) -> jax.Array:
    """The key of the sample with this number in the run."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(7), stream), sample)


@pytest.fixture(scope="module", autouse=True)
def _count_anew() -> None:
    chex.clear_trace_counter()


@functools.cache
def _plain() -> Step:
    """The step is traced once, for all inputs of the tests below."""
    return jax.jit(chex.assert_max_traces(_step(PLAIN), n=1))


def test_the_gradient_is_that_of_the_loss_with_new_noise() -> None:
    state = _state(PLAIN).replace(step=jnp.asarray(4, jnp.int32))
    new_state, metrics = _plain()(state, CLEAN)

    noisy = jnp.stack(
        [gaussian_noise(_key(NOISE_STREAM, 4 * 8 + i), CLEAN[i], sigma=0.1) for i in range(8)]
    )

    @jax.jit
    def loss(params: Any) -> jax.Array:
        terms = luminance_l1_terms(build_model(PLAIN).apply({"params": params}, noisy), CLEAN)
        return 0.5 * terms.luminance + 0.5 * terms.color

    value, gradients = jax.value_and_grad(loss)(state.params)
    np.testing.assert_allclose(metrics.loss, value, rtol=1e-5)
    np.testing.assert_allclose(metrics.loss, 0.5 * sum(metrics.terms.values()), rtol=1e-6)
    assert set(metrics.terms) == {"luminance", "color"}
    np.testing.assert_allclose(metrics.gradient_norm, optax.tree.norm(gradients), rtol=1e-4)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, gradients)
    chex.assert_trees_all_close(new_state.params, expected, atol=1e-6)
    assert int(new_state.step) == int(metrics.step) == 5


def test_noise_is_fresh_each_step_and_the_same_for_the_same_step() -> None:
    state = _state(PLAIN)
    first, again = (_plain()(state, CLEAN)[1].loss for _ in range(2))
    later = _plain()(state.replace(step=jnp.asarray(1, jnp.int32)), CLEAN)[1].loss
    assert first == again
    assert first != later


def test_the_average_starts_fast_and_follows_updates_only() -> None:
    state = _state(PLAIN)
    kernel = np.asarray(state.params["conv_last"]["kernel"])
    average = kernel
    for made, bad in ((0, False), (1, True), (1, False)):
        state, _ = _plain()(state, np.full_like(CLEAN, np.nan) if bad else CLEAN)
        if not bad:
            decay = (1 + made) / (10 + made)  # below 0.9 for the first 80 updates
            average = decay * average + (1 - decay) * np.asarray(
                state.params["conv_last"]["kernel"]
            )
        np.testing.assert_allclose(
            state.average["conv_last"]["kernel"], average, rtol=1e-5, atol=1e-8
        )
    assert np.any(average != kernel)


def test_batch_statistics_are_averaged_as_the_weights_are() -> None:
    """Otherwise averaged weights would run with running statistics of different weights."""
    state, step = _normed()
    assert state.eval_batch_stats is state.average_stats
    average = jax.device_get(state.batch_stats)
    for made in range(3):
        state, _ = step(state, CLEAN)
        decay = (1 + made) / (10 + made)
        average = jax.tree.map(
            lambda x, y, d=decay: d * x + (1 - d) * y, average, jax.device_get(state.batch_stats)
        )
        chex.assert_trees_all_close(jax.device_get(state.eval_batch_stats), average, rtol=1e-5)
    chex.assert_trees_all_equal_shapes(state.eval_batch_stats, state.batch_stats)
    without = create_state(init_variables(build_model(NORMED), jax.random.key(0)), SGD)
    assert without.eval_batch_stats is without.batch_stats and without.average_stats == {}


@functools.cache
def _normed() -> tuple[Any, Step]:
    objective = make_objective("l1 + mse", balance="uncertainty")
    step = _step(NORMED, objective, optimizer=optax.adam(1e-2))
    model = init_variables(build_model(NORMED), jax.random.key(0))
    return create_state(model, optax.adam(1e-2), averaged=True, balance=objective.init()), jax.jit(
        step
    )


def test_an_update_that_is_not_finite_changes_nothing() -> None:
    """This covers the whole state. A finite update changes every part of it."""
    state, step = _normed()
    state, metrics = step(state, CLEAN)
    before = jax.device_get(state)
    assert metrics.weights.keys() == {"l1", "mse"}
    bad = CLEAN.copy()
    bad[3, 2, 1, 0] = np.inf
    state, metrics = step(state, bad)
    after = jax.device_get(state)
    assert (int(after.step), int(after.guard.skipped), int(after.guard.consecutive_skips)) == (
        2,
        1,
        1,
    )
    chex.assert_trees_all_equal(after.replace(step=before.step, guard=before.guard), before)
    assert nonfinite_names(metrics.guard, metrics.terms) == [
        "loss",
        "l1",
        "mse",
        "gradient",
        "update",
    ]
    state, metrics = step(state, CLEAN)
    assert (int(metrics.guard.skipped), int(metrics.guard.consecutive_skips)) == (1, 0)
    for part in ("params", "batch_stats", "opt_state", "average", "average_stats", "balance"):
        moved = zip(
            jax.tree.leaves(getattr(state, part)),
            jax.tree.leaves(getattr(before, part)),
            strict=True,
        )
        assert all(np.any(new != old) for new, old in moved), part


def test_after_too_many_in_a_row_the_state_stands_still_for_good() -> None:
    state, step = _normed()
    bad = np.full_like(CLEAN, np.nan)
    for _ in range(MAX_SKIPS):
        state, _ = step(state, bad)
    stopped = jax.device_get(state)
    assert (int(stopped.step), int(stopped.guard.consecutive_skips)) == (MAX_SKIPS, MAX_SKIPS)
    for batch in (bad, CLEAN):  # a good batch changes nothing any more
        state, metrics = step(state, batch)
        chex.assert_trees_all_equal(jax.device_get(state), stopped)
    assert nonfinite_names(metrics.guard, metrics.terms) == [
        "loss",
        "l1",
        "mse",
        "gradient",
        "update",
    ]


def test_what_is_not_finite_is_named_if_it_is_the_update_alone() -> None:
    state = create_state(init_variables(build_model(PLAIN), jax.random.key(0)), SGD)
    _, metrics = jax.jit(_step(PLAIN, optimizer=optax.scale(np.inf)))(
        state.replace(opt_state=optax.EmptyState()), CLEAN
    )
    assert nonfinite_names(metrics.guard, metrics.terms) == ["update"]


@functools.cache
def _on_devices(
    model: str, devices: int, accumulate: int = 1
) -> tuple[TrainState, TrainState, Any]:
    state = _state(model)
    mesh = sharding.make_mesh(devices)
    placed = jax.device_put(jax.tree.map(jnp.copy, state), sharding.replicated(mesh))
    batch = jax.device_put(CLEAN, sharding.split_by_batch(mesh))
    step = sharding.compile_step(_step(model, accumulate=accumulate), mesh)
    return jax.device_get((state, *step(placed, batch)))


@pytest.mark.parametrize(
    ("model", "accumulate"),
    [pytest.param(PLAIN, 1, marks=pytest.mark.slow), (NORMED, 1), (PLAIN, 2)],
    ids=["plain", "batch norm", "in two parts"],
)
def test_four_devices_make_the_update_of_one(model: str, accumulate: int) -> None:
    """Parts of a batch make the update of the whole. Adam would hide a factor, so SGD is used."""
    state, one, one_metrics = _on_devices(model, 1)
    _, four, four_metrics = _on_devices(model, 4, accumulate)
    chex.assert_trees_all_close(four_metrics, one_metrics, rtol=1e-5)
    change = jax.tree.map(lambda new, old: new - old, one.params, state.params)
    largest = max(np.abs(c).max() for c in jax.tree.leaves(change))
    chex.assert_trees_all_close(four.params, one.params, atol=1e-5 * largest + 1e-7)
    chex.assert_trees_all_close(four.batch_stats, one.batch_stats, rtol=1e-5, atol=1e-7)


def test_networks_without_batch_norm_have_no_statistics() -> None:
    assert _state(PLAIN).batch_stats == {}


def test_a_pair_is_taken_as_it_is() -> None:
    state = _state(PLAIN)
    _, metrics = jax.jit(_step(PLAIN))(state, Pair(CLEAN + 0.25, CLEAN))
    restored = build_model(PLAIN).apply({"params": state.params}, CLEAN + 0.25)
    np.testing.assert_allclose(metrics.terms["color"], np.abs(restored - CLEAN).mean(), rtol=1e-5)


def test_blind_noise_has_its_own_level_in_each_patch() -> None:
    """The terms of a step in two parts, so that each patch must keep its level on the way."""
    objective = make_objective("mse", level_weight=1.0, level_sigma=0.2)
    step = jax.jit(_step(BUIFD, objective, blind=True, sigma=0.2, accumulate=2))
    state = _state(BUIFD)
    _, metrics = step(state, CLEAN)
    sigma = np.asarray(
        [blind_sigma(_key(LEVEL_STREAM, i), (), minimum=0.0, maximum=0.2) for i in range(8)]
    )
    assert len(set(sigma)) == 8
    noisy = np.asarray(
        [gaussian_noise(_key(NOISE_STREAM, i), CLEAN[i], sigma=sigma[i]) for i in range(8)]
    )
    _, seen = jax.jit(lambda v, x: build_model(BUIFD).apply(v, x, mutable=["intermediates"]))(
        {"params": state.params, "batch_stats": state.batch_stats}, noisy
    )
    level = np.asarray(seen["intermediates"]["noise_level"][0])
    expected = np.mean((level - sigma[:, None, None, None] / 0.2) ** 2)
    np.testing.assert_allclose(metrics.terms["noise_level"], expected, rtol=1e-4)


def test_in_bfloat16_the_network_alone_is_rounded() -> None:
    state = _state(PLAIN)
    new_state, metrics = jax.jit(_step(PLAIN, dtype="bfloat16"))(state, CLEAN)
    exact_state, exact = _plain()(state, CLEAN)
    assert {leaf.dtype for leaf in jax.tree.leaves((new_state.params, metrics.loss))} == {
        jnp.dtype("float32")
    }
    np.testing.assert_allclose(metrics.loss, exact.loss, rtol=0.01)
    np.testing.assert_allclose(metrics.gradient_norm, exact.gradient_norm, rtol=0.05)
    assert metrics.loss != exact.loss
