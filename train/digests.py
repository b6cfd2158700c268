"""Digests of arrays: a bit that flips on a disk is noticed when it is read back."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


def digests_of(tree: Any) -> dict[str, str]:
    """SHA-256 of dtype, shape and bytes of every array, by its path in the tree."""
    return {jax.tree_util.keystr(path): _digest(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def digest_of_json(content: Mapping[str, Any]) -> str:
    """SHA-256 of what JSON can say."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def differing(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Paths whose digests are not the same on both sides."""
    return [path for path in sorted({*expected, *found}) if expected.get(path) != found.get(path)]


def _digest(array: Any) -> str:
    # The digest is that of the whole array, however it is divided: it may come back under another layout.
    if isinstance(array, jax.Array) and not array.is_fully_replicated:
        local = np.asarray(multihost_utils.process_allgather(array, tiled=True))
    else:  # of an array that every device holds whole, any one copy will do
        local = np.asarray(array.addressable_data(0) if isinstance(array, jax.Array) else array)
    content = hashlib.sha256(f"{local.dtype} {local.shape}".encode())
    content.update(local.tobytes())
    return content.hexdigest()
