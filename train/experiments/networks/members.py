"""The networks that a comparison trains: one run of ``fit`` each, in a folder of its own.

Each is trained once and scored once. Besides what ``fit`` writes, its folder holds:

| file | what it says |
|---|---|
| ``done`` | the training reached its last step; empty |
| ``diverged`` | its training, or what it restores, came to NaN or infinity; why, in words |
| ``cost.json`` | seconds that the training took, and the steps that they are of |
| ``validation.csv``, ``test.csv`` | scores on these photographs |
"""

import dataclasses
import hashlib
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from rich.console import Console

from train import loop
from train.checkpoints.checkpoint import FOLDER_NAME, Network, load_network
from train.checkpoints.checkpoint_files import steps_in
from train.checkpoints.run_folder import check_link, clear
from train.config import FitConfig
from train.data.sources import Source
from train.errors import DivergedError, InputError
from train.experiments.compare_config import PopulationMode
from train.experiments.networks.lockstep import fit_together
from train.experiments.statistics.comparison_table import (
    ComparisonRow,
    Restore,
    check_complete,
    read_scores,
    score_network,
)
from train.experiments.statistics.convergence import Curve
from train.files.json_files import UnreadableError, is_number, read_json
from train.files.outputs import write_json, write_rows, write_text
from train.inference.predictors import predictor_for
from train.monitoring.metric_lines import FILE_NAME as METRICS_NAME
from train.monitoring.metric_lines import read_lines
from train.training import Watch

NOISE_SEED = 20_231_104  # of the evaluation, apart from any seed of a training
_DONE = "done"
_DIVERGED = "diverged"  # why, in words
_COST = "cost.json"


@dataclass(frozen=True)
class Member:
    """One network to train."""

    loss: str
    seed: int
    learning_rate: float
    clip_norm: float | None

    @property
    def name(self) -> str:
        """Its folder: readable, and not to be confused with another's."""
        readable = re.sub(r"[^A-Za-z0-9_.]+", "-", self.loss).strip("-")[:40]
        digest = hashlib.sha256(self.loss.encode()).hexdigest()[:6]
        clip = "" if self.clip_norm is None else f"-clip{_shortest(self.clip_norm)}"
        return f"{readable}-{digest}-lr{_shortest(self.learning_rate)}{clip}-seed{self.seed}"

    def config(self, fit: FitConfig, folder: Path) -> FitConfig:
        """What its run is configured as: ``fit`` in all but what makes it this member."""
        return dataclasses.replace(
            fit,
            seed=self.seed,
            model=dataclasses.replace(fit.model, loss=self.loss),
            optimizer=dataclasses.replace(
                fit.optimizer, learning_rate=self.learning_rate, clip_norm=self.clip_norm
            ),
            run=dataclasses.replace(fit.run, out=str(folder)),
        )


class Members:
    """Trains and scores members under one folder; what is there already is taken as it is."""

    def __init__(
        self, folder: Path, fit: FitConfig, console: Console, population: PopulationMode = "loop"
    ) -> None:
        self._folder, self._fit, self._console, self._population = folder, fit, console, population

    def ensure_trained(self, member: Member, watch: Watch | None = None) -> bool:
        """Trains the member if that is not done, from its newest checkpoint if it was stopped.

        Args:
          member: the network.
          watch: told the step and the scores of each validation; training ends if it returns True.

        Returns:
          Whether it is trained. It is not if ``watch`` ended the training, or it diverged.
        """
        folder = self._folder / member.name
        if self.is_done(member):
            return not self.diverged(member)
        config, before = self._resume_config(member)
        self._console.print(f"training {member.name}", soft_wrap=True)
        began = time.monotonic()
        try:
            loop.fit(config, report=False, watch=watch)
        except DivergedError as error:
            self._mark_diverged(member, str(error))
        finally:  # also if it was stopped, which raises
            self._record_cost([member], [before], time.monotonic() - began)
        return (folder / _DONE).exists()

    def ensure_all_trained(self, members: Sequence[Member]) -> None:
        """Trains those that are not trained yet, one after the other or at once."""
        left = [member for member in dict.fromkeys(members) if not self.is_done(member)]
        if self._population == "loop" or not left:
            for member in left:
                self.ensure_trained(member)
            return
        for member in left:
            self._console.print(f"training {member.name}", soft_wrap=True)
        configs, before = zip(*map(self._resume_config, left), strict=True)
        began = time.monotonic()
        try:
            errors = fit_together(configs, self._devices(), self._console)
        finally:
            self._record_cost(left, before, time.monotonic() - began)
        for member, error in zip(left, errors, strict=True):
            if error:
                self._mark_diverged(member, error)

    def diverged(self, member: Member) -> bool:
        """Whether its training, or what it restores, came to NaN or infinity."""
        return (self._folder / member.name / _DIVERGED).exists()

    def is_done(self, member: Member) -> bool:
        """Whether there is nothing left to train."""
        return self.diverged(member) or (self._folder / member.name / _DONE).exists()

    def _mark_diverged(self, member: Member, why: str) -> None:
        self._console.print(f"{member.name} diverged: {why}", soft_wrap=True)
        write_text(why + "\n", self._folder / member.name / _DIVERGED)

    def cost(self, members: Sequence[Member]) -> tuple[float, int]:
        """Seconds that training these took, and the steps of all of them that were measured."""
        paths = {self._folder / member.name / _COST for member in members}
        costs = [cost for cost in map(_read_cost, paths) if cost is not None]
        return math.fsum(seconds for seconds, _ in costs), sum(steps for _, steps in costs)

    def _devices(self) -> list[jax.Device]:
        available, asked = jax.devices(), self._fit.run.devices
        if asked is not None and asked > len(available):
            raise InputError(
                f"--devices {asked}: there are {len(available)} here; take that many or fewer."
            )
        return available[: 1 if self._population == "vmap" else asked]

    def _resume_config(self, member: Member) -> tuple[FitConfig, int]:
        """The configuration to continue its training with, and the steps that are done."""
        folder = self._folder / member.name
        for part in (self._folder, folder):  # what cannot be resumed is cleared
            check_link(part, self._folder.parent)
        config = member.config(self._fit, folder)
        steps = steps_in(folder / FOLDER_NAME)
        if steps:
            config = dataclasses.replace(
                config, run=dataclasses.replace(config.run, out=None, resume=str(folder))
            )
        else:
            clear(folder)  # stopped before its first checkpoint
        return config, max(steps, default=0)

    def _record_cost(
        self, members: Sequence[Member], before: Sequence[int], seconds: float
    ) -> None:
        """Adds an even share of the time to what each costs; marks those at their last step."""
        for member, start in zip(members, before, strict=True):
            folder = self._folder / member.name
            newest = max(steps_in(folder / FOLDER_NAME), default=0)
            if newest > start:
                spent, steps = self.cost([member])
                write_json(
                    {"seconds": spent + seconds / len(members), "steps": steps + newest - start},
                    folder / _COST,
                )
            if newest == self._fit.optimizer.steps:
                write_text("", folder / _DONE)

    def score(
        self, member: Member, source: Source, split: str, sigmas: tuple[float, ...], draws: int
    ) -> list[ComparisonRow]:
        """The member's scores on ``source``, from the file named after ``split`` if it is there.

        None at all where it diverged, also where that shows in what it restores only.
        """
        self.ensure_trained(member)
        path = self._folder / member.name / f"{split}.csv"
        if self.diverged(member):
            return []
        if not path.exists():
            found = score_network(
                self.restorer(member),
                source,
                loss=member.loss,
                seed=member.seed,
                sigmas=sigmas,
                noise_seed=NOISE_SEED,
                draws=draws,
            )
            write_rows(list(found), path)
        rows = read_scores(path)
        levels = sigmas if source.inputs is None else (0.0,)
        check_complete(
            path,
            rows,
            [(member.loss, member.seed, sigma, name) for name in source.names for sigma in levels],
        )
        # Also if a kill came between the table and this
        if any(math.isnan(row.psnr) for row in rows):
            self._mark_diverged(
                member, f"what it restores of the {split} photographs is not finite."
            )
            return []
        return rows

    def restorer(self, member: Member) -> Restore:
        """The trained member, ready to restore; told of each image's noise, if it takes that."""
        network = self._network(member)
        predictor = predictor_for(network.model, network.params, network.batch_stats)
        trained = self._fit.data.sigma

        def restore(image: np.ndarray, sigma: float | None) -> np.ndarray:
            # Of photographs that were degraded in reality the level is not known: what training
            # told of them, then.
            return predictor.restore(image, sigma=(trained if sigma is None else sigma) / 255)

        return restore

    def _network(self, member: Member) -> Network:
        """The network of the last step. If that is damaged, its training is resumed once more."""
        folder = self._folder / member.name
        last = folder / FOLDER_NAME / str(self._fit.optimizer.steps)
        try:
            return load_network(last)
        except InputError as error:
            self._console.print(
                f"{member.name} goes on from an older checkpoint: {error}", soft_wrap=True
            )
        (folder / _DONE).unlink(missing_ok=True)
        self.ensure_trained(member)
        return load_network(last)

    def is_trained(self, member: Member) -> bool:
        """Whether its training went on to the last step."""
        return (self._folder / member.name / _DONE).exists()

    def validations(self, member: Member, metric: str) -> dict[int, float]:
        """A validation metric by step, up to the newest checkpoint, if it was finite."""
        folder = self._folder / member.name
        newest = max(steps_in(folder / FOLDER_NAME), default=0)
        name = f"validation/{metric}"
        found = {}
        for _, row in read_lines(folder / METRICS_NAME):
            if row is not None and row["step"] <= newest and is_number(row.get(name)):
                found[row["step"]] = row[name]
        return found

    def curve(self, member: Member) -> Curve:
        """The member's validation PSNR while it was trained, where it was finite."""
        steps: list[int] = []
        scores: list[float] = []
        for _, row in read_lines(self._folder / member.name / METRICS_NAME):
            if row is not None and is_number(row.get("validation/psnr")):
                steps.append(row["step"])
                scores.append(row["validation/psnr"])
        return Curve(member.loss, member.seed, steps, scores)


def _shortest(number: float) -> str:
    """A number as a name has it, which no other number has: ``g`` alone keeps six digits."""
    short = f"{number:g}"
    return short if float(short) == number else repr(number)


def _read_cost(path: Path) -> tuple[float, int] | None:
    """Seconds and steps; None if they cannot be read, because no result depends on them."""
    try:
        cost = read_json(path)
    except (FileNotFoundError, UnreadableError):
        return None
    if (
        not isinstance(cost, dict)
        or not is_number(cost.get("seconds"))
        or type(cost.get("steps")) is not int
    ):
        return None
    return cost["seconds"], cost["steps"]
