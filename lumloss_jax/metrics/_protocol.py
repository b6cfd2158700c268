"""The steps before every metric: check, crop, mask, scale and match means."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _checks, _means
from lumloss_jax.color._luma import COEFFICIENTS, sum_channels

GT_MEANS = ("luma", "channels")

# A prediction whose mean is darker than this is not scaled, because the gradient of the ratio would
# grow without bound.
_DARKEST_MEAN = 1e-6


class Pair(NamedTuple):
    """Predictions and targets of data range 1, and their weights or None.

    The images are ``[..., H, W, C]``, the weights ``[..., H, W, 1]``.
    """

    predictions: jax.Array
    targets: jax.Array
    mask: jax.Array | None


def prepare(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike,
    crop_border: int,
    mask: ArrayLike | None,
    gt_mean: str | None,
    channels: tuple[int, ...] = (1, 3),
) -> Pair:
    """Prepares a pair of images for a metric."""
    p, t = _checks.check_pair(predictions, targets, channels=channels)
    m = _checks.check_mask(mask, p)
    scale = _checks.check_data_range(data_range, p.dtype)
    border = _checks.check_crop_border(crop_border, p)
    if gt_mean is not None:
        _checks.check_option("gt_mean", gt_mean, GT_MEANS)
    p, t = _crop_border(p, border), _crop_border(t, border)
    m = None if m is None else _crop_border(m, border)
    p, t = _means.hide_masked(p, m) / scale, _means.hide_masked(t, m) / scale
    if gt_mean is not None:
        p = _match_mean(p, t, m, gt_mean)
    return Pair(p, t, m)


def difference(pair: Pair) -> jax.Array:
    """P - T, which is exactly 0 where the two are equal, with slope 0 even under |.|.

    In a compiled function, p / R - t / R is a product and a fused multiply-add, which leaves the
    rounding error of one of them: 1e-8, which is 158 dB if the floor is 0.
    """
    off = pair.predictions - pair.targets
    return jnp.where(pair.predictions == pair.targets, jnp.zeros_like(off), off)


def zero_where_equal(values: jax.Array, pair: Pair) -> jax.Array:
    """``values`` ``[..., H, W, 1]``, with 0 and slope 0 at pixels whose colours are equal.

    In a compiled function, f(p) - f(t) may leave 1e-6 of Lab for p = t, and with it a slope as
    large as for any difference.
    """
    equal = jnp.all(pair.predictions == pair.targets, axis=-1, keepdims=True)
    return jnp.where(equal, jnp.zeros_like(values), values)


def _match_mean(
    predictions: jax.Array, targets: jax.Array, mask: jax.Array | None, kind: str
) -> jax.Array:
    """Scales each prediction to its target's mean, then clips to [0, 1]."""

    def mean(image: jax.Array) -> jax.Array:
        signal = sum_channels(image, COEFFICIENTS["rec601"]) if kind == "luma" else image
        return _means.image_mean(signal, mask)[..., None, None, None]

    mean_p, mean_t = mean(predictions), mean(targets)
    bright = mean_p > _DARKEST_MEAN
    ratio = jnp.where(
        bright, mean_t / jnp.where(bright, mean_p, jnp.ones_like(mean_p)), jnp.ones_like(mean_p)
    )
    return jnp.clip(predictions * ratio, 0, 1)


def _crop_border(image: jax.Array, border: int) -> jax.Array:
    """Cuts ``border`` pixels off all four sides of ``[..., H, W, C]``.

    An axis of a mask that has size 1 is left unchanged.
    """
    if border == 0:
        return image
    for axis in (image.ndim - 3, image.ndim - 2):
        size = image.shape[axis]
        if isinstance(size, int) and size == 1:
            continue  # a mask that broadcasts along this axis
        image = jax.lax.slice_in_dim(image, border, size - border, axis=axis)
    return image
