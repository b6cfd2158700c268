"""The networks that a fine-tuning starts from: their identity, their origin and their scores."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from train.checkpoints.checkpoint import Network, load_weights
from train.checkpoints.digests import digest_weights
from train.checkpoints.origin import Origin, origin_of
from train.console import complain
from train.data.sources import Source
from train.data.splits import describe_seen, seen_in
from train.experiments.statistics.comparison_table import ComparisonRow, Restore
from train.experiments.statistics.conclusions import START
from train.experiments.statistics.kept_scores import read_or_score
from train.inference.predictors import predictor_for
from train.network import build_model


@dataclass(frozen=True)
class Start:
    """A network as it is before it is fine-tuned."""

    name: str  # as it was given
    seed: int  # the first seed whose networks start from it
    digest: str  # SHA-256 over its weights
    origin: Origin
    network: Network


def open_starts(start_of_seed: Mapping[int, str], spec: str) -> list[Start]:
    """Loads the starts of a comparison.

    Args:
      start_of_seed: the run, checkpoint or bundled network of each seed.
      spec: the network that their weights must fit.

    Returns:
      One start for each seed, or a single one if all seeds have the same.

    Raises:
      InputError: the weights do not fit, or cannot be loaded.
    """
    seeds = list(start_of_seed)
    if len(set(start_of_seed.values())) == 1:
        seeds = seeds[:1]
    model = build_model(spec)
    starts = []
    for seed in seeds:
        path = Path(start_of_seed[seed])
        weights = load_weights(path, model, spec, warn=_warn)
        network = Network(model, spec, weights["params"], weights["batch_stats"])
        digest = digest_weights(network.params, network.batch_stats)
        starts.append(Start(start_of_seed[seed], seed, digest, origin_of(path), network))
    return starts


def _warn(line: str) -> None:
    # The line may quote the files of somebody else. Python's own warnings do not escape anything.
    complain(f"warning: {line}")


def start_warnings(starts: Sequence[Start], test: Source) -> list[str]:
    """One sentence for each start that was trained on test photographs, or may have been."""
    warnings = {}
    for start in starts:
        trained = start.origin.photographs
        if trained is None:
            warnings[start.name] = (
                f"{start.name} does not record which photographs it was trained on. If test "
                "photographs are among them, the scores mean little."
            )
        elif seen := describe_seen(seen_in(trained, test)):
            warnings[start.name] = f"{start.name}, which the networks start from: {seen}"
    return list(warnings.values())


def score_start(
    start: Start,
    folder: Path,
    source: Source,
    split: str,
    *,
    trained_sigma: float,
    sigmas: tuple[float, ...],
    noise_seed: int,
    draws: int,
    metrics: tuple[str, ...],
    say: Callable[[str], None],
) -> list[ComparisonRow]:
    """Scores a start as the networks that are trained from it, unless that is done already.

    Args:
      start: the network.
      folder: the comparison's folder for starts.
      source: the photographs.
      split: name of the photographs in the name of the file.
      trained_sigma: the level, from 0 to 255, that it is told if the true one is unknown.
      sigmas: noise levels to score at, from 0 to 255.
      noise_seed: seed of the noise that is added.
      draws: number of noise draws that each score is averaged over.
      metrics: names of the metrics.
      say: prints a sentence if the network is scored again.

    Returns:
      A row for each photograph and noise level, with ``START`` as its loss.
    """
    folder.mkdir(exist_ok=True)
    return read_or_score(
        folder / f"seed{start.seed}-{split}.csv",
        functools.partial(make_restore, start.network, trained_sigma),
        source,
        loss=START,
        seed=start.seed,
        sigmas=sigmas,
        noise_seed=noise_seed,
        draws=draws,
        metrics=metrics,
        say=say,
    )


def make_restore(network: Network, trained_sigma: float) -> Restore:
    """Makes a function that restores an image, given the level of its noise.

    Args:
      network: the trained network.
      trained_sigma: the level, from 0 to 255, that it is told if the true one is unknown, as with
        real degradations.

    Returns:
      The function.
    """
    predictor = predictor_for(network.model, network.params, network.batch_stats)

    def restore(image: np.ndarray, sigma: float | None) -> np.ndarray:
        return predictor.restore(image, sigma=(trained_sigma if sigma is None else sigma) / 255)

    return restore
