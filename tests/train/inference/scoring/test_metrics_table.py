import io
import math

from rich.console import Console

from train.inference.scoring.metrics_table import MetricsRow, make_summary, means
from train.inference.scoring.registry import METRICS

# Wider than any value that these metrics have
VALUES = {name: -123.45678 for name in METRICS}


def printed(rows: list[MetricsRow]) -> list[str]:
    console = Console(width=80, file=io.StringIO())
    console.print(make_summary(rows, {}))
    return console.file.getvalue().splitlines()


def test_means_are_over_photographs_and_skip_missing_values() -> None:
    values = [(20.0, math.nan), (30.0, 0.5)]
    rows = [MetricsRow("x", 25, 0, "restored", {"psnr": a, "ms_ssim": b}) for a, b in values]
    (only,) = means(rows).values()
    assert only == {"psnr": 25, "ms_ssim": 0.5}  # decibels are averaged, not errors


def test_a_terminal_of_80_columns_shows_every_metric_at_every_level() -> None:
    rows = [
        MetricsRow("a", sigma, 0, method, VALUES)
        for sigma in (15, 12.5, math.nan)
        for method in ("input", "restored")
    ]
    lines = printed(rows)
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["sigma", "metric", "input", "restored"]
    shown = [line.split() for line in lines if "-123.4" in line]
    titles = 3 * [metric.title for metric in METRICS.values()]
    names = [" ".join(cells[:-2]) for cells in shown]
    assert len(names) == len(titles)
    assert all(name.endswith(title) for name, title in zip(names, titles, strict=True))
    levels = ["15", "12.5", "real"]
    assert [shown[place * len(METRICS)][0] for place in range(3)] == levels


def test_the_table_says_which_direction_is_better() -> None:
    values = {"psnr": 30.0, "ms_ssim": math.nan, "flip": 0.125}
    lines = printed([MetricsRow("a", 25, 0, "input", values)])
    table = [line.split() for line in lines if any(mark in line for mark in "↑↓")][:3]
    assert table == [
        ["25", "PSNR", "dB", "↑", "30.00"],
        ["MS-SSIM", "↑", "-"],
        ["FLIP", "↓", "0.1250"],
    ]
