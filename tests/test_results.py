"""The tables of README and docs say what the comparisons in results/ say."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from train.experiments import plan
from train.experiments.statistics import stats
from train.inference.scoring.registry import METRICS

ROOT = Path(__file__).resolve().parents[1]
_SPEC = importlib.util.spec_from_file_location("tables", ROOT / "results" / "tables.py")
tables = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tables)
FOLDERS = sorted(path.parent for path in (ROOT / "results").glob("*/conclusions.json"))


def differences_of(folder: Path, candidate: str, other: str, metric: str) -> np.ndarray:
    """Differences in the direction in which more is better, ``[photographs, seeds]``."""
    rows = [line.split(",") for line in (folder / "scores.csv").read_text().splitlines()]
    column = rows[0].index(metric)
    by = {(row[0], row[3], row[1]): float(row[column]) for row in rows[1:]}
    photographs = dict.fromkeys(row[3] for row in rows[1:])
    seeds = sorted({row[1] for row in rows[1:] if row[0] == candidate})
    sign = 1 if METRICS[metric].higher_is_better else -1
    return np.array(
        [
            [sign * (by[candidate, name, seed] - by[other, name, seed]) for seed in seeds]
            for name in photographs
        ]
    )


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda path: path.name)
def test_pages_show_the_tables_of_today(page):
    text = page.read_text()
    assert tables.rewritten(text) == text, "run: python results/tables.py"


def test_readme_shows_a_measured_comparison():
    readme = (ROOT / "README.md").read_text()
    assert "<!-- small: differences psnr psnr_y ciede2000 -->\n| `luminance_l1` minus |" in readme


def test_a_changed_table_is_written_again():
    page = "before\n<!-- small: scores psnr -->\nold\n<!-- end -->\nafter\n"
    text = tables.rewritten(page)
    assert text.startswith("before\n<!-- small: scores psnr -->\n")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "old" not in text and "| loss | PSNR, dB ↑ |" in text


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_conclusions_follow_from_the_scores(folder):
    for one in json.loads((folder / "conclusions.json").read_text()):
        found = stats.paired_difference(
            differences_of(folder, one["candidate"], one["other"], one["metric"])
        )
        for name in ("mean", "low", "high", "image_sd", "seed_sd", "residual_sd"):
            assert getattr(found, name) == pytest.approx(one["difference"][name], abs=1e-12)


def test_less_is_better_keeps_its_sign():
    """A fall of CIEDE2000 is shown as a minus, although it is an improvement."""
    row = tables.differences(ROOT / "results" / "small", ["ciede2000"]).splitlines()[-1]
    of = differences_of(ROOT / "results" / "small", "luminance_l1", "mse", "ciede2000")
    assert row.split("|")[2].split()[0] == f"{-of.mean():+.3f}"


def test_the_spreads_that_a_plan_uses_are_the_largest_of_the_comparison():
    conclusions = json.loads((ROOT / "results" / "small" / "conclusions.json").read_text())
    for entry in json.loads(plan._MEASURED.read_text()):
        found = [one["difference"] for one in conclusions if one["metric"] == entry["metric"]]
        for name in ("image_sd", "seed_sd", "residual_sd"):
            assert entry[name] == pytest.approx(max(one[name] for one in found), rel=0.005)
