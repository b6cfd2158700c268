"""The table in docs/photographs.md is true: for every cell a file is written and restored."""

import io
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import pyvips

from tests.train.data.hostile_images import png_chunks, png_of, profile
from tests.train.inference.photographs_refused import REFUSED, SAID_OF_REFUSED
from tests.train.inference.photographs_with import (
    FORMATS,
    MAKERS,
    RGB,
    SAID,
    SUFFIXES,
    jpeg,
    png,
    tiff,
    tiff_of_pages,
)
from tests.train.inference.read_by_others import READERS
from tests.train.inference.stored_images import pixels
from train.data.images import decode_image
from train.data.photograph_file import examine
from train.errors import InputError
from train.inference.files.image_files import Stored, open_stored, written

ALL_MAKERS = MAKERS | REFUSED
ALL_SAID = SAID | SAID_OF_REFUSED
ROOT = Path(__file__).resolve().parents[3]
NOTHING = "\u2013"


def cells() -> Iterator[tuple[str, str, str]]:
    """Kind of content, format and answer of each cell."""
    lines = (ROOT / "docs" / "photographs.md").read_text().splitlines()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith("|")
    ]
    head, _, *body = rows
    assert head[1:] == list(FORMATS)
    for what, *answers in body:
        for name, answer in zip(FORMATS, answers, strict=True):
            yield what, name, answer


def restored(path: Path, out: Path) -> Stored:
    """Writes a file again as ``restore`` does, as if the network changed nothing."""
    stored = open_stored(path)
    rows = stored.rows()
    with written(out, stored, [rows(0, stored.height)]):
        pass
    return stored


TRUE = [cell for cell in cells() if cell[2] != NOTHING]


def _large(cell: tuple[str, str, str]) -> tuple[pytest.MarkDecorator, ...]:
    return (pytest.mark.slow,) if "64 MB" in cell[0] or "a file far" in cell[0] else ()


@pytest.mark.parametrize(
    ("what", "name", "answer"), [pytest.param(*cell, marks=_large(cell)) for cell in TRUE]
)
def test_a_cell_is_true(what: str, name: str, answer: str, tmp_path: Path) -> None:
    content = ALL_MAKERS[what, name]()
    path, out = tmp_path / f"in{SUFFIXES[name]}", tmp_path / f"out{SUFFIXES[name]}"
    if what.startswith("an ending"):
        path, out = path.with_suffix(".jpg" if name != "JPEG" else ".png"), out.with_suffix(".tif")
    path.write_bytes(content)
    if answer == "refused":
        for read in (lambda: decode_image(content, "in"), lambda: open_stored(path)):
            with pytest.raises(InputError, match=ALL_SAID[what]):
                read()
        return
    decode_image(content, "in")
    stored = restored(path, out)
    assert examine(io.BytesIO(out.read_bytes()), "out").kind == name == stored.photograph.kind
    said = "; ".join(stored.notes)
    if answer == "lost":
        assert ALL_SAID[what] in said
        return
    assert answer == "kept"
    read = READERS[what]
    found = read(content, name)
    assert not isinstance(found, (bytes, list, dict)) or found
    np.testing.assert_equal(read(out.read_bytes(), name), found)
    assert "not kept" not in said


def test_every_kind_of_content_has_its_cell() -> None:
    assert {(what, name) for what, name, answer in TRUE} == set(ALL_MAKERS)


def test_premultiplied_alpha_becomes_ordinary_alpha(tmp_path: Path) -> None:
    array = pixels((9, 12, 4))
    image = pyvips.Image.new_from_array(array).copy(interpretation="srgb")
    image.tiffsave(str(tmp_path / "in.tif"), premultiply=True)
    stored = restored(tmp_path / "in.tif", tmp_path / "out.tif")
    np.testing.assert_array_equal(
        open_stored(tmp_path / "out.tif").rows()(0, 9), stored.rows()(0, 9)
    )
    with PIL.Image.open(tmp_path / "out.tif") as written:
        assert written.tag_v2[338] == (2,)


@pytest.mark.parametrize("big", [False, True])
def test_metadata_in_either_order_of_bytes_is_copied(tmp_path: Path, big: bool) -> None:
    tags = [
        *(
            (256, 4, 1, 4),
            (257, 4, 1, 4),
            (258, 3, 1, 8),
            (259, 3, 1, 1),
            (262, 3, 1, 1),
            (273, 4, 1, 0),
        ),
        *((277, 3, 1, 1), (278, 4, 1, 4), (279, 4, 1, 16), (282, 5, 1, (300, 7)), (296, 3, 1, 3)),
        *((270, 2, 8, b"harbour\0"), (65000, 3, 3, (1, 2, 3)), (65001, 12, 1, 1.5)),
    ]
    (tmp_path / "in.tif").write_bytes(_tiff_of_motorola(tags, big))
    restored(tmp_path / "in.tif", tmp_path / "out.tif")
    with PIL.Image.open(tmp_path / "out.tif") as written:
        np.testing.assert_array_equal(np.asarray(written).ravel(), range(0, 160, 10))
        known = {270: "harbour", 282: 300 / 7, 296: 3, 65000: (1, 2, 3), 65001: 1.5}
        assert {tag: written.tag_v2[tag] for tag in known} == known


def _tiff_of_motorola(tags: list[tuple[int, int, int, object]], big: bool) -> bytes:
    """A TIFF with the highest byte of each number first; the pixels are at its end."""
    word, head, inside = ("Q", ">HHHQ", 8) if big else ("I", ">HI", 4)
    first = 16 if big else 8
    start = struct.pack(head, 43, 8, 0, first) if big else struct.pack(head, 42, first)
    count = struct.pack(">Q" if big else ">H", len(tags))
    behind, entries = b"", b""
    place = first + len(count) + len(tags) * (20 if big else 12) + inside
    for tag, kind, number, value in sorted(tags, key=lambda entry: entry[0]):
        code = {3: f"{number}H", 4: "I", 5: "2I", 12: "d"}.get(kind)
        values = value if isinstance(value, tuple) else (value,)
        if tag == 273:
            values = (place + 100,)
        content = value if isinstance(value, bytes) else struct.pack(f">{code}", *values)
        if len(content) > inside:
            at, behind = place + len(behind), behind + content
            content = struct.pack(f">{word}", at)
        entries += struct.pack(f">HH{word}", tag, kind, number) + content.ljust(inside, b"\0")
    return (
        b"MM"
        + start
        + count
        + entries
        + bytes(inside)
        + behind.ljust(100, b"\0")
        + bytes(range(0, 160, 10))
    )


def test_significant_bits_include_the_new_alpha_channel(tmp_path: Path) -> None:
    content = png((b"sBIT", b"\5\6\5"), (b"tRNS", bytes(6)))
    (tmp_path / "in.png").write_bytes(content)
    stored = restored(tmp_path / "in.png", tmp_path / "out.png")
    assert stored.alpha and not stored.notes
    chunks = png_chunks((tmp_path / "out.png").read_bytes())
    assert [chunk for chunk in chunks if chunk[0] not in (b"IDAT", b"IEND")][1:] == [
        (b"sBIT", b"\5\6\5\x08")
    ]


def test_the_loss_of_a_background_from_a_palette_is_reported(tmp_path: Path) -> None:
    file = io.BytesIO()
    PIL.Image.fromarray(RGB).quantize(8).save(file, "PNG")
    first, *rest = png_chunks(file.getvalue())
    (tmp_path / "in.png").write_bytes(png_of([first, rest[0], (b"bKGD", b"\1"), *rest[1:]]))
    stored = restored(tmp_path / "in.png", tmp_path / "out.png")
    assert stored.notes == ("warning: the restored file lacks bKGD",)
    assert b"bKGD" not in (tmp_path / "out.png").read_bytes()


@pytest.mark.parametrize(
    ("alpha_mask", "notes"), [(0x8000, ("the alpha of its 16-bit pixels",)), (0, ())]
)
def test_the_loss_of_alpha_in_a_bmp_of_16_bits_is_reported(
    alpha_mask: int, notes: tuple[str, ...], tmp_path: Path
) -> None:
    colours = np.array([[0x7C00, 0x83E0], [0x801F, 0x7FFF]], "<u2")  # red, green, blue and white
    header = struct.pack("<IiiHHIIiiII", 108, 2, 2, 1, 16, 3, colours.nbytes, 0, 0, 0, 0)
    header += struct.pack("<4I", 0x7C00, 0x3E0, 0x1F, alpha_mask) + b"BGRs" + bytes(48)
    start = 14 + len(header)
    file = (
        struct.pack("<2sIHHI", b"BM", start + colours.nbytes, 0, 0, start)
        + header
        + colours.tobytes()
    )
    (tmp_path / "in.bmp").write_bytes(file)
    stored = restored(tmp_path / "in.bmp", tmp_path / "out.bmp")
    assert stored.notes == tuple(f"warning: the restored file lacks {each}" for each in notes)
    with PIL.Image.open(tmp_path / "out.bmp") as image:
        assert image.getpixel((0, 0)) == (0, 0, 255) and image.getpixel((1, 1)) == (0, 255, 0)


def test_the_loss_of_a_chunk_with_a_wrong_checksum_is_reported(tmp_path: Path) -> None:
    content = png((b"tEXt", b"Author\0somebody"))
    (tmp_path / "in.png").write_bytes(content.replace(b"somebody", b"nobody. "))
    assert restored(tmp_path / "in.png", tmp_path / "out.png").notes == (
        "warning: the restored file lacks tEXt",
    )


@pytest.mark.parametrize("ending", [".jpg", ".bmp", ".tif"])
@pytest.mark.parametrize(
    "array", [pixels((9, 12, 4)), pixels((9, 12, 3), np.uint16)], ids=["alpha", "16 bits"]
)
def test_nothing_is_lost_to_a_wrong_ending(tmp_path: Path, array: np.ndarray, ending: str) -> None:
    content = pyvips.Image.new_from_array(array).copy(
        interpretation="srgb" if array.dtype == np.uint8 else "rgb16"
    )
    path, out = tmp_path / f"in{ending}", tmp_path / f"out{ending}"
    path.write_bytes(bytes(content.write_to_buffer(".png")))
    assert restored(path, out).notes == (
        "whatever its name says, this file is a PNG, and so is the restored file",
    )
    for file in (path, out):
        found = pyvips.Image.pngload(str(file)).numpy()
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    ("purposes", "copies"), [((0, 1, 1), 2), ((0, 0), 0), ((1, 0), 0), ((0, 4), 0), ((0, 1, 0), 0)]
)
def test_only_smaller_copies_of_the_first_page_may_follow_it(
    tmp_path: Path, purposes: tuple[int, ...], copies: int
) -> None:
    """A mask, a second photograph, or a small copy on the first page count as several pages."""
    content = tiff_of_pages(*purposes)
    (tmp_path / "in.tif").write_bytes(content)
    if not copies:
        with pytest.raises(InputError, match=f"has {len(purposes)} pages"):
            decode_image(content, "in.tif")
        return
    np.testing.assert_array_equal(decode_image(content, "in.tif"), RGB)
    stored = restored(tmp_path / "in.tif", tmp_path / "out.tif")
    assert stored.notes == (
        f"warning: the restored file lacks {copies} smaller copies of it on other pages",
    )
    with PIL.Image.open(tmp_path / "out.tif") as written:
        assert written.n_frames == 1
        np.testing.assert_array_equal(np.asarray(written), RGB)


@pytest.mark.parametrize(("tag", "value"), [(274, 0), (274, 77), (296, 0), (263, 9)])
def test_a_tiff_with_a_meaningless_value_is_restored(tmp_path: Path, tag: int, value: int) -> None:
    file = io.BytesIO()
    PIL.Image.fromarray(RGB).save(file, "TIFF", tiffinfo={tag: value})
    (tmp_path / "in.tif").write_bytes(file.getvalue())
    assert not restored(tmp_path / "in.tif", tmp_path / "out.tif").notes
    with PIL.Image.open(tmp_path / "out.tif") as written:
        assert tag == 263 or written.tag_v2[tag] == value
        np.testing.assert_array_equal(np.asarray(written), RGB)


@pytest.mark.parametrize(
    ("order", "note"),
    [
        ((1, 2), []),
        ((2, 1), []),
        ((1,), ["warning: its colour profile cannot be read; networks are"]),
    ],
)
def test_parts_of_a_profile_are_sorted_by_their_numbers(
    tmp_path: Path, order: tuple[int, ...], note: list[str]
) -> None:
    whole = profile()
    parts = {1: whole[:200], 2: whole[200:]}
    segments = [(0xE2, b"ICC_PROFILE\0" + bytes([number, 2]) + parts[number]) for number in order]
    (tmp_path / "in.jpg").write_bytes(jpeg(*segments))
    notes = restored(tmp_path / "in.jpg", tmp_path / "out.jpg").notes
    assert [said[: len(note[0])] for said in notes] == note


@pytest.mark.parametrize(
    ("tags", "name"),
    [
        ({"t52545": b"credentials"}, "content credentials (C2PA)"),
        ({"t37724": b"layers"}, "ImageSourceData"),
    ],
)
def test_tags_that_hold_only_for_the_old_pixels_are_reported(
    tags: dict[str, bytes], name: str, tmp_path: Path
) -> None:
    (tmp_path / "in.tif").write_bytes(tiff(**tags))
    stored = restored(tmp_path / "in.tif", tmp_path / "out.tif")
    assert any(name in note for note in stored.notes)
    (tag,) = (int(key[1:]) for key in tags)
    with PIL.Image.open(tmp_path / "out.tif") as image:
        assert tag not in image.tag_v2
