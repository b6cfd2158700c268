"""The plain UNet of DPIR (Zhang et al., 2021): DRUNet's layout, blind, with a global residual.

It is like DRUNet (see the figure in ``_drunet``), with these differences: there is no noise
channel; the blocks are convolution, optional batch norm and ReLU, without residual sums; there are
``blocks`` of them per stage and one more in the body; batch norm and ReLU also follow each strided
and each transposed convolution, and ReLU alone follows the head; all convolutions have biases; and
the input is added to the output. Input and output are ``[..., H, W, channels]``, nominal range [0,
1], neither clipped. Sizes that are not multiples of 2^(levels - 1) are padded inside, by repeating
the last row and column, and cropped. There are 11,558,915 parameters (colour).

No training recipe has been published for it. It starts from PyTorch's defaults, as the authors'
class does.

K. Zhang, Y. Li, W. Zuo, L. Zhang, L. Van Gool, R. Timofte, "Plug-and-play image restoration with
deep denoiser prior", IEEE TPAMI 44(10), 2021.
"""

from typing import ClassVar

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike, DTypeLike

from lumloss_jax.models._inputs import check_features, check_images, pad_to_multiple, refuse_sigma
from lumloss_jax.models._layers import ConvBlock, Settings
from lumloss_jax.models._receptive_field import ReceptiveField, unet_receptive_field


class ResizingStage(nn.Module):
    """Convolution blocks, with a change of size before or after them.

    ``up_to`` is the width after doubling, ``down_to`` the width after halving.
    """

    settings: Settings
    blocks: int
    bias: bool
    batch_norm: bool
    up_to: int | None = None
    down_to: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``[..., H, W, C]`` to the same, or to a doubled or halved size with other channels."""

        def block(x: jax.Array, features: int, name: str, scale: float = 1) -> jax.Array:
            return ConvBlock(self.settings, features, self.bias, self.batch_norm, scale, name=name)(
                x
            )

        if self.up_to is not None:
            x = block(x, self.up_to, "expand", 2)
        for i in range(self.blocks):
            x = block(x, x.shape[-1], f"block_{i}")
        if self.down_to is not None:
            x = block(x, self.down_to, "reduce", 0.5)
        return x


class DPIRUNet(nn.Module):
    """DPIR's plain UNet: additive skips as in DRUNet, no noise level, and the input is added.

    Stages consist of convolution, optional batch norm and ReLU, without residual sums. The module's
    docstring lists all differences from DRUNet. Images ``[..., H, W, channels]``, nominal range [0,
    1], become restored images of the same shape, not clipped. Height and width that are not
    multiples of 2^(levels - 1), 8 by default, are padded inside by repeating the last row and
    column, and cropped.

    Attributes:
      features: width of each level, from the full resolution down; its length is the number of
        levels.
      blocks: convolutions in each stage; the body has one more.
      channels: number of channels of the images, 3 or 1.
      batch_norm: True adds it after every convolution except head and tail.
      bias: whether convolutions have a bias, also before batch norm.
      norm_epsilon: epsilon of batch norm.
      norm_momentum: fraction of the old running value that batch norm keeps (1 - PyTorch's
        momentum).
      initializer: ``"torch"``, PyTorch's defaults; ``"zero_last"``, which starts as the identity;
        or another one of DnCNN's.
      dtype: dtype of the computation; parameters and output stay float32.
      remat: recompute each stage in the backward pass instead of storing its inside: this needs
        less memory and takes a third longer.
      axis_name: mapped axis over which batch norm takes its statistics, under pmap and shard_map.

    Raises:
      ValueError: when called, for empty ``features``, an unknown option, images that are not float
        ``[..., H, W, channels]``, and for a ``sigma``, because a blind network would ignore it.

    References:
      Zhang et al., "Plug-and-play image restoration with deep denoiser prior", IEEE TPAMI 44(10),
      2021, arXiv:2008.13751.

    Example:
      Only shapes; :func:`create_model` has an example that computes.

      >>> import jax
      >>> from lumloss_jax.models import variable_shapes
      >>> model = DPIRUNet(features=(8, 16), blocks=1)
      >>> images = jax.ShapeDtypeStruct((1, 37, 53, 3), jnp.float32)
      >>> jax.eval_shape(model.apply, variable_shapes(model), images).shape
      (1, 37, 53, 3)
    """

    features: tuple[int, ...] = (64, 128, 256, 512)
    blocks: int = 2
    channels: int = 3
    batch_norm: bool = False
    bias: bool = True
    norm_epsilon: float = 1e-4
    norm_momentum: float = 0.1
    initializer: str = "torch"
    dtype: DTypeLike = jnp.float32
    remat: bool = False
    axis_name: str | None = None

    takes_sigma: ClassVar[bool] = False

    @property
    def receptive_field(self) -> ReceptiveField:
        """How far the network looks; see :class:`ReceptiveField`."""
        radii = [2 * self.blocks] * (len(self.features) - 1) + [self.blocks + 1]
        radii[0] += 2  # head and tail
        return unet_receptive_field(radii)

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
        refuse_sigma("unet_dpir", sigma)
        images = check_images(images, self.channels)
        settings = Settings(
            train=train,
            initializer=self.initializer,
            dtype=self.dtype,
            norm_epsilon=self.norm_epsilon,
            norm_momentum=self.norm_momentum,
            axis_name=self.axis_name,
        )
        stage = nn.remat(ResizingStage) if self.remat else ResizingStage
        common = (settings, self.blocks, self.bias, self.batch_norm)
        first, *deeper = self.features

        x = pad_to_multiple(images, 2 ** len(deeper))
        x = nn.relu(settings.conv(x, first, bias=self.bias, name="head"))  # [..., H, W, first]
        kept = [x]
        for i, width in enumerate(deeper, start=1):
            x = stage(*common, down_to=width, name=f"down_{i}")(x)  # [..., H / 2, W / 2, width]
            kept.append(x)
        x = stage(settings, self.blocks + 1, self.bias, self.batch_norm, name="body")(x)
        for i, width in reversed(list(enumerate(self.features[:-1], start=1))):
            x = x + kept.pop()
            x = stage(*common, up_to=width, name=f"up_{i}")(x)  # [..., 2H, 2W, width]
        x = settings.conv(x + kept.pop(), self.channels, bias=self.bias, last=True, name="tail")
        x = x[..., : images.shape[-3], : images.shape[-2], :].astype(images.dtype)
        chex.assert_equal_shape([x, images])
        return images + x
