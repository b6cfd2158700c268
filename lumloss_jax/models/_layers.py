"""Layers that the networks share, and the settings that all layers of a network share."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from lumloss_jax import _checks, _means
from lumloss_jax.models._initializers import initializers, torch_kernel, uniform_of_fan_in

PADDINGS = ("zeros", "circular")


class ImageLayers(NamedTuple):
    """The layers of a network that read or write images, as paths such as ``prior/conv_first``.

    If the order of their channels is reversed, a network trained on blue, green, red restores red,
    green, blue.

    Attributes:
      reading: convolutions whose input channels are an image's channels, once or several times.
      writing: convolutions whose output channels are an image's channels.
    """

    reading: tuple[str, ...]
    writing: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings that all layers of a network share; hashable, so that they can be a module's field.

    Attributes:
      train: whether batch norm uses the batch's statistics and updates the running ones; otherwise
        it uses the running ones.
      initializer: name of a recipe in ``_initializers``.
      dtype: dtype of the computation. Parameters and batch statistics are always float32.
      padding: what surrounds the image, ``"zeros"`` or ``"circular"``.
      norm_epsilon: added to the variance by batch norm.
      norm_momentum: as in Flax, the fraction of the old running value that is kept; in PyTorch, the
        momentum is 1 minus this fraction.
      axis_name: mapped axis over which batch norm takes its statistics (pmap, shard_map).
    """

    train: bool
    initializer: str
    dtype: DTypeLike
    padding: str = "zeros"
    norm_epsilon: float = 1e-5
    norm_momentum: float = 0.9
    axis_name: str | None = None

    def __post_init__(self) -> None:
        _checks.check_option("padding", self.padding, PADDINGS)
        initializers(self.initializer)

    def conv(
        self,
        x: jax.Array,
        features: int,
        *,
        name: str,
        bias: bool,
        kernel_size: int = 3,
        strides: int = 1,
        last: bool = False,
    ) -> jax.Array:
        """A convolution; with an odd kernel and stride 1 it keeps the size."""
        recipe = initializers(self.initializer)
        circular = self.padding == "circular" and kernel_size > 1
        if circular:
            x = _wrap(x, kernel_size)
        return nn.Conv(
            features,
            (kernel_size, kernel_size),
            strides=(strides, strides),
            padding="VALID" if circular else "SAME",
            use_bias=bias,
            dtype=self.dtype,
            kernel_init=recipe.last_kernel if last else recipe.kernel,
            bias_init=recipe.bias(kernel_size * kernel_size * x.shape[-1]),
            name=name,
        )(x)

    def doubling_conv(self, x: jax.Array, features: int, *, name: str, bias: bool) -> jax.Array:
        """A 2x2 transposed convolution of stride 2, which doubles height and width.

        With ``transpose_kernel``, Flax keeps the kernel as (2, 2, out, in) and unflipped, which is
        PyTorch's order except for a permutation. PyTorch counts its fan_in over the output
        channels, and so do the initialisers here.
        """
        recipe = initializers(self.initializer)
        return nn.ConvTranspose(
            features,
            (2, 2),
            strides=(2, 2),
            padding="VALID",
            transpose_kernel=True,
            use_bias=bias,
            dtype=self.dtype,
            kernel_init=recipe.kernel,
            bias_init=recipe.bias(2 * 2 * features),
            name=name,
        )(x)

    def norm(self, x: jax.Array, *, name: str) -> jax.Array:
        """Flax's batch norm over all axes except the last."""
        return nn.BatchNorm(
            use_running_average=not self.train,
            momentum=self.norm_momentum,
            epsilon=self.norm_epsilon,
            dtype=self.dtype,
            scale_init=initializers(self.initializer).norm_scale,
            axis_name=self.axis_name,
            name=name,
            # The statistics are float32; this cast is for strict promotion
        )(x.astype(_means.accumulation_dtype(x)))


class ConvBlock(nn.Module):
    """Convolution, optional batch norm, ReLU.

    ``scale`` is the change of size: 1 keeps it, 2 doubles it (2x2 transposed), 0.5 halves it (2x2,
    stride 2).
    """

    settings: Settings
    features: int
    bias: bool
    batch_norm: bool
    scale: float = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``[..., H, W, C]`` to ``[..., scale * H, scale * W, features]``."""
        if self.scale == 2:
            x = self.settings.doubling_conv(
                x, self.features, bias=self.bias, name="transposed_conv"
            )
        elif self.scale == 0.5:
            x = self.settings.conv(
                x, self.features, kernel_size=2, strides=2, bias=self.bias, name="conv"
            )
        else:
            x = self.settings.conv(x, self.features, bias=self.bias, name="conv")
        if self.batch_norm:
            x = self.settings.norm(x, name="norm")
        return nn.relu(x)


def grouped_conv(
    settings: Settings, x: jax.Array, size: int, groups: int, name: str, bias: bool = False
) -> jax.Array:
    """A convolution in groups of channels that keeps their number; PyTorch's initialisers."""
    bias_init = uniform_of_fan_in(size * size * x.shape[-1] // groups)
    conv = functools.partial(
        nn.Conv, x.shape[-1], (size, size), kernel_init=torch_kernel, bias_init=bias_init
    )
    return conv(feature_group_count=groups, use_bias=bias, dtype=settings.dtype, name=name)(x)


def layer_norm(epsilon: float, name: str) -> Callable[[jax.Array], jax.Array]:
    """A layer norm over channels, computed in float32 for every dtype."""
    # The epsilon keeps the gradient finite for pixels without variance, as in a black image
    norm = nn.LayerNorm(epsilon=epsilon, use_fast_variance=False, name=name)
    return lambda x: norm(x.astype(_means.accumulation_dtype(x)))


def double_nearest(x: jax.Array) -> jax.Array:
    """``[..., H, W, C]`` to ``[..., 2H, 2W, C]``, each pixel four times; sizes may be symbolic."""
    *batch, height, width, channels = x.shape
    x = jnp.broadcast_to(x[..., :, None, :, None, :], (*batch, height, 2, width, 2, channels))
    return x.reshape(*batch, 2 * height, 2 * width, channels)


def _wrap(x: jax.Array, kernel_size: int) -> jax.Array:
    """Puts the opposite edges around ``x``.

    It uses slices, because ``jnp.pad`` cannot wrap symbolic sizes.
    """
    before, after = (kernel_size - 1) // 2, kernel_size // 2
    for axis in (-3, -2):
        last = jax.lax.slice_in_dim(x, x.shape[axis] - before, x.shape[axis], axis=axis)
        x = jnp.concatenate([last, x, jax.lax.slice_in_dim(x, 0, after, axis=axis)], axis=axis)
    return x
