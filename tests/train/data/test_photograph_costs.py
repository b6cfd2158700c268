"""What a small file may cost: files that would take far more time or memory are refused."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import pyvips

from tests.train.data.hostile_images import full, plain_tiff, png_of, tiff_of
from tests.train.data.test_photograph_file import encoded, with_scans
from tests.train.inference.stored_images import pixels
from train.data.images import decode_rows, is_made_by, write_image
from train.data.photograph_file import examine
from train.errors import InputError
from train.inference.files import image_files
from train.inference.files.colours import colours_of
from train.inference.files.image_files import open_stored


def about(content: bytes):
    return examine(io.BytesIO(content), "a").about


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """A progressive JPEG whose header states this size."""
    changed = bytearray(jpeg)
    struct.pack_into(">HH", changed, jpeg.index(b"\xff\xc2") + 5, height, width)
    return bytes(changed)


def tiff_with(content: bytes, width: int, height: int, **changed: int) -> bytes:
    """A grey TIFF whose strip or tile has this content."""
    place = 200 + 8 * len(content.split(b"never"))
    entries = plain_tiff(width, height, t273=place, t279=len(content), **changed)
    return tiff_of(entries).ljust(place, b"\0") + content


# --- tiles


@pytest.mark.parametrize(("width", "height"), [(1, 4_000_000), (4_000_000, 1), (30, 30_000)])
def test_all_tiles_together_may_not_be_far_larger_than_the_picture(width: int, height: int) -> None:
    side = 4096 if 1 in (width, height) else 2048
    content = tiff_of(plain_tiff(width, height, t322=side, t323=side, t324=200, t325=16))
    with pytest.raises(InputError, match=rf"{width}x{height} pixels in tiles of \d+ megapixels"):
        about(content)


@pytest.mark.parametrize("kind", [1, 3, 4, 6, 8, 9, 16, 17])
def test_the_side_of_a_tile_counts_in_every_type_that_decoders_accept(kind: int) -> None:
    entries = [entry for entry in plain_tiff(1, 3_000_000) if entry[0] not in (273, 279)]
    entries += [(322, kind, 1, 112), (323, kind, 1, 112), (324, 4, 1, 200), (325, 4, 1, 16)]
    if kind in (16, 17):  # eight bytes do not fit, so they are somewhere else
        place = 8 + 2 + 12 * len(entries) + 4
        entries = [
            (t, k, n, place if k == kind and t in (322, 323) else v) for t, k, n, v in entries
        ]
    with pytest.raises(InputError, match="in tiles of 336 megapixels"):
        about(tiff_of(entries, behind=struct.pack("<q", 112) + bytes(200)))


def test_tiles_that_reach_beyond_the_picture_a_little_are_read() -> None:
    array = pixels((100, 300))
    content = pyvips.Image.new_from_array(array).tiffsave_buffer(
        tile=True, tile_width=256, tile_height=256
    )
    found = about(bytes(content))
    assert (found.width, found.height, found.buffered) == (300, 100, 1)


def test_a_tag_outside_the_file_does_not_switch_the_checks_off() -> None:
    """The decoder ignores such a tag, and so must the checks of the others."""
    for tag in (258, 262, 274, 284, 339):
        entries = [entry for entry in plain_tiff(1, 4_000_000) if entry[0] != tag]
        entries += [(322, 4, 1, 4096), (323, 4, 1, 4096), (324, 4, 1, 200), (325, 4, 1, 16)]
        with pytest.raises(InputError, match="in tiles of"):
            about(tiff_of([*entries, (tag, 3, 100, 2**31)]))


# --- scans


def test_the_scans_of_a_jpeg_inside_a_tiff_are_counted() -> None:
    for scans, width, height, said in (
        (101, 16, 16, "holds JPEGs of up to 101 scans"),
        (50, 14000, 14000, "holds JPEGs of up to 50 scans"),
    ):
        content = tiff_with(with_scans(scans), width, height, t259=7)
        with pytest.raises(InputError, match=said):
            about(content)
        tiled = tiff_with(
            with_scans(scans), width, height, t259=7, t322=width, t323=height, t324=208, t325=9**9
        )
        with pytest.raises(InputError, match=said):
            about(tiled)
    about(tiff_with(with_scans(50), 16, 16, t259=7))


def test_the_scans_of_all_tiles_are_counted_if_they_are_at_one_place() -> None:
    jpeg = with_scans(90)
    side, across = 1024, 13
    count = across * across
    place = 300 + len(jpeg)
    entries = [
        entry for entry in plain_tiff(side * across, side * across, t259=7) if entry[0] < 273
    ]
    entries += [(277, 3, 1, 1), (322, 4, 1, side), (323, 4, 1, side)]
    entries += [(324, 4, count, place), (325, 4, count, place + 4 * count)]
    lists = struct.pack("<I", 300) * count + struct.pack("<I", len(jpeg)) * count
    with pytest.raises(InputError, match="holds JPEGs of up to 90 scans"):
        about(tiff_of(entries).ljust(300, b"\0") + jpeg + lists)


def test_strips_that_overlap_are_not_read_again_and_again() -> None:
    count, start = 1000, 300
    entries = [entry for entry in plain_tiff(16, 16 * count, t259=7) if entry[0] not in (273, 279)]
    entries = [entry for entry in entries if entry[0] != 278] + [(278, 4, 1, 16)]
    entries += [(273, 4, count, start), (279, 4, count, start + 4 * count)]
    places = struct.pack(f"<{count}I", *range(start, start + count))
    lengths = struct.pack("<I", 8000) * count
    with pytest.raises(InputError, match="strips or tiles that overlap"):
        about(tiff_of(entries).ljust(start, b"\0") + places + lengths)


def test_scans_count_by_the_pixels_that_they_may_stand_for() -> None:
    for scans, refused in ((10, False), (16, True)):
        content = with_size(with_scans(scans), 14000, 14000)
        if refused:
            with pytest.raises(
                InputError, match="has 16 scans of 14000x14000 pixels, and decoding"
            ):
                about(content)
        else:
            assert about(content).buffered == 6
    assert about(with_size(with_scans(100), 5000, 5000)).width == 5000


# --- memory


def interlaced(width: int, height: int, *, bits: int = 8, colour: int = 2) -> bytes:
    """An interlaced PNG, all black."""
    channels, data = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour], b""
    steps = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
    for x, y, across, down in (*steps, (0, 1, 1, 2)):
        columns, rows = -(-max(width - x, 0) // across), -(-max(height - y, 0) // down)
        data += bytes(1 + -(-columns * channels * bits // 8)) * rows if columns else b""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 1)
    palette = [(b"PLTE", bytes(6))] if colour == 3 else []
    return png_of([(b"IHDR", header), *palette, (b"IDAT", zlib.compress(data)), (b"IEND", b"")])


@pytest.mark.parametrize(
    ("bits", "colour", "held"), [(8, 2, 3), (16, 6, 8), (8, 0, 1), (1, 0, 1), (16, 4, 4), (8, 3, 3)]
)
def test_an_interlaced_png_counts_with_the_pixels_that_its_decoder_holds(
    bits: int, colour: int, held: int
) -> None:
    content = interlaced(9, 11, bits=bits, colour=colour)
    rows = decode_rows(content, "a.png")
    assert rows.buffered == held
    assert rows.memory == 9 * 11 * (3 * bits // 8 if bits > 8 else 3) + 9 * 11 * held
    assert np.concatenate(list(rows.strips)).shape == (11, 9, 3)


@pytest.mark.parametrize(
    ("kind", "held"), [("PNG", 0), ("JPEG", 0), ("TIFF", 0), ("BMP", 7), ("WEBP", 4)]
)
def test_what_a_decoder_holds_of_other_photographs(kind: str, held: int) -> None:
    assert decode_rows(full(kind, pixels((12, 9, 3))), "a").buffered == held
    lossless = encoded("WEBP", pixels((12, 9, 3)), lossless=True)
    assert decode_rows(lossless, "a").buffered == 8


def test_an_interlaced_png_is_decoded_only_once(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(interlaced(40, 700, bits=16, colour=6))
    opened = []
    open_image = image_files.open_image
    monkeypatch.setattr(
        image_files, "open_image", lambda *given: opened.append(given) or open_image(*given)
    )
    stored = open_stored(path)
    seen = len(opened)
    assert colours_of(stored) == 1 and stored.alpha
    colour, alpha = stored.rows(bands=slice(3)), stored.rows(bands=slice(3, None))
    assert colour(0, 700).shape == (700, 40, 3) and alpha(0, 10).shape == (10, 40, 1)
    assert stored.rows()(3, 9).shape == (6, 40, 4)
    assert len(opened) == seen + 1


@pytest.mark.parametrize(
    ("name", "options"), [("a.bmp", {}), ("a.tif", {"tiffinfo": {274: 0}}), ("a.png", {})]
)
@pytest.mark.parametrize("length", [300_000_000, 5_000_000_000])
def test_a_file_far_longer_than_its_pixels_is_refused_by_every_command(
    name: str, options: dict, length: int, tmp_path: Path
) -> None:
    path = tmp_path / name
    PIL.Image.fromarray(pixels((12, 9, 3))).save(path, **options)
    os.truncate(path, length)
    for read in (open_stored, lambda path: decode_rows(path, path.name)):
        with pytest.raises(InputError, match=rf"{name} is {length // 1_000_000} MB long, and "):
            read(path)


# --- files that are in the way


def test_a_sheet_in_the_way_is_opened_only_as_a_photograph(tmp_path: Path) -> None:
    path = tmp_path / "contact_sheet.png"
    write_image(path, pixels((9, 12, 3)), made_by="lumloss_jax data")
    assert is_made_by(path, "lumloss_jax data")
    path.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>')
    with pytest.raises(InputError, match=r"contact_sheet.png is an SVG"):
        is_made_by(path, "lumloss_jax data")
    path.write_bytes(with_scans(101))
    with pytest.raises(InputError, match="has more than 100 scans"):
        is_made_by(path, "lumloss_jax data")
