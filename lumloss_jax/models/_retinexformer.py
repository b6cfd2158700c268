"""Retinexformer (Cai et al., 2023): low-light enhancement with a Transformer guided by light.

::

    images - estimator - guide (F channels), light map: lit = images * light + images

    lit - embed - blocks, F - halve - blocks, 2F - halve - blocks, 4F     full, half, quarter size
                     |                   |                    |
        output - blocks, F -- fuse -- blocks, 2F -- fuse -- double        restored = lit + output

The estimator reads the images and their channel mean. A block is attention and a convolutional
feed-forward network, each added to its input. Attention is between the channels of a head, over all
pixels at once, so that its cost is linear in the number of pixels. The values that it mixes are
multiplied by the guide, which is brought to the lower levels by convolutions of its own.

In the paper, the estimator is called illumination estimator, with illumination map (light map) and
light-up features (guide); the restorer is the corruption restorer, the block IGAB, the attention
IG-MSA, and the whole is ORF, the one-stage Retinex framework.

Input and output are ``[..., H, W, 3]``, red, green, blue, nominal range [0, 1], neither clipped.
Height and width must be multiples of 2^levels, 4 by default; other sizes are padded inside, at the
bottom and right, by reflection without the edge (as in the authors' evaluation), and cropped.
Attention treats padding like any other pixels. There are 1,605,701 parameters.

This follows the published code, which differs from the paper: the estimator has a 5x5 convolution
in four groups (the paper's figure says 9x9), and nothing is normalised before attention. One more
difference is only in form: the product of queries and keys is divided by their norms, instead of
each of them, which gives the same number.

Y. Cai, H. Bian, J. Lin, H. Wang, R. Timofte, Y. Zhang, "Retinexformer: one-stage Retinex-based
Transformer for low-light image enhancement", ICCV 2023.
"""

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike, DTypeLike

from lumloss_jax.models._guided_attention import Block
from lumloss_jax.models._inputs import check_images, pad_by_reflection, refuse_sigma
from lumloss_jax.models._layers import Settings, grouped_conv
from lumloss_jax.models._receptive_field import ReceptiveField, unet_receptive_field

GROUPS = 4  # in the estimator's wide convolution


class Retinexformer(nn.Module):
    """Retinexformer: brightens a low-light image, then removes the artefacts that this reveals.

    An estimator predicts a light map m and a guide. A UNet of guided attention blocks reads the lit
    images, m times the images plus the images, and its output is added to them. See the figure in
    the module's docstring. Images ``[..., H, W, 3]``, red, green, blue, nominal range [0, 1],
    become restored images of the same shape, not clipped. The brightened images of each stage, also
    of this shape, are sown as ``lit_images``. Height and width that are not multiples of 2^levels,
    4 by default, are padded inside by reflection, and cropped.

    Attributes:
      features: F, number of channels at full size, which doubles with each level. It must be a
        multiple of 4 and of ``heads``.
      stages: number of estimator and restorer pairs in a row, each with its own weights.
      levels: how many times a restorer halves the image.
      num_blocks: number of blocks at each level on the way down, then in the bottleneck. The way up
        has as many as the way down.
      heads: number of attention heads at full size, which doubles with each level, so that a head
        always has F / heads channels.
      dtype: dtype of the computation; parameters, attention maps, lit images and output stay
        float32.
      remat: recompute each block in the backward pass instead of storing its inside: this needs
        less memory and takes a third longer.

    Raises:
      ValueError: when called, for fields that do not define a network (``features`` that are not a
        multiple of 4 and of ``heads``, a ``num_blocks`` that does not fit ``levels``), for images
        that are not float ``[..., H, W, 3]``, and for a ``sigma``, because a blind network would
        ignore it.

    References:
      Cai et al., "Retinexformer: one-stage Retinex-based Transformer for low-light image
      enhancement", ICCV 2023, arXiv:2303.06705.

    Example:
      Only shapes, of the restored images and of what was sown.

      >>> import jax
      >>> from lumloss_jax.models import variable_shapes
      >>> model = Retinexformer(features=8, num_blocks=(1, 1, 1))
      >>> apply = functools.partial(model.apply, mutable=["intermediates"])
      >>> images = jax.ShapeDtypeStruct((1, 37, 53, 3), jnp.float32)
      >>> restored, seen = jax.eval_shape(apply, variable_shapes(model), images)
      >>> restored.shape, seen["intermediates"]["lit_images"][0].shape
      ((1, 37, 53, 3), (1, 37, 53, 3))
    """

    features: int = 40
    stages: int = 1
    levels: int = 2
    num_blocks: tuple[int, ...] = (1, 2, 2)
    heads: int = 1
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    channels: ClassVar[int] = 3
    takes_sigma: ClassVar[bool] = False

    @property
    def receptive_field(self) -> ReceptiveField:
        """How far the network looks apart from its attention; see :class:`ReceptiveField`."""
        *outer, bottleneck = self.num_blocks
        radii = []
        for count in outer:
            # Three pixels for each block, on the way down and up; the 4x4 convolution that halves
            # adds one.
            radii.append(2 * 3 * count + 1)
        radii.append(3 * bottleneck)
        radii[0] += 4  # estimator, embedding and output
        one_stage = unet_receptive_field(radii, reflects=True)
        return one_stage._replace(radius=self.stages * one_stage.radius)

    @property
    def attention_blocks(self) -> int:
        """How many attention blocks an image goes through."""
        *outer, bottleneck = self.num_blocks
        return self.stages * (2 * sum(outer) + bottleneck)

    def separate_stages(
        self, params: Mapping[str, Any]
    ) -> list[tuple["Retinexformer", dict[str, Any]]]:
        """Each stage as a network of one stage, with its parameters.

        Args:
          params: parameters of the whole network.

        Returns:
          Networks and their parameters, in the order in which an image goes through them.
        """
        parts = ("estimator", "restorer")
        one_stage = self.clone(stages=1)
        return [
            (one_stage, {f"{part}_0": params[f"{part}_{i}"] for part in parts})
            for i in range(self.stages)
        ]

    @nn.compact
    def __call__(
        self, images: ArrayLike, *, sigma: ArrayLike | None = None, train: bool = False
    ) -> jax.Array:
        """Restores images.

        Args:
          images: float array ``[..., H, W, 3]``.
          sigma: must be None, because the network is blind.
          train: has no effect, because the network has no batch norm.

        Returns:
          The restored images, same shape, float32; not clipped.
        """
        self._check_fields()
        refuse_sigma("retinexformer", sigma)
        images = check_images(images, self.channels)
        settings = Settings(train=train, initializer="torch", dtype=self.dtype)
        height, width = images.shape[-3:-1]

        x = images
        for axis in (-3, -2):
            x = pad_by_reflection(x, axis, 2**self.levels)
        for i in range(self.stages):
            lit, guide = Estimator(settings, self.features, name=f"estimator_{i}")(x)
            self.sow("intermediates", "lit_images", lit[..., :height, :width, :])
            x = Restorer(settings, self.num_blocks, self.heads, self.remat, name=f"restorer_{i}")(
                lit, guide
            )
            x = lit + x.astype(lit.dtype)  # the next stage reads the unclipped result
        x = x[..., :height, :width, :]
        chex.assert_equal_shape([x, images])
        return x

    def _check_fields(self) -> None:
        if (
            min(self.features, self.stages, self.heads) < 1
            or self.features % GROUPS
            or self.features % self.heads
        ):
            got = f"features={self.features}, stages={self.stages}, heads={self.heads}"
            raise ValueError(
                f"{got}: each must be at least 1, and features must be a multiple of {GROUPS} (the "
                "groups) and of heads."
            )
        if self.levels < 0 or len(self.num_blocks) != self.levels + 1 or min(self.num_blocks) < 0:
            got = f"num_blocks={self.num_blocks}, levels={self.levels}"
            raise ValueError(
                f"{got}: num_blocks must contain levels + 1 numbers, 0 or more; the last is for "
                "the bottleneck."
            )


class Estimator(nn.Module):
    """Brightens images; its features are the restorer's guide. It has no activations."""

    settings: Settings
    features: int

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """``[..., H, W, 3]`` to lit images of the same shape and the guide ``[..., H, W, F]``."""
        conv = functools.partial(self.settings.conv, kernel_size=1, bias=True)
        # [..., H, W, 4]
        x = jnp.concatenate([images, jnp.mean(images, axis=-1, keepdims=True)], axis=-1)
        x = conv(x, self.features, name="expand")  # [..., H, W, F]
        guide = grouped_conv(self.settings, x, 5, GROUPS, bias=True, name="spread")
        light = conv(guide, 3, name="light")  # [..., H, W, 3]
        chex.assert_equal_shape([images, light])
        return images * light.astype(images.dtype) + images, guide


class Restorer(nn.Module):
    """The UNet of attention blocks, which predicts a correction of the lit images."""

    settings: Settings
    num_blocks: tuple[int, ...]
    heads: int
    remat: bool

    @nn.compact
    def __call__(self, lit: jax.Array, guide: jax.Array) -> jax.Array:
        """``[..., H, W, 3]`` and ``[..., H, W, F]`` to the correction, ``[..., H, W, 3]``."""
        conv = functools.partial(self.settings.conv, bias=False)
        *outer, bottleneck = self.num_blocks
        kept = []
        x = conv(lit, guide.shape[-1], name="embed")  # [..., H, W, F]
        for level, count in enumerate(outer):
            x = self._blocks(x, guide, level, count, f"down_{level}")
            kept.append((x, guide))
            width = 2 * x.shape[-1]
            # [..., H / 2, W / 2, 2F]
            x = conv(x, width, kernel_size=4, strides=2, name=f"halve_{level}")
            guide = conv(guide, width, kernel_size=4, strides=2, name=f"halve_guide_{level}")
        x = self._blocks(x, guide, len(outer), bottleneck, "bottleneck")
        for level, count in reversed(list(enumerate(outer))):
            skip, guide = kept[level]
            width = skip.shape[-1]
            # [..., 2H, 2W, F]
            x = self.settings.doubling_conv(x, width, bias=True, name=f"double_{level}")
            chex.assert_equal_shape([x, skip])
            x = jnp.concatenate([x, skip], axis=-1)  # [..., 2H, 2W, 2F]
            x = conv(x, width, kernel_size=1, name=f"fuse_{level}")  # [..., 2H, 2W, F]
            x = self._blocks(x, guide, level, count, f"up_{level}")
        return conv(x, lit.shape[-1], name="output")

    def _blocks(
        self, x: jax.Array, guide: jax.Array, level: int, count: int, name: str
    ) -> jax.Array:
        block = nn.remat(Block) if self.remat else Block
        for i in range(count):
            x = block(self.settings, self.heads * 2**level, name=f"{name}_block_{i}")(x, guide)
        return x
