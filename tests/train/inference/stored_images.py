"""Files that tests of ``restore`` write and read as they are stored, and networks for them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyvips

from train.checkpoints.checkpoint import load_network
from train.data.images import to_float
from train.inference.predictors import predictor_for

SPEC = "dncnn(depth=2, features=4, batch_norm=False)"
GREY = "dncnn(depth=2, features=4, batch_norm=False, channels=1)"
TOLD = "drunet(features=(2,), blocks=1)"

Make = Callable[[str], Path]


def pixels(shape: tuple[int, ...], dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(len(shape)).integers(
        0, np.iinfo(dtype).max, shape, dtype, endpoint=True
    )


def save(
    path: Path, array: np.ndarray, *, fields: dict[str, object] | None = None, **options: object
) -> Path:
    image = pyvips.Image.new_from_array(array)
    for name, value in (fields or {}).items():
        kind = {
            int: pyvips.GValue.gint_type,
            bytes: pyvips.GValue.blob_type,
            str: pyvips.GValue.gstr_type,
        }[type(value)]
        image.set_type(kind, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.write_to_file(str(path), **options)
    return path


def stored(path: Path) -> np.ndarray:
    """The pixels of a file as they are stored, neither rotated nor converted."""
    array = pyvips.Image.new_from_file(str(path)).numpy()
    return array if array.ndim == 3 else array[..., None]


def restored(folder: Path, image: np.ndarray, **options: float) -> np.ndarray:
    """Restores an image in memory with a predictor, rounded to the image's own depth."""
    network = load_network(folder)
    predicted = predictor_for(network.model, network.params, network.batch_stats).restore(
        to_float(image), **options
    )
    return np.rint(predicted * np.iinfo(image.dtype).max).astype(image.dtype)
