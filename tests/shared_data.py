"""The folder of reference data beside a checkout, and the mark of the tests that wait for it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
# Parts of some reference files: whole they are too large for a repository
KEPT = ROOT / "tests" / "golden" / "models"

# A clone has no such folder, and its tests must pass.
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="needs ../shared: reference weights, photographs"
)


def of_files(names: Iterable[str], slow: Iterable[str] = ()) -> list[Any]:
    """Parameters for tests of reference files; those that the repository lacks need the folder."""
    parameters = []
    for name in names:
        marks = [] if (KEPT / f"{name}.npz").exists() else [needs_shared]
        if name in slow:
            marks.append(pytest.mark.slow)
        parameters.append(pytest.param(name, marks=marks))
    return parameters
