import io
import json
import math
import os
import resource
import socket
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from train.errors import InputError
from train.monitoring.metric_lines import cut_back
from train.monitoring.metric_writer import MetricWriter
from train.monitoring.tensorboard import Board, records


def _lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_logged_step_is_one_line_and_a_resume_repeats_none(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    console = Console(file=io.StringIO())
    with MetricWriter(path, console, start=0, steps=6) as writer:
        for step in (2, 4, 6):
            writer.write(step, {"loss": step / 10})
    with path.open("a") as file:
        file.write('{"step": 7, "lo')  # killed while writing
    with MetricWriter(path, console, start=4, steps=6) as writer:
        writer.write(6, {"loss": 0.5})
    assert _lines(path) == [
        {"step": 2, "loss": 0.2},
        {"step": 4, "loss": 0.4},
        {"step": 6, "loss": 0.5},
    ]


def test_where_no_bar_can_move_a_line_says_step_rate_and_terms(tmp_path: Path) -> None:
    output = io.StringIO()
    console = Console(file=output, width=200)
    with MetricWriter(tmp_path / "metrics.jsonl", console, start=0, steps=4) as writer:
        writer.write(4, {"loss": 0.25, "luminance": 0.2, "color": 0.3, "gradient_norm": 1.0})
    assert "step 4/4" in output.getvalue()
    assert "steps/s" in output.getvalue()
    assert "loss 0.25  luminance 0.2  color 0.3" in output.getvalue()
    assert "gradient_norm" not in output.getvalue()


def test_on_a_terminal_the_bar_shows_the_same(tmp_path: Path) -> None:
    output = io.StringIO()
    console = Console(file=output, width=200, force_terminal=True)
    with MetricWriter(tmp_path / "metrics.jsonl", console, start=0, steps=4) as writer:
        writer.write(4, {"loss": 0.25, "luminance": 0.2, "color": 0.3})
    assert "4/4" in output.getvalue()
    assert "steps/s" in output.getvalue()
    assert "luminance 0.2" in output.getvalue()


def _points(folder: Path) -> list[tuple[str, int]]:
    events = [event for path in sorted(folder.iterdir()) for _, event in records(path)]
    return sorted((value.tag, event.step) for event in events for value in event.summary.value)


def test_tensorboard_gets_the_same_and_is_cut_back_too(tmp_path: Path) -> None:
    console, folder = Console(file=io.StringIO()), tmp_path / "tensorboard"
    board = Board(folder, start=0)
    with MetricWriter(tmp_path / "metrics.jsonl", console, start=0, steps=6, board=board) as writer:
        for step in (2, 4, 6):
            writer.write(step, {"loss": math.nan if step == 2 else 0.5, "color": 0.25})
            writer.picture(step, "validation", np.zeros((4, 20, 3), np.uint8))
    assert _lines(tmp_path / "metrics.jsonl")[0] == {"step": 2, "loss": None, "color": 0.25}
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:-5])  # killed while writing
    board = Board(folder, start=4)
    with MetricWriter(tmp_path / "metrics.jsonl", console, start=4, steps=6, board=board) as writer:
        writer.write(6, {"loss": 0.125})
    expected = [
        ("color", 2),
        ("color", 4),
        ("loss", 4),
        ("loss", 6),
        ("validation", 2),
        ("validation", 4),
    ]
    assert _points(folder) == expected
    # What is kept is kept byte for byte: others read it too.
    kept = [
        event for _, event in records(path) for value in event.summary.value if value.tag == "loss"
    ]
    assert [event.summary.value[0].simple_value for event in kept] == [0.5]


def test_lines_that_cannot_be_read_are_kept_aside_and_said(tmp_path: Path) -> None:
    path, output = tmp_path / "metrics.jsonl", io.StringIO()
    wrong = [
        b"\xff\xfe\n",
        b"[1]\n",
        b"3\n",
        b'{"loss": 1}\n',
        b'{"step": "2"}\n',
        b'{"step": true}\n',
        b'{"step": NaN}\n',
        b'{"step": -Infinity}\n',
    ]
    wrong += [b"[" * 9000 + b"\n"]
    path.write_bytes(
        b'{"step": 2, "loss": 0.5}\n' + b"".join(wrong) + b'{"step": 4}\n{"step": 9}\n{"st'
    )
    with MetricWriter(path, Console(file=output, width=400), start=4, steps=9):
        pass
    assert _lines(path) == [{"step": 2, "loss": 0.5}, {"step": 4}]
    assert (tmp_path / "metrics.jsonl.unreadable").read_bytes() == b"".join(wrong)
    assert f"metrics.jsonl had {len(wrong)} unreadable lines" in output.getvalue()


def test_metrics_that_are_no_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/zero")
    with pytest.raises(InputError, match="is not a regular file. Rename or delete it"):
        MetricWriter(tmp_path / "metrics.jsonl", Console(file=io.StringIO()), start=0, steps=9)


def test_events_are_never_written_through_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    (tmp_path / "thesis").write_text("years of work")
    name = f"events.out.tfevents.{int(now)}.{socket.gethostname()}.from4"
    (tmp_path / "board").mkdir()
    (tmp_path / "board" / name).symlink_to(tmp_path / "thesis")
    board = Board(tmp_path / "board", start=4)
    board.scalars(5, {"loss": 0.5})
    board.close()
    assert (tmp_path / "thesis").read_text() == "years of work"


def test_lines_are_never_kept_aside_in_a_file_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("no JSON\n")
    (tmp_path / "thesis").write_text("years of work")
    os.link(tmp_path / "thesis", tmp_path / "metrics.jsonl.unreadable")
    with pytest.raises(InputError, match=r"metrics\.jsonl\.unreadable is a hard link"):
        cut_back(tmp_path / "metrics.jsonl", 4)
    assert (tmp_path / "thesis").read_text() == "years of work"


def test_an_event_file_that_holds_something_else_is_kept_aside(tmp_path: Path) -> None:
    Board(tmp_path, start=0).close()
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    harmed = whole + struct.pack("<Q", 4) + b"\0" * 4 + b"\xff" * 4 + b"\0" * 4 + whole
    path.write_bytes(harmed)
    Board(tmp_path, start=4).close()
    assert path.read_bytes() == whole + whole
    assert (tmp_path / f"unreadable.{path.name}").read_bytes() == harmed
    path.write_bytes(harmed + whole)
    Board(tmp_path, start=4).close()
    assert (tmp_path / f"unreadable.{path.name}").read_bytes() == harmed
    assert (tmp_path / f"unreadable.2.{path.name}").read_bytes() == harmed + whole


def test_a_full_disk_is_an_error_at_once_and_the_writer_closes(tmp_path: Path) -> None:
    """A limit of 2000 bytes per file acts like a full disk, but only for this process."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    board = Board(tmp_path, start=0)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            for step in range(1000):
                board.scalars(step, {"loss": 1.0})
        board.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_an_event_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "events.out"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 2_999_999_000) + bytes(4))
        file.truncate(3_000_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert [event for _, event in records(path)] == [None]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kilobytes
    Board(tmp_path, start=4).close()
    assert (tmp_path / "unreadable.events.out").stat().st_size == 3_000_000_000


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes have names here")
def test_pipes_and_links_among_event_files_are_left_alone(tmp_path: Path) -> None:
    board = tmp_path / "board"
    board.mkdir()
    (tmp_path / "theirs").write_text("not an event")
    (board / "events.link").symlink_to(tmp_path / "theirs")
    os.mkfifo(board / "events.pipe")
    Board(board, start=0).close()
    assert (board / "events.link").is_symlink() and (board / "events.pipe").is_fifo()
    assert (tmp_path / "theirs").read_text() == "not an event"


def test_huge_unreadable_lines_are_not_kept_in_memory(
    tmp_path: Path,
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n')
    os.truncate(path, 300_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    MetricWriter(path, Console(file=io.StringIO()), start=1, steps=2)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes
    assert path.read_text() == '{"step": 1}\n'


def test_metrics_of_gigabytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n')
    os.truncate(path, 4_000_000_000)
    with pytest.raises(
        InputError, match=r"metrics.jsonl has 4,000 MB. A run writes only a few hundred bytes"
    ):
        MetricWriter(path, Console(file=io.StringIO()), start=1, steps=2)
    assert [each.name for each in tmp_path.iterdir()] == ["metrics.jsonl"]
