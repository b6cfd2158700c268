"""Reads the pickles of torch.save with a small interpreter for the few opcodes that it writes.

A pickle is a program. Python's own unpickler does anything that it asks for: it makes a memo with
2^31 places, keys whose hash overflows the stack, and containers within themselves. Here pickletools
decodes the opcodes, and there are limits for their number, for bytes, for keys of dictionaries, and
for the place of a tensor in its storage. Tensors are only described, and their numbers are read
elsewhere.
"""

import pickletools
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any, BinaryIO, NamedTuple, cast

import numpy as np

from train.pytorch.torch_tensors import (
    STORAGE_DTYPES,
    BadFile,
    Storage,
    is_size,
    rebuild_parameter,
    rebuild_tensor,
)

MOST_BYTES = 64 * 2**20  # in a pickle of names and small numbers; a tensor needs about 500
MOST_STEPS = 500_000  # opcodes, and pairs that are copied; a tensor needs about 35
_MOST_OTHER_KEYS = 10_000  # keys that are not text, because their hashes can be made to collide
_TUPLE_KEY = 10  # number of keys that a tuple counts as, because comparing it takes as long
_LONGEST_KEY = 10_000
_LONGEST_NAME = 200  # in a message, and in a key of a storage, which torch.save makes of a number
_MOST_ARGUMENTS = 16


class ForbiddenName(Exception):
    """The pickle asks for a function or a class that weights do not need. The text is its name."""


class Loaded(NamedTuple):
    """The content of a pickle, and the storages that it refers to, by their keys."""

    content: Any
    storages: Mapping[str, Storage]


def load(file: BinaryIO) -> Loaded:
    """Reads the pickle at the file's position, and moves the position behind it.

    The content consists of plain values, dictionaries, lists, tuples, and descriptions of tensors.
    A set is read as a list, and the attributes of objects are ignored.

    Raises:
      ForbiddenName: the pickle asks for a function or a class that weights do not need.
      BadFile: the pickle is damaged, exceeds a limit, or has opcodes that torch.save does not use.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(cast(IO[bytes], _Limited(file))):
            machine.step(opcode.name, argument)
    except BadFile:
        raise
    except (IndexError, KeyError):
        raise BadFile("the pickle uses values that it has not made") from None
    except (ValueError, OverflowError) as error:
        raise BadFile(f"the pickle is damaged: {error}") from None
    return Loaded(machine.result(), machine.storages)


class _Limited:
    """A file for pickletools, from which it can read at most ``MOST_BYTES``."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = MOST_BYTES

    def read(self, count: int) -> bytes:
        """Reads bytes, as a file does."""
        if count > self._left:
            raise BadFile(f"the pickle is larger than {MOST_BYTES // 2**20} MB")
        self._left -= count
        return self._file.read(count)

    def readline(self) -> bytes:
        """Reads a line, as a file does. Lines are names, which are short."""
        line = self._file.readline(min(self._left, 1000))
        self._left -= len(line)
        return line

    def tell(self) -> int:
        """Returns the position, as a file does."""
        return MOST_BYTES - self._left


class _Name:
    """An allowed function or class, or a kind of storage."""

    def __init__(
        self, *, build: Callable[..., Any] | None = None, dtype: np.dtype | None = None
    ) -> None:
        self.build = build
        self.dtype = dtype


class _Machine:
    """The stack and the memo, with one method for each opcode or group of opcodes."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}
        self._steps = 0
        self._other_keys = 0
        self._names: Mapping[str, _Name] = {
            "collections OrderedDict": _Name(build=self._ordered_dict),
            "torch._utils _rebuild_tensor_v2": _Name(build=rebuild_tensor),
            "torch._utils _rebuild_parameter": _Name(build=rebuild_parameter),
            **{f"torch {name}": _Name(dtype=dtype) for name, dtype in STORAGE_DTYPES.items()},
        }

    def step(self, opcode: str, argument: Any) -> None:
        """Runs one opcode with its decoded argument."""
        self._count(1)
        if opcode in _VALUES:
            self._stack.append(argument)
        elif opcode in _CONSTANTS:
            self._stack.append(_CONSTANTS[opcode])
        elif opcode in _CONTAINERS:
            self._stack.append(_CONTAINERS[opcode]())
        elif opcode in _STEPS:
            _STEPS[opcode](self, argument)
        elif opcode not in _IGNORED:
            raise BadFile(f"the pickle uses {opcode}, which torch.save does not write")

    def result(self) -> Any:
        """Returns the value that is left at the end of the pickle."""
        if len(self._stack) != 1 or self._marks:
            raise BadFile(f"the pickle leaves {len(self._stack)} values, not one")
        return self._stack[0]

    def _count(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MOST_STEPS:
            raise BadFile(f"the pickle takes more than {MOST_STEPS:,} steps")

    def _pop(self) -> Any:
        if self._marks and self._marks[-1] == len(self._stack):
            raise BadFile("the pickle uses values that it has not made")
        return self._stack.pop()

    def _pop_to_mark(self) -> list[Any]:
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _mark(self, argument: Any) -> None:
        self._marks.append(len(self._stack))

    def _text(self, argument: str) -> None:
        """Decodes a string of Python 2, whose bytes pickletools returns as Latin-1."""
        self._stack.append(argument.encode("latin-1").decode())

    def _tuple(self, argument: Any) -> None:
        self._stack.append(tuple(self._pop_to_mark()))

    def _small_tuple(self, count: int) -> None:
        values = [self._pop() for _ in range(count)]
        self._stack.append(tuple(reversed(values)))

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _memoize(self, argument: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    def _append(self, argument: Any) -> None:
        self._extend([self._pop()])

    def _appends(self, argument: Any) -> None:
        self._extend(self._pop_to_mark())

    def _extend(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise BadFile("the pickle appends to something that is not a list")
        target.extend(values)

    def _set_item(self, argument: Any) -> None:
        value, key = self._pop(), self._pop()
        self._update(self._stack[-1], [(key, value)])

    def _set_items(self, argument: Any) -> None:
        values = self._pop_to_mark()
        self._update(self._stack[-1], zip(values[::2], values[1::2], strict=True))

    def _update(self, target: Any, pairs: Iterable[tuple[Any, Any]]) -> None:
        if type(target) is not dict:
            raise BadFile("the pickle sets items of something that is not a dictionary")
        for key, value in pairs:
            self._check_key(key)
            target[key] = value

    def _check_key(self, key: Any) -> None:
        """Refuses keys that are slow to hash or to compare, or that overflow the stack."""
        if type(key) is not str:
            self._other_keys += _TUPLE_KEY if type(key) is tuple else 1
        if self._other_keys > _MOST_OTHER_KEYS:
            raise BadFile(f"more than {_MOST_OTHER_KEYS:,} keys of dictionaries are not text")
        parts = key if type(key) is tuple and len(key) <= _MOST_ARGUMENTS else (key,)
        if not all(map(_is_plain, parts)):
            raise BadFile("a key of a dictionary is neither a short text nor a number")

    def _global(self, name: str) -> None:
        if name not in self._names:
            raise ForbiddenName(".".join(name[:_LONGEST_NAME].split(" ", 1)))
        self._stack.append(self._names[name])

    def _stack_global(self, argument: Any) -> None:
        name, module = self._pop(), self._pop()
        if type(name) is not str or type(module) is not str:
            raise BadFile("the pickle asks for a name that is not text")
        self._global(f"{module} {name}")

    def _reduce(self, argument: Any) -> None:
        values, called = self._pop(), self._pop()
        if type(called) is not _Name or called.build is None or type(values) is not tuple:
            raise BadFile("the pickle calls something that is not a function")
        if len(values) > _MOST_ARGUMENTS:
            raise BadFile(f"the pickle calls a function with {len(values)} arguments")
        try:
            self._stack.append(called.build(*values))
        except TypeError:
            raise BadFile(f"the pickle calls a function with {len(values)} arguments") from None

    def _build(self, argument: Any) -> None:
        self._pop()  # Attributes, such as the metadata of a state dict, are ignored.

    def _ordered_dict(self, pairs: Any = ()) -> dict[Any, Any]:
        if type(pairs) not in (list, tuple):
            raise BadFile("the pickle makes a dictionary of something other than pairs")
        self._count(len(pairs))
        made: dict[Any, Any] = {}
        for pair in pairs:
            if type(pair) not in (list, tuple) or len(pair) != 2:
                raise BadFile("the pickle makes a dictionary of something other than pairs")
            self._update(made, [(pair[0], pair[1])])
        return made

    def _persistent(self, argument: Any) -> None:
        """Reads a storage, described as ("storage", type, key, device, count).

        Before PyTorch 1.6 the tuple ends with a None.
        """
        identifier = self._pop()
        if type(identifier) is not tuple or len(identifier) not in (5, 6):
            raise BadFile("the pickle refers to something that is not a storage")
        what, kind, key, _, count, *view = identifier
        if what != "storage" or type(kind) is not _Name or kind.dtype is None:
            raise BadFile("the pickle refers to something that is not a storage")
        if type(key) is not str or len(key) > _LONGEST_NAME:
            raise BadFile("the pickle describes a storage whose key or size is unknown")
        if view not in ([], [None]) or not is_size(count):
            raise BadFile("the pickle describes a storage whose key or size is unknown")
        storage = self.storages.setdefault(key, Storage(key, kind.dtype, count))
        if (storage.dtype, storage.count) != (kind.dtype, count):
            raise BadFile("the pickle describes the same storage in two ways")
        self._stack.append(storage)


def _is_plain(value: Any) -> bool:
    if type(value) in (str, bytes):
        return len(value) <= _LONGEST_KEY
    if type(value) is int:
        return value.bit_length() <= 64
    return value is None or type(value) in (float, bool)


_VALUES = frozenset(
    ("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT")
    + ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES")
)
_CONSTANTS: Mapping[str, Any] = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
    "EMPTY_TUPLE": (),
}
_CONTAINERS: Mapping[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,
}
_IGNORED = frozenset(("PROTO", "FRAME", "STOP"))
_STEPS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine._mark,
    "SHORT_BINSTRING": _Machine._text,
    "BINSTRING": _Machine._text,
    "TUPLE": _Machine._tuple,
    "TUPLE1": lambda machine, _: machine._small_tuple(1),
    "TUPLE2": lambda machine, _: machine._small_tuple(2),
    "TUPLE3": lambda machine, _: machine._small_tuple(3),
    "BINPUT": _Machine._put,
    "LONG_BINPUT": _Machine._put,
    "MEMOIZE": _Machine._memoize,
    "BINGET": _Machine._get,
    "LONG_BINGET": _Machine._get,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "ADDITEMS": _Machine._appends,
    "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_items,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "NEWOBJ": _Machine._reduce,
    "BUILD": _Machine._build,
    "BINPERSID": _Machine._persistent,
}
