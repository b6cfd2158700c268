"""Malicious descriptions of arrays in a checkpoint do not fill the memory or end the process."""

import json
import resource
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
BLOCK = 128 * 1024  # bytes of the largest block of a Zstandard frame


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


def zeros(size: int) -> bytes:
    """A Zstandard frame with this many zeros, in blocks that repeat a byte."""
    frame = b"\x28\xb5\x2f\xfd\x00\x38"
    for left in range(size, 0, -BLOCK):
        block = min(left, BLOCK) << 3 | 1 << 1 | (left <= BLOCK)
        frame += block.to_bytes(3, "little") + b"\0"
    return frame


def memory() -> int:
    """Bytes of the most memory that this process has had."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize(
    ("compressor", "filters", "shown"),
    [
        ({"id": "blosc", "cname": "zstd", "clevel": 9, "shuffle": 0}, None, '"blosc"'),
        ({"id": "zlib", "level": 9}, None, '"zlib"'),
        ({"id": "bz2", "level": 9}, None, '"bz2"'),
        (None, None, "null"),
        ([], None, r"\[\]"),
        ({"id": "zstd", "level": 1}, [{"id": "delta"}], r'\[{"id": "delta"}\]'),
    ],
)
def test_only_the_compression_of_this_program_is_read(
    compressor: Any, filters: Any, shown: str, copy: Path
) -> None:
    """Tensorstore unpacks all of a Blosc chunk, and 145 kB become 2.4 GB."""
    _describe(copy, compressor=compressor, filters=filters)
    with pytest.raises(
        InputError, match=f"{NAME} gives it the compression {shown}, and only zstd is accepted"
    ):
        load_network(copy)


def test_a_chunk_unpacks_to_no_more_than_its_description_says(copy: Path) -> None:
    """Tensorstore stops after the bytes of the chunk, whatever the compressed content is."""
    before = memory()
    _store(copy).write(f"{NAME}/0", zeros(2 * 10**9)).result()
    with pytest.raises(InputError, match="weights: .*error while reading array"):
        load_network(copy)
    assert memory() - before < 300e6


def test_an_index_that_would_unpack_to_gigabytes_is_refused(copy: Path) -> None:
    """Values are part of the index up to a megabyte, and it is compressed as a whole."""
    shutil.rmtree(copy / "weights" / "d")
    (copy / "weights" / "manifest.ocdbt").unlink()
    base = {"driver": "file", "path": f"{copy}/weights/"}
    config = {"max_inline_value_bytes": 2**20, "max_decoded_node_bytes": 2**32 - 1}
    spec = {"driver": "ocdbt", "base": base, "config": config}
    with tensorstore.Transaction() as transaction:
        store = tensorstore.KvStore.open(spec).result().with_transaction(transaction)
        for number in range(150):
            store.write(f"{number:03}", bytes(2**20)).result()
    (file,) = (copy / "weights" / "d").iterdir()
    assert file.stat().st_size < 10_000
    with pytest.raises(InputError, match="index of its arrays may need more than 134 MB"):
        load_network(copy)


def test_an_array_of_millions_of_chunks_is_not_read(copy: Path) -> None:
    """Each chunk costs nearly a kilobyte of memory, even if it is not there."""
    _describe(copy, shape=[250_000], chunks=[1])
    with pytest.raises(InputError, match="are divided into more than 200,000 chunks"):
        load_network(copy)


def test_a_chunk_that_is_larger_than_its_array_is_not_unpacked(copy: Path) -> None:
    """A hundred bytes describe a chunk of 4 MB here, and could describe one of any size."""
    _describe(copy, chunks=[1_000_000])
    _store(copy).write(f"{NAME}/0", zeros(4_000_000)).result()
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
