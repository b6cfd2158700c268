"""NAFNet (Chen et al., 2022): a residual UNet without activation functions.

::

    images - intro - blocks, W - down - blocks, 2W - down - ... - blocks, 2^L W
                       |                  |                          |
    restored - (+) - ending - blocks, W - (+) - up - blocks, 2W - (+) - up
                |
             images

A block has two parts, and each is added to its input after a gain per channel that starts at 0.
The first part is a layer norm, a 1x1 and a depthwise 3x3 convolution to twice the width, a gate
that multiplies the first half of the channels by the second half, a multiplication by numbers that
a 1x1 convolution computes from the mean of each channel over the image, and a 1x1 convolution. The
second part is a layer norm, a 1x1 convolution to twice the width, the same gate and a 1x1
convolution. down is a 2x2 convolution of stride 2 to twice the width. up is a 1x1 convolution to
twice the width, whose channels become 2x2 pixels, and (+) adds the skip of the same level.

In the paper, the block is NAFNet's block, the gate is SimpleGate, the multiplication by the means
is simplified channel attention (SCA), and the gains are beta and gamma.

Input and output are ``[..., H, W, channels]``, nominal range [0, 1], neither clipped. Height and
width must be multiples of 2^levels, 16 by default; other sizes are padded inside, at the bottom and
right, with zeros, and cropped. The zeros count in the means. There are 29,159,715 parameters at
width 32, and 115,982,915 at width 64.

The means were trained on patches of 256x256 pixels, and they are different on a whole photograph.
With ``window``, each pixel gets the mean over a window around it instead: this is the local form of
Chu et al. (TLC), with the same parameters. Windows are shifted inwards at the borders of the image.

This follows the published code. The gains are not in the paper's figure.

L. Chen, X. Chu, X. Zhang, J. Sun, "Simple baselines for image restoration", ECCV 2022. X. Chu,
L. Chen, C. Chen, X. Lu, "Improving image restoration by revisiting global information aggregation",
ECCV 2022.
"""

import functools
from typing import ClassVar

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.typing import ArrayLike, DTypeLike

from lumloss_jax import _means
from lumloss_jax.models._inputs import check_images, pad_to_multiple, refuse_sigma
from lumloss_jax.models._layers import Settings, grouped_conv, layer_norm
from lumloss_jax.models._receptive_field import ReceptiveField, unet_receptive_field


class NAFNet(nn.Module):
    """NAFNet: a residual UNet without activation functions, for denoising and deblurring.

    Blocks of gated convolutions, each multiplied by means over the image, correct the images. See
    the figure in the module's docstring. Images ``[..., H, W, channels]``, nominal range [0, 1],
    become restored images of the same shape, not clipped. Height and width that are not multiples
    of 2^levels, 16 by default, are padded inside with zeros, and cropped.

    Attributes:
      width: W, number of channels at full size, which doubles with each level.
      encoder_blocks: number of blocks at each level on the way down, from the full size. Its length
        is the number of levels.
      middle_blocks: number of blocks at the smallest size.
      decoder_blocks: number of blocks at each level on the way up, from the smallest size.
      channels: number of channels of the images, 3 or 1.
      window: height and width in pixels of the window over which means are taken (the local form,
        TLC), for example ``(384, 384)``. Empty: the whole image. It needs images of a known size,
        and has no effect on those that fit in it.
      dtype: dtype of the computation; parameters, layer norms, means and output stay float32.
      remat: recompute each block in the backward pass instead of storing its inside: this needs
        less memory and takes a third longer.

    Raises:
      ValueError: when called, for fields that do not define a network (``decoder_blocks`` that does
        not have one number for each level, a ``window`` that does not have two), for images that
        are not float ``[..., H, W, channels]``, and for a ``sigma``, because a blind network would
        ignore it.

    References:
      Chen et al., "Simple baselines for image restoration", ECCV 2022, arXiv:2204.04676. The local
      form: Chu et al., ECCV 2022, arXiv:2112.04491.

    Example:
      Only shapes.

      >>> import jax
      >>> from lumloss_jax.models import variable_shapes
      >>> model = NAFNet(width=8, encoder_blocks=(1, 1), middle_blocks=1, decoder_blocks=(1, 1))
      >>> images = jax.ShapeDtypeStruct((1, 37, 53, 3), jnp.float32)
      >>> jax.eval_shape(model.apply, variable_shapes(model), images).shape
      (1, 37, 53, 3)
    """

    width: int = 32
    encoder_blocks: tuple[int, ...] = (2, 2, 4, 8)
    middle_blocks: int = 12
    decoder_blocks: tuple[int, ...] = (2, 2, 2, 2)
    channels: int = 3
    window: tuple[int, ...] = ()
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    takes_sigma: ClassVar[bool] = False

    @property
    def receptive_field(self) -> ReceptiveField:
        """How far the network looks apart from its means; see :class:`ReceptiveField`."""
        both_ways = zip(self.encoder_blocks, reversed(self.decoder_blocks), strict=True)
        # The depthwise convolution of a block adds one pixel
        radii = [down + up for down, up in both_ways] + [self.middle_blocks]
        radii[0] += 2  # intro and ending
        return unet_receptive_field(radii)

    @nn.compact
    def __call__(
        self, images: ArrayLike, *, sigma: ArrayLike | None = None, train: bool = False
    ) -> jax.Array:
        """Restores images.

        Args:
          images: float array ``[..., H, W, channels]``.
          sigma: must be None, because the network is blind.
          train: has no effect, because the network has no batch norm.

        Returns:
          The restored images, same shape, float32; not clipped.
        """
        self._check_fields()
        refuse_sigma("nafnet", sigma)
        images = check_images(images, self.channels)
        settings = Settings(train=train, initializer="torch", dtype=self.dtype)
        conv = functools.partial(settings.conv, bias=True)
        levels = len(self.encoder_blocks)

        x = pad_to_multiple(images, 2**levels, zeros=True)
        x = conv(x, self.width, name="intro")
        kept = []
        for level, count in enumerate(self.encoder_blocks):
            x = self._blocks(settings, x, level, count, f"encoder_{level}")
            kept.append(x)
            # [..., H / 2, W / 2, 2C]
            x = conv(x, 2 * x.shape[-1], kernel_size=2, strides=2, name=f"down_{level}")
        x = self._blocks(settings, x, levels, self.middle_blocks, "middle")
        for level, count in zip(reversed(range(levels)), self.decoder_blocks, strict=True):
            x = settings.conv(x, 2 * x.shape[-1], kernel_size=1, bias=False, name=f"up_{level}")
            x = channels_to_pixels(x) + kept[level]  # [..., 2H, 2W, C / 2]
            x = self._blocks(settings, x, level, count, f"decoder_{level}")
        x = conv(x, self.channels, name="ending")
        x = images + x[..., : images.shape[-3], : images.shape[-2], :].astype(images.dtype)
        chex.assert_equal_shape([x, images])
        return x

    def window_at(self, level: int) -> tuple[int, ...]:
        """Height and width of the window in pixels of a level; empty for the whole image."""
        return tuple(size // 2**level for size in self.window)

    def _blocks(
        self, settings: Settings, x: jax.Array, level: int, count: int, name: str
    ) -> jax.Array:
        block = nn.remat(Block) if self.remat else Block
        for i in range(count):
            x = block(settings, self.window_at(level), name=f"{name}_block_{i}")(x)
        return x

    def _check_fields(self) -> None:
        counts = (*self.encoder_blocks, self.middle_blocks, *self.decoder_blocks)
        if self.width < 1 or min(counts) < 0:
            got = f"width={self.width}, encoder_blocks={self.encoder_blocks}"
            got += f", middle_blocks={self.middle_blocks}, decoder_blocks={self.decoder_blocks}"
            raise ValueError(
                f"{got}: width must be at least 1, and each number of blocks 0 or more."
            )
        if len(self.encoder_blocks) != len(self.decoder_blocks):
            got = f"encoder_blocks={self.encoder_blocks}, decoder_blocks={self.decoder_blocks}"
            raise ValueError(f"{got}: both must contain one number for each level.")
        smallest = 2 ** len(self.encoder_blocks)
        if self.window and (len(self.window) != 2 or min(self.window) < smallest):
            raise ValueError(
                f"window={self.window}: it must be empty, or the height and the width of the "
                f"window in pixels, each at least {smallest}."
            )


class Block(nn.Module):
    """Gated convolutions that are multiplied by means over the image, then gated 1x1 ones.

    The block reads the whole image only through :meth:`channel_means`, which is a method so that
    ``nn.intercept_methods`` can replace it.
    """

    settings: Settings
    window: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``[..., H, W, C]`` to the same."""
        conv = functools.partial(self.settings.conv, kernel_size=1, bias=True)
        width = x.shape[-1]

        y = conv(layer_norm(1e-6, "norm_0")(x), 2 * width, name="expand_0")  # [..., H, W, 2C]
        y = _gate(grouped_conv(self.settings, y, 3, 2 * width, bias=True, name="depthwise"))
        means = self.channel_means(y).astype(y.dtype)  # [..., 1, 1, C], or [..., H, W, C]
        y = y * conv(means, width, name="attention")
        x = x + self._gain("gain_0", x) * conv(y, width, name="contract_0")

        y = _gate(conv(layer_norm(1e-6, "norm_1")(x), 2 * width, name="expand_1"))
        return x + self._gain("gain_1", x) * conv(y, width, name="contract_1")

    def channel_means(self, x: jax.Array) -> jax.Array:
        """The mean of each channel, in float32, over the image or over windows of it.

        Shape ``[..., 1, 1, C]`` for the whole image, and that of ``x`` for windows.
        """
        x = x.astype(_means.accumulation_dtype(x))
        return local_means(x, self.window) if self.window else jnp.mean(x, (-3, -2), keepdims=True)

    def _gain(self, name: str, x: jax.Array) -> jax.Array:
        gain = self.param(name, nn.initializers.zeros, (x.shape[-1],))
        return gain.reshape((1,) * (x.ndim - 1) + gain.shape).astype(x.dtype)


def local_means(x: jax.Array, window: tuple[int, ...]) -> jax.Array:
    """The mean over a window around each pixel, which is shifted inwards at the borders.

    Args:
      x: ``[..., H, W, C]`` in float32, with H and W known.
      window: height and width of the window. If an axis is shorter, all of it is used.

    Returns:
      The means ``[..., H, W, C]``, or ``[..., 1, 1, C]`` if the window covers the image.

    Raises:
      ValueError: if H or W is symbolic.
    """
    sizes = x.shape[-3:-1]
    if not all(isinstance(size, int) for size in sizes):
        raise ValueError(
            f"window={window} needs images of a known size; got {sizes}. Leave window empty, or "
            "give the size."
        )
    if all(length >= size for length, size in zip(window, sizes, strict=True)):
        return jnp.mean(x, (-3, -2), keepdims=True)
    for axis, length, size in zip((x.ndim - 3, x.ndim - 2), window, sizes, strict=True):
        length = min(length, size)
        means = box_sums(x, length, axis) / length
        # The first and the last window serve all pixels that are nearer to the border
        around = [(0, 0)] * x.ndim
        around[axis] = ((length - 1) // 2, length // 2)
        x = jnp.pad(means, around, mode="edge")
    return x


def box_sums(x: jax.Array, length: int, axis: int) -> jax.Array:
    """Sums of ``length`` neighbours along an axis, which becomes shorter by ``length - 1``.

    Sums of 1, 2, 4, ... neighbours are added up, as the binary digits of the length say. This costs
    a few additions for each pixel, and unlike a difference of cumulative sums it loses no digits.
    """
    count = x.shape[axis] - length + 1
    total: jax.Array | float = 0.0
    start, power = 0, 1
    while True:  # x holds the sums of ``power`` neighbours
        if length & power:
            total = total + lax.slice_in_dim(x, start, start + count, axis=axis)
            start += power
        if 2 * power > length:
            return jnp.asarray(total)
        size = x.shape[axis]
        x = lax.slice_in_dim(x, 0, size - power, axis=axis) + lax.slice_in_dim(
            x, power, size, axis=axis
        )
        power *= 2


def channels_to_pixels(x: jax.Array) -> jax.Array:
    """``[..., H, W, 4C]`` to ``[..., 2H, 2W, C]``: PyTorch's PixelShuffle.

    Channel 4 c + 2 dy + dx becomes channel c of the pixel (2 y + dy, 2 x + dx).
    """
    *batch, height, width, channels = x.shape
    x = x.reshape(*batch, height, width, channels // 4, 2, 2)
    first = len(batch)
    # [..., H, dy, W, dx, C]
    order = (*range(first), first, first + 3, first + 1, first + 4, first + 2)
    return x.transpose(order).reshape(*batch, 2 * height, 2 * width, channels // 4)


def _gate(x: jax.Array) -> jax.Array:
    """The first half of the channels times the second half."""
    first, second = jnp.split(x, 2, axis=-1)
    return first * second
