"""The steps to which JPEG rounds each coefficient: table and quality, as in libjpeg."""

import jax
import jax.numpy as jnp
from jax import lax

# ITU-T T.81, annex K, table K.2: the quantisation steps of chroma at quality 50.
CHROMA_STEPS = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
)


def steps_at(base: tuple[tuple[int, ...], ...], quality: jax.Array, image: jax.Array) -> jax.Array:
    """Quantisation steps ``[..., 1, 8, 1, 8]`` of a quality, in libjpeg's whole numbers."""
    leading = image.shape[:-3] if quality.ndim else (1,) * (image.ndim - 3)
    quality = jnp.reshape(lax.stop_gradient(quality), (*leading, 1, 1, 1, 1))
    quality = jnp.clip(jnp.round(quality), 1, 100).astype(jnp.int32)
    percent = jnp.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    table = jnp.asarray(base, jnp.int32).reshape((*(1,) * (image.ndim - 3), 1, 8, 1, 8))
    return jnp.clip((table * percent + 50) // 100, 1, 255).astype(image.dtype)
