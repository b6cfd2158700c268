"""A small study: twelve photographs, two sets of results, three observers."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from train.__main__ import main
from train.data.images import write_image
from train.study.guard import LOOPBACK
from train.study.messages import read_messages
from train.study.sent import Ballot, Conditions
from train.study.serve import _listen, make_server
from train.study.server import make_app
from train.study.study_file import FILE_NAME, reading
from train.study.votes import Votes

NOISE = {"clean": 0, "a": 4, "b": 12, "input": 40, "c": 20}
CONDITIONS = Conditions(60.0, 1400, 900, 1.0, "srgb")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders a, b, c, clean and input with the same twelve names."""
    root = tmp_path_factory.mktemp("results")
    random = np.random.default_rng(0)
    for name in ("a", "b", "c", "clean", "input"):
        (root / name).mkdir()
    for number in range(12):
        clean = np.zeros((72, 80, 3)) + random.integers(60, 200, 3)
        clean[20:50, 30:60] += 40
        for name, noise in NOISE.items():
            noisy = clean + noise * random.standard_normal(clean.shape)
            image = np.rint(np.clip(noisy, 0, 255)).astype(np.uint8)
            write_image(root / name / f"p{number:02d}.png", image)
    return root


@pytest.fixture(scope="session")
def make_study(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a study with flags of ``study create``; the same flags give copies of one file."""
    made: dict[tuple[str, ...], Path] = {}

    def make(*flags: str) -> Path:
        if flags not in made:
            folder = tmp_path_factory.mktemp("study")
            given = ["--a", str(folders / "a"), "--b", str(folders / "b"), "--seed", "3"]
            assert main(["study", "create", str(folder), *given, *flags]) == 0
            made[flags] = folder
        copy = tmp_path_factory.mktemp("copy")
        shutil.copy(made[flags] / FILE_NAME, copy / FILE_NAME)
        return copy

    return make


@pytest.fixture
def study(make_study: Callable[..., Path], folders: Path) -> Path:
    """A study of three observers with clean photographs and inputs."""
    flags = ("--clean", str(folders / "clean"), "--input", str(folders / "input"))
    return make_study(*flags, "--observers", "3")


@pytest.fixture
def votes(study: Path) -> Iterator[Votes]:
    """The open study."""
    opened = Votes(study)
    yield opened
    opened.close()


class Robots:
    """Observers who vote by a rule."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.votes = Votes(folder)
        with reading(folder) as file:
            rows = file.execute("SELECT token, kind, left_name, right_name, photograph FROM trials")
            self.trials = {row["token"]: tuple(row)[1:] for row in rows}

    def observe(self, rule: Callable[[str, str, str, int], str], *, most: int = 10**6) -> int:
        """A new observer votes by ``rule(kind, left, right, photograph)``; returns the place."""
        session = self.votes.begin(CONDITIONS)
        place = self.votes.place_of(session)
        assert place is not None
        while most > 0 and (shown := self.votes.shown(place)) is not None:
            choice = rule(*self.trials[shown.trial])
            ballot = Ballot(shown.trial, choice, False, False, 1000)
            assert self.votes.vote(place, ballot) == "counted"
            most -= 1
        return place


@pytest.fixture
def robots(study: Path) -> Iterator[Robots]:
    """Observers of the study."""
    made = Robots(study)
    yield made
    made.votes.close()


def side_of(name: str, left: str) -> str:
    """The side on which a set is shown."""
    return "left" if left == name else "right"


def served(votes: Votes) -> Iterator[str]:
    """Yields the address of a server in a thread, which stops when this is closed."""
    listener = _listen("127.0.0.1", 0)
    app = make_app(votes, read_messages("en"), hosts=LOOPBACK)
    server = make_server(app)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def chromium():
    """The system's Chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        # A browser is no Python package, so no extra can bring it. CI installs it.
        pytest.skip("needs Chromium on the system")
    # Chromium has no sandbox for the user root.
    flags = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def few(folders, tmp_path) -> Iterator[Votes]:
    """A study of four photographs, with 14 pairs for each observer."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(4):
            shutil.copy(folders / name / f"p{number:02d}.png", tmp_path / name)
    flags = ["--a", str(tmp_path / "a"), "--b", str(tmp_path / "b"), "--observers", "2"]
    assert main(["study", "create", str(tmp_path / "few"), *flags]) == 0
    opened = Votes(tmp_path / "few")
    yield opened
    opened.close()
