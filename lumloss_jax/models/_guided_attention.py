"""The attention blocks of Retinexformer: channels attend to each other, guided by light.

The figure in ``_retinexformer`` shows where they are used.
"""

import functools
import math

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from lumloss_jax import _means
from lumloss_jax.models._initializers import torch_kernel, uniform_of_fan_in
from lumloss_jax.models._layers import Settings

# Keeps the gradient finite for black images, whose queries and keys are 0. Its square is still a
# normal float32.
NORM_FLOOR = 1e-12

# All other initial values are as in PyTorch
_linear = functools.partial(nn.Dense, kernel_init=nn.initializers.normal(0.02))


def _gelu(x: jax.Array) -> jax.Array:
    """X times the normal distribution function of x; the tanh form is up to 9e-4 off.

    It is written with erf. ``jax.nn.gelu`` is written with erfc, whose branches the compiler for
    TPUs fuses into the convolutions beside it: a step on patches of 128 x 128 pixels then takes
    over an hour to compile, and with erf it takes minutes.
    """
    # x (1 + erf(x / sqrt(2))) / 2
    return 0.5 * x * (1 + lax.erf(x * math.sqrt(0.5)))


class Block(nn.Module):
    """Attention, then layer norm and the feed-forward."""

    settings: Settings
    heads: int

    @nn.compact
    def __call__(self, x: jax.Array, guide: jax.Array) -> jax.Array:
        """Features and guide, both ``[..., H, W, C]``, to features."""
        conv = functools.partial(self.settings.conv, kernel_size=1, bias=False)
        width = x.shape[-1]
        x = x + Attention(self.settings, self.heads, name="attention")(x, guide)
        norm = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name="norm")
        y = norm(x.astype(_means.accumulation_dtype(x)))  # in float32 for every dtype
        y = _gelu(conv(y, 4 * width, name="expand"))  # [..., H, W, 4C]
        y = _gelu(grouped_conv(self.settings, y, 3, 4 * width, name="depthwise"))
        return x + conv(y, width, name="contract")  # [..., H, W, C]


class Attention(nn.Module):
    """Attention between the channels of each head; its values are multiplied by the guide.

    It reads the whole image only through :meth:`channel_sums`, and the sums of tiles add up to the
    sums of the image. These sums and :meth:`channel_maps` are methods, so that
    ``nn.intercept_methods`` can collect and replace them.
    """

    settings: Settings
    heads: int

    @nn.compact
    def __call__(self, x: jax.Array, guide: jax.Array) -> jax.Array:
        """Features and guide, both ``[..., H, W, C]``, to the change of the features."""
        chex.assert_equal_shape([x, guide])
        width = x.shape[-1]
        per_head = (*x.shape[:-1], self.heads, width // self.heads)
        linear = functools.partial(_linear, width, dtype=self.settings.dtype)
        queries, keys, values = (
            linear(use_bias=False, name=name)(x) for name in ("queries", "keys", "values")
        )
        rescale = self.param("rescale", nn.initializers.ones, (self.heads, 1, 1))
        # Both have shape [..., H, W, heads, D]
        sums = self.channel_sums(queries.reshape(per_head), keys.reshape(per_head))
        maps = self.channel_maps(*sums, rescale).astype(values.dtype)  # [..., heads, D, D]
        mixed = jnp.einsum("...nde,...hwne->...hwnd", maps, (values * guide).reshape(per_head))
        mixed = linear(name="project")(mixed.reshape(x.shape))  # [..., H, W, C]
        # The position term uses the values without the guide
        position = _gelu(grouped_conv(self.settings, values, 3, width, name="position_0"))
        position = grouped_conv(self.settings, position, 3, width, name="position_1")
        chex.assert_equal_shape([x, mixed, position])
        return mixed + position

    def channel_sums(
        self, queries: jax.Array, keys: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Float32 sums over pixels: keys times queries, squared queries, squared keys.

        Shapes ``[..., heads, D, D]``, ``[..., heads, D]``, ``[..., heads, D]``.
        """
        dtype = _means.accumulation_dtype(queries)
        products = jnp.einsum(
            "...hwnd,...hwne->...nde", keys, queries, preferred_element_type=dtype
        )
        query_squares, key_squares = (
            jnp.sum(jnp.square(x.astype(dtype)), axis=(-4, -3)) for x in (queries, keys)
        )
        return products, query_squares, key_squares

    def channel_maps(
        self,
        products: jax.Array,
        query_squares: jax.Array,
        key_squares: jax.Array,
        rescale: jax.Array,
    ) -> jax.Array:
        """Softmax of the rescaled cosines over the query channels.

        Shape ``[..., heads, D, D]``: keys, then queries.
        """
        query_norms, key_norms = (
            jnp.sqrt(jnp.maximum(x, NORM_FLOOR**2)) for x in (query_squares, key_squares)
        )
        # There are two divisions because the gradient squares the denominator, and the square of a
        # product of two floors would be 0.
        cosines = products / key_norms[..., :, None] / query_norms[..., None, :]
        rescale = rescale.reshape((1,) * (cosines.ndim - 3) + rescale.shape).astype(cosines.dtype)
        return jax.nn.softmax(cosines * rescale, axis=-1)


def grouped_conv(
    settings: Settings, x: jax.Array, size: int, groups: int, name: str, bias: bool = False
) -> jax.Array:
    """A convolution in groups of channels that keeps their number; PyTorch's initialisers."""
    bias_init = uniform_of_fan_in(size * size * x.shape[-1] // groups)
    conv = functools.partial(
        nn.Conv, x.shape[-1], (size, size), kernel_init=torch_kernel, bias_init=bias_init
    )
    return conv(feature_group_count=groups, use_bias=bias, dtype=settings.dtype, name=name)(x)
