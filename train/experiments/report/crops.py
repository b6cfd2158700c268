"""Finds the places of a comparison that are worth a look: where networks differ most."""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.ndimage

from train.data.images import to_float
from train.data.sources import Source
from train.experiments.report.report import Crop
from train.experiments.statistics.comparison_table import ComparisonRow, Restore, score_table
from train.inference.scoring.error_maps import flip_of_detail
from train.inference.scoring.protocols import add_fixed_noise

SIDE = 160  # side of a crop, in pixels


def find_crops(
    networks: Mapping[str, Restore],
    scores: Sequence[ComparisonRow],
    source: Source,
    *,
    sigma: float,
    noise_seed: int,
    count: int,
) -> list[Crop]:
    """Makes crops of the photographs on which the losses' PSNRs differ most.

    The photographs are chosen by the scores of all seeds; the pixels come from the networks given,
    one for each loss. The place is where the outputs of these networks differ most on average over
    a crop, not where any of them has the largest error.

    Args:
      networks: a network for each loss.
      scores: scores of all seeds.
      source: the photographs.
      sigma: the noise level, from 0 to 255.
      noise_seed: seed of the noise that is added.
      count: number of photographs to show.

    Returns:
      One crop of each photograph.
    """
    level = sigma if source.inputs is None else 0.0
    at_level = [row for row in scores if row.sigma == level]
    tables = [score_table(at_level, "psnr", loss, (level,)).mean(axis=1) for loss in networks]
    photographs = sorted({row.photograph for row in at_level})
    spread = np.max(tables, axis=0) - np.min(tables, axis=0)
    crops = []
    for place in np.argsort(-spread, kind="stable")[:count]:
        name = photographs[place]
        i = source.names.index(name)
        clean = to_float(source.images[i])
        if source.inputs is None:
            noisy, told = add_fixed_noise(clean, name, sigma=sigma, seed=noise_seed), sigma
        else:
            noisy, told = to_float(source.inputs[i]), None
        restored = {loss: restore(noisy, told) for loss, restore in networks.items()}
        rows, columns = _place(list(restored.values()))
        detail = rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start
        title = name if source.inputs is not None else f"{name}, sigma {sigma:g}"
        crops.append(
            Crop(
                f"{title}: mean PSNR over all seeds differs by up to {spread[place]:.2f} dB "
                "between the losses",
                clean[rows, columns],
                np.clip(noisy[rows, columns], 0, 1),
                {loss: image[rows, columns] for loss, image in restored.items()},
                {loss: flip_of_detail(image, clean, detail) for loss, image in restored.items()},
            )
        )
    return crops


def _place(images: Sequence[np.ndarray]) -> tuple[slice, slice]:
    """Rows and columns of the square in which the images differ most.

    If the photograph is smaller than a crop, the side of the square is its short side.
    """
    differences = np.ptp(np.stack(images), axis=0).mean(axis=-1)
    side = min(SIDE, *differences.shape)
    means = scipy.ndimage.uniform_filter(differences, side, mode="constant")
    # Centres of the squares that lie inside. If the side is even, the centre is the pixel below and
    # to the right of the middle.
    low, (height, width) = side // 2, differences.shape
    inside = means[low : height - side + low + 1, low : width - side + low + 1]
    row, column = np.unravel_index(np.argmax(inside), inside.shape)
    return slice(int(row), int(row) + side), slice(int(column), int(column) + side)
