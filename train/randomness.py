"""Random numbers: the streams of a run's seed, and keys that depend on a photograph's name.

The keys are the same on every machine and with every setting of the environment.
"""

import contextlib
import zlib
from typing import Any

import jax

from train.errors import InputError

# One stream of random numbers for each purpose of a run's seed.
INIT_STREAM, NOISE_STREAM, LEVEL_STREAM, EXPOSURE_STREAM, AGGREGATION_STREAM = 0, 1, 2, 3, 4


def key_of(seed: int, name: str) -> jax.Array:
    """Makes the Threefry-2x32 key of a seed, and folds in the CRC-32 of a name."""
    crc = zlib.crc32(name.encode(errors="surrogateescape"))  # Names need not be UTF-8.
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), crc)


def on_cpu() -> contextlib.AbstractContextManager[Any]:
    """Selects the CPU for drawing random numbers, because accelerators round differently."""
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:  # JAX_PLATFORMS names other platforms only.
        config: Any = jax.config  # Its attributes are made at run time, so they have no types.
        platforms = config.jax_platforms
        raise InputError(
            "The noise for testing is drawn on the CPU, which is not part of "
            f"JAX_PLATFORMS={platforms}. Set JAX_PLATFORMS={platforms},cpu."
        ) from None
