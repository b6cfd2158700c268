"""Weights and states on disk, through Orbax: written in the background, whole or not at all, the newest two kept.

A checkpoint is a folder of three items: ``weights`` (parameters and batch statistics: all that running the network
needs), ``training`` (step and optimizer: what going on needs) and ``about`` (JSON: the network's spec, and where the
weights are from), so that a checkpoint is whole by itself wherever it is copied to.
"""

import contextlib
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, SingleDeviceSharding

from train.errors import InputError
from train.network import build_model, init_variables
from train.state import TrainState

FOLDER_NAME = "checkpoints"
_VERSIONED = ("lumloss-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


class Checkpoints:
    """The checkpoints of one run, numbered by the updates made."""

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Opens ``folder``, made where it is missing; ``about`` is written into every checkpoint."""
        options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)
        self._about = {**about, "versions": _versions()}
        self.folder = folder

    def save(self, state: TrainState) -> None:
        """Saves ``state`` under its step, unless that is on disk already; returns while the files are written."""
        step = int(state.step)
        if step == self._manager.latest_step():
            return
        items = {
            "weights": ocp.args.StandardSave(_weights(state)),
            "training": ocp.args.StandardSave(_training(state)),
            "about": ocp.args.JsonSave({**self._about, "step": step}),
        }
        self._manager.save(step, args=ocp.args.Composite(**items))

    def restore(self, like: TrainState, sharding: NamedSharding) -> TrainState:
        """The newest state, in the shapes of ``like`` and laid out by ``sharding``."""
        step = self._manager.latest_step()
        if step is None:
            raise InputError(f"{self.folder} holds no checkpoint: the run was stopped before its first; start it anew.")
        targets = {
            "weights": ocp.args.StandardRestore(_targets(_weights(like), sharding)),
            "training": ocp.args.StandardRestore(_targets(_training(like), sharding)),
        }
        items = self._manager.restore(step, args=ocp.args.Composite(**targets))
        return TrainState(**items["weights"], **items["training"])

    def newest(self) -> Path:
        """Folder of the newest checkpoint, once it is wholly written."""
        self._manager.wait_until_finished()
        return self.folder / str(self._manager.latest_step())

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.close()


@contextlib.contextmanager
def open_checkpoints(folder: Path, about: Mapping[str, Any]) -> Iterator[Checkpoints]:
    """Checkpoints that are closed, and so complete, however the block ends."""
    checkpoints = Checkpoints(folder, about)
    try:
        yield checkpoints
    finally:
        checkpoints.close()


class Network(NamedTuple):
    """A network as a checkpoint holds it."""

    model: nn.Module
    spec: str
    params: Any
    batch_stats: Any


def save_network(folder: Path, network: Network, about: Mapping[str, Any]) -> None:
    """Writes a network's weights as a checkpoint of their own; ``about`` says where they are from."""
    items = {
        "weights": ocp.args.StandardSave({"params": network.params, "batch_stats": network.batch_stats}),
        "about": ocp.args.JsonSave({**about, "model": network.spec, "versions": _versions()}),
    }
    with contextlib.closing(ocp.Checkpointer(ocp.CompositeCheckpointHandler())) as writer:
        writer.save(folder.absolute(), args=ocp.args.Composite(**items))


def load_network(path: Path) -> Network:
    """The network of a checkpoint's folder, or of a run's newest checkpoint, on the first device."""
    folder = _checkpoint_folder(path)
    with contextlib.closing(ocp.Checkpointer(ocp.CompositeCheckpointHandler())) as reader:
        about = reader.restore(folder, args=ocp.args.Composite(about=ocp.args.JsonRestore()))["about"]
        model = build_model(about["model"])
        like = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
        target = ocp.args.StandardRestore(_targets(like, SingleDeviceSharding(jax.local_devices()[0])))
        weights = reader.restore(folder, args=ocp.args.Composite(weights=target))["weights"]
    return Network(model, about["model"], weights["params"], weights["batch_stats"])


def load_weights(path: Path, model: nn.Module, spec: str) -> dict[str, Any]:
    """Parameters and batch statistics for ``model`` from a checkpoint of a network of the same shapes."""
    network = load_network(path)
    weights = {"params": network.params, "batch_stats": network.batch_stats}
    wanted = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
    if _shapes(weights) != _shapes(wanted):
        raise InputError(
            f'{path} holds "{network.spec}", whose weights do not fit "{spec}": pass --model that network.'
        )
    return weights


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _checkpoint_folder(path: Path) -> Path:
    if not path.is_dir():
        raise InputError(f"There is no folder {path}: give that of a run, or of one of its checkpoints.")
    if (path / "weights").is_dir():
        return path.absolute()
    below = path / FOLDER_NAME if (path / FOLDER_NAME).is_dir() else path
    steps = [int(p.name) for p in below.iterdir() if p.name.isdigit() and (p / "weights").is_dir()]
    if not steps:
        raise InputError(f"{path} holds no checkpoint: give the folder of a run, or of one of its checkpoints.")
    return (below / str(max(steps))).absolute()


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in _VERSIONED}


def _weights(state: TrainState) -> dict[str, Any]:
    return {"params": state.params, "batch_stats": state.batch_stats}


def _training(state: TrainState) -> dict[str, Any]:
    return {"step": state.step, "opt_state": state.opt_state}


def _targets(tree: Any, sharding: NamedSharding | SingleDeviceSharding) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
