"""Checks of the numbers and names that flags give, and the hint that shows a default.

All checks refuse NaN and infinity.
"""

import math
import os
import re
from collections.abc import Sequence

from train.errors import InputError

MOST = 2**31 - 1  # steps and counts are 32-bit integers on devices
MOST_NOISE = 255.0  # standard deviation, on the scale of 8-bit images
MOST_SEED = 2**62  # a seed, and the seeds counted up from it, fit into 64 bits
MOST_SEEDS = 10_000  # training runs of one setting, or draws of noise; all are planned at once
MOST_PROCESSES = 256  # each needs a few hundred megabytes
MOST_PIXELS = 2**28  # in a batch: 3 GiB as float32, and several times that in training
MOST_SIDE = 65_536  # pixels along a side of a tile or an exported image

# The longest names and paths that file systems accept, in bytes.
_LONGEST_NAME, _LONGEST_PATH = 255, 4095


def at_least(flag: str, value: float, minimum: float) -> None:
    """Refuses a number that is less than ``minimum``.

    Args:
      flag: name of the option, for the error message.
      value: the number that was given.
      minimum: the smallest number that is accepted.

    Raises:
      InputError: if ``value`` is less, or is not finite.
    """
    _check_finite(flag, value)
    if not value >= minimum:
        raise InputError(f"{flag} must be at least {minimum}; got {value}.")


def less_than(flag: str, value: float, bound: float) -> None:
    """Refuses a number that is not less than ``bound``.

    Args:
      flag: name of the option, for the error message.
      value: the number that was given.
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
      flag: name of the option, for the error message.
      value: the number that was given.
      minimum: the number that ``value`` must be above.

    Raises:
      InputError: if ``value`` is not more, or is not finite.
    """
    _check_finite(flag, value)
    if not value > minimum:
        raise InputError(f"{flag} must be more than {minimum}; got {value}.")


def noise_levels(flag: str, levels: Sequence[float]) -> None:
    """Refuses noise levels outside 0 to 255, and levels that differ by less than a thousandth."""
    # NaN fails the comparison, so it is refused too.
    known = {round(level * 1000) for level in levels if 0 <= level <= MOST_NOISE}
    if len(known) < len(levels):
        given = " ".join(f"{level:.10g}" for level in levels)
        raise InputError(
            f"{flag} must be different numbers from 0 to 255, the scale of 8-bit images; got "
            f"{given}."
        )


def between(flag: str, value: float, least: float, *, most: float = MOST) -> None:
    """Refuses a number that is less than ``least`` or more than ``most``.

    Args:
      flag: name of the option, for the error message.
      value: the number that was given.
      least: the smallest number that is accepted.
      most: the largest number that is accepted.

    Raises:
      InputError: if ``value`` is outside, or is not finite.
    """
    at_least(flag, value, least)
    if not value <= most:
        raise InputError(f"{flag} must be at most {most}; got {value}.")


def check_batch(batch_size: int, patch_size: int) -> None:
    """Refuses batches that are too large for any memory."""
    pixels = batch_size * patch_size**2
    if pixels > MOST_PIXELS:
        raise InputError(
            f"--batch-size {batch_size} with --patch-size {patch_size} makes batches of "
            f"{pixels:,} pixels. At most {MOST_PIXELS:,} are accepted. Use fewer or smaller "
            "patches."
        )


def _check_finite(flag: str, value: float) -> None:
    # An integer may be too large for a float, but it is finite.
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{flag} must be a finite number; got {value}.")


def check_name(flag: str, path: str | os.PathLike[str] | None) -> None:
    """Refuses a text that cannot be the name of a file or folder, before any work is done."""
    if path is None:
        return
    text = os.fspath(path)
    if not text:
        raise InputError(f"{flag} is empty. Give a file or folder, or leave out the flag.")
    if "\0" in text:
        raise InputError(
            f"{flag} contains a NUL byte, which is not allowed in a name; got {text[:50]!r}."
        )
    longest = max(len(part.encode(errors="surrogateescape")) for part in re.split(r"[/\\]", text))
    if longest > _LONGEST_NAME or len(text.encode(errors="surrogateescape")) > _LONGEST_PATH:
        raise InputError(
            f"{flag} is too long. A name may have {_LONGEST_NAME} bytes, and a path "
            f"{_LONGEST_PATH}; got {len(text)} characters, {text[:50]!r} and so on."
        )


def hint(label: str) -> str:
    """The end of the help of a flag whose text says what happens if the flag is not given.

    Args:
      label: the default, as tyro writes it. For an empty tuple that is an empty text, and for an
        empty text it is two quotation marks.

    Returns:
      The default, or nothing if there is none.
    """
    return "" if label in ("", "''", "None") else f"(default: {label})"
