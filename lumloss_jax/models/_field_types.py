"""Checks the values of a network's fields against their annotations, when it is created."""

import dataclasses
import math
import numbers
import types
import typing
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike


def check_field(network: type[nn.Module], field: str, value: Any) -> None:
    """Raises an error for a value that does not have the field's type.

    Args:
      network: the network's class.
      field: name of one of its fields.
      value: the value for that field.

    Raises:
      ValueError: if the type is wrong; the message has the field, the value and what is accepted.
    """
    (kind,) = (one.type for one in dataclasses.fields(network) if one.name == field)
    accepted = _accepted(kind)
    if not _fits(value, kind):
        raise ValueError(f"{field} must be {accepted}; got {value!r}.")


def _accepted(kind: Any) -> str:
    if kind == DTypeLike:
        return 'a number format for floats, such as "float32" or "bfloat16"'
    if typing.get_origin(kind) is tuple:
        return "a tuple of whole numbers, such as (64, 128)"
    if isinstance(kind, types.UnionType):
        return " or ".join(_accepted(one) for one in typing.get_args(kind))
    names = {
        int: "a whole number",
        float: "a finite number",
        bool: "True or False",
        str: "a name in quotes",
    }
    return names.get(kind, "None")


def _fits(value: Any, kind: Any) -> bool:
    if kind == DTypeLike:
        return _is_float_format(value)
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(one, int) for one in value)
    if isinstance(kind, types.UnionType):
        return any(_fits(value, one) for one in typing.get_args(kind))
    if kind is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and _is_finite(value)
    return isinstance(value, kind)


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number larger than every float
        return False


def _is_float_format(value: Any) -> bool:
    try:
        return bool(jnp.issubdtype(jnp.dtype(value), jnp.floating))
    except TypeError:
        return False
