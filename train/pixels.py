"""Stored pixels on devices: batches travel as they are stored, a quarter of what floats take."""

import jax
import jax.numpy as jnp


def to_unit_range(pixels: jax.Array) -> jax.Array:
    """uint8 or uint16 pixels as float32 in [0, 1]; floats stay as they are.

    The bits are those of NumPy's division.

    XLA turns a division by a constant into a product with its rounded reciprocal, which is off in
    half of the 8-bit values. With m = 2^n - 1, 1/m = 2^-n + 1 / (2^n m): the first product is exact
    and the second small enough that their sum is rounded rightly for every value, fused or not.
    """
    if not jnp.issubdtype(pixels.dtype, jnp.unsignedinteger):
        return pixels
    highest = int(jnp.iinfo(pixels.dtype).max)
    values = pixels.astype(jnp.float32)
    return values * jnp.float32(1 / (highest + 1)) + values * jnp.float32(
        1 / ((highest + 1) * highest)
    )
