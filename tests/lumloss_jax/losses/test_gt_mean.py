"""GT-mean against its formula in float64, at its two ends, and against the authors' code."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumloss_jax import losses
from lumloss_jax.losses import gt_mean

REC601 = np.array([0.299, 0.587, 0.114])


def published(predictions, targets, sigma, mask):
    """W and gain per image, by the paper's formula."""
    weights = mask / mask.sum((1, 2), keepdims=True)
    mean_p, mean_t = ((weights * (image @ REC601)).sum((1, 2)) for image in (predictions, targets))
    deviation_p, deviation_t = sigma * mean_p, sigma * mean_t
    squares = deviation_p**2 + deviation_t**2
    distance = (mean_p - mean_t) ** 2 / (4 * squares) + 0.5 * np.log(
        squares / (2 * deviation_p * deviation_t)
    )
    return np.clip(distance, 0, 1), mean_t / mean_p


def images():
    """Four images: much too dark, somewhat too dark, nearly right, too bright."""
    rng = np.random.default_rng(0)
    targets = rng.uniform(0.2, 0.7, (4, 6, 7, 3))
    gains = np.array([0.4, 0.85, 0.99, 1.1]).reshape(4, 1, 1, 1)
    return gains * targets + rng.normal(0, 0.02, targets.shape), targets


@pytest.mark.parametrize("sigma", [0.1, 0.3])
@pytest.mark.parametrize("masked", [False, True])
def test_numpy_in_float64(sigma, masked):
    predictions, targets = images()
    mask = np.random.default_rng(1).uniform(0, 1, (4, 6, 7)) if masked else np.ones((4, 6, 7))
    distance, gain = published(predictions, targets, sigma, mask)
    assert distance[0] == 1 and 0 < distance[1] < 1 and distance[2] < 0.02

    def l1(p):
        # Per image, times what the image counts
        return (mask * np.abs(p - targets).mean(-1)).mean((1, 2))

    brightened = np.clip(gain.reshape(4, 1, 1, 1) * predictions, 0, 1)
    shares = mask.mean((1, 2))
    # The library weighs images by W times their share and gives the mean weight back: W L + (1 - W)
    # L', over shares.
    expected = (distance * l1(predictions) + (1 - distance) * l1(brightened)).sum() / shares.sum()
    arrays = [array.astype(np.float32) for array in (predictions, targets)]
    options = {"mask": mask.astype(np.float32)} if masked else {}
    np.testing.assert_allclose(
        gt_mean(losses.l1_loss, sigma=sigma)(*arrays, **options), expected, rtol=1e-5
    )


def test_far_from_and_at_the_right_brightness_it_is_the_loss():
    predictions, targets = (array.astype(np.float32) for array in images())
    wrapped = gt_mean(losses.mse_loss)
    dark = 0.1 * predictions
    np.testing.assert_allclose(wrapped(dark, targets), losses.mse_loss(dark, targets), rtol=1e-6)
    flipped = targets[:, ::-1]  # the same mean: W 0, gain 1
    np.testing.assert_allclose(
        wrapped(flipped, targets), losses.mse_loss(flipped, targets), rtol=1e-4
    )


def test_no_gradient_flows_through_the_gain_or_the_distance():
    predictions, targets = (array[1:2].astype(np.float32) for array in images())
    distance, gain = published(
        *(array.astype(np.float64) for array in (predictions, targets)), 0.1, np.ones((1, 6, 7))
    )
    distance, gain = np.float32(distance[0]), np.float32(gain[0])

    def held_fixed(p):
        return distance * losses.mse_loss(p, targets) + (1 - distance) * losses.mse_loss(
            gain * p, targets
        )

    gradient = jax.jit(jax.grad(gt_mean(losses.mse_loss)))(predictions, targets)
    np.testing.assert_allclose(
        gradient, jax.jit(jax.grad(held_fixed))(predictions), rtol=1e-4, atol=1e-8
    )


@pytest.mark.parametrize("clip", [True, False])
def test_clip_stops_what_the_gain_pushes_beyond_white(clip):
    targets = np.full((1, 4, 4, 3), 0.9, np.float32)
    predictions = np.full_like(targets, 0.85)
    predictions[0, 0, 0] = 0.97  # the mean is 0.8575: times 0.9 / 0.8575 this is 1.018
    gradient = jax.jit(jax.grad(gt_mean(losses.mse_loss, clip=clip)))(predictions, targets)
    distance, _ = published(np.float64(predictions), np.float64(targets), 0.1, np.ones((1, 4, 4)))
    first_term_alone = distance[0] * 2 * 0.07 / 48
    assert np.allclose(gradient[0, 0, 0], first_term_alone, rtol=1e-3) is clip


def test_black_images_give_numbers():
    """The floor of the means keeps the ratio finite, and 1 for two black images.

    The authors' code divides 0 by 0 here.
    """
    black, grey = np.zeros((1, 4, 4, 3), np.float32), np.full((1, 4, 4, 3), 0.5, np.float32)
    run = jax.jit(jax.value_and_grad(gt_mean(losses.l1_loss)))
    for pair, value in (
        ((black, black), 0.0),
        ((black, grey), 0.5),
        ((grey, black), 0.5),
        ((-grey, grey), 1.0),
    ):
        loss, gradient = run(*pair)
        np.testing.assert_allclose(loss, value, rtol=1e-6)
        assert np.isfinite(gradient).all()


def test_a_composition_keeps_its_terms_and_options_are_handed_on():
    pair = [array.astype(np.float32) for array in images()]
    total, terms = gt_mean(losses.make_loss("l1 + 2*mse"))(*pair)
    apart = {"l1": gt_mean(losses.l1_loss)(*pair), "mse": gt_mean(losses.mse_loss)(*pair)}
    chex.assert_trees_all_close(terms, apart, rtol=1e-6)
    np.testing.assert_allclose(total, apart["l1"] + 2 * apart["mse"], rtol=1e-6)
    handed = gt_mean(losses.huber_loss)(*pair, delta=0.3)
    bound = gt_mean(functools.partial(losses.huber_loss, delta=0.3))(*pair)
    np.testing.assert_array_equal(handed, bound)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("l1",), {}, "loss must be a function of .* got 'l1'"),
        ((losses.l1_loss,), {"sigma": 0}, "sigma must be more than 0; got 0"),
        ((losses.l1_loss,), {"epsilon": -1e-3}, "epsilon must be more than 0; got -0.001"),
        ((losses.l1_loss,), {"sigma": jnp.ones(2)}, "sigma must be one number"),
    ],
)
def test_errors(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        gt_mean(*arguments, **options)
