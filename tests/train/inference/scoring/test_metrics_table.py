import io
import math

import numpy as np
import pytest
import skimage.color
import skimage.metrics
from rich.console import Console

from train.inference.scoring.metrics_table import COLUMNS, MetricsRow, make_summary, means, score

SHAPE = (24, 30)


def test_every_column_holds_its_metric() -> None:
    rng = np.random.default_rng(1)
    clean, image = rng.uniform(0, 1, (2, *SHAPE, 3)).astype(np.float32)
    image = 0.3 * image + 0.7 * clean
    found = dict(zip([name for name, _, _ in COLUMNS], score(image, clean), strict=True))
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
    assert math.isnan(found.pop("ms_ssim"))  # five scales do not fit
    assert found == pytest.approx(expected, rel=2e-3)


def test_means_are_over_photographs_and_skip_missing_values() -> None:
    values = [(20.0, math.nan), (30.0, 0.5)]
    scores = [MetricsRow("x", 25, 0, "restored", psnr, 0, 0, ms, 0, 0, 0) for psnr, ms in values]
    (only,) = means(scores).values()
    assert (only["psnr"], only["ms_ssim"]) == (25, 0.5)  # decibels are averaged, not errors


def test_a_terminal_of_80_columns_shows_the_whole_summary() -> None:
    scores = [
        MetricsRow("a", sigma, 0, method, 33.57, 35.04, 0.9312, 0.9876, 12.34, 10.56, 11.78)
        for sigma in (15, 12.5, math.nan)
        for method in ("input", "restored")
    ]
    console = Console(width=80, file=io.StringIO())
    console.print(make_summary(scores, "title", "caption"))
    lines = console.file.getvalue().splitlines()
    assert lines[1].split() == ["sigma", "method", *(heading for _, heading, _ in COLUMNS)]
    shown = ["33.57", "35.04", "0.9312", "0.9876", "12.34", "10.56", "11.78"]
    assert [line.split()[-8:] for line in lines if "33.57" in line] == [
        ["input", *shown],
        ["restored", *shown],
    ] * 3


def test_equal_images_fit_into_80_columns_too() -> None:
    """At sigma 0 the input is the clean photograph."""
    scores = [
        MetricsRow("a", 0, 0, method, 100, 100, 1, math.nan, 0, 0, 0)
        for method in ("input", "restored")
    ]
    console = Console(width=80, file=io.StringIO())
    console.print(make_summary(scores, "title", "caption"))
    lines = console.file.getvalue().splitlines()
    assert lines[1].split() == ["sigma", "method", *(heading for _, heading, _ in COLUMNS)]
    assert lines[3].split()[1:] == [
        "input",
        "100.0",
        "100.0",
        "1.0000",
        "-",
        "0.00",
        "0.00",
        "0.00",
    ]
