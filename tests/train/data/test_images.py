import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import pyvips
import skimage.data
from PIL import Image, ImageCms

from train.data import photograph_file
from train.data.images import decode_image, decode_rows, read_image, to_float, to_uint8, write_image
from train.data.libvips import last_line
from train.errors import InputError


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)


def _jpeg(progressive: bool) -> bytes:
    file = io.BytesIO()
    Image.fromarray(skimage.data.chelsea()).save(file, "JPEG", quality=90, progressive=progressive)
    return file.getvalue()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_eight_bits_come_back_as_written(pixels: np.ndarray, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"photo{suffix}"
    Image.fromarray(pixels).save(path)  # not with the writer under test
    read = read_image(path)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_kept_whole(suffix: str, tmp_path: Path) -> None:
    deep = np.random.default_rng(1).integers(0, 65536, (6, 4, 3), dtype=np.uint16)
    path = tmp_path / f"photo{suffix}"
    write_image(path, deep)
    read = read_image(path)
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, deep)


def test_sixteen_bit_grey_keeps_its_values(tmp_path: Path) -> None:
    grey = np.random.default_rng(2).integers(0, 65536, (6, 4), dtype=np.uint16)
    # This PNG is made by hand, so that libvips does not read what it wrote itself.
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in grey)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 4, 6, 16, 0, 0, 0, 0)
    path = tmp_path / "grey.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    read = read_image(path)
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, np.repeat(grey[..., None], 3, axis=2))


def test_grey_is_repeated_and_alpha_is_dropped(pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "grey.png"), np.repeat(pixels[..., :1], 3, axis=2)
    )
    alpha = np.full((7, 5, 1), 40, np.uint8)
    Image.fromarray(np.concatenate([pixels, alpha], axis=2)).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), pixels)


def test_a_photograph_is_turned_upright(pixels: np.ndarray, tmp_path: Path) -> None:
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees, so rows are columns
    image.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png"), np.rot90(pixels, -1))


def test_a_palette_is_looked_up(pixels: np.ndarray, tmp_path: Path) -> None:
    few = Image.fromarray(pixels).quantize(8)
    for suffix in (".png", ".bmp", ".tif"):
        few.save(tmp_path / f"palette{suffix}")
        np.testing.assert_array_equal(
            read_image(tmp_path / f"palette{suffix}"), np.asarray(few.convert("RGB"))
        )


def test_lossless_webp_and_one_pixel_come_back_as_written(
    pixels: np.ndarray, tmp_path: Path
) -> None:
    Image.fromarray(pixels).save(tmp_path / "photo.webp", lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / "photo.webp"), pixels)
    Image.fromarray(pixels[:1, :1]).save(tmp_path / "one.png")
    np.testing.assert_array_equal(read_image(tmp_path / "one.png"), pixels[:1, :1])


def test_the_ending_does_not_decide_what_a_file_is(pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "photo.jpg", format="BMP")
    np.testing.assert_array_equal(read_image(tmp_path / "photo.jpg"), pixels)


def test_a_file_that_changed_on_disk_is_read_anew(pixels: np.ndarray, tmp_path: Path) -> None:
    for version in (pixels, pixels[::-1]):  # libvips remembers files that it has read
        write_image(tmp_path / "photo.png", version)
        np.testing.assert_array_equal(read_image(tmp_path / "photo.png"), version)


def test_a_name_may_be_any_that_the_disk_takes(pixels: np.ndarray, tmp_path: Path) -> None:
    for name in ("photo \u00fc \u5199\u771f.png", "latin1-\udcfc.png"):
        path = tmp_path / name
        write_image(tmp_path / "photo.png", pixels)
        (tmp_path / "photo.png").rename(path)
        np.testing.assert_array_equal(read_image(path), pixels)


def test_what_has_no_one_meaning_as_rgb_is_refused_by_name(
    pixels: np.ndarray, tmp_path: Path
) -> None:
    image = Image.fromarray(pixels)
    image.convert("CMYK").save(tmp_path / "print.tif")
    Image.fromarray(pixels[..., 0].astype(np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(pixels[..., 0].astype(np.int32)).save(tmp_path / "long.tif")
    write_image(tmp_path / "five.tif", np.repeat(pixels, 2, axis=2)[..., :5])
    lab = {262: 9}  # ICC's CIELAB
    image.save(tmp_path / "printed.tif", tiffinfo=lab)
    spaces = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    ImageCms.profileToProfile(image, *spaces, outputMode="LAB").save(tmp_path / "lab.tif")
    image.save(tmp_path / "pages.tif", save_all=True, append_images=[image])
    image.quantize(4).save(tmp_path / "cartoon.png", format="GIF")
    for name, reason in {
        "print.tif": "is in CMYK",
        "float.tif": "has 1 channel of floating-point numbers. Convert it",
        "long.tif": "has 1 channel of 32 bits with a sign",
        "five.tif": "has 5 channels of 8 bits. Convert it",
        "printed.tif": "is in CIELAB. Convert it",
        "lab.tif": "is in CIELAB. Convert it",
        "pages.tif": "has 2 pages",
        "cartoon.png": "is a GIF, not PNG, JPEG",
    }.items():
        with pytest.raises(InputError, match=f"{name} .*{reason}"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_a_gigantic_photograph_is_refused_before_it_is_decoded(
    suffix: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(photograph_file, "MAX_MEGAPIXELS", 0.0001)
    Image.new("RGB", (11, 10)).save(tmp_path / f"large{suffix}")
    with pytest.raises(
        InputError, match=rf"large\{suffix} has 11x10 pixels, .* and at most 0\.0001"
    ):
        read_image(tmp_path / f"large{suffix}")
    Image.new("RGB", (10, 10)).save(tmp_path / f"just{suffix}")
    assert read_image(tmp_path / f"just{suffix}").shape == (10, 10, 3)


def test_a_bitmap_is_as_large_as_any_other_photograph(
    pixels: np.ndarray, tmp_path: Path, monkeypatch
) -> None:
    """Pillow has its own limits. It warns at the first one and refuses at the second."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    Image.fromarray(pixels).save(tmp_path / "large.bmp")
    np.testing.assert_array_equal(read_image(tmp_path / "large.bmp"), pixels)


def test_a_missing_or_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(InputError, match=r"empty\.jpg is empty"):
        read_image(tmp_path / "empty.jpg")
    with pytest.raises(InputError, match=r"gone\.jpg cannot be read: No such file"):
        read_image(tmp_path / "gone.jpg")
    (tmp_path / "link.jpg").symlink_to("far.jpg")
    for read in (read_image, lambda path: decode_rows(path, str(path))):
        with pytest.raises(InputError, match=r"link\.jpg is a link to far\.jpg, which cannot be"):
            read(tmp_path / "link.jpg")


def _directory(*tags: tuple[int, int], following: int = 0) -> bytes:
    """A directory of a TIFF, whose values are whole numbers."""
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)


_SMALL_COPY = _directory((256, 1), (257, 1), (262, 2), (330, 8 + 2 + 4 * 12 + 4))


@pytest.mark.parametrize(
    "content",
    [
        b"CR\2\0" + b"x" * 200,  # a broken CR2, whose directories cannot be read
        _directory((256, 1), (257, 1), (50706, 1)),  # DNG
        _directory((256, 1), (257, 1), (262, 32803)),
        _SMALL_COPY + _directory((262, 32803)),  # as most cameras write it
    ],
)
def test_raw_photographs_are_refused_whatever_their_name(content: bytes, tmp_path: Path) -> None:
    first = 16 if content.startswith(b"CR") else 8
    (tmp_path / "raw.tif").write_bytes(b"II*\0" + struct.pack("<I", first) + content)
    with pytest.raises(InputError, match=r"raw\.tif is a camera's raw photograph"):
        read_image(tmp_path / "raw.tif")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"BM", "its header is broken"),
        (b"not a picture", ""),
        (b"\x89PNG\r\n\x1a\n", "its header is broken"),
    ],
)
def test_what_is_no_photograph_is_named(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(
        InputError, match=rf"broken\.png cannot be read as a photograph: .*{reason}"
    ):
        read_image(tmp_path / "broken.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_truncated_photograph_is_not_read_in_part(suffix: str, tmp_path: Path) -> None:
    whole = tmp_path / f"whole{suffix}"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
        whole
    )
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(InputError, match="cannot be read"):
        read_image(cut)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("damage", ["random", "deleted"])
def test_a_jpeg_damaged_among_its_pixels_is_refused(damage: str, progressive: bool) -> None:
    whole = _jpeg(progressive)
    middle = len(whole) // 2
    instead = np.random.default_rng(5).bytes(500) if damage == "random" else b""
    with pytest.raises(
        InputError, match=r"cat\.jpg cannot be read as a photograph: (VipsJpeg|jpegload_buffer): "
    ):
        decode_image(whole[:middle] + instead + whole[middle + 500 :], "cat.jpg")


@pytest.mark.parametrize("more", [bytes(100), b"what a camera adds", b"\xff\xd8\xff"])
def test_what_follows_a_jpeg_is_passed_over(more: bytes) -> None:
    whole = _jpeg(progressive=False)
    np.testing.assert_array_equal(decode_image(whole + more, "more"), decode_image(whole, "whole"))


def test_what_harms_no_pixel_is_no_reason_to_refuse(pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "tags.tif", tiffinfo={65000: "of one vendor"})
    Image.fromarray(pixels).save(tmp_path / "profile.png", icc_profile=b"no profile")
    Image.fromarray(pixels).save(tmp_path / "whole.png")
    header, rest = np.split(np.frombuffer((tmp_path / "whole.png").read_bytes(), np.uint8), [33])
    comment = struct.pack(">I", 3) + b"tEXta\0b" + b"\0\0\0\0"  # with a wrong checksum
    (tmp_path / "comment.png").write_bytes(header.tobytes() + comment + rest.tobytes())
    for name in ("tags.tif", "profile.png", "comment.png"):
        np.testing.assert_array_equal(read_image(tmp_path / name), pixels)


def test_floats_and_bytes_correspond() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    np.testing.assert_array_equal(to_uint8(to_float(every)), every)
    assert to_float(np.array([65535], np.uint16)) == 1
    np.testing.assert_array_equal(to_uint8(np.array([-1.0, 2.0, 0.5 / 255 + 0.001])), [0, 255, 1])
    with pytest.raises(TypeError, match="float64"):
        to_float(np.zeros(3))


def test_a_failed_write_leaves_the_old_file_and_no_other(
    pixels: np.ndarray, tmp_path: Path, monkeypatch
) -> None:
    path = tmp_path / "photo.png"
    write_image(path, pixels)
    before = path.read_bytes()

    def fail(*args: object, **options: object) -> None:
        raise pyvips.Error("no space left")

    monkeypatch.setattr(pyvips.Image, "write_to_buffer", fail)
    with pytest.raises(pyvips.Error):
        write_image(path, pixels[::-1])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["photo.png"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("tiff2vips: read error\nunable to fetch from region\n", "tiff2vips: read error"),
        ("unable to fetch from region\n", "it is damaged"),
        ("unable to call pngload\n", "its header is broken"),
        (
            f"Read error at scanline {2**32 - 1}; got 3 bytes, expected 9\n",
            "Read error; got 3 bytes, expected 9",
        ),
        ("vipspng: libpng read error.\n", "vipspng: libpng read error"),
        ("", "ValueError"),
    ],
)
def test_the_most_informative_line_of_a_libvips_error_is_quoted(said: str, expected: str) -> None:
    assert last_line(ValueError(said)) == expected
