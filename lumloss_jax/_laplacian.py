"""The Laplacian of low-light enhancement's edge losses: an image minus a smooth version of itself.

The smooth version is what is left after a small Gaussian pyramid of one level, down and up.
"""

import jax
import jax.numpy as jnp

from lumloss_jax import _filters

_TAPS = (0.05, 0.25, 0.4, 0.25, 0.05)
REACH = 4  # pixels, of the two filters in a row


def laplacian(image: jax.Array) -> jax.Array:
    r"""The image minus its smooth version, x - G(D(G(x))), ``[..., H, W, C]``, same shape.

    G is a 5 x 5 filter that repeats the edges of the image, and D multiplies every second row and
    column by 4 and all other pixels by 0.
    """
    height, width = image.shape[-3:-1]
    down, across = ((jnp.arange(size) % 2 == 0) for size in (height, width))
    kept = 4 * (down[:, None] & across[None, :])[..., None].astype(image.dtype)  # [H, W, 1]
    kept = kept.reshape((1,) * (image.ndim - 3) + kept.shape)
    return image - _smooth(_smooth(image) * kept)


def _smooth(image: jax.Array) -> jax.Array:
    for axis in (image.ndim - 3, image.ndim - 2):
        around = [(0, 0)] * image.ndim
        around[axis] = (len(_TAPS) // 2, len(_TAPS) // 2)
        image = _filters.slide(jnp.pad(image, around, mode="edge"), _TAPS, axis)
    return image
