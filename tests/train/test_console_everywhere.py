"""Everything in the application prints through train/console.py, which makes strings safe."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TRAIN = Path(__file__).resolve().parents[2] / "train"
FILES = sorted(TRAIN.rglob("*.py"))
_OF_RICH = (
    "Console",
    "Progress",
    "TextColumn",
    "track",
    "escape",
    "render",
    "print",
    "pprint",
    "inspect",
)
# Before train/console.py can be imported there is one message, without a name in it.
_BEFORE = {"train/__main__.py": ["print('stopped', file=sys.stderr)"]}


def wild(source: str) -> Iterator[str]:
    """Finds calls and imports that print, or read markup, in a different way."""
    tree = ast.parse(source)
    of_rich = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "rich"
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(
            alias.name.partition(".")[0] == "rich" for alias in node.names
        ):
            yield ast.unparse(node)
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        name = called.rpartition(".")[2]
        if called in ("print", "sys.stdout.write", "sys.stderr.write"):
            yield ast.unparse(node)
        if name == "from_markup" or called in of_rich.intersection(_OF_RICH):
            yield ast.unparse(node)
        if any(keyword.arg in ("markup", "emoji") for keyword in node.keywords):
            yield ast.unparse(node)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(TRAIN).as_posix())
def test_all_that_is_printed_passes_one_place(path: Path) -> None:
    if path.name == "console.py":
        return
    name = path.relative_to(TRAIN.parent).as_posix()
    assert list(wild(path.read_text())) == _BEFORE.get(name, [])


@pytest.mark.parametrize(
    "source",
    [
        "print(name)",
        "import sys; sys.stderr.write(name)",
        "from rich.console import Console; Console()",
        "from rich.console import Console as C; from rich.progress import Progress; Progress()",
        "from rich.progress import track; track(names)",
        "import rich; rich.print(name)",
        "from rich import print; print(name)",
        "from rich.text import Text; Text.from_markup(name)",
        "console.print(name, markup=True)",
    ],
)
def test_each_other_way_would_be_noticed(source: str) -> None:
    assert list(wild(source))
