"""What holds for the luminance L1 loss whatever the images.

Constant shifts, windows, masks, equality and grey.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumloss_jax import luminance_l1_loss, luminance_l1_terms

BRIGHTNESS = ("luma", "luminance", "lightness")
PENALTIES = ("l1", "l2", "charbonnier", "huber")
WINDOWS: tuple[dict[str, Any], ...] = (
    {},
    {"window_size": 3},
    {"window_size": 7, "window": "gaussian"},
    {"window_size": 31},
    {"window_size": 5, "window": "gaussian", "window_sigma": 9.0},
)
# Each brightness, each window; the window comes after the brightness and does not know which it
# was.
OPTIONS = [
    {"brightness": brightness, **WINDOWS[i]}
    for brightness, i in (
        ("luma", 0),
        ("luma", 1),
        ("luminance", 1),
        ("lightness", 0),
        ("lightness", 2),
    )
]


def random_pair(
    shape: tuple[int, ...] = (2, 8, 9, 3), seed: int = 0
) -> tuple[jax.Array, jax.Array]:
    predictions, targets = (
        np.random.default_rng(seed).uniform(-0.2, 1.2, (2, *shape)).astype(np.float32)
    )
    return jnp.asarray(predictions), jnp.asarray(targets)


# One program for all of its operations, where there would be one for each.
compiled_terms = jax.jit(luminance_l1_terms, static_argnames=("brightness", "window_size"))


def name(options: dict[str, Any]) -> str:
    return " ".join(map(str, options.values())) or "plain"


@functools.cache
def compiled(brightness: str, window: str, window_size: int) -> Callable[..., Any]:
    """value_and_grad(predictions, targets, mask) for both images, compiled once for all tests."""

    def loss(predictions: jax.Array, targets: jax.Array, mask: Any) -> jax.Array:
        options = {"brightness": brightness, "window": window, "window_size": window_size}
        return luminance_l1_loss(predictions, targets, mask=mask, **options)

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))


def run(predictions: Any, targets: Any, mask: Any, options: dict[str, Any]) -> Any:
    function = compiled(
        options["brightness"], options.get("window", "box"), options.get("window_size", 1)
    )
    return function(predictions, targets, None if mask is None else jnp.asarray(mask, jnp.float32))


# Constant shifts


def exact(image: jax.Array) -> jax.Array:
    """Values that float32 adds and subtracts without rounding: all error is the loss's own."""
    return jnp.round(image * 1024) / 1024


@pytest.mark.parametrize("window", WINDOWS, ids=name)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_constant_shift_gives_the_weights_times_it(window: dict[str, Any], channels: int) -> None:
    targets = exact(random_pair((2, 8, 9, channels))[0])
    loss = jax.jit(
        lambda p, t: luminance_l1_loss(p, t, luminance_weight=0.7, color_weight=0.4, **window)
    )
    for shift in (0.125, -0.5):
        np.testing.assert_allclose(
            loss(targets + shift, targets), (0.7 + 0.4) * abs(shift), rtol=1e-6
        )


@pytest.mark.parametrize("coefficients", ["rec601", "rec709", "rec2020", (0.2, 0.3, 0.5)])
def test_every_set_of_coefficients_keeps_a_shift(coefficients: Any) -> None:
    targets = exact(random_pair()[0])
    terms = luminance_l1_terms(targets + 0.125, targets, coefficients=coefficients)
    np.testing.assert_allclose(terms, (0.125, 0.125), rtol=1e-6)


def test_with_the_default_weights_a_shift_scores_as_in_plain_l1() -> None:
    targets = exact(random_pair()[0])
    np.testing.assert_allclose(luminance_l1_loss(targets - 0.25, targets), 0.25, rtol=1e-6)


# Windows


@pytest.mark.parametrize("brightness", BRIGHTNESS)
@pytest.mark.parametrize("window", ["box", "gaussian"])
def test_a_window_of_one_is_none(brightness: str, window: str) -> None:
    pair = random_pair()
    plain = luminance_l1_terms(*pair, brightness=brightness)
    np.testing.assert_array_equal(
        luminance_l1_terms(*pair, brightness=brightness, window=window, window_size=1), plain
    )


def test_a_window_lowers_only_the_brightness_term() -> None:
    """An average of differences is at most the average of their sizes.

    This holds if the window lies inside the image.
    """
    pair = random_pair((1, 40, 40, 3))
    plain, windowed = compiled_terms(*pair), compiled_terms(*pair, window_size=7)
    assert windowed.color == plain.color and windowed.luminance < 0.5 * plain.luminance


def test_a_window_larger_than_the_image_compares_mean_brightness() -> None:
    predictions, targets = random_pair((6, 5, 3))
    luma = np.asarray(predictions - targets) @ np.array([0.299, 0.587, 0.114])
    for size in (11, 101):
        terms = compiled_terms(predictions, targets, window_size=size)
        np.testing.assert_allclose(terms.luminance, np.abs(np.mean(luma)), rtol=1e-5)


# Masks


@pytest.mark.parametrize("options", OPTIONS, ids=name)
def test_a_mask_of_ones_is_none(options: dict[str, Any]) -> None:
    pair = random_pair()
    value, gradients = run(*pair, None, options)
    for weight in (1, 3):  # shares count
        masked, gradients_masked = run(*pair, np.full((2, 8, 9), weight), options)
        np.testing.assert_allclose(masked, value, rtol=1e-6)
        np.testing.assert_allclose(gradients_masked, gradients, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("kind", [bool, np.int32, np.float16, np.float32])
@pytest.mark.parametrize(
    "shape", [(2, 8, 9), (2, 8, 9, 1), (2, 1, 1), (2, 1, 1, 1), (1, 8, 1), (1, 1, 1, 1)]
)
def test_masks_of_every_shape_and_kind_are_taken(kind: type, shape: tuple[int, ...]) -> None:
    pair = random_pair()
    terms = luminance_l1_terms(*pair, mask=np.ones(shape, kind))
    np.testing.assert_allclose(terms, luminance_l1_terms(*pair), rtol=1e-6)


@pytest.mark.parametrize("options", OPTIONS, ids=name)
def test_hidden_pixels_have_no_influence_even_as_nan(
    options: dict[str, Any],
) -> None:
    predictions, targets = random_pair()
    hidden = np.random.default_rng(1).random((2, 8, 9)) < 0.4
    hidden[0, :, :5] = (
        True  # wider than the windows: pixels with nothing but hidden ones round them
    )
    expected = run(predictions, targets, ~hidden, options)
    for garbage in (np.float32(np.nan), np.float32(np.inf), np.float32(1e30), np.float32(0.3)):
        spoilt = [
            np.where(hidden[..., None], number, image)
            for number, image in ((garbage, predictions), (-garbage, targets))
        ]
        loss, gradients = run(*spoilt, ~hidden, options)
        np.testing.assert_array_equal(loss, expected[0])
        for gradient, wanted in zip(gradients, expected[1], strict=True):
            np.testing.assert_array_equal(gradient, wanted)
            assert (gradient[hidden] == 0).all()


def test_hidden_pixels_do_not_leak_through_the_window() -> None:
    """Visible pixels are off by 0.1 and hidden ones by 5.

    The average of what is visible is 0.1, next to hidden pixels too.
    """
    targets = jnp.full((1, 9, 9, 3), 0.4)
    mask = jnp.ones((1, 9, 9)).at[0, 3:6, 3:6].set(0)
    predictions = targets + jnp.where(mask[..., None] > 0, 0.1, 5.0)
    for window in WINDOWS:
        terms = jax.jit(lambda p, t, window=window: luminance_l1_terms(p, t, mask=mask, **window))(
            predictions, targets
        )
        np.testing.assert_allclose(terms, (0.1, 0.1), rtol=1e-5)


@pytest.mark.parametrize("options", OPTIONS, ids=name)
def test_a_mask_of_zeros_gives_zero_and_no_gradient(options: dict[str, Any]) -> None:
    predictions, targets = random_pair()
    for images in ((predictions, targets), (np.full_like(predictions, np.nan), targets)):
        loss, gradients = run(*images, np.zeros((2, 8, 9)), options)
        assert loss == 0 and all((gradient == 0).all() for gradient in gradients)


@pytest.mark.parametrize("penalty", ["l2", "charbonnier", "huber"])  # the one above is l1
def test_under_a_mask_of_zeros_no_penalty_leaves_anything(penalty: str) -> None:
    mask = np.zeros((2, 8, 9), np.float32)
    masked = jax.jit(
        jax.value_and_grad(lambda p, t: luminance_l1_loss(p, t, mask=mask, penalty=penalty))
    )
    loss, gradient = masked(*random_pair())
    assert loss == 0 and (gradient == 0).all()


def test_one_weight_per_image_weighs_their_losses() -> None:
    predictions, targets = random_pair()
    each = jax.jit(jax.vmap(luminance_l1_loss))(predictions, targets)
    weighted = jax.jit(luminance_l1_loss)(
        predictions, targets, mask=jnp.array([1.0, 3.0]).reshape(2, 1, 1)
    )
    np.testing.assert_allclose(weighted, (each[0] + 3 * each[1]) / 4, rtol=1e-6)
    windowed = jax.jit(functools.partial(luminance_l1_loss, window_size=5))
    mask = jnp.array([0, 2]).reshape(2, 1, 1, 1)
    np.testing.assert_allclose(
        windowed(predictions, targets, mask=mask), windowed(predictions[1], targets[1]), rtol=1e-5
    )


def test_the_gradient_of_a_learned_mask_is_finite() -> None:
    pair, mask = random_pair(), jnp.zeros((2, 8, 9)).at[:, 2, 2].set(1.0)
    # Weighs the far end of the image 1e-60
    narrow = {
        "window_size": 15,
        "window": "gaussian",
        "window_sigma": 0.4,
    }
    gradient = jax.jit(jax.grad(lambda mask: luminance_l1_loss(*pair, mask=mask, **narrow)))(mask)
    assert jnp.isfinite(gradient).all()


# Equality


@pytest.mark.parametrize("options", OPTIONS, ids=name)
@pytest.mark.parametrize("penalty", PENALTIES)
def test_equal_images_cost_nothing_but_charbonniers_epsilon(
    options: dict[str, Any], penalty: str
) -> None:
    image = random_pair()[0]
    scale = {"charbonnier_epsilon": 0.01} if penalty == "charbonnier" else {}
    loss = luminance_l1_loss(
        image, image, luminance_weight=0.7, color_weight=0.4, penalty=penalty, **scale, **options
    )
    np.testing.assert_allclose(
        loss, (0.7 + 0.4) * 0.01 if penalty == "charbonnier" else 0, rtol=1e-6
    )


@pytest.mark.parametrize("options", OPTIONS, ids=name)
def test_the_images_may_change_places(options: dict[str, Any]) -> None:
    predictions, targets = random_pair()
    there, back = (
        luminance_l1_terms(predictions, targets, **options),
        luminance_l1_terms(targets, predictions, **options),
    )
    np.testing.assert_allclose(there, back, rtol=1e-6)


# Grey images, order and scale of images


@pytest.mark.parametrize("options", OPTIONS, ids=name)
def test_a_grey_image_scores_the_same_with_one_channel(
    options: dict[str, Any],
) -> None:
    predictions, targets = random_pair((2, 8, 9, 1))
    grey = luminance_l1_terms(predictions, targets, **options)
    repeated = luminance_l1_terms(
        jnp.repeat(predictions, 3, -1), jnp.repeat(targets, 3, -1), **options
    )
    np.testing.assert_allclose(grey, repeated, rtol=1e-5, atol=1e-6)
    ignored = luminance_l1_terms(predictions, targets, coefficients=(1, 0, 0), **options)
    np.testing.assert_array_equal(grey, ignored)


def test_leading_axes_are_one_batch() -> None:
    predictions, targets = random_pair((2, 3, 4, 5, 3))
    windowed = functools.partial(luminance_l1_terms, window_size=3)
    expected = jax.jit(windowed)(predictions, targets)
    flat = jax.jit(windowed)(predictions.reshape(6, 4, 5, 3), targets.reshape(6, 4, 5, 3))
    np.testing.assert_allclose(flat, expected, rtol=1e-6)
    each = jax.jit(jax.vmap(jax.vmap(windowed)))(predictions, targets)
    np.testing.assert_allclose((each.luminance.mean(), each.color.mean()), expected, rtol=1e-6)


def test_values_outside_the_nominal_range_are_not_clipped() -> None:
    image = jnp.full((1, 2, 2, 3), 1.5)
    for brightness in BRIGHTNESS:
        for predictions, targets in ((image + 0.5, image), (-image - 0.5, -image)):
            assert compiled_terms(predictions, targets, brightness=brightness).luminance > 0.01
    below = compiled_terms(-image, 0 * image, brightness="luminance").luminance
    # SRGB's straight line goes on below 0
    np.testing.assert_allclose(below, 1.5 / 12.92, rtol=1e-6)
    below = compiled_terms(-image, 0 * image, brightness="lightness").luminance
    # And so does that of L*
    np.testing.assert_allclose(below, 1.5 / 12.92 * (29 / 3) ** 3 / 100, rtol=1e-6)
