import numpy as np
import pytest

from train.inference.files.colours import estimate_sigma
from train.inference.tiles.tiles import Rows, StreamedPhotograph


def test_estimating_the_noise_keeps_few_rows_in_memory() -> None:
    image = np.random.default_rng(0).normal(0.5, 0.1, (9000, 40, 1)).astype(np.float32)
    image[:3900] = 0.5
    decoded = []

    def open_rows() -> Rows:
        done = 0

        def rows(start: int, stop: int) -> np.ndarray:
            nonlocal done
            decoded.append(stop - done)
            done = max(stop, done)
            return image[start:stop]

        return rows

    assert estimate_sigma(StreamedPhotograph(9000, 40, open_rows)) == pytest.approx(0.1, rel=0.05)
    assert max(decoded) <= 1024
