"""The objective: terms, learned weights, and the noise level that a network predicts."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumloss_jax import losses
from train.errors import InputError
from train.objective import Objective, ObjectiveValues, make_objective

CLEAN = np.random.default_rng(0).random((2, 6, 6, 3), np.float32)
RESTORED = CLEAN + np.random.default_rng(1).normal(size=CLEAN.shape).astype(np.float32) / 10


@functools.cache
def _compiled(objective: Objective) -> Any:
    return jax.jit(lambda balance: objective(balance, RESTORED, CLEAN))


@functools.cache
def _made(spec: str, balance: str) -> Objective:
    return make_objective(spec, balance=balance, balance_rate=0.1, balance_every=2)


def _seen(spec: str, balance: str = "none") -> tuple[float, ObjectiveValues]:
    objective = _made(spec, balance)
    return _compiled(objective)(objective.init())


def test_terms_are_reported_by_name() -> None:
    total, seen = _seen("0.84*l1 + 0.16*mse")
    difference = RESTORED - CLEAN
    expected = {"l1": np.abs(difference).mean(), "mse": (difference**2).mean()}
    assert set(seen.terms) == {"l1", "mse"}
    np.testing.assert_allclose(
        [seen.terms[n] for n in expected], list(expected.values()), rtol=1e-5
    )
    np.testing.assert_allclose(total, 0.84 * expected["l1"] + 0.16 * expected["mse"], rtol=1e-5)
    assert _seen("mse")[1].terms == {}  # the term is the loss itself
    assert set(_seen("luminance_l1")[1].terms) == {"luminance", "color"}


@pytest.mark.parametrize("balance", ["uncertainty", "gradnorm", "dwa", "upgrad"])
def test_one_term_alone_cannot_be_balanced(balance: str) -> None:
    with pytest.raises(
        InputError, match=f"--balance {balance} needs a --loss with two or more terms.*got mse"
    ):
        make_objective("mse", balance=balance)


def test_the_parts_of_the_luminance_loss_can_be_balanced() -> None:
    total, seen = _seen("luminance_l1", "dwa")
    assert set(seen.balanced) == {"luminance", "color"}
    np.testing.assert_allclose(total, seen.terms["luminance"] + seen.terms["color"], rtol=1e-6)


def test_uncertainties_move_as_if_they_were_trained_jointly() -> None:
    """Total, weights and first update of Adam agree with gradients of the library's function."""
    objective = _made("l1 + 100*mse", "uncertainty")
    balance = objective.init()
    total, seen = _compiled(objective)(balance)
    l1, mse = float(seen.terms["l1"]), 100 * float(seen.terms["mse"])
    np.testing.assert_allclose(total, l1 + np.log(2) + mse / 2 + np.log(2), rtol=1e-5)
    weights = objective.weights(balance)
    np.testing.assert_allclose([weights["l1"], weights["mse"]], [1, 0.5], rtol=1e-5)
    # d/ds of L/s + log(1 + s) and of L/(2 s^2) + log(1 + s^2), at s = 1.
    slopes = {"l1": -l1 + 0.5, "mse": -mse + 1}
    after = objective.update(balance, seen)
    for name, slope in slopes.items():
        np.testing.assert_allclose(after["scales"][name], 1 - 0.1 * np.sign(slope), rtol=1e-5)


def test_gradnorm_measures_progress_from_the_first_step() -> None:
    objective = _made("l1 + 10*mse", "gradnorm")
    balance = objective.init()
    total, seen = _compiled(objective)(balance)
    difference, count = RESTORED - CLEAN, CLEAN.size
    values = {"l1": np.abs(difference).mean(), "mse": 10 * (difference**2).mean()}
    # Of |d| / n the gradient's norm is 1 / sqrt n; of 10 d^2 / n it is 20 |d| / n.
    norms = {"l1": count**-0.5, "mse": 20 * np.linalg.norm(difference) / count}
    np.testing.assert_allclose([seen.norms[n] for n in norms], list(norms.values()), rtol=1e-4)
    np.testing.assert_allclose(total, sum(values.values()), rtol=1e-5)
    expected = losses.gradnorm_update(
        losses.gradnorm_init(values), values, norms, learning_rate=0.1
    )
    after = objective.update(balance, seen)
    for name, weight in expected.weights.items():
        np.testing.assert_allclose(objective.weights(after)[name], weight, rtol=1e-4)
        np.testing.assert_allclose(after["gradnorm"].initial_losses[name], values[name], rtol=1e-5)
    # The second step is still measured against the first one's losses.
    later = objective.update(
        after, seen._replace(balanced=jax.tree.map(lambda x: x / 2, seen.balanced))
    )
    np.testing.assert_allclose(later["gradnorm"].initial_losses["l1"], values["l1"], rtol=1e-5)


def test_dwa_compares_means_over_stretches() -> None:
    """Periods have two steps. From the first to the second, l1 halves and mse stays the same."""
    objective = _made("l1 + mse", "dwa")
    balance = objective.init()
    for l1 in (1.0, 3.0, 0.5, 1.5):
        values = {"l1": jnp.float32(l1), "mse": jnp.float32(7)}
        np.testing.assert_allclose(list(objective.weights(balance).values()), 1)
        balance = objective.update(balance, ObjectiveValues({}, values, {}))
    shares = np.exp([0.5 / 2, 1 / 2])
    expected = 2 * shares / shares.sum()
    weights = objective.weights(balance)
    np.testing.assert_allclose([weights["l1"], weights["mse"]], expected, rtol=1e-6)
    # Means
    assert (float(balance["dwa"].last["l1"]), float(balance["dwa"].before_last["l1"])) == (
        1.0,
        2.0,
    )
    assert int(balance["count"]) == 0


def test_the_predicted_noise_level_is_compared_with_the_true_one() -> None:
    objective = make_objective("mse", level_weight=2.0, level_sigma=50 / 255)
    level, sigma = np.full(CLEAN.shape, 0.5, np.float32), np.array([25, 50], np.float32) / 255
    total, seen = objective({}, RESTORED, CLEAN, level=level, sigma=sigma)
    expected = (0 + 0.5**2) / 2  # the first image's level is right, the second's is half of it
    np.testing.assert_allclose(seen.terms["noise_level"], expected, rtol=1e-6)
    np.testing.assert_allclose(total, np.mean((RESTORED - CLEAN) ** 2) + 2 * expected, rtol=1e-5)


def test_buifds_published_objective_up_to_a_constant() -> None:
    """The published sums over 2 N of image and level have our gradients times H W C / 2."""
    rng = np.random.default_rng(2)
    level, sigma = rng.random(CLEAN.shape, np.float32), np.float32(30 / 255)
    objective = make_objective("mse", level_weight=1.0, level_sigma=75 / 255)

    def ours(restored: jax.Array, level: jax.Array) -> jax.Array:
        return objective({}, restored, CLEAN, level=level, sigma=sigma)[0]

    def published(restored: jax.Array, level: jax.Array) -> jax.Array:
        return (jnp.sum((restored - CLEAN) ** 2) + jnp.sum((level - sigma / (75 / 255)) ** 2)) / (
            2 * len(CLEAN)
        )

    factor = CLEAN[0].size / 2
    for mine, theirs in zip(
        jax.grad(ours, argnums=(0, 1))(RESTORED, level),
        jax.grad(published, argnums=(0, 1))(RESTORED, level),
        strict=True,
    ):
        np.testing.assert_allclose(factor * mine, theirs, rtol=1e-4, atol=1e-6)
