"""Every number that other libraries give for the reference pairs.

Numbers that differ from ours are listed with the reason.

The pairs of tests/golden always, all of them where ../shared is there: in float64, and some in
float32.
"""

import functools
import math

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from lumloss_jax import color, metrics
from tests.slow_cases import slow_for

# To the last bits, sums and the difference of equal images depend on what XLA optimizes.
pytestmark = pytest.mark.usefixtures("optimized")

# The fixture's key -> the same number from ours, and by how much the library's own arithmetic
# misses it.
OURS = {
    "l1": (lambda s: s["mae"], 0),
    "mse": (lambda s: s["mse"], 0),
    "rmse": (lambda s: np.sqrt(s["mse"]), 0),
    "psnr_skimage_uint8": (lambda s: s["psnr"], 0),
    "psnr_skimage_float": (lambda s: s["psnr"], 0),
    "psnr_torchmetrics": (lambda s: s["psnr"], 2e-5),  # logarithms in float32
    "psnr_piq": (lambda s: -10 * np.log10(s["mse"] + 1e-8), 0),
    "psnr_loss_eps1e-8": (lambda s: 10 * np.log10(s["mse"] + 1e-8), 0),
    "luma601_l1": (lambda s: s["luma601"]["mae"], 0),
    "luma601_psnr": (lambda s: s["psnr_y_full"], 0),
    "luma709_l1": (lambda s: s["luma709"]["mae"], 0),
    "luma709_psnr": (lambda s: s["luma709"]["psnr"], 0),
    "luma_studio601_l1": (lambda s: s["studio601"]["mae"], 0),
    "luma_studio601_psnr": (lambda s: s["psnr_y_studio"], 0),
    "ssim_skimage_gauss": (lambda s: s["ssim"], 0),
    "ssim_skimage_gauss_float": (lambda s: s["ssim"], 0),
    "ssim_valid11_255": (lambda s: s["ssim"], 0),
    "ssim_piq_nodownsample": (lambda s: s["ssim"], 0),
    "ssim_piq_default": (lambda s: s["ssim"], 0),  # it downsamples from 384 pixels on
    "ssim_pytorch_msssim": (lambda s: s["ssim"], 1e-5),  # its window is float32
}
MS_SSIM = {"msssim_piq": 0, "msssim_pytorch_msssim": 5e-6}  # on sizes that are even at every scale
NOT_OURS = {
    "charbonnier_eps1e-3": "a loss",
    "charbonnier_kair_eps1e-9": "a loss",
    "ssim_skimage_uniform7": "a 7 x 7 box, sample covariance",
    "ssim_torchmetrics": "padded border",
    "msssim_torchmetrics_relu": "padded border",
    "msssim_torchmetrics_nonorm": "padded border, and NaN for a negative contrast",
}
COLOUR = {"lab_mean_a", "ciede2000_mean", "ciede2000_max"}


CANVAS = (192, 203)  # holds the largest of them


@functools.cache
def compiled():
    return jax.jit(scores)


def scores(test, reference, mask=None):
    """Every score of one colour image but those of colours."""
    plain = {name: getattr(metrics, name) for name in ("mae", "mse")}
    plain["psnr"] = functools.partial(metrics.psnr, floor=0.0)
    found = {name: metric(test, reference, mask=mask) for name, metric in plain.items()}
    for luma_range in ("studio", "full"):
        psnr_y = functools.partial(metrics.psnr_y, luma_range=luma_range, floor=0.0)
        found[f"psnr_y_{luma_range}"] = psnr_y(test, reference, mask=mask)
    for name, luma in {
        "luma601": color.rgb_to_luma,
        "luma709": functools.partial(color.rgb_to_luma, coefficients="rec709"),
        "studio601": lambda image: color.rgb_to_ycbcr(image)[..., :1],
    }.items():
        found[name] = {
            key: metric(luma(test), luma(reference), mask=mask) for key, metric in plain.items()
        }
    found["ssim"] = metrics.ssim(test, reference, mask=mask)
    if min(test.shape[:2]) >= 176:
        found["ms_ssim"] = metrics.ms_ssim(test, reference, mask=mask)
    return found


def on_canvas(image):
    """``[H, W, C]`` in the corner of a larger colour image, with NaN elsewhere.

    A grey image becomes three equal channels.
    """
    canvas = np.full((*CANVAS, 3), np.nan)
    canvas[: image.shape[0], : image.shape[1]] = image
    return canvas


def check_pair(name, found, expected, even, rtol, atol):
    """All that is expected of one pair but colours."""
    unseen = set(expected) - NOT_OURS.keys() - COLOUR
    for key, (ours, slack) in OURS.items():
        if key in expected:
            unseen.remove(key)
            with np.errstate(divide="ignore"):
                value = ours(found)
            wanted = float(expected[key])
            np.testing.assert_allclose(
                value, wanted, rtol=rtol, atol=atol + slack, err_msg=f"{name} {key}"
            )
    for key, slack in MS_SSIM.items() if "msssim_piq" in expected else ():
        unseen.remove(key)
        # Where a size is odd at some scale each library pads in a way of its own.
        within = {"rtol": rtol, "atol": atol + slack} if even else {"rtol": 0, "atol": 2e-3}
        np.testing.assert_allclose(
            found["ms_ssim"], expected[key], **within, err_msg=f"{name} {key}"
        )
    assert not unseen, f"neither compared nor said why not: {unseen}"


def check_pairs_in_float64(pairs):
    """Under a mask, so that images of nine sizes share one compilation.

    Without a mask it is tested in float32.
    """
    for name, (reference, test, expected) in pairs.items():
        mask = np.zeros(CANVAS)
        mask[: reference.shape[0], : reference.shape[1]] = 1
        found = jax.device_get(compiled()(on_canvas(test / 255), on_canvas(reference / 255), mask))
        even = all(size % 16 == 0 for size in reference.shape[:2])
        check_pair(name, found, expected, even, rtol=1e-10, atol=1e-12)


def check_colours(pairs, dtype, atol_of_mean, atol):
    """Mean and largest CIEDE2000 and the mean Lab of each pair.

    Every pixel is an image, so that one compilation serves all pairs.

    scikit-image has CIE's 0.008856... and 7.787... rounded to four digits, which moves dark colours
    by up to 2e-4.
    """
    pairs = {name: pair for name, pair in pairs.items() if "ciede2000_mean" in pair[2]}

    def pixels_of(side):
        pixels = [pair[side].reshape(-1, 1, 1, 3) / 255 for pair in pairs.values()]
        return np.concatenate(pixels).astype(dtype)

    reference, test = pixels_of(0), pixels_of(1)
    differences = np.asarray(jax.jit(metrics.ciede2000)(test, reference))
    lab = np.asarray(jax.jit(color.rgb_to_lab)(reference))[:, 0, 0]
    assert differences.shape == lab.shape[:1] and differences.dtype == dtype
    start = 0
    for name, (image, _, expected) in pairs.items():
        pixels = slice(start, start := start + image.shape[0] * image.shape[1])
        for value, key, atol_of_key in (
            (differences[pixels].mean(dtype=np.float64), "ciede2000_mean", atol_of_mean),
            (lab[pixels].mean(0, dtype=np.float64), "lab_mean_a", atol_of_mean),
            (differences[pixels].max(), "ciede2000_max", atol),
        ):
            np.testing.assert_allclose(
                value, expected[key], rtol=0, atol=atol_of_key, err_msg=f"{name} {key}"
            )


def test_golden_pairs_in_float64(golden_pairs, float64):
    check_pairs_in_float64(golden_pairs)


# A photograph with five scales, which compile for seconds, and flat images: what is left of their
# variances is rounding.
@slow_for(
    "name",
    [
        "astronaut_192x176_jpeg10",
        "black_vs_white_32",
        "flat128_vs_flat130_32",
        "black_vs_black_32",
    ],
    ["astronaut_192x176_jpeg10"],
)
def test_golden_pairs_in_float32(golden_pairs, name):
    reference, test, expected = golden_pairs[name]
    found = jax.device_get(compiled()(*(np.float32(image / 255) for image in (test, reference))))
    check_pair(name, found, expected, True, rtol=2e-6, atol=2e-6)


def test_colours_of_golden_pairs(golden_pairs):
    check_colours(golden_pairs, np.float32, atol_of_mean=2e-5, atol=1e-4)


def test_reference_pairs_in_float64(reference_pairs, float64):
    check_pairs_in_float64(reference_pairs)


@pytest.mark.slow
def test_colours_of_reference_pairs_in_float64(reference_pairs, float64):
    check_colours(reference_pairs, np.float64, atol_of_mean=5e-6, atol=3e-5)


def test_what_is_not_ours_differs(golden_pairs):
    _, _, expected = golden_pairs["astronaut_192x176_jpeg10"]
    for key in ("ssim_skimage_uniform7", "ssim_torchmetrics"):
        assert abs(expected[key] - expected["ssim_skimage_gauss"]) > 1e-3, NOT_OURS[key]


def test_reference_batch(reference_batch):
    predictions, targets, expected = reference_batch
    per_image = expected["per_image"]
    scores = jax.jit(metrics.psnr)(predictions, targets)
    np.testing.assert_allclose(scores, per_image["psnr"], rtol=1e-6)
    np.testing.assert_allclose(
        scores.mean(), per_image["torchmetrics_psnr_mean_of_images"], rtol=1e-6
    )
    as_one = [np.concatenate(list(images)) for images in (predictions, targets)]
    np.testing.assert_allclose(
        metrics.psnr(*as_one), per_image["torchmetrics_psnr_batch_pooled"], rtol=1e-6
    )
    found = jax.jit(metrics.ssim)(predictions, targets)
    np.testing.assert_allclose(found, per_image["ssim_pytorch_msssim"], rtol=0, atol=1e-5)
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for value, *pair in zip(
        found, targets.astype(np.float64), predictions.astype(np.float64), strict=True
    ):
        by_skimage = structural_similarity(*pair, channel_axis=-1, data_range=1.0, **gaussian)
        np.testing.assert_allclose(value, by_skimage, rtol=1e-6)
    # pytorch-msssim leaves the filter out along an axis that is shorter than it; at 168 pixels the
    # fifth scale has 10.
    with pytest.raises(ValueError, match="176 x 176"):
        metrics.ms_ssim(predictions, targets)


@pytest.mark.slow  # scikit-image's SSIM is the fast tests' reference
def test_dm_pix():
    keys = jax.random.split(jax.random.key(0))
    predictions, targets = (jax.random.uniform(key, (2, 17, 15, 3)) for key in keys)
    for name in ("mae", "mse", "psnr"):
        theirs, ours = (jax.jit(getattr(library, name)) for library in (dm_pix, metrics))
        np.testing.assert_allclose(
            ours(predictions, targets), theirs(predictions, targets), rtol=1e-6
        )
    with jax.numpy_dtype_promotion("standard"):  # its SSIM mixes dtypes
        expected = jax.jit(dm_pix.ssim)(predictions, targets)
    np.testing.assert_allclose(
        jax.jit(metrics.ssim)(predictions, targets), expected, rtol=1e-5, atol=1e-6
    )


def test_studio_range_reads_1_3219_db_more(golden_pairs):
    reference, test, _ = golden_pairs["coffee_70x65_dark"]
    images = [jnp.asarray(image / 255, jnp.float32) for image in (test, reference)]
    studio, full = (metrics.psnr_y(*images, luma_range=name) for name in ("studio", "full"))
    np.testing.assert_allclose(studio - full, -20 * math.log10(219 / 255), atol=5e-6)
    assert f"{studio - full:.4f}" == "1.3219"
