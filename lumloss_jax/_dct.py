"""The discrete cosine transform of blocks of 8 x 8 pixels, and JPEG's steps for luminance."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# ITU-T T.81, annex K, table K.1: the quantisation steps of luminance at quality 50.
LUMINANCE_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)

# Row u of the transform, cos((2 i + 1) u pi / 16), without its norm: rows 0 and 4 are then 1 and -1
# alone, so that sums of whole numbers stay whole and a coefficient halfway between two steps is
# rounded as libjpeg rounds it.
COSINES = np.array([[math.cos((2 * i + 1) * u * math.pi / 16) for i in range(8)] for u in range(8)])
COSINES[4] = np.sign(COSINES[4])
NORM_SQUARED = np.where(np.isin(np.arange(8), (0, 4)), 1 / 8, 1 / 4)
NORM = np.sqrt(np.outer(NORM_SQUARED, NORM_SQUARED))


def transform(blocks: jax.Array, matrix: jax.Array) -> jax.Array:
    """M X M^T of every block X of ``[..., H/8, 8, W/8, 8]``, in float32 on a TPU too."""
    return jnp.einsum(
        "...aibj,ui,vj->...aubv", blocks, matrix, matrix, precision=lax.Precision.HIGHEST
    )
