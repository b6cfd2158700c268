"""The numbers of the luminance L1 loss, by hand and against a reference in NumPy float64.

The reference is written from the definition.
"""

import functools
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumloss_jax import LuminanceL1Terms, luminance_l1_loss, luminance_l1_terms

COEFFICIENTS = {
    "rec601": (0.299, 0.587, 0.114),
    "rec709": (0.2126, 0.7152, 0.0722),
    "rec2020": (0.2627, 0.6780, 0.0593),
}
SHAPES = ((2, 5, 6, 3), (7, 4, 1), (1, 1, 9, 3), (2, 1, 3, 4, 3))

# Four pixels of a 2 x 2 image and what they differ by from a grey target: red, green, blue; luma.
DIFFERENCE = np.array(
    [[[0.1, 0.2, 0.3], [0.0, 0.0, 0.0]], [[-0.2, 0.1, 0.0], [0.5, 0.5, 0.5]]], np.float32
)
#                       0.0299 + 0.1174 + 0.0342 = 0.1815; 0; -0.0598 + 0.0587 = -0.0011; 0.5
TARGETS = np.full((2, 2, 3), 0.25, np.float32)


# By hand


def test_hand_worked_defaults() -> None:
    terms = luminance_l1_terms(TARGETS + DIFFERENCE, TARGETS)
    np.testing.assert_allclose(terms.luminance, (0.1815 + 0 + 0.0011 + 0.5) / 4, rtol=1e-5)
    np.testing.assert_allclose(terms.color, (0.6 + 0 + 0.3 + 1.5) / 12, rtol=1e-5)
    np.testing.assert_allclose(
        luminance_l1_loss(TARGETS + DIFFERENCE, TARGETS), 0.185325, rtol=1e-5
    )


def test_hand_worked_gradient() -> None:
    gradient = jax.grad(luminance_l1_loss)(TARGETS + DIFFERENCE, TARGETS)
    rec601, each = np.array(COEFFICIENTS["rec601"]), np.ones(3)
    np.testing.assert_allclose(gradient[0, 0], 0.5 * rec601 / 4 + 0.5 * each / 12, rtol=1e-5)
    # What is right already is not pushed: the second pixel, and blue in the third.
    np.testing.assert_array_equal(gradient[0, 1], np.zeros(3))
    np.testing.assert_allclose(
        gradient[1, 0], -0.5 * rec601 / 4 + 0.5 * np.array([-1, 1, 0]) / 12, rtol=1e-5
    )


def test_hand_worked_window() -> None:
    """A window of 3 covers a whole 2 x 2 image from each pixel: errors cancel in one mean."""
    terms = luminance_l1_terms(TARGETS + DIFFERENCE, TARGETS, window_size=3)
    np.testing.assert_allclose(terms.luminance, (0.1815 - 0.0011 + 0.5) / 4, rtol=1e-5)
    np.testing.assert_allclose(terms.color, 0.2, rtol=1e-5)


def test_hand_worked_mask() -> None:
    mask = np.array([[3, 0], [0, 1]])
    terms = luminance_l1_terms(TARGETS + DIFFERENCE, TARGETS, mask=mask)
    np.testing.assert_allclose(terms.luminance, (3 * 0.1815 + 0.5) / 4, rtol=1e-5)
    np.testing.assert_allclose(terms.color, (3 * 0.6 + 1.5) / 12, rtol=1e-5)
    windowed = luminance_l1_terms(TARGETS + DIFFERENCE, TARGETS, mask=mask, window_size=3)
    # One mean again, weighted
    np.testing.assert_allclose(windowed.luminance, (3 * 0.1815 + 0.5) / 4, rtol=1e-5)


@pytest.mark.parametrize(
    ("penalty", "options", "expected"),
    [
        ("l1", {}, 0.5),
        ("l2", {}, 0.25),
        ("charbonnier", {"charbonnier_epsilon": 1.2}, 1.3),  # 5, 12, 13
        ("huber", {"huber_delta": 0.2}, 0.2 * (0.5 - 0.1)),
        ("huber", {"huber_delta": 1.0}, 0.125),
    ],
)
def test_hand_worked_penalties(penalty: str, options: dict[str, float], expected: float) -> None:
    terms = luminance_l1_terms(TARGETS + np.float32(0.5), TARGETS, penalty=penalty, **options)
    np.testing.assert_allclose(terms, (expected, expected), rtol=1e-6)


@pytest.mark.parametrize(
    ("brightness", "white_minus_black", "mid_grey"),
    [("luma", 1.0, 0.5), ("luminance", 1.0, 0.21404114), ("lightness", 1.0, 0.53388964)],
)
def test_hand_worked_brightness(brightness: str, white_minus_black: float, mid_grey: float) -> None:
    """The lightness of grey 0.5 by hand: L* is 116 Y^(1/3) - 16.

    By IEC 61966-2-1, 0.5 encodes ((0.5 + 0.055) / 1.055)^2.4 of white's light.
    """
    black = jnp.zeros((1, 2, 2, 3))
    terms = luminance_l1_terms(black + 1.0, black, brightness=brightness)
    np.testing.assert_allclose(terms.luminance, white_minus_black, rtol=1e-6)
    terms = luminance_l1_terms(black + 0.5, black, brightness=brightness)
    np.testing.assert_allclose(terms.luminance, mid_grey, rtol=1e-5)


def test_terms_are_named_and_weighed_into_the_loss() -> None:
    terms = luminance_l1_terms(TARGETS + DIFFERENCE, TARGETS, brightness="lightness", window_size=3)
    assert isinstance(terms, LuminanceL1Terms) and terms._fields == ("luminance", "color")
    loss = luminance_l1_loss(
        TARGETS + DIFFERENCE,
        TARGETS,
        luminance_weight=0.3,
        color_weight=2,
        brightness="lightness",
        window_size=3,
    )
    np.testing.assert_allclose(loss, 0.3 * terms.luminance + 2 * terms.color, rtol=1e-6)


def test_red_comes_first() -> None:
    """OpenCV's images, blue first, give a different loss, as the documentation says."""
    black = jnp.zeros((1, 1, 3))
    for channel, weight in enumerate(COEFFICIENTS["rec601"]):
        terms = luminance_l1_terms(black.at[..., channel].set(1.0), black)
        np.testing.assert_allclose(terms.luminance, weight, rtol=1e-6)


# Against NumPy


def reference_brightness(image: np.ndarray, brightness: str, coefficients: Any) -> np.ndarray:
    if coefficients is None:
        coefficients = "rec601" if brightness == "luma" else "rec709"
    weights = np.array(
        COEFFICIENTS.get(coefficients, coefficients)
        if isinstance(coefficients, str)
        else coefficients
    )
    if brightness != "luma":
        with np.errstate(invalid="ignore"):  # the power of a negative number, which is not chosen
            image = np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)
    signal = image[..., 0] if image.shape[-1] == 1 else image @ weights
    if brightness == "lightness":
        line = (29 / 3) ** 3 * signal / 100
        signal = np.where(signal > (6 / 29) ** 3, (116 * np.cbrt(signal) - 16) / 100, line)
    return signal


def reference_window(
    values: np.ndarray, mask: np.ndarray, size: int, kind: str, sigma: float | None
) -> np.ndarray:
    radius = size // 2
    if sigma is None:
        sigma = 0.3 * ((size - 1) / 2 - 1) + 0.8
    height, width = values.shape[-2:]
    result = np.zeros_like(values)
    for row, column in np.ndindex(height, width):
        total, weight = np.zeros(values.shape[:-2]), np.zeros(values.shape[:-2])
        for i, j in np.ndindex(height, width):
            if abs(i - row) > radius or abs(j - column) > radius:
                continue
            tap = (
                1.0
                if kind == "box"
                else np.exp(-((i - row) ** 2 + (j - column) ** 2) / (2 * sigma**2))
            )
            total += tap * mask[..., i, j] * values[..., i, j]
            weight += tap * mask[..., i, j]
        result[..., row, column] = total / np.where(weight == 0, 1, weight)
    return result


def reference_terms(
    predictions: np.ndarray, targets: np.ndarray, options: dict[str, Any]
) -> tuple[float, float]:
    o = {
        "brightness": "luma",
        "coefficients": None,
        "window_size": 1,
        "window": "box",
        "window_sigma": None,
    }
    o |= {"penalty": "l1", "charbonnier_epsilon": 1e-3, "huber_delta": 0.05, "mask": None} | options
    predictions, targets = predictions.astype(np.float64), targets.astype(np.float64)
    pixels = predictions.shape[:-1]
    mask = np.ones(pixels) if o["mask"] is None else np.asarray(o["mask"], np.float64)
    mask = np.broadcast_to(mask[..., 0] if mask.ndim == predictions.ndim else mask, pixels)

    def rho(x: np.ndarray) -> np.ndarray:
        size, delta = np.abs(x), o["huber_delta"]
        return {
            "l1": size,
            "l2": x**2,
            "charbonnier": np.hypot(x, o["charbonnier_epsilon"]),
            "huber": np.where(size <= delta, x**2 / 2, delta * (size - delta / 2)),
        }[o["penalty"]]

    brightness = [
        reference_brightness(image, o["brightness"], o["coefficients"])
        for image in (predictions, targets)
    ]
    difference = brightness[0] - brightness[1]
    if o["window_size"] > 1:
        difference = reference_window(
            difference, mask, o["window_size"], o["window"], o["window_sigma"]
        )
    if not mask.any():
        return 0.0, 0.0
    color = rho(predictions - targets).mean(-1)
    return float((mask * rho(difference)).sum() / mask.sum()), float(
        (mask * color).sum() / mask.sum()
    )


@st.composite
def options_and_shape(draw: st.DrawFn) -> tuple[tuple[int, ...], dict[str, Any]]:
    shape = draw(st.sampled_from(SHAPES))
    options: dict[str, Any] = {
        "brightness": draw(st.sampled_from(["luma", "luminance", "lightness"])),
        "coefficients": draw(st.sampled_from([None, *COEFFICIENTS, (0.5, 0.25, 0.25), (1, 0, 0)])),
        "window_size": draw(st.sampled_from([1, 3, 5, 7, 21])),
        "window": draw(st.sampled_from(["box", "gaussian"])),
        "penalty": draw(st.sampled_from(["l1", "l2", "charbonnier", "huber"])),
    }
    if options["penalty"] == "charbonnier":
        options["charbonnier_epsilon"] = draw(st.sampled_from([1e-4, 1e-3, 0.3]))
    if options["penalty"] == "huber":
        options["huber_delta"] = draw(st.sampled_from([0.01, 0.05, 0.5]))
    if options["window"] == "gaussian":
        options["window_sigma"] = draw(st.sampled_from([None, 0.4, 2.5]))
    kind = draw(st.sampled_from([None, bool, np.int32, np.float16, np.float32]))
    if kind is not None:
        sizes = [*shape[:-1], *draw(st.sampled_from([[], [1]]))]
        broadcast = draw(st.sets(st.integers(0, len(shape) - 2)))  # one weight per image is {1, 2}
        sizes = [1 if axis in broadcast else size for axis, size in enumerate(sizes)]
        mask = np.random.default_rng(draw(st.integers(0, 99))).uniform(0, 2, sizes)
        options["mask"] = np.where(mask < draw(st.sampled_from([0.5, 1.0, 3.0])), 0, mask).astype(
            kind
        )
    return shape, options


@hypothesis.given(
    case=options_and_shape(), seed=st.integers(0, 999), weights=st.tuples(*[st.floats(0, 3)] * 2)
)
def test_every_option_agrees_with_numpy_in_float64(
    case: tuple[tuple[int, ...], dict[str, Any]], seed: int, weights: tuple[float, float]
) -> None:
    shape, options = case
    images = np.random.default_rng(seed).uniform(-0.2, 1.2, (2, *shape)).astype(np.float32)
    expected = reference_terms(*images, options)

    @jax.jit
    def both(images: jax.Array, weights: jax.Array) -> tuple[LuminanceL1Terms, jax.Array]:
        loss = luminance_l1_loss(
            *images, luminance_weight=weights[0], color_weight=weights[1], **options
        )
        return luminance_l1_terms(*images, **options), loss

    terms, loss = both(images, jnp.array(weights))
    np.testing.assert_allclose(terms, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(loss, np.dot(weights, expected), rtol=1e-5, atol=1e-6)


def test_values_and_gradients_by_pytorch_in_float64(
    reference_batch: tuple[np.ndarray, np.ndarray, dict],
) -> None:
    predictions, targets, expected = reference_batch
    for coefficients in ("rec601", "rec709"):
        wanted = expected[f"luma{coefficients[3:]}_l1"]
        options = {"luminance_weight": 1.0, "color_weight": 0.0, "coefficients": coefficients}
        run = jax.jit(jax.value_and_grad(functools.partial(luminance_l1_loss, **options)))
        value, gradient = run(predictions, targets)
        np.testing.assert_allclose(value, wanted["value"], rtol=1e-6)
        np.testing.assert_allclose(
            np.linalg.norm(np.float64(gradient)), wanted["grad_l2"], rtol=1e-6
        )
        for place, number in wanted["grad_at"].items():
            n, c, h, w = (int(i) for i in place.strip("[]").split(","))
            np.testing.assert_allclose(gradient[n, h, w, c], number, rtol=1e-6)


# Dtypes


@pytest.mark.parametrize("predictions_dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("targets_dtype", ["float16", "bfloat16", "float32"])
def test_half_precisions_are_accumulated_in_float32(
    predictions_dtype: str, targets_dtype: str
) -> None:
    predictions = jnp.asarray(TARGETS + DIFFERENCE, predictions_dtype)
    targets = jnp.asarray(TARGETS, targets_dtype)
    for options in (
        {},
        {"brightness": "lightness", "window_size": 3, "mask": np.ones((2, 2), bool)},
    ):
        run = jax.jit(jax.value_and_grad(functools.partial(luminance_l1_loss, **options)))
        loss, gradient = run(predictions, targets)
        assert (
            loss.dtype == jnp.float32 and loss.shape == () and gradient.dtype == predictions.dtype
        )
        terms = reference_terms(
            np.asarray(predictions, np.float64), np.asarray(targets, np.float64), options
        )
        # Of the rounded images, not of a rounded sum
        np.testing.assert_allclose(loss, np.mean(terms), rtol=1e-5)


def test_a_half_precision_sum_would_stop_growing_before() -> None:
    predictions, targets = (
        jnp.full((4, 64, 64, 3), 0.3, jnp.float16),
        jnp.zeros((4, 64, 64, 3), jnp.float16),
    )
    np.testing.assert_allclose(
        luminance_l1_loss(predictions, targets), np.float16(0.3).astype(float), rtol=1e-6
    )


@pytest.mark.parametrize(
    "options", [{}, {"brightness": "lightness", "window_size": 3, "penalty": "charbonnier"}]
)
def test_float64_stays_float64(options: dict[str, Any], float64: None) -> None:
    predictions, targets = jnp.asarray(TARGETS + DIFFERENCE, jnp.float64), jnp.asarray(TARGETS)
    assert targets.dtype == jnp.float32
    loss, gradient = jax.jit(jax.value_and_grad(functools.partial(luminance_l1_loss, **options)))(
        predictions, targets
    )
    assert loss.dtype == gradient.dtype == jnp.float64
    terms = reference_terms(TARGETS + DIFFERENCE, TARGETS, options)
    np.testing.assert_allclose(loss, np.mean(terms), rtol=1e-12)


def test_numpy_images_are_taken_as_they_are() -> None:
    assert luminance_l1_loss(np.zeros((2, 2, 3)), np.zeros((2, 2, 3))).dtype == jnp.float32
