"""What ``restore`` says about single photographs, and what it copies although it is unusual."""

import io
import struct
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest

from tests.train.data.hostile_images import exif_block, profile
from tests.train.inference.photographs_refused import tiff_of_channels
from tests.train.inference.photographs_with import RGB, encoded, jpeg, png, tiff
from tests.train.inference.stored_images import pixels
from tests.train.inference.test_what_is_kept import restored
from train.data.images import decode_image, read_image
from train.data.photograph_file import examine
from train.errors import InputError
from train.inference.files.image_files import open_stored


@pytest.mark.parametrize("meaning", [None, 0, 1, 2, 999])
@pytest.mark.parametrize("channels", [2, 4])
def test_a_channel_of_unstated_meaning_does_not_become_alpha(
    meaning: int | None, channels: int, tmp_path: Path
) -> None:
    content = encoded("TIFF", pixels((9, 12, channels)))
    at = content.index(struct.pack("<HHI", 338, 3, 1))
    changed = bytearray(content)
    struct.pack_into("<I", changed, at + 8, meaning or 0)
    if meaning is None:  # a tag that no program knows takes its place
        struct.pack_into("<H", changed, at, 337)
    (tmp_path / "in.tif").write_bytes(changed)
    stored = restored(tmp_path / "in.tif", tmp_path / "out.tif")
    assert stored.alpha
    with PIL.Image.open(tmp_path / "out.tif") as image:
        assert image.tag_v2[338] == ((2,) if meaning in (1, 2) else (0,))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_alpha_of_few_bits_is_refused(bits: int, tmp_path: Path) -> None:
    """The decoder gives a palette's alpha as 254, 252 or 240 where it should be 255."""
    for photometric in (1, 3):
        path = tmp_path / "in.tif"
        path.write_bytes(tiff_of_channels(bits, bits, photometric=photometric, t338=2))
        said = rf"has 2 channels of {bits} bits?\. Convert it to grey or RGB of 8 or 16 bits"
        for read in (read_image, open_stored):
            with pytest.raises(InputError, match=said):
                read(path)


def test_a_palette_with_alpha_of_eight_bits_is_read(tmp_path: Path) -> None:
    index = np.arange(108, dtype=np.uint8).reshape(9, 12)
    table = np.random.default_rng(0).integers(0, 256, (3, 256))
    content = encoded(
        "TIFF",
        np.stack([index, np.full_like(index, 200)], -1),
        tiffinfo={320: tuple((table * 257).ravel().tolist())},
    )
    at = content.index(struct.pack("<HHI", 262, 3, 1))
    changed = bytearray(content)
    struct.pack_into("<H", changed, at + 8, 3)
    (tmp_path / "in.tif").write_bytes(changed)
    rows = open_stored(tmp_path / "in.tif").rows()(0, 9)
    np.testing.assert_array_equal(rows[..., :3], table.T[index])
    np.testing.assert_array_equal(rows[..., 3], 200)


@pytest.mark.parametrize(
    ("tags", "name"),
    [
        ({"t280": 0, "t281": 255}, None),
        ({"t281": 4095}, "MaxSampleValue"),
        ({"t280": 16}, "MinSampleValue"),
        ({"t341": (0.5,) * 3}, "SMaxSampleValue"),
    ],
)
def test_values_that_only_the_old_pixels_have_are_reported(
    tags: dict, name: str | None, tmp_path: Path
) -> None:
    (tmp_path / "in.tif").write_bytes(tiff(**tags))
    notes = restored(tmp_path / "in.tif", tmp_path / "out.tif").notes
    assert notes == ((f"warning: the restored file lacks {name}",) if name else ())


@pytest.mark.parametrize("announced", [True, False])
def test_exif_that_a_webp_does_not_announce_stays_without_effect(
    announced: bool, tmp_path: Path
) -> None:
    content = bytearray(encoded("WebP", RGB, exif=exif_block(6).tobytes(), icc_profile=profile()))
    at = content.index(b"VP8X") + 8
    if not announced:
        content[at] &= ~0x28
    (tmp_path / "in.webp").write_bytes(content)
    found = examine(io.BytesIO(content), "in.webp")
    assert found.orientation == (6 if announced else 1)
    assert (found.about.profile is not None) == announced
    restored(tmp_path / "in.webp", tmp_path / "out.webp")
    written = (tmp_path / "out.webp").read_bytes()
    assert written[written.index(b"VP8X") + 8] & 0x28 == (0x28 if announced else 0)
    for part in (b"EXIF", b"ICCP"):
        assert content.count(part) == written.count(part)


def test_one_byte_and_two_bytes_behind_a_picture_are_counted(tmp_path: Path) -> None:
    for more, said in ((b"x", "1 byte that follows"), (b"xy", "2 bytes that follow")):
        for name, content in (("a.png", png()), ("a.jpg", jpeg())):
            (tmp_path / name).write_bytes(content + more)
            (note,) = open_stored(tmp_path / name).notes
            assert note == f"warning: the restored file lacks {said} the picture"


def test_a_profile_without_a_name_is_not_quoted(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "a.png").write_bytes(encoded("PNG", RGB, icc_profile=profile()))
    monkeypatch.setattr(PIL.ImageCms, "getProfileDescription", lambda opened: "\n")
    said = "warning: its colour profile has no name that can be read; networks are trained on sRGB"
    assert open_stored(tmp_path / "a.png").notes == (said,)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a pointer of Git LFS, and the"),
        (b"nothing of the kind", "is not PNG, JPEG, TIFF, BMP or WebP. Convert it, or leave it"),
        (b"II\xbc\x01" + bytes(40), "is a JPEG XR image, not PNG"),
        (png()[:200], "It is damaged or incomplete. Get it again from its source."),
        (encoded("JPEG", pixels((90, 90, 3)))[:900], "It is damaged or incomplete. Get it again"),
        (encoded("TIFF", RGB)[:300], "It is damaged or incomplete. Get it again from its source"),
        (encoded("BMP", RGB)[:200], "It is damaged or incomplete. Get it again from its source"),
        (encoded("WebP", RGB)[:100], "It is damaged or incomplete. Get it again from its source"),
    ],
)
def test_every_refusal_says_what_to_do(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)

    def restore() -> None:
        stored = open_stored(path)
        stored.rows()(0, stored.height)

    for read in (lambda: decode_image(content, str(path)), restore):
        with pytest.raises(InputError) as caught:
            read()
        assert said in str(caught.value)
