"""A sheet of thumbnails, one band for each split."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# (name, uint8 thumbnail, whether to frame it)
SheetItem = tuple[str, np.ndarray, bool]

_COLUMNS = 8
# Thumbnails of one split. If there are more photographs, they are sampled evenly, but framed ones
# are drawn first.
_MOST = 48
_MOST_SHOWN = 100  # characters of a name; a thumbnail has place for about twenty
_GAP, _CAPTION, _HEADING = 8, 16, 30
_INK, _PAPER, _FRAME = (30, 30, 30), (255, 255, 255), (220, 30, 30)


def contact_sheet(bands: Sequence[tuple[str, Sequence[SheetItem]]]) -> np.ndarray:
    """Draws bands of thumbnails under their headings, one below the other, as a uint8 picture."""
    parts = [_band(heading, thumbnails) for heading, thumbnails in bands]
    sheet = Image.new(
        "RGB", (max(part.width for part in parts), sum(part.height for part in parts)), _PAPER
    )
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    return np.asarray(sheet)


def sample(framed: Sequence[bool]) -> list[int]:
    """Chooses which photographs of a split are drawn, given whether each is framed."""
    first = [i for i, frame in enumerate(framed) if frame][:_MOST]
    others = np.flatnonzero(np.logical_not(framed))
    if not len(others):
        return first
    places = np.linspace(0, len(others), _MOST - len(first), endpoint=False).astype(int)
    return sorted({*first, *others[places].tolist()})


def _band(heading: str, thumbnails: Sequence[SheetItem]) -> Image.Image:
    width = max(pixels.shape[1] for _, pixels, _ in thumbnails) + _GAP
    height = max(pixels.shape[0] for _, pixels, _ in thumbnails) + _CAPTION + _GAP
    rows = -(-len(thumbnails) // _COLUMNS)
    columns = min(_COLUMNS, len(thumbnails))
    band = Image.new("RGB", (max(columns * width + _GAP, 240), _HEADING + rows * height), _PAPER)
    draw = ImageDraw.Draw(band)
    draw.text((_GAP, 6), heading, fill=_INK, font=ImageFont.load_default(size=16))
    font = ImageFont.load_default(size=10)
    for i, (name, pixels, frame) in enumerate(thumbnails):
        x, y = _GAP + i % _COLUMNS * width, _HEADING + i // _COLUMNS * height
        if frame:
            draw.rectangle(
                (x - 3, y - 3, x + pixels.shape[1] + 2, y + pixels.shape[0] + 2), fill=_FRAME
            )
        band.paste(Image.fromarray(pixels), (x, y))
        # The end of a name says the most, so a long name loses its beginning. Measuring the length
        # of a path of thousands of characters once for each of them would take minutes.
        if len(name) > _MOST_SHOWN:
            name = f"\u2026{name[-_MOST_SHOWN:]}"
        while font.getlength(name) > width - _GAP and len(name) > 1:
            name = "\u2026" + name[2:]
        draw.text((x, y + pixels.shape[0] + 3), name, fill=_INK, font=font)
    return band
