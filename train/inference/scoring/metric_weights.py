"""Weights of LPIPS and DISTS, which the verb import has written and the metrics need."""

import functools
import hashlib
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from lumloss_jax import models
from train.errors import InputError
from train.files.outputs import write_bytes
from train.files.safetensors_files import read_safetensors
from train.inference.scoring.registry import METRICS

FOLDER = Path("runs", "metrics")  # below the working directory, as the folders of runs

# VGG16 with its heads has 59 MB. A file with holes is small on the disk, but not in memory.
_LARGEST = 2**30

_READERS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "lpips": models.lpips_weights,
    "dists": models.dists_weights,
}


def pick(kind: str, arrays: dict[str, np.ndarray]) -> tuple[str, dict[str, np.ndarray]]:
    """Picks the weights of a metric out of the arrays of files.

    Args:
      kind: ``lpips`` or ``dists``.
      arrays: arrays by the names that PyTorch gives them.

    Returns:
      The name of the metric in ``METRICS``, and its weights in float32.

    Raises:
      ValueError: an array is missing or has the wrong shape, in one sentence.
    """
    found = _READERS[kind](arrays)
    trunk = "alex" if "features.3.weight" in found else "vgg"
    name = f"lpips_{trunk}" if kind == "lpips" else kind
    with np.errstate(over="ignore"):  # _check_numbers of the verb import reports infinities
        return name, {key: np.asarray(value, np.float32) for key, value in found.items()}


def path_of(name: str) -> Path:
    """The file with the weights of a metric."""
    return FOLDER / f"{name}.safetensors"


def save_weights(name: str, weights: dict[str, np.ndarray], about: dict[str, str]) -> None:
    """Writes the weights of a metric.

    Args:
      name: the metric.
      weights: its arrays by name.
      about: where they are from.
    """
    whole = {key: np.ascontiguousarray(value) for key, value in weights.items()}
    write_bytes(safetensors.numpy.save(whole, metadata=about), path_of(name))


def check_weights(names: Iterable[str]) -> None:
    """Refuses, before anything is computed, metrics whose weights are not there or damaged.

    Raises:
      InputError: one sentence about the first of them, and what to do.
    """
    for name in names:
        if METRICS[name].has_weights:
            load_weights(name)


def digests(names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of the file of weights of each metric that has one."""
    found = {}
    for name in names:
        if METRICS[name].has_weights:
            with path_of(name).open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def load_weights(name: str) -> dict[str, np.ndarray]:
    """The weights of a metric by name.

    Raises:
      InputError: there are none, or the file is damaged.
    """
    path = path_of(name).absolute()
    try:
        found = path.stat()
    except OSError:
        kind = METRICS[name].function or name
        raise InputError(
            f"{METRICS[name].label} needs weights, which are not part of this program, and "
            f"{path_of(name)} does not exist. Make it with: python -m train import FILE --metric "
            f"{kind}"
        ) from None
    return _load(name, path, found.st_mtime_ns, found.st_size)


@functools.cache
def _load(name: str, path: Path, changed: int, size: int) -> dict[str, np.ndarray]:
    label, kind = METRICS[name].label, METRICS[name].function or name
    advice = f"Delete it, and make it again with: python -m train import FILE --metric {kind}"
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("it is not a regular file")
        if size > _LARGEST:
            raise ValueError(f"it has {size:,} bytes, and at most {_LARGEST:,} are accepted")
        with path.open("rb") as file:
            arrays = read_safetensors(file, path)
        belongs_to, weights = pick(kind, arrays)
        if belongs_to != name:
            raise ValueError(f"these weights belong to {METRICS[belongs_to].label}")
        if not all(np.isfinite(value).all() for value in weights.values()):
            raise ValueError("it contains weights that are NaN or infinite")
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    # A damaged file may raise any error, and errors from Rust are not an Exception.
    except BaseException as error:
        reason = str(error).split(". Give ")[0][:300].rstrip(".") or type(error).__name__
        raise InputError(
            f"{path_of(name)} cannot be read as the weights of {label}: {reason}. {advice}"
        ) from None
    return weights
