from pathlib import Path

import PIL.Image
import pytest

from tests.train.inference.stored_images import SPEC, Make, pixels
from train.__main__ import main

FAULTS = Path(__file__).resolve().parents[3] / "golden" / "faults"


@pytest.mark.parametrize("content", ["JPEG", "PNG", "WEBP"])
def test_the_content_decides_the_format_whatever_the_name(
    checkpoint: Make, tmp_path: Path, capsys, content: str
) -> None:
    image = PIL.Image.fromarray(pixels((8, 9, 3)))
    (tmp_path / "in").mkdir()
    exif = PIL.Image.Exif()
    exif[271] = "Camera's maker"
    image.save(tmp_path / "in" / "a.tif", format=content, exif=exif)
    image.save(tmp_path / "in" / "b.tif")
    command = [
        "restore",
        str(checkpoint(SPEC)),
        str(tmp_path / "in"),
        "--output",
        str(tmp_path / "out"),
    ]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    name = {"WEBP": "WebP"}.get(content, content)
    assert lines[0].endswith(
        f"a.tif: restored; whatever its name says, this file is a {name}, and so is the restored "
        "file"
    )
    assert lines[1].endswith("b.tif: restored")
    with PIL.Image.open(tmp_path / "out" / "a.tif") as written:
        assert (written.format, written.size) == (content, (9, 8))
        assert written.getexif()[271] == "Camera's maker"


def test_data_and_restore_refuse_a_file_in_the_same_words(
    checkpoint: Make, tmp_path: Path, capsys
) -> None:
    image = PIL.Image.fromarray(pixels((48, 64, 3)))
    folder = tmp_path / "in"
    folder.mkdir()
    refused = {
        "animation.png": (FAULTS / "animation.png").read_bytes(),
        "ycbcr.tif": (FAULTS / "ycbcr-raw.tif").read_bytes(),
        "telephone.jpg": b"\0\0\0\x18ftypheic" + bytes(100),
        "cut.jpg": b"\xff\xd8\xff\xe0",
        "empty.bmp": b"",
    }
    for name, content in refused.items():
        (folder / name).write_bytes(content)
    image.save(folder / "bitmap.png", format="BMP")
    image.convert("CMYK").save(folder / "print.tif")
    assert main(["data", f"folder:{folder}", f"--sheet={tmp_path / 'sheet.png'}"]) == 1
    looked_at = capsys.readouterr().out
    assert (
        main(["restore", str(checkpoint(SPEC)), str(folder), f"--output={tmp_path / 'out'}"]) == 1
    )
    said = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("not restored: ")
    ]
    assert len(said) == len(refused) + 1
    for line in said:
        assert line.removeprefix("not restored: ") in looked_at
    assert "bitmap.png" not in "".join(said)
