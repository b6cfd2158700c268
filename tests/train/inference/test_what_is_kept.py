"""The table in docs/photographs.md is true: a file is written for every cell, and read and restored."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.train.inference.photographs_with import FORMATS, MAKERS, READERS, SAID, SUFFIXES
from train.data.images import decode_image
from train.data.photograph_file import examine
from train.errors import InputError
from train.inference.image_files import Stored, open_stored, written

ROOT = Path(__file__).resolve().parents[3]
NOTHING = "\u2013"


def cells() -> Iterator[tuple[str, str, str]]:
    """What, format and answer of each cell."""
    lines = (ROOT / "docs" / "photographs.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    head, _, *body = rows
    assert head[1:] == list(FORMATS)
    for what, *answers in body:
        for name, answer in zip(FORMATS, answers, strict=True):
            yield what, name, answer


def restored(path: Path, out: Path) -> Stored:
    """Writes a file again as ``restore`` does, by a network that changes nothing."""
    stored = open_stored(path)
    rows = stored.rows()
    with written(out, stored, [rows(0, stored.height)]):
        pass
    return stored


TRUE = [cell for cell in cells() if cell[2] != NOTHING]


def _large(cell: tuple[str, str, str]) -> tuple[pytest.MarkDecorator, ...]:
    return (pytest.mark.slow,) if "64 MB" in cell[0] else ()


@pytest.mark.parametrize(("what", "name", "answer"), [pytest.param(*cell, marks=_large(cell)) for cell in TRUE])
def test_a_cell_is_true(what: str, name: str, answer: str, tmp_path: Path) -> None:
    content = MAKERS[what, name]()
    path, out = tmp_path / f"in{SUFFIXES[name]}", tmp_path / f"out{SUFFIXES[name]}"
    if what.startswith("an ending"):
        path, out = path.with_suffix(".jpg" if name != "JPEG" else ".png"), out.with_suffix(".tif")
    path.write_bytes(content)
    if answer == "refused":
        for read in (lambda: decode_image(content, "in"), lambda: open_stored(path)):
            with pytest.raises(InputError, match=SAID[what]):
                read()
        return
    decode_image(content, "in")
    stored = restored(path, out)
    assert examine(io.BytesIO(out.read_bytes()), "out").kind == name == stored.photograph.kind
    said = "; ".join(stored.notes)
    if answer == "said":
        assert SAID[what] in said
        return
    assert answer == "kept"
    read = READERS[what]
    found = read(content, name)
    assert not isinstance(found, (bytes, list, dict)) or found
    np.testing.assert_equal(read(out.read_bytes(), name), found)
    assert "not kept" not in said


def test_every_kind_of_content_has_its_cell() -> None:
    assert {(what, name) for what, name, answer in TRUE} == set(MAKERS)
