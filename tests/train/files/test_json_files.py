"""JSON files are read within bounds, and everything else is reported."""

from pathlib import Path

import pytest

from train.errors import InputError
from train.experiments.interim_looks import record_look
from train.experiments.networks.costs import read_cost
from train.files.json_files import UnreadableError, is_number, read_json


def test_json_is_read_and_what_is_none_says_why(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    for content, words in {
        b"{": "it is not JSON",
        b"\xff": "it is not JSON",
        b"[" * 100_000: "it is nested too deeply",
        b"9" * 5000: "it is not JSON",
        b"[" + b" " * 100 + b"]": "it has more than 100 bytes",
    }.items():
        path.write_bytes(content)
        with pytest.raises(UnreadableError, match=words):
            read_json(path, longest=100 if content.endswith(b"]") else 1_000_000)
    path.write_text('{"a": [1, 2.5, true]}')
    assert read_json(path) == {"a": [1, 2.5, True]}
    numbers = [
        value for value in (1, 2.5, True, "1", None, 10**400, -(10**400)) if is_number(value)
    ]
    assert numbers == [1, 2.5]
    with pytest.raises(UnreadableError, match="it is not a regular file"):
        read_json(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none")
    with pytest.raises(UnreadableError, match="File name too long"):
        read_json(tmp_path / ("x" * 5000))


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "3",
        "{}",
        '{"seconds": "1", "steps": 2}',
        '{"seconds": 1, "steps": 2.5}',
        f'{{"seconds": 1{"0" * 400}, "steps": 2}}',
    ],
)
def test_costs_that_cannot_be_read_count_as_not_measured(content: str, tmp_path: Path) -> None:
    (tmp_path / "cost.json").write_text(content)
    assert read_cost(tmp_path / "cost.json") is None


def test_costs_are_read(tmp_path: Path) -> None:
    assert read_cost(tmp_path / "cost.json") is None
    (tmp_path / "cost.json").write_text('{"seconds": 1.5, "steps": 2}')
    assert read_cost(tmp_path / "cost.json") == (1.5, 2)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read: it is not JSON"),
        ("{}", "does not hold a list"),
        ('[3, {"chosen": "l1"}]', "something other than looks"),
        ("[3, true]", "something other than looks"),
    ],
)
def test_looks_that_cannot_be_read_are_not_counted_as_none(
    content: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / "looks.json").write_text(content)
    with pytest.raises(InputError, match=words):
        record_look(tmp_path, 3)
    assert (tmp_path / "looks.json").read_text() == content
