"""States on disk, through Orbax: written in the background, whole or not at all, the newest two kept."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding

from train.errors import InputError
from train.state import TrainState


class Checkpoints:
    """The checkpoints of one run, numbered by the updates made."""

    def __init__(self, folder: Path) -> None:
        """Opens ``folder``, made where it is missing."""
        options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)
        self.folder = folder

    def save(self, state: TrainState) -> None:
        """Saves ``state`` under its step, unless that is on disk already; returns while the files are written."""
        step = int(state.step)
        if step != self._manager.latest_step():
            self._manager.save(step, args=ocp.args.StandardSave(state))

    def restore(self, like: TrainState, sharding: NamedSharding) -> TrainState:
        """The newest state, in the shapes of ``like`` and laid out by ``sharding``."""
        step = self._manager.latest_step()
        if step is None:
            raise InputError(f"{self.folder} holds no checkpoint: the run was stopped before its first; start it anew.")
        target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), like)
        return self._manager.restore(step, args=ocp.args.StandardRestore(target))

    def newest(self) -> Path:
        """Folder of the newest checkpoint, once it is wholly written."""
        self._manager.wait_until_finished()
        return self.folder / str(self._manager.latest_step())

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.close()


@contextlib.contextmanager
def open_checkpoints(folder: Path) -> Iterator[Checkpoints]:
    """Checkpoints that are closed, and so complete, however the block ends."""
    checkpoints = Checkpoints(folder)
    try:
        yield checkpoints
    finally:
        checkpoints.close()
