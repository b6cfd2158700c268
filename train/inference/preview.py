"""``restore --preview``: the centre of a photograph at five strengths, next to each other."""

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from train.data.images import is_made_by, to_uint8, upright, write_image
from train.errors import InputError
from train.files.outputs import check_replaceable
from train.inference.files.colours import colours_of, grey_again, noise_in, photograph_in
from train.inference.files.image_files import open_stored
from train.inference.files.inputs import Job
from train.inference.predict import NOT_FINITE, Predictor
from train.inference.retouch import Retouch

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
SIDE = 320  # side of the crop, in pixels
_MARGIN, _CAPTION = 12, 34
_INK, _PAPER = (30, 30, 30), (255, 255, 255)
_PROGRAM = "lumloss_jax restore --preview"  # written into each sheet, so that it may be replaced


def preview_of(job: Job) -> Path:
    """Returns the file that the sheet of a photograph is written to."""
    return job.target.with_name(f"{job.target.name}.preview.png")


def check_preview(job: Job, *, overwrite: bool) -> None:
    """Raises an error if something is in the way of the sheet that --preview did not write."""
    check_replaceable(
        preview_of(job),
        lambda path: is_made_by(path, _PROGRAM),
        option="--output",
        overwrite=overwrite,
    )


def write_preview(
    predictor: Predictor, job: Job, *, sigma: float | None, keep_detail: float
) -> str:
    """Writes the sheet of one photograph.

    Args:
      predictor: the network.
      job: the photograph.
      sigma: standard deviation of its noise, 0 to 255; None: it is estimated.
      keep_detail: as in :class:`~train.inference.retouch.Retouch`.

    Returns:
      What was done, in words.

    Raises:
      InputError: if the photograph cannot be restored.
    """
    stored = open_stored(job.source)
    colours = colours_of(stored)
    photograph = photograph_in(stored, colours=colours, channels=predictor.model.channels)
    noise = noise_in(photograph, sigma)
    height, width = min(photograph.height, SIDE), min(photograph.width, SIDE)
    top, left = (photograph.height - height) // 2, (photograph.width - width) // 2

    strips = predictor.strips(photograph, sigma=noise if predictor.model.takes_sigma else None)
    pairs = Retouch(keep_detail=keep_detail).pairs(strips, photograph, colours=colours, sigma=noise)
    known, found = 0, []
    for pair in pairs:
        rows = slice(max(top - known, 0), max(top + height - known, 0))
        # Copies, because a view would keep all strips in memory, even an empty one.
        found.append([half[rows, left : left + width].copy() for half in pair])
        known += len(pair[0])
        if known >= top + height:
            break  # What is below the crop need not be restored.
    given, restored = (np.concatenate(halves) for halves in zip(*found, strict=True))
    if np.isnan(restored).any():
        raise InputError(f"{job.source}: {NOT_FINITE}")
    # The sheet has no metadata that would turn it.
    given, restored = (
        upright(pixels, stored.photograph.orientation) for pixels in (given, restored)
    )

    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        write_image(preview_of(job), _sheet(given, restored, colours), made_by=_PROGRAM)
    except OSError as error:
        raise InputError(
            f"{preview_of(job)} could not be written: {error.strerror or error}."
        ) from None
    height, width, _ = given.shape
    return f"the centre, {width}x{height} pixels, at strengths 0 to 1"


def _sheet(given: np.ndarray, restored: np.ndarray, colours: int) -> np.ndarray:
    height, width, _ = given.shape
    font = ImageFont.load_default(size=20)
    captions = [f"strength {strength:g}" for strength in STRENGTHS]
    # The captions of a narrow photograph are wider than the photograph.
    step = max(width, *(math.ceil(font.getlength(one)) for one in captions)) + _MARGIN
    sheet = Image.new("RGB", (len(STRENGTHS) * step + _MARGIN, _CAPTION + height + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, strength in enumerate(STRENGTHS):
        left = _MARGIN + i * step
        pixels = to_uint8(grey_again(Retouch(strength).blended(given, restored), colours))
        draw.text((left, 6), captions[i], fill=_INK, font=font)
        sheet.paste(
            Image.fromarray(np.repeat(pixels, 3 // pixels.shape[-1], axis=-1)), (left, _CAPTION)
        )
    return np.asarray(sheet)
