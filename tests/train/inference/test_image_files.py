from pathlib import Path

import PIL.Image
import pytest

from tests.train.inference.stored_images import SPEC, Make, pixels
from train.__main__ import main


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
    name = {"WEBP": "WebP"}.get(content, content)
    assert lines[0].endswith(f"a.tif: restored; it is a {name} by its content, and stays one under its name")
    assert lines[1].endswith("b.tif: restored")
    with PIL.Image.open(tmp_path / "out" / "a.tif") as written:
        assert (written.format, written.size) == (content, (9, 8))
        assert written.getexif()[271] == "Camera's maker"
