"""UNet (Ronneberger et al., 2015) as used for denoising: concatenated skips and a global residual.

::

    images - [2 conv] f1 --------------------------------- cat - [2 conv] - 1x1 conv - (+) restored
       |         pool - [2 conv] f2 -------------- cat - [2 conv] - up'                 |
       |                   pool - [2 conv] f3 - up'                                     |
       `--------------------------------------------------------------------------------'

Each conv is a 3x3 convolution, batch norm and ReLU; pool is the maximum of 2x2 pixels; up doubles
the size by nearest neighbour, followed by a conv to the width of the level above. The kept features
come first in the concatenation. By default there is one level more than drawn: four, with 64, 128,
256, 512 features and 8,564,163 parameters (colour, with batch norm). Input and output are ``[...,
H, W, channels]``, nominal range [0, 1], neither clipped. Height and width must be multiples of
2^(levels - 1), 8 by default; other sizes are padded inside, by repeating the last row and column,
and cropped.

Differences from the paper: padded convolutions (the output has the input's size), batch norm,
nearest-neighbour doubling and convolution instead of a transposed convolution, and the residual.
The form, the layer names and the initialisers (PyTorch's defaults) are the same as in deepinv's
UNet.

O. Ronneberger, P. Fischer, T. Brox, "U-Net: convolutional networks for biomedical image
segmentation", MICCAI 2015.
"""

from typing import ClassVar

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike, DTypeLike

from lumloss_jax.models._inputs import check_features, check_images, pad_to_multiple, refuse_sigma
from lumloss_jax.models._layers import ConvBlock, Settings, double_nearest
from lumloss_jax.models._receptive_field import ReceptiveField, unet_receptive_field


class ConvStage(nn.Module):
    """Several convolution blocks of one width."""

    settings: Settings
    features: int
    depth: int
    bias: bool
    batch_norm: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``[..., H, W, C]`` to ``[..., H, W, features]``."""
        for i in range(self.depth):
            x = ConvBlock(
                self.settings, self.features, self.bias, self.batch_norm, name=f"block_{i}"
            )(x)
        return x


class UNet(nn.Module):
    """The classical UNet: features kept on the way down are concatenated on the way up.

    Each level has two convolutions with batch norm and ReLU. A maximum over 2x2 pixels leads down;
    nearest-neighbour doubling and a convolution lead up. See the figure in the module's docstring.
    Images ``[..., H, W, channels]``, nominal range [0, 1], become restored images of the same
    shape, not clipped. Height and width that are not multiples of 2^(levels - 1), 8 by default, are
    padded inside by repeating the last row and column, and cropped.

    Attributes:
      features: width of each level, from the full resolution down; its length is the number of
        levels.
      channels: number of channels of the images, 3 or 1.
      batch_norm: False leaves it out.
      bias: whether convolutions have a bias, also before batch norm; the last one always has one.
      residual: whether the input is added to the output.
      norm_epsilon: epsilon of batch norm.
      norm_momentum: fraction of the old running value that batch norm keeps (1 - PyTorch's
        momentum).
      padding: what surrounds the image, ``"zeros"`` or ``"circular"``.
      initializer: ``"torch"``, PyTorch's defaults; ``"zero_last"``, which starts as the identity;
        or another one of DnCNN's.
      dtype: dtype of the computation; parameters and output stay float32.
      remat: recompute each level in the backward pass instead of storing its inside: this needs
        less memory and takes a third longer.
      axis_name: mapped axis over which batch norm takes its statistics, under pmap and shard_map.

    Raises:
      ValueError: when called, for empty ``features``, an unknown option, images that are not float
        ``[..., H, W, channels]``, and for a ``sigma``, because a blind network would ignore it.

    References:
      Ronneberger, Fischer and Brox, "U-Net: convolutional networks for biomedical image
      segmentation", MICCAI 2015, arXiv:1505.04597.

    Example:
      Only shapes; :func:`create_model` has an example that computes.

      >>> import jax
      >>> from lumloss_jax.models import variable_shapes
      >>> model = UNet(features=(8, 16, 32))
      >>> images = jax.ShapeDtypeStruct((1, 37, 53, 3), jnp.float32)
      >>> jax.eval_shape(model.apply, variable_shapes(model), images).shape
      (1, 37, 53, 3)
    """

    features: tuple[int, ...] = (64, 128, 256, 512)
    channels: int = 3
    batch_norm: bool = True
    bias: bool = True
    residual: bool = True
    norm_epsilon: float = 1e-5
    norm_momentum: float = 0.9
    padding: str = "zeros"
    initializer: str = "torch"
    dtype: DTypeLike = jnp.float32
    remat: bool = False
    axis_name: str | None = None

    takes_sigma: ClassVar[bool] = False

    @property
    def receptive_field(self) -> ReceptiveField:
        """How far the network looks; see :class:`ReceptiveField`."""
        # Two convolutions on the way down, one after the doubling, and two on the way up.
        outer = [5] * (len(self.features) - 1)
        return unet_receptive_field([*outer, 2], wraps=self.padding == "circular")

    @nn.compact
    def __call__(
        self, images: ArrayLike, *, sigma: ArrayLike | None = None, train: bool = False
    ) -> jax.Array:
        """Restores images.

        Args:
          images: float array ``[..., H, W, channels]``.
          sigma: must be None, because the network is blind.
          train: batch norm uses the batch's statistics; apply with ``mutable=["batch_stats"]``.

        Returns:
          The restored images, same shape, float32; not clipped.
        """
        check_features(self.features)
        refuse_sigma("unet", sigma)
        images = check_images(images, self.channels)
        settings = Settings(
            train=train,
            initializer=self.initializer,
            dtype=self.dtype,
            padding=self.padding,
            norm_epsilon=self.norm_epsilon,
            norm_momentum=self.norm_momentum,
            axis_name=self.axis_name,
        )
        stage = nn.remat(ConvStage) if self.remat else ConvStage
        levels = len(self.features)

        x = pad_to_multiple(images, 2 ** (levels - 1))
        kept = []
        for level, width in enumerate(self.features, start=1):
            if level > 1:
                x = nn.max_pool(x, (2, 2), strides=(2, 2))  # [..., H / 2, W / 2, C]
            x = stage(settings, width, 2, self.bias, self.batch_norm, name=f"encoder_{level}")(x)
            kept.append(x)
        for level in range(levels, 1, -1):
            width = self.features[level - 2]
            x = double_nearest(x)  # [..., 2H, 2W, C]
            x = ConvBlock(settings, width, self.bias, self.batch_norm, name=f"up_{level}")(x)
            x = jnp.concatenate([kept[level - 2], x], axis=-1)  # [..., H, W, 2 width]
            x = stage(settings, width, 2, self.bias, self.batch_norm, name=f"decoder_{level}")(x)
        x = settings.conv(x, self.channels, kernel_size=1, bias=True, last=True, name="conv_last")
        x = x[..., : images.shape[-3], : images.shape[-2], :].astype(images.dtype)
        chex.assert_equal_shape([x, images])
        return images + x if self.residual else x
