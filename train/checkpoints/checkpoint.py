"""Weights and states on disk, through Orbax: written in the background, and verified when read.

A checkpoint is a folder of three items: ``weights`` (parameters and batch statistics: all that
running the network needs; the averages of both if a run keeps averages), ``training`` (optimizer,
step, learned loss weights: what going on needs) and ``about`` (JSON: the network's spec, where the
weights are from, and a digest of every array), so that a checkpoint is whole by itself wherever it
is copied to. Orbax notices files that are cut short, but not bits that flip: the digests do.
"""

import contextlib
import dataclasses
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, SingleDeviceSharding

from train.checkpoints.checkpoint_files import (
    Damaged,
    check_path,
    checkpoint_folders,
    drop_unreadable_metrics,
    ignore_late_answers,
    move_aside,
    read_items,
    remove_unfinished,
    sealed,
    steps_in,
)
from train.checkpoints.versions import package_versions
from train.devices import distributed
from train.errors import InputError, first_line
from train.files import locks
from train.network import build_model, init_variables
from train.state import Guard, TrainState

FOLDER_NAME = "checkpoints"
Warn = Callable[[str], None]


def load_newest(
    folder: Path, like: TrainState, layout: TrainState | NamedSharding, warn: Warn
) -> tuple[TrainState, dict[str, Any]]:
    """Loads the newest state that is whole.

    A layout is a state of shardings, or one sharding for all arrays; it need not be that of the run
    that saved.

    A checkpoint that is damaged is named in a warning and moved aside, so that the run can write
    that step again; but not where none is whole, for then it may be the disk, or the version that
    reads, and not the checkpoints. To be called before the folder is opened by
    :class:`Checkpoints`.

    Args:
      folder: of all checkpoints of a run. :class:`Checkpoints` must not have opened it yet.
      like: a state of the same shapes, or its shapes.
      layout: where the arrays shall lie: a state of shardings, or one sharding for all arrays. It
        need not be the layout of the run that saved them.
      warn: takes a sentence about each damaged checkpoint.

    Returns:
      The state, and what its checkpoint says of itself.

    Raises:
      InputError: if no checkpoint is whole.
    """
    where = jax.tree.map(lambda x: layout, like) if isinstance(layout, NamedSharding) else layout
    aims = jax.tree.map(
        lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), like, where
    )
    wrong: dict[int, Damaged] = {}
    for step in sorted(steps_in(folder), reverse=True):
        try:
            about, items = read_items(folder / str(step), lambda about: _targets_for(about, aims))
            if about.get("step") != step:
                raise Damaged(
                    f"about: it is the checkpoint of step {about.get('step')}; give the folder "
                    "that name"
                )
        except Damaged as error:
            wrong[step] = error
            continue
        for damaged, why in wrong.items():
            aside = move_aside(folder / str(damaged))
            warn(
                f"the checkpoint of step {damaged} is damaged ({why}); moved to {aside}; taking "
                "the one before"
            )
        for other in steps_in(folder) if distributed.is_first() else []:
            if drop_unreadable_metrics(folder / str(other)):
                warn(
                    f"the validation metrics of the checkpoint of step {other} are damaged: it "
                    "cannot be the best"
                )
        return _state(items), about
    if wrong:
        listed = "\n  ".join(f"{folder / str(step)}: {why}" for step, why in wrong.items())
        raise InputError(
            f"{folder} holds no whole checkpoint; all are left where they are. If the reason is "
            "the disk, or the version that reads them, fix that and resume again. Otherwise move "
            f"{folder.parent} away and start a new run, with --init-from one of them if its "
            f"weights are whole:\n  {listed}"
        )
    raise InputError(
        f"{folder} holds no checkpoint: the run was stopped before its first. Give the command "
        f"that started it again: it starts over in {folder.parent}."
    )


def check_disk_space(runs: Mapping[Path, TrainState], checkpoints: int) -> None:
    """Refuses, before training, a disk that cannot hold the checkpoints.

    Args:
      runs: folders of checkpoints, on one disk, each with a state as will be saved there, or its
        shapes.
      checkpoints: that each of them keeps, beside the one that is being written.
    """
    count, needed, largest = 0, 0, 0
    for folder, like in runs.items():
        size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(like))
        missing = max(checkpoints + 1 - len(steps_in(folder)), 1)
        count, needed, largest = count + missing, needed + missing * size, max(largest, size)
    first = next(iter(runs)).parent
    free = shutil.disk_usage(first).free
    if free < needed:
        raise InputError(
            f"{first} has {free / 1e6:,.0f} MB free, and {count} checkpoints of "
            f"{largest / 1e6:,.1f} MB are to be written there: free some space, or take another "
            "--out."
        )


class Network(NamedTuple):
    """A network as a checkpoint holds it."""

    model: nn.Module
    spec: str
    params: Any
    batch_stats: Any


def save_network(folder: Path, network: Network, about: Mapping[str, Any]) -> None:
    """Writes a network's weights as a checkpoint of their own, and reads it back.

    Args:
      folder: of the checkpoint, which must not exist.
      network: its weights.
      about: where they are from.

    Raises:
      InputError: if the folder exists, or cannot be written.
    """
    check_path(folder)
    arrays = {"weights": {"params": network.params, "batch_stats": network.batch_stats}}
    about = {**about, "model": network.spec, "versions": package_versions()}
    items = {
        "weights": ocp.args.StandardSave(arrays["weights"]),
        "about": ocp.args.JsonSave(sealed(about, arrays)),
    }
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Orbax writes under a name beside the folder, and renames that
        with locks.hold(folder.parent):
            if os.path.lexists(folder):
                raise InputError(f"{folder} exists already: remove it, or write elsewhere.")
            remove_unfinished(folder)
            ignore_late_answers()
            with contextlib.closing(ocp.Checkpointer(ocp.CompositeCheckpointHandler())) as writer:
                writer.save(folder.absolute(), args=ocp.args.Composite(**items))
            read_items(folder, lambda about: jax.tree.map(on_host, arrays))
    except InputError:
        raise
    except Exception as error:  # Damaged, or what tensorstore raises, which has no one type
        raise InputError(
            f"{folder} could not be written: {first_line(error)}. Is the disk full?"
        ) from error


def load_network(path: Path, *, warn: Warn = warnings.warn) -> Network:
    """The network of a checkpoint, or of a run's newest whole checkpoint, on the first device."""
    sharding = SingleDeviceSharding(jax.local_devices()[0])

    def targets(about: Mapping[str, Any]) -> dict[str, Any]:
        model = build_model(about["model"])
        return {
            "weights": _targets(
                jax.eval_shape(lambda: init_variables(model, jax.random.key(0))), sharding
            )
        }

    wrong = []
    for folder in checkpoint_folders(path, FOLDER_NAME):
        try:
            about, items = read_items(folder, targets)
        except Damaged as error:
            wrong.append(f"{folder} is damaged: {error}")
            continue
        for line in wrong:
            warn(f"{line}; taking {folder}")
        weights = items["weights"]
        return Network(
            build_model(about["model"]), about["model"], weights["params"], weights["batch_stats"]
        )
    raise InputError("; ".join(wrong))


def load_weights(
    path: Path, model: nn.Module, spec: str, *, warn: Warn = warnings.warn
) -> dict[str, Any]:
    """Loads parameters and batch statistics for ``model`` from a checkpoint of the same shapes.

    Args:
      path: a checkpoint's folder, or a run's.
      model: the network that the weights are for.
      spec: its spec, for the error.
      warn: takes a sentence about each damaged checkpoint.

    Returns:
      The items "params" and "batch_stats".

    Raises:
      InputError: if the weights do not fit, or no checkpoint is whole.
    """
    network = load_network(path, warn=warn)
    weights = {"params": network.params, "batch_stats": network.batch_stats}
    wanted = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
    if _shapes(weights) != _shapes(wanted):
        raise InputError(
            f'{path} holds "{network.spec}", whose weights do not fit "{spec}": pass --model that '
            "network."
        )
    return weights


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    return {
        jax.tree_util.keystr(path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def weights_item(state: TrainState) -> dict[str, Any]:
    """What the network is run with."""
    return {"params": state.eval_params, "batch_stats": state.eval_batch_stats}


def training_item(state: TrainState) -> dict[str, Any]:
    """Everything else.

    If ``weights`` holds averages, this has the parameters and batch statistics that they are
    averages of.
    """
    rest = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    del rest["batch_stats"], rest["average"], rest["average_stats"]
    rest["params"] = state.params if state.average else {}
    return {**rest, "batch_stats": state.batch_stats} if state.average_stats else rest


class _OldGuard(NamedTuple):
    """The guard by the names that its fields had in checkpoints of earlier versions."""

    skipped: Any
    in_row: Any
    culprits: Any

    @classmethod
    def of(cls, guard: Guard) -> "_OldGuard":
        """What to read an old guard into."""
        return cls(guard.skipped, in_row=guard.consecutive_skips, culprits=guard.nonfinite)

    def renamed(self) -> Guard:
        """The same numbers by today's names."""
        return Guard(self.skipped, consecutive_skips=self.in_row, nonfinite=self.culprits)


def _targets_for(about: Mapping[str, Any], like: TrainState) -> dict[str, Any]:
    """What to read from a checkpoint of ``like``, in the form in which its version wrote it.

    Before averages of batch statistics were kept, a checkpoint had one set of them.
    """
    training = training_item(like)
    digests = about["digests"].get("training", ())
    if not any("batch_stats" in path for path in digests):
        training.pop("batch_stats", None)
    if any(path.endswith(".in_row") for path in digests):
        training["guard"] = _OldGuard.of(like.guard)
    return {"weights": weights_item(like), "training": training}


def _state(items: Mapping[str, Any]) -> TrainState:
    weights, training = items["weights"], dict(items["training"])
    if isinstance(training["guard"], _OldGuard):
        training["guard"] = training["guard"].renamed()
    moved = training.pop("params")
    if not moved:
        return TrainState(**training, **weights, average={}, average_stats={})
    # A copy for each, since a state's arrays are given away one by one.
    stats = training.pop("batch_stats", None) or jax.tree.map(jnp.copy, weights["batch_stats"])
    return TrainState(
        **training,
        params=moved,
        batch_stats=stats,
        average=weights["params"],
        average_stats=weights["batch_stats"],
    )


def on_host(array: Any) -> np.ndarray:
    """An array of that shape and type which takes no memory, as what to read another into."""
    return np.broadcast_to(np.zeros((), array.dtype), array.shape)


def _targets(tree: Any, sharding: NamedSharding | SingleDeviceSharding) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
