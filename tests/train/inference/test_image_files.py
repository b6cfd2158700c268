import struct
from pathlib import Path

import PIL.Image
import pytest

from tests.train.inference.stored_images import SPEC, Make, pixels
from train.__main__ import main
from train.inference import image_files


@pytest.mark.parametrize("content", ["JPEG", "PNG", "WEBP"])
def test_a_file_is_what_it_holds_whatever_its_name(checkpoint: Make, tmp_path: Path, capsys, content: str) -> None:
    image = PIL.Image.fromarray(pixels((8, 9, 3)))
    (tmp_path / "in").mkdir()
    exif = PIL.Image.Exif()
    exif[271] = "Camera's maker"
    image.save(tmp_path / "in" / "a.tif", format=content, exif=exif)
    image.save(tmp_path / "in" / "b.tif")
    command = ["restore", str(checkpoint(SPEC)), str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("a.tif: restored; warning: not kept of its TIFF tags: ExifIFD")
    assert lines[1].endswith("b.tif: restored")
    with PIL.Image.open(tmp_path / "out" / "a.tif") as written:
        assert (written.format, written.size) == ("TIFF", (9, 8))


def test_tags_that_only_libvips_can_read_are_warned_of(checkpoint: Make, tmp_path: Path, monkeypatch, capsys) -> None:
    def fail(*arguments: object) -> None:
        raise struct.error("unpack requires a buffer of 4 bytes")

    PIL.Image.fromarray(pixels((8, 9, 3))).save(tmp_path / "a.tif")
    monkeypatch.setattr(image_files.ImageFileDirectory_v2, "load", fail)
    command = ["restore", str(checkpoint(SPEC)), str(tmp_path / "a.tif"), "--output", str(tmp_path / "out")]
    assert main(command) == 0
    assert "not kept of its TIFF tags: those that cannot be read" in capsys.readouterr().out
