"""Networks that were trained on blue, green, red become networks for red, green, blue: same pixels, other order."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from lumloss_jax.models import BUIFD, DnCNN
from train.errors import InputError

# Kernels (h, w, in, out) whose input channels, and whose output channels, are those of an image,
# once or several times.
_READ: dict[type[nn.Module], tuple[str, ...]] = {
    DnCNN: ("conv_first",),
    BUIFD: ("prior/conv_first", "level/conv_first", "fusion_0"),
}
_WRITTEN: dict[type[nn.Module], tuple[str, ...]] = {
    DnCNN: ("conv_last",),
    BUIFD: ("prior/conv_last", "level/conv_last", "fusion_2"),
}


def reverse_channels(model: nn.Module, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Variables with which the network makes of a reversed image the reverse of what it made of the image."""
    if type(model) not in _READ:
        known = ", ".join(kind.__name__ for kind in _READ)
        raise InputError(f"--channel-order bgr is known for {known}; got {type(model).__name__}.")
    channels = model.channels

    def turned(path: Any, leaf: Any) -> Any:
        *layer, name = [key.key for key in path[1:]]
        where = "/".join(layer)
        array = np.asarray(leaf)
        if name == "kernel" and where in _READ[type(model)]:
            groups = array.reshape(*array.shape[:2], -1, channels, array.shape[3])
            array = groups[:, :, :, ::-1].reshape(array.shape)
        if where in _WRITTEN[type(model)]:  # its bias too
            array = array[..., ::-1]
        return np.ascontiguousarray(array)

    return jax.tree_util.tree_map_with_path(turned, dict(variables))
