"""Perceptual loss: by hand, with a small VGG-like Flax network, and its errors."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumloss_jax.losses import luminance_l1_loss, perceptual_loss, weighted_sum

SHAPE = (2, 8, 8, 3)
PREDICTIONS, TARGETS = np.random.default_rng(0).uniform(0, 1, (2, *SHAPE)).astype(np.float32)


# The worked example: a network of two VGG blocks that gives its activations by name, frozen.


class Vgg(nn.Module):
    """Convolution, ReLU, pooling, twice; gives each block's activations before the pooling."""

    widths: tuple[int, ...] = (4, 6)

    @nn.compact
    def __call__(self, images: jax.Array) -> dict[str, jax.Array]:
        """``[N, H, W, 3]`` in [0, 1] -> name -> activations."""
        mean, deviation = jnp.array([0.485, 0.456, 0.406]), jnp.array([0.229, 0.224, 0.225])
        x = (images - mean.reshape(1, 1, 1, 3)) / deviation.reshape(1, 1, 1, 3)
        activations = {}
        for i, width in enumerate(self.widths, start=1):
            x = activations[f"relu{i}"] = nn.relu(nn.Conv(width, (3, 3))(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        return activations


@functools.cache
def vgg():
    """The bound function that the loss takes; in earnest its variables are read from a file."""
    network = Vgg()
    with jax.numpy_rank_promotion("allow"):  # Flax adds its biases so
        variables = jax.jit(network.init)(jax.random.key(0), TARGETS)

    def features(images):
        with jax.numpy_rank_promotion("allow"):
            return network.apply(variables, images)

    return features


def test_a_flax_network_as_features():
    layers = {"relu1": 1.0, "relu2": 0.25}
    loss = functools.partial(perceptual_loss, features=vgg(), layers=layers)
    value, gradient = jax.jit(jax.value_and_grad(loss))(PREDICTIONS, TARGETS)
    seen, wanted = jax.jit(vgg())(PREDICTIONS), jax.jit(vgg())(TARGETS)
    assert seen["relu1"].shape == (2, 8, 8, 4) and seen["relu2"].shape == (2, 4, 4, 6)
    by_layer = {name: np.abs(np.float64(seen[name]) - wanted[name]).mean() for name in layers}
    np.testing.assert_allclose(value, by_layer["relu1"] + 0.25 * by_layer["relu2"], rtol=1e-5)
    # It trains what made the predictions: a step against the gradient lowers it.
    assert jax.jit(loss)(PREDICTIONS - 0.1 / np.abs(gradient).max() * gradient, TARGETS) < value
    assert jax.jit(loss)(TARGETS, TARGETS) < 1e-6


def test_it_joins_a_weighted_sum():
    hybrid = {
        "luminance_l1": luminance_l1_loss,
        "perceptual": functools.partial(perceptual_loss, features=vgg(), layers={"relu2": 1.0}),
    }
    weights = {"luminance_l1": 1.0, "perceptual": 0.1}
    total, terms = jax.jit(lambda p, t: weighted_sum(hybrid, weights, p, t))(PREDICTIONS, TARGETS)
    np.testing.assert_allclose(total, terms["luminance_l1"] + 0.1 * terms["perceptual"], rtol=1e-6)


# By hand


def sums_and_squares(images):
    return [images.sum(axis=(-3, -2, -1)), images * images]


def test_by_hand():
    black = np.zeros((2, 1, 2, 1), np.float32)
    grey = black.copy()
    grey[0] = 0.5  # sums 1 and 0; squares 0.25, 0.25, 0, 0
    loss = functools.partial(perceptual_loss, grey, black, features=sums_and_squares)
    np.testing.assert_allclose(loss(layers=(1.0, 0.0)), 0.5, rtol=1e-6)
    np.testing.assert_allclose(loss(layers=(0.0, 2.0)), 2 * 0.125, rtol=1e-6)
    np.testing.assert_allclose(
        loss(layers=(1.0, 2.0), penalty="l2"), 0.5 + 2 * 0.25**2 / 2, rtol=1e-6
    )
    weight = np.array([3.0, 1.0], np.float32).reshape(2, 1, 1)
    np.testing.assert_allclose(
        loss(layers=(1.0, 2.0), mask=weight), 0.75 * 1 + 2 * 0.75 * 0.25, rtol=1e-6
    )


def test_weights_of_layers_are_data_and_only_layers_named_count():
    def features(images):
        first, second = sums_and_squares(images)
        return {"sums": first, "squares": second, "unused": jnp.full(images.shape[:1], jnp.nan)}

    def loss(weights):
        return perceptual_loss(PREDICTIONS, TARGETS, features=features, layers=weights)

    gradient = jax.jit(jax.grad(loss))({"sums": 0.5, "squares": 2.0})
    for name in gradient:  # each "sums" is a small difference of two large sums
        np.testing.assert_allclose(gradient[name], loss({name: 1.0}), rtol=1e-4)


def test_features_are_asked_once_for_each_visible_image():
    asked = []

    def features(images):
        asked.append(images)
        return [images]

    hidden = PREDICTIONS.copy()
    hidden[1] = np.nan
    mask = np.array([True, False]).reshape(2, 1, 1, 1)
    loss = perceptual_loss(hidden, TARGETS, features=features, layers=[1.0], mask=mask)
    assert len(asked) == 2 and not np.isnan(asked[0]).any()
    np.testing.assert_allclose(loss, np.abs(PREDICTIONS[0] - TARGETS[0]).mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": {"relu1": 1.0}}, "features give a list and layers are a dict"),
        (
            {"layers": (1.0,)},
            "layers holds 1 weights, but features give 2 arrays: give one weight for each",
        ),
        ({"layers": ()}, "layers is empty"),
        ({"layers": (1.0, -1.0)}, "the weight of layer 1 must be finite and not negative; got -1"),
        ({"layers": (1.0, np.ones(2))}, "the weight of layer 1 must be one number"),
        ({"layers": (1.0, 1.0), "penalty": "huber"}, "penalty accepts 'l1', 'l2'; got 'huber'"),
        (
            {"layers": (1.0, 1.0), "mask": np.ones((2, 8, 8))},
            "accepts only one weight per image, (2, 1, 1)",
        ),
        (
            {
                "features": lambda images: {"relu1": images, "relu2": images},
                "layers": {"relu3": 1.0},
            },
            "layers has 'relu3', but features give 'relu1', 'relu2'; did you mean",
        ),
        (
            {"features": lambda images: [images.mean()], "layers": [1.0]},
            "layer 0 of shape () for images of shape (2, 8",
        ),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        perceptual_loss(PREDICTIONS, TARGETS, **{"features": sums_and_squares, **options})
