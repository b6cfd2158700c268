"""Parameters of a test, some of which are slow."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def slow_for(
    name: str,
    values: Iterable[Any],
    slow: Iterable[Any],
    *,
    ids: Callable[[Any], str] | None = None,
) -> pytest.MarkDecorator:
    """Parametrizes a test over all values, those among ``slow`` with the mark ``slow``.

    Args:
      name: of the argument.
      values: all of them.
      slow: those that only the slow tests run.
      ids: makes a case's name from its value. None leaves that to pytest.

    Raises:
      ValueError: if one of ``slow`` is none of the values, so that the list stays true.
    """
    values, slow = list(values), list(slow)
    if unknown := [value for value in slow if value not in values]:
        raise ValueError(f"{unknown} are no cases of this test; they are {values}")
    marks = [pytest.mark.slow if value in slow else () for value in values]
    return pytest.mark.parametrize(
        name, [pytest.param(v, marks=m) for v, m in zip(values, marks, strict=True)], ids=ids
    )
