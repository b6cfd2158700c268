"""Modules that are imported when they are first used, because not every command needs them."""

import importlib
from typing import Any


class _Later:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


def imported_later(name: str) -> Any:
    """Returns a stand-in for a module whose import takes a noticeable time.

    Args:
      name: the module's full name.

    Returns:
      An object with the module's attributes. Reading the first one imports the module.
    """
    return _Later(name)
