"""Makes dataclasses of JSON. Unknown keys and values of a wrong type are errors.

Python's dataclasses do not check types, and a file may contain values of any type if somebody
edited it or if the disk failed.
"""

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import Any, Literal

from train.errors import InputError, did_you_mean

_LONGEST_SHOWN = 60  # characters of a wrong value

# Names of JSON's types, for one value and for several.
_NAMES: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "of true or false"),
    int: ("a whole number", "of whole numbers"),
    float: ("a number", "of numbers"),
    str: ("text", "of texts"),
    type(None): ("null", "of nulls"),
}


class _WrongError(Exception):
    """A value does not have the type of its field."""


def from_tree(kind: type[Any], tree: Any, where: str, *, key: str = "") -> Any:
    """Makes a dataclass of a JSON value. Missing fields get their defaults.

    Args:
      kind: the dataclass.
      tree: the JSON value.
      where: name of the file, for error messages.
      key: path of the value within the file, such as "optimizer"; "" for the whole file.

    Returns:
      An instance of the dataclass.

    Raises:
      InputError: a key is unknown, a field without a default is missing, a value does not have the
        type of its field, or the dataclass refuses it.
    """
    if not isinstance(tree, dict):
        place = f"{key} must be" if key else "the content must be"
        raise InputError(
            f"{where}: {place} an object with the fields of {kind.__name__}; got {_shown(tree)}."
        )
    fields = typing.get_type_hints(kind)
    values = {}
    for name, value in tree.items():
        path = f"{key}.{name}" if key else name
        if name not in fields:
            hint = did_you_mean(name, fields)
            raise InputError(
                f"{where}: unknown key {_shown(name)}.{hint} Accepted keys: {', '.join(fields)}."
            )
        if dataclasses.is_dataclass(fields[name]):
            values[name] = from_tree(fields[name], value, where, key=path)
            continue
        try:
            values[name] = _typed(fields[name], value)
        except _WrongError:
            accepted = _accepted(fields[name])
            raise InputError(f"{where}: {path} must be {accepted}; got {_shown(value)}.") from None
    for field in dataclasses.fields(kind):
        if field.name not in values and not _has_default(field):
            path = f"{key}.{field.name}" if key else field.name
            raise InputError(f"{where}: {path} is missing.")
    try:
        return kind(**values)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _has_default(field: Any) -> bool:
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing


def _typed(kind: Any, value: Any) -> Any:
    """Converts a JSON value to its field's type: lists to tuples, and whole numbers to floats."""
    origin = typing.get_origin(kind)
    if origin is Literal:
        return _checked(
            value,
            lambda: any(
                value is one or (type(value) is str and value == one) for one in _args(kind)
            ),
        )
    if origin in (typing.Union, types.UnionType):
        for one in _args(kind):
            try:
                return _typed(one, value)
            except _WrongError:
                continue
        raise _WrongError
    if origin is tuple:
        items = _args(kind)
        _checked(value, lambda: isinstance(value, list | tuple))
        if items[-1] is Ellipsis:
            items = items[:1] * len(value)
        _checked(value, lambda: len(items) == len(value))
        return tuple(_typed(item, one) for item, one in zip(items, value, strict=True))
    if kind is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise _WrongError from None
    return _checked(value, lambda: type(value) is kind)


def _checked(value: Any, holds: Callable[[], bool]) -> Any:
    if not holds():
        raise _WrongError
    return value


def _accepted(kind: Any) -> str:
    """Describes in words what a field accepts."""
    origin = typing.get_origin(kind)
    if origin is Literal:
        return " or ".join(f'"{value}"' for value in _args(kind))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_accepted(one) for one in _args(kind))
    if origin is tuple:
        items = _args(kind)
        number = "" if items[-1] is Ellipsis else f"{len(items)} "
        of_what = _NAMES[items[0]][1] if items[0] in _NAMES else f"of {_accepted(items[0])}"
        return f"a list {of_what.replace('of ', f'of {number}', 1)}"
    return _NAMES[kind][0]


def _args(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind)


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # It is nested too deeply, or a number is too long.
        text = f"a {type(value).__name__} that is too long to show"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
