"""Reads state dictionaries from .pth, .safetensors and .npz files as arrays, without PyTorch.

A .pth file is a zip archive with a pickle and storages. Before PyTorch 1.6, like most published
denoisers, it is a sequence of pickles, followed by the storages. Nothing in a file is run or
trusted: :mod:`train.pytorch.torch_pickle` interprets the pickle, and no more is read than the file
can contain.
"""

import io
import os
import stat
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from train.console import printable
from train.errors import InputError
from train.files.safetensors_files import read_safetensors
from train.pytorch import torch_pickle
from train.pytorch.npz_files import read_npz
from train.pytorch.state_dicts import StateDict, named_leaves
from train.pytorch.torch_pickle import ForbiddenName, Loaded
from train.pytorch.torch_tensors import BadFile, Tensor
from train.pytorch.zip_files import open_archive

SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors", ".npz")

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file from before PyTorch 1.6
_LEGACY_PROTOCOL = 1001  # the second pickle of such a file
# Largest number of bytes of a file. A file with holes is small on the disk, but not in memory.
_LARGEST = 32 * 2**30
# Tensors may share weights, but a file with many views of the same numbers is malicious.
_MOST_TIMES_LARGER = 16
_ALWAYS_ALLOWED = 64 * 2**20


class _NotTorch(Exception):
    """The file was not written by torch.save."""


def read_state_dict(path: Path) -> StateDict:
    """Reads the largest dictionary of arrays, or its average, if the file has one of that shape."""
    found = read_state_dicts(path)
    largest = max(found, key=lambda one: one.size)
    alike = [one for one in found if one.is_average and _shapes(one) == _shapes(largest)]
    return alike[0] if alike else largest


def read_state_dicts(path: Path) -> list[StateDict]:
    """Reads every dictionary of named arrays in a file.

    Dictionaries within others ("params", "state_dict" and so on) are included.
    """
    suffix = path.suffix.lower()
    with _opened(path) as file:
        if suffix not in SUFFIXES:
            raise InputError(
                f"{path} has {'the suffix ' + suffix if suffix else 'no suffix'}. "
                f"Files with weights end in {', '.join(SUFFIXES)}."
            )
        before = os.fstat(file.fileno())
        if before.st_size > _LARGEST:
            raise InputError(
                f"{path} has {before.st_size / 2**30:,.0f} GiB, and at most {_LARGEST // 2**30} "
                "GiB are accepted. Give a file with only the weights (model.state_dict())."
            )
        _check_holes(path, before)
        read, kind = _READERS.get(suffix, (_read_torch, "a PyTorch checkpoint"))
        try:
            found = read(file, before.st_size)
        except _NotTorch as error:
            raise InputError(f"{path} is not a file of torch.save: {error}.") from None
        except ForbiddenName as error:
            raise InputError(
                f"{path} asks for {printable(error)}, which is neither a tensor nor a plain "
                "container, so it is not loaded. Save a file with only the weights "
                "(model.state_dict()), which does not need this."
            ) from None
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        # A damaged file may raise any error, and errors from Rust are not an Exception.
        except BaseException as error:
            reason = printable(str(error)[:500]).rstrip(".") or type(error).__name__
            raise InputError(f"{path} cannot be read as {kind}: {reason}.") from None
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise InputError(
            f"{path} was changed while it was read. Give the command again when it is complete."
        )
    if not found:
        raise InputError(
            f"{path} does not contain named tensors. Give a state dict, or a dictionary with one."
        )
    return found


def _check_holes(path: Path, found: os.stat_result) -> None:
    """Refuses a file with holes of gigabytes, which are small on the disk, but not in memory."""
    on_disk = 512 * getattr(found, "st_blocks", 0)
    # Some network file systems do not report the size on the disk. Then it is 0.
    if on_disk and found.st_size > _ALWAYS_ALLOWED + _MOST_TIMES_LARGER * on_disk:
        raise InputError(
            f"{path} has {found.st_size / 1e6:,.0f} MB, of which {on_disk / 1e6:,.1f} MB are on "
            "the disk. The rest are holes, which files of weights do not have. Copy it again."
        )


def _opened(path: Path) -> BinaryIO:
    """Opens a regular file. Reading a pipe or a device might never end."""
    try:
        if not path.exists():
            raise InputError(f"There is no file {path}.")
        if not stat.S_ISREG(path.stat().st_mode):
            what = "a folder" if path.is_dir() else "a pipe or a device"
            raise InputError(f"{path} is {what}. Give a file of weights.")
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror}.") from None
    except ValueError:  # The name contains a NUL character.
        raise InputError(f"There is no file {path!r}.") from None


def _read_safetensors(file: BinaryIO, size: int) -> list[StateDict]:
    return _flat(read_safetensors(file, Path(file.name)))


def _read_npz(file: BinaryIO, size: int) -> list[StateDict]:
    return _flat(read_npz(file, size))


def _flat(arrays: Mapping[str, np.ndarray]) -> list[StateDict]:
    return [StateDict((), dict(arrays))] if arrays else []


def _read_torch(file: BinaryIO, size: int) -> list[StateDict]:
    if zipfile.is_zipfile(file):
        with open_archive(file) as archive:
            return _read_archive(archive, size)
    file.seek(0)
    return _read_legacy(file, size)


def _read_archive(archive: zipfile.ZipFile, size: int) -> list[StateDict]:
    names = archive.namelist()
    pickles = [name for name in names if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise _NotTorch(f"it is a zip archive with {len(pickles)} files data.pkl instead of one")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}byteorder" in names:
        _check_byte_order(_entry(archive, f"{root}byteorder", 100).decode())
    pickled = _entry(archive, pickles[0], torch_pickle.MOST_BYTES)
    loaded = torch_pickle.load(io.BytesIO(pickled))
    _check_fits_in(size, loaded)

    flats: dict[str, np.ndarray] = {}
    for key, storage in loaded.storages.items():
        entry = archive.getinfo(f"{root}data/{key}")
        if entry.compress_type != zipfile.ZIP_STORED:
            # torch.save never compresses. A compressed entry could be a thousand times as large as
            # its part of the file.
            raise BadFile(f"storage {key} is compressed, which PyTorch never does")
        if entry.file_size != storage.count * storage.dtype.itemsize:
            raise BadFile(
                f"storage {key} has {entry.file_size} bytes, which does not match its "
                f"{storage.count} numbers"
            )
        flats[key] = np.frombuffer(archive.read(entry), storage.dtype)
    return _with_numbers(loaded, flats, size)


def _entry(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Reads the bytes of an entry that may be compressed."""
    with archive.open(name) as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise BadFile(f"{name} is larger than {most:,} bytes")
    return content


def _read_legacy(file: BinaryIO, size: int) -> list[StateDict]:
    """Reads the format before PyTorch 1.6.

    It has pickles of a magic number, a version, the machine, the content and the keys of the
    storages, and then the storages.
    """
    try:
        header = [torch_pickle.load(file).content for _ in range(2)]
    except BadFile:
        header = []
    if header != [_LEGACY_MAGIC, _LEGACY_PROTOCOL]:
        raise _NotTorch(
            "it is not a zip archive, and does not begin like a file from before PyTorch 1.6"
        )
    machine = torch_pickle.load(file).content
    if not isinstance(machine, dict):
        raise BadFile("its description of the machine is not a dictionary")
    _check_byte_order("little" if machine.get("little_endian", True) else "big")
    loaded = torch_pickle.load(file)
    keys = torch_pickle.load(file).content
    _check_fits_in(size - file.tell(), loaded)

    flats: dict[str, np.ndarray] = {}
    for key in keys if isinstance(keys, list) else ():
        if not isinstance(key, str) or key not in loaded.storages or key in flats:
            raise BadFile("the list of storages does not match the pickle")
        storage = loaded.storages[key]
        count = int.from_bytes(file.read(8), "little")
        if count != storage.count:
            raise BadFile(f"storage {key} has {count} numbers, not {storage.count}")
        content = file.read(count * storage.dtype.itemsize)
        if len(content) != count * storage.dtype.itemsize:
            raise BadFile(f"storage {key} ends after {len(content)} bytes")
        flats[key] = np.frombuffer(content, storage.dtype)
    return _with_numbers(loaded, flats, size)


def _check_byte_order(order: str) -> None:
    if order != "little":
        raise BadFile(
            f"it was saved on a {order}-endian machine; load it with PyTorch and save it again"
        )


def _check_fits_in(size: int, loaded: Loaded) -> None:
    """Refuses storages that together are larger than the file, before memory is allocated."""
    for key, storage in loaded.storages.items():
        size -= storage.count * storage.dtype.itemsize
        if size < 0:
            raise BadFile(f"storage {key} of {storage.count} numbers is larger than the file")


def _with_numbers(loaded: Loaded, flats: Mapping[str, np.ndarray], size: int) -> list[StateDict]:
    """Makes the dictionaries of arrays, each of which is a view of its storage's numbers."""
    left = _MOST_TIMES_LARGER * size
    views: dict[Tensor, np.ndarray] = {}
    found = []
    for where, tensors in named_leaves(loaded.content, Tensor):
        for tensor in tensors.values():
            if tensor not in views:
                if tensor.storage.key not in flats:
                    raise BadFile(f"storage {tensor.storage.key} is missing")
                views[tensor] = tensor.of(flats[tensor.storage.key])
                left -= views[tensor].nbytes
                if left < 0:
                    raise BadFile(
                        f"its tensors need more than {_MOST_TIMES_LARGER} times the size of the "
                        "file"
                    )
        found.append(StateDict(where, {name: views[tensor] for name, tensor in tensors.items()}))
    return found


def _shapes(one: StateDict) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in one.arrays.items()}


_READERS: Mapping[str, tuple[Callable[[BinaryIO, int], list[StateDict]], str]] = {
    ".safetensors": (_read_safetensors, "safetensors"),
    ".npz": (_read_npz, "npz"),
}
