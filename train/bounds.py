"""Checks of numbers that flags give."""

from collections.abc import Sequence

from train.errors import InputError

_WHITE = 255.0


def at_least(flag: str, value: float, minimum: float) -> None:
    """Refuses what is less."""
    if not value >= minimum:
        raise InputError(f"{flag} must be at least {minimum}; got {value}.")


def less_than(flag: str, value: float, bound: float) -> None:
    """Refuses what is as large or larger."""
    if not value < bound:
        raise InputError(f"{flag} must be less than {bound}; got {value}.")


def more_than(flag: str, value: float, minimum: float) -> None:
    """Refuses what is as small or smaller."""
    if not value > minimum:
        raise InputError(f"{flag} must be more than {minimum}; got {value}.")


def noise_levels(flag: str, levels: Sequence[float]) -> None:
    """Refuses levels that are not different numbers from 0 to 255, where thousandths count."""
    known = {round(level * 1000) for level in levels if 0 <= level <= _WHITE}  # NaN is not
    if len(known) < len(levels):
        given = " ".join(f"{level:.10g}" for level in levels)
        raise InputError(f"{flag} must be different numbers from 0 to 255, as 8-bit images have them; got {given}.")
