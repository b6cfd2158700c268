"""colab/drive_archives.py: finished checkpoints get to the mount as one file each, and back."""

import tarfile
import time
from pathlib import Path

import drive_archives
import pytest


@pytest.fixture
def run(tmp_path) -> Path:
    """A run's folder as far as its checkpoints go."""
    run = tmp_path / "runs" / "one"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text("{}")
    (run / "metrics.jsonl").write_text('{"step": 1}\n')
    return run


@pytest.fixture
def mount(tmp_path) -> Path:
    (tmp_path / "mount").mkdir()
    return tmp_path / "mount"


def save(run: Path, step: int | str) -> None:
    folder = run / "checkpoints" / str(step) / "weights"
    folder.mkdir(parents=True)
    (folder / "array").write_text(f"of {step}")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_finished_checkpoint_is_one_file_and_comes_back_whole(run, mount, tmp_path):
    save(run, 10)
    drive_archives.copy_new(run, mount)
    assert names(mount) == ["one-step-10.tar"]
    back = tmp_path / "new" / "one"
    assert drive_archives.bring_back(back, mount)
    assert (back / "checkpoints" / "10" / "weights" / "array").read_text() == "of 10"
    assert names(back) == ["checkpoints", "config.json", "metrics.jsonl"]
    assert names(back.parent) == ["one"]


def test_what_orbax_is_still_writing_is_not_copied(run, mount):
    save(run, "10.orbax-checkpoint-tmp-1")
    drive_archives.copy_new(run, mount)
    assert names(mount) == []


def test_the_newest_two_are_kept_by_their_number(run, mount, capsys):
    for step in (90, 100, 110):
        save(run, step)
        drive_archives.copy_new(run, mount)
    drive_archives.copy_new(run, mount)
    assert names(mount) == ["one-step-100.tar", "one-step-110.tar"]
    assert [path.name for path in drive_archives.archives(run, mount)] == names(mount)
    # And the best of long ago is not copied again
    assert capsys.readouterr().out.count("copied step") == 3


def test_other_runs_and_parts_of_files_are_left_alone(run, mount):
    for name in ("another-one-step-99.tar", "one-step-99.tar.partial", "holiday.jpg"):
        (mount / name).write_text("not ours")
    for step in (1, 2, 3):
        save(run, step)
        drive_archives.copy_new(run, mount, keep=1)
    assert names(mount) == [
        "another-one-step-99.tar",
        "holiday.jpg",
        "one-step-3.tar",
        "one-step-99.tar.partial",
    ]


def test_a_mount_that_is_gone_is_said_and_tried_again(run, mount, capsys):
    save(run, 10)
    mount.rmdir()
    mount.write_text("a file now")
    drive_archives.copy_new(run, mount)
    assert "the checkpoint of step 10 was not copied" in capsys.readouterr().out
    mount.unlink()
    mount.mkdir()
    drive_archives.copy_new(run, mount)
    assert names(mount) == ["one-step-10.tar"]


def test_a_run_that_is_there_is_not_written_over(run, mount):
    save(run, 10)
    drive_archives.copy_new(run, mount)
    save(run, 20)
    assert drive_archives.bring_back(run, mount)
    assert names(run / "checkpoints") == ["10", "20"]


def test_a_run_of_which_nothing_was_kept_begins(run, mount):
    assert not drive_archives.bring_back(run.with_name("two"), mount)
    assert names(run.parent) == ["one"]


def test_what_stopped_before_its_first_checkpoint_makes_room_and_is_not_deleted(run, mount):
    for _ in range(2):
        assert not drive_archives.bring_back(run, mount)
        assert not run.exists()
        run.mkdir()
        (run / "config.json").write_text("{}")
    assert names(run.parent) == ["one", "one-stopped-1", "one-stopped-2"]
    assert (run.with_name("one-stopped-1") / "metrics.jsonl").is_file()


def test_an_archive_is_taken_where_the_folder_holds_no_checkpoint(run, mount):
    save(run, 10)
    drive_archives.copy_new(run, mount)
    (run / "checkpoints" / "10").rename(run / "checkpoints" / "10.orbax-checkpoint-tmp-1")
    assert drive_archives.bring_back(run, mount)
    assert names(run / "checkpoints") == ["10"]


def test_an_archive_that_is_cut_leaves_no_run_behind(run, mount, tmp_path):
    save(run, 10)
    drive_archives.copy_new(run, mount)
    whole = (mount / "one-step-10.tar").read_bytes()
    (mount / "one-step-10.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises((tarfile.TarError, EOFError, OSError)):
        drive_archives.bring_back(tmp_path / "new" / "one", mount)
    assert names(tmp_path / "new") == []


def test_copies_are_made_while_the_run_goes_on_and_when_it_is_interrupted(run, mount):
    def seen() -> bool:
        return (mount / "one-step-10.tar").exists()

    with pytest.raises(KeyboardInterrupt), drive_archives.copied(run, mount, every=0.01):
        save(run, 10)
        deadline = time.monotonic() + 60
        while not seen() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert seen()
        save(run, 20)
        raise KeyboardInterrupt
    assert names(mount) == ["one-step-10.tar", "one-step-20.tar"]
