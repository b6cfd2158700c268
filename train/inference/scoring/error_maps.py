"""Shows where a network errs: restored details next to maps of errors in brightness and colour."""

import math
from collections.abc import Iterable

import jax
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lumloss_jax import color
from train.console import printable
from train.data.images import to_uint8
from train.inference.scoring.figures import (
    CAPTION_HEIGHT,
    DETAIL_SCALE,
    FRAME,
    INK,
    MARGIN,
    PAPER,
    sheet_of,
    strongest_detail,
)

_WIDEST = 200  # largest width of a detail, in pixels of the photograph
_LARGEST = 10.0  # error in units of CIE Lab above which all errors have the same colour
# From black through violet and orange to pale yellow: brighter is worse, even in grey print.
_RAMP = (
    np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], np.float32)
    / 255
)

_HEADINGS = (
    "restored",
    "input, detail",
    "restored",
    "clean",
    f"error in L*, 0 to {_LARGEST:g}",
    f"error in a*b*, 0 to {_LARGEST:g}",
)


def error_sheet(
    rows: Iterable[tuple[str, tuple[np.ndarray, np.ndarray, np.ndarray]]],
) -> np.ndarray:
    """Draws one row per photograph: the whole restored photograph, and an enlarged detail of it.

    The whole photograph is reduced, with a frame around the detail. The detail is where edges are
    strongest. It is shown from the input, the restored and the clean photograph, next to maps of
    its errors in brightness and colour.

    Args:
      rows: caption and (clean, input, restored), ``[H, W, C]`` in float. They are read one by one,
        and none is kept, because photographs may be large.
    """
    return sheet_of([_strip(caption, *images) for caption, images in rows])


def lab_errors(restored: np.ndarray, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``|dL*|`` and the distance in a*b* for each pixel, ``[H, W]``."""
    labs = np.asarray(jax.jit(color.rgb_to_lab)(np.stack([restored, clean])))
    difference = labs[0] - labs[1]
    return np.abs(difference[..., 0]), np.hypot(difference[..., 1], difference[..., 2])


def heat(errors: np.ndarray) -> np.ndarray:
    """Maps errors to colours."""
    place = np.clip(errors / _LARGEST, 0, 1) * (len(_RAMP) - 1)
    return np.stack(
        [np.interp(place, np.arange(len(_RAMP)), _RAMP[:, i]) for i in range(3)], axis=-1
    )


def _strip(caption: str, clean: np.ndarray, given: np.ndarray, restored: np.ndarray) -> Image.Image:
    top, left, height, width = strongest_detail(clean, widest=_WIDEST)
    details = [one[top : top + height, left : left + width] for one in (given, restored, clean)]
    details = [np.repeat(one, 3 // one.shape[-1], axis=-1) for one in details]
    panels = [
        Image.fromarray(to_uint8(one)) for one in (*details, *map(heat, lab_errors(*details[1:])))
    ]
    tall = height * DETAIL_SCALE
    panels = [one.resize((width * DETAIL_SCALE, tall), Image.Resampling.NEAREST) for one in panels]
    panels.insert(0, _framed(restored, (top, left, height, width), tall))
    font = ImageFont.load_default(size=20)
    # For small photographs the headings are wider than the pictures below them.
    widths = [
        max(panel.width, math.ceil(font.getlength(heading)))
        for heading, panel in zip(_HEADINGS, panels, strict=True)
    ]
    size = sum(width + MARGIN for width in widths) + MARGIN, 2 * CAPTION_HEIGHT + tall + MARGIN
    strip = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(strip)
    draw.text((MARGIN, 6), printable(caption), fill=INK, font=font)
    x = MARGIN
    for heading, panel, width in zip(_HEADINGS, panels, widths, strict=True):
        draw.text((x, CAPTION_HEIGHT + 6), heading, fill=INK, font=font)
        strip.paste(panel, (x, 2 * CAPTION_HEIGHT))
        x += width + MARGIN
    return strip


def _framed(image: np.ndarray, detail: tuple[int, int, int, int], tall: int) -> Image.Image:
    """Resizes a photograph to a height, with a frame around (top, left, height, width)."""
    scale = tall / image.shape[0]
    whole = Image.fromarray(
        to_uint8(image).squeeze(-1) if image.shape[-1] == 1 else to_uint8(image)
    ).convert("RGB")
    whole = whole.resize((max(round(whole.width * scale), 1), tall), Image.Resampling.BOX)
    top, left, height, width = (round(scale * one) for one in detail)
    ImageDraw.Draw(whole).rectangle((left, top, left + width, top + height), outline=FRAME, width=2)
    return whole
