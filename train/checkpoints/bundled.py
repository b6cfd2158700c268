"""The networks that come with this program, so that a photograph can be restored before training.

Each is a file ``bundled/NAME.safetensors`` next to its card ``NAME.md``, which says what it was
trained on and how it scores. The weights are named by their paths in the network, such as
``params/conv_0/kernel``. The header has the network's spec, one sentence about it, the loss,
digests of the photographs that it was trained on, and a digest of all this and the weights, so that
no damage goes unnoticed.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import safe_open

from train.checkpoints.digests import digest_weights
from train.errors import InputError
from train.files.json_files import digest_json

DEFAULT = "denoiser-2"
_FOLDER = Path(__file__).parent / "bundled"
_SUFFIX = ".safetensors"


def bundled_names() -> list[str]:
    """Returns the names of all bundled networks."""
    return sorted(path.stem for path in _FOLDER.glob(f"*{_SUFFIX}"))


def is_bundled(name: str | Path) -> bool:
    """Whether this is the name of a bundled network, and there is no file or folder so called."""
    return str(name) in bundled_names() and not Path(name).exists()


def load_bundled(name: str | Path) -> tuple[str, dict[str, Any], str]:
    """Loads a bundled network.

    Args:
      name: one of :func:`bundled_names`.

    Returns:
      The network's spec, its variables as NumPy arrays, and one sentence about it.

    Raises:
      InputError: the file is damaged.
    """
    header, variables = _read(_FOLDER / f"{name}{_SUFFIX}")
    return header["model"], variables, header["summary"]


def bundled_origin(name: str | Path) -> tuple[str, frozenset[str]]:
    """Says what a bundled network was trained with.

    Args:
      name: one of :func:`bundled_names`.

    Returns:
      The loss, and the photographs in the form of :func:`train.data.splits.trained_on`. Some are
      there twice, as they were published and as they were trained on, because they were shrunk.

    Raises:
      InputError: the file is damaged.
    """
    header, _ = _read(_FOLDER / f"{name}{_SUFFIX}")
    return header["loss"], frozenset(json.loads(header["photographs"]))


def _read(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Reads the header and the variables of a file that is exactly as it was written."""
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            arrays = {key: file.get_tensor(key) for key in file.keys()}
        variables = {"batch_stats": {}, **unflatten_dict(arrays, sep="/")}
        digest = _digest(header, variables)
    # A damaged header has other keys, types or shapes, for each of which something else is raised.
    except Exception as error:
        raise _damaged(path) from error
    if header.get("digest") != digest:
        raise _damaged(path)
    return header, variables


def _digest(header: Mapping[str, str], variables: Mapping[str, Any]) -> str:
    """A digest of everything in a file except the digest itself."""
    weights = digest_weights(variables["params"], variables["batch_stats"])
    return digest_json({**header, "digest": weights})


def save_bundled(
    path: Path,
    spec: str,
    variables: dict[str, Any],
    summary: str,
    *,
    loss: str,
    photographs: Collection[str],
) -> None:
    """Writes a network in the form that :func:`load_bundled` reads.

    Args:
      path: file to write.
      spec: the network's spec.
      variables: a dictionary of "params" and "batch_stats", as NumPy arrays.
      summary: one sentence about the network.
      loss: the loss that it was trained with.
      photographs: what it was trained on, in the form of :func:`train.data.splits.trained_on`.
    """
    header = {
        "model": spec,
        "summary": summary,
        "loss": loss,
        "photographs": json.dumps(sorted(photographs)),
    }
    header["digest"] = _digest(header, variables)
    arrays = flatten_dict({k: v for k, v in variables.items() if v}, sep="/")
    path.write_bytes(safetensors.numpy.save(arrays, metadata=header))


def _damaged(path: Path) -> InputError:
    return InputError(
        f"{path} is damaged. Restore it with: git checkout -- {path.name}, or get this program "
        "again."
    )
