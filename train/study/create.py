"""Makes a study: reads the sets, decides what everybody sees, and writes one file."""

import datetime
import itertools
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from train.console import make_console, track
from train.errors import InputError, list_below
from train.files.outputs import check_writable
from train.study.create_config import QUESTIONS, CreateConfig
from train.study.picture_files import encode_alike
from train.study.pictures import (
    PictureSet,
    blurred,
    common_names,
    find_place,
    read_all,
)
from train.study.plan import Trial, plan_place
from train.study.rules import (
    FEWEST_PHOTOGRAPHS,
    LETTERS,
    MOST_PHOTOGRAPHS,
    PRACTICE,
    REST_EVERY,
    why_no_verdict,
)
from train.study.score_tables import rows_of
from train.study.sets import open_sets
from train.study.study_file import FILE_NAME, PlannedTrial, Terms, write_study

_TOKEN = 16  # random bytes of an address
_RESTS = 3  # breaks in a session of half an hour, the longest that ITU-R BT.500 recommends
_MOST_BYTES = 2_000_000_000  # all pixels, which are in memory until they are encoded


@dataclass
class _Gallery:
    """Pictures by photograph and by what they show, numbered as they are stored."""

    numbers: dict[tuple[int, str], int] = field(default_factory=dict)
    images: list[np.ndarray] = field(default_factory=list)

    def add(self, photograph: int, name: str, image: np.ndarray) -> None:
        self.numbers[photograph, name] = len(self.images)
        self.images.append(image)


def create(config: CreateConfig) -> None:
    """Makes the study that the options describe.

    Raises:
      InputError: if something cannot be compared, with the list of what is wrong.
    """
    console = make_console(soft_wrap=True)
    if os.path.lexists(config.study / FILE_NAME):
        raise InputError(
            f"{config.study} holds a study already, with its votes. Choose a different folder."
        )
    sets = open_sets(config)
    results, references = sets.results, sets.references
    letters = LETTERS[: len(results)]
    names = common_names([*results, *references])
    if len(names) < FEWEST_PHOTOGRAPHS:
        raise InputError(
            f"A study needs at least {FEWEST_PHOTOGRAPHS} photographs, and 10 for a verdict; the "
            f"sets have {len(names)}."
        )
    if len(names) > MOST_PHOTOGRAPHS:
        raise InputError(
            f"A study has at most {MOST_PHOTOGRAPHS:,} photographs; the sets have {len(names):,}. "
            "Use folders with fewer of them."
        )
    has_input = any(each.flag == "--input" for each in references)
    obvious = ("clean", "input") if has_input else ("a", "blurred")
    check_writable(config.study)
    for warning in sets.warnings:
        console.print(f"warning: {warning}")
    gallery = _read(config, [*results, *references], letters, names)
    seed = secrets.randbits(62) if config.seed is None else config.seed
    trials = _plan(config, len(names), letters, obvious, seed, gallery)
    about = Terms(
        id=secrets.token_hex(8),
        task=config.task,
        question=config.question or QUESTIONS[config.task],
        names=tuple(each.name for each in results),
        sets=letters,
        digests=tuple(each.digest for each in results),
        observers=config.observers,
        votes_per_pair=config.votes_per_pair,
        seed=seed,
        stop=config.stop,
        obvious=obvious,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    write_study(
        config.study,
        about,
        photographs=names,
        pictures=encode_alike(gallery.images),
        trials=trials,
        scores=rows_of(results, letters, names),
    )
    shown = len(trials) // config.observers
    console.print(
        f"{len(names)} photographs in {len(letters)} sets, {config.observers} "
        f"{'observers' if config.observers > 1 else 'observer'}. Each sees {shown} pairs, of which "
        f"the first {min(PRACTICE, len(names))} are practice and do not count."
    )
    if shown > REST_EVERY * _RESTS:
        console.print(
            f"note: {shown} pairs take more than half an hour, after which eyes tire. A break is "
            f"suggested after every {REST_EVERY}. Fewer photographs or sets take less time."
        )
    for note in filter(None, (each.note for each in results)):
        console.print(f"note: {note}")
    if why := why_no_verdict(len(names)):
        # The sets may be folders, and networks restore any photographs.
        more = "Add photographs to the sets."
        if any(each.digest for each in results):
            more = "Name a folder with more of them: --clean FOLDER."
        console.print(
            f"note: {why}. Several parts of one photograph would not help, because they are alike. "
            f"{more}"
        )
    console.print(f"Next: python -m train study serve {config.study}")


def _read(
    config: CreateConfig, sets: Sequence[PictureSet], letters: Sequence[str], names: Sequence[str]
) -> _Gallery:
    """Reads and crops every picture. InputError: with the list of all that cannot be compared."""
    gallery, wrong, size = _Gallery(), [], 0
    results = len(letters)
    shown = track(names, "reading", console=make_console())  # Networks need seconds for each.
    for number, name in enumerate(shown):
        try:
            images = read_all(sets, name)
        except InputError as error:
            wrong.append(str(error))
            continue
        rows, columns = find_place(images[:results], config.crop)
        images = [image[rows, columns].copy() for image in images]
        flags = [*letters, *(each.flag.removeprefix("--") for each in sets[results:])]
        for flag, image in zip(flags, images, strict=True):
            gallery.add(number, flag, image)
        if "input" not in flags:
            gallery.add(number, "blurred", blurred(images[0]))
        for first, second in itertools.combinations(range(results), 2):
            if np.array_equal(images[first], images[second]):
                both = " and ".join(
                    f"{letters[i].upper()} ({sets[i].name})" for i in (first, second)
                )
                wrong.append(f"{name} is identical in {both}, so that there is nothing to see")
        if (size := size + sum(image.nbytes for image in images)) > _MOST_BYTES:
            raise InputError(
                f"The pictures have more than {_MOST_BYTES:,} bytes. Use fewer photographs, or a "
                "smaller --crop."
            )
    if wrong:
        raise InputError("These photographs cannot be compared:" + list_below(wrong))
    return gallery


def _plan(
    config: CreateConfig,
    photographs: int,
    letters: Sequence[str],
    obvious: tuple[str, str],
    seed: int,
    gallery: _Gallery,
) -> list[PlannedTrial]:
    """Everything that all observers see, with a random address for each picture that is shown."""
    rows = []
    for place in range(config.observers):
        planned = plan_place(
            place,
            photographs,
            letters,
            obvious=obvious,
            votes_per_pair=config.votes_per_pair,
            seed=seed,
        )
        for position, trial in enumerate(planned):
            rows.append(_row(config, place, position, trial, gallery))
    return rows


def _row(
    config: CreateConfig, place: int, position: int, trial: Trial, gallery: _Gallery
) -> PlannedTrial:
    clean = None
    if config.task == "fidelity":
        clean = gallery.numbers[trial.photograph, "clean"]
    # The addresses come from the system's source of randomness. Those from a seed could be guessed.
    tokens = [secrets.token_urlsafe(_TOKEN) for _ in range(4)]
    return PlannedTrial(
        place=place,
        position=position,
        token=tokens[0],
        kind=trial.kind,
        photograph=trial.photograph,
        left_name=trial.left,
        right_name=trial.right,
        left_picture=gallery.numbers[trial.photograph, trial.left],
        right_picture=gallery.numbers[trial.photograph, trial.right],
        clean_picture=clean,
        left_token=tokens[1],
        right_token=tokens[2],
        clean_token=tokens[3],
    )
