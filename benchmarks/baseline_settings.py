"""Measures the best setting of each classical denoiser at each noise level.

For each level the setting with the best mean PSNR is searched on a grid, on the central 128x128
pixels of eight photographs that are spread evenly over a folder. The photographs must not be among
those that are scored later. The figures in ``train/inference/scoring/classical.py`` were printed
by::

    python benchmarks/baseline_settings.py CBSD432
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from train.data.images import read_image, to_float
from train.inference.scoring.classical import BASELINES, LEVELS, BaselineName, apply_setting

_SIDE = 128  # pixels
# First, last and step of the settings that are tried, in the units of each method.
_GRIDS = {
    "gaussian": (0.2, 3.0, 0.05),
    "nlm": (0.3, 1.2, 0.1),
    "wavelet": (0.5, 1.6, 0.1),
    "tv": (0.3, 2.5, 0.1),
}


@dataclass(frozen=True)
class Config:
    """Measure the best setting of each classical denoiser at each noise level."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder of photographs, which are not scored later."""
    photographs: int = 8
    """Number of photographs to measure on."""
    methods: tuple[BaselineName, ...] = BASELINES
    """Methods to measure."""


def main(config: Config) -> None:
    """Prints a row for each method."""
    paths = sorted(path for path in config.folder.iterdir() if path.is_file())
    chosen = [paths[i * len(paths) // config.photographs] for i in range(config.photographs)]
    clean = [_centre(to_float(read_image(path))) for path in chosen]
    print("photographs:", ", ".join(path.name for path in chosen), flush=True)
    rng = np.random.default_rng(0)
    noise = [rng.normal(size=image.shape).astype(np.float32) for image in clean]
    for name in config.methods:
        settings, scores = [], []
        for sigma in LEVELS:
            noisy = [one + sigma / 255 * other for one, other in zip(clean, noise, strict=True)]
            tried = {}
            first, last, step = _GRIDS[name]
            for setting in np.arange(first, last + step / 2, step):
                tried[setting] = _mean_psnr(name, clean, noisy, sigma, float(setting))
            best = max(tried, key=lambda setting: tried[setting])
            settings.append(f"{best:.2f}")
            scores.append(f"{tried[best]:.2f}")
        print(f"{name}: {', '.join(settings)} ({', '.join(scores)} dB)", flush=True)


def _centre(image: np.ndarray) -> np.ndarray:
    top, left = ((side - _SIDE) // 2 for side in image.shape[:2])
    return image[top : top + _SIDE, left : left + _SIDE]


def _mean_psnr(
    name: BaselineName,
    clean: list[np.ndarray],
    noisy: list[np.ndarray],
    sigma: float,
    setting: float,
) -> float:
    errors = [
        np.mean((apply_setting(name, one, sigma=sigma, setting=setting) - other) ** 2)
        for one, other in zip(noisy, clean, strict=True)
    ]
    return float(np.mean([-10 * np.log10(error) for error in errors]))


if __name__ == "__main__":
    main(tyro.cli(Config))
