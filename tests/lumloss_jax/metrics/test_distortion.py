"""MAE, MSE, PSNR and PSNR-Y by hand: shifts, masks, the floor, the mean that GT-mean matches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from lumloss_jax import metrics

# Two pixels of one image: errors 0.3, 0, 0 and 0.1, 0.1, 0.1.
TARGETS = np.full((1, 1, 2, 3), 0.25, np.float32)
PREDICTIONS = TARGETS + np.array([[0.3, 0, 0], [0.1, 0.1, 0.1]], np.float32)
MASK = np.array([[[1, 3]]])
LUMA_SQUARES = np.array([(0.299 * 0.3) ** 2, 0.1**2])


def score(name, predictions=PREDICTIONS, targets=TARGETS, mask=None, **options):
    """One value, compiled: far quicker than to compile its operations one by one."""
    metric = functools.partial(getattr(metrics, name), **options)
    return jax.jit(lambda p, t, mask: metric(p, t, mask=mask))(predictions, targets, mask)


def test_two_pixels_by_hand():
    np.testing.assert_allclose(score("mae"), [0.6 / 6], rtol=1e-6)
    np.testing.assert_allclose(score("mse"), [0.12 / 6], rtol=1e-6)
    np.testing.assert_allclose(score("psnr"), [-10 * np.log10(0.12 / 6)], rtol=1e-6)
    expected = -10 * np.log10(LUMA_SQUARES.mean() * np.array([[219 / 255], [1]]) ** 2)
    np.testing.assert_allclose(score("psnr_y"), expected[0], rtol=1e-6)
    np.testing.assert_allclose(score("psnr_y", luma_range="full"), expected[1], rtol=1e-6)


def test_two_weighted_pixels_by_hand():
    np.testing.assert_allclose(score("mae", mask=MASK), [(0.3 + 3 * 0.3) / 12], rtol=1e-6)
    np.testing.assert_allclose(score("mse", mask=MASK), [(0.09 + 3 * 0.03) / 12], rtol=1e-6)
    np.testing.assert_allclose(score("psnr", mask=MASK), [-10 * np.log10(0.18 / 12)], rtol=1e-6)
    expected = -10 * np.log10(LUMA_SQUARES @ [0.25, 0.75])
    np.testing.assert_allclose(score("psnr_y", mask=MASK, luma_range="full"), [expected], rtol=1e-6)


@pytest.mark.parametrize("psnr", [metrics.psnr, metrics.psnr_y])
def test_floor(psnr):
    """100 dB for equal images by default, another floor's number, and scikit-image's inf at 0."""
    scores = jax.jit(
        jax.value_and_grad(lambda p, t, floor: psnr(p, t, data_range=255.0, floor=floor)[0])
    )
    equal = np.full((1, 2, 2, 3), 100, np.float32)
    np.testing.assert_allclose(scores(equal, equal, 1e-10)[0], 100, rtol=1e-6)
    np.testing.assert_allclose(scores(equal, equal, 1e-6)[0], 60, rtol=1e-6)
    with np.errstate(divide="ignore"):
        assert (
            scores(equal, equal, 0.0)[0]
            == np.inf
            == peak_signal_noise_ratio(equal, equal, data_range=255)
        )
    for floor in (0.0, 1e-10):
        np.testing.assert_array_equal(scores(equal, equal, floor)[1], np.zeros_like(equal))
    # Above the floor it changes nothing.
    off = equal + np.float32(1)
    np.testing.assert_array_equal(*(scores(off, equal, floor)[0] for floor in (0.0, 1e-10)))
    with pytest.raises(ValueError, match="floor must be finite and not negative"):
        psnr(equal, equal, floor=-1e-10)


def test_unknown_luma_range_is_named():
    with pytest.raises(
        ValueError, match="luma_range accepts 'studio', 'full'; got 'studo'; did you mean 'studio'"
    ):
        metrics.psnr_y(PREDICTIONS, TARGETS, luma_range="studo")


def test_gt_mean_by_hand():
    # Means 0.4 and 0.5 of luma; of all channels (0.8 + 0.2 + 0.2) / 3 and 0.5.
    targets = np.full((1, 2, 2, 3), 0.5, np.float32)
    predictions = np.broadcast_to(np.array([0.8, 0.2, 0.2], np.float32), targets.shape)
    for kind, mean in (("luma", 0.299 * 0.8 + 0.701 * 0.2), ("channels", 0.4)):
        matched = np.minimum(predictions * (0.5 / mean), 1)
        expected = np.abs(matched - targets).mean()
        for unit in (1.0, 255.0):
            value = score("mae", unit * predictions, unit * targets, gt_mean=kind, data_range=unit)
            np.testing.assert_allclose(value, [expected], rtol=1e-6)


def test_gt_mean_leaves_a_black_prediction_alone():
    """One as dark as 4e-7 of the data range, in either unit, too."""
    targets = jnp.full((1, 2, 2, 3), 0.5)

    @jax.jit
    def scores(predictions, unit):
        def of(kind):
            return lambda p: metrics.mse(p, unit * targets, gt_mean=kind, data_range=unit)[0]

        return [jax.value_and_grad(of(kind))(predictions) for kind in ("luma", "channels")]

    for unit in (1.0, 255.0):
        for dark in (0.0, 4e-7):
            for value, gradient in scores(jnp.full(targets.shape, dark * unit), unit):
                np.testing.assert_allclose(value, 0.25, rtol=1e-5)
                assert np.isfinite(gradient).all()


def test_gt_mean_under_a_mask_reads_the_masked_mean():
    targets = np.full((1, 1, 2, 3), 0.5, np.float32)
    predictions = targets * np.array([[0.5], [1.7]], np.float32)
    for kind in ("luma", "channels"):
        value = score("mae", predictions, targets, gt_mean=kind, mask=np.array([[[1, 0]]]))
        np.testing.assert_allclose(value, [0], atol=1e-7)
