"""SSIM and MS-SSIM against their definition in float64: sizes, masks, scales, signs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from lumloss_jax import metrics

WEIGHTS = (0.3, 0.7)


def local_similarity(p, t):
    """SSIM and its second quotient at every window inside ``[H, W]``, ``[H - 10, W - 10]``."""
    taps = np.exp(-np.square(np.arange(11) - 5) / (2 * 1.5**2))
    window = np.outer(taps, taps) / taps.sum() ** 2

    def mean(image):
        return np.einsum("ijkl,kl->ij", sliding_window_view(image, (11, 11)), window)

    mean_p, mean_t = mean(p), mean(t)
    variances = mean(p * p) - mean_p**2 + mean(t * t) - mean_t**2
    covariance = mean(p * t) - mean_p * mean_t
    contrast = (2 * covariance + 0.03**2) / (variances + 0.03**2)
    return (2 * mean_p * mean_t + 0.01**2) / (mean_p**2 + mean_t**2 + 0.01**2) * contrast, contrast


def halved(image, combine=np.mean):
    """2 x 2 blocks; an odd last row and column is dropped."""
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    return combine(image[:height, :width].reshape(height // 2, 2, width // 2, 2), axis=(1, 3))


def two_scales(p, t, mask=None):
    """MS-SSIM of ``[H, W, C]`` with WEIGHTS, from the definition."""
    mask = np.ones(p.shape[:2]) if mask is None else mask
    least = [sliding_window_view(m, (11, 11)).min((2, 3)) for m in (mask, halved(mask, np.min))]
    products = []
    for p_c, t_c in zip(np.moveaxis(p, -1, 0), np.moveaxis(t, -1, 0), strict=True):
        fine = np.average(local_similarity(p_c, t_c)[1], weights=least[0])
        coarse = np.average(local_similarity(halved(p_c), halved(t_c))[0], weights=least[1])
        products.append(max(fine, 0) ** WEIGHTS[0] * max(coarse, 0) ** WEIGHTS[1])
    return np.mean(products)


def pair():
    """Of sizes that are odd at the first scale, even and odd at the second."""
    rng = np.random.default_rng(0)
    targets = rng.uniform(0, 1, (25, 27, 3))
    return (targets + 0.2 * rng.normal(size=targets.shape)).astype(np.float32), targets.astype(
        np.float32
    )


@functools.cache
def ssim():
    return jax.jit(metrics.ssim)


@functools.cache
def ms_ssim():
    return jax.jit(functools.partial(metrics.ms_ssim, scale_weights=WEIGHTS))


def test_ms_ssim_from_its_definition():
    predictions, targets = pair()
    expected = two_scales(predictions.astype(np.float64), targets.astype(np.float64))
    np.testing.assert_allclose(ms_ssim()(predictions, targets), expected, rtol=1e-5)


def test_odd_last_row_and_column_count_at_the_first_scale_only():
    predictions, targets = (np.repeat(image[..., :1], 3, -1) for image in pair())
    changed = predictions.copy()
    changed[-1] += 3
    changed[:, -1] += 3
    fine = [
        local_similarity(p[..., 0].astype(np.float64), targets[..., 0])[1].mean()
        for p in (predictions, changed)
    ]
    assert abs(fine[1] / fine[0] - 1) > 1e-3
    ratio = ms_ssim()(changed, targets) / ms_ssim()(predictions, targets)
    np.testing.assert_allclose(ratio, (fine[1] / fine[0]) ** WEIGHTS[0], rtol=1e-6)


def test_masks_from_the_definition():
    rng = np.random.default_rng(2)
    predictions, targets = pair()
    mask = rng.uniform(0.2, 1, (25, 27)).astype(np.float32)
    mask[:3, :2] = 0
    weights = sliding_window_view(mask, (11, 11)).min((2, 3))
    doubles = [np.moveaxis(image.astype(np.float64), -1, 0) for image in (predictions, targets)]
    expected = np.mean(
        [
            np.average(local_similarity(*one)[0], weights=weights)
            for one in zip(*doubles, strict=True)
        ]
    )
    np.testing.assert_allclose(ssim()(predictions, targets, mask=mask), expected, rtol=1e-5)
    expected = two_scales(predictions.astype(np.float64), targets.astype(np.float64), mask)
    np.testing.assert_allclose(ms_ssim()(predictions, targets, mask=mask), expected, rtol=1e-5)


def test_negative_terms_count_as_zero_with_zero_gradient():
    _, targets = pair()
    value, gradient = jax.jit(jax.value_and_grad(ms_ssim()))(1 - targets, targets)
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros_like(targets))
    assert ssim()(1 - targets, targets, mask=np.ones((25, 27), np.float32)) < -0.5


def test_a_mask_without_a_coarsest_window_scores_nan():
    mask = np.zeros((25, 27), np.float32)
    mask[:20, :20] = 1  # a window of 11 fits, but not one of 22
    predictions, targets = pair()
    assert np.isfinite(ssim()(predictions, targets, mask=mask))
    assert np.isnan(ms_ssim()(predictions, targets, mask=mask))


def test_scale_weights_are_checked():
    images = jnp.zeros((2, 24, 26, 1))
    for wrong, message in [
        ((), "one or more finite numbers above 0"),
        ((0.5, 0.0), "one or more finite numbers above 0"),
        ((0.5, np.inf), "one or more finite numbers above 0"),
        ("half", "must be a sequence of numbers"),
        (0.5, "must be a sequence of numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            metrics.ms_ssim(images, images, scale_weights=wrong)
    with pytest.raises(ValueError, match="traced"):
        jax.jit(lambda w: metrics.ms_ssim(images, images, scale_weights=w))(jnp.ones(2))
    with pytest.raises(ValueError, match="MS-SSIM with 3 scales needs at least 44 x 44"):
        metrics.ms_ssim(images, images, scale_weights=(0.2, 0.3, 0.5))
