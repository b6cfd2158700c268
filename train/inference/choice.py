"""Which network restores, and which of the arguments are photographs."""

import os
from collections.abc import Sequence
from pathlib import Path

from train.checkpoints.bundled import DEFAULT, is_bundled, load_bundled
from train.checkpoints.checkpoint import FOLDER_NAME
from train.checkpoints.checkpoint_files import checkpoint_folders, steps_in
from train.checkpoints.run_folder import CONFIG_NAME
from train.errors import InputError

# Endings of weights of PyTorch, which must be imported first.
_WEIGHTS = (".pth", ".pt", ".ckpt", ".safetensors", ".npz")


def choose_network(inputs: Sequence[str], network: str | None) -> tuple[Path, tuple[str, ...]]:
    """Splits the arguments of ``restore`` into a network and photographs.

    Args:
      inputs: the arguments. The first one may be a run, a checkpoint, or the name of a bundled
        network.
      network: the value of --network. If it is given, all arguments are photographs.

    Returns:
      The folder or the name of the network, and the photographs. If no network was given, it is the
      bundled one.

    Raises:
      InputError: the first argument is a folder of runs, or a file of weights, so that a run was
        probably meant.
    """
    if network is not None:
        return Path(network), tuple(inputs)
    if inputs and inputs[0] and "\0" not in inputs[0]:
        first = Path(inputs[0])
        if first.suffix.lower() in _WEIGHTS and os.path.isfile(first):
            checkpoint_folders(first, FOLDER_NAME)  # It says how to import them.
        if is_bundled(first) or holds_network(first):
            return first, tuple(inputs[1:])
        if os.path.isdir(first) and (runs := _runs_in(first)):
            raise InputError(
                f"{first} is a folder of runs. Give one of them, for example {runs[-1]}. If you "
                f"want to restore the pictures in {first}, add --network {DEFAULT}."
            )
    return Path(DEFAULT), tuple(inputs)


def holds_network(folder: Path) -> bool:
    """Whether a folder is a run or a checkpoint, even if it cannot be loaded."""
    return os.path.isdir(folder) and (
        os.path.isdir(folder / "weights")
        or os.path.isdir(folder / FOLDER_NAME)
        or os.path.isfile(folder / CONFIG_NAME)
        or bool(steps_in(folder))
    )


def describe_choice(network: Path) -> str | None:
    """Says which bundled network is used; None for a run or a checkpoint."""
    if not is_bundled(network):
        return None
    _, _, summary = load_bundled(network)
    return f"network: {network}, which comes with this program. {summary}"


def _runs_in(folder: Path) -> list[Path]:
    try:
        children = sorted(folder.iterdir())
    except OSError:
        return []
    return [path for path in children if os.path.isdir(path / FOLDER_NAME)]
