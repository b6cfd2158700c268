"""The blocks of HVI-CIDNet's branches: attention to the other branch, and changes of size.

The figure in ``_cidnet`` shows where they are used.
"""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn

from lumloss_jax import _means
from lumloss_jax.models._channel_attention import ChannelAttention
from lumloss_jax.models._initializers import torch_kernel
from lumloss_jax.models._layers import Settings, grouped_conv, layer_norm


class Rows(NamedTuple):
    """The place of a strip of rows in an image, in pixels of the smaller of two sizes.

    Attributes:
      start: number of the strip's first row in the image.
      size: height of the whole image.
    """

    start: jax.Array
    size: jax.Array


class CrossLayer(nn.Module):
    """Attention to the other branch, which is added, then a gate.

    ``residual`` says whether the gate's result is added too, as in the intensity branch, or
    replaces the features, as in the colour branch.
    """

    settings: Settings
    heads: int
    residual: bool

    @nn.compact
    def __call__(self, x: jax.Array, other: jax.Array) -> jax.Array:
        """The features of a branch and of the other one, both ``[..., H, W, C]``, to features."""
        norm = layer_norm(1e-6, "norm")  # one for all three uses
        attention = CrossAttention(self.settings, self.heads, name="attention")
        x = x + attention(norm(x), norm(other)).astype(x.dtype)
        gated = Gate(self.settings, name="gate")(norm(x)).astype(x.dtype)
        return x + gated if self.residual else gated


class CrossAttention(ChannelAttention):
    """Attention from the channels of a branch to those of the other one, in each head."""

    settings: Settings
    heads: int

    @nn.compact
    def __call__(self, x: jax.Array, other: jax.Array) -> jax.Array:
        """The features of a branch and of the other one, both ``[..., H, W, C]``, to a change."""
        conv = functools.partial(self.settings.conv, kernel_size=1, bias=False)
        width = x.shape[-1]
        per_head = (*x.shape[:-1], self.heads, width // self.heads)
        queries = conv(x, width, name="queries_0")
        queries = grouped_conv(self.settings, queries, 3, width, name="queries_1")
        both = conv(other, 2 * width, name="keys_values_0")  # [..., H, W, 2C]
        both = grouped_conv(self.settings, both, 3, 2 * width, name="keys_values_1")
        keys, values = jnp.split(both, 2, axis=-1)
        temperature = self.param("temperature", nn.initializers.ones, (self.heads, 1, 1))
        # The rows of the map are the queries
        sums = self.channel_sums(keys.reshape(per_head), queries.reshape(per_head))
        maps = self.channel_maps(*sums, temperature).astype(values.dtype)  # [..., heads, D, D]
        mixed = jnp.einsum("...nde,...hwne->...hwnd", maps, values.reshape(per_head))
        return conv(mixed.reshape(x.shape), width, name="project")


class Gate(nn.Module):
    """Two halves of the channels, each bent by a tanh, are multiplied."""

    settings: Settings

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``[..., H, W, C]`` to the same."""
        conv = functools.partial(self.settings.conv, kernel_size=1, bias=False)
        depthwise = functools.partial(grouped_conv, self.settings, size=3)
        width = x.shape[-1]
        hidden = int(2.66 * width)
        y = conv(x, 2 * hidden, name="expand")  # [..., H, W, 2 * 2.66 C]
        y = depthwise(x=y, groups=2 * hidden, name="depthwise")
        halves = []
        for i, half in enumerate(jnp.split(y, 2, axis=-1)):
            halves.append(half + jnp.tanh(depthwise(x=half, groups=hidden, name=f"depthwise_{i}")))
        return conv(halves[0] * halves[1], width, name="contract")


class HalvingBlock(nn.Module):
    """A convolution, half the size, PReLU and, if asked for, a layer norm."""

    settings: Settings
    features: int
    norm: bool

    @nn.compact
    def __call__(self, x: jax.Array, rows: Rows | None = None) -> jax.Array:
        """``[..., H, W, C]`` to ``[..., H / 2, W / 2, features]``; ``rows`` if x is a strip."""
        x = self.settings.conv(x, self.features, bias=False, name="conv")
        x = halve(halve(x, x.ndim - 3, rows), x.ndim - 2)
        x = prelu(self, x)
        return layer_norm(1e-6, "norm")(x) if self.norm else x


class DoublingBlock(nn.Module):
    """A convolution, double the size, a 1x1 convolution that reads the skip too, and PReLU."""

    settings: Settings
    features: int
    norm: bool

    @nn.compact
    def __call__(self, x: jax.Array, skip: jax.Array, rows: Rows | None = None) -> jax.Array:
        """``[..., H, W, C]`` and the skip to ``[..., 2H, 2W, features]``; ``rows`` for a strip."""
        x = self.settings.conv(x, self.features, bias=False, name="conv")
        x = double(double(x, x.ndim - 3, rows), x.ndim - 2)
        chex.assert_equal_shape([x, skip])
        x = jnp.concatenate([x, skip.astype(x.dtype)], axis=-1)  # [..., 2H, 2W, 2 * features]
        x = prelu(
            self, self.settings.conv(x, self.features, kernel_size=1, bias=False, name="fuse")
        )
        return layer_norm(1e-6, "norm")(x) if self.norm else x


def edge_padded_conv(settings: Settings, x: jax.Array, features: int, *, name: str) -> jax.Array:
    """A 3x3 convolution without bias that repeats the edges of the image."""
    around = [(0, 0)] * (x.ndim - 3) + [(1, 1), (1, 1), (0, 0)]
    return nn.Conv(
        features,
        (3, 3),
        padding="VALID",
        use_bias=False,
        dtype=settings.dtype,
        kernel_init=torch_kernel,
        name=name,
    )(jnp.pad(x, around, mode="edge"))


def prelu(module: nn.Module, x: jax.Array) -> jax.Array:
    """Multiplies negative values by a slope that is learned, one number for all channels."""
    slope = module.param("slope", nn.initializers.constant(0.25), (1,))
    return jnp.where(x < 0, slope.reshape((1,) * x.ndim).astype(x.dtype) * x, x)


def halve(x: jax.Array, axis: int, rows: Rows | None = None) -> jax.Array:
    """Half the size along an axis, bilinear with the corners aligned.

    Output i of n is (1 - w) x[2i] + w x[2i + 1] with w = i / (n - 1): the first output is the first
    input, and the last is the last, so the weights depend on the position in the whole image.
    """
    size = x.shape[axis] // 2
    pairs = x.astype(_means.accumulation_dtype(x))
    pairs = pairs.reshape(*x.shape[:axis], size, 2, *x.shape[axis + 1 :])
    first, second = (jnp.take(pairs, i, axis=axis + 1) for i in range(2))
    index, whole = _places(size, rows, first.dtype)
    weight = _along(index / jnp.maximum(whole - 1, 1), axis, x.ndim)
    return (first + (second - first) * weight).astype(x.dtype)


def double(x: jax.Array, axis: int, rows: Rows | None = None) -> jax.Array:
    """Double the size along an axis, bilinear with the corners aligned.

    If there are n inputs, outputs 2m and 2m + 1 are x[m] + (x[m - 1] - x[m]) m / (2n - 1) and
    x[m] + (x[m + 1] - x[m]) (n - 1 - m) / (2n - 1).
    """
    size = x.shape[axis]
    here = x.astype(_means.accumulation_dtype(x))
    index, whole = _places(size, rows, here.dtype)
    # The weight of a neighbour beyond the image is 0
    numbers = jnp.arange(size)
    before = jnp.take(here, jnp.maximum(numbers - 1, 0), axis=axis)
    after = jnp.take(here, jnp.minimum(numbers + 1, numbers[-1]), axis=axis)
    steps = 2 * whole - 1
    even = here + (before - here) * _along(index / steps, axis, x.ndim)
    odd = here + (after - here) * _along((whole - 1 - index) / steps, axis, x.ndim)
    shape = (*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])
    return jnp.stack([even, odd], axis=axis + 1).reshape(shape).astype(x.dtype)


def _places(size: int, rows: Rows | None, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    """The numbers of the smaller size's pixels along an axis, and their number in the image."""
    index = jnp.arange(size)
    start, whole = (0, index[-1] + 1) if rows is None else rows
    return (index + start).astype(dtype), jnp.asarray(whole).astype(dtype)


def _along(weights: jax.Array, axis: int, rank: int) -> jax.Array:
    """Weights along one axis, in a shape that multiplies images."""
    return weights.reshape((1,) * axis + weights.shape + (1,) * (rank - axis - 1))
