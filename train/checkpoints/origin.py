"""Where the weights that a training starts from come from: their loss and their photographs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.checkpoints.bundled import bundled_origin, is_bundled
from train.checkpoints.checkpoint import FOLDER_NAME
from train.checkpoints.checkpoint_files import Damaged, checkpoint_folders, read_about
from train.data.splits import trained_on
from train.errors import InputError
from train.files.json_files import digest_json

_MOST_GENERATIONS = 10  # fine-tunings one after another; a record may name itself


@dataclass(frozen=True)
class Origin:
    """What is recorded about the training of a network."""

    loss: str | None  # the loss that it was trained with last
    # The photographs that it was ever trained on, in the form of train.data.splits.trained_on
    photographs: frozenset[str] | None


_UNKNOWN = Origin(None, None)


def origin_of(network: Path) -> Origin:
    """Says what a network was trained with, including the networks that it started from.

    Args:
      network: folder of a run or of a checkpoint, or the name of a bundled network.

    Returns:
      The record, with None for each missing part. An imported network has no record at all.

    Raises:
      InputError: the network does not exist.
    """
    return _origin_of(network, _MOST_GENERATIONS)


def recorded_digest(network: Path) -> str:
    """The digest of a network's newest weights, as ``digest_weights`` computes it.

    It is read from the record of the checkpoint, without loading the weights.

    Args:
      network: folder of a run or of a checkpoint.

    Returns:
      The digest; "" if the record is damaged.

    Raises:
      InputError: the network does not exist.
    """
    try:
        digests = read_about(checkpoint_folders(network, FOLDER_NAME)[0])["digests"]
    except Damaged:
        return ""
    weights = digests.get("weights")
    return digest_json(weights) if isinstance(weights, dict) else ""


def _origin_of(network: Path, generations: int) -> Origin:
    if is_bundled(network):
        return Origin(*bundled_origin(network))
    folder = checkpoint_folders(network, FOLDER_NAME)[0]
    model = _recorded_model(folder)
    photographs = trained_on(network if network.is_dir() else folder)
    before = model.get("init_from")
    if before is not None and photographs is not None:
        earlier = _earlier(before, generations - 1).photographs
        photographs = None if earlier is None else photographs | earlier
    return Origin(_loss_in(model), photographs)


def _earlier(network: Any, generations: int) -> Origin:
    """The origin of the network that a recorded one started from, which may be gone by now."""
    if not isinstance(network, str) or generations == 0:
        return _UNKNOWN
    try:
        return _origin_of(Path(network), generations)
    except (InputError, OSError, ValueError):
        return _UNKNOWN


def _recorded_model(folder: Path) -> dict[str, Any]:
    """The part of a checkpoint's configuration that is about the network and its loss."""
    try:
        config = read_about(folder).get("config")
    except Damaged:
        return {}
    model = config.get("model") if isinstance(config, dict) else None
    return model if isinstance(model, dict) else {}


def _loss_in(model: dict[str, Any]) -> str | None:
    loss, balance = model.get("loss"), model.get("balance", "none")
    if not isinstance(loss, str) or not isinstance(balance, str):
        return None
    return loss if balance == "none" else f"balanced({balance}, {loss})"
