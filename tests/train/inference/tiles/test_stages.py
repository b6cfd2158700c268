import errno
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from lumloss_jax.models import create_model, variable_shapes
from tests.slow_cases import slow_for
from tests.train.inference.stored_images import pixels, save
from train.data.images import to_float
from train.errors import InputError
from train.inference.files.image_files import open_stored
from train.inference.predict import Predictor
from train.inference.predictors import predictor_for
from train.inference.tiles import stages
from train.inference.tiles.tiles import StreamedPhotograph


def predictor(**options: Any) -> Predictor:
    """A predictor whose network pads sides to multiples of four, by up to three reflected rows."""
    count = options.pop("stages")
    model = create_model("retinexformer", features=4, levels=2, num_blocks=(0, 0, 1), stages=count)
    rng = np.random.default_rng(6)
    variables = jax.tree.map(
        lambda x: rng.normal(0, 0.2, x.shape).astype(np.float32), variable_shapes(model)
    )
    return predictor_for(model, variables["params"], {}, **options)


@slow_for("shape", [(61, 90, 3), (69, 130, 3), (90, 61, 3)], [(61, 90, 3), (90, 61, 3)])
def test_fast_stages_read_a_file_in_the_same_way_as_an_array(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    """The photograph is reduced by two or three, and its last rows are padding."""
    image = pixels(shape)
    fast = predictor(stages=2, tile=64, fast=True)
    stored = open_stored(save(tmp_path / "a.png", image))
    restored = np.concatenate(list(fast.strips(StreamedPhotograph(*shape[:2], stored.rows))))
    np.testing.assert_array_equal(restored, fast.restore(to_float(image)))


def test_at_most_two_files_between_stages_exist_at_once(monkeypatch) -> None:
    files: list[Any] = []
    there: list[int] = []
    open_file = tempfile.TemporaryFile

    def opened() -> Any:
        files.append(open_file())
        there.append(sum(not file.closed for file in files))
        return files[-1]

    monkeypatch.setattr(stages.tempfile, "TemporaryFile", opened)
    predictor(stages=4, tile=64, fast=True).restore(to_float(pixels((61, 90, 3))))
    assert there == [1, 2, 2, 2] and all(file.closed for file in files)


def test_a_full_folder_for_temporary_files_is_an_error(monkeypatch) -> None:
    class Full(io.BytesIO):
        def write(self, content: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(stages.tempfile, "TemporaryFile", Full)
    said = "the folder for temporary files, cannot be written to: No space left on device. Free"
    with (
        pytest.raises(InputError, match=said),
        stages.on_disk([np.zeros((2, 3, 3), np.float32)], 2, 3),
    ):
        pass
