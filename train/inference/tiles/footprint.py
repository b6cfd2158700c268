"""How much memory a network needs for each pixel, found without computing anything.

A network may come from somebody else. Its file has a few megabytes, and names a width with which a
tile of the usual size would need more memory than any machine has.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from lumloss_jax.models import variable_shapes
from train.inference.tiles.tiling import round_up

# Bytes that the largest array of a network may take while it restores a tile. Two or three arrays
# of that size exist at a time.
LARGEST_ARRAY = 500_000_000
_SIDE = 64  # pixels of the image that is traced


@functools.lru_cache(maxsize=64)
def bytes_per_pixel(model: Any) -> int:
    """The size of the largest array that a network makes, for each pixel of the image.

    Args:
      model: the network, a Flax module.

    Returns:
      The number of bytes, rounded up.
    """
    side = round_up(_SIDE, model.receptive_field.stride)
    images = jax.ShapeDtypeStruct((1, side, side, model.channels), jnp.float32)
    sigma = 0.1 if model.takes_sigma else None
    traced = jax.make_jaxpr(lambda variables, images: model.apply(variables, images, sigma=sigma))(
        variable_shapes(model), images
    )
    return -(-max(_sizes(traced.jaxpr), default=1) // side**2)


def largest_tile(model: Any) -> int:
    """The side of the largest square for which no array exceeds ``LARGEST_ARRAY``, in pixels."""
    return math.isqrt(LARGEST_ARRAY // bytes_per_pixel(model))


def _sizes(jaxpr: Any) -> Iterator[int]:
    """The sizes in bytes of all arrays that a function makes, also within functions in it."""
    for equation in jaxpr.eqns:
        for made in equation.outvars:
            yield math.prod(made.aval.shape) * made.aval.dtype.itemsize
        for value in equation.params.values():
            for inner in value if isinstance(value, list | tuple) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from _sizes(inner)
