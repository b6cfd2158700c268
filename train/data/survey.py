"""Every photograph of a data set looked at once: what is known of it without its pixels, and what it looks like."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from train.data.looks import Glance, Look, look, thumbnail
from train.data.sources import Entry, Source, make_entry, open_photograph
from train.errors import InputError


def survey(
    names: Sequence[str], images: Sequence[np.ndarray], inputs: Sequence[np.ndarray] | None
) -> list[tuple[Entry, Look] | InputError]:
    """What each photograph is and looks like, or what is wrong with it; each is decoded once, on all cores."""

    def one(i: int) -> tuple[Entry, Look] | InputError:
        try:
            target = _glance(images, i)
            given = None if inputs is None else _glance(inputs, i)
            entry = make_entry(names[i], target, given)
        except InputError as error:
            return error
        return entry, look(target, given)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(one, range(len(names))))


def draw_thumbnail(source: Source, i: int) -> np.ndarray:
    """A small uint8 picture of a photograph, decoded again; of a pair the input beside the target."""
    sides = [source.images] if source.inputs is None else [source.inputs, source.images]
    pictures = []
    for images in sides:
        with open_photograph(images, i) as rows:
            pictures.append(thumbnail(rows))
    return np.concatenate(pictures, axis=1)


def _glance(images: Sequence[np.ndarray], i: int) -> Glance:
    with open_photograph(images, i) as rows:
        glance = Glance(rows.height, rows.width, rows.bits)
        for strip in rows.strips:
            glance.add(strip)
        return glance
