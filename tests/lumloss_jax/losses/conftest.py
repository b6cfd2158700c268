"""What the tests of losses share."""

import json
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest


@pytest.fixture
def x64() -> Iterator[None]:
    """float64 where it is asked for, as in ``jax.config.update("jax_enable_x64", True)``."""
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", False)


@pytest.fixture(scope="session")
def reference_batch(shared: Path) -> tuple[np.ndarray, np.ndarray, dict]:
    """Predictions, targets ``[2, 168, 172, 3]``, and values and gradients that PyTorch gives for them in float64."""
    with np.load(shared / "fixtures" / "metrics.npz") as arrays:
        predictions, targets = (np.moveaxis(arrays[f"batch/{name}"], 1, -1) for name in "yx")
    return predictions, targets, json.loads((shared / "fixtures" / "metrics.json").read_text())["batch"]["expected"]


@pytest.fixture(scope="session")
def reference_pairs(shared: Path) -> dict[str, tuple[np.ndarray, np.ndarray, dict]]:
    """Name -> reference and test image, uint8 ``[H, W, C]``, and what other libraries give for them."""
    described = json.loads((shared / "fixtures" / "metrics.json").read_text())["pairs"]
    with np.load(shared / "fixtures" / "metrics.npz") as arrays:
        return {
            name: (*(_with_channel(arrays[f"{name}/{side}"]) for side in "ab"), pair["expected"])
            for name, pair in described.items()
        }


def _with_channel(image: np.ndarray) -> np.ndarray:
    return image if image.ndim == 3 else image[..., None]
