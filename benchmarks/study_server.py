"""How fast the server of a viewing study starts, and how it serves many observers at once.

Observers are threads of this program, so they share the machine with the server. Each asks for a
pair, fetches its pictures and votes, without a pause.

    python benchmarks/study_server.py
"""

import concurrent.futures
import contextlib
import http.client
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from train.__main__ import main as train
from train.data.images import write_image
from train.study.study_file import FILE_NAME

_CONDITIONS = {"distance": 60, "width": 1400, "height": 900, "ratio": 1, "gamut": "srgb"}
_SIDE = 512  # pixels


@dataclass(frozen=True)
class ServerConfig:
    """Settings of the benchmark."""

    observers: int = 50
    """Number of observers at once."""
    votes: int = 20
    """Number of votes of each observer."""
    photographs: int = 20
    """Number of photographs. Their pictures are noise, which compresses least."""
    starts: int = 5
    """Number of times that the server is started."""


def make_study(folder: Path, config: ServerConfig) -> Path:
    """Makes a study of random pictures."""
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir()
        for number in range(config.photographs):
            image = random.integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
            write_image(folder / name / f"{number}.png", image)
    sets = ["--a", str(folder / "a"), "--b", str(folder / "b")]
    study = folder / "study"
    train(["study", "create", str(study), *sets, "--observers", str(config.observers)])
    return study


@contextlib.contextmanager
def served(study: Path) -> Iterator[tuple[int, float]]:
    """Starts a server; yields its port and the seconds until its first page arrived."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "train", "study", "serve", str(study), "--port=0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r":(\d+)/", process.stdout.readline())
        assert found is not None
        port = int(found[1])
        Observer(port).ask("GET", "/")
        yield port, time.perf_counter() - began
    finally:
        process.kill()
        process.communicate()


class Observer:
    """An observer who keeps one connection open, as a browser does."""

    def __init__(self, port: int) -> None:
        """Connects at the first request."""
        self._port, self._cookie = port, ""
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def ask(self, method: str, path: str, content: object = None) -> bytes:
        """Sends a request and returns the answer."""
        headers = {"Cookie": self._cookie}
        if method == "POST":
            headers["Origin"] = f"http://127.0.0.1:{self._port}"
            headers["Content-Type"] = "application/json"
        body = json.dumps(content) if content else None
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        if cookie := answer.getheader("set-cookie"):
            self._cookie = cookie.partition(";")[0]
        said = answer.read()
        assert answer.status == 200, (path, answer.status)
        return said

    def observe(self, votes: int) -> list[tuple[float, float]]:
        """Votes; returns the seconds for showing each pair and for saving each vote."""
        self.ask("POST", "/begin", _CONDITIONS)
        took = []
        for _ in range(votes):
            began = time.perf_counter()
            page = self.ask("GET", "/pair").decode()
            for address in re.findall(r"/picture/[\w-]+", page):
                self.ask("GET", address)
            shown = time.perf_counter()
            found = re.search(r'"trial": "([^"]+)"', page)
            assert found is not None
            ballot = {"trial": found[1], "choice": "none", "zoomed": False, "flickered": False}
            self.ask("POST", "/vote", {**ballot, "milliseconds": 1000})
            took.append((shown - began, time.perf_counter() - shown))
        return took


def main(config: ServerConfig) -> None:
    """Prints the times."""
    with tempfile.TemporaryDirectory() as folder:
        study = make_study(Path(folder), config)
        starts = []
        for _ in range(config.starts):
            with served(study) as (_, seconds):
                starts.append(seconds)
        size = (study / FILE_NAME).stat().st_size / 1e6
        print(
            f"start to the first page: median {statistics.median(starts):.2f} s, slowest "
            f"{max(starts):.2f} s of {config.starts}; the study has {size:.0f} MB"
        )
        with (
            served(study) as (port, _),
            concurrent.futures.ThreadPoolExecutor(config.observers) as pool,
        ):
            began = time.perf_counter()
            observing = [
                pool.submit(Observer(port).observe, config.votes) for _ in range(config.observers)
            ]
            took = [times for each in observing for times in each.result()]
            seconds = time.perf_counter() - began
    shown, saved = ([1000 * times[i] for times in took] for i in (0, 1))
    print(f"{config.observers} observers, {len(took)} votes: {len(took) / seconds:.0f} per second")
    for what, times in (("a pair with its pictures", shown), ("a vote on disk", saved)):
        print(
            f"{what}: median {statistics.median(times):.0f} ms, 95 % within "
            f"{np.percentile(times, 95):.0f} ms"
        )


if __name__ == "__main__":
    main(tyro.cli(ServerConfig))
