"""Any metric may decide: --primary, --objective and --best-metric accept each of them."""

import dataclasses

import numpy as np
import optuna
import pytest

from train.config import RunConfig
from train.data.sources import make_source
from train.data.splits import Splits
from train.errors import InputError
from train.experiments import search
from train.experiments.folders import open_with_validation
from train.experiments.statistics.comparison_table import ComparisonRow, read_scores, score_table
from train.experiments.statistics.conclusions import conclude
from train.experiments.tune_config import TuneConfig
from train.files.outputs import write_rows
from train.inference.scoring.registry import DEFAULT, METRICS
from train.inference.scoring.sizes import check_large_enough, size_notes
from train.verbs import read_compare, read_fit, read_tune

EACH = pytest.mark.parametrize("name", METRICS)


@EACH
def test_each_may_be_primary_and_is_then_in_the_table(name: str) -> None:
    config = read_compare(["--primary", name])
    assert config.primary == name and set(config.columns) == {*DEFAULT, name}


@pytest.mark.parametrize(("name", "gain"), [("haarpsi", 1.0), ("flip", -1.0)])
def test_a_gain_is_positive_in_the_direction_that_is_better(name: str, gain: float) -> None:
    rows = [
        ComparisonRow(loss, seed, 25.0, f"{photo}", {"psnr": 30.0, name: value + photo})
        for loss, value in (("l1", 2.0), ("mse", 1.0))
        for seed in range(3)
        for photo in range(12)
    ]
    first, *_ = conclude(rows, ("l1", "mse"), primary=name)
    assert first.metric == name and first.difference.mean == pytest.approx(gain)


@EACH
def test_each_may_be_the_objective_and_is_then_validated(name: str, tmp_path) -> None:
    config = read_tune(["--objective", name])
    assert set(config.columns) == {*DEFAULT, name} and config.decisive == (name,)
    assert config.judged_fit.run.best_metric == name
    direction = search.open_study(config, tmp_path).direction
    higher = direction is optuna.study.StudyDirection.MAXIMIZE
    assert higher == METRICS[name].higher_is_better


@EACH
def test_each_may_choose_the_best_checkpoint(name: str) -> None:
    config, _ = read_fit(["--best-metric", name])
    assert config.run.best_metric == name


def test_a_front_has_its_two_errors_in_the_table() -> None:
    config = TuneConfig(pareto=True, metrics=("nlpd",))
    assert config.decisive == ("brightness_error", "chroma_error")
    assert set(config.columns) == {*DEFAULT, "nlpd"}
    assert config.judged_fit.run == RunConfig()


@pytest.mark.parametrize("read", [read_compare, read_tune])
def test_more_metrics_are_named_or_all(read) -> None:
    assert read(["--metrics", "mdsi", "nlpd"]).columns == (*DEFAULT, "mdsi", "nlpd")
    ready = [name for name, metric in METRICS.items() if not metric.has_weights]
    assert read(["--metrics", "all"]).columns == tuple(ready)
    with pytest.raises(SystemExit):
        read(["--metrics", "lpips"])


# --- photographs that are too small


def source_of(*sides: int):
    images = tuple(np.full((side, side + 1, 3), side, np.uint8) for side in sides)
    return make_source(tuple(f"{side}.png" for side in sides), images)


def test_a_metric_that_decides_refuses_small_photographs_before_anything_is_trained(
    small_fit, monkeypatch
) -> None:
    fit = small_fit()  # photographs of 24 pixels
    open_with_validation(fit, "compare", flag="--primary", metrics=("haarpsi",))
    with pytest.raises(
        InputError,
        match=r"--primary nlpd: NLPD needs 33 pixels on each side, but 2 of 2 photographs of "
        r"validation are smaller: 0.png \(24x24\), .* choose a different --primary",
    ):
        open_with_validation(fit, "compare", flag="--primary", metrics=("nlpd",))


def test_the_best_checkpoint_is_chosen_on_validation_photographs_only() -> None:
    splits = Splits(train=source_of(20), validation=source_of(40, 20), test=source_of(15))
    check_large_enough("--best-metric", "ms_gmsd", splits, of=("validation",))
    with pytest.raises(InputError, match=r"1 of 2 photographs of validation .*: 20.png \(21x20\)"):
        check_large_enough("--best-metric", "nlpd", splits, of=("validation",))
    check_large_enough(
        "--best-metric", "nlpd", splits._replace(validation=None), of=("validation",)
    )


def test_one_sentence_says_why_cells_are_empty() -> None:
    (note,) = size_notes(("psnr", "haarpsi", "ssim"), source_of(12, 16, 15))
    assert note.startswith(
        "2 of 3 photographs are too small for HaarPSI, which needs 16 pixels on each side."
    )


def test_empty_cells_are_read_back_and_left_out_of_means(tmp_path) -> None:
    scores = [{"psnr": 30.0 + i, "haarpsi": value} for i, value in enumerate((0.5, np.nan, 0.7))]
    rows = [ComparisonRow("l1", 0, 25.0, f"{i}", values) for i, values in enumerate(scores)]
    write_rows(rows, tmp_path / "test.csv")
    assert (tmp_path / "test.csv").read_text().splitlines()[2] == "l1,0,25.0,1,31.0,"
    found = read_scores(tmp_path / "test.csv")
    assert np.isnan(found[1].scores["haarpsi"]) and found[2] == rows[2]
    np.testing.assert_array_equal(score_table(found, "haarpsi", "l1", (25.0,)), [[0.5], [0.7]])
    other = [dataclasses.replace(row, loss="mse") for row in found]
    assert {c.metric for c in conclude([*found, *other], ("l1", "mse"))} == {"psnr", "haarpsi"}
    # A single photograph has no spread, so nothing can be said about the metric.
    assert {c.metric for c in conclude([*found[:2], *other[:2]], ("l1", "mse"))} == {"psnr"}
