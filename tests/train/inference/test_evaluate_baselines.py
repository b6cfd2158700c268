"""Classical denoisers in the tables of ``evaluate``."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.train.inference.stored_images import SPEC
from train.__main__ import main
from train.checkpoints.checkpoint import load_network
from train.data.images import read_image, to_float, write_image
from train.inference.predictors import predictor_for
from train.inference.scoring.classical import LEVELS, NOTE, SETTINGS, denoise
from train.inference.scoring.protocols import add_fixed_noise


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "c.png"):
        write_image(folder / name, rng.integers(0, 256, (24, 30, 3), dtype=np.uint8))
    return folder


def test_they_are_scored_like_the_network_and_timed(
    checkpoint: Callable[[str], Path], photographs: Path, tmp_path: Path, capsys
) -> None:
    command = ["evaluate", str(checkpoint(SPEC)), f"--data=folder:{photographs}"]
    command += ["--protocol=unclipped", "--sigmas", "25", "10", "--baselines", "tv", "gaussian"]
    assert main([*command, f"--output={tmp_path}", "--figures"]) == 0
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == 6 * ["input", "tv", "gaussian", "restored"]
    clean = to_float(read_image(photographs / "b.png"))
    noisy = add_fixed_noise(clean, "b.png", sigma=10, seed=0)
    network = load_network(checkpoint(SPEC))
    for method, image in {
        "tv": denoise("tv", noisy, sigma=10),
        "gaussian": denoise("gaussian", noisy, sigma=10),
        "restored": predictor_for(network.model, network.params, {}).restore(noisy),
    }.items():
        rounded = np.round(image * 255) / 255
        (row,) = (
            row
            for row in rows
            if (row["photograph"], row["sigma"], row["method"]) == ("b.png", "10.0", method)
        )
        psnr = -10 * np.log10(np.mean((rounded - clean) ** 2))
        assert float(row["psnr"]) == pytest.approx(psnr, abs=1e-3)

    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["seconds_per_megapixel"]) == {"tv", "gaussian", "restored"}
    assert all(seconds > 0 for seconds in summary["seconds_per_megapixel"].values())
    assert summary["baselines"]["tv"] == dict(zip(map(str, LEVELS), SETTINGS["tv"], strict=True))
    printed = capsys.readouterr().out
    assert re.search(r"sigma +metric +input +tv +gaussian +restored", printed)
    assert re.search(r"all +seconds per megapixel ↓ +- +[\d.]+ +[\d.]+ +[\d.]+", printed)
    assert NOTE in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--protocol=pairs", "--baselines", "tv"), "told the noise level, which is unknown for"),
        (("--protocol=float", "--baselines", "tv", "tv"), "--baselines must differ; got tv, tv."),
    ],
)
def test_they_are_refused_where_they_do_not_fit(
    checkpoint: Callable[[str], Path],
    photographs: Path,
    tmp_path: Path,
    capsys,
    options: tuple[str, ...],
    message: str,
) -> None:
    source = (
        f"pairs:{photographs},{photographs}" if "pairs" in options[0] else f"folder:{photographs}"
    )
    command = ["evaluate", str(checkpoint(SPEC)), f"--data={source}", f"--output={tmp_path / 'o'}"]
    assert main([*command, *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
