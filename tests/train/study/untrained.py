"""What studies are made of in tests, without training: networks, and photographs of noise."""

import sqlite3
from collections.abc import Iterable
from pathlib import Path

import jax
import numpy as np

from train.checkpoints.checkpoint import Network
from train.data.images import decode_image, to_uint8, write_image
from train.inference.predictors import predictor_for
from train.network import build_model, init_variables
from train.study.study_file import FILE_NAME

SPEC = "dncnn(depth=2, features=4, batch_norm=False)"


def write_photographs(folder: Path, names: Iterable[str], random: np.random.Generator) -> None:
    """Makes a folder of photographs of 80 x 70 pixels."""
    folder.mkdir()
    for name in names:
        image = random.integers(0, 256, (70, 80, 3), dtype=np.uint8)
        write_image(folder / f"{name}.png", image)


def untrained(number: int, spec: str = SPEC) -> Network:
    """A network that changes its input, each number in its own way."""
    model = build_model(spec)
    variables = init_variables(model, jax.random.key(number))
    # With its first weights it would return its input.
    variables = jax.tree.map(lambda array: array + 0.02 * (number + 1), variables)
    return Network(model, spec, variables["params"], {})


def restored_by(network: Network, noisy: np.ndarray) -> np.ndarray:
    """What the network makes of a photograph, in 8 bits."""
    predictor = predictor_for(network.model, network.params, network.batch_stats)
    return to_uint8(predictor.restore(noisy))


def shown(study: Path) -> list[tuple[str, str, np.ndarray]]:
    """Name of the photograph, what is shown and its pixels, for everything on the left."""
    with sqlite3.connect(study / FILE_NAME) as file:
        rows = file.execute(
            "SELECT photographs.name, left_name, pictures.png FROM trials JOIN photographs ON "
            "photographs.number = trials.photograph JOIN pictures ON pictures.number = left_picture"
        ).fetchall()
    return [(name, left, decode_image(png, name)) for name, left, png in rows]
