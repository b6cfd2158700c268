"""Several runs of ``fit`` that go step by step together, as populations: one on a device, or one on each of several.

Each run's folder is what ``fit`` would have left there: configuration, split, metrics.jsonl,
curves, checkpoints. A run that was stopped goes on from its own newest checkpoint, here or by ``fit
--resume``.
"""

import collections
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from rich.console import Console

from train import locks, loop
from train.assembly import assemble, open_photographs
from train.checkpoint import FOLDER_NAME, check_disk_space, load_newest, load_weights
from train.checkpoint_writer import Checkpoints, open_checkpoints
from train.config import FitConfig, save_config
from train.console import make_console
from train.data.batch import Batch
from train.data.pipeline import PatchBatches, stream
from train.data.splits import (
    Splits,
    check_fingerprint,
    check_scorable,
    check_unchanged,
    save_splits,
)
from train.due import STEPS_AHEAD, due
from train.errors import DivergedError, InputError
from train.meters import Meter
from train.metric_lines import FILE_NAME as METRICS_NAME
from train.metric_writer import MetricWriter
from train.network import init_variables
from train.panels import panels
from train.population import (
    Population,
    PopulationStep,
    join,
    make_population_step,
    member_of,
    seeds_of,
)
from train.randomness import INIT_STREAM
from train.resumed_config import check_sealed
from train.run_folder import BOARD_NAME, CONFIG_NAME, describe_run, new_folder
from train.sharding import compiler_options
from train.signals import stop_on_signal
from train.state import TrainState
from train.step import Metrics
from train.tensorboard import Board
from train.validation import Validator


@dataclass
class Run:
    """One run of ``fit``."""

    config: FitConfig
    folder: Path
    state: TrainState  # that it starts from
    diverged: str = ""  # why it stands still; the others go on

    @property
    def start(self) -> int:
        """Steps that are done."""
        return int(self.state.step)


@dataclass
class Crew:
    """The runs of one device, and where they stand."""

    runs: Sequence[Run]
    device: jax.Device
    step: PopulationStep
    population: Population
    metrics: tuple[Metrics, ...] = ()

    @property
    def seeds(self) -> list[int]:
        """Whose patches it takes."""
        return seeds_of([run.config for run in self.runs])

    def take(self, batch: Any) -> None:
        """One step."""
        self.population, self.metrics = self.step(self.population, batch)


def fit_together(
    configs: Sequence[FitConfig], devices: Sequence[jax.Device], console: Console
) -> list[str]:
    """Trains these runs, which may differ in loss, seed, learning rate, clipping and folder, over ``devices``.

    Of each it gives why it diverged, "" where it did not. Runs that were stopped at different
    steps, since something ended the process between two checkpoints of one step, go on in groups of
    the same step.
    """
    say: Callable[[str], None] = functools.partial(console.print, soft_wrap=True)
    splits = open_photographs(configs[0])
    for config in configs:
        if config.run.resume:
            check_unchanged(splits, Path(config.run.resume))
    check_scorable(splits)
    with contextlib.ExitStack() as held:
        runs = _open(configs, splits, devices[0], say, held)
        _train_in_groups(runs, splits, devices, console)
    return [run.diverged for run in runs]


def _train_in_groups(
    runs: Sequence[Run], splits: Splits, devices: Sequence[jax.Device], console: Console
) -> None:
    """Trains runs of the same step together."""
    for start in sorted({run.start for run in runs}):
        group = [run for run in runs if run.start == start]
        used = min(len(devices), len(group))
        console.print(
            f"{len(group)} networks at once on {used} {devices[0].platform} "
            f"device{'s' * (used > 1)}",
            soft_wrap=True,
        )
        try:
            _train(group, splits, devices, console)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise InputError(
                f"{len(group)} networks at once do not fit into the memory of "
                f"{devices[0].device_kind}: take --population loop, or mesh with more devices."
            ) from None


def _open(
    configs: Sequence[FitConfig],
    splits: Splits,
    device: jax.Device,
    say: Callable[[str], None],
    held: contextlib.ExitStack,
) -> list[Run]:
    """Folders, locked, and states: fresh ones, the same for the same seed, or those of the newest checkpoints."""
    where = NamedSharding(Mesh(np.array([device]), ("member",)), PartitionSpec())
    model = assemble(configs[0]).model
    draw = jax.jit(lambda key: init_variables(model, key))
    starts: dict[int, Any] = {}
    runs = []
    for config in configs:
        assembly = assemble(config)
        if config.run.resume:
            folder = Path(config.run.resume)
            held.enter_context(locks.hold(folder))
            abstract = jax.eval_shape(assembly.fresh_state)
            state, saved = load_newest(folder / FOLDER_NAME, abstract, where, say)
            check_fingerprint(splits, saved, folder)
            check_sealed(config, saved.get("config"), folder)
        else:
            folder = new_folder(config.run.out, "compare", held)
            save_splits(splits, folder)
            seed, source = config.seed, config.model.init_from
            if seed not in starts and source is None:
                starts[seed] = draw(jax.random.fold_in(jax.random.key(seed), INIT_STREAM))
            elif seed not in starts:
                starts[seed] = load_weights(Path(source or ""), model, config.model.model, say)
            state = assembly.state_from(starts[seed])
        run = dataclasses.replace(config.run, out=str(folder), resume=None)
        save_config(dataclasses.replace(config, run=run), folder / CONFIG_NAME)
        runs.append(Run(config, folder, jax.device_put(state, device)))
    return runs


def _train(
    runs: Sequence[Run], splits: Splits, devices: Sequence[jax.Device], console: Console
) -> None:
    """Steps until the last or a signal; what they leave is saved."""
    shared, start = runs[0].config, runs[0].start
    run, steps = shared.run, shared.optimizer.steps
    model = assemble(shared).model
    check_disk_space(
        {each.folder / FOLDER_NAME: each.state for each in runs}, run.keep_last + run.keep_best
    )
    crews = deal(runs, devices)
    places = [(crew, i) for crew in crews for i in range(len(crew.runs))]
    validate = None
    if splits.validation is not None:
        validate = Validator(model, splits.validation, sigma=shared.data.sigma)
    meter = Meter(shared.data.batch_size, shared.data.patch_size)
    done = start  # also where there is no step left to take
    ahead: collections.deque[Any] = collections.deque()
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(stop_on_signal())
        checkpoints = [stack.enter_context(_checkpoints(r, splits)) for r in runs]
        writers = [stack.enter_context(_writer(each, start, steps)) for each in runs]
        # All keep one pace: what is shown is the first that still goes.
        shown = stack.enter_context(MetricWriter(None, console, start=start, steps=steps))
        for done, batches in enumerate(
            meter.timed(_arriving(crews, splits, start, steps)), start + 1
        ):
            for crew, batch in zip(crews, batches, strict=True):
                crew.take(batch)
            losses = [crew.metrics[0].loss for crew in crews]
            meter.stepped(losses[-1])
            if done == start + 1:
                jax.block_until_ready([crew.population for crew in crews])
                meter.restart()
                for writer in (*writers, shown):
                    writer.started()
            ahead.append(losses)
            if len(ahead) > STEPS_AHEAD:
                jax.block_until_ready(ahead.popleft())

            # Looked at once: a signal that comes from here on is the next step's to save for
            stopping = bool(stop)
            validating, saving, logging = due(
                run, done, steps, validates=validate is not None, stopping=stopping
            )
            if logging or saving:
                rates = meter.read()
                # Before anything is saved: one may stand still
                values = [_read(crew, i) for crew, i in places]
                lines = []
                for (crew, i), writer, saved, read in zip(
                    places, writers, checkpoints, values, strict=True
                ):
                    if crew.runs[i].diverged:
                        continue
                    state = member_of(crew.population, i, crew.runs[i].config) if saving else None
                    scores: dict[str, float] = {}
                    if validate is not None and validating and state is not None:
                        scores, *images = validate(state.released, state.released_stats)
                        writer.picture(done, "validation", panels(*images))
                    if logging:
                        named = {f"validation/{name}": score for name, score in scores.items()}
                        lines.append({**read, **rates, **named})
                        writer.write(done, lines[-1])
                    if state is not None:
                        saved.save(state, scores)
                for line in lines[:1]:
                    shown.write(done, line)
                meter.restart()
            if stopping or all(r.diverged for r in runs):
                break
    if stop:
        console.print(
            f"stopped after step {done}; all is saved: go on as was said at the start",
            soft_wrap=True,
        )
        raise SystemExit(130)


def deal(runs: Sequence[Run], devices: Sequence[jax.Device]) -> list[Crew]:
    """The runs dealt to devices, those of a seed together; a program for each device, so that nothing moves between."""
    used = devices[: len(runs)]
    crews = []
    for device, share in zip(used, np.array_split(np.arange(len(runs)), len(used)), strict=True):
        held = [runs[i] for i in share]
        configs = [run.config for run in held]
        options = compiler_options() if device.platform == "cpu" else None
        step: Any = jax.jit(
            make_population_step(configs), donate_argnums=0, compiler_options=options
        )
        states = [jax.device_put(run.state, device) for run in held]
        crews.append(Crew(held, device, step, join(states, configs)))
    return crews


def _arriving(crews: Sequence[Crew], splits: Splits, start: int, stop: int) -> Iterator[list[Any]]:
    """For each step the batches of all crews, each of its seeds' patches, on their way one step ahead of their use."""
    config = crews[0].runs[0].config
    sizes = {"patch_size": config.data.patch_size, "batch_size": config.data.batch_size}
    seeds = sorted({seed for crew in crews for seed in crew.seeds})
    streams = [
        stream(
            PatchBatches(splits.train, **sizes, seed=seed),
            start=start,
            stop=stop,
            workers=config.run.workers,
        )
        for seed in seeds
    ]
    ahead: list[Any] | None = None
    for batches in zip(*streams, strict=True):
        of_seed: dict[int, Batch] = dict(zip(seeds, batches, strict=True))
        stacks = [
            jax.tree.map(lambda *rows: np.stack(rows), *(of_seed[s] for s in crew.seeds))
            for crew in crews
        ]
        arriving = [
            jax.device_put(stacked, crew.device)
            for stacked, crew in zip(stacks, crews, strict=True)
        ]
        if ahead is not None:
            yield ahead
        ahead = arriving
    if ahead is not None:
        yield ahead


def _read(crew: Crew, index: int) -> dict[str, float]:
    run = crew.runs[index]
    try:
        return loop.read_metrics(crew.metrics[index], run.config)
    except DivergedError as error:
        run.diverged = str(error)
        return {}


def _checkpoints(run: Run, splits: Splits) -> contextlib.AbstractContextManager[Checkpoints]:
    kept = run.config.run
    folder = run.folder / FOLDER_NAME
    config = dataclasses.replace(
        run.config, run=dataclasses.replace(kept, out=str(run.folder), resume=None)
    )
    limits = {
        "keep_last": kept.keep_last,
        "keep_best": kept.keep_best,
        "best_metric": kept.best_metric,
    }
    return open_checkpoints(folder, describe_run(config, splits), **limits)


def _writer(run: Run, start: int, steps: int) -> MetricWriter:
    board = Board(run.folder / BOARD_NAME, start=start) if run.config.run.tensorboard else None
    console = make_console(quiet=True)
    return MetricWriter(run.folder / METRICS_NAME, console, start=start, steps=steps, board=board)
