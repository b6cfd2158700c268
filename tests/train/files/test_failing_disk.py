"""A disk that fails in the middle of a run ends it with one sentence, and costs no checkpoint."""

import contextlib
import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from train.__main__ import main
from train.data.images import write_image
from train.devices import last_words
from train.files import locks


@pytest.fixture
def flags(tiny_flags: tuple[str, ...], tmp_path: Path) -> list[str]:
    (tmp_path / "photographs").mkdir()
    image = np.random.default_rng(0).integers(0, 256, (24, 30, 3), dtype=np.uint8)
    write_image(tmp_path / "photographs" / "one.png", image)
    source = f"folder:{tmp_path / 'photographs'}"
    return [*tiny_flags, f"--data={source}", f"--test-data={source}", "--validation-data=none"]


@pytest.mark.parametrize(
    ("patched", "checkpoint", "then"),
    [
        pytest.param(
            "train.monitoring.tensorboard.Board.scalars",
            "There is no earlier checkpoint",
            "give the same command again",
            marks=pytest.mark.slow,
        ),
        (
            "train.monitoring.metric_writer.MetricWriter.write",
            "There is no earlier checkpoint",
            "give the same command again",
        ),
        (
            "train.loop.write_rows",
            "The newest intact checkpoint is {}/checkpoints/2",
            "resume fit with --resume {}",
        ),
    ],
)
def test_a_full_disk_is_one_sentence_that_says_what_is_left(
    patched: str,
    checkpoint: str,
    then: str,
    flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(patched, fail)
    out = tmp_path / "run"
    assert main(["fit", *flags, "--steps=2", f"--out={out}"]) == 2
    said = capsys.readouterr().err
    assert (
        f"error: {out} could not be written: No space left on device. {checkpoint.format(out)}."
        in said
    )
    assert then.format(out) in said
    monkeypatch.undo()
    again = (
        ["--resume", str(out)] if "newest" in checkpoint else [*flags, "--steps=2", f"--out={out}"]
    )
    assert main(["fit", *again]) == 0


def test_a_folder_that_may_only_be_read_is_not_resumed(
    flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, words = tmp_path / "run", []

    @contextlib.contextmanager
    def listening(run: object) -> Iterator[Callable[[str], None]]:
        yield words.append

    monkeypatch.setattr(last_words, "ending_together", listening)
    assert main(["fit", *flags, "--steps=2", "--checkpoint-every=1", f"--out={out}"]) == 0
    # What a process would leave as its last words: --resume only once there is a checkpoint.
    assert ["--resume" in said for said in words] == [False, True, True]
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}

    def refuse(path: object, *args: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(locks.os, "open", refuse)
    assert main(["fit", "--resume", str(out)]) == 2
    assert f"error: {out} cannot be written to: Read-only file system." in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
