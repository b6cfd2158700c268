"""Retinexformer: one-stage Retinex-based Transformer for low-light image enhancement (Cai et al., ICCV 2023).

The figure in words. An estimator reads the image and its channel mean and gives a feature map and a 3-channel map; the
image is lit up, ``lit = image * map + image``. A U-shaped restorer corrects what the light made visible (noise, wrong
colour), and its result is added to ``lit``. The restorer is built of blocks whose attention runs between *channels*,
over all pixels at once, so that its cost is linear in the pixels; the values it mixes are multiplied by the
estimator's features (the guide), which go down the levels through strided convolutions of their own.

    image --> estimator --> guide, F channels, and lit, 3 channels
    lit --> embed --> blocks, F --> down --> blocks, 2F --> down --> blocks, 4F    (full, half, quarter size)
                         |                      |                       |
    + lit <-- output <-- blocks, F <-- fuse <-- blocks, 2F <-- fuse <-- up

Takes float RGB images ``[..., H, W, 3]``, nominal range [0, 1]; gives the enhanced images, same shape, not clipped.
Any H and W: sides that 2**levels does not divide are padded at bottom and right by reflection (edge not repeated, as
in the reference's evaluation), and the result is cropped. Attention sees the padding as it sees any pixel.

Differences from the paper are those of its published code, which this follows: the estimator's wide convolution is 5x5
in 4 groups (the figure says 9x9, depthwise); there is no normalisation before attention, and GELU is the one
activation. Of our own: the norms of queries and keys divide their product, not each of them, which is the same number.

Parameters: 1,605,701 by default (estimator 10,363; restorer 1,595,338).
"""

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import initializers
from jax.typing import ArrayLike, DTypeLike

from lumloss_jax import _reduction

GROUPS = 4  # of the estimator's wide convolution

# Saves the gradient of black images, on which queries and keys are 0: a smaller norm counts as this one, and is
# constant. Its square is still a normal float32.
NORM_FLOOR = 1e-12

_gelu = functools.partial(jax.nn.gelu, approximate=False)  # the tanh form is up to 9e-4 off in the output
# PyTorch's default, uniform within 1/sqrt(fan_in). It counts a transposed convolution's fan_in on the output side,
# where a transposed kernel [h, w, O, I] has it too.
_conv_init = initializers.variance_scaling(1 / 3, "fan_in", "uniform")
_conv = functools.partial(nn.Conv, use_bias=False, kernel_init=_conv_init)  # zero padding: the size stays
_linear_init = initializers.normal(0.02)  # the reference truncates at 100 sigma, that is nowhere


class Retinexformer(nn.Module):
    """Enhances low-light RGB images; blind, and without batch statistics: training and evaluation are the same.

    Attributes:
      features: F, channels at full size; they double with each level down. A multiple of 4 and of ``heads``.
      stages: estimator and restorer pairs in a row, each with weights of its own.
      levels: how often the restorer halves the image.
      num_blocks: blocks at each level going down, and last in the bottleneck: levels + 1 numbers. Going up mirrors.
      heads: attention heads at full size; they double with each level, so a head has F / heads channels everywhere.
      remat: recomputes each block in the backward pass instead of keeping its insides: for large images.
      dtype: of the computation. Parameters, attention maps, the lit image and the result stay float32.
    """

    features: int = 40
    stages: int = 1
    levels: int = 2
    num_blocks: tuple[int, ...] = (1, 2, 2)
    heads: int = 1
    remat: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: ArrayLike, *, sigma: ArrayLike | None = None, train: bool = False) -> jax.Array:
        """Gives the enhanced images; sows each stage's lit image to ``intermediates`` as ``lit_images``.

        Args:
          images: float array ``[..., H, W, 3]``, red, green, blue, nominal range [0, 1].
          sigma: must be None: the network is blind.
          train: changes nothing here.

        Returns:
          The enhanced images, same shape, float32 (float64 for float64 images), not clipped.

        Raises:
          ValueError: for other images, for a ``sigma``, and for attributes that do not fit each other.

        References:
          Cai, Bian, Lin, Wang, Timofte, Zhang, "Retinexformer: One-stage Retinex-based Transformer for Low-light Image
          Enhancement", ICCV 2023, arXiv:2303.06705.
        """
        images = _reduction.check_image("images", images, channels=(3,))
        self._check(sigma)
        height, width = images.shape[-3:-1]
        restored = images
        for axis in (-3, -2):
            restored = _pad_by_reflection(restored, axis, 2**self.levels)
        for stage in range(self.stages):
            lit, guide = Estimator(self.features, self.dtype, name=f"estimator_{stage}")(restored)
            self.sow("intermediates", "lit_images", lit[..., :height, :width, :])
            restorer = Restorer(
                self.features, self.num_blocks, self.heads, self.remat, self.dtype, name=f"restorer_{stage}"
            )
            restored = lit + restorer(lit, guide).astype(lit.dtype)  # [..., H', W', 3]
        restored = restored[..., :height, :width, :]  # [..., H, W, 3]
        chex.assert_equal_shape([images, restored])
        return restored

    def _check(self, sigma: ArrayLike | None) -> None:
        if sigma is not None:
            raise ValueError("sigma was given, but Retinexformer is blind: it takes the images alone; leave sigma out.")
        if self.levels < 0 or len(self.num_blocks) != self.levels + 1:
            raise ValueError(
                f"num_blocks={self.num_blocks} for levels={self.levels}: it takes levels + 1 numbers, "
                "one for each level and one for the bottleneck."
            )
        if self.features % GROUPS or self.features % self.heads:
            raise ValueError(
                f"features={self.features} must be a multiple of {GROUPS} (the estimator's groups) and of "
                f"heads={self.heads}."
            )


class Estimator(nn.Module):
    """Lights the image up, and gives the features that guide the restorer. No activation anywhere."""

    features: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        """From an image ``[..., H, W, 3]`` to the lit image of that shape and the guide ``[..., H, W, F]``."""
        mean = jnp.mean(image, axis=-1, keepdims=True)
        guide = jnp.concatenate([image, mean], axis=-1)  # [..., H, W, 4]
        conv = functools.partial(_conv, use_bias=True, dtype=self.dtype)
        guide = conv(self.features, (1, 1), bias_init=_bias_init(4), name="expand")(guide)  # [..., H, W, F]
        bias_init = _bias_init(25 * self.features // GROUPS)
        guide = conv(self.features, (5, 5), feature_group_count=GROUPS, bias_init=bias_init, name="spread")(guide)
        light = conv(3, (1, 1), bias_init=_bias_init(self.features), name="light")(guide)  # [..., H, W, 3]
        chex.assert_equal_shape([image, light])
        return image * light.astype(image.dtype) + image, guide


class Restorer(nn.Module):
    """U-shaped network of attention blocks; what it gives is added to the lit image."""

    features: int
    num_blocks: tuple[int, ...]
    heads: int
    remat: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(self, lit: jax.Array, guide: jax.Array) -> jax.Array:
        """From the lit image ``[..., H, W, 3]`` and the guide ``[..., H, W, F]`` to a correction like the image."""
        levels = len(self.num_blocks) - 1
        conv = functools.partial(_conv, dtype=self.dtype)
        halve = functools.partial(conv, kernel_size=(4, 4), strides=(2, 2), padding=1)
        double = functools.partial(
            nn.ConvTranspose,
            kernel_size=(2, 2),
            strides=(2, 2),
            transpose_kernel=True,
            dtype=self.dtype,
            kernel_init=_conv_init,
        )
        x = conv(self.features, (3, 3), name="embed")(lit)  # [..., H, W, F]
        kept = []
        for level in range(levels):
            x = self._blocks(x, guide, level, f"down_{level}")
            kept.append((x, guide))
            width = 2 * x.shape[-1]
            x = halve(width, name=f"halve_{level}")(x)  # [..., H/2, W/2, 2F] at level 0
            guide = halve(width, name=f"halve_guide_{level}")(guide)
        x = self._blocks(x, guide, levels, "bottleneck")  # [..., H/4, W/4, 4F] for two levels
        for level in reversed(range(levels)):
            skip, guide = kept[level]
            width = skip.shape[-1]
            x = double(width, bias_init=_bias_init(4 * width), name=f"double_{level}")(x)  # [..., H, W, F] at level 0
            chex.assert_equal_shape([x, skip])
            x = jnp.concatenate([x, skip], axis=-1)  # [..., H, W, 2F]
            x = conv(width, (1, 1), name=f"fuse_{level}")(x)  # [..., H, W, F]
            x = self._blocks(x, guide, level, f"up_{level}")
        return conv(3, (3, 3), name="output")(x)  # [..., H, W, 3]

    def _blocks(self, x: jax.Array, guide: jax.Array, level: int, name: str) -> jax.Array:
        block = nn.remat(Block) if self.remat else Block
        for index in range(self.num_blocks[level]):
            x = block(self.heads * 2**level, self.dtype, name=f"{name}_block_{index}")(x, guide)
        return x


class Block(nn.Module):
    """Attention, then a convolutional feed-forward; each added to what it read. Only the second is normalised."""

    heads: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, guide: jax.Array) -> jax.Array:
        """From features and guide, both ``[..., H, W, C]``, to features."""
        chex.assert_equal_shape([x, guide])
        width = x.shape[-1]
        conv = functools.partial(_conv, dtype=self.dtype)
        x = x + Attention(self.heads, self.dtype, name="attention")(x, guide)
        y = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=self.dtype, name="norm")(x)
        y = _gelu(conv(4 * width, (1, 1), name="expand")(y))  # [..., H, W, 4C]
        y = _gelu(conv(4 * width, (3, 3), feature_group_count=4 * width, name="depthwise")(y))
        return x + conv(width, (1, 1), name="contract")(y)  # [..., H, W, C]


class Attention(nn.Module):
    """Attention between the channels of a head, of values lit by the guide.

    All it knows of the whole image is in :meth:`channel_sums`: of the tiles of an image they add up to the image's.
    :meth:`channel_maps` makes the maps of them. Both are methods: ``nn.intercept_methods`` can put others in place.
    """

    heads: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, guide: jax.Array) -> jax.Array:
        """From features and guide, both ``[..., H, W, C]``, to an update of the features."""
        width = x.shape[-1]
        heads = (*x.shape[:-1], self.heads, width // self.heads)  # channels are head-major
        linear = functools.partial(nn.Dense, width, dtype=self.dtype, kernel_init=_linear_init)
        queries, keys, values = (linear(use_bias=False, name=name)(x) for name in ("queries", "keys", "values"))
        rescale = self.param("rescale", initializers.ones, (self.heads, 1, 1))
        sums = self.channel_sums(queries.reshape(heads), keys.reshape(heads))  # from [..., H, W, heads, F]
        maps = self.channel_maps(*sums, rescale)  # [..., heads, F, F]
        lit = (values * guide).reshape(heads)  # [..., H, W, heads, F]
        mixed = jnp.einsum("...nde,...hwne->...hwnd", maps.astype(self.dtype), lit)
        mixed = linear(name="project")(mixed.reshape(x.shape))  # [..., H, W, C]
        depthwise = functools.partial(_conv, width, (3, 3), feature_group_count=width, dtype=self.dtype)
        position = depthwise(name="position_1")(_gelu(depthwise(name="position_0")(values)))  # of the unlit values
        chex.assert_equal_shape([x, mixed, position])
        return mixed + position

    def channel_sums(self, queries: jax.Array, keys: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Sums over pixels, float32: keys times queries ``[..., heads, F, F]``, squared queries, squared keys."""
        dtype = _reduction.accumulation_dtype(queries)
        products = jnp.einsum("...hwnd,...hwne->...nde", keys, queries, preferred_element_type=dtype)
        query_squares, key_squares = (jnp.sum(jnp.square(x.astype(dtype)), axis=(-4, -3)) for x in (queries, keys))
        return products, query_squares, key_squares

    def channel_maps(
        self, products: jax.Array, query_squares: jax.Array, key_squares: jax.Array, rescale: jax.Array
    ) -> jax.Array:
        """Softmax over the query channels of rescaled cosines: ``[..., heads, F, F]``, rows are key channels."""
        query_norms, key_norms = (jnp.sqrt(jnp.maximum(x, NORM_FLOOR**2)) for x in (query_squares, key_squares))
        # One division after the other: the product of two floors, squared in the gradient, would underflow to 0.
        cosines = products / key_norms[..., :, None] / query_norms[..., None, :]
        rescale = rescale.reshape((1,) * (cosines.ndim - 3) + rescale.shape).astype(cosines.dtype)
        return jax.nn.softmax(cosines * rescale, axis=-1)


def _bias_init(fan_in: int) -> Callable[..., Any]:
    """PyTorch's default: the weight's bound again."""
    bound = fan_in**-0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


def _pad_by_reflection(image: jax.Array, axis: int, multiple: int) -> jax.Array:
    """Extends one axis at its end to a multiple, reflecting as often as it takes; the edge itself is not repeated.

    By gathering, since ``jnp.pad`` cannot reflect an axis of symbolic size (``jax.export``).
    """
    size = image.shape[axis]
    padded = (size + multiple - 1) // multiple * multiple
    if isinstance(size, int) and size == padded:
        return image
    period = jnp.maximum(2 * jnp.arange(size)[-1], 1)
    position = jnp.arange(padded) % period
    return jnp.take(image, jnp.minimum(position, period - position), axis=axis)
