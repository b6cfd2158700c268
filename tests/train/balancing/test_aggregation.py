"""Steps that combine the gradients of terms: against gradients that are computed one by one."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lumloss_jax import losses
from train.assembly import assemble
from train.balancing.aggregation import METHODS, Aggregation
from train.config import DataConfig, FitConfig, ModelConfig, OptimizerConfig
from train.data.batch import Pair
from train.errors import InputError
from train.experiments.networks.population import join, make_population_step, member_of
from train.network import build_model, init_variables
from train.objective import LEVEL, Objective, ObjectiveValues, make_objective
from train.state import Metrics, TrainState, create_state
from train.step import make_step

MODEL = "dncnn(depth=2, features=4, batch_norm=False)"
NOISY, CLEAN = (np.random.default_rng(i).random((4, 8, 8, 3), np.float32) for i in range(2))
SGD = optax.sgd(1.0)


def _terms(restored: jax.Array, clean: jax.Array) -> dict[str, jax.Array]:
    """Two terms that disagree about the brightness, and a third one."""
    bright = jnp.mean(restored) - jnp.mean(clean)
    error = 0.1 * jnp.mean(jnp.square(restored - clean))
    return {"a": error + bright, "b": error - 0.5 * bright, "c": jnp.mean(restored[..., 0])}


def _composed(restored: Any, clean: Any, **context: Any) -> Any:
    terms = _terms(restored, clean)
    return sum(terms.values()), terms


# The second number is the weight that the spec gives to a term.
SCALES = (("a", 1.0), ("b", 2.0), ("c", 0.5))


@functools.cache
def state() -> TrainState:
    variables = init_variables(build_model(MODEL), jax.random.key(0))
    params = jax.tree.map(
        lambda p: p + 0.3 * jax.random.normal(jax.random.key(p.size), p.shape), variables["params"]
    )
    objective = Objective(_composed, ("a", "b", "c"), SCALES, Aggregation("upgrad"), 0.0, 1.0)
    return create_state({**variables, "params": params}, SGD, balance=objective.init())


@functools.cache
def stepped(method: str, accumulate: int = 1) -> tuple[TrainState, Metrics]:
    objective = Objective(_composed, ("a", "b", "c"), SCALES, Aggregation(method), 0.0, 1.0)
    step = make_step(build_model(MODEL), SGD, objective, sigma=0.1, seed=3, accumulate=accumulate)
    return jax.device_get(jax.jit(step)(state(), Pair(NOISY, CLEAN)))


@functools.cache
def separate_gradients() -> Any:
    model = build_model(MODEL)

    def terms_of(params: Any) -> dict[str, jax.Array]:
        terms = _terms(model.apply({"params": params}, NOISY, train=True), CLEAN)
        return {name: scale * terms[name] for name, scale in SCALES}

    return jax.jit(jax.jacrev(terms_of))(state().params)


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def direction_of(after: TrainState) -> np.ndarray:
    return flat(state().params) - flat(after.params)


@pytest.mark.parametrize("method", ["mgda", "cagrad", "upgrad"])
def test_a_step_follows_what_the_library_makes_of_the_terms_gradients(method: str) -> None:
    """The direction is multiplied by the number of terms, like that of a sum."""
    gradients = separate_gradients()
    vectors = {name: flat(gradient) for name, gradient in gradients.items()}
    assert vectors["a"] @ vectors["b"] < 0  # otherwise nothing would be shown
    found = getattr(losses, method)(gradients)
    after, metrics = stepped(method)
    wanted = 3 * flat(found.direction)
    np.testing.assert_allclose(direction_of(after), wanted, atol=1e-5 * np.linalg.norm(wanted))
    np.testing.assert_allclose(metrics.gradient_norm, np.linalg.norm(wanted), rtol=1e-5)
    for name, weight in found.weights.items():
        np.testing.assert_allclose(metrics.weights[name], 3 * weight, rtol=1e-4)
        assert after.balance["weights"][name] == metrics.weights[name]
    total = sum(scale * metrics.terms[name] for name, scale in SCALES)
    np.testing.assert_allclose(metrics.loss, total, rtol=1e-5)


def test_pcgrad_makes_one_of_its_possible_directions() -> None:
    gradients = separate_gradients()
    keys = jax.random.split(jax.random.key(0), 40)
    possible = jax.jit(jax.vmap(losses.pcgrad, in_axes=(0, None)))(keys, gradients).direction
    rows = np.concatenate([np.reshape(x, (40, -1)) for x in jax.tree.leaves(possible)], axis=1)
    found = direction_of(stepped("pcgrad")[0])
    off = np.linalg.norm(rows - found, axis=1) / np.linalg.norm(found)
    assert off.min() < 1e-5


def test_a_batch_in_parts_makes_the_same_step() -> None:
    """The direction of a mean is not the mean of the parts' directions."""
    whole, parts = stepped("upgrad"), stepped("upgrad", accumulate=2)
    size = np.linalg.norm(direction_of(whole[0]))
    assert np.linalg.norm(direction_of(parts[0]) - direction_of(whole[0])) < 1e-5 * size
    for name, weight in whole[1].weights.items():
        np.testing.assert_allclose(parts[1].weights[name], weight, rtol=1e-4)


def test_a_step_that_is_not_finite_changes_nothing() -> None:
    objective = Objective(_composed, ("a", "b", "c"), SCALES, Aggregation("upgrad"), 0.0, 1.0)
    step = jax.jit(make_step(build_model(MODEL), SGD, objective, sigma=0.1, seed=3))
    bad = np.where(np.arange(4).reshape(-1, 1, 1, 1) == 1, np.nan, NOISY).astype(np.float32)
    after, metrics = step(state(), Pair(bad, CLEAN))
    np.testing.assert_array_equal(flat(after.params), flat(state().params))
    assert all(float(weight) == 1 for weight in metrics.weights.values())
    assert int(after.guard.skipped) == 1


def test_the_error_of_the_noise_level_is_added_without_being_combined() -> None:
    objective = make_objective("l1 + mse", balance="upgrad", level_weight=2.0)
    terms = {"l1": jnp.float32(1), "mse": jnp.float32(2), LEVEL: jnp.float32(3)}
    values = ObjectiveValues(terms, {"l1": terms["l1"], "mse": terms["mse"]}, {})
    assert [float(part) for part in objective.parts(jnp.float32(9), values)] == [1, 2, 6]
    gradients = tuple(jnp.array(g, jnp.float32) for g in ([1, 0], [-1, 1], [-7, 0]))
    found, values = objective.combine(gradients, values, key=jax.random.key(0), index=jnp.int32(0))
    # By hand in the tests of the library: (1/2, 3/2) is the sum of the projected gradients.
    np.testing.assert_allclose(found, [0.5 - 7, 1.5], rtol=1e-5)
    np.testing.assert_allclose([values.weights["l1"], values.weights["mse"]], [2, 1.5], rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_more_than_six_terms_are_refused(method: str) -> None:
    spec = " + ".join(["l1", "mse", "ssim", "huber", "charbonnier", "gradient", "frequency"])
    with pytest.raises(InputError, match=f"{method} accepts at most 6 terms.* has 7"):
        make_objective(spec, balance=method)
    assert make_objective(spec.removesuffix(" + frequency"), balance=method).scales


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_members_of_a_population_make_their_own_steps(accumulate: int) -> None:
    """Losses of one, two and three parts train together."""
    config = FitConfig(
        data=DataConfig(patch_size=8, batch_size=4),
        model=ModelConfig(model=MODEL),
        optimizer=OptimizerConfig(
            optimizer="sgd", learning_rate=0.1, warmup_steps=0, accumulate=accumulate
        ),
    )
    specs = ("mse", "balanced(upgrad)", "balanced(pcgrad, l1 + mse + charbonnier)")
    configs = [
        dataclasses.replace(config, model=ModelConfig(model=MODEL, loss=spec), seed=seed)
        for seed, spec in enumerate(specs)
    ]
    states = [
        assemble(c).fresh_state().replace(params=state().params, step=jnp.int32(2)) for c in configs
    ]
    batches = np.stack([CLEAN, NOISY, CLEAN[::-1]])
    after, metrics = jax.jit(make_population_step(configs))(join(states, configs), batches)
    for i, own in enumerate(configs):
        alone, alone_metrics = jax.jit(assemble(own).update)(states[i], batches[i])
        found, wanted = flat(member_of(after, i, own).params), flat(alone.params)
        moved = np.linalg.norm(wanted - flat(state().params))
        assert np.linalg.norm(found - wanted) < 1e-5 * moved
        assert metrics[i].weights.keys() == alone_metrics.weights.keys()
        for name, weight in alone_metrics.weights.items():
            np.testing.assert_allclose(metrics[i].weights[name], weight, rtol=1e-4)
