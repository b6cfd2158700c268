"""DRUNet (Zhang et al., 2021): a residual UNet that gets the noise level as an input.

::

    images, sigma - head - down1 - down2 - down3 - body - (+) up3 - (+) up2 - (+) up1 - (+) tail
                         |       |       |       `---------'         |         |         |
                         |       |       `---------------------------'         |         |
                         |       `---------------------------------------------'         |
                         `---------------------------------------------------------------'

The output of tail is the restored image. down is ``blocks`` residual blocks, then a 2x2 convolution
of stride 2 to the next width. up is a 2x2 transposed convolution, then the blocks. A residual block
is z + conv(ReLU(conv(z))), with 3x3 convolutions and no normalisation. (+) adds a skip, which
carries the output of head or of a down stage. By default there are four levels of 64, 128, 256, 512
features with four blocks each and no biases, so the network is homogeneous of degree one. It has
32,640,960 parameters (colour) or 32,638,656 (grey).

Input ``[..., H, W, channels]``, nominal range [0, 1], and ``sigma``, the noise's standard deviation
in the same units (25 grey levels are 25 / 255): it becomes one more channel, after the colours. The
output has the same shape, is not clipped, and has no global residual: the network predicts the
image itself. Height and width must be multiples of 2^(levels - 1), 8 by default; other sizes are
padded inside, by repeating the last row and column, and cropped.

Differences from the authors' code: DPIR's evaluation cuts every image into four overlapping tiles;
here the whole image goes through at once, so results differ near DPIR's seams.

K. Zhang, Y. Li, W. Zuo, L. Zhang, L. Van Gool, R. Timofte, "Plug-and-play image restoration with
deep denoiser prior", IEEE TPAMI 44(10), 2021.
"""

from typing import ClassVar

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike, DTypeLike

from lumloss_jax.models._inputs import check_features, check_images, check_sigma, pad_to_multiple
from lumloss_jax.models._layers import Settings
from lumloss_jax.models._receptive_field import ReceptiveField, unet_receptive_field


class ResidualBlock(nn.Module):
    """z + conv(ReLU(conv(z))), with the width of z."""

    settings: Settings
    bias: bool

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """``[..., H, W, C]`` to the same."""
        x = self.settings.conv(z, z.shape[-1], bias=self.bias, name="conv_0")
        return z + self.settings.conv(nn.relu(x), z.shape[-1], bias=self.bias, name="conv_1")


class ResidualStage(nn.Module):
    """Residual blocks, with a change of size before or after them.

    ``up_to`` is the width after doubling, ``down_to`` the width after halving.
    """

    settings: Settings
    blocks: int
    bias: bool
    up_to: int | None = None
    down_to: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``[..., H, W, C]`` to the same, or to a doubled or halved size with other channels."""
        if self.up_to is not None:
            x = self.settings.doubling_conv(x, self.up_to, bias=self.bias, name="expand")
        for i in range(self.blocks):
            x = ResidualBlock(self.settings, self.bias, name=f"block_{i}")(x)
        if self.down_to is not None:
            x = self.settings.conv(
                x, self.down_to, kernel_size=2, strides=2, bias=self.bias, name="reduce"
            )
        return x


class DRUNet(nn.Module):
    """DRUNet: a UNet of residual blocks and additive skips that gets the noise level as an input.

    The noise level becomes a channel after the colours. Stages halve the size with strided
    convolutions and double it with transposed ones, and each skip is added before a stage that
    doubles. See the figure in the module's docstring. Images ``[..., H, W, channels]``, nominal
    range [0, 1], become restored images of the same shape, not clipped. Height and width that are
    not multiples of 2^(levels - 1), 8 by default, are padded inside by repeating the last row and
    column, and cropped.

    Attributes:
      features: width of each level, from the full resolution down; its length is the number of
        levels.
      blocks: residual blocks in each stage.
      channels: number of channels of the images, 3 or 1.
      bias: whether convolutions have a bias; with biases, the network is no longer homogeneous.
      initializer: ``"kair"``, orthogonal with gain 0.2 as published; ``"torch"``, PyTorch's
        defaults; or another one of DnCNN's.
      dtype: dtype of the computation; parameters and output stay float32.
      remat: recompute each stage in the backward pass instead of storing its inside: this needs
        less memory and takes a third longer.

    Raises:
      ValueError: when called, for empty ``features``, for images that are not float ``[..., H, W,
        channels]``, and for a ``sigma`` that is missing, negative, not finite, above 1 or of a
        shape that does not fit.

    References:
      Zhang et al., "Plug-and-play image restoration with deep denoiser prior", IEEE TPAMI 44(10),
      2021, arXiv:2008.13751.

    Example:
      Only shapes, with a noise level for each of two images.

      >>> from functools import partial
      >>> import jax
      >>> from lumloss_jax.models import variable_shapes
      >>> model = DRUNet(features=(8, 16), blocks=1)
      >>> images = jax.ShapeDtypeStruct((2, 37, 53, 3), jnp.float32)
      >>> apply = partial(model.apply, sigma=jnp.array([15, 25]) / 255)
      >>> jax.eval_shape(apply, variable_shapes(model), images).shape
      (2, 37, 53, 3)
    """

    features: tuple[int, ...] = (64, 128, 256, 512)
    blocks: int = 4
    channels: int = 3
    bias: bool = False
    initializer: str = "kair"
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    takes_sigma: ClassVar[bool] = True

    @property
    def receptive_field(self) -> ReceptiveField:
        """How far the network looks; see :class:`ReceptiveField`."""
        convolutions = 2 * self.blocks  # in one stage
        radii = [2 * convolutions] * (len(self.features) - 1) + [convolutions]
        radii[0] += 2  # head and tail
        return unet_receptive_field(radii)

    @nn.compact
    def __call__(
        self, images: ArrayLike, *, sigma: ArrayLike | None = None, train: bool = False
    ) -> jax.Array:
        """Restores images.

        Args:
          images: float array ``[..., H, W, channels]``.
          sigma: standard deviation of the noise in image units: one number, one per image, or a map
            ``[..., H, W]``.
          train: has no effect, because the network has no batch norm.

        Returns:
          The restored images, same shape, float32; not clipped.
        """
        check_features(self.features)
        images = check_images(images, self.channels)
        level_map = check_sigma("drunet", sigma, images)
        settings = Settings(train=train, initializer=self.initializer, dtype=self.dtype)
        stage = nn.remat(ResidualStage) if self.remat else ResidualStage
        first, *deeper = self.features

        x = jnp.concatenate([images, level_map], axis=-1)  # [..., H, W, channels + 1]
        x = pad_to_multiple(x, 2 ** len(deeper))
        x = settings.conv(x, first, bias=self.bias, name="head")
        kept = [x]
        for i, width in enumerate(deeper, start=1):
            x = stage(settings, self.blocks, self.bias, down_to=width, name=f"down_{i}")(
                x
            )  # [..., H / 2, W / 2, width]
            kept.append(x)
        x = stage(settings, self.blocks, self.bias, name="body")(x)
        for i, width in reversed(list(enumerate(self.features[:-1], start=1))):
            x = x + kept.pop()
            # [..., 2H, 2W, width]
            x = stage(settings, self.blocks, self.bias, up_to=width, name=f"up_{i}")(x)
        x = settings.conv(x + kept.pop(), self.channels, bias=self.bias, last=True, name="tail")
        x = x[..., : images.shape[-3], : images.shape[-2], :].astype(images.dtype)
        chex.assert_equal_shape([x, images])
        return x
