"""Dynamic weight averaging: its softmax of ratios by hand, its first epochs, its limits."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumloss_jax.losses import dwa_init, dwa_update, dwa_weights

NOTHING = {"l1": 0.0, "ssim": 0.0, "vgg": 0.0}
# Ratios 1/2, 1, 3/2
EPOCHS = (
    {"l1": 0.4, "ssim": 0.2, "vgg": 1.0},
    {"l1": 0.2, "ssim": 0.2, "vgg": 1.5},
)


def after(*epochs):
    state = dwa_init(NOTHING)
    for losses in epochs:
        state = dwa_update(state, losses)
    return state


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_by_hand(temperature):
    exponentials = np.exp(np.array([0.5, 1.0, 1.5]) / temperature)
    weights = dwa_weights(after(*EPOCHS), temperature=temperature)
    np.testing.assert_allclose(
        list(weights.values()), 3 * exponentials / exponentials.sum(), rtol=1e-6
    )


def test_only_the_last_two_epochs_count():
    long_ago = {"l1": 9.0, "ssim": 0.1, "vgg": 3.0}
    chex.assert_trees_all_close(
        dwa_weights(after(long_ago, *EPOCHS)), dwa_weights(after(*EPOCHS)), rtol=1e-6
    )


def test_weights_are_one_for_two_epochs_and_when_it_is_hot():
    for state in (after(), after(EPOCHS[0])):
        np.testing.assert_array_equal(list(dwa_weights(state).values()), [1, 1, 1])
    np.testing.assert_allclose(
        list(dwa_weights(after(*EPOCHS), temperature=1e6).values()), [1, 1, 1], rtol=1e-5
    )


def test_weights_sum_to_the_count_and_are_finite_at_zero():
    for epochs in (EPOCHS, (NOTHING, NOTHING), (EPOCHS[0], NOTHING), (NOTHING, EPOCHS[0])):
        weights = list(dwa_weights(after(*epochs)).values())
        assert np.isfinite(weights).all()
        np.testing.assert_allclose(sum(weights), 3, rtol=1e-6)


def test_the_state_runs_through_jit_and_scan():
    stacked = jax.tree.map(lambda *values: jnp.array(values), EPOCHS[1], *EPOCHS)

    @jax.jit
    def run(epochs, temperature):
        def step(state, losses):
            state = dwa_update(state, losses)
            return state, dwa_weights(state, temperature=temperature)

        return jax.lax.scan(step, dwa_init(NOTHING), epochs)

    state, weights = run(stacked, 2.0)
    chex.assert_trees_all_close(state, after(EPOCHS[1], *EPOCHS))
    last = jax.tree.map(lambda values: values[-1], weights)
    chex.assert_trees_all_close(last, dwa_weights(after(*EPOCHS)), rtol=1e-6)


def test_no_gradient_flows_through_the_state():
    gradient = jax.grad(lambda losses: dwa_weights(dwa_update(after(EPOCHS[0]), losses))["l1"])(
        EPOCHS[1]
    )
    assert all(leaf == 0 for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dwa_init(()), "losses are empty"),
        (lambda: dwa_update(after(), {"l1": 1.0}), "losses have structure"),
        (
            lambda: dwa_update(after(), {**NOTHING, "l1": np.ones(2)}),
            r"losses\['l1'\] has shape \(2,\)",
        ),
        (lambda: dwa_weights(after(), temperature=0), "temperature must be at least"),
        (
            lambda: dwa_weights(after(), temperature=-1),
            "temperature must be finite and not negative; got -1",
        ),
        (lambda: dwa_weights(after(), temperature=np.ones(2)), "temperature must be one number"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
