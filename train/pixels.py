"""Converts pixels to floats on devices. Stored pixels need a quarter of the transfer of floats."""

import jax
import jax.numpy as jnp


def to_unit_range(pixels: jax.Array) -> jax.Array:
    """Converts uint8 or uint16 pixels to float32 in [0, 1]. Floats stay unchanged.

    The result equals NumPy's division bit for bit.

    XLA turns a division by a constant into a product with its rounded reciprocal, which is wrong in
    the last bit for half of the 8-bit values. With m = 2^n - 1, 1/m = 2^-n + 1 / (2^n m). The first
    product is exact, and the second is so small that the sum is rounded correctly for every value,
    whether the operations are fused or not.
    """
    if not jnp.issubdtype(pixels.dtype, jnp.unsignedinteger):
        return pixels
    highest = int(jnp.iinfo(pixels.dtype).max)
    values = pixels.astype(jnp.float32)
    return values * jnp.float32(1 / (highest + 1)) + values * jnp.float32(
        1 / ((highest + 1) * highest)
    )
