"""How a network is tested: fixed, named protocols, so that a score says what was done.

They differ in what published tables differ in: whether the noisy image is clipped before the
network, and whether the restored one is rounded to 8 bits. In all of them the restored image is
clipped to [0, 1], scores are of whole photographs, averaged over photographs, and no brightness is
matched to the target's (no GT-mean).
"""

from dataclasses import dataclass

import jax
import numpy as np

from lumloss_jax import degradations
from train.data.images import to_float, to_uint8
from train.errors import InputError
from train.randomness import key_of, on_cpu


@dataclass(frozen=True)
class Protocol:
    """One of them."""

    summary: str
    # Noise levels, 0 to 255; none: photographs come in pairs, degraded in reality
    sigmas: tuple[float, ...]
    clipped: bool = False  # whether the noisy image is clipped to [0, 1] before the network
    rounded: bool = False  # whether the restored image is rounded to 8 bits


NOISE_SEED = 0  # the same in all protocols

_LEVELS = (15.0, 25.0, 50.0)
PROTOCOLS = {
    "clipped": Protocol(
        "noisy image clipped to [0, 1], restored one not rounded: El Helou's", _LEVELS, clipped=True
    ),
    "unclipped": Protocol(
        "noisy image not clipped, restored one rounded to 8 bits: KAIR's, DPIR's",
        _LEVELS,
        rounded=True,
    ),
    "float": Protocol(
        "nothing clipped before the network, nothing rounded: what fit reports", _LEVELS
    ),
    "pairs": Protocol(
        "photographs degraded in reality, restored ones rounded to 8 bits", (), rounded=True
    ),
}


def find_protocol(name: str) -> Protocol:
    """The protocol of that name."""
    if name not in PROTOCOLS:
        raise InputError(f"There is no protocol {name!r}. Protocols: {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


def add_fixed_noise(clean: np.ndarray, name: str, *, sigma: float, seed: int) -> np.ndarray:
    """The same noise for the same seed, name and sigma on every machine: it is drawn on the CPU.

    Args:
      clean: ``[H, W, C]``.
      name: the photograph's path below its folder.
      sigma: 0 to 255, told apart in thousandths.
      seed: any number; protocols have NOISE_SEED.
    """
    with on_cpu():
        key = jax.random.fold_in(key_of(seed, name), round(sigma * 1000))
        return np.asarray(degradations.gaussian_noise(key, clean, sigma=sigma / 255))


def degraded(protocol: Protocol, clean: np.ndarray, name: str, *, sigma: float) -> np.ndarray:
    """What the network is given of a clean photograph."""
    noisy = add_fixed_noise(clean, name, sigma=sigma, seed=NOISE_SEED)
    return np.clip(noisy, 0, 1) if protocol.clipped else noisy


def finished(protocol: Protocol, restored: np.ndarray) -> np.ndarray:
    """What is scored of a restored photograph."""
    return to_float(to_uint8(restored)) if protocol.rounded else np.clip(restored, 0, 1)
