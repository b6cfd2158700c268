from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest

from lumloss_jax import metrics
from train.data.sources import make_source
from train.inference.scoring.protocols import add_fixed_noise
from train.monitoring.panels import ERROR_SCALE, panels
from train.network import init_variables
from train.validation import Validator

RNG = np.random.default_rng(0)
NAMES = ("one", "two")
IMAGES = (RNG.integers(0, 256, (24, 30, 3), np.uint8), RNG.integers(0, 256, (20, 16, 3), np.uint8))


@pytest.fixture(scope="module")
def variables(tiny_model: nn.Module) -> dict[str, Any]:
    variables = init_variables(tiny_model, jax.random.key(0))
    return jax.tree.map(lambda x: x + 0.01, variables)  # a fresh network gives back its input


def _middle(image: np.ndarray) -> np.ndarray:
    top, left = (image.shape[0] - 16) // 2, (image.shape[1] - 16) // 2
    return image[top : top + 16, left : left + 16].astype(np.float32) / 255


def test_scores_are_means_over_the_middles_with_fixed_noise(
    tiny_model: nn.Module, variables: dict[str, Any]
) -> None:
    source = make_source(NAMES, IMAGES)
    validate = Validator(tiny_model, source, sigma=25, best_metric="gmsd")
    found = validate(variables["params"], variables["batch_stats"])
    clean = np.stack([_middle(image) for image in IMAGES])
    noisy = np.stack(
        [add_fixed_noise(c, n, sigma=25, seed=0) for c, n in zip(clean, NAMES, strict=True)]
    )
    restored = np.clip(jax.jit(tiny_model.apply)(variables, noisy), 0, 1)
    assert list(found.scores) == ["psnr", "ssim", "ciede2000", "gmsd"]
    for name in found.scores:
        expected = np.mean(jax.jit(getattr(metrics, name))(restored, clean))
        np.testing.assert_allclose(found.scores[name], expected, rtol=1e-4)
    np.testing.assert_array_equal(found.noisy, noisy[0])
    np.testing.assert_array_equal(found.clean, clean[0])
    np.testing.assert_allclose(found.restored, restored[0], atol=1e-5)
    assert validate(variables["params"], variables["batch_stats"]).scores == found.scores


def test_pairs_are_restored_as_they_are(tiny_model: nn.Module, variables: dict[str, Any]) -> None:
    degraded = tuple(image // 2 for image in IMAGES)
    found = Validator(tiny_model, make_source(NAMES, IMAGES, inputs=degraded), sigma=25)(
        **variables
    )
    np.testing.assert_array_equal(found.noisy, _middle(degraded[0]))


def test_panels_show_five_pictures_with_errors_enlarged(tmp_path: Path) -> None:
    clean = np.full((4, 6, 3), 0.5, np.float32)
    restored = clean + np.array([0.1, 0, -0.05], np.float32)
    picture = panels(clean + 1, restored, clean)
    assert picture.shape == (4, 30, 3)
    noisy, shown, same, brightness, color = (picture[0, 6 * i] for i in range(5))
    assert (noisy == 255).all()
    np.testing.assert_array_equal(shown, np.rint(255 * restored[0, 0]))
    np.testing.assert_array_equal(same, np.rint(255 * clean[0, 0]))
    np.testing.assert_array_equal(
        brightness, round(255 * ERROR_SCALE * (0.299 * 0.1 - 0.114 * 0.05))
    )
    np.testing.assert_array_equal(color, np.rint(255 * ERROR_SCALE * np.array([0.1, 0, 0.05])))
