"""MDSI: mean deviation of a similarity that joins edges and chroma."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _local_similarity as local
from lumloss_jax._ciede2000 import safe_sqrt
from lumloss_jax.color._luma import sum_channels
from lumloss_jax.metrics._protocol import prepare

_LUMA = (0.2989, 0.5870, 0.1140)
_CHROMA = ((0.30, 0.04, -0.35), (0.34, -0.60, 0.17))
# Constants on the 8-bit scale: for both edges, for an edge and the fused image's, for chroma.
_C_1, _C_2, _C_3 = 140.0, 55.0, 550.0
_SHARE_OF_EDGES = 0.6
# Closer to 0 than this, the slope of x^(1/4) is taken as 0, because it grows without bound.
_SMALLEST_BASE = 1e-8


def mdsi(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike = 1.0,
    crop_border: int = 0,
    mask: ArrayLike | None = None,
    gt_mean: str | None = None,
) -> jax.Array:
    r"""Mean deviation similarity index of each image.

    .. math::
        \big( \mathrm{mean} \, |z - \bar z| \big)^{1/4}, \quad z = (0.6 \, G + 0.4 \, C)^{1/4}

    with G a similarity of the Prewitt gradients of the luma of P, T and their mean, and C a
    similarity of two planes of chroma. Where the sum is negative, z is the principal complex root.
    Images of at least 384 pixels are first averaged over about 1/256 of their shorter side.

    It is not symmetric: G favours edges that the prediction keeps. An error that is the same
    everywhere has a low score.

    Protocol: the authors' MATLAB code with the target as its reference, and ``piq.mdsi(p, t)`` in
    this order. piq rounds a factor of 2.5 to 2 and the authors round it to 3, so that the two
    differ for a side of 640, for example.

    Args:
      predictions: float array ``[..., H, W, C]``, C = 3 (red, green, blue) or 1, which counts as
        three equal ones; not clipped.
      targets: float array of the same shape.
      data_range: the distance from black to white in the images' own units, above 0; it may be
        traced.
      crop_border: pixels cut off each side first; static.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1. The
        weight of a pixel of the similarity map is the smallest weight of the pixels from which it
        was computed, 3 x 3 after averaging. Where the mask is 0, the images are not read. An image
        in which nothing counts scores NaN (``jnp.nanmean`` leaves it out).
      gt_mean: None, ``"luma"`` or ``"channels"``: see :func:`psnr`; report the number as "MDSI
        (GT-mean)".

    Returns:
      Deviation, shape ``[...]``, from 0 for equal images to about 0.7, lower is better; float64 for
      float64 input, else float32. The gradient is 0 where the deviation is 0, and steep close to
      it, so a loss should use the fourth power.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape, unknown sizes (symbolic ones of ``jax.export``), a border that leaves nothing, an
        unknown ``gt_mean``, a concrete negative mask or data range.

    References:
      Nafchi, Shahkolaei, Hedjam, Cheriet, "Mean deviation similarity index: efficient and reliable
      full-reference image quality evaluator", IEEE Access 4, 2016, arXiv:1608.07433.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> targets = jnp.zeros((1, 16, 16, 1)).at[:, :, 8:].set(1.0)
      >>> blurred = targets.at[:, :, 6:10].set(0.5)
      >>> metric = jax.jit(mdsi)
      >>> print(f"{metric(targets, targets)[0]:.4f} {metric(blurred, targets)[0]:.4f}")
      0.0000 0.6099
    """
    pair = prepare(
        predictions,
        targets,
        data_range=data_range,
        crop_border=crop_border,
        mask=mask,
        gt_mean=gt_mean,
    )
    sides = _average(local.both_sides(pair))
    images = sides.images
    if images.shape[-1] == 1:
        images = jnp.repeat(images, 3, axis=-1)

    off = local.zero_where(local.least_around(sides.equal, 1, 1), _dissimilarity(images))
    real, imaginary = _fourth_root_less_one(off)
    counts = None if sides.counts is None else local.least_around(sides.counts, 1, 1)
    real, imaginary = (
        part - local.pool(part, counts)[..., None, None, None] for part in (real, imaginary)
    )
    deviation = local.pool(safe_sqrt(real * real + imaginary * imaginary), counts)
    some = deviation > 0
    value = jnp.where(
        some,
        jnp.where(some, deviation, jnp.ones_like(deviation)) ** 0.25,
        jnp.zeros_like(deviation),
    )
    return local.nan_where_nothing_counts(value, counts)


def _average(sides: local.Sides) -> local.Sides:
    """Means of f x f pixels around every f-th pixel.

    f is the shorter side divided by 256 and rounded, so it is 1 below 384 pixels.
    """
    height, width = sides.images.shape[-3:-1]
    if not (isinstance(height, int) and isinstance(width, int)):
        raise ValueError(
            "mdsi averages over a number of pixels that depends on the image's size, so it cannot "
            "have symbolic sizes: export it for one height and width."
        )
    factor = max(1, int(min(height, width) / 256 + 0.5))
    if factor == 1:
        return sides

    def blocks(values: jax.Array, outside: float) -> jax.Array:
        before = (factor - 1) // 2
        down, across = -(-height // factor), -(-width // factor)
        # May be negative
        after = [
            count * factor - before - size for count, size in ((down, height), (across, width))
        ]
        no = [(0, 0, 0)]
        padding = no * (values.ndim - 3) + [(before, after[0], 0), (before, after[1], 0)] + no
        padded = jax.lax.pad(values, jnp.asarray(outside, values.dtype), padding)
        return padded.reshape(*values.shape[:-3], down, factor, across, factor, values.shape[-1])

    counts = None if sides.counts is None else jnp.min(blocks(sides.counts, jnp.inf), axis=(-4, -2))
    return local.Sides(
        jnp.mean(blocks(sides.images, 0.0), axis=(-4, -2)),
        counts,
        jnp.min(blocks(sides.equal, jnp.inf), axis=(-4, -2)),
    )


def _dissimilarity(images: jax.Array) -> jax.Array:
    """1 minus the similarity of edges and chroma, ``[..., H, W, 1]``.

    It exceeds 1 where the similarity is negative.
    """
    luma = sum_channels(images, _LUMA)
    fused = (luma[:1] + luma[1:]) / 2
    of_p, of_t, of_fused = local.edge_strength(jnp.concatenate([luma, fused]))
    edges = local.dissimilarity(of_t, of_p, _C_1)
    edges = (
        edges
        + local.dissimilarity(of_p, of_fused, _C_2)
        - local.dissimilarity(of_t, of_fused, _C_2)
    )

    off = images[0] - images[1]
    squares_off, squares = jnp.zeros_like(edges), jnp.full_like(edges, _C_3)
    for axis in _CHROMA:
        plane = sum_channels(images, axis)
        squares_off = squares_off + jnp.square(sum_channels(off, axis))
        squares = squares + jnp.square(plane[0]) + jnp.square(plane[1])
    return _SHARE_OF_EDGES * edges + (1 - _SHARE_OF_EDGES) * squares_off / squares


def _fourth_root_less_one(off: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Real and imaginary part of (1 - off)^(1/4) - 1, with slope 0 where 1 - off is nearly 0."""
    similarity = 1 - off
    positive, negative = similarity > _SMALLEST_BASE, similarity < -_SMALLEST_BASE
    # The slope of the power is infinite at 0, and `where` would carry it into the gradient.
    near_one = jnp.expm1(jnp.log1p(-jnp.where(positive, off, jnp.zeros_like(off))) / 4)
    root = jnp.where(negative, -similarity, jnp.ones_like(off)) ** 0.25 * 0.5**0.5
    real = jnp.where(positive, near_one, jnp.where(negative, root - 1, -jnp.ones_like(off)))
    return real, jnp.where(negative, root, jnp.zeros_like(root))
