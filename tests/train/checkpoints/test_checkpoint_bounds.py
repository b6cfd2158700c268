"""Malicious checkpoints: pipes, endless descriptions, and zeros that fill the memory."""

import os
import shutil
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.checkpoints.checkpoint import Network, load_network, save_network
from train.checkpoints.checkpoint_bounds import complaint
from train.errors import InputError
from train.network import init_variables

SPEC = "dncnn(depth=3, features=4, batch_norm=False)"


@pytest.fixture(scope="module")
def saved(tiny_model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "checkpoint"
    variables = init_variables(tiny_model, jax.random.key(0))
    save_network(folder, Network(tiny_model, SPEC, variables["params"], {}), {})
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "checkpoint"))


def _replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes have names here")
@pytest.mark.parametrize(
    "pattern",
    ["weights/_METADATA", "weights/manifest.ocdbt", "weights/d/*", "_CHECKPOINT_METADATA"],
)
def test_a_pipe_in_a_checkpoint_is_not_waited_for(copy: Path, pattern: str) -> None:
    _replace_by_pipe(next(copy.glob(pattern)))
    with pytest.raises(InputError, match="is a pipe or a device, not a file"):
        load_network(copy)


@pytest.mark.parametrize(
    "name", ["weights/_METADATA", "weights/manifest.ocdbt", "weights/_sharding"]
)
def test_a_file_of_gigabytes_in_a_checkpoint_is_not_read(copy: Path, name: str) -> None:
    os.truncate(copy / name, 3_000_000_000)
    with pytest.raises(InputError, match=r"has 3,000,000,000 bytes, but needs [\d,]+ at most"):
        load_network(copy)


def test_a_link_to_a_folder_in_a_checkpoint_is_not_followed(copy: Path, tmp_path: Path) -> None:
    (copy / "weights").rename(tmp_path / "elsewhere")
    (copy / "weights").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(InputError, match="weights is a link to a folder"):
        load_network(copy)


def test_links_to_files_are_followed(copy: Path, tmp_path: Path) -> None:
    (copy / "weights" / "_METADATA").rename(tmp_path / "blob")
    (copy / "weights" / "_METADATA").symlink_to(tmp_path / "blob")
    assert load_network(copy).spec == SPEC


def test_huge_arrays_of_zeros_are_not_unpacked(copy: Path) -> None:
    huge = {"weights": {"params": jax.ShapeDtypeStruct((1_000_000_000,), jnp.float32)}}
    assert "its arrays need 4,000 MB, but its files have only 0.0 MB" in str(complaint(copy, huge))
    assert complaint(copy, {"weights": {"params": np.zeros(1_000_000)}}) is None
