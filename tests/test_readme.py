"""README is short and names files that are there, and the quickstart shows every verb.

test_docs.py and test_commands.py run what they show.
"""

import re
import shlex
from pathlib import Path

from train.verbs import VERBS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
QUICKSTART = (ROOT / "docs" / "quickstart.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", QUICKSTART, re.DOTALL | re.MULTILINE)
COMMANDS = [
    line.split("#")[0].strip()
    for kind, text in BLOCKS
    if kind == ""
    for line in text.replace("\\\n", " ").splitlines()
    if line.startswith("python -m train")
]


def test_it_is_short():
    assert len(README.splitlines()) <= 130


def test_the_quickstart_shows_every_verb():
    assert {shlex.split(command)[3] for command in COMMANDS} == set(VERBS)


def test_files_that_it_names_are_there():
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).exists(), path


def test_headings_that_it_names_are_there():
    links = re.findall(r"\]\(([^)#:]+)#([^)]+)\)", README)
    assert links
    for path, anchor in links:
        headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(), re.MULTILINE)
        assert anchor in [
            re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings
        ], anchor
