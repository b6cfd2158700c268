"""Windows of batches from photographs that do not stay in memory, cut by threads or processes."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from train.data import pipeline
from train.data.batch import Pair
from train.data.cutting import Threads
from train.data.images import write_image
from train.data.photographs import Memory
from train.data.pipeline import PatchBatches, stream
from train.data.sources import open_source
from train.data.splits import Splits, data_warnings
from train.data.windows import Windows
from train.errors import InputError

# The program of another process: it starts workers, prints their ids, and waits to be killed.
_RUN = """
import sys, time, multiprocessing
from train.data.photographs import Memory
from train.data.pipeline import PatchBatches, stream
from train.data.sources import open_source
if __name__ == "__main__":
    source = open_source("folder:" + sys.argv[1], "train", memory=Memory(0))
    batches = PatchBatches(source, patch_size=4, batch_size=4, seed=0)
    taken = stream(batches, start=0, stop=10**6, workers=2)
    next(taken)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of 8 and of 16 bits, each with its own size."""
    folder, rng = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    for side, highest in (("low", 256), ("high", 65536)):
        (folder / side).mkdir()
        for i in range(5):
            kind = np.uint8 if highest == 256 else np.uint16
            write_image(
                folder / side / f"{i}.png", rng.integers(0, highest, (9 + i, 11, 3), dtype=kind)
            )
    return folder


def _open(pairs: Path, megabytes: float = 0) -> PatchBatches:
    source = open_source(f"pairs:{pairs}/low,{pairs}/high", "train", memory=Memory(megabytes))
    return PatchBatches(source, patch_size=4, batch_size=6, seed=3)


def batch_of(batches: PatchBatches, index: int) -> Any:
    """The batch with this number alone."""
    (batch,) = pipeline._each(batches.global_batches(range(index, index + 1)))
    return batch


@pytest.mark.parametrize("most", [1, 2, 3, 8, 100])
def test_windows_hold_every_batch_once_in_order_and_grow(most: int) -> None:
    for count in range(40):
        windows = Windows(5, 5 + count, most)
        ranges = [windows[i] for i in range(len(windows))]
        assert [index for window in ranges for index in window] == list(range(5, 5 + count))
        assert all(
            0 < len(window) <= min(most, 2 ** (i + 1) - 1) for i, window in enumerate(ranges)
        )


def test_each_photograph_is_decoded_once_for_a_window(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = _open(pairs)
    decoded = []
    images = batches.cutter.sides[1]
    for i, photograph in enumerate(images._photographs):
        decode = photograph.decode
        monkeypatch.setattr(
            photograph, "decode", lambda i=i, decode=decode: decoded.append(i) or decode()
        )
    batches.global_batches(range(20))
    assert sorted(decoded) == [0, 1, 2, 3, 4]


def test_threads_decode_and_one_of_them_cuts_what_is_decoded(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = _open(pairs, megabytes=10)
    for images in batches.cutter.sides:
        for photograph in images._photographs[:3]:  # opening has decoded all of them
            photograph._kept = None
    cut = batches.cutter.cut
    seen: list[tuple[bool, bool]] = []  # whether it was decoded, and whether the caller cuts

    def watched(side: int, photograph: int, corners: Any, out: Any) -> None:
        seen.append(
            (
                batches.cutter.is_decoded(side, photograph),
                threading.current_thread() is threading.main_thread(),
            )
        )
        cut(side, photograph, corners, out)

    monkeypatch.setattr(batches.cutter, "cut", watched)
    filler = Threads(2, batches.cutter)
    first, second = (batches.global_batches(range(20), filler=filler) for _ in range(2))
    filler.close()
    assert sorted(seen) == [(False, False)] * 6 + [(True, True)] * 14
    np.testing.assert_array_equal(first.degraded, second.degraded)
    np.testing.assert_array_equal(first.clean, second.clean)


def test_any_number_of_workers_gives_the_same_bits(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = _open(pairs, megabytes=10)
    assert kept.window() == 8
    batches = _open(pairs)
    monkeypatch.setattr(pipeline, "_WINDOW_BYTES", 7 * 6 * 4 * 4 * 3 * (1 + 2))
    assert batches.window() == 7
    expected = [batch_of(kept, i) for i in range(20)]
    for workers, start in ((0, 0), (1, 0), (2, 0), (2, 13)):
        found = list(stream(batches, start=start, stop=20, workers=workers))
        assert len(found) == 20 - start
        for given, wanted in zip(found, expected[start:], strict=True):
            assert isinstance(given, Pair) and isinstance(wanted, Pair)
            assert (given.degraded.dtype, given.clean.dtype) == (np.uint8, np.uint16)
            np.testing.assert_array_equal(given.degraded, wanted.degraded)
            np.testing.assert_array_equal(given.clean, wanted.clean)


def test_an_error_in_a_worker_is_the_users_to_read(pairs: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "only.png", np.zeros((8, 8, 3), np.uint8))
    source = open_source(f"folder:{tmp_path}", "train", memory=Memory(0))
    batches = PatchBatches(source, patch_size=4, batch_size=2, seed=0)
    (tmp_path / "only.png").unlink()
    with pytest.raises(InputError, match=r"only\.png cannot be read: No such file"):
        list(stream(batches, start=0, stop=3, workers=1))


def test_a_photograph_that_changes_stops_the_stream(tmp_path: Path) -> None:
    for shape, kind in (((8, 9, 3), np.uint8), ((8, 8, 3), np.uint16)):
        write_image(tmp_path / "only.png", np.zeros((8, 8, 3), np.uint8))
        batches = PatchBatches(
            open_source(f"folder:{tmp_path}", "train", memory=Memory(0)),
            patch_size=4,
            batch_size=2,
            seed=0,
        )
        batch_of(batches, 0)
        write_image(tmp_path / "only.png", np.zeros(shape, kind))
        with pytest.raises(InputError, match=r"only\.png has changed since the run began"):
            batch_of(batches, 1)


def test_workers_that_are_not_needed_are_reported(pairs: Path) -> None:
    for megabytes, said in (
        (10, "--workers 2 does nothing: all photographs fit into"),
        (0, "5 of 5 photographs do not fit into"),
    ):
        source = open_source(f"folder:{pairs}/high", "train", memory=Memory(megabytes))
        other = open_source(f"folder:{pairs}/low", "test")
        (sentence,) = data_warnings(Splits(source, None, other), workers=2)
        assert sentence.startswith(said)


def test_workers_end_with_a_run_that_is_killed(pairs: Path, tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(_RUN)
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, str(script), str(pairs / "high")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(root)}
    ) as run:
        assert run.stdout is not None
        workers = [int(pid) for pid in run.stdout.readline().split()]
        assert len(workers) == 2 and all(_alive(pid) for pid in workers)
        run.send_signal(signal.SIGKILL)
        run.wait()
        for _ in range(200):
            if not any(_alive(pid) for pid in workers):
                return
            time.sleep(0.1)
    raise AssertionError("workers outlived the run")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_ctrl_c_never_reaches_a_worker_even_while_it_starts(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = []

    def look(self: Any, *arguments: Any, **options: Any) -> Any:
        cut = submit(self, *arguments, **options)
        for child in multiprocessing.active_children():
            blocked.append(_blocks_ctrl_c(str(child.pid)))
        return cut

    submit = ProcessPoolExecutor.map
    monkeypatch.setattr(ProcessPoolExecutor, "map", look)
    next(stream(_open(pairs), start=0, stop=1, workers=2))
    assert len(blocked) >= 2 and all(blocked)
    assert not _blocks_ctrl_c("thread-self")


def _blocks_ctrl_c(process: str) -> bool:
    status = Path(f"/proc/{process}/status").read_text()
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:"))
    return bool(int(mask, 16) >> (signal.SIGINT - 1) & 1)


def _alive(pid: int) -> bool:
    """Whether a process runs.

    One that has ended may still be listed, as a zombie, until it is waited for.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
