"""Checkpoints on Google Drive, one archive for each: what a lost Colab runtime goes on from.

Orbax writes thousands of small files and renames folders, which a mounted Drive does slowly and not
in one go. So a run stays on the runtime's own disk, and whenever a checkpoint is finished there, it
is packed with what ``--resume`` needs and copied to the mount as one file. To go on, the newest
archive is unpacked and the run resumed.
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

from train.checkpoint import FOLDER_NAME
from train.checkpoint_files import steps_in
from train.run_folder import CONFIG_NAME, can_resume

# What a resumed run reads or goes on writing
_BESIDE = (
    CONFIG_NAME,
    "split.json",
    "metrics.jsonl",
)
_ARCHIVE = re.compile(r"(?P<run>.+)-step-(?P<step>\d+)\.tar")


@contextlib.contextmanager
def copied(run: Path, mount: Path, *, every: float = 30.0, keep: int = 2) -> Iterator[None]:
    """Within it, each finished checkpoint of ``run`` is copied to ``mount``; what is left over, when it ends.

    Args:
      run: folder of the run, on the runtime's own disk; it may not be there yet.
      mount: folder to copy to.
      every: seconds between looks at the run.
      keep: archives of the run to keep, 1 or more; older ones are removed.
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
    finally:  # also where the run was interrupted: it has saved then
        ended.set()
        thread.join()
        copy_new(run, mount, keep=keep)


def copy_new(run: Path, mount: Path, *, keep: int = 2) -> None:
    """Copies the newest ``keep`` finished checkpoints of ``run``, those of them that are newer than what ``mount`` has.

    A copy that fails (the mount is full, or gone) is said and tried again at the next look:
    training goes on.
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
        # Under another name until it is whole: the runtime may be lost at any moment.
        partial = archive.with_name(f"{archive.name}.partial")
        shutil.copyfile(packed, partial)
        os.replace(partial, archive)
    print(f"copied step {step} to {archive} ({archive.stat().st_size / 1e6:.1f} MB)")


def bring_back(run: Path, mount: Path) -> bool:
    """Whether ``run`` can be resumed: as it is, or brought back from its newest archive on the mount.

    What stopped before its first checkpoint can neither be resumed nor written over: it is moved
    aside, not deleted, for damaged checkpoints may be in there.
    """
    if can_resume(run):
        return True
    if run.exists():
        names = (run.with_name(f"{run.name}-stopped-{number}") for number in itertools.count(1))
        aside = next(path for path in names if not path.exists())
        run.rename(aside)
        print(f"{run} holds no checkpoint; moved to {aside}")
    if found := archives(run, mount):
        unpack(found[-1], run)
    return bool(found)


def archives(run: Path, mount: Path) -> list[Path]:
    """The archives of a run on the mount, the newest last."""
    return [path for _, path in sorted(_archives(mount, run.name).items())]


def unpack(archive: Path, run: Path) -> None:
    """Unpacks an archive as the folder ``run``, whole or not at all."""
    run.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=run.parent) as scratch:
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
        (inside,) = Path(scratch).iterdir()
        inside.rename(run)
    print(f"unpacked {archive} to {run}")


def _archives(mount: Path, run: str) -> dict[int, Path]:
    """Step -> archive, of a run."""
    matches = {
        path: _ARCHIVE.fullmatch(path.name) for path in (mount.iterdir() if mount.is_dir() else ())
    }
    return {
        int(match["step"]): path for path, match in matches.items() if match and match["run"] == run
    }
