"""The steps before every metric: check, crop, mask, scale and match means."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _checks, _means
from lumloss_jax._pair import Pair, crop
from lumloss_jax.color._luma import COEFFICIENTS, sum_channels

GT_MEANS = ("luma", "channels")

# A prediction whose mean is darker than this fraction of the data range is not scaled, because the
# gradient of the ratio would grow without bound.
_DARKEST_MEAN = 1e-6


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
    pair, _ = prepare_difference(
        predictions,
        targets,
        data_range=data_range,
        crop_border=crop_border,
        mask=mask,
        gt_mean=gt_mean,
        channels=channels,
    )
    return pair


def prepare_difference(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike,
    crop_border: int,
    mask: ArrayLike | None,
    gt_mean: str | None,
    channels: tuple[int, ...] = (1, 3),
) -> tuple[Pair, jax.Array]:
    """Prepares a pair of images, and their difference, (P - T) / R.

    The difference is taken in the images' own units, so that it is exactly 0 where they are equal.
    In a compiled function, P / R - T / R is a product and a fused multiply-add, which leaves the
    rounding error of one of them: 1e-8, which is 158 dB if the floor is 0. To select 0 where they
    are equal would cost time, because XLA's library for sums on a CPU does not read through a
    selection.
    """
    p, t = _checks.check_pair(predictions, targets, channels=channels)
    m = _checks.check_mask(mask, p)
    scale = _checks.check_data_range(data_range, p.dtype)
    border = _checks.check_crop_border(crop_border, p)
    if gt_mean is not None:
        _checks.check_option("gt_mean", gt_mean, GT_MEANS)
    p, t = crop(p, border), crop(t, border)
    m = None if m is None else crop(m, border)
    p, t = _means.hide_masked(p, m), _means.hide_masked(t, m)
    if gt_mean is not None:
        p = _match_mean(p, t, m, gt_mean, scale)
    return Pair(p / scale, t / scale, m), (p - t) / scale


def _match_mean(
    predictions: jax.Array,
    targets: jax.Array,
    mask: jax.Array | None,
    kind: str,
    data_range: jax.Array,
) -> jax.Array:
    """Scales each prediction to its target's mean, then clips to the data range."""

    def mean(image: jax.Array) -> jax.Array:
        signal = sum_channels(image, COEFFICIENTS["rec601"]) if kind == "luma" else image
        return _means.image_mean(signal, mask)[..., None, None, None]

    mean_p, mean_t = mean(predictions), mean(targets)
    bright = mean_p > _DARKEST_MEAN * data_range
    ratio = jnp.where(
        bright, mean_t / jnp.where(bright, mean_p, jnp.ones_like(mean_p)), jnp.ones_like(mean_p)
    )
    return jnp.clip(predictions * ratio, 0, data_range)
