"""``python -m train import``: converts weights trained with PyTorch to a checkpoint.

Weights of a metric are converted to a file that the metric reads.
"""

import atexit
import contextlib
import hashlib
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro

from lumloss_jax.models import from_torch_state_dict
from train.bounds import check_name
from train.checkpoints.checkpoint import Network, save_network
from train.checkpoints.checkpoint_files import check_path
from train.checkpoints.checkpoint_writer import without_tracebacks
from train.console import make_console, printable
from train.devices.signals import exit_on_sigterm
from train.errors import InputError
from train.files import locks
from train.inference.scoring.metric_weights import path_of, pick, save_weights
from train.inference.scoring.registry import METRICS
from train.network import build_model, parse_model
from train.pytorch.channel_order import reverse_channels
from train.pytorch.state_dicts import Choice, StateDict, choose
from train.pytorch.torch_files import read_state_dict, read_state_dicts

_UNFINISHED = ".lumloss-import-"  # beginning of the name of the folder of an unfinished import
_ABANDONED = 3600  # seconds after which such a folder is removed if it is not locked
_MOST_NAMED = 5  # number of arrays that a message names


@dataclass(frozen=True)
class ImportConfig:
    """Convert weights trained with PyTorch to a checkpoint that all other verbs can load.

    With --metric, the file holds the weights of LPIPS or DISTS. The other verbs then accept that
    metric in --metrics. PyTorch is not needed, and no code in the file runs.
    """

    file: Annotated[Path, tyro.conf.Positional]
    """File with the weights: .pth, .pt, .ckpt, .safetensors or .npz."""
    model: str | None = None
    """Network that the weights belong to, with the settings it was trained with.
    Example: "dncnn(depth=20)"."""
    metric: Literal["lpips", "dists"] | None = None
    """Metric that the weights belong to, instead of --model. They are written to runs/metrics."""
    trunk: Path | None = None
    """File with the weights of VGG16 or AlexNet. It is needed if PATH holds only the metric's own
    weights."""
    weights: str | None = None
    """Name of the dictionary in the file, such as "params".
    None: the dictionary that fits the network.
    If several fit, the moving average of the weights is used, such as "params_ema"."""
    out: Path | None = None
    """Folder of the checkpoint to write. It must not exist.
    None: a folder with the file's name in runs/imported/.
    --metric does not accept --out."""
    channel_order: Literal["rgb", "bgr"] = "rgb"
    """Order of the channels that the network was trained on.
    "bgr": the weights are converted, so that the network accepts "rgb"."""

    def __post_init__(self) -> None:
        check_name("FILE", self.file)
        check_name("--out", self.out)
        check_name("--trunk", self.trunk)
        if (self.model is None) == (self.metric is None):
            raise InputError(
                "Give either --model, the network that the weights belong to, or --metric."
            )
        if self.metric is None and self.trunk is not None:
            raise InputError("--trunk belongs to --metric. Leave it out.")
        if self.metric is not None and (self.out is not None or self.channel_order == "bgr"):
            raise InputError(
                f"--metric {self.metric} does not accept --out or --channel-order: it is written "
                "to runs/metrics, and its images are of red, green, blue. Leave them out."
            )


def import_weights(config: ImportConfig) -> Path:
    """Converts weights, and returns the folder of the checkpoint or the file of the metric.

    Every name and shape is checked.
    """
    if config.model is None:
        return _import_metric(config)
    out = config.out or Path("runs", "imported", config.file.stem)
    check_path(out)
    if os.path.lexists(out):
        raise InputError(f"--out {out} exists already. Remove it, or give a new folder.")
    name, fields = parse_model(config.model)
    model = build_model(config.model)

    # The digest is computed again after reading, so that it is surely that of the weights.
    before = _digest(config.file)
    choice = _chosen(config, name, fields)
    _check_numbers(config.file, choice.chosen)
    if _digest(config.file) != before:
        raise InputError(
            f"{config.file} was changed while it was read. Give the command again when it is "
            "complete."
        )
    variables = from_torch_state_dict(name, choice.chosen.arrays, **fields)
    if config.channel_order == "bgr":
        variables = reverse_channels(model, variables)

    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    about = {
        "imported_from": printable(config.file.name),
        "sha256": before,
        "found_under": [printable(key) for key in choice.chosen.where],
        "is_average": choice.chosen.is_average,
        "would_fit_too": [printable(one.name) for one in choice.others],
        "channel_order": config.channel_order,
    }
    with _whole_or_none(out) as unfinished, without_tracebacks():
        save_network(unfinished, Network(model, config.model, params, batch_stats), about)
    _report(config, choice, out, sum(leaf.size for leaf in jax.tree.leaves(params)))
    return out


def _import_metric(config: ImportConfig) -> Path:
    """Writes the weights of a metric to the file in which the metric looks for them."""
    kind = config.metric or ""
    files = [config.file] if config.trunk is None else [config.file, config.trunk]
    before = [_digest(file) for file in files]
    trunk = {} if config.trunk is None else read_state_dict(config.trunk).arrays

    def misfit(arrays: Mapping[str, np.ndarray]) -> str | None:
        try:
            pick(kind, {**trunk, **arrays})
        except ValueError as error:
            return str(error)
        return None

    try:
        choice = choose(read_state_dicts(config.file), misfit, named=config.weights)
    except InputError as error:
        advice = "" if trunk else " If they are in a file of their own, name it with --trunk."
        raise InputError(
            f"{config.file} cannot be imported for --metric {kind}: {error}{advice}"
        ) from None
    name, weights = pick(kind, {**trunk, **choice.chosen.arrays})
    _check_numbers(config.file, choice.chosen._replace(arrays=weights))
    if [_digest(file) for file in files] != before:
        raise InputError(
            f"{config.file} was changed while it was read. Give the command again when it is "
            "complete."
        )
    path = path_of(name)
    if os.path.lexists(path):
        raise InputError(
            f"{path} exists already. Remove it first, and do not mix scores by different weights."
        )
    about = {
        "imported_from": ", ".join(printable(file.name) for file in files),
        "sha256": ", ".join(before),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_weights(name, weights, about)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror}. Give the command in a different folder."
        ) from None
    parameters = sum(value.size for value in weights.values())
    console = make_console(soft_wrap=True)
    console.print(f"{METRICS[name].label}: {len(weights)} arrays, {parameters:,} weights")
    console.print(f"weights  {path}")
    console.print(
        f"to score with them: --metrics {name} for evaluate, compare and tune, in this folder"
    )
    return path


def _chosen(config: ImportConfig, name: str, fields: Mapping[str, Any]) -> Choice:
    """Chooses the dictionary in the file that fits the network."""

    def misfit(arrays: Mapping[str, np.ndarray]) -> str | None:
        try:
            from_torch_state_dict(name, arrays, **fields)
        except ValueError as error:
            return str(error)
        return None

    found = read_state_dicts(config.file)
    try:
        return choose(found, misfit, named=config.weights)
    except InputError as error:
        raise InputError(
            f'{config.file} cannot be imported for --model "{config.model}": {error}'
        ) from None


def _digest(file: Path) -> str:
    """Computes SHA-256 of a file; "" if it cannot be read, which is reported when it is loaded."""
    try:
        if not file.is_file():
            return ""
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except (OSError, ValueError):
        return ""


def _check_numbers(file: Path, found: StateDict) -> None:
    """Refuses weights that would spoil every restored photograph."""
    wrong = []
    for name, array in found.arrays.items():
        if array.dtype.kind in "iub":  # These arrays are counters.
            continue
        with np.errstate(over="ignore"):
            bad = int(np.count_nonzero(~np.isfinite(array.astype(np.float32))))
        if bad:
            wrong.append(f"{printable(name)} ({bad:,} of {array.size:,})")
        elif name.endswith("running_var") and array.size and array.min() < 0:
            wrong.append(f"{printable(name)} (variances below 0)")
    if wrong:
        more = f" and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
        raise InputError(
            f"{file} contains weights that are NaN, infinite or impossible: "
            f"{', '.join(wrong[:_MOST_NAMED])}{more}. Its training diverged. Use an earlier "
            "checkpoint."
        )


@contextlib.contextmanager
def _whole_or_none(out: Path) -> Iterator[Path]:
    """Gives a hidden folder next to ``out``, which is renamed to it if the block succeeds."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(out.parent)
        folder = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=out.parent))
    except (FileExistsError, NotADirectoryError):
        raise InputError(
            f"--out {out} cannot be written, because a file is in the way. Give a different folder."
        ) from None
    except OSError as error:
        raise InputError(
            f"--out {out} cannot be written: {error.strerror}. Give a different folder."
        ) from None
    try:
        with exit_on_sigterm(), locks.hold(folder):
            yield folder / "checkpoint"
            if os.path.lexists(out):
                raise InputError(
                    f"--out {out} was made by another process in the meantime. Give a new folder."
                )
            os.rename(folder / "checkpoint", out)
    except InputError as error:  # Its message names the hidden folder.
        raise InputError(str(error).replace(str(folder / "checkpoint"), f"--out {out}")) from None
    except OSError as error:
        raise InputError(
            f"--out {out} cannot be written: {error.strerror}. Give a different folder."
        ) from None
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Removes the folder now, and again when the program ends.

    After a failure, threads of Orbax may make it again.
    """
    shutil.rmtree(folder, ignore_errors=True)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    """Removes the folders that killed imports have left here."""
    for folder in parent.glob(f"{_UNFINISHED}*"):
        with contextlib.suppress(InputError, OSError):
            if time.time() - folder.stat().st_mtime > _ABANDONED:
                with locks.hold(folder):
                    shutil.rmtree(folder)


def _report(config: ImportConfig, choice: Choice, out: Path, parameters: int) -> None:
    console = make_console(soft_wrap=True)
    chosen = choice.chosen
    under = f" under {chosen.shown}" if chosen.where else ""
    average = ", which is an average" if chosen.is_average else ""
    console.print(
        f"{config.file}{under}{average}: {len(chosen.arrays)} arrays, {parameters:,} parameters "
        f"of {config.model}"
    )
    for other in choice.others:
        console.print(
            f"{other.shown} fits too; use --weights {shlex.quote(other.name)} to import it instead"
        )
    console.print(f"checkpoint  {out}")
    console.print(
        f'to fine-tune it: python -m train fit --model "{config.model}" --init-from {out}'
    )
