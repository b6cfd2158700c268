import functools
import math

import jax
import numpy as np
import pytest
import skimage.color
import skimage.data
import skimage.metrics

from lumloss_jax import metrics
from tests.slow_cases import slow_for
from train.data.images import to_float
from train.inference.scoring import measure
from train.inference.scoring.measure import score
from train.inference.scoring.registry import METRICS

SHAPE = (24, 30)
WITHOUT_WEIGHTS = [name for name, metric in METRICS.items() if not metric.has_weights]


def pair_of(side: int) -> tuple[np.ndarray, np.ndarray]:
    """A blurred photograph and the clean one."""
    clean = to_float(skimage.data.chelsea())[60 : 60 + side, 120 : 120 + side + 3]
    blurred = (clean + np.roll(clean, 1, axis=0) + np.roll(clean, 2, axis=1)) / 3
    return blurred, clean


def test_known_columns_hold_what_others_measure() -> None:
    rng = np.random.default_rng(1)
    clean, image = rng.uniform(0, 1, (2, *SHAPE, 3)).astype(np.float32)
    image = 0.3 * image + 0.7 * clean
    labs = [skimage.color.rgb2lab(one) for one in (image, clean)]
    chromas = [np.hypot(lab[..., 1], lab[..., 2]) for lab in labs]
    luma = (image - clean) @ [65.481 / 255, 128.553 / 255, 24.966 / 255]
    expected = {
        "psnr": -10 * math.log10(np.mean((image - clean) ** 2)),
        "psnr_y": -10 * math.log10(np.mean(luma**2)),
        "ssim": skimage.metrics.structural_similarity(
            clean,
            image,
            channel_axis=-1,
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        ),
        "ciede2000": skimage.color.deltaE_ciede2000(*labs).mean(),
        "brightness_error": np.abs(labs[0] - labs[1])[..., 0].mean(),
        "chroma_error": np.abs(chromas[0] - chromas[1]).mean(),
    }
    assert score(image, clean, names=tuple(expected)) == pytest.approx(expected, rel=2e-3)


# The quick ones show that a column is the metric of its name. The slow ones are compiled twice.
# LPIPS and DISTS, whose weights the user brings, are tested in test_import_metric.py.
@slow_for("name", WITHOUT_WEIGHTS, ["s_cielab", "nlpd", "ms_ssim", "flip", "ms_gmsd", "ms_gmsdc"])
def test_every_column_holds_the_metric_of_the_library(name: str) -> None:
    metric = METRICS[name]
    pair = pair_of(max(metric.least_side, 36))
    function = functools.partial(getattr(metrics, metric.function or name), **metric.options)
    expected = float(jax.jit(function)(*pair))
    (found,) = score(*pair, names=(name,)).values()
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert found not in (0, 1)  # or the images would not tell one metric from another


def test_a_photograph_that_is_too_small_for_a_metric_has_no_value() -> None:
    clean = np.full((12, 15, 3), 0.5, np.float32)
    found = score(clean + np.float32(0.1), clean, names=("psnr", "haarpsi", "ssim"))
    assert list(found) == ["psnr", "haarpsi", "ssim"]
    assert math.isnan(found["haarpsi"]) and not math.isnan(found["psnr"] + found["ssim"])


def test_grey_photographs_are_scored_as_colour_ones() -> None:
    grey = [one[..., :1] for one in pair_of(36)]
    colour = [np.repeat(one, 3, axis=-1) for one in grey]
    names = ("psnr", "flip")
    assert score(*grey, names=names) == score(*colour, names=names)


IN_PARTS = {"psnr": 100, "ciede2000": 0, "cie76": 0, "chroma_error": 0, "flip": 0}


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((45, 70), ("psnr", "cie76")),
        pytest.param((45, 70), tuple(IN_PARTS), marks=pytest.mark.slow),
        pytest.param((9, 40), tuple(IN_PARTS), marks=pytest.mark.slow),
    ],
)
def test_a_large_photograph_is_scored_in_parts_with_the_same_result(
    shape: tuple[int, int], names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of 16 pixels, of which the photograph is no multiple, and which are larger than it."""
    rng = np.random.default_rng(0)
    clean = rng.uniform(0, 1, (*shape, 3)).astype(np.float32)
    image = np.clip(clean + rng.normal(0, 0.1, clean.shape), 0, 1).astype(np.float32)
    whole = score(image, clean, names=names)
    monkeypatch.setattr(measure, "_LARGEST_WHOLE", 100)
    monkeypatch.setattr(measure, "_TILE", 16)
    assert score(image, clean, names=names) == pytest.approx(whole, rel=2e-5)
    equal = score(clean, clean, names=names)
    assert equal == {name: IN_PARTS[name] for name in names}
