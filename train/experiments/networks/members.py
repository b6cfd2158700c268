"""The networks that an experiment trains: each is a run of ``fit`` in a folder of its own.

Each is trained once and scored once. In addition to the files of ``fit``, its folder holds:

| file | what it says |
|---|---|
| ``done`` | the training reached its last step; the file is empty |
| ``diverged`` | the training or the output contained NaN or infinity; the reason in words |
| ``cost.json`` | how many seconds the training took, and for how many steps |
| ``validation.csv``, ``test.csv`` | scores on these photographs |
"""

import dataclasses
import functools
import hashlib
import math
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
from rich.console import Console

from train import loop
from train.checkpoints.checkpoint import FOLDER_NAME, Network, load_network
from train.checkpoints.checkpoint_files import steps_in
from train.checkpoints.resumed_config import to_resume
from train.checkpoints.run_folder import check_link, clear
from train.config import FitConfig
from train.data.sources import Source
from train.devices import host_memory
from train.errors import DivergedError, InputError
from train.experiments.compare_config import PopulationMode
from train.experiments.networks.costs import COST_NAME, read_cost
from train.experiments.networks.lockstep import fit_together
from train.experiments.networks.starts import make_restore
from train.experiments.statistics.comparison_table import ComparisonRow, Restore
from train.experiments.statistics.convergence import Curve
from train.experiments.statistics.kept_scores import has_diverged, read_or_score
from train.files.json_files import is_finite
from train.files.outputs import write_json, write_text
from train.monitoring.metric_lines import FILE_NAME as METRICS_NAME
from train.monitoring.metric_lines import read_lines
from train.training import Watch

NOISE_SEED = 20_231_104  # seed of the noise that is scored on; no training uses this seed
_DONE = "done"
_DIVERGED = "diverged"


@dataclass(frozen=True)
class Member:
    """One network to train."""

    loss: str
    seed: int
    learning_rate: float
    clip_norm: float | None  # gradient norm to clip at; None: no clipping

    @property
    def name(self) -> str:
        """Name of its folder: readable, and different for each member."""
        readable = re.sub(r"[^A-Za-z0-9_.]+", "-", self.loss).strip("-")[:40]
        digest = hashlib.sha256(self.loss.encode()).hexdigest()[:6]
        clip = "" if self.clip_norm is None else f"-clip{_shortest(self.clip_norm)}"
        return f"{readable}-{digest}-lr{_shortest(self.learning_rate)}{clip}-seed{self.seed}"

    def config(self, fit: FitConfig, folder: Path) -> FitConfig:
        """The configuration of its run: ``fit`` with this member's own settings and a folder."""
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
    """Trains and scores members in one folder, and reuses what is there already.

    Methods whose names begin with ``ensure``, ``train`` or ``load_or_retrain`` may train, which can
    take hours. All others only read.
    """

    def __init__(
        self,
        folder: Path,
        fit: FitConfig,
        console: Console,
        *,
        population: PopulationMode = "loop",
        starts: Mapping[int, str] | None = None,
    ) -> None:
        """Trains nothing yet.

        Args:
          folder: holds a folder for each member. It lies in the folder of the experiment.
          fit: how members are trained, apart from their own settings.
          console: for progress.
          population: whether members train one after the other or at once.
          starts: the network that the members of each seed fine-tune; None: what ``fit`` says.
        """
        self._folder, self._fit, self._console, self._population = folder, fit, console, population
        self._starts = starts or {}
        # fit --resume would resume only the one network that was being trained.
        self._resume_hint = f"repeat the command with --out {shlex.quote(str(folder.parent))}"

    def ensure_trained(self, member: Member, *, watch: Watch | None = None) -> bool:
        """Trains the member to its last step, unless that is done already.

        An interrupted training resumes from its newest checkpoint.

        Args:
          member: the network.
          watch: receives step and scores of each validation. Training ends if it returns True.

        Returns:
          Whether the member is trained. It is not if ``watch`` ended the training, or if it
          diverged.
        """
        folder = self._folder / member.name
        if self.is_done(member):
            return not self.diverged(member)
        config, before = self._resume_config(member)
        self._console.print(f"training {member.name}", soft_wrap=True)
        began = time.monotonic()
        try:
            loop.fit(config, report=False, watch=watch, resume_hint=self._resume_hint)
        except DivergedError as error:
            self._mark_diverged(member, str(error))
        finally:  # also if it was interrupted, which raises an error
            self._record_cost([member], [before], time.monotonic() - began)
        host_memory.return_freed()  # or each network of a comparison would leave some behind
        return (folder / _DONE).exists()

    def ensure_all_trained(self, members: Sequence[Member]) -> None:
        """Trains those members that are still untrained, one after the other or at once."""
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
            errors = fit_together(configs, self._devices(), self._console, self._resume_hint)
        finally:
            self._record_cost(left, before, time.monotonic() - began)
        for member, error in zip(left, errors, strict=True):
            if error:
                self._mark_diverged(member, error)

    def folder_of(self, member: Member) -> Path:
        """The folder of the member's run."""
        return self._folder / member.name

    def diverged(self, member: Member) -> bool:
        """Whether its training or its output contained NaN or infinity."""
        return (self._folder / member.name / _DIVERGED).exists()

    def is_done(self, member: Member) -> bool:
        """Whether there is nothing left to train."""
        return self.diverged(member) or (self._folder / member.name / _DONE).exists()

    def _mark_diverged(self, member: Member, why: str) -> None:
        self._console.print(f"{member.name} diverged: {why}", soft_wrap=True)
        write_text(why + "\n", self._folder / member.name / _DIVERGED)

    def cost(self, members: Sequence[Member]) -> tuple[float, int]:
        """Seconds that training these members took, and the number of steps that were timed."""
        paths = {self._folder / member.name / COST_NAME for member in members}
        costs = [cost for cost in map(read_cost, paths) if cost is not None]
        return math.fsum(seconds for seconds, _ in costs), sum(steps for _, steps in costs)

    def _devices(self) -> list[jax.Device]:
        available, asked = jax.devices(), self._fit.run.devices
        if asked is not None and asked > len(available):
            raise InputError(
                f"--devices {asked} is more than the {len(available)} devices here. Use "
                f"{len(available)} or fewer."
            )
        return available[: 1 if self._population == "vmap" else asked]

    def _resume_config(self, member: Member) -> tuple[FitConfig, int]:
        """Prepares the folder; returns the configuration to train with, and the steps done so far.

        A folder without a checkpoint cannot be resumed. It is cleared.
        """
        folder = self._folder / member.name
        for part in (self._folder, folder):
            check_link(part, self._folder.parent)
        start = self._starts.get(member.seed, self._fit.model.init_from)
        model = dataclasses.replace(self._fit.model, init_from=start)
        config = member.config(dataclasses.replace(self._fit, model=model), folder)
        steps = steps_in(folder / FOLDER_NAME)
        if steps:
            config = to_resume(config, folder)
        else:
            clear(folder)  # interrupted before its first checkpoint
        return config, max(steps, default=0)

    def _record_cost(
        self, members: Sequence[Member], before: Sequence[int], seconds: float
    ) -> None:
        """Adds an even share of the time to each one's cost; marks those that are done."""
        for member, start in zip(members, before, strict=True):
            folder = self._folder / member.name
            newest = max(steps_in(folder / FOLDER_NAME), default=0)
            if newest > start:
                spent, steps = self.cost([member])
                write_json(
                    {"seconds": spent + seconds / len(members), "steps": steps + newest - start},
                    folder / COST_NAME,
                )
            if newest == self._fit.optimizer.steps:
                write_text("", folder / _DONE)

    def train_and_score(
        self,
        member: Member,
        source: Source,
        split: str,
        *,
        sigmas: tuple[float, ...],
        draws: int,
        metrics: tuple[str, ...],
    ) -> list[ComparisonRow]:
        """Trains and scores the member, unless that is done already, and returns its scores.

        Args:
          member: the network.
          source: the photographs to score.
          split: name of the file that the scores are kept in, without its ending.
          sigmas: noise levels to score at, from 0 to 255.
          draws: number of noise draws that each score is averaged over.
          metrics: names of the metrics; psnr must be one of them.

        Returns:
          A row for each photograph and noise level. There are none if the member diverged, even if
          only its output shows that.

        Raises:
          InputError: if kept scores cannot be read, or do not fit the photographs.
        """
        self.ensure_trained(member)
        path = self._folder / member.name / f"{split}.csv"
        if self.diverged(member):
            return []
        rows = read_or_score(
            path,
            functools.partial(self.load_or_retrain, member),
            source,
            loss=member.loss,
            seed=member.seed,
            sigmas=sigmas,
            noise_seed=NOISE_SEED,
            draws=draws,
            metrics=metrics,
            say=functools.partial(self._console.print, soft_wrap=True),
        )
        # Checked on every call, because a kill may have come between writing the table and this.
        if has_diverged(rows):
            self._mark_diverged(
                member, f"its output for the {split} photographs contains NaN or infinity."
            )
            return []
        return rows

    def load_or_retrain(self, member: Member) -> Restore:
        """Loads the trained member, ready to restore.

        If its last checkpoint is damaged, its training resumes from an older one.

        Args:
          member: a network that is trained.

        Returns:
          A function that restores an image, given the level of its noise.
        """
        return make_restore(self._load_or_retrain_network(member), self._fit.data.sigma)

    def _load_or_retrain_network(self, member: Member) -> Network:
        """The network of the last step; if that is damaged, training resumes to make it again."""
        folder = self._folder / member.name
        last = folder / FOLDER_NAME / str(self._fit.optimizer.steps)
        try:
            return load_network(last)
        except InputError as error:
            self._console.print(
                f"{member.name}: training resumes from an older checkpoint: {error}",
                soft_wrap=True,
            )
        (folder / _DONE).unlink(missing_ok=True)
        self.ensure_trained(member)
        return load_network(last)

    def is_trained(self, member: Member) -> bool:
        """Whether its training reached the last step."""
        return (self._folder / member.name / _DONE).exists()

    def validations(self, member: Member, metric: str) -> dict[int, float]:
        """Finite values of a validation metric by step, up to the newest checkpoint."""
        folder = self._folder / member.name
        newest = max(steps_in(folder / FOLDER_NAME), default=0)
        name = f"validation/{metric}"
        found = {}
        for _, row in read_lines(folder / METRICS_NAME):
            if row is not None and row["step"] <= newest and is_finite(row.get(name)):
                found[row["step"]] = row[name]
        return found

    def curve(self, member: Member) -> Curve:
        """The member's validation PSNR during its training, without values that are not finite."""
        steps: list[int] = []
        scores: list[float] = []
        for _, row in read_lines(self._folder / member.name / METRICS_NAME):
            if row is not None and is_finite(row.get("validation/psnr")):
                steps.append(row["step"])
                scores.append(row["validation/psnr"])
        return Curve(member.loss, member.seed, steps, scores)


def _shortest(number: float) -> str:
    """A number in a name, different for each number: ``g`` alone keeps only six digits."""
    short = f"{number:g}"
    return short if float(short) == number else repr(number)
