"""Classical denoisers next to the networks of a comparison."""

import dataclasses
import html

import numpy as np
import pytest

from train.data.images import read_image, to_float
from train.data.sources import open_source
from train.errors import InputError
from train.experiments.baselines import (
    check_baselines,
    describe_baselines,
    score_baselines,
    time_network,
)
from train.experiments.compare_config import CompareConfig
from train.experiments.networks.members import NOISE_SEED
from train.experiments.report.report import write_report
from train.experiments.statistics.comparison_table import ComparisonRow
from train.inference.scoring.classical import NOTE, denoise
from train.inference.scoring.protocols import add_fixed_noise
from train.inference.scoring.registry import DEFAULT
from train.inference.scoring.timing import Stopwatch


def test_they_get_the_noise_the_levels_and_the_metrics_of_the_networks(splits, photographs):
    config = CompareConfig(baselines=("tv", "gaussian"), sigmas=(25.0, 10.0), draws=2)
    scored = [
        ComparisonRow("l1", 0, 25.0, name, {"psnr": 30.0, "flip": 0.1, "nlpd": np.nan})
        for name in splits.test.names
    ]
    stopwatch = Stopwatch()
    rows = score_baselines(config, splits.test, scored, stopwatch)
    assert {(row.loss, row.sigma) for row in rows} == {
        (name, sigma) for name in ("tv", "gaussian") for sigma in (25.0, 10.0)
    }
    assert len(rows) == 4 * len(splits.test.names)
    (row,) = [row for row in rows if (row.loss, row.sigma, row.photograph) == ("tv", 10, "3.png")]
    clean = to_float(read_image(photographs / "test" / "3.png"))
    psnr = []
    for seed in (NOISE_SEED, NOISE_SEED + 1):
        noisy = add_fixed_noise(clean, "3.png", sigma=10, seed=seed)
        psnr.append(-10 * np.log10(np.mean((denoise("tv", noisy, sigma=10) - clean) ** 2)))
    assert list(row.scores) == ["psnr", "flip"]
    assert row.scores["psnr"] == pytest.approx(np.mean(psnr), abs=1e-3)
    seconds = stopwatch.per_megapixel(["tv", "gaussian"])
    assert set(seconds) == {"tv", "gaussian"}
    said = describe_baselines(rows, "psnr", seconds)
    mean = np.mean([row.scores["psnr"] for row in rows if row.loss == "tv"])
    assert said[0].startswith(f"baseline tv: PSNR {mean:.2f} dB on average, ")


def test_the_network_is_timed_once_it_is_compiled(splits):
    calls = []

    def restore(noisy, sigma):
        calls.append((noisy.shape, sigma))
        return noisy

    stopwatch = Stopwatch()
    time_network(restore, splits.test, stopwatch, method="", sigma=25.0)
    assert calls == 2 * [((24, 24, 3), 25.0)]
    assert set(stopwatch.per_megapixel([""])) == {""}


def test_pairs_are_refused_because_their_level_is_unknown(photographs):
    folder = photographs / "test"
    pairs = open_source(f"pairs:{folder},{folder}", "test")
    with pytest.raises(InputError, match="--baselines are told the noise level, which is unknown"):
        check_baselines(CompareConfig(baselines=("tv",)), pairs)
    check_baselines(CompareConfig(), pairs)


def test_each_is_named_once():
    with pytest.raises(InputError, match="--baselines must differ; got tv, tv."):
        CompareConfig(baselines=("tv", "tv"))


def test_the_page_shows_them_below_the_losses_with_times(report, text, tmp_path):
    rows = [
        ComparisonRow("nlm", 0, sigma, f"{image}", dict.fromkeys(DEFAULT, 27.125))
        for sigma in (15.0, 50.0)
        for image in range(12)
    ]
    changed = dataclasses.replace(report, baselines=rows, seconds={"": 0.25, "nlm": 1.5})
    write_report(changed, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    row = page.partition("nlm (baseline)</th>")[2].partition("</tr>")[0]
    assert "<td>27.12</td>" in row and "<td>1.500</td>" in row
    assert page.count("<td>0.250</td>") == len(report.losses)
    assert NOTE in html.unescape(page) and NOTE not in html.unescape(text)
    assert "(baseline)" not in text and "s per megapixel" not in text
