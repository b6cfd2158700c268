"""Pictures of results, pixel for pixel: images are only enlarged by whole factors."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from train.console import printable
from train.data.images import to_uint8
from train.inference.scoring.baseline_table import Evaluation

MARGIN = 12
CAPTION_HEIGHT = 34
DETAIL_SCALE = 3
INK, PAPER, FRAME = (30, 30, 30), (255, 255, 255), (255, 210, 0)


def comparison(evaluations: list[Evaluation]) -> np.ndarray:
    """Shows noisy, restored and clean photographs side by side, above a detail enlarged 3 times."""
    return sheet_of([_strip(evaluation) for evaluation in evaluations])


def sheet_of(strips: Sequence[Image.Image]) -> np.ndarray:
    """Puts pictures one below the other, on a white background."""
    sheet = Image.new(
        "RGB", (max(strip.width for strip in strips), sum(strip.height for strip in strips)), PAPER
    )
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return np.asarray(sheet)


def _strip(evaluation: Evaluation) -> Image.Image:
    rows = {row.method: row for row in evaluation.rows}
    panels = {
        f"{evaluation.name}, noisy: {rows['noisy'].psnr:.2f} dB": evaluation.noisy,
        f"restored: {rows['restored'].psnr:.2f} dB": evaluation.restored,
        "clean": evaluation.clean,
    }
    height, width, _ = evaluation.clean.shape
    top, left, side_y, side_x = strongest_detail(evaluation.clean)
    full = Image.new(
        "RGB",
        (
            3 * (width + MARGIN) + MARGIN,
            CAPTION_HEIGHT + height + MARGIN + side_y * DETAIL_SCALE + MARGIN,
        ),
        PAPER,
    )
    draw = ImageDraw.Draw(full)
    font = ImageFont.load_default(size=20)
    for i, (caption, pixels) in enumerate(panels.items()):
        x = MARGIN + i * (width + MARGIN)
        draw.text((x, 6), printable(caption), fill=INK, font=font)
        image = Image.fromarray(to_uint8(pixels))
        full.paste(image, (x, CAPTION_HEIGHT))
        frame = (x + left, CAPTION_HEIGHT + top, x + left + side_x, CAPTION_HEIGHT + top + side_y)
        detail = image.crop((left, top, left + side_x, top + side_y))
        detail = detail.resize(
            (side_x * DETAIL_SCALE, side_y * DETAIL_SCALE), Image.Resampling.NEAREST
        )
        full.paste(detail, (x, CAPTION_HEIGHT + height + MARGIN))
        draw.rectangle(frame, outline=FRAME, width=2)
    return full


def strongest_detail(clean: np.ndarray, *, widest: int | None = None) -> tuple[int, int, int, int]:
    """Top, left, height and width of the window with the strongest edges, in pixels.

    Noise and blur do most harm there. It is as wide as a third of the photograph, and never wider
    than ``widest``.
    """
    height, width, _ = clean.shape
    size_y, size_x = min(height // 2, 100), min(width // DETAIL_SCALE, widest or width)
    size_y, size_x = max(size_y, 1), max(size_x, 1)
    grey = clean.mean(axis=2)
    energy = np.zeros_like(grey)
    energy[:-1] += np.diff(grey, axis=0) ** 2
    energy[:, :-1] += np.diff(grey, axis=1) ** 2
    sums = np.pad(energy.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    windows = (
        sums[size_y:, size_x:]
        - sums[:-size_y, size_x:]
        - sums[size_y:, :-size_x]
        + sums[:-size_y, :-size_x]
    )
    top, left = np.unravel_index(int(windows.argmax()), windows.shape)
    return int(top), int(left), size_y, size_x
