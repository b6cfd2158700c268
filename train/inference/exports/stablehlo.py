"""Programs for ``jax.export``, with the version of JAX and the date that they were made with.

JAX guarantees only some months of compatibility for such a program. So each carries its version of
JAX and its date in the name of its function, where a reader finds them without parsing the rest.
"""

import dataclasses
import datetime
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp

from train.checkpoints.checkpoint import Network
from train.errors import InputError
from train.inference.exports.function import NAME, restoring_function
from train.inference.exports.program_loader import why_not_loaded
from train.inference.predict import for_inference

PROMISE = (
    "JAX promises that newer versions load such a program for six months after its export, and "
    "older versions for three weeks"
)
ARCHIVES = "Use --format onnx or --format torch for archives"
_HALF_YEAR = 182  # days
_PLATFORMS = ("cpu", "cuda", "tpu")
_LARGEST = 200e6  # bytes of parameters that may be written into a program
_LONGEST = 2 * _LARGEST  # bytes of a program
# A program ends with the name of its function, after its length, and zeros.
_ENDS = re.compile(
    rb"(?P<length>.{4})(?P<name>"
    + NAME.encode()
    + rb"(?: exported by jax (?P<version>[\w.+-]{1,40}) on (?P<date>\d{4}-\d\d-\d\d))?)\0{1,16}\Z",
    re.DOTALL,
)
_LONGEST_END = 128  # bytes


@dataclass(frozen=True)
class ProgramStamp:
    """What a program says about its export."""

    version: str  # jax
    date: datetime.date


def to_stablehlo(network: Network) -> bytes:
    """Serializes the network as a program for any batch, height and width, with its parameters.

    Args:
      network: the network of a checkpoint.

    Returns:
      Bytes for ``jax.export.deserialize``. The ``call`` of the result restores ``[b, h, w, C]`` as
      :class:`~train.inference.predict.Predictor` does, but without tiles. Its ``fun_name`` says
      which version of jax exported it, and when.

    Raises:
      InputError: if the parameters are too large for a program.
    """
    model, variables = for_inference(network.model, network.params, network.batch_stats)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(variables))
    if size > _LARGEST:
        raise InputError(
            f"{network.spec} has {size / 1e6:.0f} MB of parameters, but a program holds at most "
            f"{_LARGEST / 1e6:.0f} MB. Use --format torch."
        )
    batch, height, width = jax.export.symbolic_shape("b, h, w")
    images = jax.ShapeDtypeStruct((batch, height, width, model.channels), jnp.float32)
    sigma = (jax.ShapeDtypeStruct((batch,), jnp.float32),) if model.takes_sigma else ()
    restore = jax.jit(restoring_function(model, variables))
    program = jax.export.export(restore, platforms=_PLATFORMS)(images, *sigma)
    stamped = f"{NAME} exported by jax {jax.__version__} on {_today().isoformat()}"
    return bytes(dataclasses.replace(program, fun_name=stamped).serialize())


def is_program(path: Path) -> bool:
    """Whether ``export`` wrote a program; nothing in it is parsed except its end."""
    return _read_end(path) is not None


def read_stamp(path: Path) -> ProgramStamp | None:
    """Reads by which version of jax a program was exported, and when.

    Args:
      path: the program.

    Returns:
      What it says; None for a program of an earlier version of this program, which says nothing.

    Raises:
      InputError: if the file cannot be read, or ``export`` did not write it.
    """
    try:
        about = path.stat()
        # Reading a pipe could take forever, and the whole file is read to load it.
        if not stat.S_ISREG(about.st_mode) or about.st_size > _LONGEST:
            raise InputError(
                f"{path} is not a program: it must be a regular file of at most "
                f"{_LONGEST / 1e6:.0f} MB."
            )
        found = _read_end(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    if found is None:
        raise InputError(
            f"{path} is not a program that export --format stablehlo wrote. Only these can be "
            "examined."
        )
    if found["version"] is None:
        return None
    try:
        date = datetime.date.fromisoformat(found["date"].decode())
    except ValueError:
        raise InputError(f"{path} is damaged: {found['date'].decode()} is not a date.") from None
    return ProgramStamp(found["version"].decode(), date)


def examine_program(path: Path) -> tuple[str, str]:
    """Tries whether this version of jax still loads a program.

    Args:
      path: a file of ``export --format stablehlo``.

    Returns:
      What was found, and what to do; "" if there is nothing to do.

    Raises:
      InputError: if the file cannot be read, or ``export`` did not write it.
    """
    stamp = read_stamp(path)
    here = f"jax {jax.__version__}"
    if stamp is None:
        found = "exported by an earlier version of this program, which did not record when"
    else:
        found = f"exported by jax {stamp.version} on {stamp.date.isoformat()}"
    advice = f"{PROMISE}. Export the network again. {ARCHIVES}."
    if reason := why_not_loaded(path):
        return f"{found}; {here} cannot load it: {reason}", advice
    found += f"; {here} loads it"
    if stamp is None or (_today() - stamp.date).days > _HALF_YEAR:
        return found, advice
    if _numbers(stamp.version) > _numbers(jax.__version__):
        return found, f"{PROMISE}. Update jax, or export the network with {here}. {ARCHIVES}."
    return found, ""


def _read_end(path: Path) -> re.Match[bytes] | None:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _LONGEST_END, 0))
        found = _ENDS.search(file.read())
    if found is None or int.from_bytes(found["length"], "little") != len(found["name"]):
        return None
    return found


def _numbers(version: str) -> list[int]:
    """The numbers of a version, for comparing."""
    return [int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:3]]


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()
