"""Checks of numbers that flags give. What is not a number, or is infinite, passes none of them."""

import math
import os
import re
from collections.abc import Sequence

from train.errors import InputError

MOST = 2**31 - 1  # steps and counts are 32-bit integers on devices
MOST_NOISE = 255.0  # standard deviation, on the scale of 8-bit images
MOST_SEED = 2**62  # a seed and those counted up from it fit into 64 bits
MOST_SEEDS = 10_000  # trainings of one setting, or draws of noise: all are planned at once
MOST_PROCESSES = 256  # each takes a few hundred megabytes
MOST_PIXELS = 2**28  # in a batch: 3 GiB as float32, and several times that in training
MOST_SIDE = 65_536  # pixels of a tile or an exported image

# What file systems accept, in bytes.
_LONGEST_NAME, _LONGEST_PATH = 255, 4095


def at_least(flag: str, value: float, minimum: float) -> None:
    """Refuses a number that is less than ``minimum``.

    Args:
      flag: the option, for the error.
      value: what was given.
      minimum: the least number that is accepted.

    Raises:
      InputError: if ``value`` is less, or is not finite.
    """
    _check_finite(flag, value)
    if not value >= minimum:
        raise InputError(f"{flag} must be at least {minimum}; got {value}.")


def less_than(flag: str, value: float, bound: float) -> None:
    """Refuses a number that is not less than ``bound``.

    Args:
      flag: the option, for the error.
      value: what was given.
      bound: the number that ``value`` must stay below.

    Raises:
      InputError: if ``value`` is not less, or is not finite.
    """
    _check_finite(flag, value)
    if not value < bound:
        raise InputError(f"{flag} must be less than {bound}; got {value}.")


def more_than(flag: str, value: float, minimum: float) -> None:
    """Refuses a number that is not more than ``minimum``.

    Args:
      flag: the option, for the error.
      value: what was given.
      minimum: the number that ``value`` must be above.

    Raises:
      InputError: if ``value`` is not more, or is not finite.
    """
    _check_finite(flag, value)
    if not value > minimum:
        raise InputError(f"{flag} must be more than {minimum}; got {value}.")


def noise_levels(flag: str, levels: Sequence[float]) -> None:
    """Refuses levels that are not different numbers from 0 to 255, where thousandths count."""
    known = {round(level * 1000) for level in levels if 0 <= level <= MOST_NOISE}  # NaN is not
    if len(known) < len(levels):
        given = " ".join(f"{level:.10g}" for level in levels)
        raise InputError(
            f"{flag} must be different numbers from 0 to 255, as 8-bit images have them; got "
            f"{given}."
        )


def between(flag: str, value: float, least: float, *, most: float = MOST) -> None:
    """Refuses what is less than ``least`` or more than ``most``.

    Args:
      flag: the option, for the error.
      value: what was given.
      least: the least number that is accepted.
      most: the largest one.

    Raises:
      InputError: if ``value`` is outside, or is not finite.
    """
    at_least(flag, value, least)
    if not value <= most:
        raise InputError(f"{flag} must be at most {most}; got {value}.")


def check_batch(batch_size: int, patch_size: int) -> None:
    """Refuses batches that no memory holds."""
    pixels = batch_size * patch_size**2
    if pixels > MOST_PIXELS:
        raise InputError(
            f"--batch-size {batch_size} with --patch-size {patch_size} makes batches of "
            f"{pixels:,} pixels, and at most {MOST_PIXELS:,} are accepted: take fewer patches, or "
            "smaller ones."
        )


def _check_finite(flag: str, value: float) -> None:
    # An integer may be too large to be a float, and is finite all the same.
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{flag} must be a finite number; got {value}.")


def check_name(flag: str, path: str | os.PathLike[str] | None) -> None:
    """Refuses what cannot be the name of a file or folder, before any work is done."""
    if path is None:
        return
    text = os.fspath(path)
    if not text:
        raise InputError(f"{flag} is empty: name a file or folder, or leave the flag out.")
    if "\0" in text:
        raise InputError(f"{flag} holds a NUL byte, which no name may; got {text[:50]!r}.")
    longest = max(len(part.encode(errors="surrogateescape")) for part in re.split(r"[/\\]", text))
    if longest > _LONGEST_NAME or len(text.encode(errors="surrogateescape")) > _LONGEST_PATH:
        raise InputError(
            f"{flag} is too long: a name has at most {_LONGEST_NAME} bytes and a path at most "
            f"{_LONGEST_PATH}; got {len(text)} letters, {text[:50]!r} and so on."
        )
