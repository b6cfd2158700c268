"""LPIPS: the distance between two images in the activations of a trained network."""

import functools
import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _checks
from lumloss_jax._ciede2000 import safe_sqrt
from lumloss_jax._pair import crop
from lumloss_jax.models import _trunks
from lumloss_jax.models._trunks import Weights

# Added to the length of each pixel's activations. Without it, activations that are all 0 are 0/0.
_LEAST_LENGTH = 1e-10
_NAMES = [*_trunks.TRUNK_NAMES, (r"lin(?:s\.)?(\d)\.model\.\d\.weight", r"lin\1.model.1.weight")]
_ADVICE = (
    "Give the weights of torchvision's vgg16 or alexnet together with those of lpips' "
    "weights/v0.1/vgg.pth or alex.pth, or lpips.LPIPS(net=...).state_dict()."
)


def lpips_weights(arrays: Weights) -> dict[str, ArrayLike]:
    """The weights that LPIPS needs, picked out of PyTorch state dictionaries and checked.

    Two sources are understood: torchvision's ``vgg16`` or ``alexnet`` merged with the small file of
    the same network from lpips' ``weights/v0.1``, and ``lpips.LPIPS(net=...).state_dict()``. What
    LPIPS does not need is dropped, such as the classifier. No weights are shipped with this
    package. The weights of torchvision were trained on ImageNet, whose terms you must judge
    yourself.

    Args:
      arrays: arrays under PyTorch's names, in PyTorch's order of axes. Channels may be fewer than
        published, as in tests.

    Returns:
      The arrays that :func:`lpips` reads, under the names ``features.0.weight`` and so on and
      ``lin0.model.1.weight`` to ``lin4.model.1.weight``. ``features.3.weight`` is there if the
      network is AlexNet.

    Raises:
      ValueError: an array is missing, is not of floats, or does not fit the others.

    Example:
      >>> import numpy as np
      >>> try:
      ...     lpips_weights({"features.0.weight": np.zeros((8, 3, 3, 3))})
      ... except ValueError as error:
      ...     print(str(error)[:60])
      the weights of LPIPS lack features.0.bias and 29 more. Give
    """
    weights = _trunks.rename(arrays, _NAMES)
    trunk = _trunks.trunk_of(weights)
    shapes = _trunks.trunk_shapes(trunk, weights)
    heads: dict[str, tuple[int | None, ...]] = {
        f"lin{i}.model.1.weight": (1, None, 1, 1) for i in range(5)
    }
    _trunks.check_weights("LPIPS", weights, shapes | heads, advice=_ADVICE)
    widths = _trunks.tap_widths(trunk, weights)
    heads = {f"lin{i}.model.1.weight": (1, width, 1, 1) for i, width in enumerate(widths)}
    _trunks.check_weights("LPIPS", weights, heads, advice=_ADVICE)
    return {name: weights[name] for name in (*shapes, *heads)}


def lpips(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    weights: Weights,
    data_range: ArrayLike = 1.0,
    crop_border: int = 0,
) -> jax.Array:
    r"""LPIPS of each image, version 0.1: the distance of the activations of a trained network.

    .. math::
        \sum_l \mathrm{mean}_{h, w} \sum_c w_{l c} \, (\hat\phi_{l c}(P) - \hat\phi_{l c}(T))^2,
        \quad \hat\phi_l = \frac{\phi_l}{\lVert \phi_l \rVert_2 + 10^{-10}}

    with :math:`\phi_l` the activations of five layers of VGG16 or AlexNet, and :math:`w_l` weights
    that were fitted to human judgements. You bring all of these weights: see
    :func:`lpips_weights`. Papers mostly report AlexNet's; name the network next to the number.

    Protocol: ``lpips.LPIPS(net=..., version="0.1")(2 * p - 1, 2 * t - 1)``. As a loss, take the
    mean over images, and add a pixel loss.

    Args:
      predictions: float array ``[..., H, W, C]``, gamma-encoded sRGB: C = 3 (red, green, blue) or
        1, which is repeated; at least 16 x 16 pixels for VGG16, and 31 x 31 for AlexNet.
      targets: float array of the same shape.
      weights: what :func:`lpips_weights` returns, or what it accepts; arrays may be traced.
      data_range: the distance from black to white in the images' own units, above 0; it may be
        traced.
      crop_border: pixels cut off each side first; static.

    Returns:
      Distance, shape ``[...]``, 0 for equal images and with the published weights seldom above 1,
      lower is better; float64 for float64 input, else float32. The gradient is 0 for equal images.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape or too small, a border that leaves nothing, a concrete data range that is not above 0,
        and for weights as :func:`lpips_weights`.

    References:
      Zhang, Isola, Efros, Shechtman, Wang, "The unreasonable effectiveness of deep features as a
      perceptual metric", CVPR 2018, arXiv:1801.03924.

    Example:
      >>> import numpy as np
      >>> random, weights, width = np.random.default_rng(0), {}, 3
      >>> for number, size in ((0, 11), (3, 5), (6, 3), (8, 3), (10, 3)):
      ...     weights[f"features.{number}.weight"] = random.normal(size=(8, width, size, size))
      ...     weights[f"features.{number}.bias"] = np.zeros(8)
      ...     width = 8
      >>> weights |= {f"lin{i}.model.1.weight": np.ones((1, 8, 1, 1)) for i in range(5)}
      >>> targets = random.uniform(size=(2, 32, 32, 3))
      >>> lpips(targets, targets, weights=weights).tolist()
      [0.0, 0.0]
    """
    maps = lpips_layers(
        predictions, targets, weights=weights, data_range=data_range, crop_border=crop_border
    )
    return functools.reduce(jnp.add, [jnp.mean(values, (-2, -1)) for values in maps])


def lpips_layers(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    weights: Weights,
    data_range: ArrayLike = 1.0,
    crop_border: int = 0,
) -> tuple[jax.Array, ...]:
    """LPIPS of each pixel of each layer, for figures; :func:`lpips` is the sum of their means.

    Args:
      predictions: float array ``[..., H, W, C]``: see :func:`lpips`.
      targets: float array of the same shape.
      weights: see :func:`lpips`.
      data_range: see :func:`lpips`.
      crop_border: see :func:`lpips`.

    Returns:
      Five arrays ``[..., h, w]`` from fine to coarse, 0 or more, lower is better. Their steps are
      1, 2, 4, 8 and 16 pixels for VGG16, and 4, 8, 16, 16 and 16 for AlexNet.

    Raises:
      ValueError: as :func:`lpips`.

    Example:
      >>> import numpy as np
      >>> weights = {f"features.{n}.bias": np.zeros(8) for n in (0, 3, 6, 8, 10)}
      >>> for number, shape in {0: (3, 11), 3: (8, 5), 6: (8, 3), 8: (8, 3), 10: (8, 3)}.items():
      ...     width, side = shape
      ...     weights[f"features.{number}.weight"] = np.ones((8, width, side, side))
      >>> weights |= {f"lin{i}.model.1.weight": np.ones((1, 8, 1, 1)) for i in range(5)}
      >>> image = np.zeros((64, 64, 3))
      >>> [values.shape for values in lpips_layers(image, image, weights=weights)]
      [(15, 15), (7, 7), (3, 3), (3, 3), (3, 3)]
    """
    predictions, targets = _checks.check_pair(predictions, targets)
    scale = _checks.check_data_range(data_range, targets.dtype)
    border = _checks.check_crop_border(crop_border, targets)
    weights = lpips_weights(weights)
    trunk = _trunks.trunk_of(weights)
    pair = jnp.stack([crop(predictions, border), crop(targets, border)]) / scale
    _checks.check_sides(pair, trunk.least_side, f"LPIPS with {trunk.name}")
    if pair.shape[-1] == 1:
        pair = jnp.repeat(pair, 3, axis=-1)
    images = pair.shape[1:-3]
    # Both sides in one batch, so that each convolution runs once
    both = pair.reshape(2 * math.prod(images), *pair.shape[-3:])
    # In a compiled function, both sides may be rounded differently.
    equal = jnp.all(pair[0] == pair[1], axis=(-3, -2, -1))[..., None, None]

    pool = functools.partial(_trunks.max_pool, window=trunk.pool_window)
    maps = []
    for i, values in enumerate(_trunks.activations(both, trunk, weights, pool)):
        length = safe_sqrt(jnp.sum(jnp.square(values), axis=-1, keepdims=True))
        units = values / (length + _LEAST_LENGTH)
        units = units.reshape(2, *images, *values.shape[1:])
        head = jnp.asarray(weights[f"lin{i}.model.1.weight"]).astype(values.dtype)
        head = head.reshape((1,) * (len(images) + 2) + (-1,))
        found = jnp.sum(head * jnp.square(units[0] - units[1]), axis=-1)
        maps.append(jnp.where(equal, jnp.zeros_like(found), found))
    return tuple(maps)
