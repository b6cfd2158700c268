"""Digests of arrays, which reveal bits that flip on a disk."""

import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from train.devices.sharding import whole
from train.files.json_files import digest_json


def digest_arrays(tree: Any) -> dict[str, str]:
    """Computes SHA-256 of the dtype, shape and bytes of every array, by its path in the tree."""
    return {
        jax.tree_util.keystr(path): _digest(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def digest_weights(params: Any, batch_stats: Any) -> str:
    """Computes one digest of everything that a network's output depends on, except its input."""
    return digest_json(digest_arrays({"params": params, "batch_stats": batch_stats}))


def differing(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Returns the paths whose digests differ, or are missing on one side."""
    return [path for path in sorted({*expected, *found}) if expected.get(path) != found.get(path)]


def _digest(array: Any) -> str:
    # The digest is that of the whole array, because it may be loaded with a different layout.
    local = whole(array) if isinstance(array, jax.Array) else np.asarray(array)
    content = hashlib.sha256(f"{local.dtype} {local.shape}".encode())
    content.update(local.tobytes())
    return content.hexdigest()
