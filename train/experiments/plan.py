"""Says before a comparison how many seeds and photographs it needs, and how long it takes here.

The spreads of differences over photographs and seeds decide how many are needed. They come from an
earlier comparison (``--settings-from``), or from a measurement that is kept next to this file.
"""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from rich.table import Table

from train.assembly import assemble, open_photographs
from train.console import make_console
from train.data.batch import Batch
from train.data.pipeline import PatchBatches, stream
from train.data.splits import Splits
from train.devices import sharding
from train.errors import InputError
from train.experiments.compare_config import CompareConfig
from train.experiments.networks.members import Member
from train.experiments.statistics import stats
from train.experiments.statistics.conclusions import ALPHA, MARGIN_DB
from train.files.json_files import UnreadableError, is_finite, read_json
from train.inference.scoring.registry import METRICS

_MEASURED = Path(__file__).with_name("spreads.json")
_NAMES = ("image_sd", "seed_sd", "residual_sd")
_SEEDS = (2, 3, 5, 8, 12)
_MOST_IMAGES = 10_000
_WARM, _TIMED = 3, 10  # steps; the first ones include compilation


@dataclass(frozen=True)
class Spreads:
    """How much differences between two losses vary, in the metric's unit."""

    image_sd: float
    seed_sd: float
    residual_sd: float
    source: str  # where they were measured

    @property
    def values(self) -> tuple[float, float, float]:
        """The three spreads, in the order of :func:`~stats.would_tell`."""
        return self.image_sd, self.seed_sd, self.residual_sd


def plan(config: CompareConfig) -> None:
    """Prints the plan of a comparison; nothing is kept.

    Args:
      config: the comparison.

    Raises:
      InputError: the input is wrong, or no spreads are known.
    """
    console = make_console()
    margin = _margin(config)
    spreads = _spreads_of(config)
    splits = open_photographs(config.fit)
    found = len(splits.test.names)
    seconds = seconds_per_step(config, splits)
    about = METRICS[config.primary]
    unit = f" {about.unit}" if about.unit else ""
    table = Table(title=f"To detect a difference of {margin:g}{unit} in {about.label}")
    for column in ("seeds", "test photographs", "networks", "training here"):
        table.add_column(column, justify="right")
    family = len(config.losses) - 1
    for seeds in _SEEDS:
        images = fewest_images(margin, spreads, seeds, confidence=1 - ALPHA / family)
        networks = _networks(config, seeds)
        steps = networks * sum(at.fit.optimizer.steps for at in config.each_length())
        needed = "more than 10,000" if images is None else f"{images:,}"
        table.add_row(str(seeds), needed, str(networks), _duration(steps * seconds))
    console.print(table)
    enough = []
    for seeds in range(2, stats.MOST_SEEDS + 1):
        images = fewest_images(margin, spreads, seeds, confidence=1 - ALPHA / family)
        if images is not None and images <= found:
            enough.append(seeds)
            break
    have = f"There are {found} test photographs"
    if enough:
        console.print(f"{have}, with which {enough[0]} seeds are enough.", soft_wrap=True)
    else:
        console.print(f"{have}, which are too few with any number of seeds.", soft_wrap=True)
    console.print(
        f"Spreads: {spreads.image_sd:.3g} over photographs, {spreads.seed_sd:.3g} over seeds, "
        f"{spreads.residual_sd:.3g} otherwise, from {spreads.source}. With these numbers, four of "
        "five comparisons find such a difference. Times do not include compilation, validation and "
        f"scoring. A step takes {1000 * seconds:.0f} ms, measured now over {_TIMED} steps.",
        soft_wrap=True,
    )


def fewest_images(margin: float, spreads: Spreads, seeds: int, *, confidence: float) -> int | None:
    """Finds the smallest number of photographs that is enough to detect a difference.

    Args:
      margin: the difference, in the metric's unit.
      spreads: how much differences vary.
      seeds: number of seeds.
      confidence: confidence level of the interval that must exclude 0.

    Returns:
      The number, which is at least that of a verdict; None if it is above 10,000.
    """

    def tells(images: int) -> bool:
        return stats.would_tell(
            margin, spreads.values, images=images, seeds=seeds, confidence=confidence
        )

    low, high = stats.FEWEST_IMAGES, _MOST_IMAGES
    if not tells(high):
        return None
    while low < high:
        middle = (low + high) // 2
        if tells(middle):
            high = middle
        else:
            low = middle + 1
    return low


def seconds_per_step(config: CompareConfig, splits: Splits) -> float:
    """Times a few training steps with the first loss.

    Args:
      config: the comparison.
      splits: its photographs.

    Returns:
      The seconds that a step takes.
    """
    member = Member(config.losses[0], config.fit.seed, config.rates[0], None)
    fit = member.config(config.fit, Path())
    assembly = assemble(fit)
    mesh = sharding.make_mesh(fit.run.devices, run=fit.run)
    sharding.check_divides(fit.data.batch_size, mesh, parts=fit.optimizer.accumulate)
    layout = sharding.state_sharding(jax.eval_shape(assembly.fresh_state), mesh)
    step = sharding.compile_step(assembly.update, mesh, layout=layout, cpu_step=fit.run.cpu_step)
    state = jax.jit(assembly.fresh_state, out_shardings=layout)()
    batches: Iterator[Batch] = stream(
        PatchBatches(
            splits.train,
            patch_size=fit.data.patch_size,
            batch_size=fit.data.batch_size,
            seed=fit.seed,
        ),
        start=0,
        stop=_WARM + _TIMED,
        rows=sharding.rows_of_process(mesh, fit.data.batch_size),
    )
    began = math.nan
    for number, batch in enumerate(sharding.to_devices(batches, mesh)):
        if number == _WARM:
            jax.block_until_ready(state)
            began = time.monotonic()
        state, _ = step(state, batch)
    jax.block_until_ready(state)
    return (time.monotonic() - began) / _TIMED


def _margin(config: CompareConfig) -> float:
    if config.margin is not None:
        return config.margin
    if METRICS[config.primary].unit != "dB":
        raise InputError(
            f"--plan needs --margin, the difference in {METRICS[config.primary].label} that must "
            "be told."
        )
    return MARGIN_DB


def _networks(config: CompareConfig, seeds: int) -> int:
    """Number of networks that are trained at one length, including those to pick settings with."""
    picking = 0
    if config.settings_from is None:
        # The network with the setting that is picked is also one of those that are compared.
        picking = len(config.rates) + len(config.clip_norms) - 1
    return len(config.losses) * (picking + seeds)


def _spreads_of(config: CompareConfig) -> Spreads:
    """The spreads of the earlier comparison, or measured ones of the same kind of training."""
    if config.settings_from is not None:
        return _of_comparison(config.settings_from, config.primary)
    kind = "fine-tuning" if config.start_of_seed else "training from random weights"
    for entry in json.loads(_MEASURED.read_text(encoding="utf-8")):
        if (entry["training"], entry["metric"]) == (kind, config.primary):
            return Spreads(**{name: entry[name] for name in (*_NAMES, "source")})
    raise InputError(
        f"--plan: no spreads of {config.primary} were measured for {kind}. Make a small comparison "
        "first, with two seeds or more, and give its folder as --settings-from."
    )


def _of_comparison(folder: Path, metric: str) -> Spreads:
    """The largest spreads among the verdicts of an earlier comparison."""
    path = folder / "conclusions.json"
    try:
        found: Any = read_json(path)
    except (FileNotFoundError, UnreadableError) as error:
        raise InputError(f"--settings-from: {path} cannot be read: {error}.") from None
    measured: list[dict[str, float]] = []
    for one in found if isinstance(found, list) else []:
        about = one if isinstance(one, dict) else {}
        if about.get("metric") == metric and about.get("adjusted_p") is not None:
            measured.append(_numbers_in(about.get("difference")))
    if not measured or not all(spreads.keys() >= set(_NAMES) for spreads in measured):
        raise InputError(
            f"--plan: {path} has no spreads of {metric} over photographs and seeds. Give a "
            "comparison with that --primary and two seeds or more."
        )
    largest = {name: max(spreads[name] for spreads in measured) for name in _NAMES}
    return Spreads(**largest, source=str(folder))


def _numbers_in(difference: Any) -> dict[str, float]:
    """The spreads in a difference of an earlier comparison. With one seed some are missing."""
    if not isinstance(difference, dict):
        return {}
    numbers: dict[str, Any] = {name: difference.get(name) for name in _NAMES}
    return {name: float(x) for name, x in numbers.items() if is_finite(x) and x >= 0}


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
