"""Fixed, named protocols for testing a network, so that it is clear what a score means.

They differ in the same points as published tables: whether the noisy image is clipped before the
network, and whether the restored image is rounded to 8 bits. In all of them the restored image is
clipped to [0, 1], scores cover whole photographs and are averaged over photographs, and the
brightness is not adjusted to that of the target (no GT-mean).
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
    """How photographs are degraded before the network, and finished after it."""

    summary: str
    # Noise levels, 0 to 255; (): photographs come in pairs with real degradations
    sigmas: tuple[float, ...]
    clipped: bool = False  # whether the noisy image is clipped to [0, 1] before the network
    rounded: bool = False  # whether the restored image is rounded to 8 bits


NOISE_SEED = 0  # the same in all protocols

_LEVELS = (15.0, 25.0, 50.0)
PROTOCOLS = {
    "clipped": Protocol(
        "noisy images are clipped to [0, 1], restored ones are not rounded, as El Helou does it",
        _LEVELS,
        clipped=True,
    ),
    "unclipped": Protocol(
        "noisy images are not clipped, restored ones are rounded to 8 bits, as in KAIR and DPIR",
        _LEVELS,
        rounded=True,
    ),
    "float": Protocol(
        "noisy images are not clipped, restored ones are not rounded, as in the reports of fit",
        _LEVELS,
    ),
    "pairs": Protocol(
        "degradations are real, restored images are rounded to 8 bits", (), rounded=True
    ),
}


def find_protocol(name: str) -> Protocol:
    """Finds a protocol by its name."""
    if name not in PROTOCOLS:
        raise InputError(f"There is no protocol {name!r}. Use one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


def add_fixed_noise(clean: np.ndarray, name: str, *, sigma: float, seed: int) -> np.ndarray:
    """Adds noise that is the same on every machine for the same seed, name and sigma.

    It is drawn on the CPU.

    Args:
      clean: the photograph, ``[H, W, C]``.
      name: its path below its folder.
      sigma: noise level, 0 to 255. Levels that differ by a thousandth have different noise.
      seed: any number; protocols use NOISE_SEED.

    Returns:
      The noisy photograph, which is not clipped.
    """
    with on_cpu():
        key = jax.random.fold_in(key_of(seed, name), round(sigma * 1000))
        return np.asarray(degradations.gaussian_noise(key, clean, sigma=sigma / 255))


def degraded(protocol: Protocol, clean: np.ndarray, name: str, *, sigma: float) -> np.ndarray:
    """Degrades a clean photograph as the protocol says.

    Args:
      protocol: the protocol.
      clean: the photograph, ``[H, W, C]``.
      name: its path below its folder.
      sigma: noise level, 0 to 255.

    Returns:
      The input of the network.
    """
    noisy = add_fixed_noise(clean, name, sigma=sigma, seed=NOISE_SEED)
    return np.clip(noisy, 0, 1) if protocol.clipped else noisy


def finished(protocol: Protocol, restored: np.ndarray) -> np.ndarray:
    """Clips, and if the protocol says so rounds, a restored photograph before it is scored."""
    return to_float(to_uint8(restored)) if protocol.rounded else np.clip(restored, 0, 1)
