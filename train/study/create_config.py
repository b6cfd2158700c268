"""Options of ``study create``, read before anything heavy is imported."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from train.bounds import MOST_NOISE, MOST_SEED, between, check_name, hint
from train.errors import InputError
from train.study.rules import (
    LETTERS,
    LONGEST_QUESTION,
    MOST_OBSERVERS,
    MOST_VOTES,
    Stop,
    Task,
)

_SIDES = (64, 8192)  # pixels of a crop
QUESTIONS: dict[Task, str] = {
    "preference": "Which picture do you prefer?",
    "fidelity": "Which picture is closer to the original?",
}


@dataclass(frozen=True)
class CreateConfig:
    """Make a blind viewing study of two or more sets of results.

    Observers then see pairs of results without knowing which is which. Next, use `study serve`.
    """

    study: Annotated[Path, tyro.conf.Positional]
    """Folder of the study. It is created, and must not contain a study yet."""
    a: Path | None = None
    """Folder of restored photographs. Or a network: the folder of a run or of a checkpoint, or the
    name of a bundled network. A network restores the photographs of --clean or --input, or the test
    photographs of its run."""
    b: Path | None = None
    """The same photographs, with the same names, restored differently: a folder or a network."""
    c: Path | None = None
    """A third set of results. Observers then compare every set with every other set."""
    d: Path | None = None
    """A fourth set of results."""
    e: Path | None = None
    """A fifth set of results."""
    f: Path | None = None
    """A sixth set of results."""
    comparison: Path | None = None
    """Folder of a finished `compare`, to use instead of --a and --b. For each of --losses, the
    network of the first seed restores the test photographs of the comparison, at its middle noise
    level. With --clean or --input, it restores those photographs instead."""
    losses: Annotated[tuple[str, ...], tyro.conf.arg(help_behavior_hint=hint)] = ()
    """The losses of --comparison whose networks are compared, up to six. Default: the first two."""
    clean: Path | None = None
    """Folder of the clean photographs. --task fidelity shows them. Unless --input is given, noise
    is added to them, and networks restore the noisy copies."""
    input: Path | None = None
    """Folder of the photographs before restoration, which networks restore. The pair that
    detects careless observers has an obvious answer: with --input and --clean, it shows the input
    next to the clean photograph, and otherwise a result next to a blurred copy of it."""
    sigma: float | None = None
    """Noise level (0 to 255) for networks: it is added to the photographs of --clean, and passed to
    networks that need one. None: the one that the networks were trained with, or an estimate for
    each photograph of --input."""
    task: Task = "preference"
    """preference: two results. fidelity: two results with the clean photograph between them."""
    question: Annotated[str, tyro.conf.arg(help_behavior_hint=hint)] = ""
    """What observers are asked. Default: a sentence that fits --task."""
    observers: int = 1
    """Number of people who take part."""
    votes_per_pair: int = 1
    """Number of times that each observer votes on each pair. The sides alternate."""
    crop: int | None = 512
    """Side in pixels of the square that is shown: the part of each photograph in which the results
    differ most. None: the whole photograph."""
    stop: Stop = "fixed"
    """How the study ends. fixed: after all votes. sequential (only with one observer): the pages
    say when there are enough votes for a verdict. The verdict then takes into account that the
    votes are checked after each one."""
    seed: int | None = None
    """Seed for the order and the sides of the pairs. None: a random one, which nobody can guess."""

    def __post_init__(self) -> None:
        for flag in ("study", *LETTERS, "comparison", "clean", "input"):
            check_name(
                "the folder of the study" if flag == "study" else f"--{flag}", getattr(self, flag)
            )
        if self.comparison is not None:
            if given := [flag for flag in LETTERS if getattr(self, flag)]:
                raise InputError(f"--comparison has the networks already. Leave --{given[0]} out.")
            count = len(self.losses)
            if count and (not 2 <= count <= len(LETTERS) or len(set(self.losses)) < count):
                raise InputError(
                    f"--losses must be 2 to {len(LETTERS)} different losses of --comparison; got "
                    f"{' '.join(self.losses)}."
                )
        elif self.losses:
            raise InputError("--losses names networks of --comparison, which is not given.")
        elif self.a is None or self.b is None:
            raise InputError(
                "study create needs two folders of results with the same names. Give them with "
                "--a and --b, or give a finished comparison with --comparison."
            )
        elif gaps := [one for one in LETTERS[: len(self.folders)] if getattr(self, one) is None]:
            raise InputError(
                f"--{list(self.folders)[-1]} is given, but --{gaps[0]} is not. Name the sets --a, "
                "--b, --c and so on, without gaps."
            )
        if self.sigma is not None:
            between("--sigma", self.sigma, 0, most=MOST_NOISE)
        if len(self.question) > LONGEST_QUESTION or not self.question.isprintable():
            raise InputError(
                f"--question must be one line of at most {LONGEST_QUESTION} characters; got "
                f"{len(self.question)} characters."
            )
        between("--observers", self.observers, 1, most=MOST_OBSERVERS)
        between("--votes-per-pair", self.votes_per_pair, 1, most=MOST_VOTES)
        if self.stop == "sequential" and self.observers > 1:
            raise InputError(
                "--stop sequential is for one observer. Votes of several people are not "
                "independent, and the rule would raise false alarms in up to 30 % of studies. "
                "Leave --observers out, or use --stop fixed."
            )
        if self.stop == "sequential" and max(len(self.losses), len(self.folders)) > 2:
            raise InputError(
                "--stop sequential is for two sets. With more, each photograph has several scores, "
                "which are not independent. Leave the other sets out, or use --stop fixed."
            )
        if self.crop is not None:
            between("--crop", self.crop, _SIDES[0], most=_SIDES[1])
        if self.seed is not None:
            between("--seed", self.seed, 0, most=MOST_SEED)

    @property
    def folders(self) -> dict[str, Path]:
        """The folders of results by letter."""
        given = {letter: getattr(self, letter) for letter in LETTERS}
        return {letter: folder for letter, folder in given.items() if folder is not None}
