"""SSIM and MS-SSIM losses against skimage, pytorch-msssim and scipy, and by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from scipy import ndimage

from lumloss_jax.losses import ms_ssim_loss, ssim_loss

C1, C2 = 0.01**2, 0.03**2
GAUSSIAN = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
GAUSSIAN /= GAUSSIAN.sum()
TWO_SCALES = functools.partial(ms_ssim_loss, scale_weights=(0.4, 0.6))


def as_images(*images):
    return (image.astype(np.float32) / np.float32(255) for image in images)


@pytest.mark.parametrize("pair", ["random_11x11_grey", "random_13x17_rgb", "flat128_vs_flat130_32"])
def test_skimage(golden_pairs, pair):
    reference, test, expected = golden_pairs[pair]
    loss = jax.jit(ssim_loss)(*as_images(test, reference))
    np.testing.assert_allclose(loss, 1 - expected["ssim_skimage_gauss_float"], rtol=1e-5, atol=1e-6)


def test_pytorch_msssim_at_five_scales(golden_pairs):
    # Even down to the last scale
    reference, test, expected = golden_pairs["astronaut_192x176_jpeg10"]
    loss = jax.jit(ms_ssim_loss)(*as_images(test, reference))
    np.testing.assert_allclose(
        loss, 1 - np.float64(expected["msssim_pytorch_msssim"]), rtol=1e-5, atol=1e-6
    )


def test_values_and_gradients_by_pytorch_in_float64(reference_batch, float64):
    predictions, targets, expected = reference_batch
    pair = predictions.astype(np.float64), targets.astype(np.float64)
    # pytorch-msssim rounds its window to float32, which moves the variances: hence 1e-5. scipy,
    # below, does not.
    value, gradient = jax.jit(jax.value_and_grad(ssim_loss))(*pair)
    wanted = expected["one_minus_ssim"]
    np.testing.assert_allclose(value, wanted["value"], rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(gradient), wanted["grad_l2"], rtol=2e-5)
    for place, number in wanted["grad_at"].items():
        n, c, h, w = (int(i) for i in place.strip("[]").split(","))
        np.testing.assert_allclose(gradient[n, h, w, c], number, rtol=1e-4)


def test_masks_by_scipy_in_float64(float64):
    rng = np.random.default_rng(0)
    p, t = rng.uniform(0, 1, (2, 2, 14, 15, 3))
    mask = rng.uniform(0.5, 1, (2, 14, 15))
    mask[0, 0, 0] = 0

    def average(image):
        for axis in (1, 2):
            image = ndimage.correlate1d(image, GAUSSIAN, axis)
        return image

    mean_p, mean_t = average(p), average(t)
    variances = average(p * p) - mean_p**2 + average(t * t) - mean_t**2
    covariance = average(p * t) - mean_p * mean_t
    ssim = (
        (2 * mean_p * mean_t + C1)
        * (2 * covariance + C2)
        / (mean_p**2 + mean_t**2 + C1)
        / (variances + C2)
    )
    inside = np.s_[:, 5:-5, 5:-5]
    least = ndimage.minimum_filter(mask, (1, 11, 11))[inside]
    expected = np.average(1 - ssim.mean(-1)[inside], weights=least)
    np.testing.assert_allclose(jax.jit(ssim_loss)(p, t, mask=mask), expected, rtol=1e-10)


def test_by_hand():
    flat = jnp.full((11, 11, 1), 0.2)
    # No variance: contrast and structure are 1
    similarity = (2 * 0.2 * 0.6 + C1) / (0.2**2 + 0.6**2 + C1)
    np.testing.assert_allclose(ssim_loss(flat, 3 * flat), 1 - similarity, rtol=1e-5)
    # One window. Turned over about its own mean an image has covariance -v: (C2 - 2 v) / (C2 + 2
    # v).
    image = np.random.default_rng(1).uniform(0.3, 0.6, (11, 11))
    weights = np.outer(GAUSSIAN, GAUSSIAN)
    mean = (weights * image).sum()
    variance = (weights * (image - mean) ** 2).sum()
    pair = (x.astype(np.float32)[..., None] for x in (2 * mean - image, image))
    np.testing.assert_allclose(
        ssim_loss(*pair), 1 - (C2 - 2 * variance) / (C2 + 2 * variance), rtol=1e-5
    )


def test_ms_ssim_of_one_scale_is_ssim_and_exponents_count():
    rng = np.random.default_rng(2)
    targets = rng.uniform(0.2, 0.8, (1, 22, 22, 1)).astype(np.float32)
    predictions = targets + rng.normal(0, 0.02, targets.shape).astype(np.float32)
    ssim = jax.jit(ssim_loss)(predictions, targets)
    for exponent in (1.0, 0.5):
        loss = jax.jit(functools.partial(ms_ssim_loss, scale_weights=(exponent,)))(
            predictions, targets
        )
        np.testing.assert_allclose(loss, 1 - (1 - ssim) ** exponent, rtol=1e-5, atol=1e-6)


def test_a_negative_counts_as_unlike_as_can_be_with_no_gradient():
    targets = jnp.asarray(np.random.default_rng(3).uniform(0, 1, (1, 22, 22, 1)), jnp.float32)
    value, gradient = jax.jit(jax.value_and_grad(TWO_SCALES))(1 - targets, targets)
    assert value == 1 and (gradient == 0).all()


def test_data_range():
    targets, predictions = (
        np.random.default_rng(4).uniform(0, 1, (2, 1, 22, 23, 3)).astype(np.float32)
    )
    for loss in (ssim_loss, TWO_SCALES):
        ranged = jax.jit(lambda p, t, data_range, loss=loss: loss(p, t, data_range=data_range))
        wanted = ranged(predictions, targets, 1.0)
        np.testing.assert_allclose(
            ranged(255 * predictions, 255 * targets, 255.0), wanted, rtol=1e-5
        )


def test_symbolic_sizes_are_left_unchecked():
    shape = export.symbolic_shape("b, h, w, 1", constraints=("h >= 22", "w >= 22"))
    images = [jax.ShapeDtypeStruct(shape, jnp.float32)] * 2
    for loss in (ssim_loss, TWO_SCALES):
        assert export.export(jax.jit(loss))(*images).out_avals[0].shape == ()


@pytest.mark.parametrize(
    ("loss", "size", "options", "message"),
    [
        (ssim_loss, (10, 40), {}, "at least 11 x 11 pixels.*got 10 x 40"),
        (ms_ssim_loss, (200, 175), {}, "at least 176 x 176 pixels.*got 200 x 175"),
        (TWO_SCALES, (21, 40), {}, "at least 22 x 22 pixels.*got 21 x 40"),
        (ms_ssim_loss, (200, 200), {"scale_weights": ()}, "scale_weights"),
        (
            ms_ssim_loss,
            (200, 200),
            {"scale_weights": (0.5, 0.0)},
            "scale_weights must be one or more finite numbers above 0; got",
        ),
        (ms_ssim_loss, (200, 200), {"scale_weights": 0.5}, "scale_weights"),
        (ssim_loss, (16, 16), {"data_range": 0}, "data_range must be more than 0"),
        (
            ssim_loss,
            (16, 16),
            {"data_range": -1.0},
            "data_range must be finite and not negative; got -1",
        ),
    ],
)
def test_errors(loss, size, options, message):
    image = np.zeros((1, *size, 3), np.float32)
    with pytest.raises(ValueError, match=message):
        loss(image, image, **options)
