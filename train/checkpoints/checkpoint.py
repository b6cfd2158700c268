"""Weights and states on disk, through Orbax: written in the background, and verified when read.

A checkpoint is a folder with three items. ``weights`` has the parameters and batch statistics that
the network needs to run, or their averages if a run keeps averages. ``training`` has the rest that
a resumed run needs: optimizer, step and learned loss weights. ``about`` is JSON with the network's
spec, the origin of the weights, and a digest of every array. So a checkpoint is complete wherever
it is copied to. Orbax notices truncated files, and the digests reveal flipped bits.
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
from jax.sharding import NamedSharding, SingleDeviceSharding

from train.checkpoints.bundled import is_bundled, load_bundled
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
from train.checkpoints.imported_later import imported_later
from train.checkpoints.versions import package_versions
from train.devices import distributed
from train.errors import InputError, first_line
from train.files import locks
from train.network import build_model, init_variables
from train.state import Guard, TrainState

ocp = imported_later("orbax.checkpoint")

FOLDER_NAME = "checkpoints"
Warn = Callable[[str], None]


def load_newest(
    folder: Path, like: TrainState, layout: TrainState | NamedSharding, warn: Warn
) -> tuple[TrainState, dict[str, Any]]:
    """Loads the newest intact state.

    A damaged checkpoint is reported and moved aside, so that the run can write this step again. If
    all checkpoints are damaged, they stay, because the cause may be the disk or the version of the
    program.

    Args:
      folder: all checkpoints of a run. :class:`Checkpoints` must not have opened it yet.
      like: a state of the same shapes, or its shapes.
      layout: a state of shardings, or one sharding for all arrays. It may differ from the layout of
        the run that saved the checkpoint.
      warn: prints a sentence about each damaged checkpoint.

    Returns:
      The state, and the item ``about`` of its checkpoint.

    Raises:
      InputError: no checkpoint is intact.
    """
    where = jax.tree.map(lambda x: layout, like) if isinstance(layout, NamedSharding) else layout
    targets = jax.tree.map(
        lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), like, where
    )
    wrong: dict[int, Damaged] = {}
    for step in sorted(steps_in(folder), reverse=True):
        try:
            about, items = read_items(
                folder / str(step), lambda about: _targets_for(about, targets)
            )
            if about.get("step") != step:
                raise Damaged(
                    f"about: it is the checkpoint of step {about.get('step')}; rename the folder "
                    "accordingly"
                )
        except Damaged as error:
            wrong[step] = error
            continue
        for damaged, why in wrong.items():
            aside = move_aside(folder / str(damaged))
            warn(
                f"the checkpoint of step {damaged} is damaged ({why}). It was moved to {aside}, "
                "and the one before it is used"
            )
        for other in steps_in(folder) if distributed.is_first() else []:
            if drop_unreadable_metrics(folder / str(other)):
                warn(
                    f"the validation metrics of the checkpoint of step {other} are damaged, so it "
                    "cannot be the best"
                )
        return _state(items), about
    if wrong:
        listed = "\n  ".join(f"{folder / str(step)}: {why}" for step, why in wrong.items())
        raise InputError(
            f"All checkpoints in {folder} are damaged. They stay where they are. If the cause is "
            "the disk, or the version of this program, fix that and resume again. Otherwise move "
            f"{folder.parent} away and start a new run, with --init-from one of them if its "
            f"weights are intact:\n  {listed}"
        )
    raise InputError(
        f"There is no checkpoint in {folder}, because the run was stopped before the first one. "
        f"Repeat the command that started it. It will start over in {folder.parent}."
    )


def check_disk_space(runs: Mapping[Path, TrainState], checkpoints: int) -> None:
    """Refuses, before training, a disk that is too full for the checkpoints.

    Args:
      runs: folders of checkpoints on the same disk, each with a state like those that will be saved
        there, or its shapes.
      checkpoints: number of checkpoints that each run keeps, without the one being written.

    Raises:
      InputError: the disk is too full.
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
            f"{first} has {free / 1e6:,.0f} MB of free space, which is too little for {count} "
            f"checkpoints of {largest / 1e6:,.1f} MB. Free some space, or choose a different --out."
        )


class Network(NamedTuple):
    """A network as it is stored in a checkpoint."""

    model: nn.Module
    spec: str  # such as "dncnn(depth=17)"
    params: Any
    batch_stats: Any  # {} without batch norm


def save_network(folder: Path, network: Network, about: Mapping[str, Any]) -> None:
    """Writes a network's weights as a checkpoint, and reads it again to verify it.

    Args:
      folder: folder of the checkpoint. It must not exist.
      network: the network and its weights.
      about: the origin of the weights.

    Raises:
      InputError: the folder exists, or cannot be written.
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
        # Orbax writes to a new folder next to this one, and renames it.
        with locks.hold(folder.parent):
            if os.path.lexists(folder):
                raise InputError(f"{folder} exists already. Remove it, or write to a new folder.")
            remove_unfinished(folder)
            ignore_late_answers()
            with contextlib.closing(ocp.Checkpointer(ocp.CompositeCheckpointHandler())) as writer:
                writer.save(folder.absolute(), args=ocp.args.Composite(**items))
            read_items(folder, lambda about: jax.tree.map(on_host, arrays))
    except InputError:
        raise
    except Exception as error:  # Damaged, or one of the many errors of tensorstore.
        raise InputError(
            f"{folder} could not be written: {first_line(error)}. Is the disk full?"
        ) from error


def load_network(path: Path, *, warn: Warn = warnings.warn) -> Network:
    """Loads the network of a checkpoint, or of a run's newest intact one, to the first device.

    The name of a bundled network is accepted too.
    """
    sharding = SingleDeviceSharding(jax.local_devices()[0])
    if is_bundled(path):
        spec, variables, _ = load_bundled(path)
        weights = jax.device_put(variables, sharding)
        return Network(build_model(spec), spec, weights["params"], weights["batch_stats"])

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
            warn(f"{line}. {folder} is used instead")
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
      path: folder of a checkpoint or of a run.
      model: the network that the weights are for.
      spec: its spec, for the error message.
      warn: prints a sentence about each damaged checkpoint.

    Returns:
      A dictionary of "params" and "batch_stats".

    Raises:
      InputError: the weights do not fit, or no checkpoint is intact.
    """
    network = load_network(path, warn=warn)
    weights = {"params": network.params, "batch_stats": network.batch_stats}
    wanted = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
    if _shapes(weights) != _shapes(wanted):
        raise InputError(
            f'{path} contains weights of "{network.spec}", which do not fit "{spec}". Give '
            f"--model '{network.spec}', or --init-from None to start from random weights."
        )
    return weights


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    return {
        jax.tree_util.keystr(path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def weights_item(state: TrainState) -> dict[str, Any]:
    """Selects the part of a state that the network runs with."""
    return {"params": state.eval_params, "batch_stats": state.eval_batch_stats}


def training_item(state: TrainState) -> dict[str, Any]:
    """Selects the rest of a state.

    If ``weights`` has averages, this has the parameters and batch statistics that are averaged.
    """
    rest = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    del rest["batch_stats"], rest["average"], rest["average_stats"]
    rest["params"] = state.params if state.average else {}
    return {**rest, "batch_stats": state.batch_stats} if state.average_stats else rest


class _OldGuard(NamedTuple):
    """The guard with the names of its fields in checkpoints of earlier versions."""

    skipped: Any
    in_row: Any
    culprits: Any

    @classmethod
    def of(cls, guard: Guard) -> "_OldGuard":
        """Makes the target for reading an old guard."""
        return cls(guard.skipped, in_row=guard.consecutive_skips, culprits=guard.nonfinite)

    def renamed(self) -> Guard:
        """Returns the same numbers with the present names."""
        return Guard(self.skipped, consecutive_skips=self.in_row, nonfinite=self.culprits)


def _targets_for(about: Mapping[str, Any], like: TrainState) -> dict[str, Any]:
    """Makes the targets for reading a checkpoint of ``like``, in the form of its version.

    Earlier versions did not average batch statistics, so their checkpoints have only one set.
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
    # The statistics are copied, because a state is donated, and a buffer can be donated only once.
    stats = training.pop("batch_stats", None) or jax.tree.map(jnp.copy, weights["batch_stats"])
    return TrainState(
        **training,
        params=moved,
        batch_stats=stats,
        average=weights["params"],
        average_stats=weights["batch_stats"],
    )


def on_host(array: Any) -> np.ndarray:
    """Makes an array of the same shape and type without memory, as a target for reading."""
    return np.broadcast_to(np.zeros((), array.dtype), array.shape)


def _targets(tree: Any, sharding: NamedSharding | SingleDeviceSharding) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
