"""Decodes every photograph of a data set once, for its entry and for what it looks like."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from train.data.entries import Entry, make_entry, open_photograph
from train.data.inspection.pixel_inspection import Appearance, PixelScan, inspect_pixels
from train.data.inspection.thumbnails import make_thumbnail
from train.data.sources import Source
from train.errors import InputError


def survey(
    names: Sequence[str], images: Sequence[np.ndarray], inputs: Sequence[np.ndarray] | None
) -> list[tuple[Entry, Appearance] | InputError]:
    """Decodes each photograph once, on all cores.

    Args:
      names: the photographs' names, for errors.
      images: the clean photographs.
      inputs: their degraded versions, if there are any.

    Returns:
      For each photograph its entry and its appearance, or what is wrong with it.
    """

    def survey_one(i: int) -> tuple[Entry, Appearance] | InputError:
        try:
            target = _scan(images, i)
            degraded = None if inputs is None else _scan(inputs, i)
            entry = make_entry(names[i], target, degraded)
        except InputError as error:
            return error
        return entry, inspect_pixels(target, degraded)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(survey_one, range(len(names))))


def draw_thumbnail(source: Source, i: int) -> np.ndarray:
    """Decodes a photograph again and draws it as a small uint8 picture, a pair side by side."""
    sides = [source.images] if source.inputs is None else [source.inputs, source.images]
    pictures = []
    for images in sides:
        with open_photograph(images, i) as rows:
            pictures.append(make_thumbnail(rows))
    return np.concatenate(pictures, axis=1)


def _scan(images: Sequence[np.ndarray], i: int) -> PixelScan:
    with open_photograph(images, i) as rows:
        scan = PixelScan(rows.height, rows.width, rows.bits)
        for strip in rows.strips:
            scan.add(strip)
        return scan
