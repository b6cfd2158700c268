"""Photographs that telephones store on their side are upright in every format and verb."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from tests.train.conftest import TINY
from train.__main__ import main
from train.assembly import open_photographs
from train.config import DataConfig, FitConfig
from train.data.images import decode_image, decode_rows, upright
from train.data.sources import open_source

ORIENTATION = 274
FORMATS = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "TIFF": {},
    "WEBP": {"lossless": True, "method": 0},
}
# Rows and columns as they are stored
SIZES = [
    (512, 40),
    (513, 40),
    (700, 37),
    (1100, 1),
    (40, 1100),
]


def _smooth(height: int, width: int) -> np.ndarray:
    """Pixels that are different at every place, and that JPEG hardly changes."""
    rows, columns = np.mgrid[0:height, 0:width]
    channels = [rows * 255 / height, columns * 255 / max(width, 2), (rows + columns) % 256]
    return np.stack(channels, axis=-1).astype(np.uint8)


def _encoded(kind: str, pixels: np.ndarray, orientation: int) -> bytes:
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, kind, exif=exif, **FORMATS[kind])
    return file.getvalue()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", FORMATS)
def test_every_orientation_is_turned_as_pillow_turns_it(kind: str, size: tuple[int, int]) -> None:
    pixels = _smooth(*size)
    for orientation in range(1, 9):
        content = _encoded(kind, pixels, orientation)
        with PIL.Image.open(io.BytesIO(content)) as image:
            expected = np.asarray(PIL.ImageOps.exif_transpose(image))
        read = decode_image(content, f"orientation {orientation}")
        assert read.shape == expected.shape and read.flags.c_contiguous
        # Two builds of the same JPEG decoder may round differently.
        assert np.abs(read.astype(int) - expected).max() <= (1 if kind == "JPEG" else 0), (
            orientation
        )


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("orientation", [0, 1, 9, 65535])
def test_an_orientation_that_there_is_not_turns_nothing(kind: str, orientation: int) -> None:
    pixels = _smooth(5, 7)
    expected = decode_image(_encoded(kind, pixels, 1), "a")
    content = _encoded(kind, pixels, orientation)
    np.testing.assert_array_equal(decode_image(content, "a"), expected)
    strips = decode_rows(content, "a").strips
    np.testing.assert_array_equal(np.concatenate(list(strips)), expected)


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A portrait for each orientation, in all formats, with more than 512 stored rows."""
    folder = tmp_path_factory.mktemp("portraits")
    for i, kind in enumerate((*FORMATS, *FORMATS), 1):
        (folder / f"{i}.{kind.lower()}").write_bytes(_encoded(kind, _stored(i), i))
    return folder


def _stored(i: int) -> np.ndarray:
    return np.roll(_smooth(530, 24), i, axis=1)


def test_data_looks_at_portraits(portraits: Path, tmp_path: Path, capsys) -> None:
    sheet = f"--sheet={tmp_path / 'sheet.png'}"
    assert main(["data", f"folder:{portraits}", "--patch-size=8", sheet]) == 0
    said = capsys.readouterr().out
    assert "24x530 and 530x24" in said and "There are no problems." in said


@pytest.mark.slow
def test_fit_evaluate_and_restore_take_portraits(portraits: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    # Scoring one photograph is enough, because each size is compiled.
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "6.png").write_bytes((portraits / "6.png").read_bytes())
    one = f"folder:{tmp_path / 'one'}"
    flags = [
        *TINY,
        "--steps=1",
        "--log-every=1",
        "--warmup-steps=0",
        "--no-tensorboard",
        "--validation-data=none",
    ]
    source = [f"--data=folder:{portraits}", f"--test-data={one}"]
    assert main(["fit", "smoke", *flags, *source, f"--out={run}"]) == 0
    scores = f"--output={tmp_path / 'scores'}"
    assert main(["evaluate", str(run), f"--data={one}", scores, "--protocol=clipped"]) == 0
    assert main(["restore", str(run), str(portraits), f"--output={out}"]) == 0
    for path in portraits.iterdir():  # restored pixels stay as they are stored, and so does the tag
        with PIL.Image.open(path) as given, PIL.Image.open(out / path.name) as written:
            assert written.size == given.size
            assert written.getexif()[ORIENTATION] == given.getexif()[ORIENTATION]


def test_what_fit_compare_tune_and_evaluate_open_is_upright(portraits: Path) -> None:
    """The first three use ``open_photographs``, and ``evaluate`` uses ``open_source``."""
    source = f"folder:{portraits}"
    splits = open_photographs(
        FitConfig(data=DataConfig(source=source, test_source=source, validation_source=source))
    )
    for split in (splits.train, splits.validation, splits.test, open_source(source, "test")):
        assert split is not None
        for i, image in enumerate(split.images, 1):
            assert image.shape[:2] == ((24, 530) if i > 4 else (530, 24))
            if split.names[i - 1] != f"{i}.jpeg":
                np.testing.assert_array_equal(image, upright(_stored(i), i))
