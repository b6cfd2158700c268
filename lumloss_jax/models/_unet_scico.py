"""The UNet of SCICO (Los Alamos National Laboratory): circular padding, no biases, no residual.

::

    images - [units] f ------------------------------------ cat - [units] - 1x1 conv - restored
                 unit 2f, pool - [units] 2f - unit f, up'

A unit is a 3x3 convolution, batch norm and ReLU; [units] are ``block_depth`` of them. Widths double
from level to level. The unit that widens comes before the pool (maximum of 2x2), and the unit that
narrows before the doubling (nearest neighbour). The kept features come first in the concatenation.
Input and output are ``[..., H, W, channels]``, nominal range [0, 1], neither clipped. Parameters:
11,659,264 (four levels, 64 features, colour).

Height and width must be multiples of 2^(depth - 1). Other sizes, which the reference code refuses,
are padded inside by repeating the last row and column, and cropped. The circular padding then
includes the repeated rows.

SCICO trains it on tomograms. Here it is a UNet without biases, for comparison.

T. Balke et al., "Scientific computational imaging code (SCICO)", JOSS 7(78), 2022.
"""

from typing import ClassVar

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike, DTypeLike

from lumloss_jax.models._inputs import check_images, pad_to_multiple, refuse_sigma
from lumloss_jax.models._layers import ConvBlock, Settings, double_nearest
from lumloss_jax.models._receptive_field import ReceptiveField, unet_receptive_field
from lumloss_jax.models._unet import ConvStage


class ScicoUNet(nn.Module):
    """SCICO's UNet: circular padding, batch norm everywhere, no biases, and no global residual.

    A unit is convolution, batch norm and ReLU. One widens before each pool, one narrows before each
    doubling, and kept features are concatenated. See the figure in the module's docstring. Images
    ``[..., H, W, channels]``, nominal range [0, 1], become restored images of the same shape, not
    clipped. Height and width that are not multiples of 2^(depth - 1), 8 by default, are padded
    inside by repeating the last row and column, and cropped.

    Attributes:
      depth: number of levels.
      features: width of the first level; it doubles from level to level.
      channels: number of channels of the images, 3 or 1.
      block_depth: units on each side of each level.
      norm_epsilon: epsilon of batch norm.
      norm_momentum: fraction of the old running value that batch norm keeps (1 - PyTorch's
        momentum).
      padding: what surrounds the image, ``"circular"`` or ``"zeros"``.
      initializer: ``"scico"``, truncated normal of variance 2 / fan_in, or another one of DnCNN's.
      dtype: dtype of the computation; parameters and output stay float32.
      remat: recompute each level in the backward pass instead of storing its inside: this needs
        less memory and takes a third longer.
      axis_name: mapped axis over which batch norm takes its statistics, under pmap and shard_map.

    Raises:
      ValueError: when called, for a ``depth`` or ``block_depth`` below 1, an unknown option, images
        that are not float ``[..., H, W, channels]``, and for a ``sigma``, because a blind network
        would ignore it.

    References:
      Balke et al., "Scientific computational imaging code (SCICO)", JOSS 7(78), 2022.

    Example:
      Only shapes; :func:`create_model` has an example that computes.

      >>> import jax
      >>> from lumloss_jax.models import variable_shapes
      >>> model = ScicoUNet(depth=2, features=8)
      >>> images = jax.ShapeDtypeStruct((1, 37, 53, 3), jnp.float32)
      >>> jax.eval_shape(model.apply, variable_shapes(model), images).shape
      (1, 37, 53, 3)
    """

    depth: int = 4
    features: int = 64
    channels: int = 3
    block_depth: int = 2
    norm_epsilon: float = 1e-5
    norm_momentum: float = 0.99
    padding: str = "circular"
    initializer: str = "scico"
    dtype: DTypeLike = jnp.float32
    remat: bool = False
    axis_name: str | None = None

    takes_sigma: ClassVar[bool] = False

    @property
    def receptive_field(self) -> ReceptiveField:
        """How far the network looks; see :class:`ReceptiveField`."""
        deeper = self.depth - 1
        radii = []
        for level in range(deeper):
            # The units on both sides, the one that widens before the next pool, and, except at
            # full resolution, the one that narrows before a doubling.
            radii.append(2 * self.block_depth + 1 + (level > 0))
        radii.append(self.block_depth + (deeper > 0))
        return unet_receptive_field(radii, wraps=self.padding == "circular")

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
        if self.depth < 1 or self.block_depth < 1:
            raise ValueError(
                f"depth and block_depth must be at least 1; got {self.depth} and "
                f"{self.block_depth}."
            )
        refuse_sigma("unet_scico", sigma)
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

        x = pad_to_multiple(images, 2 ** (self.depth - 1))
        width = self.features
        x = stage(settings, width, self.block_depth, False, True, name="encoder_1")(x)
        kept = []
        for level in range(2, self.depth + 1):
            kept.append(x)
            width *= 2
            # This widens at the old resolution
            x = ConvBlock(settings, width, False, True, name=f"down_{level}")(x)
            x = nn.max_pool(x, (2, 2), strides=(2, 2))  # [..., H / 2, W / 2, C]
            x = stage(settings, width, self.block_depth, False, True, name=f"encoder_{level}")(x)
        for level in range(self.depth, 1, -1):
            width //= 2
            # This narrows at the low resolution
            x = ConvBlock(settings, width, False, True, name=f"up_{level}")(x)
            x = double_nearest(x)  # [..., 2H, 2W, C]
            x = jnp.concatenate([kept[level - 2], x], axis=-1)  # [..., H, W, 2 width]
            x = stage(settings, width, self.block_depth, False, True, name=f"decoder_{level}")(x)
        x = settings.conv(x, self.channels, kernel_size=1, bias=False, last=True, name="conv_last")
        x = x[..., : images.shape[-3], : images.shape[-2], :].astype(images.dtype)
        chex.assert_equal_shape([x, images])
        return x
