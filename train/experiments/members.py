"""The networks that a comparison trains: one run of ``fit`` each, in a folder of its own, trained and scored once."""

import dataclasses
import hashlib
import json
import math
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from train import loop
from train.checkpoint import FOLDER_NAME, load_network
from train.checkpoint_files import steps_in
from train.config import FitConfig
from train.data.sources import Source
from train.errors import InputError
from train.experiments.compare_config import Population
from train.experiments.folders import write_json
from train.experiments.lockstep import fit_together
from train.experiments.report import Curve
from train.experiments.scores import Score, read_scores, score, write_scores
from train.inference.predict import Predict, make_predictor

NOISE_SEED = 20_231_104  # of the evaluation, apart from any seed of a training
_DONE = "done"
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
        clip = "" if self.clip_norm is None else f"-clip{self.clip_norm:g}"
        return f"{readable}-{digest}-lr{self.learning_rate:g}{clip}-seed{self.seed}"

    def config(self, fit: FitConfig, folder: Path) -> FitConfig:
        """What its run is configured as: ``fit`` in all but what makes it this member."""
        return dataclasses.replace(
            fit,
            seed=self.seed,
            model=dataclasses.replace(fit.model, loss=self.loss),
            optimizer=dataclasses.replace(fit.optimizer, learning_rate=self.learning_rate, clip_norm=self.clip_norm),
            run=dataclasses.replace(fit.run, out=str(folder)),
        )


class Members:
    """Trains and scores members under one folder; what is there already is taken as it is."""

    def __init__(self, folder: Path, fit: FitConfig, console: Console, population: Population = "loop") -> None:
        self._folder, self._fit, self._console, self._population = folder, fit, console, population

    def train(self, member: Member, watch: loop.Watch | None = None) -> bool:
        """Trains the member, from its newest checkpoint where it was stopped; False where ``watch`` ended it early."""
        folder = self._folder / member.name
        if (folder / _DONE).exists():
            return True
        config, before = self._prepared(member)
        self._console.print(f"training {member.name}", soft_wrap=True)
        began = time.monotonic()
        try:
            loop.fit(config, report=False, watch=watch)
        finally:  # also where it was stopped, which raises
            self._finished([member], [before], time.monotonic() - began)
        return (folder / _DONE).exists()

    def train_all(self, members: Sequence[Member]) -> None:
        """Trains those that are not trained yet: one after the other, or at once."""
        left = [member for member in dict.fromkeys(members) if not (self._folder / member.name / _DONE).exists()]
        if self._population == "loop" or not left:
            for member in left:
                self.train(member)
            return
        for member in left:
            self._console.print(f"training {member.name}", soft_wrap=True)
        configs, before = zip(*map(self._prepared, left), strict=True)
        began = time.monotonic()
        try:
            fit_together(configs, self._devices(), self._console)
        finally:
            self._finished(left, before, time.monotonic() - began)

    def cost(self, members: Sequence[Member]) -> tuple[float, int]:
        """Seconds that training these took, and the steps of all of them that were measured."""
        paths = {self._folder / member.name / _COST for member in members}
        costs = [json.loads(path.read_text()) for path in paths if path.exists()]
        return math.fsum(cost["seconds"] for cost in costs), sum(cost["steps"] for cost in costs)

    def _devices(self) -> list[jax.Device]:
        available, asked = jax.devices(), self._fit.run.devices
        if asked is not None and asked > len(available):
            raise InputError(f"--devices {asked}: there are {len(available)} here; take that many or fewer.")
        return available[: 1 if self._population == "vmap" else asked]

    def _prepared(self, member: Member) -> tuple[FitConfig, int]:
        """How to train it on from where it was stopped, and the step of that."""
        folder = self._folder / member.name
        config = member.config(self._fit, folder)
        steps = steps_in(folder / FOLDER_NAME)
        if steps:
            config = dataclasses.replace(config, run=dataclasses.replace(config.run, out=None, resume=str(folder)))
        else:
            shutil.rmtree(folder, ignore_errors=True)  # stopped before its first checkpoint: nothing of value is in it
        return config, max(steps, default=0)

    def _finished(self, members: Sequence[Member], before: Sequence[int], seconds: float) -> None:
        """Marks those that have their last step, and adds to what they cost: each has an even share of the time."""
        for member, start in zip(members, before, strict=True):
            folder = self._folder / member.name
            newest = max(steps_in(folder / FOLDER_NAME), default=0)
            if newest > start:
                spent, steps = self.cost([member])
                write_json({"seconds": spent + seconds / len(members), "steps": steps + newest - start}, folder / _COST)
            if newest == self._fit.optimizer.steps:
                (folder / _DONE).touch()

    def score(self, member: Member, source: Source, split: str, sigmas: tuple[float, ...], draws: int) -> list[Score]:
        """The member's scores on ``source``, from the file named after ``split`` where they are there."""
        self.train(member)
        path = self._folder / member.name / f"{split}.csv"
        if not path.exists():
            rows = score(
                self.predictor(member),
                source,
                loss=member.loss,
                seed=member.seed,
                sigmas=sigmas,
                noise_seed=NOISE_SEED,
                draws=draws,
            )
            write_scores(rows, path)
        return read_scores(path)

    def predictor(self, member: Member) -> Predict:
        """The trained member, ready to restore."""
        network = load_network(self._folder / member.name)
        return make_predictor(network.model, network.params, network.batch_stats, sigma=self._fit.data.sigma / 255)

    def curve(self, member: Member) -> Curve:
        """The member's validation PSNR while it was trained."""
        lines = (self._folder / member.name / "metrics.jsonl").read_text().splitlines()
        rows: list[dict[str, Any]] = [row for row in map(json.loads, lines) if "validation/psnr" in row]
        return Curve(member.loss, member.seed, [row["step"] for row in rows], [row["validation/psnr"] for row in rows])
