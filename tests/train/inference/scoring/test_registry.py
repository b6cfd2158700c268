"""The registry says of each metric what the library says of it."""

import inspect
import re
import typing
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import tests.lumloss_jax.models.narrow_weights as narrow_weights
from lumloss_jax import metrics, models
from tests.slow_cases import slow_for
from train.data.splits import SMALLEST_SCORED
from train.inference.scoring.registry import DEFAULT, METRICS, MetricName, columns, too_small

NAMES = tuple(METRICS)
WITHOUT_WEIGHTS = tuple(name for name in NAMES if not METRICS[name].has_weights)


def function_of(name: str) -> Any:
    package = models if METRICS[name].has_weights else metrics
    return getattr(package, METRICS[name].function or name)


def options_of(name: str) -> dict[str, Any]:
    """The options that the application gives to a metric, weights included."""
    options = dict(METRICS[name].options)
    if METRICS[name].has_weights:
        random = narrow_weights.dists() if name == "dists" else narrow_weights.lpips(name[6:])
        options["weights"] = random
    return options


def test_every_metric_of_the_library_has_a_name_here() -> None:
    library = {name for name in metrics.__all__ if name != "flip_map"}
    library |= {"lpips", "dists"}
    assert {METRICS[name].function or name for name in NAMES} == library
    assert typing.get_args(MetricName) == NAMES
    for attribute in ("label", "title"):
        values = [getattr(metric, attribute) for metric in METRICS.values()]
        assert len(set(values)) == len(values)


@pytest.mark.parametrize("name", NAMES)
def test_directions_are_those_of_the_library(name: str) -> None:
    documented = " ".join((inspect.getdoc(function_of(name)) or "").split())
    (direction,) = set(re.findall("(higher|lower) is better", documented))
    assert (direction == "higher") == METRICS[name].higher_is_better
    assert METRICS[name].arrow == {"higher": "↑", "lower": "↓"}[direction]
    assert (METRICS[name].unit == "dB") == ("psnr" in name)


@slow_for("name", NAMES, ["s_cielab", "ms_ssim"])
def test_the_smallest_side_is_that_of_the_library(name: str) -> None:
    metric, options = METRICS[name], options_of(name)

    def trace(side: int) -> None:
        image = jax.ShapeDtypeStruct((side, side + 1, 3), np.float32)
        jax.eval_shape(lambda a, b: function_of(name)(a, b, **options), image, image)

    trace(metric.least_side)
    assert too_small((name,), metric.least_side) == ()
    if metric.least_side > 1:
        assert too_small((name,), metric.least_side - 1) == (name,)
        with pytest.raises(ValueError, match=str(metric.least_side)):
            trace(metric.least_side - 1)


def test_columns_are_the_default_ones_and_those_that_were_asked_for() -> None:
    assert columns(()) == DEFAULT
    assert columns(("nlpd",), also=("ms_ssim", "psnr")) == (
        *DEFAULT[:3],
        "ms_ssim",
        *DEFAULT[3:],
        "nlpd",
    )
    assert columns(("all",)) == WITHOUT_WEIGHTS == columns(("nlpd", "all"))
    assert columns(("all", "dists")) == (*WITHOUT_WEIGHTS, "dists")


def test_ssim_says_which_photographs_are_too_small_for_any_table() -> None:
    assert METRICS["ssim"].least_side == SMALLEST_SCORED
    larger = [name for name in DEFAULT if METRICS[name].least_side > SMALLEST_SCORED]
    assert larger == ["haarpsi"]  # the only default column that may have empty cells


def test_the_documentation_lists_them_as_they_are() -> None:
    page = (Path(__file__).parents[4] / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`( \(.*\))? \| (.*) \| (\d*) ?\|$", page, flags=re.MULTILINE)
    assert [name for name, *_ in rows] == list(NAMES)
    for name, note, title, side in rows:
        metric = METRICS[name]
        assert title.replace("\\", "") == metric.title
        assert int(side or 1) == metric.least_side
        is_default = {True: " (default)", False: ""}[name in DEFAULT]
        if metric.has_weights:
            is_default = " (needs weights)"
        assert note == (" (default of `evaluate`)" if name == "ms_ssim" else is_default)
