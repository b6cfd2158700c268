"""The networks that a comparison trains: one run of ``fit`` each, in a folder of its own, trained and scored once."""

import dataclasses
import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from train import loop
from train.checkpoint import FOLDER_NAME, load_network
from train.checkpoint_files import steps_in
from train.config import FitConfig
from train.data.sources import Source
from train.experiments.report import Curve
from train.experiments.scores import Score, read_scores, score, write_scores
from train.inference.predict import Predict, make_predictor

NOISE_SEED = 20_231_104  # of the evaluation, apart from any seed of a training
_DONE = "done"


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

    def __init__(self, folder: Path, fit: FitConfig, console: Console) -> None:
        self._folder, self._fit, self._console = folder, fit, console

    def train(self, member: Member, watch: loop.Watch | None = None) -> bool:
        """Trains the member, from its newest checkpoint where it was stopped; False where ``watch`` ended it early."""
        folder = self._folder / member.name
        if (folder / _DONE).exists():
            return True
        config = member.config(self._fit, folder)
        if steps_in(folder / FOLDER_NAME):
            config = dataclasses.replace(config, run=dataclasses.replace(config.run, out=None, resume=str(folder)))
        else:
            shutil.rmtree(folder, ignore_errors=True)  # stopped before its first checkpoint: nothing of value is in it
        self._console.print(f"training {member.name}", soft_wrap=True)
        loop.fit(config, report=False, watch=watch)
        if max(steps_in(folder / FOLDER_NAME)) < config.optimizer.steps:
            return False
        (folder / _DONE).touch()
        return True

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
