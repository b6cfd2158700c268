"""Where a network errs: pictures of restored details beside maps of the errors in brightness and in colour."""

from collections.abc import Mapping

import jax
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lumloss_jax import color
from train.data.images import to_uint8
from train.experiments.figures import strongest_detail

_SCALE = 3  # of the details
_MARGIN, _CAPTION = 12, 34
_INK, _PAPER = (30, 30, 30), (255, 255, 255)
_LARGEST = 10.0  # of CIE Lab: errors from here on are all one colour
# Black, through violet and orange, to pale yellow: brighter is worse, in grey print too.
_RAMP = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], np.float32) / 255

_HEADINGS = ("input", "restored", "clean", f"error in L*, 0 to {_LARGEST:g}", f"error in a*b*, 0 to {_LARGEST:g}")


def error_sheet(rows: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
    """One row per photograph: input, restored and clean, and what is wrong in brightness and in colour.

    Args:
      rows: by caption, (clean, input, restored), ``[H, W, C]`` in float; of each the detail is shown whose edges are
        strongest.
    """
    strips = [_strip(caption, *images) for caption, images in rows.items()]
    sheet = Image.new("RGB", (max(s.width for s in strips), sum(s.height for s in strips)), _PAPER)
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return np.asarray(sheet)


def lab_errors(restored: np.ndarray, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``|dL*|`` and the distance in a*b* of each pixel, ``[H, W]``."""
    labs = np.asarray(jax.jit(color.rgb_to_lab)(np.stack([restored, clean])))
    difference = labs[0] - labs[1]
    return np.abs(difference[..., 0]), np.hypot(difference[..., 1], difference[..., 2])


def heat(errors: np.ndarray) -> np.ndarray:
    """Errors as colours."""
    place = np.clip(errors / _LARGEST, 0, 1) * (len(_RAMP) - 1)
    return np.stack([np.interp(place, np.arange(len(_RAMP)), _RAMP[:, i]) for i in range(3)], axis=-1)


def _strip(caption: str, clean: np.ndarray, given: np.ndarray, restored: np.ndarray) -> Image.Image:
    top, left, height, width = strongest_detail(clean)
    images = [
        np.repeat(i, 3 // i.shape[-1], axis=-1)[top : top + height, left : left + width]
        for i in (given, restored, clean)
    ]
    panels = [*images, *map(heat, lab_errors(*images[1:]))]
    width, height = width * _SCALE, height * _SCALE
    strip = Image.new("RGB", (len(panels) * (width + _MARGIN) + _MARGIN, 2 * _CAPTION + height + _MARGIN), _PAPER)
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(size=20)
    draw.text((_MARGIN, 6), caption, fill=_INK, font=font)
    for i, (heading, panel) in enumerate(zip(_HEADINGS, panels, strict=True)):
        x = _MARGIN + i * (width + _MARGIN)
        draw.text((x, _CAPTION + 6), heading, fill=_INK, font=font)
        image = Image.fromarray(to_uint8(panel)).resize((width, height), Image.Resampling.NEAREST)
        strip.paste(image, (x, 2 * _CAPTION))
    return strip
