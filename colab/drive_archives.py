"""Copies checkpoints to Google Drive, so that a run can resume after its Colab runtime is lost.

Orbax writes thousands of small files and renames folders. On a mounted Drive this is slow and not
atomic. So a run stays on the runtime's own disk. When a checkpoint is finished there, it is packed
together with what ``--resume`` needs and copied to the mount as one file. To resume, the newest
archive is unpacked first.
"""

import contextlib
import itertools
import os
import re
import shutil
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from train.checkpoints.checkpoint import FOLDER_NAME
from train.checkpoints.checkpoint_files import steps_in
from train.checkpoints.run_folder import CONFIG_NAME, can_resume

# What a resumed run reads or continues to write
_BESIDE = (
    CONFIG_NAME,
    "split.json",
    "metrics.jsonl",
)
_ARCHIVE = re.compile(r"(?P<run>.+)-step-(?P<step>\d+)\.tar")


@contextlib.contextmanager
def copied(run: Path, mount: Path, *, every: float = 30.0, keep: int = 2) -> Iterator[None]:
    """Copies each finished checkpoint of ``run`` to ``mount`` while the ``with`` block runs.

    Checkpoints that are not copied by the end of the block are copied then.

    Args:
      run: folder of the run, on the runtime's own disk. It need not exist yet.
      mount: folder to copy to.
      every: seconds between looks at the run.
      keep: number of the run's archives to keep, at least 1. Older ones are removed.
    """
    mount.mkdir(parents=True, exist_ok=True)
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(every):
            copy_new(run, mount, keep=keep)

    thread = threading.Thread(target=look, name="copies to the mount", daemon=True)
    thread.start()
    try:
        yield
    finally:  # also if the run was interrupted, because it has saved by then
        ended.set()
        thread.join()
        copy_new(run, mount, keep=keep)


def copy_new(run: Path, mount: Path, *, keep: int = 2) -> None:
    """Copies those of the newest ``keep`` checkpoints of ``run`` that ``mount`` does not have yet.

    Only finished checkpoints that are newer than the newest archive are copied. If a copy fails,
    because the mount is full or gone, it is reported and tried again at the next look. Training
    continues.
    """
    newest = max(_archives(mount, run.name), default=-1)
    for step in sorted(steps_in(run / FOLDER_NAME))[-keep:]:
        if step > newest:
            try:
                _copy(run, step, mount)
            except OSError as error:
                print(f"the checkpoint of step {step} was not copied to {mount}: {error}")
                return
    found = _archives(mount, run.name)
    for step in sorted(found)[:-keep]:
        found[step].unlink(missing_ok=True)


def _copy(run: Path, step: int, mount: Path) -> None:
    archive = mount / f"{run.name}-step-{step}.tar"
    with tempfile.TemporaryDirectory() as scratch:
        packed = Path(scratch) / archive.name
        with tarfile.open(packed, "w") as tar:
            for path in (*(run / name for name in _BESIDE), run / FOLDER_NAME / str(step)):
                if path.exists():
                    tar.add(path, Path(run.name, path.relative_to(run)))
        # It has a different name until it is complete: the runtime may be lost at any moment.
        partial = archive.with_name(f"{archive.name}.partial")
        shutil.copyfile(packed, partial)
        os.replace(partial, archive)
    print(f"copied step {step} to {archive} ({archive.stat().st_size / 1e6:.1f} MB)")


def bring_back(run: Path, mount: Path) -> bool:
    """Brings ``run`` back from its newest archive if necessary; returns whether it can be resumed.

    A run that stopped before its first checkpoint can neither be resumed nor overwritten. It is
    moved aside and not deleted, because it may contain damaged checkpoints.
    """
    if can_resume(run):
        return True
    if run.exists():
        names = (run.with_name(f"{run.name}-stopped-{number}") for number in itertools.count(1))
        aside = next(path for path in names if not path.exists())
        run.rename(aside)
        print(f"{run} contains no checkpoint and was moved to {aside}")
    if found := archives(run, mount):
        unpack(found[-1], run)
    return bool(found)


def archives(run: Path, mount: Path) -> list[Path]:
    """The archives of a run on the mount, from the oldest to the newest."""
    return [path for _, path in sorted(_archives(mount, run.name).items())]


def unpack(archive: Path, run: Path) -> None:
    """Unpacks an archive as the folder ``run``, completely or not at all."""
    run.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=run.parent) as scratch:
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
        (inside,) = Path(scratch).iterdir()
        inside.rename(run)
    print(f"unpacked {archive} to {run}")


def _archives(mount: Path, run: str) -> dict[int, Path]:
    """Archives of a run by their step."""
    matches = {
        path: _ARCHIVE.fullmatch(path.name) for path in (mount.iterdir() if mount.is_dir() else ())
    }
    return {
        int(match["step"]): path for path, match in matches.items() if match and match["run"] == run
    }
