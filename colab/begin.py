"""What all notebooks share, once the first cell has found or cloned the repository."""

import hashlib
import importlib
import os
import shlex
import sys
from pathlib import Path

import install as installer

SMOKE = os.environ.get("LUMLOSS_SMOKE") == "1"  # the whole way in seconds, as CI does it


def install(extra: str) -> None:
    """Installs what pyproject.toml lists under ``extra``, unless it is there, and makes the repository importable.

    jax, jaxlib, libtpu and numpy of the runtime stay as they are; where they cannot, the notebook
    stops and says why.
    """
    try:
        installer.install_extra(extra)
    except installer.CannotInstall as error:
        raise SystemExit(f"error: {error}") from None
    importlib.invalidate_caches()
    # What pip has just made importable is so for the next Python only
    sys.path.insert(0, str(installer.ROOT))


def folder_for(name: str, command: str) -> Path:
    """A folder under runs/ of its own for each command: with other data or flags no earlier run is gone on with."""
    return Path("runs", f"{name}-{hashlib.sha256(command.encode()).hexdigest()[:8]}")


def uploaded() -> str:
    """The name of a file that Colab asks the reader for; "" where none is given, elsewhere, and in CI."""
    try:
        from google.colab import files
    except ImportError:
        return ""
    return "" if SMOKE else next(iter(files.upload()), "")


def run(command: str) -> None:
    """Runs a command of this project in this process: by ``!python -m train`` two processes would want one TPU."""
    from train.__main__ import main  # here, since `install` brings what it needs

    print("python -m train", command)
    if main(shlex.split(command)) != 0:
        raise SystemExit("It did not go through; the reason is above.")
