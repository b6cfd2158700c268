import io
import sys

import pytest
from rich.progress import MofNCompleteColumn
from rich.table import Table

from train.console import can_show, complain, make_bar, make_console, printable, printable_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [v2] :cat: é 日本", "plain [v2] :cat: é 日本"),
        ("red\x1b[31m", r"red\x1b[31m"),
        ("two\nlines\r\t", r"two\nlines\r\t"),
        ("bell\x07 C1\x9b delete\x7f", r"bell\x07 C1\x9b delete\x7f"),
        ("gpj.\u202eexe", r"gpj.\u202eexe"),
        ("isolated\u2066", r"isolated\u2066"),
        ("separators\u2028\u2029", r"separators\u2028\u2029"),
        ("not UTF-8 \udcff", r"not UTF-8 \xff"),
        ("half of a pair \ud83d", r"half of a pair \ud83d"),
        ("joined 👩\u200d👧", "joined 👩\u200d👧"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown  # so that it does no harm to escape twice


def test_no_character_is_printed_that_could_do_harm() -> None:
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    shown = printable(every)
    shown.encode()  # no lone surrogates
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)
    assert not set(
        "\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
    ) & set(shown)


def test_a_message_keeps_its_lines_and_none_poses_as_another() -> None:
    assert (
        printable_lines("wrong:\n  a\x1b.png\nerror: forged")
        == "wrong:\n  a\\x1b.png\n  error: forged"
    )


@pytest.mark.parametrize(
    "name", ["o[v2]", "o[/v2]", "[bold]o", ":smiley:", "o\x1b[2J", "o\nforged", "[link=x]y"]
)
def test_a_name_is_shown_as_it_is_in_lines_and_tables(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    console = make_console()
    table = Table(name, title=name, caption=name)
    table.add_row(name)
    console.print(table)
    console.print(name)
    console.print(f"in {name}", soft_wrap=True)
    printed = capsys.readouterr().out
    assert printed.count(printable(name)) == 6
    assert "\x1b" not in printed


def test_a_bar_shows_a_name_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console = make_console()
    console._force_terminal = True
    bar = make_bar("{task.description}", MofNCompleteColumn(), console=console)
    bar.add_task("o[/v2]\x1b[2J", total=1)
    console.print(bar.get_renderable())
    printed = capsys.readouterr().out
    assert r"o[/v2]\x1b[2J" in printed


@pytest.mark.parametrize(
    ("encoding", "blocks"), [("ascii", False), ("cp1252", False), ("cp437", False), ("utf-8", True)]
)
def test_an_output_knows_which_characters_it_has(
    encoding: str, blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert can_show("▁▂▃") is blocks
    assert can_show("plain")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_an_output_of_few_characters_shows_a_replacement(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO(), io.BytesIO()
    output, errors = (io.TextIOWrapper(file, encoding=encoding, newline="\n") for file in raw)
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(sys, "stderr", errors)
    console = make_console()
    table = Table("▁▂")
    table.add_row("日本")
    console.print(table)
    console.print("日本.png", soft_wrap=True)
    complain("no file 日本.png")
    output.flush()
    assert b"??.png" in raw[0].getvalue()
    assert raw[1].getvalue() == b"no file ??.png\n"
