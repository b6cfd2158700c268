"""A report with all its parts, from scores drawn at random."""

from collections.abc import Callable

import numpy as np
import pytest
import tyro

from train.config import FitConfig
from train.data.images import write_image
from train.data.splits import Splits, open_splits
from train.experiments.report.report import Crop, Report, write_report
from train.experiments.statistics.comparison_table import ComparisonRow
from train.experiments.statistics.conclusions import conclude
from train.experiments.statistics.convergence import Curve
from train.inference.scoring.registry import DEFAULT
from train.presets import find_preset

HOSTILE = "</script><script>alert(1)</script>"
LOSSES = ("luminance_l1", "mse", f"l1 {HOSTILE}")


@pytest.fixture(scope="session")
def report() -> Report:
    draw = np.random.default_rng(0)
    rows = [
        ComparisonRow(
            loss,
            seed,
            sigma,
            f"{image}",
            dict(zip(DEFAULT, draw.normal(30, 1, len(DEFAULT)).tolist(), strict=True)),
        )
        for loss in LOSSES
        for seed in range(3)
        for sigma in (15.0, 50.0)
        for image in range(12)
    ]
    image = draw.uniform(size=(8, 8, 3))
    settings = {"data": HOSTILE}
    return Report(
        title=f"Comparison {HOSTILE}",
        headline="Early training only.",
        notes=[f"picked at the edge {HOSTILE}"],
        losses=LOSSES,
        comparisons=conclude(rows, LOSSES),
        changes=[],
        at_lengths={},
        scores=rows,
        curves=[Curve(loss, seed, [1, 2], [20.0, 21.0]) for loss in LOSSES for seed in (0, 1)],
        crops=[
            Crop(
                "a photograph",
                image,
                image,
                dict.fromkeys(LOSSES, image),
                dict.fromkeys(LOSSES, image[..., 0] / 2),
            )
        ],
        choices=[{"loss": "l1", "learning rate": 0.001}],
        settings=settings,
        versions={"jax": "1.2.3"},
        command="python -m train compare",
        cost="9 networks were trained one after the other (loop). This took 90 s in total",
    )


@pytest.fixture(scope="session")
def text(report, tmp_path_factory) -> str:
    """The report's page."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(report, path)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """Three folders of small photographs: for training, for picking settings and for testing."""
    root = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    for split, count in {"train": 2, "validation": 2, "test": 10}.items():
        (root / split).mkdir()
        for i in range(count):
            smooth = np.repeat(np.repeat(generator.integers(0, 256, (4, 4, 3)), 6, 0), 6, 1)
            write_image(root / split / f"{i}.png", smooth.astype(np.uint8))
    return root


@pytest.fixture(scope="session")
def small_run(photographs, tiny_flags) -> tuple[str, ...]:
    """Flags of an experiment in which each training takes only a moment."""
    return (
        f"--data=folder:{photographs / 'train'}",
        f"--validation-data=folder:{photographs / 'validation'}",
        f"--test-data=folder:{photographs / 'test'}",
        *tiny_flags,
        "--steps=4",
        "--validate-every=2",
    )


@pytest.fixture(scope="session")
def small_fit(small_run) -> Callable[..., FitConfig]:
    """Makes the configuration of such a training, from these flags and more."""

    def configured(*flags: str) -> FitConfig:
        described = tyro.conf.OmitArgPrefixes[FitConfig]
        return tyro.cli(described, args=[*small_run, *flags], default=find_preset("smoke"))

    return configured


@pytest.fixture(scope="session")
def splits(photographs) -> Splits:
    """The photographs, opened."""
    return open_splits(
        f"folder:{photographs / 'train'}",
        validation=f"folder:{photographs / 'validation'}",
        test=f"folder:{photographs / 'test'}",
    )
