"""Checks of numbers that flags give."""

from train.errors import InputError


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
