"""The first stage of a training run: finds all mistakes in the input, then makes the folder."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh
from rich.console import Console

from train.assembly import Assembly, RunPrograms, assemble, open_photographs
from train.checkpoints.checkpoint import load_weights
from train.checkpoints.checkpoint_files import check_path
from train.checkpoints.checkpoint_writer import advising_resume
from train.checkpoints.run_folder import CONFIG_NAME, hold_run, new_folder
from train.config import DataConfig, FitConfig, save_config
from train.console import make_console
from train.dark_photographs import describe_degradation
from train.data.folders import MISSING_FOLDER
from train.data.pipeline import PatchBatches
from train.data.sources import Source
from train.data.splits import (
    Splits,
    check_scorable,
    check_unchanged,
    data_warnings,
    fingerprint,
    save_splits,
)
from train.devices import sharding
from train.devices.distributed import without_host_flags
from train.devices.session import Session
from train.errors import InputError
from train.inference.scoring.metric_weights import check_weights
from train.inference.scoring.sizes import check_large_enough


@dataclass(frozen=True)
class PreparedRun:
    """A run whose input has been checked and whose folder is locked."""

    config: FitConfig  # as the user gave it
    saved_config: FitConfig  # as it is saved in the folder and in checkpoints
    folder: Path
    session: Session
    console: Console
    began: float  # seconds, on the monotonic clock
    splits: Splits
    batches: PatchBatches
    assembly: Assembly
    initial: dict[str, Any] | None  # variables of --init-from
    mesh: Mesh
    programs: RunPrograms  # compiled for the mesh

    @property
    def model(self) -> nn.Module:
        """The network, in float32."""
        return self.assembly.model

    def say(self, line: str) -> None:
        """Prints a line in the first process."""
        self.console.print(line, soft_wrap=True)


def prepare(
    config: FitConfig, preset: str, session: Session, held: contextlib.ExitStack, *, warn: bool
) -> PreparedRun:
    """Finds all mistakes in the input, and only then makes the folder.

    Args:
      config: the run.
      preset: name of the preset, which becomes part of the folder's name.
      session: the processes of the run.
      held: keeps the lock on the folder.
      warn: print warnings about the photographs.

    Returns:
      The run, ready to start.

    Raises:
      InputError: the input is wrong, or another process uses the folder.
    """
    console = make_console(quiet=not session.is_first)
    say = functools.partial(console.print, soft_wrap=True)
    began = time.monotonic()

    # --- check the input, before anything is written or compiled
    with session.raise_everywhere():
        check_path(Path(config.run.resume or config.run.out or "runs"))
        mesh = sharding.make_mesh(config.run.devices, run=config.run)
        sharding.check_divides(config.data.batch_size, mesh, parts=config.optimizer.accumulate)
        assembly = assemble(config)
        with _advising_paths(config):
            splits = open_photographs(config)
        if config.run.resume:
            # This comes first. If photographs changed, no other fault in them matters.
            check_unchanged(splits, Path(config.run.resume))
        check_scorable(splits)
        best_metric = config.run.best_metric
        check_weights([best_metric])
        check_large_enough("--best-metric", best_metric, splits, of=("validation",))
        batches = PatchBatches(
            splits.train,
            patch_size=config.data.patch_size,
            batch_size=config.data.batch_size,
            seed=config.seed,
        )
    session.check_same(config, fingerprint(splits))
    initial = None
    # A resumed run loads its weights from its own checkpoint. The weights that it began with may
    # have been deleted.
    if config.model.init_from is not None and not config.run.resume:
        initial = load_weights(
            Path(config.model.init_from), assembly.model, config.model.model, warn=say
        )

    # --- make the folder and lock it
    folder = Path(config.run.resume or "")
    with session.raise_everywhere():
        if session.is_first and config.run.resume:
            held.enter_context(hold_run(folder))
        elif session.is_first:
            folder = new_folder(config.run.out, preset, held, config=config)
            with advising_resume(folder):
                save_splits(splits, folder)
    folder = Path(session.broadcast_from_first(str(folder)))
    held.enter_context(advising_resume(folder))
    if config.run.resume:
        session.has_checkpoint(folder)
    else:
        session.has_folder(folder)
    kept = dataclasses.replace(config.run, out=str(folder), resume=None)
    saved_config = dataclasses.replace(config, run=without_host_flags(kept))
    with session.raise_everywhere(), advising_resume(folder):
        if session.is_first:
            save_config(saved_config, folder / CONFIG_NAME)
        session.check_shared(folder / CONFIG_NAME)

    # --- say what is about to happen
    programs = RunPrograms(config, mesh)
    parameters = sum(x.size for x in jax.tree.leaves(programs.abstract.params))
    degraded = describe_photographs(splits.train, config.data)
    say(
        f"{config.model.model}: {parameters:,} parameters; {config.model.loss}; {degraded}; "
        f"{len(splits.train.names)} photographs; {mesh.size} {jax.default_backend()} "
        f"device{'s' * (mesh.size > 1)}{session.describe()}"
    )
    if warn:
        for warning in data_warnings(splits, workers=config.run.workers):
            say(f"warning: {warning}")
    return PreparedRun(
        config=config,
        saved_config=saved_config,
        folder=folder,
        session=session,
        console=console,
        began=began,
        splits=splits,
        batches=batches,
        assembly=assembly,
        initial=initial,
        mesh=mesh,
        programs=programs,
    )


@contextlib.contextmanager
def _advising_paths(config: FitConfig) -> Iterator[None]:
    """Says where to resume a run if its photographs are missing and their paths are relative."""
    try:
        yield
    except InputError as error:
        data = config.data
        specs = filter(None, (data.source, data.validation_source, data.test_source))
        paths = [spec.partition(":")[2] for spec in specs]
        relative = [
            path for path in paths if path[:1] != "~" and not Path(path or "/").is_absolute()
        ]
        if not config.run.resume or not relative or not str(error).startswith(MISSING_FOLDER):
            raise
        raise InputError(
            f"{error} {relative[0]} is relative to the folder in which the run was started, and "
            f"you resume it in {Path.cwd()}. Change to that folder first."
        ) from None


def describe_photographs(source: Source, data: DataConfig) -> str:
    """Describes in words how the photographs of a run are degraded."""
    return describe_degradation(
        source, sigma=data.sigma, blind=data.blind, low_light=data.low_light
    )
