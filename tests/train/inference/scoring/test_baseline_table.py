import csv
import io
from pathlib import Path

import jax
import numpy as np
import pytest
import skimage.data
import skimage.metrics
from rich.console import Console

from lumloss_jax.models import create_model
from train.data.images import to_float
from train.data.sources import Source, make_source
from train.files.outputs import write_rows
from train.inference.predictors import predictor_for
from train.inference.scoring.baseline_table import make_table, score_with_baselines
from train.inference.scoring.protocols import add_fixed_noise


@pytest.fixture(scope="module")
def small() -> Source:
    return make_source(
        ("eye", "cup"),
        (skimage.data.chelsea()[100:140, 100:150], skimage.data.coffee()[80:120, 200:250]),
    )


def test_noise_is_fixed_by_name_sigma_and_seed() -> None:
    clean = np.full((40, 50, 3), 0.5, np.float32)
    noisy = add_fixed_noise(clean, "chelsea", sigma=25, seed=0)
    np.testing.assert_array_equal(add_fixed_noise(clean, "chelsea", sigma=25, seed=0), noisy)
    # With 6000 draws the sample deviation is within 5 / sqrt(2 * 6000) = 4.6 % of sigma, except
    # once in a million cases.
    assert noisy.std() == pytest.approx(25 / 255, rel=0.046)
    others = [("coffee", 25.0, 0), ("chelsea", 24.0, 0), ("chelsea", 25.0, 1)]
    for name, sigma, seed in others:
        other = add_fixed_noise(clean, name, sigma=sigma, seed=seed)
        assert abs(np.corrcoef((other - clean).ravel(), (noisy - clean).ravel())[0, 1]) < 0.1


def test_noise_is_not_clipped() -> None:
    noisy = add_fixed_noise(np.zeros((8, 8, 3), np.float32), "black", sigma=25, seed=0)
    assert noisy.min() < 0


def test_the_rows_hold_what_scikit_image_measures(small: Source) -> None:
    perfect = [to_float(image) for image in small.images]
    evaluations = list(
        score_with_baselines(lambda noisy: np.clip(noisy, 0, 1), small, sigma=25, seed=0)
    )
    for evaluation, clean in zip(evaluations, perfect, strict=True):
        rows = {row.method: row for row in evaluation.rows}
        assert list(rows) == ["noisy", "blur", "restored"]
        np.testing.assert_array_equal(evaluation.clean, clean)
        expected = skimage.metrics.peak_signal_noise_ratio(clean, evaluation.noisy, data_range=1.0)
        assert rows["noisy"].psnr == pytest.approx(expected, abs=1e-3)
        expected = skimage.metrics.structural_similarity(
            clean,
            evaluation.restored,
            channel_axis=-1,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert rows["restored"].ssim == pytest.approx(expected, abs=1e-4)
        lab = [skimage.color.rgb2lab(image) for image in (clean, evaluation.restored)]
        assert rows["restored"].ciede2000 == pytest.approx(
            skimage.color.deltaE_ciede2000(*lab).mean(), abs=1e-2
        )


def test_the_blur_is_the_best_of_all_gaussian_blurs() -> None:
    chelsea = make_source(("chelsea",), (skimage.data.chelsea(),))
    (evaluation,) = score_with_baselines(lambda noisy: noisy, chelsea, sigma=25, seed=0)
    blur = next(row for row in evaluation.rows if row.method == "blur")
    # An independent search over sigma found 29.6 dB.
    assert blur.psnr == pytest.approx(29.6, abs=0.1)


def test_csv_has_one_line_per_photograph_and_method_unrounded(
    small: Source, tmp_path: Path
) -> None:
    rows = [
        row
        for e in score_with_baselines(lambda noisy: noisy, small, sigma=25, seed=0)
        for row in e.rows
    ]
    write_rows(rows, tmp_path / "evaluation.csv")
    with (tmp_path / "evaluation.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [(r["photograph"], r["method"]) for r in read] == [
        (r.photograph, r.method) for r in rows
    ]
    assert [float(r["psnr"]) for r in read] == [r.psnr for r in rows]


def test_the_table_fits_eighty_columns_and_names_its_protocol(small: Source) -> None:
    rows = [
        row
        for e in score_with_baselines(lambda noisy: noisy, small, sigma=25, seed=0)
        for row in e.rows
    ]
    output = io.StringIO()
    Console(file=output, width=80).print(make_table(rows, "sigma 25"))
    text = output.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    words = " ".join(text.split())  # the caption is wrapped
    for word in (
        "eye",
        "cup",
        "noisy",
        "blur",
        "restored",
        "PSNR dB",
        "SSIM",
        "CIEDE2000",
        "not clipped before it enters the network",
        "sigma 25",
    ):
        assert word in words


def test_prediction_is_clipped_and_uses_running_statistics() -> None:
    model = create_model("dncnn", depth=3, features=4)
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    stats = jax.tree.map(lambda x: x + 1.0, variables["batch_stats"])
    params = jax.tree.map(lambda p: p + 0.02, variables["params"])
    noisy = np.random.default_rng(0).normal(0.5, 1, (9, 7, 3)).astype(np.float32)
    predicted = predictor_for(model, params, stats).restore(noisy, sigma=0.1)
    expected = jax.jit(model.apply)({"params": params, "batch_stats": stats}, noisy[None])[0]
    assert predicted.shape == noisy.shape
    np.testing.assert_allclose(predicted, np.clip(expected, 0, 1), atol=1e-5)
    assert ((predicted > 0) & (predicted < 1)).mean() > 0.3
    assert predicted.min() == 0 and predicted.max() == 1  # otherwise clipping is not tested
    other = predictor_for(model, params, variables["batch_stats"]).restore(noisy, sigma=0.1)
    assert np.abs(other - predicted).max() > 0.01  # otherwise the statistics are not tested
