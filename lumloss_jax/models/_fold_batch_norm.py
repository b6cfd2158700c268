"""Folds batch norm into the convolutions before it, for a trained network that only restores."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax import traverse_util

from lumloss_jax.models._create import variable_shapes


def fold_batch_norm(
    model: nn.Module, variables: Mapping[str, Any]
) -> tuple[nn.Module, dict[str, Any]]:
    """The same network without batch norm, and variables with which it gives the same result.

    Per output channel, with s = gain / sqrt(running variance + epsilon):

        kernel' = s * kernel        bias' = s * (bias - running mean) + batch norm's bias

    This is computed in float64, so that only the result is rounded. Restoring then needs fewer
    passes over memory. Train before folding, because the folded network has no batch norm left to
    train.

    Args:
      model: a network whose field ``batch_norm`` is True.
      variables: its ``{"params": ..., "batch_stats": ...}``.

    Returns:
      The network with ``batch_norm=False`` and biases in all convolutions, and its ``{"params":
      ...}``.

    Raises:
      ValueError: for a network without that field, or without batch norm to fold.

    Example:
      >>> import jax
      >>> from lumloss_jax.models import create_model
      >>> model = create_model("dncnn", depth=3, features=4)
      >>> # normally trained variables
      >>> variables = jax.tree.map(lambda leaf: np.ones(leaf.shape), variable_shapes(model))
      >>> folded, folded_variables = fold_batch_norm(model, variables)
      >>> sorted(folded_variables["params"]["block_0"]["conv"]), folded.batch_norm
      (['bias', 'kernel'], False)
    """
    network = type(model).__name__
    defaults = {field.name: field.default for field in dataclasses.fields(model)}
    if "batch_norm" not in defaults:
        raise ValueError(
            f"{network} has no form without batch norm, so its batch norm cannot be folded."
        )
    if not model.batch_norm:
        raise ValueError(f"this {network} has batch_norm=False, so there is no batch norm to fold.")
    # If bias=None is the default, it means biases wherever there is no batch norm. Otherwise the
    # field is True or False.
    without: dict[str, Any] = {"batch_norm": False}
    if "bias" in defaults:
        without["bias"] = None if defaults["bias"] is None else True
    folded = model.clone(**without)

    host = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), jax.device_get(dict(variables)))
    params = traverse_util.flatten_dict(host["params"])
    running = traverse_util.flatten_dict(host["batch_stats"])
    result = {}
    for (_, *layer, leaf), shape in traverse_util.flatten_dict(variable_shapes(folded)).items():
        path, norm = tuple(layer), (*layer[:-1], "norm")
        # A bias that did not exist is zero.
        value = (
            params[(*path, leaf)]
            if leaf == "kernel"
            else params.get((*path, leaf), np.zeros(shape.shape))
        )
        if (*norm, "mean") in running and layer[-1] in ("conv", "transposed_conv"):
            gain = params[(*norm, "scale")] / np.sqrt(running[(*norm, "var")] + model.norm_epsilon)
            if leaf == "bias":
                value = (value - running[(*norm, "mean")]) * gain + params[(*norm, "bias")]
            else:  # a transposed kernel is (h, w, out, in)
                value = value * (gain if layer[-1] == "conv" else gain[:, None])
        result[("params", *path, leaf)] = np.asarray(value, np.float32)
    return folded, traverse_util.unflatten_dict(result)
