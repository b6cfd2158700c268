"""Shows where a network errs: restored details next to maps of their errors."""

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
from train.inference.scoring.measure import FLIP_REACH, flip_errors

_WIDEST = 200  # largest width of a detail, in pixels of the photograph
# Errors above these have the same colour: in units of CIE Lab, and of FLIP, which ends at 1 but
# seldom reaches half of it in restored photographs.
_LARGEST_LAB, LARGEST_FLIP = 10.0, 0.5
_BAR_HEIGHT = 14
# From black through violet and orange to pale yellow: brighter is worse, even in grey print.
RAMP = (
    np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], np.float32)
    / 255
)

_HEADINGS = (
    "restored",
    "input, detail",
    "restored",
    "clean",
    "error in L*",
    "error in a*b*",
    "FLIP",
)
_LARGEST = (_LARGEST_LAB, _LARGEST_LAB, LARGEST_FLIP)  # the end of each map's scale
FLIP_IN_WORDS = (
    "FLIP says how visible the difference from the clean photograph is to somebody who flips "
    "between the two, at a distance from the display at which 67 pixels span one degree. 0 means "
    "invisible, and 1 is the maximum."
)
_NOTE = (
    "The maps show the error of each pixel of the detail; brighter is worse. L* is brightness and "
    "a*b* is colour in CIE Lab. Both errors are measured pixel by pixel. "
    f"{FLIP_IN_WORDS}"
)


def error_sheet(
    rows: Iterable[tuple[str, tuple[np.ndarray, np.ndarray, np.ndarray]]],
) -> np.ndarray:
    """Draws one row per photograph: the whole restored photograph, and an enlarged detail of it.

    The whole photograph is reduced, with a frame around the detail. The detail is where edges are
    strongest. It is shown from the input, the restored and the clean photograph, next to maps of
    its errors in brightness and in colour, and of FLIP. A note below says what they show.

    Args:
      rows: caption and (clean, input, restored), ``[H, W, C]`` in float. They are read one by one,
        and none is kept, because photographs may be large.
    """
    strips = [_strip(caption, *images) for caption, images in rows]
    return sheet_of([*strips, _note(max(strip.width for strip in strips))])


def lab_errors(restored: np.ndarray, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``|dL*|`` and the distance in a*b* for each pixel, ``[H, W]``."""
    labs = np.asarray(jax.jit(color.rgb_to_lab)(np.stack([restored, clean])))
    difference = labs[0] - labs[1]
    return np.abs(difference[..., 0]), np.hypot(difference[..., 1], difference[..., 2])


def flip_of_detail(
    restored: np.ndarray, clean: np.ndarray, detail: tuple[int, int, int, int]
) -> np.ndarray:
    """FLIP of each pixel of a detail, which depends on the pixels around it too.

    Args:
      restored: the whole photograph, ``[H, W, C]``.
      clean: the clean photograph, of the same shape.
      detail: top, left, height and width.

    Returns:
      The map, ``[height, width]``.
    """
    top, left, height, width = detail
    above, before = max(top - FLIP_REACH, 0), max(left - FLIP_REACH, 0)
    place = slice(above, top + height + FLIP_REACH), slice(before, left + width + FLIP_REACH)
    errors = np.asarray(flip_errors(restored[place], clean[place]))
    return errors[top - above :, left - before :][:height, :width]


def heat(errors: np.ndarray, *, largest: float) -> np.ndarray:
    """Maps errors to colours; errors from ``largest`` on have the same one."""
    place = np.clip(errors / largest, 0, 1) * (len(RAMP) - 1)
    return np.stack([np.interp(place, np.arange(len(RAMP)), RAMP[:, i]) for i in range(3)], axis=-1)


def _strip(caption: str, clean: np.ndarray, given: np.ndarray, restored: np.ndarray) -> Image.Image:
    detail = top, left, height, width = strongest_detail(clean, widest=_WIDEST)
    details = [one[top : top + height, left : left + width] for one in (given, restored, clean)]
    details = [np.repeat(one, 3 // one.shape[-1], axis=-1) for one in details]
    maps = (*lab_errors(*details[1:]), flip_of_detail(restored, clean, detail))
    painted = [heat(one, largest=largest) for one, largest in zip(maps, _LARGEST, strict=True)]
    panels = [Image.fromarray(to_uint8(one)) for one in (*details, *painted)]
    tall = height * DETAIL_SCALE
    panels = [one.resize((width * DETAIL_SCALE, tall), Image.Resampling.NEAREST) for one in panels]
    panels.insert(0, _framed(restored, detail, tall))
    font = ImageFont.load_default(size=20)
    # For small photographs the headings are wider than the pictures below them.
    widths = [
        max(panel.width, math.ceil(font.getlength(heading)))
        for heading, panel in zip(_HEADINGS, panels, strict=True)
    ]
    # Below each map stand a bar of its colours and the numbers that they mean.
    size = sum(width + MARGIN for width in widths) + MARGIN, 3 * CAPTION_HEIGHT + tall + MARGIN
    strip = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(strip)
    draw.text((MARGIN, 6), printable(caption), fill=INK, font=font)
    x = MARGIN
    for heading, panel, width in zip(_HEADINGS, panels, widths, strict=True):
        draw.text((x, CAPTION_HEIGHT + 6), heading, fill=INK, font=font)
        strip.paste(panel, (x, 2 * CAPTION_HEIGHT))
        x += width + MARGIN
    x = size[0]
    for largest, panel, width in zip(
        reversed(_LARGEST), reversed(panels), reversed(widths), strict=False
    ):
        x -= width + MARGIN
        _draw_bar(draw, x, 2 * CAPTION_HEIGHT + tall + 2, panel.width, largest)
    return strip


def _draw_bar(draw: ImageDraw.ImageDraw, x: int, y: int, width: int, largest: float) -> None:
    """Draws the colours of a map from left to right, with the numbers at both ends."""
    colours = to_uint8(heat(np.linspace(0, largest, width), largest=largest))
    for column, colour in enumerate(colours):
        draw.line((x + column, y, x + column, y + _BAR_HEIGHT), fill=tuple(map(int, colour)))
    font = ImageFont.load_default(size=14)
    draw.text((x, y + _BAR_HEIGHT + 1), "0", fill=INK, font=font)
    most = f"{largest:g}"
    right = max(x + width - math.ceil(font.getlength(most)), x + 2 * math.ceil(font.getlength("0")))
    draw.text((right, y + _BAR_HEIGHT + 1), most, fill=INK, font=font)


def _note(width: int) -> Image.Image:
    """Writes what the maps show, on as many lines as needed."""
    font = ImageFont.load_default(size=20)
    lines = [""]
    for word in _NOTE.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > width - 2 * MARGIN and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    strip = Image.new("RGB", (width, CAPTION_HEIGHT * len(lines) + MARGIN), PAPER)
    draw = ImageDraw.Draw(strip)
    for number, line in enumerate(lines):
        draw.text((MARGIN, number * CAPTION_HEIGHT + 6), line, fill=INK, font=font)
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
