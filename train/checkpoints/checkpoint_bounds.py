"""Checks the files of a checkpoint before Orbax reads them.

A checkpoint may come from somebody else. Orbax waits forever for a pipe, reads descriptions of any
length, and allocates the memory for arrays of zeros that have only a few kilobytes on disk.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

_MOST_FILES = 100_000
_LONGEST_DESCRIPTION = 16_000_000  # bytes; an array needs one or two hundred
# Bytes that a file may have in addition to its arrays, and arrays in addition to their files.
_SPARE = 64 * 2**20
# Compression hardly makes trained weights smaller. Zeros shrink to a thousandth.
_MOST_TIMES_LARGER = 32
# The folder and the index of OCDBT, which exist for each process.
_ARRAYS = ("d", "manifest.ocdbt")


def complaint(folder: Path, targets: Mapping[str, Any]) -> str | None:
    """Says why Orbax must not read a checkpoint.

    Args:
      folder: folder of the checkpoint.
      targets: the arrays, or their shapes, that will be read from each of its items.

    Returns:
      The reason in words; None if there is none.
    """
    sizes = {name: _byte_size(tree) for name, tree in targets.items()}
    on_disk = dict.fromkeys(targets, 0)
    count = 0
    for above, folders, files in os.walk(folder):
        count += len(files) + len(folders)
        if count > _MOST_FILES:
            return f"it contains more than {_MOST_FILES:,} files"
        for name in folders:
            if os.path.islink(os.path.join(above, name)):
                return f"{_below(folder, above, name)} is a link to a folder"
        for name in files:
            path = Path(above, name)
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                return f"{_below(folder, above, name)} is a pipe or a device, not a file"
            item = path.relative_to(folder).parts[0]
            on_disk[item] = on_disk.get(item, 0) + found.st_size
            is_array = name in _ARRAYS or Path(above).name in _ARRAYS
            most = sizes.get(item, 0) + _SPARE if is_array else _LONGEST_DESCRIPTION
            if item not in sizes and is_array:
                continue  # This item is not read.
            if found.st_size > most:
                file = _below(folder, above, name)
                return f"{file} has {found.st_size:,} bytes, but needs {most:,} at most"
    for name, size in sizes.items():
        if size > _SPARE + _MOST_TIMES_LARGER * on_disk[name]:
            return (
                f"{name}: its arrays need {size / 1e6:,.0f} MB, but its files have only "
                f"{on_disk[name] / 1e6:,.1f} MB, which is too little for trained weights"
            )
    return None


def _byte_size(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _below(folder: Path, above: str, name: str) -> str:
    return str(Path(above, name).relative_to(folder))
