"""Where random numbers come from: the streams of a run's seed, and draws fixed by a photograph's name.

The latter are the same on every machine, whatever the environment says.
"""

import contextlib
import zlib
from typing import Any

import jax

from train.errors import InputError

# One stream of random numbers for each purpose of a run's seed.
INIT_STREAM, NOISE_STREAM, LEVEL_STREAM, EXPOSURE_STREAM = 0, 1, 2, 3


def key_of(seed: int, name: str) -> jax.Array:
    """Threefry-2x32's key of the seed, with CRC-32 of the name folded in; names need not be UTF-8."""
    crc = zlib.crc32(name.encode(errors="surrogateescape"))
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), crc)


def on_cpu() -> contextlib.AbstractContextManager[Any]:
    """Draws on the CPU, also where there are accelerators: theirs round otherwise."""
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:  # a name of a platform alone leaves all others out
        config: Any = jax.config  # which makes its attributes as it runs
        platforms = config.jax_platforms
        raise InputError(
            f"The noise of tests is drawn on the CPU, which JAX_PLATFORMS={platforms} leaves out: "
            f"set JAX_PLATFORMS={platforms},cpu."
        ) from None
