"""Malicious descriptions of arrays in a checkpoint do not fill the memory or end the process."""

import bz2
import json
import shutil
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import pytest
import tensorstore

from train.checkpoints.checkpoint import Network, load_network, save_network
from train.errors import InputError
from train.network import init_variables

SPEC = "dncnn(depth=3, features=4, batch_norm=False)"
NAME = "params.conv_last.bias"


@pytest.fixture(scope="module")
def saved(tiny_model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "checkpoint"
    variables = init_variables(tiny_model, jax.random.key(0))
    save_network(folder, Network(tiny_model, SPEC, variables["params"], {}), {})
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "checkpoint"))


def _store(folder: Path) -> Any:
    base = {"driver": "file", "path": f"{folder}/weights/"}
    return tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()


def _describe(folder: Path, **changes: Any) -> None:
    """Changes the description of an array in a checkpoint."""
    store = _store(folder)
    described = json.loads(store.read(f"{NAME}/.zarray").result().value)
    store.write(f"{NAME}/.zarray", json.dumps({**described, **changes}).encode()).result()


def test_a_chunk_that_is_larger_than_its_array_is_not_unpacked(copy: Path) -> None:
    """A hundred bytes describe a chunk of 4 MB here, and could describe one of any size."""
    _describe(copy, chunks=[1_000_000], compressor={"id": "bz2", "level": 9})
    _store(copy).write(f"{NAME}/0", bz2.compress(bytes(4_000_000))).result()
    with pytest.raises(
        InputError, match=r"has chunks of 1,000,000 numbers for an array of 3\. A chunk must not"
    ):
        load_network(copy)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"shape": [10**12], "chunks": [10**12]}, r"gives it 4,000,000 MB, and no array .* 67 MB"),
        ({"shape": [10**12], "chunks": [1], "dtype": "bfloat16"}, "gives it 16,000,000 MB"),
        ({"dtype": "|S1000000000"}, "does not say that the array holds numbers"),
        ({"dtype": [["a", "<f4"]]}, "does not say that the array holds numbers"),
        ({"chunks": [-5]}, "has a shape or a chunk that no array has"),
        ({"chunks": [1, 1]}, "has a shape or a chunk that no array has"),
        ({"shape": [True]}, "has a shape or a chunk that no array has"),
        ({"shape": 3}, "has a shape or a chunk that no array has"),
        ({"more": "x" * 5000}, r"has 5,\d+ bytes, and at most 4,096 are accepted"),
    ],
)
def test_an_array_that_this_program_would_not_write_is_refused(
    changes: dict[str, Any], why: str, copy: Path
) -> None:
    _describe(copy, **changes)
    with pytest.raises(InputError, match=f"the description of {NAME} {why}"):
        load_network(copy)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[" * 200_000 + b"]" * 200_000, "has 400,000 bytes"),
        (b"[" * 2000, "cannot be read: it is n"),  # not JSON, or nested too deeply
        (b"", "cannot be read: it is not JSON"),
        (b"[]", "lacks a shape"),
        (b"{}", "lacks a shape"),
    ],
)
def test_a_description_that_is_no_description_ends_no_process(
    content: bytes, why: str, copy: Path
) -> None:
    _store(copy).write(f"{NAME}/.zarray", content).result()
    with pytest.raises(InputError, match=f"the description of {NAME} {why}"):
        load_network(copy)


def test_a_list_of_arrays_without_end_is_not_worked_through(copy: Path) -> None:
    path = copy / "weights" / "_METADATA"
    listed = json.loads(path.read_text())
    one = next(iter(listed["tree_metadata"].values()))
    listed["tree_metadata"].update({str(("params", f"x{i}")): one for i in range(5000)})
    path.write_text(json.dumps(listed))
    with pytest.raises(InputError, match=r"_METADATA lists 5,\d+ arrays, and at most 1,0\d\d are"):
        load_network(copy)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"use_ocdbt": False}, "are not stored as OCDBT and Zarr 2"),
        ({"use_zarr3": True}, "are not stored as OCDBT and Zarr 2"),
        ({"tree_metadata": []}, "does not list arrays as this program does"),
        ({"tree_metadata": {"a": {"key_metadata": [1]}}}, "does not list arrays"),
    ],
)
def test_a_list_in_another_form_is_refused(changes: dict[str, Any], why: str, copy: Path) -> None:
    path = copy / "weights" / "_METADATA"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(InputError, match=why):
        load_network(copy)
