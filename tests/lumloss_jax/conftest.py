"""What all tests of the library share: strict promotion and other libraries' numbers."""

import json
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

Pairs = dict[str, tuple[np.ndarray, np.ndarray, dict]]


@pytest.fixture(autouse=True)
def strict_promotion() -> Iterator[None]:
    """Raises wherever two dtypes or two ranks meet."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def float64() -> Iterator[None]:
    """Switches float64 on for one test."""
    # Before jax 0.8
    enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    with enable_x64(True):
        yield


@pytest.fixture
def optimized() -> Iterator[None]:
    """Compiles for one test at the level at which users compile, where its numbers depend on it."""
    given = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", given)


@pytest.fixture(scope="session")
def golden_pairs(golden: Path) -> Pairs:
    """Name -> reference and test image, and what other libraries give for them.

    Images are uint8 ``[H, W, C]``.
    """
    return _read_pairs(golden / "metrics")


@pytest.fixture(scope="session")
def reference_pairs(shared: Path) -> Pairs:
    """``golden_pairs`` and more, where ../shared is there."""
    return _read_pairs(shared / "fixtures")


@pytest.fixture(scope="session")
def reference_batch(shared: Path) -> tuple[np.ndarray, np.ndarray, dict]:
    """Predictions, targets ``[2, 168, 172, 3]``, and PyTorch's values and gradients in float64."""
    with np.load(shared / "fixtures" / "metrics.npz") as arrays:
        predictions, targets = (np.moveaxis(arrays[f"batch/{name}"], 1, -1) for name in "yx")
    return (
        predictions,
        targets,
        json.loads((shared / "fixtures" / "metrics.json").read_text())["batch"]["expected"],
    )


def _read_pairs(folder: Path) -> Pairs:
    described = json.loads((folder / "metrics.json").read_text())["pairs"]
    with np.load(folder / "metrics.npz") as arrays:
        pairs = {}
        for name, pair in described.items():
            reference, test = (_with_channel(arrays[f"{name}/{side}"]) for side in "ab")
            pairs[name] = (reference, test, pair["expected"])
        return pairs


def _with_channel(image: np.ndarray) -> np.ndarray:
    return image if image.ndim == 3 else image[..., None]
