"""Scores of classical denoisers, to show next to those of the networks of a comparison."""

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from train.data.images import to_float
from train.data.sources import Source
from train.errors import InputError
from train.experiments.compare_config import CompareConfig
from train.experiments.networks.members import NOISE_SEED
from train.experiments.statistics.comparison_table import (
    ComparisonRow,
    Restore,
    metrics_of,
    score_network,
)
from train.inference.scoring.classical import BaselineName, denoise
from train.inference.scoring.protocols import add_fixed_noise
from train.inference.scoring.registry import METRICS
from train.inference.scoring.timing import Stopwatch


def check_baselines(config: CompareConfig, test: Source) -> None:
    """Refuses classical methods if the noise level of the test photographs is unknown.

    Args:
      config: the comparison.
      test: the test photographs.

    Raises:
      InputError: if there are classical methods, and the photographs are degraded already.
    """
    if config.baselines and test.inputs is not None:
        raise InputError(
            f"--baselines are told the noise level, which is unknown for the pairs of {test.spec}. "
            "Leave --baselines out."
        )


def score_baselines(
    config: CompareConfig, test: Source, scored: Sequence[ComparisonRow], stopwatch: Stopwatch
) -> list[ComparisonRow]:
    """Scores classical methods on the same photographs, with the same noise, as the networks.

    Args:
      config: the comparison.
      test: the test photographs.
      scored: the scores of the networks. Classical methods get the same metrics.
      stopwatch: measures their time.

    Returns:
      A row for each method, noise level and photograph. The methods stand in the column of losses.
    """
    metrics = tuple(metrics_of(scored))
    rows: list[ComparisonRow] = []
    for name in config.baselines:
        rows += score_network(
            functools.partial(_smooth, name, stopwatch),
            test,
            loss=name,
            seed=0,
            sigmas=config.levels,
            noise_seed=NOISE_SEED,
            draws=config.draws,
            metrics=metrics,
        )
    return rows


def time_network(
    restore: Restore, test: Source, stopwatch: Stopwatch, *, method: str, sigma: float
) -> None:
    """Measures how long a network takes for the largest test photograph, once it is compiled.

    Args:
      restore: the network.
      test: the test photographs.
      stopwatch: gets the time.
      method: what to call the network there.
      sigma: level of the noise, 0 to 255.
    """
    sizes = [entry.height * entry.width for entry in test.entries]
    largest = int(np.argmax(sizes))
    noisy = add_fixed_noise(
        to_float(test.images[largest]), test.names[largest], sigma=sigma, seed=NOISE_SEED
    )
    for _ in range(2):
        stopwatch.run(
            method,
            functools.partial(restore, noisy, sigma),
            pixels=sizes[largest],
            compiles=noisy.shape,
        )


def describe_baselines(
    rows: Sequence[ComparisonRow], metric: str, seconds: Mapping[str, float]
) -> list[str]:
    """A sentence for the console about each classical method: its mean score and its time.

    Args:
      rows: the scores of the methods.
      metric: name of the metric to state.
      seconds: seconds per megapixel by method.

    Returns:
      The sentences.
    """
    said = []
    for name in dict.fromkeys(row.loss for row in rows):
        scores = [row.scores[metric] for row in rows if row.loss == name]
        told = METRICS[metric]
        unit = f" {told.unit}" if told.unit else ""
        said.append(
            f"baseline {name}: {told.label} {np.nanmean(scores):.{told.digits}f}{unit} on average, "
            f"{seconds[name]:.3f} s per megapixel."
        )
    return said


def _smooth(
    name: BaselineName, stopwatch: Stopwatch, noisy: np.ndarray, sigma: float | None
) -> np.ndarray:
    if sigma is None:
        raise ValueError("classical methods need the noise level")
    return stopwatch.run(
        name,
        functools.partial(denoise, name, noisy, sigma=sigma),
        pixels=noisy.shape[0] * noisy.shape[1],
    )
