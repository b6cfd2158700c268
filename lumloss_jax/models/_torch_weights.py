"""Conversion between PyTorch's state dictionaries and Flax variables, as NumPy arrays.

This relies on some facts, each checked by parity with PyTorch's outputs. A convolution's weight
(out, in, h, w) is the kernel (h, w, in, out), unflipped, because both compute a correlation. The
weight of a transposed convolution (in, out, h, w) is the kernel (h, w, out, in) for
``transpose_kernel=True``, also unflipped, so the same permutation works. A linear weight (out, in)
is the kernel (in, out). PyTorch's running variance is unbiased and is kept unchanged.
"""

import difflib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from flax import traverse_util

from lumloss_jax.models._create import create_model, variable_shapes
from lumloss_jax.models._torch_names import Row, canonical, naming_of, rows_by_path

_CONV_AXES = (2, 3, 1, 0)

# For each kind: PyTorch's entry, Flax's collection and leaf, and the axes that convert one to the
# other.
_ENTRIES: dict[str, tuple[tuple[str, str, str, tuple[int, ...] | None], ...]] = {
    "conv": (("weight", "params", "kernel", _CONV_AXES), ("bias", "params", "bias", None)),
    "dense": (("weight", "params", "kernel", (1, 0)), ("bias", "params", "bias", None)),
    "batch_norm": (
        ("weight", "params", "scale", None),
        ("bias", "params", "bias", None),
        ("running_mean", "batch_stats", "mean", None),
        ("running_var", "batch_stats", "var", None),
    ),
    "layer_norm": (("weight", "params", "scale", None), ("bias", "params", "bias", None)),
}
_COUNTER = "num_batches_tracked"  # batch norm's counter, which Flax does not have or need
_AVERAGED = "n_averaged"  # number of steps that torch.optim.swa_utils.AveragedModel has averaged
# Keys under which training code stores the dictionary in a checkpoint. If there is an average, it
# is preferred.
_WRAPPERS = ("params_ema", "params", "state_dict")
_MOST_LINES = 50  # lines in one error
_MOST_COMPARED = 20_000  # pairs of names, because the search for the nearest name is slow
_LONGEST_NAME = 200


class _Entry(NamedTuple):
    key: str
    path: tuple[str, ...]
    axes: tuple[int, ...] | None
    shape: tuple[int, ...]  # PyTorch's
    flax_shape: tuple[int, ...]


def from_torch_state_dict(
    name: str, state_dict: Mapping[str, Any], **config: Any
) -> dict[str, Any]:
    """Flax variables from a PyTorch state dictionary of NumPy arrays.

    If there is a dictionary under ``"params_ema"``, ``"params"`` or ``"state_dict"``, the first of
    them is used. Names of wrappers (``module.`` of DataParallel, ``_orig_mod.`` of torch.compile)
    and renamings between code bases are understood. Half precision becomes float32, and the
    counters of batch norm and averages are dropped.

    Args:
      name: a preset, as for :func:`create_model`.
      state_dict: arrays under PyTorch's names, ``{"dncnn.dncnn.0.weight": array, ...}``.
      **config: the network's fields, which must be the same as in training.

    Returns:
      ``{"params": ..., "batch_stats": ...}`` of float32 NumPy arrays, for the network of
      ``create_model(name, **config)``. Without batch norm, there is no ``batch_stats``.

    Raises:
      ValueError: if keys are missing or unknown, or have a different shape. One error lists them
        all (at most 50), and each unknown key with the nearest missing one, nearest first.

    Example:
      >>> import numpy as np
      >>> shapes = {"dncnn.0.weight": (4, 1, 3, 3), "dncnn.2.weight": (1, 4, 3, 3)}
      >>> state_dict = {f"module.{name}": np.ones(shape) for name, shape in shapes.items()}
      >>> fields = dict(depth=2, features=4, channels=1)
      >>> variables = from_torch_state_dict("dncnn", state_dict, **fields)
      >>> variables["params"]["conv_last"]["kernel"].shape
      (3, 3, 4, 1)
    """
    model = create_model(name, **config)
    rows, entries = _layout(model)
    naming = naming_of(model)
    renamings = [] if naming is None else naming.renamings(model)
    counters = {f"{row.torch}.{_COUNTER}" for row in rows if row.kind == "batch_norm"}

    arrays: dict[str, np.ndarray] = {}
    given: dict[str, str] = {}  # canonical key to the file's
    for raw, value in _unwrapped(state_dict).items():
        key = canonical(raw, renamings)
        if key in counters or (key == _AVERAGED and np.size(value) == 1):
            continue
        if key in given:
            raise ValueError(
                f"the state dict holds {_shown(key)!r} twice, as {_shown(given[key])!r} and as "
                f"{_shown(raw)!r}."
            )
        arrays[key], given[key] = np.asarray(value), raw
    _compare(name, {entry.key: entry.shape for entry in entries}, arrays, given)

    flat = {
        entry.path: np.ascontiguousarray(
            _as_float32(
                arrays[entry.key] if entry.axes is None else arrays[entry.key].transpose(entry.axes)
            ).reshape(entry.flax_shape)
        )
        for entry in entries
    }
    return traverse_util.unflatten_dict(flat)


def to_torch_state_dict(
    name: str, variables: Mapping[str, Any], **config: Any
) -> dict[str, np.ndarray]:
    """A PyTorch state dictionary from Flax variables: the inverse of :func:`from_torch_state_dict`.

    Args:
      name: a preset, as for :func:`create_model`.
      variables: ``{"params": ..., "batch_stats": ...}``, or any tree of this form, such as
        gradients.
      **config: the network's fields.

    Returns:
      Float32 arrays under the reference code's names, in its order. With ``torch.from_numpy``
      applied to each, its ``load_state_dict`` accepts the dictionary. Batch norm's counters are 0.
      ``unet_scico``, whose reference is not PyTorch code, uses its Flax paths, joined with dots.

    Raises:
      ValueError: if variables are missing or unknown, or have a different shape.

    Example:
      >>> fields = {"depth": 2, "features": 4, "channels": 1}
      >>> shapes = variable_shapes(create_model("dncnn", **fields))
      >>> # normally trained variables
      >>> variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
      >>> state_dict = to_torch_state_dict("dncnn", variables, **fields)
      >>> {key: array.shape for key, array in state_dict.items()}
      {'dncnn.dncnn.0.weight': (4, 1, 3, 3), 'dncnn.dncnn.2.weight': (1, 4, 3, 3)}
    """
    model = create_model(name, **config)
    _, entries = _layout(model)
    flat = {
        path: np.asarray(jax.device_get(leaf))
        for path, leaf in traverse_util.flatten_dict(dict(variables)).items()
        if path[0] in ("params", "batch_stats")
    }
    dotted = {"/".join(path): leaf for path, leaf in flat.items()}
    shapes = traverse_util.flatten_dict(variable_shapes(model), sep="/")
    _compare(
        name,
        {path: leaf.shape for path, leaf in shapes.items()},
        dotted,
        {key: key for key in dotted},
    )

    state_dict: dict[str, np.ndarray] = {}
    for entry in entries:
        array = flat[entry.path].astype(np.float32)
        state_dict[entry.key] = np.ascontiguousarray(
            array if entry.axes is None else array.transpose(np.argsort(entry.axes))
        ).reshape(entry.shape)
        # The counter follows PyTorch's last running value
        if entry.path[0] == "batch_stats" and entry.path[-1] == "var":
            state_dict[f"{entry.key.rpartition('.')[0]}.{_COUNTER}"] = np.zeros((), np.int64)
    return state_dict


def _layout(model: nn.Module) -> tuple[list[Row], list[_Entry]]:
    """The rows of a network, and all its arrays, in PyTorch's order, under both names."""
    shapes = {
        path: leaf.shape
        for path, leaf in traverse_util.flatten_dict(variable_shapes(model)).items()
    }
    naming = naming_of(model)
    rows = rows_by_path(list(shapes)) if naming is None else naming.rows(model)
    entries = []
    for row in rows:
        if row.kind in ("parameter", "channels"):
            path = ("params", *row.path)
            shape = shapes[path] if row.kind == "parameter" else (1, *shapes[path], 1, 1)
            entries.append(_Entry(row.torch, path, None, shape, shapes[path]))
            continue
        for entry, collection, leaf, axes in _ENTRIES[row.kind]:
            path = (collection, *row.path, leaf)
            if path in shapes:  # a layer may have no bias
                shape = (
                    shapes[path]
                    if axes is None
                    else tuple(np.array(shapes[path])[np.argsort(axes)].tolist())
                )
                entries.append(_Entry(f"{row.torch}.{entry}", path, axes, shape, shapes[path]))
    unnamed = set(shapes) - {entry.path for entry in entries}
    if unnamed:
        raise RuntimeError(f"the name table of {type(model).__name__} lacks {sorted(unnamed)}.")
    return rows, entries


def _unwrapped(state_dict: Mapping[str, Any]) -> Mapping[str, Any]:
    """The dictionary of arrays inside a checkpoint's dictionary."""
    for wrapper in _WRAPPERS:
        if isinstance(state_dict.get(wrapper), Mapping):
            return state_dict[wrapper]
    return state_dict


def _compare(
    name: str,
    wanted: Mapping[str, tuple[int, ...]],
    arrays: Mapping[str, np.ndarray],
    given: Mapping[str, str],
) -> None:
    """Raises one error that lists everything that does not fit.

    ``given`` has the original name of each array.
    """
    missing = [key for key in wanted if key not in arrays]
    unknown = [key for key in arrays if key not in wanted]
    lines = [f"missing: {key} {wanted[key]}" for key in missing]

    targets = missing or list(wanted)
    few = len(unknown) * len(targets) <= _MOST_COMPARED
    hints = []
    for key in unknown:
        comparable = few and len(key) <= _LONGEST_NAME
        near = difflib.get_close_matches(key, targets, n=1, cutoff=0.5) if comparable else []
        ratio = difflib.SequenceMatcher(None, key, near[0]).ratio() if near else 0.0
        hint = f"; nearest: {near[0]}" if near else ""
        hints.append((ratio, f"unknown: {_shown(given[key])} {arrays[key].shape}{hint}"))
    lines.extend(line for _, line in sorted(hints, key=lambda pair: -pair[0]))

    for key, shape in wanted.items():
        if key in arrays and arrays[key].shape != shape:
            lines.append(f"misshapen: {_shown(given[key])} is {arrays[key].shape}, takes {shape}")
        elif key in arrays and not _is_float(arrays[key]):
            lines.append(
                f"wrong dtype: {_shown(given[key])} holds {arrays[key].dtype}, takes floats"
            )
    if lines:
        more = [f"and {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else []
        listed = "\n  ".join([*lines[:_MOST_LINES], *more])
        raise ValueError(f"the weights do not fit {name!r} with these fields:\n  {listed}")


def _shown(key: str) -> str:
    """A name from a file in a form that an error can show: short, without control characters."""
    short = key if len(key) <= _LONGEST_NAME else f"{key[:_LONGEST_NAME]}..."
    return short if short.isprintable() else ascii(short)[1:-1]


def _is_float(array: np.ndarray) -> bool:
    return np.issubdtype(array.dtype, np.floating) or array.dtype.name == "bfloat16"


def _as_float32(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # values too large for float32 become infinite, as in PyTorch
        return array.astype(np.float32)
