"""Attention between the channels of a head, over all pixels at once.

Its cost is linear in the number of pixels. It reads the whole image only through three sums.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from lumloss_jax import _means

# Keeps the gradient finite for black images, whose queries and keys are 0. Its square is still a
# normal float32.
NORM_FLOOR = 1e-12


class ChannelAttention(nn.Module):
    """What attention between channels needs of the whole image.

    The sums of tiles add up to the sums of the image. Both are methods, so that
    ``nn.intercept_methods`` can collect and replace them.
    """

    def channel_sums(
        self, columns: jax.Array, rows: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Float32 sums over pixels: rows times columns, squared columns, squared rows.

        Queries and keys have shape ``[..., H, W, heads, D]``, and the map is normalised over the
        channels of ``columns``. The results have the shapes ``[..., heads, D, D]``, ``[..., heads,
        D]``, ``[..., heads, D]``.
        """
        dtype = _means.accumulation_dtype(columns)
        products = jnp.einsum(
            "...hwnd,...hwne->...nde", rows, columns, preferred_element_type=dtype
        )
        column_squares, row_squares = (
            jnp.sum(jnp.square(x.astype(dtype)), axis=(-4, -3)) for x in (columns, rows)
        )
        return products, column_squares, row_squares

    def channel_maps(
        self,
        products: jax.Array,
        column_squares: jax.Array,
        row_squares: jax.Array,
        rescale: jax.Array,
    ) -> jax.Array:
        """Softmax of the rescaled cosines over the columns.

        Shape ``[..., heads, D, D]``: rows, then columns.
        """
        column_norms, row_norms = (
            jnp.sqrt(jnp.maximum(x, NORM_FLOOR**2)) for x in (column_squares, row_squares)
        )
        # There are two divisions because the gradient squares the denominator, and the square of a
        # product of two floors would be 0.
        cosines = products / row_norms[..., :, None] / column_norms[..., None, :]
        rescale = rescale.reshape((1,) * (cosines.ndim - 3) + rescale.shape).astype(cosines.dtype)
        return jax.nn.softmax(cosines * rescale, axis=-1)
