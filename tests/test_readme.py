"""README is true: its examples run, its commands and flags exist, its table of networks is that of the code."""

import doctest
import re
import shlex
from pathlib import Path

import pytest

from lumloss_jax.models import PRESETS
from train.__main__ import VERBS, main

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
COMMANDS = [
    line.split("#")[0].strip()
    for kind, text in BLOCKS
    if kind == ""
    for line in text.replace("\\\n", " ").splitlines()
    if line.startswith(("python -m train", "make "))
]


def test_it_is_short():
    assert len(README.splitlines()) <= 200


def test_examples_run_as_they_stand():
    examples = doctest.DocTestParser().get_doctest(
        "\n".join(text for kind, text in BLOCKS if kind == "python"), {}, "README.md", "README.md", 0
    )
    assert examples.examples
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples)
    assert result.failed == 0


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make ")])
def test_make_has_what_is_told_to_be_made(command):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(command.split()[1:]) <= set(targets)


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("python ")])
def test_verbs_and_flags_are_known(command, capsys, monkeypatch):
    verb, *arguments = shlex.split(command)[3:]
    assert verb in VERBS
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit, match="0"):
        main([verb, "--help"])
    flags = {argument.split("=")[0] for argument in arguments if argument.startswith("--")}
    known = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
    assert flags <= known


def test_every_verb_is_shown():
    assert {shlex.split(command)[3] for command in COMMANDS if command.startswith("python ")} == set(VERBS)


def test_the_table_of_networks_is_that_of_the_code():
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \| ([\d,]+) \| (.*?) \|", README, re.MULTILINE)
    assert rows == [
        (name, f"{preset.parameters:,}", f"{preset.macs_per_pixel:,}", preset.reference)
        for name, preset in PRESETS.items()
    ]


def test_files_that_it_names_are_there():
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).exists(), path
