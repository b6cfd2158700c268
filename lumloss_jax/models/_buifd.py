"""BUIFD (El Helou and Suesstrunk, 2020): a blind denoiser that estimates the noise level.

::

    images y -+- DnCNN ------------------------------- prior p ---.
              +- 5 x 5 convolutions, sigmoid - noise level l -----+- [y, p, l, y (1 - l), p l] -.
              `---------------------------------------------------'                             |
                                                                            restored - fusion --'

The prior branch is DnCNN with 20 layers. The level branch has seven convolutions, with batch norm
in all except the first and the last, and predicts one value in (0, 1) for each pixel and channel:
the noise's standard deviation, where 1 is the largest in training. The fusion is three 3x3
convolutions with neither biases nor activations. Where noise is weak, the input has more influence;
where it is strong, the prior has. Input and output are ``[..., H, W, channels]``, nominal range [0,
1], neither clipped; any height and width. 1,196,448 parameters (colour), 1,186,016 (grey).

The level is sown to ``intermediates`` as ``noise_level``, ``[..., H, W, channels]``:
``model.apply(variables, images, mutable=["intermediates"])`` returns it too. The authors train on
the squared errors of the image and of the level (compared with sigma / noise_max, where noise_max
is 55 / 255 or 75 / 255), each summed and divided by twice the batch size. The prior has no loss of
its own.

All of this is as in the published code (there too, the level has as many channels as the image, and
the fusion is linear). But the published code returns the noise and the level, and this returns the
restored image, like every network of this package. The authors' colour weights expect blue, green,
red.

M. El Helou, S. Suesstrunk, "Blind universal Bayesian image denoising with Gaussian noise level
learning", IEEE TIP 29, 2020, arXiv:1907.03029.
"""

import dataclasses
from typing import ClassVar

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike, DTypeLike

from lumloss_jax.models._dncnn import DnCNN
from lumloss_jax.models._inputs import check_images, refuse_sigma
from lumloss_jax.models._layers import ImageLayers, Settings
from lumloss_jax.models._receptive_field import ReceptiveField


class BUIFD(nn.Module):
    """BUIFD: fuses DnCNN's result with the noisy image according to an estimated noise level.

    A linear fusion reads image y, prior p, level l, y (1 - l) and p l. See the figure in the
    module's docstring. Images ``[..., H, W, channels]`` of any size, nominal range [0, 1], become
    restored images of the same shape, not clipped. The level, also of this shape and in (0, 1), is
    sown as ``noise_level``.

    Attributes:
      depth: number of convolutions of the prior, at least 2.
      features: channels between them.
      level_depth: number of convolutions of the noise-level branch, at least 2.
      level_features: channels between them.
      fusion_features: channels between the three convolutions of the fusion.
      channels: number of channels of the images, 3 or 1.
      norm_epsilon: epsilon of batch norm.
      norm_momentum: fraction of the old running value that batch norm keeps (1 - PyTorch's
        momentum).
      initializer: ``"buifd"``, as published, or another one of DnCNN's.
      dtype: dtype of the computation in both branches. Parameters, the fusion and the output stay
        float32: the whole image passes through the fusion and must not be rounded to the eight bits
        of bfloat16.
      remat: recompute each block in the backward pass instead of storing its inside: this needs
        less memory and takes a third longer.
      axis_name: mapped axis over which batch norm takes its statistics, under pmap and shard_map.

    Raises:
      ValueError: when called, for a ``depth`` or ``level_depth`` below 2, for images that are not
        float ``[..., H, W, channels]``, and for a ``sigma``, because a blind network would ignore
        it.

    References:
      El Helou and Suesstrunk, "Blind universal Bayesian image denoising with Gaussian noise level
      learning", IEEE TIP 29, 2020, arXiv:1907.03029.

    Example:
      Only shapes, of the restored images and of what was sown.

      >>> import functools, jax
      >>> from lumloss_jax.models import variable_shapes
      >>> model = BUIFD(depth=4, features=8)
      >>> apply = functools.partial(model.apply, mutable=["intermediates"])
      >>> images = jax.ShapeDtypeStruct((1, 37, 53, 3), jnp.float32)
      >>> restored, seen = jax.eval_shape(apply, variable_shapes(model), images)
      >>> restored.shape, seen["intermediates"]["noise_level"][0].shape
      ((1, 37, 53, 3), (1, 37, 53, 3))
    """

    depth: int = 20
    features: int = 64
    level_depth: int = 7
    level_features: int = 64
    fusion_features: int = 16
    channels: int = 3
    norm_epsilon: float = 1e-5
    norm_momentum: float = 0.9
    initializer: str = "buifd"
    dtype: DTypeLike = jnp.float32
    remat: bool = False
    axis_name: str | None = None

    takes_sigma: ClassVar[bool] = False
    image_layers: ClassVar[ImageLayers] = ImageLayers(
        reading=("prior/conv_first", "level/conv_first", "fusion_0"),
        writing=("prior/conv_last", "level/conv_last", "fusion_2"),
    )

    @property
    def receptive_field(self) -> ReceptiveField:
        """How far the network looks; see :class:`ReceptiveField`."""
        # 3x3 convolutions in the prior, 5x5 in the level branch, and three of 3x3 in the fusion.
        return ReceptiveField(1, max(self.depth, 2 * self.level_depth) + 3)

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
        refuse_sigma("buifd", sigma)
        images = check_images(images, self.channels)
        settings = Settings(
            train=train,
            initializer=self.initializer,
            dtype=self.dtype,
            norm_epsilon=self.norm_epsilon,
            norm_momentum=self.norm_momentum,
            axis_name=self.axis_name,
        )

        prior = DnCNN(
            depth=self.depth,
            features=self.features,
            channels=self.channels,
            norm_epsilon=self.norm_epsilon,
            norm_momentum=self.norm_momentum,
            initializer=self.initializer,
            dtype=self.dtype,
            remat=self.remat,
            axis_name=self.axis_name,
            name="prior",
        )(images, train=train)
        level = LevelBranch(
            settings, self.level_depth, self.level_features, self.remat, name="level"
        )(images)
        self.sow("intermediates", "noise_level", level)
        chex.assert_equal_shape([images, prior, level])

        # [..., H, W, 5C]
        x = jnp.concatenate([images, prior, level, images * (1 - level), prior * level], axis=-1)
        fusion = dataclasses.replace(settings, dtype=images.dtype)
        for i, width in enumerate((self.fusion_features, self.fusion_features, self.channels)):
            x = fusion.conv(x, width, bias=False, name=f"fusion_{i}")
        chex.assert_equal_shape([x, images])
        return x


class LevelBranch(nn.Module):
    """The standard deviation of the noise at each pixel, relative to the largest in training."""

    settings: Settings
    depth: int
    features: int
    remat: bool

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """``[..., H, W, channels]`` to the same, in (0, 1)."""
        if self.depth < 2:
            raise ValueError(
                "level_depth must be at least 2, for a first and a last convolution; got "
                f"{self.depth}."
            )
        block = nn.remat(WideConvBlock) if self.remat else WideConvBlock
        x = self.settings.conv(images, self.features, kernel_size=5, bias=False, name="conv_first")
        x = nn.relu(x)  # [..., H, W, features], and so it stays
        for i in range(self.depth - 2):
            x = block(self.settings, name=f"block_{i}")(x)
        x = self.settings.conv(
            x, images.shape[-1], kernel_size=5, bias=False, last=True, name="conv_last"
        )
        return nn.sigmoid(x.astype(images.dtype))  # [..., H, W, channels]


class WideConvBlock(nn.Module):
    """5x5 convolution, batch norm, ReLU."""

    settings: Settings

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``[..., H, W, C]`` to the same."""
        x = self.settings.conv(x, x.shape[-1], kernel_size=5, bias=False, name="conv")
        return nn.relu(self.settings.norm(x, name="norm"))
