"""``python -m train evaluate``: scores a trained network on a data set, by a named protocol."""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from train.bounds import MOST_SIDE, between, check_name, hint, noise_levels
from train.checkpoints.checkpoint import Network, load_network
from train.checkpoints.digests import digest_weights
from train.checkpoints.origin import origin_of
from train.checkpoints.versions import package_versions
from train.console import make_console, track
from train.data.entries import describe_equal_halves
from train.data.images import to_float, write_image
from train.data.libvips import last_line, pyvips
from train.data.photographs import Memory
from train.data.sources import Source, open_source
from train.data.splits import describe_seen, seen_in
from train.errors import InputError
from train.files.json_files import digest_json, read_json
from train.files.outputs import check_replaceable, check_writable, write_json, write_rows
from train.inference.evaluate_checks import check_baselines, check_fits, protocol_at
from train.inference.files.colours import colours_in, grey_again
from train.inference.predict import NOT_FINITE, Predictor
from train.inference.predictors import predictor_for
from train.inference.scoring.cases import Case, cases_of, group_by_size
from train.inference.scoring.classical import NOTE, BaselineName, denoise, timed_record
from train.inference.scoring.error_maps import error_sheet
from train.inference.scoring.measure import score
from train.inference.scoring.metric_weights import check_weights, digests
from train.inference.scoring.metrics_table import MetricsRow, make_summary, means
from train.inference.scoring.protocols import (
    NOISE_SEED,
    Protocol,
    degraded,
    finished,
)
from train.inference.scoring.registry import LEGEND, Added, columns
from train.inference.scoring.sizes import size_notes
from train.inference.scoring.timing import Stopwatch

_SCORES, _SUMMARY = "scores.csv", "summary.json"
_TABLE_STARTS = b"photograph,sigma,seed,method,"


@dataclass(frozen=True)
class EvaluateConfig:
    """Score a trained network on a data set, by a named protocol."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """Folder of a run, or of one of its checkpoints, or the name of a bundled network."""
    data: str
    """Photographs that the network was not trained on: "photos" or "samples" (only their
    test photographs are used),
    "folder:PATH", "pairs:LOW_DIR,HIGH_DIR", "pairs:DIR?input=GLOB&target=GLOB" or
    "tfds:NAME[/CONFIG]:SPLIT"."""
    protocol: str
    """How photographs are degraded and scored.
    clipped, unclipped, float: with added noise. pairs: photographs with real degradations."""
    output: Path
    """Folder to write scores.csv, summary.json and figures to."""
    sigmas: Annotated[tuple[float, ...], tyro.conf.arg(help_behavior_hint=hint)] = ()
    """Noise levels (0 to 255) to score at. Default: those of --protocol (15, 25 and 50).
    The level is passed to networks that need it, and not to blind ones."""
    metrics: Annotated[tuple[Added, ...], tyro.conf.arg(help_behavior_hint=hint)] = ()
    """Metrics to compute in addition to the default ones. all: every metric that needs no weights.
    The default ones are PSNR, PSNR-Y, SSIM, MS-SSIM, CIEDE2000, |ΔL*|, |ΔC*|, HaarPSI and FLIP."""
    baselines: Annotated[tuple[BaselineName, ...], tyro.conf.arg(help_behavior_hint=hint)] = ()
    """Classical denoisers of scikit-image to score too: gaussian, nlm, wavelet, tv.
    They are told the noise level. The table also shows the time of each method."""
    figures: bool = False
    """Write figures of the worst, the median and the best photograph at each noise level.
    They include maps of the errors."""
    self_ensemble: bool = False
    """Average over the eight flips and rotations, which takes eight times as long."""
    tile: int | None = None
    """Side of a tile in pixels. The scores do not depend on it.
    None: a side for about 1.5 GB of memory at 100 megapixels."""
    memory_mb: int = 1000
    """Megabytes of decoded photographs to keep in memory."""
    overwrite: bool = False
    """Replace files in --output even if they were not written by evaluate."""

    def __post_init__(self) -> None:
        noise_levels("--sigmas", self.sigmas)
        check_name("the checkpoint", self.checkpoint)
        check_name("--output", self.output)
        if self.tile is not None:
            between("--tile", self.tile, 1, most=MOST_SIDE)
        between("--memory-mb", self.memory_mb, 0)

    @property
    def columns(self) -> tuple[str, ...]:
        """Metrics that every photograph is scored by."""
        return columns(self.metrics, also=("ms_ssim",))


def evaluate(config: EvaluateConfig) -> list[MetricsRow]:
    """Restores and scores every photograph; writes and prints the results."""
    console = make_console()
    protocol = protocol_at(config.protocol, config.sigmas)
    check_weights(config.columns)
    say = functools.partial(console.print, soft_wrap=True)
    network = load_network(config.checkpoint, warn=lambda line: say(f"warning: {line}"))
    options: dict[str, Any] = {"tile": config.tile, "self_ensemble": config.self_ensemble}
    predictor = predictor_for(network.model, network.params, network.batch_stats, **options)
    source = open_source(config.data, "test", memory=Memory(config.memory_mb))
    check_fits(protocol, config.protocol, source, network)
    check_baselines(config.baselines, protocol, config.protocol)
    _check_replaceable(config, protocol)
    check_writable(config.output)
    trained = origin_of(config.checkpoint).photographs or frozenset()
    warnings = (
        describe_seen(seen_in(trained, source)),
        describe_equal_halves(source.entries),
        source.skipped,
    )
    for line in filter(None, warnings):
        say(f"warning: {config.data}: {line}")
    names = config.columns
    for line in size_notes(names, source):
        say(f"note: {line}")

    cases = list(cases_of(protocol, source))
    found: dict[Case, list[MetricsRow]] = {}
    stopwatch = Stopwatch()
    groups = group_by_size(cases, source, tile=predictor.tile)
    for group in track(groups, "evaluating", console=console):
        timed = stopwatch if config.baselines else None
        images = _restored(predictor, protocol, source, group, stopwatch=timed)
        for case, (clean, given, restored) in zip(group, images, strict=True):
            candidates = {"input": given}
            for baseline in config.baselines:
                call = functools.partial(denoise, baseline, given, sigma=case.sigma)
                smoothed = stopwatch.run(baseline, call, pixels=given.shape[0] * given.shape[1])
                candidates[baseline] = finished(protocol, smoothed)
            candidates["restored"] = restored
            found[case] = [
                MetricsRow(
                    case.name, case.sigma, NOISE_SEED, method, score(image, clean, names=names)
                )
                for method, image in candidates.items()
            ]
    scores = [one for case in cases for one in found[case]]
    methods = [*config.baselines, "restored"] if config.baselines else []
    seconds = stopwatch.per_megapixel(methods)
    # They are printed first, so that they are not lost if the disk is full.
    photographs = f"{len(source.names)} photographs of {config.data}"
    title = f"{network.spec} on {photographs}, protocol {config.protocol}"
    say(title)
    console.print(make_summary(scores, seconds))
    say(f"{LEGEND} Means over photographs; {protocol.summary}; no GT-mean.")
    if config.baselines:
        say(NOTE)
    _check_replaceable(config, protocol)  # The folder may have changed in the meantime.
    with _written(config.output / _SCORES) as path:
        write_rows(scores, path)
    with _written(config.output / _SUMMARY) as path:
        write_json(
            _summary(config, protocol, network, source, scores) | timed_record(seconds), path
        )
    written = [_SCORES, _SUMMARY]
    if config.figures:
        for sigma in protocol.sigmas or (math.nan,):
            shown = (predictor, protocol, source, cases, scores)
            written.append(_figure(*shown, sigma, config.output))
    for name in written:
        say(str(config.output / name))
    return scores


def _check_replaceable(config: EvaluateConfig, protocol: Protocol) -> None:
    """Raises an error if results would replace files that evaluate did not write."""

    def is_summary(path: Path) -> bool:
        return {"checkpoint", "model", "data", "protocol", "means"} <= read_json(path).keys()

    def is_table(path: Path) -> bool:
        with path.open("rb") as file:
            return file.readline(1000).startswith(_TABLE_STARTS)

    def is_figure(path: Path) -> bool:
        return is_summary(config.output / _SUMMARY)

    levels = (protocol.sigmas or (math.nan,)) if config.figures else ()
    figures = [_figure_name(sigma) for sigma in levels]
    for name, is_ours in {
        _SCORES: is_table,
        _SUMMARY: is_summary,
        **dict.fromkeys(figures, is_figure),
    }.items():
        check_replaceable(
            config.output / name, is_ours, option="--output", overwrite=config.overwrite
        )


def _figure_name(sigma: float) -> str:
    return "figures.png" if math.isnan(sigma) else f"figures-sigma{sigma:g}.png"


def _restored(
    predictor: Predictor,
    protocol: Protocol,
    source: Source,
    cases: Sequence[Case],
    *,
    stopwatch: Stopwatch | None = None,
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Clean, given and restored photographs in float, with the network's channels.

    The cases must have the same size and noise level.
    """
    channels = predictor.model.channels
    clean = [to_float(source.images[case.index])[..., :channels] for case in cases]
    if source.inputs is None:
        given = [
            degraded(protocol, image, case.name, sigma=case.sigma)
            for image, case in zip(clean, cases, strict=True)
        ]
    else:
        given = [to_float(source.inputs[case.index])[..., :channels] for case in cases]
    restore = functools.partial(predictor.restore_all, given, sigma=cases[0].sigma / 255)
    if stopwatch is None:
        restored = restore()
    else:
        height, width = given[0].shape[:2]
        compiles = (len(given), height, width)
        restored = stopwatch.run(
            "restored", restore, pixels=len(given) * height * width, compiles=compiles
        )
    for case, image in zip(cases, restored, strict=True):
        if np.isnan(image).any():  # means over photographs would leave it out
            raise InputError(f"{case.name}: {NOT_FINITE}")
    # A file whose channels are equal is restored to grey. Noise that is added here makes them
    # differ.
    written = [
        grey_again(image, colours_in(noisy)) for image, noisy in zip(restored, given, strict=True)
    ]
    restored = [np.repeat(image, channels // image.shape[-1], axis=-1) for image in written]
    return [
        (one, noisy, finished(protocol, image))
        for one, noisy, image in zip(clean, given, restored, strict=True)
    ]


def _summary(
    config: EvaluateConfig,
    protocol: Protocol,
    network: Network,
    source: Source,
    scores: list[MetricsRow],
) -> dict[str, Any]:
    """Everything that the scores depend on, and their means."""
    return {
        "checkpoint": digest_weights(network.params, network.batch_stats),
        "model": network.spec,
        "data": {
            "spec": config.data,
            "photographs": len(source.names),
            "digest": digest_json(
                {entry.name: [entry.digest, entry.input_digest] for entry in source.entries}
            ),
        },
        "protocol": {
            "name": config.protocol,
            **dataclasses.asdict(protocol),
            "noise_seed": NOISE_SEED,
            "gt_mean": None,
        },
        "self_ensemble": config.self_ensemble,
        "metric_weights": digests(config.columns),
        "versions": package_versions(),
        "means": [
            {"sigma": None if sigma < 0 else sigma, "method": method}
            | {k: None if math.isnan(v) else v for k, v in values.items()}
            for (sigma, method), values in means(scores).items()
        ],
    }


def _figure(
    predictor: Predictor,
    protocol: Protocol,
    source: Source,
    cases: list[Case],
    scores: list[MetricsRow],
    sigma: float,
    folder: Path,
) -> str:
    """Draws the worst, median and best photograph of a noise level by PSNR; returns the name."""
    ranked = sorted(
        (
            (one.scores["psnr"], case)
            for case, one in zip(
                cases, (row for row in scores if row.method == "restored"), strict=True
            )
            if case.sigma == sigma or math.isnan(sigma)
        ),
        key=lambda pair: pair[0],
    )
    picked = {"worst": ranked[0], "median": ranked[len(ranked) // 2], "best": ranked[-1]}
    sheet = error_sheet(
        (
            f"{rank}: {case.name}, {psnr:.2f} dB",
            _restored(predictor, protocol, source, [case])[0],
        )
        for rank, (psnr, case) in picked.items()
    )
    name = _figure_name(sigma)
    with _written(folder / name) as path:
        write_image(path, sheet)
    return name


@contextmanager
def _written(path: Path) -> Iterator[Path]:
    try:
        yield path
    except (OSError, pyvips.Error) as error:
        reason = last_line(error) if isinstance(error, pyvips.Error) else error.strerror or error
        raise InputError(
            f"{path} could not be written: {reason}. Free some space, or choose another --output."
        ) from None
