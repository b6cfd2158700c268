"""Gradients of the luminance L1 loss: finite everywhere, and equal to numerical differences."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lumloss_jax import luminance_l1_loss, luminance_l1_terms

BRIGHTNESS = ("luma", "luminance", "lightness")
PENALTIES = ("l1", "l2", "charbonnier", "huber")
WINDOWS: tuple[dict[str, Any], ...] = (
    {},
    {"window_size": 3},
    {"window_size": 9, "window": "gaussian"},
)

RANDOM = np.random.default_rng(0).uniform(0, 1, (1, 6, 5, 3)).astype(np.float32)
THRESHOLDS = np.resize(np.float32([0.04045, 0.0031308, (6 / 29) ** 3, -0.055, 0.0]), RANDOM.shape)
PAIRS = {
    "equal": (RANDOM, RANDOM),
    "equal black": (0 * RANDOM, 0 * RANDOM),
    "equal white": (0 * RANDOM + 1, 0 * RANDOM + 1),
    "black against random": (0 * RANDOM, RANDOM),
    "random against black": (RANDOM, 0 * RANDOM),
    "random against what is just below the power's zero": (RANDOM, 0 * RANDOM - 0.055),
    "saturated against black": (0 * RANDOM + 1, 0 * RANDOM),
    "below and above the range": (RANDOM * 20 - 10, RANDOM[::-1]),
    "just below the power's zero": (0 * RANDOM - 0.055, RANDOM),
    "on the curves' thresholds": (THRESHOLDS, RANDOM),
    "one pixel apart": (RANDOM, np.where(np.arange(90).reshape(1, 6, 5, 3) == 40, 0, RANDOM)),
    "tiny": (RANDOM * 1e-38, 0 * RANDOM),
}


# Every brightness with every penalty; the windows go round, so that each meets every brightness and
# every penalty.
CASES = [
    (brightness, penalty, WINDOWS[(i + j) % 3])
    for i, brightness in enumerate(BRIGHTNESS)
    for j, penalty in enumerate(PENALTIES)
]
# Four of them hold every brightness, penalty and window.
QUICK = CASES[:1] + CASES[5:6] + CASES[10:12]
every_case = pytest.mark.parametrize(
    ("brightness", "penalty", "window"),
    [pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES],
)


@every_case
def test_values_and_gradients_are_finite(
    brightness: str, penalty: str, window: dict[str, Any]
) -> None:
    mask = np.ones((1, 6, 5), np.float32)
    mask[0, 2:4] = 0

    def loss(predictions: jax.Array, targets: jax.Array) -> jax.Array:
        mask_if_windowed = {"mask": mask} if window else {}
        return luminance_l1_loss(
            predictions,
            targets,
            brightness=brightness,
            penalty=penalty,
            **window,
            **mask_if_windowed,
        )

    run = jax.jit(jax.value_and_grad(loss))  # the targets' gradient is its mirror image
    for name, pair in PAIRS.items():
        value, gradient = run(*pair)
        assert np.isfinite(value) and np.isfinite(gradient).all(), name


@pytest.mark.parametrize("brightness", BRIGHTNESS)
def test_second_derivatives_are_finite(brightness: str) -> None:
    def loss(predictions: jax.Array, targets: jax.Array) -> jax.Array:
        return luminance_l1_loss(
            predictions, targets, brightness=brightness, penalty="charbonnier", window_size=3
        )

    def along_gradient(predictions: jax.Array, targets: jax.Array) -> jax.Array:
        gradient = jax.grad(loss)(predictions, targets)
        return jnp.sum(gradient * jax.lax.stop_gradient(gradient))

    run = jax.jit(jax.grad(along_gradient))
    for name, pair in PAIRS.items():
        assert np.isfinite(run(*pair)).all(), name


def away_from_kinks() -> tuple[jax.Array, jax.Array]:
    """Images whose differences stay clear of every kink.

    Every difference is at least 0.05 (Huber's delta), its sign is that of its row, and no value
    is at a threshold.
    """
    generator = np.random.default_rng(3)
    targets = generator.uniform(0.3, 0.6, (1, 5, 4, 3))
    sign = np.array([1, -1, 1, 1, -1]).reshape(1, 5, 1, 1)
    predictions = targets + sign * generator.uniform(0.08, 0.2, targets.shape)
    # On the curves' straight lines
    predictions[0, 0, 0], targets[0, 0, 0] = (
        (-0.02, -0.07, 0.01),
        (-0.3, -0.2, -0.1),
    )
    return jnp.asarray(predictions), jnp.asarray(targets)


@every_case
def test_gradients_are_those_of_numerical_differences(
    brightness: str, penalty: str, window: dict[str, Any], float64: None
) -> None:
    """Compares slopes along one random direction in everything that is differentiated.

    That is the images, the weights, the penalty's scale and the mask.
    """
    mask = jnp.asarray(np.random.default_rng(4).uniform(0.2, 1, (1, 5, 4)))
    point = (*away_from_kinks(), jnp.array([0.7, 0.4]), jnp.asarray(0.03), mask)
    rng = np.random.default_rng(5)
    direction = tuple(jnp.asarray(rng.uniform(-0.3, 1, array.shape)) for array in point)

    def loss(
        predictions: jax.Array,
        targets: jax.Array,
        weights: jax.Array,
        scale: jax.Array,
        mask: jax.Array,
    ) -> Any:
        return luminance_l1_loss(
            predictions,
            targets,
            luminance_weight=weights[0],
            color_weight=weights[1],
            brightness=brightness,
            penalty=penalty,
            charbonnier_epsilon=scale if penalty == "charbonnier" else None,
            huber_delta=scale if penalty == "huber" else None,
            mask=mask,
            **window,
        )

    @jax.jit
    def along(step: jax.Array) -> tuple[jax.Array, jax.Array]:
        there = tuple(
            array + step * towards for array, towards in zip(point, direction, strict=True)
        )
        value, gradients = jax.value_and_grad(loss, argnums=(0, 1, 2, 3, 4))(*there)
        return value, jnp.stack(
            [jnp.vdot(*pair) for pair in zip(gradients, direction, strict=True)]
        ).sum()

    step = 1e-6
    numerical = (along(step)[0] - along(-step)[0]) / (2 * step)
    assert numerical.dtype == jnp.float64 and abs(numerical) > 1e-3
    np.testing.assert_allclose(along(0.0)[1], numerical, rtol=1e-7, atol=1e-9)


def test_curvature_is_that_of_numerical_differences(float64: None) -> None:
    predictions, targets = away_from_kinks()

    @jax.jit
    def loss(predictions: jax.Array) -> jax.Array:
        return luminance_l1_loss(
            predictions, targets, brightness="lightness", penalty="charbonnier", window_size=5
        )

    check_grads(loss, (predictions,), order=2, modes=("rev",), atol=1e-6, rtol=1e-5, eps=1e-6)


def test_weights_learn_from_their_own_terms() -> None:
    """The loss is linear in its weights: the gradient with respect to each is its term."""
    pair = (jnp.asarray(RANDOM), jnp.asarray(RANDOM[:, ::-1]))
    gradients = jax.grad(
        lambda weights: luminance_l1_loss(
            *pair, luminance_weight=weights[0], color_weight=weights[1]
        ),
    )(jnp.array([0.3, 0.9]))
    np.testing.assert_allclose(gradients, luminance_l1_terms(*pair), rtol=1e-6)


def test_gradients_come_back_in_the_images_own_dtype() -> None:
    for dtype in (jnp.float16, jnp.bfloat16, jnp.float32):
        pair = (jnp.asarray(RANDOM, dtype), jnp.asarray(RANDOM[:, ::-1], jnp.float32))
        gradients = jax.grad(luminance_l1_loss, argnums=(0, 1))(*pair)
        assert [gradient.dtype for gradient in gradients] == [dtype, jnp.float32]


@pytest.mark.parametrize("window", WINDOWS, ids=["plain", "box", "gaussian"])
@pytest.mark.parametrize("brightness", BRIGHTNESS)
def test_equal_images_are_not_pushed(brightness: str, window: dict[str, Any]) -> None:
    """Compiled, two equal curves may be rounded apart, and |.| would make a full slope of that."""
    image = jnp.asarray(
        np.random.default_rng(0).uniform(-0.2, 1.2, (2, 16, 17, 3)).astype(np.float32)
    )
    loss = jax.jit(
        jax.value_and_grad(lambda p, t: luminance_l1_loss(p, t, brightness=brightness, **window))
    )
    value, gradient = loss(image, image)
    assert value == 0 and (gradient == 0).all()
