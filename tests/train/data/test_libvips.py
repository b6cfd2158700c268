"""What libvips prints in addition to its results."""

import ast
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import PIL.ImageCms
import pytest

ROOT = Path(__file__).resolve().parents[3]
_DECODE = """
import logging, pathlib, sys
from train.data.images import read_image

logging.basicConfig()
print(read_image(pathlib.Path(sys.argv[1])).shape)
"""


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize("name", [b"sRGB", b"Caf\xe9"])
def test_warnings_of_decoders_do_not_reach_the_console(name: bytes, tmp_path: Path) -> None:
    """A grey PNG with a profile for RGB. libpng warns about it and quotes the profile's name."""
    profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
    (tmp_path / "grey.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", 6, 5, 8, 0, 0, 0, 0))
        + _chunk(b"iCCP", name + b"\0\0" + zlib.compress(profile))
        + _chunk(b"IDAT", zlib.compress(bytes(7 * 5)))
        + _chunk(b"IEND", b"")
    )
    program = [sys.executable, "-c", _DECODE, str(tmp_path / "grey.png")]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("(5, 6, 3)\n", "")


def test_every_module_takes_pyvips_from_the_one_that_quiets_it() -> None:
    direct = set()
    for path in (ROOT / "train").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import) and any(alias.name == "pyvips" for alias in node.names):
                direct.add(path.relative_to(ROOT / "train").as_posix())
    assert direct == {"data/libvips.py"}
