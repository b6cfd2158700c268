"""Loads a program for ``jax.export`` in a process of its own, within limits of time and memory.

A few damaged bytes can keep JAX's parser busy without end, or crash it.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

_PATIENCE = 60.0  # seconds
_MEMORY = 4 << 30  # bytes
_REFUSED = 3  # exit status
_SIDE = 16  # pixels: height and width of the images that a program is tried with


def why_not_loaded(path: Path) -> str:
    """Tries to load a program as far as it must be loaded before it is compiled.

    Args:
      path: the program.

    Returns:
      The reason why it cannot be loaded; "" if it can.
    """
    command = [sys.executable, "-m", __name__, str(path.absolute())]
    root = str(Path(__file__).resolve().parents[3])
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": root}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return f"it was not loaded within {_PATIENCE:g} seconds"
    if done.returncode == 0:
        return ""
    # Anything else is a crash, whose words are addresses.
    said = done.stdout.strip() or "jax gives no reason"
    return said if done.returncode == _REFUSED else "loading it crashed jax"


def _load(path: Path) -> None:
    import jax
    import jax.export

    program = jax.export.deserialize(bytearray(path.read_bytes()))
    images, *sigma = program.in_avals
    given = [jax.ShapeDtypeStruct((1, _SIDE, _SIDE, images.shape[-1]), images.dtype)]
    given += [jax.ShapeDtypeStruct((1,), one.dtype) for one in sigma]
    jax.jit(program.call).lower(*given)


def _main(path: str) -> int:
    if importlib.util.find_spec("resource") is not None:  # Windows has no such limits.
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    try:
        _load(Path(path))
    except Exception as error:  # errors of many types, which all mean that it cannot be loaded
        from train.console import make_console
        from train.errors import first_line

        make_console(soft_wrap=True).print(first_line(error))
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
