"""DISTS: similarity of structure and of texture in the activations of a trained network."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _checks
from lumloss_jax._local_similarity import check_flag
from lumloss_jax._pair import crop
from lumloss_jax.models import _trunks
from lumloss_jax.models._trunks import VGG, Weights

# Added to both sides of each quotient. Without it, a channel that is 0 everywhere is 0/0.
_CONSTANT = 1e-6
# Added under the root of each pooled square, where the slope at 0 would have no bound.
_LEAST_SQUARE = 1e-12
_SHORT_SIDE = 256  # which `downsample` aims at
_NAMES = [*_trunks.TRUNK_NAMES, (r"(alpha|beta)", r"\1")]
_ADVICE = (
    "Give the weights of torchvision's vgg16 together with alpha and beta of DISTS' weights.pt, or "
    "DISTS_pytorch.DISTS().state_dict()."
)


def dists_weights(arrays: Weights) -> dict[str, ArrayLike]:
    """The weights that DISTS needs, picked out of PyTorch state dictionaries and checked.

    Two sources are understood: torchvision's ``vgg16`` merged with the ``alpha`` and ``beta`` of
    DISTS' ``weights.pt``, and ``DISTS_pytorch.DISTS().state_dict()``. What DISTS does not need is
    dropped, such as the classifier. No weights are shipped with this package. The weights of
    torchvision were trained on ImageNet, whose terms you must judge yourself.

    Args:
      arrays: arrays under PyTorch's names, in PyTorch's order of axes. Channels may be fewer than
        published, as in tests.

    Returns:
      The arrays that :func:`dists` reads, under the names ``features.0.weight`` and so on,
      ``alpha`` and ``beta``.

    Raises:
      ValueError: an array is missing, is not of floats, or does not fit the others.

    Example:
      >>> import numpy as np
      >>> try:
      ...     dists_weights({"alpha": np.ones((1, 1475, 1, 1))})
      ... except ValueError as error:
      ...     print(str(error)[:55])
      the weights of DISTS lack features.0.weight and 26 more
    """
    weights = _trunks.rename(arrays, _NAMES)
    shapes = _trunks.trunk_shapes(VGG, weights)
    factors: dict[str, tuple[int | None, ...]] = dict.fromkeys(("alpha", "beta"), (1, None, 1, 1))
    _trunks.check_weights("DISTS", weights, shapes | factors, advice=_ADVICE)
    width = 3 + sum(_trunks.tap_widths(VGG, weights))
    factors = dict.fromkeys(factors, (1, width, 1, 1))
    _trunks.check_weights("DISTS", weights, factors, advice=_ADVICE)
    return {name: weights[name] for name in (*shapes, *factors)}


def dists(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    weights: Weights,
    data_range: ArrayLike = 1.0,
    crop_border: int = 0,
    downsample: bool = False,
) -> jax.Array:
    r"""DISTS of each image: deep image structure and texture similarity, as a distance.

    .. math::
        \sum_c \alpha_c \frac{(\mu_c - \mu'_c)^2}{\mu_c^2 + \mu_c'^2 + 10^{-6}} + \beta_c
        \frac{\mathrm{var}(\phi_c - \phi'_c)}{\mathrm{var} \, \phi_c + \mathrm{var} \, \phi'_c +
        10^{-6}}, \quad \sum_c \alpha_c + \beta_c = 1

    over all channels of the image itself and of five layers of VGG16, whose pooling is the root of
    a blurred square. :math:`\mu_c` and var are taken over the pixels of an image. It forgives a
    texture that is replaced by another sample of the same texture. You bring the weights: see
    :func:`dists_weights`.

    Protocol: ``DISTS_pytorch.DISTS()(p, t)``, which is ``1 - similarity``; this form keeps the
    digits that the difference loses. As a loss, take the mean over images, and add a pixel loss.

    Args:
      predictions: float array ``[..., H, W, C]``, gamma-encoded sRGB: C = 3 (red, green, blue) or
        1, which is repeated.
      targets: float array of the same shape.
      weights: what :func:`dists_weights` returns, or what it accepts; arrays may be traced.
      data_range: the distance from black to white in the images' own units, above 0; it may be
        traced.
      crop_border: pixels cut off each side first; static.
      downsample: whether images are first averaged over blocks of f x f pixels, f = round(min(H, W)
        / 256), because the weights were fitted at that size; a remainder is dropped; static. The
        protocol does not do it.

    Returns:
      Distance, shape ``[...]``, 0 for equal images and with the published weights seldom above 1,
      lower is better; float64 for float64 input, else float32. The gradient is 0 for equal images.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape, a border that leaves nothing, a concrete data range that is not above 0, a
        ``downsample`` that is not True or False, and for weights as :func:`dists_weights`.

    References:
      Ding, Ma, Wang, Simoncelli, "Image quality assessment: unifying structure and texture
      similarity", IEEE Transactions on Pattern Analysis and Machine Intelligence 44(5), 2022,
      arXiv:2004.07728.

    Example:
      >>> import numpy as np
      >>> random, weights, width = np.random.default_rng(0), {}, 3
      >>> for number in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28):
      ...     weights[f"features.{number}.weight"] = random.normal(size=(8, width, 3, 3))
      ...     weights[f"features.{number}.bias"] = np.zeros(8)
      ...     width = 8
      >>> weights |= {name: np.ones((1, 43, 1, 1)) for name in ("alpha", "beta")}
      >>> targets = random.uniform(size=(2, 16, 16, 3))
      >>> dists(targets, targets, weights=weights).tolist()
      [0.0, 0.0]
    """
    predictions, targets = _checks.check_pair(predictions, targets)
    scale = _checks.check_data_range(data_range, targets.dtype)
    border = _checks.check_crop_border(crop_border, targets)
    check_flag("downsample", downsample)
    weights = dists_weights(weights)
    pair = jnp.stack([crop(predictions, border), crop(targets, border)]) / scale
    if downsample:
        pair = _averaged(pair)
    if pair.shape[-1] == 1:
        pair = jnp.repeat(pair, 3, axis=-1)
    images = pair.shape[1:-3]
    # Both sides in one batch, so that each convolution runs once
    both = pair.reshape(2 * math.prod(images), *pair.shape[-3:])

    differences = []
    for values in (both, *_trunks.activations(both, VGG, weights, _root_of_blurred_square)):
        first, second = values.reshape(2, -1, *values.shape[1:])
        means = [jnp.mean(side, (-3, -2)) for side in (first, second)]
        centred = [
            side - mean[..., None, None, :]
            for side, mean in zip((first, second), means, strict=True)
        ]
        squares = [jnp.mean(jnp.square(side), (-3, -2)) for side in centred]
        # 1 - (2 a b + c) / (a^2 + b^2 + c) = (a - b)^2 / (a^2 + b^2 + c), of means and of variances
        structure = jnp.square(means[0] - means[1]) / (
            jnp.square(means[0]) + jnp.square(means[1]) + _CONSTANT
        )
        texture = jnp.mean(jnp.square(centred[0] - centred[1]), (-3, -2)) / (
            squares[0] + squares[1] + _CONSTANT
        )
        differences.append((structure, texture))

    alpha, beta = (
        jnp.asarray(weights[name]).astype(both.dtype).reshape(1, -1) for name in ("alpha", "beta")
    )
    structure, texture = (jnp.concatenate(parts, -1) for parts in zip(*differences, strict=True))
    total = jnp.sum(alpha * structure + beta * texture, -1) / (jnp.sum(alpha) + jnp.sum(beta))
    # In a compiled function, both sides may be rounded differently.
    equal = jnp.all(pair[0] == pair[1], axis=(-3, -2, -1))
    return jnp.where(equal, jnp.zeros_like(equal, total.dtype), total.reshape(images))


def _averaged(pair: jax.Array) -> jax.Array:
    """Means of blocks, so that the short side is near 256."""
    height, width, channels = pair.shape[-3:]
    factor = max(1, round(min(height, width) / _SHORT_SIDE))
    rows, columns = height // factor, width // factor
    cut = pair[..., : rows * factor, : columns * factor, :]
    blocks = cut.reshape(*pair.shape[:-3], rows, factor, columns, factor, channels)
    return jnp.mean(blocks, axis=(-4, -2))


def _root_of_blurred_square(values: jax.Array) -> jax.Array:
    """Root of the blurred squares at every other pixel, with zeros outside: taps (1, 2, 1) / 4."""
    squares = jnp.pad(jnp.square(values), [(0, 0), (1, 1), (1, 1), (0, 0)])
    for axis in (1, 2):
        steps = -(-values.shape[axis] // 2)
        first, second, third = (
            jax.lax.slice_in_dim(squares, k, k + 2 * steps - 1, stride=2, axis=axis)
            for k in range(3)
        )
        squares = (first + 2 * second + third) / 4
    return jnp.sqrt(squares + _LEAST_SQUARE)
