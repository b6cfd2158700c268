"""What the luminance L1 loss refuses, and what its messages say.

They name the argument, what was given, what is accepted and what to do.

Each error is raised in the same words eagerly, while jit traces, and with chex's own assertions
switched off.
"""

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumloss_jax import luminance_l1_loss, luminance_l1_terms

IMAGES = np.zeros((2, 8, 9, 3), np.float32)
WEIGHTS = ("luminance_weight", "color_weight")
# What is wrong -> predictions, targets, options, and what the message holds, in this order.
IMAGE_ERRORS: dict[str, tuple[Any, Any, tuple[str, ...]]] = {
    "8-bit predictions": (
        IMAGES.astype(np.uint8),
        IMAGES,
        (
            "predictions have dtype uint8",
            "floats of nominal range [0, 1]",
            "predictions.astype('float32') / 255",
        ),
    ),
    "16-bit targets": (IMAGES, IMAGES.astype(np.uint16), ("targets have dtype uint16", "/ 65535")),
    "boolean images": (IMAGES > 0, IMAGES > 0, ("predictions have dtype bool", "convert with")),
    "complex images": (
        IMAGES + 0j,
        IMAGES + 0j,
        ("predictions have dtype complex", "convert with"),
    ),
    "channels first": (
        np.zeros((2, 3, 8, 9), np.float32),
        np.zeros((2, 3, 8, 9), np.float32),
        (
            "predictions have shape (2, 3, 8, 9)",
            "[..., H, W, C]",
            "NCHW",
            "jnp.moveaxis(predictions, -3, -1)",
        ),
    ),
    "alpha": (
        np.zeros((2, 8, 9, 4), np.float32),
        np.zeros((2, 8, 9, 4), np.float32),
        ("predictions have shape (2, 8, 9, 4)", "RGBA", "predictions[..., :3]"),
    ),
    "two axes": (
        IMAGES[0, ..., 0],
        IMAGES[0, ..., 0],
        ("predictions has shape (8, 9)", "predictions[..., None]"),
    ),
    "grey images without a channel axis": (
        IMAGES[..., 0],
        IMAGES[..., 0],
        ("predictions have shape (2, 8, 9)", "C in (1, 3)", "predictions[..., None]"),
    ),
    "grey against colour": (
        IMAGES[..., :1],
        IMAGES,
        ("predictions have shape (2, 8, 9, 1) and targets (2, 8, 9, 3)", "must be the same"),
    ),
    "another size": (
        IMAGES[:, :7],
        IMAGES,
        ("predictions have shape (2, 7, 9, 3)", "targets (2, 8, 9, 3)"),
    ),
    "one target for the batch": (IMAGES, IMAGES[0], ("targets (8, 9, 3)", "not broadcast")),
    "no pixels": (IMAGES[:0], IMAGES[:0], ("(0, 8, 9, 3)", "holds no pixels", "at least 1")),
}
OPTION_ERRORS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "an even window": ({"window_size": 4}, ("window_size must be odd and at least 1", "got 4")),
    "no window": ({"window_size": 0}, ("window_size must be odd and at least 1", "got 0")),
    "a float window": (
        {"window_size": 3.0},
        ("window_size must be an odd int, 1 or more; got 3.0",),
    ),
    "an unknown window": (
        {"window": "gaussan"},
        ("window accepts 'box', 'gaussian'; got 'gaussan'", "'gaussian'?"),
    ),
    "a size as the window": (
        {"window": 7},
        ("got 7. For the size of the window, use window_size=7",),
    ),
    "a box with a sigma": (
        {"window_sigma": 2.0},
        ("window_sigma is for window='gaussian', but the window is 'box': leave it out",),
    ),
    "a sigma of 0": (
        {"window": "gaussian", "window_sigma": 0},
        ("window_sigma must be more than 0; got 0",),
    ),
    "an unknown brightness": (
        {"brightness": "luminence"},
        (
            "brightness accepts 'luma', 'luminance', 'lightness'; got 'luminence'",
            "did you mean 'luminance'?",
        ),
    ),
    "an unknown penalty": (
        {"penalty": "L1"},
        ("penalty accepts 'l1', 'l2', 'charbonnier', 'huber'; got 'L1'",),
    ),
    "unknown coefficients": (
        {"coefficients": "rec610"},
        (
            "coefficients accepts 'rec601', 'rec709', 'rec2020'; got 'rec610'",
            "did you mean 'rec601'?",
        ),
    ),
    "coefficients of four digits": (
        {"coefficients": (0.2989, 0.587, 0.114)},
        ("coefficients must sum to 1 within 1e-6", "sum to 0.9999: divide them by their sum"),
    ),
    "two coefficients": (
        {"coefficients": (0.5, 0.5)},
        ("'rec2020' or three numbers; got (0.5, 0.5)",),
    ),
    "an epsilon of 0": (
        {"penalty": "charbonnier", "charbonnier_epsilon": 0},
        ("charbonnier_epsilon must be at least 1e-18; got 0",),
    ),
    "a negative delta": (
        {"penalty": "huber", "huber_delta": -0.1},
        ("huber_delta must be finite and not negative; got -0.1",),
    ),
    "an epsilon that L1 has not": (
        {"charbonnier_epsilon": 1e-3},
        (
            "charbonnier_epsilon is for penalty='charbonnier', but the penalty is 'l1': leave it "
            "out",
        ),
    ),
    "a delta that Charbonnier has not": (
        {"penalty": "charbonnier", "huber_delta": 0.05},
        ("huber_delta is for penalty='huber', but the penalty is 'charbonnier'",),
    ),
    "a negative mask": (
        {"mask": -np.ones((2, 8, 9))},
        ("mask must be finite and not negative; got -1",),
    ),
    "a mask of another size": (
        {"mask": np.ones((2, 9, 8))},
        (
            "mask has shape (2, 9, 8)",
            "it must have shape (2, 8, 9) or (2, 8, 9, 1)",
            "mask.reshape(-1, 1, 1)",
        ),
    ),
    "one weight per image as a vector": (
        {"mask": np.ones(2)},
        ("mask has shape (2,)", "mask.reshape(-1, 1, 1)"),
    ),
}
WEIGHT_ERRORS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "negative": (-0.5, ("must be finite and not negative; got -0.5",)),
    "not a number": (float("nan"), ("must be finite and not negative; got nan",)),
    "several": (
        np.ones(3, np.float32),
        ("must be one number, shape (); got shape (3,)", "use jax.vmap"),
    ),
    "text": ("0.5", ("must be one number", "got '0.5'")),
    "none": (None, ("must be one number", "got None")),
}


@pytest.fixture(params=["eager", "jit", "without chex"])
def call(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Calls a loss with options: as it is, traced by jit, and after ``chex.disable_asserts()``."""
    if request.param == "jit":
        yield lambda loss, images, options: jax.jit(functools.partial(loss, **options))(*images)
        return
    if request.param == "without chex":
        chex.disable_asserts()
    try:
        yield lambda loss, images, options: loss(*images, **options)
    finally:
        chex.enable_asserts()


def refuses(fragments: tuple[str, ...]) -> Any:
    return pytest.raises(ValueError, match=".*".join(map(re.escape, fragments)))


@pytest.mark.parametrize("wrong", IMAGE_ERRORS)
def test_images(wrong: str, call: Callable[..., Any]) -> None:
    predictions, targets, fragments = IMAGE_ERRORS[wrong]
    for loss in (luminance_l1_loss, luminance_l1_terms):
        with refuses(fragments):
            call(loss, (predictions, targets), {})


@pytest.mark.parametrize("wrong", OPTION_ERRORS)
def test_options(wrong: str, call: Callable[..., Any]) -> None:
    options, fragments = OPTION_ERRORS[wrong]
    for loss in (luminance_l1_loss, luminance_l1_terms):
        with refuses(fragments):
            call(loss, (IMAGES, IMAGES), options)


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("wrong", WEIGHT_ERRORS)
def test_weights(wrong: str, name: str, call: Callable[..., Any]) -> None:
    weight, fragments = WEIGHT_ERRORS[wrong]
    with refuses((name, *fragments)):
        call(luminance_l1_loss, (IMAGES, IMAGES), {name: weight})


@pytest.mark.parametrize(
    ("option", "value", "fragments"),
    [
        (
            "window_size",
            3,
            ("window_size is traced", "static int", "functools.partial(..., window_size=7)"),
        ),
        (
            "window_sigma",
            1.5,
            ("window_sigma is traced", "static Python number", "functools.partial"),
        ),
        (
            "coefficients",
            (0.5, 0.25, 0.25),
            ("coefficients are traced", "static Python numbers", "before jit"),
        ),
        (
            "luminance_weight",
            np.ones(3, np.float32),
            ("luminance_weight must be one number", "got shape (3,)"),
        ),
    ],
)
def test_what_must_be_static_is_told_how_to_become_so(
    option: str, value: Any, fragments: tuple[str, ...]
) -> None:
    @jax.jit
    def loss(value: Any) -> jax.Array:
        return luminance_l1_loss(IMAGES, IMAGES, window="gaussian", **{option: value})

    with refuses(fragments):
        loss(value)


@pytest.mark.parametrize("transformation", [jax.grad, jax.vmap, jax.checkpoint, jax.value_and_grad])
def test_errors_pass_through_every_transformation(transformation: Callable[..., Any]) -> None:
    with refuses(("predictions have shape", "8, 9, 4)", "RGBA", "predictions[..., :3]")):
        transformation(luminance_l1_loss)(np.zeros((2, 8, 9, 4), np.float32), IMAGES)


def test_traced_weights_and_masks_are_not_looked_at() -> None:
    """A value that is data cannot be refused while tracing: it is computed with as it is."""
    images = jnp.full((2, 8, 9, 3), 0.25)
    loss = jax.jit(
        lambda weight: luminance_l1_loss(
            images, 0 * images, luminance_weight=weight, color_weight=0.0
        )
    )
    np.testing.assert_allclose(loss(-2.0), -0.5, rtol=1e-6)


def test_an_argument_that_does_not_exist_is_pythons_own_error() -> None:
    for word in ("reduction", "weight"):
        with pytest.raises(TypeError, match=word):
            luminance_l1_loss(IMAGES, IMAGES, **{word: "mean"})
    with pytest.raises(TypeError, match="positional"):
        luminance_l1_loss(IMAGES, IMAGES, 0.5)
