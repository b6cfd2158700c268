"""Small data sets that the tests of this folder share, each written once."""

from pathlib import Path

import numpy as np
import pytest

from train.data.images import write_image


def write_pairs(folder: Path, names: list[str], *, first: int = 0) -> None:
    """Writes pairs of 16x20 photographs into ``low`` and ``high``, each with different pixels."""
    for side in ("low", "high"):
        (folder / side).mkdir(parents=True, exist_ok=True)
        for i, name in enumerate(names, first):
            pixels = np.random.default_rng([i, side == "low"]).integers(
                0, 256, (20, 16, 3), dtype=np.uint8
            )
            write_image(folder / side / name, pixels)


@pytest.fixture(scope="session")
def lol(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the layout of LOL, and in its folder ``tfds`` the data set made from it."""
    pytest.importorskip("tensorflow_datasets")
    from train.data.prepare import prepare

    folder = tmp_path_factory.mktemp("lol")
    write_pairs(folder / "our485", ["2.png", "5.png", "10.png"])
    write_pairs(folder / "eval15", ["1.png"], first=10)
    prepare("tfds:lol:train", manual_dir=folder, data_dir=folder / "tfds")
    return folder
