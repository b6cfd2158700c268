"""DnCNN (Zhang et al., 2017): a plain stack of convolutions that predicts the noise.

::

    images -- conv, ReLU -- (depth - 2) x [conv, batch norm, ReLU] -- conv -- noise
       `------------------------------ minus ---------------------------'----- restored

All convolutions are 3x3 with stride 1. Input and output are ``[..., H, W, channels]``, nominal
range [0, 1], neither clipped; any height and width. The receptive field is 2 * depth + 1 pixels
wide. Parameters with the default fields: 558,336 (17 layers, colour), 669,312 (20 layers, colour).

Published forms differ in details that matter when weights are imported. Here these details are
fields, and each form is a preset:

| preset | biases | batch norm: epsilon, momentum | outside the image | weights from |
|---|---|---|---|---|
| ``dncnn`` | none | 1e-5, 0.9 | zeros | majedelhelou/BUIFD, SaoYan/DnCNN-PyTorch |
| ``dncnn_blind`` | as ``dncnn``, with 20 layers | | | the same |
| ``dncnn_kair`` | all, also before batch norm | 1e-4, 0.1 | zeros | cszn/KAIR |
| ``dncnn_kair_merged`` | all | none: folded into convolutions | zeros | cszn/KAIR, released files |
| ``dncnn_scico`` | none | 1e-5, 0.99 | circular | lanl/scico |

Differences from the paper: in the paper, the gains of batch norm start near zero and the last
convolution starts at random values. Here the gains start at one and the last convolution at zero
(``initializer="matconvnet"`` is the paper's choice). The reference code returns the noise, and this
returns the restored image, like every network of this package. The colour weights of BUIFD's
authors expect blue, green, red.

K. Zhang, W. Zuo, Y. Chen, D. Meng, L. Zhang, "Beyond a Gaussian denoiser: residual learning of deep
CNN for image denoising", IEEE TIP 26(7), 2017.
"""

from typing import ClassVar

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike, DTypeLike

from lumloss_jax import _checks
from lumloss_jax.models._inputs import check_images, refuse_sigma
from lumloss_jax.models._layers import ConvBlock, ImageLayers, Settings
from lumloss_jax.models._receptive_field import ReceptiveField

BIASES = ("none", "first", "all")


class DnCNN(nn.Module):
    """DnCNN: stacked 3x3 convolutions that predict the noise, which is then subtracted.

    The layers are convolution and ReLU; then ``depth`` - 2 times convolution, batch norm, ReLU;
    then a last convolution, which predicts the noise. The output is the input minus the noise. The
    module's docstring has a figure and lists the published forms. Images ``[..., H, W, channels]``
    of any size, nominal range [0, 1], become restored images of the same shape, not clipped.

    Attributes:
      depth: number of convolutions, at least 2.
      features: channels between them.
      channels: number of channels of the images, 3 or 1.
      batch_norm: False leaves it out (and adds biases, unless ``bias`` says otherwise).
      bias: which convolutions have a bias: ``"none"``, ``"first"`` or ``"all"``. None means
        ``"none"`` with batch norm and ``"all"`` without.
      norm_epsilon: epsilon of batch norm.
      norm_momentum: fraction of the old running value that batch norm keeps (1 - PyTorch's
        momentum).
      padding: what surrounds the image, ``"zeros"`` or ``"circular"``.
      initializer: ``"zero_last"``, or a published recipe: ``"buifd"``, ``"matconvnet"``,
        ``"kair"``, ``"orthogonal"``, ``"scico"``, ``"torch"``.
      dtype: dtype of the computation; ``jnp.bfloat16`` halves its memory. Parameters and output
        stay float32.
      remat: recompute each block in the backward pass instead of storing its inside: this needs
        less memory and takes a third longer.
      axis_name: mapped axis over which batch norm takes its statistics, under pmap and shard_map.

    Raises:
      ValueError: when called, for fields that do not define a network (``depth`` below 2, an
        unknown option), for images that are not float ``[..., H, W, channels]``, and for a
        ``sigma``, because a blind network would ignore it.

    References:
      Zhang et al., "Beyond a Gaussian denoiser: residual learning of deep CNN for image denoising",
      IEEE TIP 26(7), 2017, arXiv:1608.03981.

    Example:
      Only shapes; :func:`create_model` has an example that computes.

      >>> import jax
      >>> from lumloss_jax.models import variable_shapes
      >>> model = DnCNN(depth=20)
      >>> variables = variable_shapes(model)
      >>> sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
      669312
      >>> images = jax.ShapeDtypeStruct((1, 37, 53, 3), jnp.float32)
      >>> jax.eval_shape(model.apply, variables, images).shape
      (1, 37, 53, 3)
    """

    depth: int = 17
    features: int = 64
    channels: int = 3
    batch_norm: bool = True
    bias: str | None = None
    norm_epsilon: float = 1e-5
    norm_momentum: float = 0.9
    padding: str = "zeros"
    initializer: str = "zero_last"
    dtype: DTypeLike = jnp.float32
    remat: bool = False
    axis_name: str | None = None

    takes_sigma: ClassVar[bool] = False
    image_layers: ClassVar[ImageLayers] = ImageLayers(("conv_first",), ("conv_last",))

    @property
    def receptive_field(self) -> ReceptiveField:
        """How far the network looks; see :class:`ReceptiveField`."""
        return ReceptiveField(1, self.depth, wraps=self.padding == "circular")

    @property
    def biases(self) -> str:
        """Which convolutions have a bias, with the default resolved."""
        if self.bias is None:
            return "none" if self.batch_norm else "all"
        return _checks.check_option("bias", self.bias, BIASES)

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
        if self.depth < 2:
            raise ValueError(
                f"depth must be at least 2, for a first and a last convolution; got {self.depth}."
            )
        refuse_sigma("dncnn", sigma)
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
        every = self.biases == "all"
        block = nn.remat(ConvBlock) if self.remat else ConvBlock

        x = settings.conv(images, self.features, bias=self.biases != "none", name="conv_first")
        x = nn.relu(x)  # [..., H, W, features], and so it stays
        for i in range(self.depth - 2):
            x = block(
                settings, self.features, bias=every, batch_norm=self.batch_norm, name=f"block_{i}"
            )(x)
        # [..., H, W, channels]
        noise = settings.conv(x, self.channels, bias=every, last=True, name="conv_last")
        chex.assert_equal_shape([noise, images])
        return images - noise.astype(images.dtype)
