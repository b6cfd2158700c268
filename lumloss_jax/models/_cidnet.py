"""HVI-CIDNet (Yan et al., 2025): low-light enhancement in a space of colour and intensity.

::

    images - HVI --- I --- intensity branch - I  --- (+) - HVI back - restored
                |                |  |                 |
                '--------- colour branch ---- H, V ---'
                |                                     |
                '-------------------------------------'

HVI is a colour space in which dark colours lie close together: H and V say hue and saturation, and
I is the largest of red, green and blue. Its exponent k is learned. Each branch is a UNet of three
levels. The intensity branch reads I, and the colour branch reads H, V and I. After each change of
size, a layer of each branch attends from its own features to those of the other branch, between
channels and over all pixels at once, and then gates them (``_cross_attention``).

In the paper, a layer is the lightweight cross-attention (LCA) block, its attention is CAB, its gate
is IEL in the intensity branch and CDL in the colour branch, and the halving and doubling blocks are
the NormDownsample and NormUpsample of the code.

Input and output are ``[..., H, W, 3]``, red, green, blue in [0, 1]. The input is clipped to this
range, and the output lies in it by construction, up to the factor ``brightness``. Height and width
must be multiples of 8; other sizes are padded inside, at the bottom and right, by reflection
without the edge (as in the authors' demonstration), and cropped. There are 1,975,569 parameters.

This follows the published code, in which the results of the second level's layers are used as skips
only, and the fifth layer of the intensity branch is never used. Its 70,960 parameters are kept here
too, because every published file contains them. Three things differ. Colours whose hue rounds up to
a full turn come back as their neighbours do, while the published code makes them black. The input
is clipped, because other values would give NaN. k is the reciprocal of the paper's, as in the code.

Q. Yan, Y. Feng, C. Zhang, G. Pang, K. Shi, P. Wu, W. Dong, J. Sun, Y. Zhang, "HVI: a new color
space for low-light image enhancement", CVPR 2025.
"""

import functools
import math
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.typing import ArrayLike, DTypeLike

from lumloss_jax.models._cross_attention import (
    CrossLayer,
    DoublingBlock,
    HalvingBlock,
    edge_padded_conv,
)
from lumloss_jax.models._inputs import check_images, pad_by_reflection, refuse_sigma
from lumloss_jax.models._layers import Settings
from lumloss_jax.models._receptive_field import ReceptiveField

LEVELS = 3
# The level of each layer of a branch; levels 1 to 3 are the smaller sizes
LAYER_LEVELS = {1: 1, 2: 2, 3: 3, 4: 3, 5: 2, 6: 1}
# The published transform adds it to denominators, to the base of the power, and inside the square
# root and the arc tangent, whose slopes at grey and black would be infinite without it.
_EPSILON = 1e-8


class CIDNet(nn.Module):
    """HVI-CIDNet: brightens a low-light image in two branches, one for colour, one for intensity.

    The branches are UNets that attend to each other, and correct the image in the colour space HVI,
    whose exponent k is learned. See the figure in the module's docstring. Images ``[..., H, W,
    3]``, red, green, blue in [0, 1], become brightened images of the same shape in [0, 1]. Height
    and width that are not multiples of 8 are padded inside by reflection, and cropped.

    Attributes:
      features: number of channels at the full size and at each of the three smaller sizes.
      heads: number of attention heads at each of the three smaller sizes. Each must divide the
        number of channels there.
      norm: whether a layer norm follows each change of size. The published weights have none.
      saturation: factor for the saturation of the result, which is then clipped to [0, 1]. The
        authors use 1.3 for LOL-v1.
      brightness: factor for the result. The authors use 0.8 to 0.84 for LOL-v2-real.
      gamma: exponent that is applied to the input; below 1 brightens it.
      dtype: dtype of the computation; parameters, colour transforms, layer norms, attention maps
        and output stay float32.
      remat: recompute each block in the backward pass instead of storing its inside: this needs
        less memory and takes a third longer.

    Raises:
      ValueError: when called, for fields that do not define a network (not four ``features`` and
        three ``heads``, ``heads`` that do not divide their ``features``, a factor or a ``gamma``
        that is not above 0), for images that are not float ``[..., H, W, 3]``, and for a ``sigma``,
        because a blind network would ignore it.

    References:
      Yan et al., "HVI: a new color space for low-light image enhancement", CVPR 2025,
      arXiv:2502.20272.

    Example:
      Only shapes.

      >>> import jax
      >>> from lumloss_jax.models import variable_shapes
      >>> model = CIDNet(features=(4, 4, 6, 8), heads=(2, 3, 2))
      >>> images = jax.ShapeDtypeStruct((1, 37, 53, 3), jnp.float32)
      >>> jax.eval_shape(model.apply, variable_shapes(model), images).shape
      (1, 37, 53, 3)
    """

    features: tuple[int, ...] = (36, 36, 72, 144)
    heads: tuple[int, ...] = (2, 4, 8)
    norm: bool = False
    saturation: float = 1.0
    brightness: float = 1.0
    gamma: float = 1.0
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    channels: ClassVar[int] = 3
    takes_sigma: ClassVar[bool] = False

    @property
    def receptive_field(self) -> ReceptiveField:
        """How far the network looks apart from its attention; see :class:`ReceptiveField`."""
        # A layer looks 3 pixels far. A block that changes the size looks 1 pixel far, and doubling
        # takes in 1 more, at the smaller size. The way up decides: at the second level it has one
        # layer after the other, while the way down has none.
        radii = (3, 9, 6, 8)
        radius = sum(radius * 2**level for level, radius in enumerate(radii))
        return ReceptiveField(2**LEVELS, radius, reflects=True)

    @nn.compact
    def __call__(
        self, images: ArrayLike, *, sigma: ArrayLike | None = None, train: bool = False
    ) -> jax.Array:
        """Restores images.

        Args:
          images: float array ``[..., H, W, 3]``; it is clipped to [0, 1].
          sigma: must be None, because the network is blind.
          train: has no effect, because the network has no batch norm.

        Returns:
          The restored images, same shape, float32.
        """
        self._check_fields()
        refuse_sigma("cidnet", sigma)
        images = check_images(images, self.channels)
        settings = Settings(train=train, initializer="torch", dtype=self.dtype)
        k = self.param("k", nn.initializers.constant(0.2), (1,))
        height, width = images.shape[-3:-1]

        x = jnp.clip(images, 0, 1)
        if self.gamma != 1:
            x = x**self.gamma
        for axis in (-3, -2):
            x = pad_by_reflection(x, axis, 2**LEVELS)
        hvi = to_hvi(x, k)
        corrected = hvi + self._branches(settings, hvi).astype(hvi.dtype)
        x = from_hvi(corrected, k, saturation=self.saturation) * self.brightness
        x = x[..., :height, :width, :]
        chex.assert_equal_shape([x, images])
        return x

    def _branches(self, settings: Settings, hvi: jax.Array) -> jax.Array:
        """The correction of H, V and I, ``[..., H, W, 3]``."""
        remat: Any = nn.remat if self.remat else lambda block: block
        layer, halve, double = map(remat, (CrossLayer, HalvingBlock, DoublingBlock))
        first, *deeper = self.features
        sizes = dict(enumerate(self.features))

        def both(number: int, i: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array]:
            """A layer of each branch, which reads the features of the other one as they were."""
            return intensity_layer(number, i, c), color_layer(number, c, i)

        def intensity_layer(number: int, i: jax.Array, c: jax.Array) -> jax.Array:
            heads = self.heads[LAYER_LEVELS[number] - 1]
            return layer(settings, heads, residual=True, name=f"intensity_layer_{number}")(i, c)

        def color_layer(number: int, c: jax.Array, i: jax.Array) -> jax.Array:
            heads = self.heads[LAYER_LEVELS[number] - 1]
            return layer(settings, heads, residual=False, name=f"color_layer_{number}")(c, i)

        def smaller(level: int, i: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array]:
            block = functools.partial(halve, settings, sizes[level], self.norm)
            return block(name=f"intensity_down_{level}")(i), block(name=f"color_down_{level}")(c)

        def larger(branch: str, level: int, x: jax.Array, skip: jax.Array) -> jax.Array:
            block = double(settings, sizes[level], self.norm, name=f"{branch}_up_{level}")
            return block(x, skip)

        i0 = edge_padded_conv(settings, hvi[..., 2:], first, name="intensity_in")  # [..., H, W, C0]
        c0 = edge_padded_conv(settings, hvi, first, name="color_in")
        i1, c1 = both(1, *smaller(1, i0, c0))  # [..., H / 2, W / 2, C1]
        i2, c2 = smaller(2, i1, c1)  # [..., H / 4, W / 4, C2]
        skip_i2, skip_c2 = both(2, i2, c2)
        # In the published network, the next level reads what these layers read
        i3, c3 = both(3, *smaller(3, i2, c2))  # [..., H / 8, W / 8, C3]
        i3, c3 = both(4, i3, c3)

        i2 = larger("intensity", 2, i3, skip_i2)
        c2 = larger("color", 2, c3, skip_c2)
        if self.is_initializing():  # no output depends on this layer, but files contain it
            intensity_layer(5, i2, c2)
        c2 = color_layer(5, c2, i2)
        i1 = larger("intensity", 1, i2, i1)
        c1 = larger("color", 1, c2, c1)
        i1, c1 = both(6, i1, c1)
        i0 = larger("intensity", 0, i1, i0)
        c0 = larger("color", 0, c1, c0)
        intensity = edge_padded_conv(settings, i0, 1, name="intensity_out")
        color = edge_padded_conv(settings, c0, 2, name="color_out")
        chex.assert_equal_rank([intensity, color])
        return jnp.concatenate([color, intensity], axis=-1)

    def _check_fields(self) -> None:
        if len(self.features) != LEVELS + 1 or len(self.heads) != LEVELS:
            raise ValueError(
                f"features={self.features}, heads={self.heads}: there must be {LEVELS + 1} "
                f"features, one for each size, and {LEVELS} heads, for the smaller sizes."
            )
        pairs = list(zip(self.features[1:], self.heads, strict=True))
        if min(*self.features, *self.heads) < 1 or any(width % heads for width, heads in pairs):
            raise ValueError(
                f"features={self.features}, heads={self.heads}: each must be at least 1, and each "
                "of the heads must divide its features, which are those from the second on."
            )
        if min(self.saturation, self.brightness, self.gamma) <= 0:
            got = f"saturation={self.saturation}, brightness={self.brightness}, gamma={self.gamma}"
            raise ValueError(f"{got}: each must be above 0.")


def to_hvi(image: jax.Array, k: jax.Array) -> jax.Array:
    """The published transform of red, green, blue in [0, 1] to H, V, I, ``[..., H, W, 3]``.

    :func:`lumloss_jax.color.rgb_to_hvi` is the same without the epsilons in two denominators.
    """
    red, green, blue = (image[..., i : i + 1] for i in range(3))
    intensity = jnp.max(image, axis=-1, keepdims=True)
    smallest = jnp.min(image, axis=-1, keepdims=True)
    spread = intensity - smallest + _EPSILON

    # Hue in sixths of a turn; of several largest channels, red comes first, then green
    sextant = 4 + (red - green) / spread
    sextant = jnp.where(green == intensity, 2 + (blue - red) / spread, sextant)
    sextant = jnp.where(red == intensity, jnp.mod((green - blue) / spread, 6), sextant)
    angle = jnp.where(smallest == intensity, 0, sextant) * (math.pi / 3)
    saturation = (intensity - smallest) / (intensity + _EPSILON)
    saturation = jnp.where(intensity == 0, 0, saturation)

    radius = _collapse(intensity, k) * saturation
    return jnp.concatenate([radius * jnp.cos(angle), radius * jnp.sin(angle), intensity], axis=-1)


def from_hvi(hvi: jax.Array, k: jax.Array, *, saturation: float = 1.0) -> jax.Array:
    """The published transform back to red, green, blue, ``[..., H, W, 3]``.

    It gives greys a tint of up to 1e-4, as the published weights expect, and k gets no gradient.
    """
    across, up = (_clip(hvi[..., i : i + 1], -1, 1) for i in range(2))
    value = _clip(hvi[..., 2:], 0, 1)
    collapse = _collapse(value, lax.stop_gradient(k)) + _EPSILON
    across, up = (_clip(x / collapse, -1, 1) for x in (across, up))
    turn = jnp.mod(jnp.arctan2(up + _EPSILON, across + _EPSILON) / (2 * math.pi), 1)
    strength = _clip(saturation * jnp.sqrt(across**2 + up**2 + _EPSILON), 0, 1)

    sixth = jnp.floor(6 * turn)
    part = 6 * turn - sixth
    low = value * (1 - strength)
    falling = value * (1 - part * strength)
    rising = value * (1 - (1 - part) * strength)
    # A hue just below a full turn may round up to it; that is the first sector again
    sector = jnp.mod(sixth, 6).astype(jnp.int32)
    columns = (
        (value, falling, low, low, rising, value),
        (rising, value, value, falling, low, low),
        (low, low, rising, value, value, falling),
    )
    channels = [lax.select_n(sector, *column) for column in columns]
    return jnp.concatenate(channels, axis=-1)


def _collapse(intensity: jax.Array, k: jax.Array) -> jax.Array:
    k = k.reshape((1,) * intensity.ndim).astype(intensity.dtype)
    return (jnp.sin(math.pi / 2 * intensity) + _EPSILON) ** k


def _clip(x: jax.Array, low: float, high: float) -> jax.Array:
    """Clips with slope 1 at the bounds themselves, as PyTorch does; jnp.clip has 1/2 there."""
    return jnp.where(x < low, low, jnp.where(x > high, high, x))
