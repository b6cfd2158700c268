"""Converts a network trained on channels in the order blue, green, red to red, green, blue."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from lumloss_jax.models import PRESETS
from train.errors import InputError


def reverse_channels(model: nn.Module, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns variables that do to images with reversed channels what these do to images."""
    layers = getattr(model, "image_layers", None)
    if layers is None:
        networks = dict.fromkeys(preset.network for preset in PRESETS.values())
        known = [network.__name__ for network in networks if hasattr(network, "image_layers")]
        raise InputError(
            f"--channel-order bgr works for {', '.join(known)}; got {type(model).__name__}. "
            "Convert the channels before you import the weights."
        )
    channels = model.channels

    def reversed_leaf(path: Any, leaf: Any) -> Any:
        *parents, name = [key.key for key in path[1:]]
        layer = "/".join(parents)
        array = np.asarray(leaf)
        if name == "kernel" and layer in layers.reading:
            # (h, w, in, out). The input channels may contain several images.
            groups = array.reshape(*array.shape[:2], -1, channels, array.shape[3])
            array = groups[:, :, :, ::-1].reshape(array.shape)
        if layer in layers.writing:  # This includes the bias.
            array = array[..., ::-1]
        return np.ascontiguousarray(array)

    return jax.tree_util.tree_map_with_path(reversed_leaf, dict(variables))
