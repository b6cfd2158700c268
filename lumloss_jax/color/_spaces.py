"""Colour spaces by name, for losses that compare images in one of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lumloss_jax import _checks
from lumloss_jax.color._hvi import rgb_to_hvi
from lumloss_jax.color._lab import rgb_to_lab
from lumloss_jax.color._oklab import rgb_to_oklab
from lumloss_jax.color._ycbcr import rgb_to_ycbcr

ColorSpace = str | tuple[str, tuple[float, float, float]]

# Half an 8-bit step in linear light: below it a chord bounds the slope of OKLab's cube roots.
_CHORD_BELOW = 1.5e-4


class Space(NamedTuple):
    """A colour space: how an sRGB image is converted, and how its axes count by default."""

    convert: Callable[[jax.Array], jax.Array]
    weights: tuple[float, float, float]


SPACES = {
    "rgb": Space(lambda image: image, (1.0, 1.0, 1.0)),
    "lab": Space(lambda image: rgb_to_lab(image) / 100, (0.0, 1.0, 1.0)),
    "oklab": Space(lambda image: rgb_to_oklab(image, chord_below=_CHORD_BELOW), (0.0, 1.0, 1.0)),
    "ycbcr": Space(lambda image: rgb_to_ycbcr(image, full_range=True), (0.0, 1.0, 1.0)),
    "hvi": Space(rgb_to_hvi, (1.0, 1.0, 0.0)),
}


def check_color_space(name: str, value: Any) -> ColorSpace:
    """Checks a colour space: its name, or its name and three weights.

    Weights that are those of the name alone are dropped, so that equal choices are equal values.
    """
    if isinstance(value, str):
        return _checks.check_option(name, value, SPACES)
    if not isinstance(value, tuple) or len(value) != 2 or not isinstance(value[0], str):
        raise ValueError(
            f"{name} accepts {', '.join(map(repr, SPACES))}, or one of these with the weights of "
            f"its three axes, such as ('oklab', (1, 2, 2)); got {value!r}."
        )
    space, given = _checks.check_option(name, value[0], SPACES), value[1]
    try:
        first, second, third = (float(weight) for weight in given)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} needs three numbers as the weights of {space}'s axes; got {given!r}."
        ) from None
    weights = (first, second, third)
    total = sum(weights)
    if not (min(weights) >= 0 and 0 < total < float("inf")):
        raise ValueError(
            f"{name}: the weights of {space}'s axes must be finite, 0 or more, and not all 0; got "
            f"{given!r}."
        )
    return space if weights == SPACES[space].weights else (space, weights)


def difference_in_space(
    predictions: jax.Array, targets: jax.Array, color_space: ColorSpace
) -> tuple[jax.Array, jax.Array]:
    """Differences ``[..., H, W, 3]`` in a colour space, and its axes' weights ``[1, ..., 3]``.

    The weights sum to 3, so that the mean of weighted differences is their weighted mean.
    """
    name = color_space if isinstance(color_space, str) else color_space[0]
    space = SPACES[name]
    weights = space.weights if isinstance(color_space, str) else color_space[1]
    if predictions.shape[-1] != 3:
        raise ValueError(
            f"color_space={color_space!r} needs images with 3 channels (red, green, blue); these "
            f"have {predictions.shape[-1]}. Leave color_space out for greyscale images."
        )
    difference = space.convert(predictions) - space.convert(targets)
    # In a compiled function the two may be rounded differently for equal colours, and |.| would
    # push them with its full slope.
    equal = jnp.all(predictions == targets, axis=-1, keepdims=True)
    difference = jnp.where(equal, jnp.zeros_like(difference), difference)
    shares = jnp.asarray(weights, difference.dtype) * (3 / sum(weights))
    return difference, shares[(None,) * (difference.ndim - 1)]
