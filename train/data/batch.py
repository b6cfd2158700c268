"""What a batch is: an array of clean patches, or this."""

from typing import Any, NamedTuple

import numpy as np


class Pair(NamedTuple):
    """Patches that were degraded in reality and their clean versions: both ``[B, H, W, C]``.

    A batch of clean patches alone is a bare array; the step degrades it afresh each time. A pair
    passes it untouched.
    """

    degraded: Any  # np.ndarray on the host, jax.Array on devices
    clean: Any


Batch = np.ndarray | Pair
