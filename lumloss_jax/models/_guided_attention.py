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

from lumloss_jax.models._channel_attention import ChannelAttention
from lumloss_jax.models._layers import Settings, grouped_conv, layer_norm

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
        y = layer_norm(1e-5, "norm")(x)
        y = _gelu(conv(y, 4 * width, name="expand"))  # [..., H, W, 4C]
        y = _gelu(grouped_conv(self.settings, y, 3, 4 * width, name="depthwise"))
        return x + conv(y, width, name="contract")  # [..., H, W, C]


class Attention(ChannelAttention):
    """Attention between the channels of each head; its values are multiplied by the guide."""

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
