"""The arithmetic of HaarPSI, which the metric and the loss share."""

import jax
import jax.numpy as jnp

from lumloss_jax import _local_similarity as local
from lumloss_jax._pair import Pair
from lumloss_jax.color._luma import COEFFICIENTS, sum_channels

_SMALLEST_SIDE = 16
# The authors' I and Q. Other implementations differ in the fourth digit, and their metric in the
# third.
_IN_PHASE = (0.596, -0.274, -0.322)
_QUADRATURE = (0.211, -0.523, 0.312)


def haarpsi_of_pair(
    pair: Pair, constant: jax.Array, steepness: jax.Array, *, downsample: bool
) -> tuple[jax.Array, jax.Array | None]:
    """sqrt(HaarPSI) - 1 of each image ``[...]``, exactly 0 for equal ones, and what counts.

    What counts is the weight of each pixel, ``[..., H, W, 1]``, or None without a mask.
    """
    local.check_smallest(pair.targets, _SMALLEST_SIDE, "HaarPSI")
    sides = local.both_sides(pair)
    if downsample:
        sides = local.halve(sides)
    luma = sum_channels(sides.images, COEFFICIENTS["rec601"])  # [2, ..., H, W, 1]
    differences, weights = [], []
    equal_within_4 = local.least_around(sides.equal, 1, 2)
    for axis in (-3, -2):
        details = [local.haar_magnitude(luma, level, axis) for level in (1, 2)]
        finest, second = (local.dissimilarity(detail[0], detail[1], constant) for detail in details)
        differences.append(local.zero_where(equal_within_4, (finest + second) / 2))
        coarse = local.haar_magnitude(luma, 3, axis)
        weights.append(jnp.maximum(coarse[0], coarse[1]))
    if sides.images.shape[-1] == 3:
        means = local.mean_of_four(sides.images)
        chroma = [local.magnitude(sum_channels(means, axis)) for axis in (_IN_PHASE, _QUADRATURE)]
        in_phase, quadrature = (
            local.dissimilarity(plane[0], plane[1], constant) for plane in chroma
        )
        differences.append(
            local.zero_where(local.least_around(sides.equal, 0, 1), (in_phase + quadrature) / 2)
        )
        weights.append((weights[0] + weights[1]) / 2)

    difference = jnp.concatenate(differences, axis=-1)  # [..., H, W, 3]
    weight = jnp.concatenate(weights, axis=-1)
    counts = None if sides.counts is None else local.least_around(sides.counts, 3, 4)
    if counts is not None:
        weight = weight * counts
    return _excess(difference, weight, steepness), counts


def _excess(difference: jax.Array, weight: jax.Array, steepness: jax.Array) -> jax.Array:
    """sqrt(HaarPSI) - 1 per image, from 1 minus the similarity and the weight of each map's pixel.

    Both have shape ``[..., H, W, 3]``.

    Everything is written as a difference from 1: s(a) - s(a (1 - D)) = s(a) s(-a (1 - D)) (1 -
    exp(-a D)).
    """
    axes = (-3, -2, -1)
    top, rest = jax.nn.sigmoid(steepness), jax.nn.sigmoid(-steepness)
    missing = (
        top * jax.nn.sigmoid(-steepness * (1 - difference)) * -jnp.expm1(-steepness * difference)
    )
    total = jnp.sum(weight, axes)
    black = total == 0  # both lumas are black, so there is nothing to compare
    lost = jnp.sum(weight * missing, axes)
    lost = jnp.where(black, jnp.zeros_like(lost), lost) / jnp.where(
        black, jnp.ones_like(total), total
    )
    return (jnp.log1p(-lost / top) - jnp.log1p(lost / rest)) / steepness
