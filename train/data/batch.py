"""A batch of training patches: an array of clean ones, or pairs."""

from typing import Any, NamedTuple

import numpy as np


class Pair(NamedTuple):
    """Really degraded patches and their clean versions, both ``[B, H, W, C]``.

    A batch of only clean patches is an array, and each training step degrades it with new noise.
    The step uses a pair as it is.
    """

    degraded: Any  # np.ndarray on the host, jax.Array on devices
    clean: Any


Batch = np.ndarray | Pair
