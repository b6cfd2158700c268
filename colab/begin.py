"""Functions that all notebooks share after the first cell has found or cloned the repository."""

import hashlib
import importlib
import os
import shlex
import sys
from pathlib import Path

import install as installer

SMOKE = os.environ.get("LUMLOSS_SMOKE") == "1"  # the notebook runs to its end in seconds, as in CI


def install(extra: str) -> None:
    """Installs what pyproject.toml lists under ``extra`` and makes the repository importable.

    What is already installed is not installed again. The runtime keeps its own jax, jaxlib, libtpu
    and numpy. If it cannot keep them, the notebook stops and says why.
    """
    try:
        installer.install_extra(extra)
    except installer.CannotInstall as error:
        raise SystemExit(f"error: {error}") from None
    importlib.invalidate_caches()
    # What pip has just installed is importable only after Python has restarted.
    sys.path.insert(0, str(installer.ROOT))


def folder_for(name: str, command: str) -> Path:
    """A separate folder under runs/ for each command.

    With different data or flags, no earlier run is continued.
    """
    return Path("runs", f"{name}-{hashlib.sha256(command.encode()).hexdigest()[:8]}")


def uploaded() -> str:
    """The name of a file that Colab asks the reader for.

    It is "" if none is given, outside Colab, and in CI.
    """
    try:
        from google.colab import files
    except ImportError:
        return ""
    return "" if SMOKE else next(iter(files.upload()), "")


def run(command: str) -> None:
    """Runs a command of this project in this process.

    With ``!python -m train``, two processes would need the same TPU.
    """
    from train.__main__ import main  # imported here, because `install` installs what it needs

    print("python -m train", command)
    if main(shlex.split(command)) != 0:
        raise SystemExit("The command failed. The reason is above.")
