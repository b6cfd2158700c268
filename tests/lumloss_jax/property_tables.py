"""Tables of properties with a row for each function, where a text says why one does not hold."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from tests.slow_cases import slow_for


def rows_holding(
    table: Mapping[str, Any], column: str, *, slow: Iterable[str] = ()
) -> pytest.MarkDecorator:
    """Parametrizes a test over the rows whose property holds; a blank must give its reason."""
    blank = {
        name: getattr(row, column)
        for name, row in table.items()
        if isinstance(getattr(row, column), str)
    }
    assert all(blank.values()), f"a blank without a reason in {column}: {blank}"
    return slow_for("name", [name for name in table if name not in blank], slow)
