"""What people's files contain, and what the readers do with it."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from tests.train.data.hostile_images import full
from tests.train.inference.stored_images import pixels
from train.data.images import decode_image, read_image
from train.data.photograph_file import SUFFIXES, examine
from train.errors import InputError
from train.inference.files.image_files import open_stored

FAULTS = Path(__file__).resolve().parents[2] / "golden" / "faults"


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def encoded(kind: str, array: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


def png_with(
    *chunks: tuple[bytes, bytes], behind: bool = False, array: np.ndarray | None = None
) -> bytes:
    """A PNG with these chunks before its pixels, or behind them."""
    content = encoded("PNG", pixels((12, 8, 3)) if array is None else array)
    place = content.index(b"IEND" if behind else b"IDAT") - 4
    return content[:place] + b"".join(png_chunk(*chunk) for chunk in chunks) + content[place:]


def exif(orientation: int) -> bytes:
    block = PIL.Image.Exif()
    block[274] = orientation
    return block.tobytes().removeprefix(b"Exif\0\0")


def test_a_gain_map_leaves_the_picture_that_pillow_reads() -> None:
    path = FAULTS / "ultra-hdr.jpg"
    with PIL.Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    assert (
        np.abs(read_image(path).astype(int) - expected).max() <= 1
    )  # two builds of the same decoder
    assert "it has a gain map for bright screens, which is left out" in open_stored(path).notes[0]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "ycbcr-raw.tif",
            "has Y'CbCr pixels without JPEG compression, which decoders mistake for RGB",
        ),
        ("animation.png", "is an animation of 3 pictures"),
    ],
)
def test_what_would_be_read_wrongly_is_refused_by_every_reader(name: str, reason: str) -> None:
    for read in (read_image, open_stored):
        with pytest.raises(InputError, match=f"{name} {reason}"):
            read(FAULTS / name)


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("written", ["eXIf", "with a prefix", "by ImageMagick", "XMP"])
def test_the_orientation_of_a_png_counts_wherever_it_stands(written: str, behind: bool) -> None:
    block = exif(6)
    chunk = {
        "eXIf": (b"eXIf", block),
        "with a prefix": (b"eXIf", b"Exif\0\0" + block),
        "by ImageMagick": (
            b"zTXt",
            b"Raw profile type exif\0\0"
            + zlib.compress(
                b"\nexif\n%8d\n" % (len(block) + 6) + (b"Exif\0\0" + block).hex().encode()
            ),
        ),
        "XMP": (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<rdf tiff:Orientation='6'/>"),
    }[written]
    content = png_with(chunk, behind=behind)
    with PIL.Image.open(io.BytesIO(content)) as image:
        stored = np.asarray(image)
    np.testing.assert_array_equal(decode_image(content, "a.png"), np.rot90(stored, -1))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_the_content_decides_whatever_the_name(kind: str, suffix: str, tmp_path: Path) -> None:
    array = pixels((9, 7, 3))
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(kind, array, **({"lossless": True} if kind == "WEBP" else {})))
    stored = open_stored(path)
    assert stored.photograph.kind.upper() == kind
    np.testing.assert_array_equal(read_image(path), stored.rows()(0, 9))
    own = {"JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"), "TIFF": (".tif", ".tiff")}.get(
        kind, (f".{kind.lower()}",)
    )
    assert bool(stored.notes) == (suffix not in own)


@pytest.mark.parametrize(
    ("start", "called"),
    [
        (b"GIF89a", "a GIF"),
        (b"\0\0\0\x18ftypheic", "a HEIC"),
        (b"\0\0\0\x18ftypavif", "an AVIF"),
        (b"\xff\x0a", "a JPEG XL image"),
        (b"8BPS", "a Photoshop document"),
    ],
)
def test_another_kind_of_picture_is_called_by_its_name(start: bytes, called: str) -> None:
    with pytest.raises(
        InputError,
        match=f"a.jpg is {called}, not PNG, JPEG, TIFF, BMP or WebP. Convert it",
    ):
        examine(io.BytesIO(start.ljust(40, b"\0")), "a.jpg")


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
def test_tags_that_a_decoder_warns_of_do_no_harm_to_a_tiff(compression: str) -> None:
    """The library tifffile writes a description twice, and some cameras write tags out of order."""
    array = pixels((30, 20, 3))
    content = bytearray(
        encoded("TIFF", array, compression=compression, tiffinfo={270: "abc", 271: "abc"})
    )
    place = int.from_bytes(content[4:8], "little")
    (count,) = struct.unpack_from("<H", content, place)
    entries = [content[place + 2 + 12 * i : place + 14 + 12 * i] for i in range(count)]
    at = [entry[:2] for entry in entries].index(struct.pack("<H", 271))
    entries[at][:2] = struct.pack("<H", 270)
    content[place + 2 : place + 2 + 12 * count] = b"".join(entries[:4] + entries[:3:-1])
    np.testing.assert_array_equal(decode_image(bytes(content), "a.tif"), array)
    with pytest.raises(InputError, match="cannot be read as a photograph"):
        decode_image(encoded("TIFF", array, compression=compression)[:-300], "cut.tif")


def test_adobe_rgb_that_exif_alone_states_is_warned_of(tmp_path: Path) -> None:
    block = PIL.Image.Exif()
    block[34665] = {40961: 65535, 40965: {1: "R03"}}
    for name, exif_of_it in (("adobe.jpg", block.tobytes()), ("plain.jpg", b"Exif\0\0" + exif(1))):
        (tmp_path / name).write_bytes(encoded("JPEG", pixels((9, 7, 3)), exif=exif_of_it))
    words = "warning: its EXIF says that its colour is Adobe RGB; networks are trained on sRGB"
    assert open_stored(tmp_path / "adobe.jpg").notes == (words,)
    assert open_stored(tmp_path / "plain.jpg").notes == ()


def test_the_orientation_behind_fill_bytes_is_found() -> None:
    jpeg = full("JPEG", np.zeros((8, 4, 3), np.uint8))
    for count in (1, 7, 65_533, 200_000):
        filled = io.BytesIO(jpeg[:2] + b"\xff" * count + jpeg[2:])
        found = examine(filled, "filled.jpg")
        assert (found.orientation, found.about.width, found.about.height) == (6, 4, 8), count


def with_scans(count: int, *, extraneous: bytes = b"") -> bytes:
    """A progressive JPEG whose last scan is repeated, until there are ``count`` scans."""
    content = encoded("JPEG", pixels((16, 16, 3)), progressive=True)
    frame = content.index(b"\xff\xc2")
    content = content[:frame] + extraneous + content[frame:]
    start, end = content.rindex(b"\xff\xda"), content.rindex(b"\xff\xd9")
    more = count - content.count(b"\xff\xda")
    return content[:end] + content[start:end] * more + content[end:]


@pytest.mark.parametrize("extraneous", [b"", b"x", b"\xff\x01"])
def test_a_jpeg_of_hundreds_of_scans_is_refused_before_it_is_decoded(extraneous: bytes) -> None:
    content = with_scans(101, extraneous=extraneous)
    for read in (decode_image, lambda content, name: examine(io.BytesIO(content), name)):
        with pytest.raises(InputError, match=r"a\.jpg has more than 100 scans, .* Save it again"):
            read(content, "a.jpg")
    examine(io.BytesIO(with_scans(100, extraneous=extraneous)), "a.jpg")


def test_a_marker_without_a_length_hides_no_scans() -> None:
    content = with_scans(101)
    end = content.rindex(b"\xff\xda")
    hidden = content[:end] + b"\xff\x01" + content[end:]
    with pytest.raises(InputError, match="has more than 100 scans"):
        examine(io.BytesIO(hidden), "a.jpg")


def test_what_follows_a_picture_is_not_one_of_its_scans() -> None:
    content = encoded("JPEG", pixels((16, 16, 3)), progressive=True)
    examine(io.BytesIO(content + b"\xff\xda" * 5000), "a.jpg")
    examine(io.BytesIO(encoded("JPEG", pixels((16, 16, 3))) + b"\xff\xda" * 5000), "a.jpg")
