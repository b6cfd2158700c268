"""Expressions that a native reader stumbles over are kept out of everything that people read.

This covers docstrings, comments and texts in the code, the documentation, the notebooks and the
templates of the reports. For each expression the table says what to write instead.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A space in a pattern stands for any white space. Patterns ignore case, except within (?-i:...).
WORDS = {
    r"\banew\b": '"again", or "new"',
    r"\bmend(?:s|ed|ing)?\b": '"fix" or "correct"',
    r"\b(?:go|goes|going|gone|went) on\b": '"continue" or "resume"',
    r"\b(?:but|save) for\b|\b(?:all|any|every|everything|anything) but\b": '"except"',
    r"\bhangs? on,": '"depend on"',
    r"\bless (?:it|them|this|that)\b": '"minus"',
    r"\bof late\b|\bin earnest\b": '"recently", or "seriously"',
    r"\bwhere (?:(?:it is|they are) )?asked for\b": '"optional", or "if it is requested"',
    r"\bwhoever\b": '"anybody who", or name who it is',
    r"\b(?:him|her)self\b": "who it is",
    r"\b(?:1|one) less\b|\bless (?:1|one)\b": '"1 minus", "minus 1" or "one fewer"',
    r"(?<!here\s)\b(?:is|are|was|were) no (?!longer\b|more\b|quicker\b|better\b)\w+": (
        '"is not a", or "there is no"'
    ),
    r"(?<!here\s)\b(?:is|are) (?-i:none)\b(?! of)": '"is not one", or "there is none"',
    r"(?-i:\b(?:That|Those) of\b)": "the noun itself at the start of a sentence",
    r"(?:\A|[.!?] )(?-i:Of)\b": "the noun first: a genitive starts no sentence",
    r"\A# of\b": "the noun first: a genitive starts no comment",
    r"(?-i:\bBeside\b)": '"compared with", "in addition to" or "next to"',
    r"\bbeside (?:its|their|the|other) (?:input|pixels)\b": '"in addition to" or "apart from"',
    r"\b(?:learned|trained) beside\b": '"together with"',
    r"\b(?:refused|reported|named|told|said) by name\b": '"with its name", or what is printed',
    r"\bstands? (?:still|for (?:itself|themselves))\b": '"stop", or "is self-contained"',
    r"\b(?:is|are) to be\b": '"must be", "should be" or "will be"',
    r"\b(?:is|are) asked for\b": '"is requested", "is needed" or "on demand"',
    r"\bwhat is (?:not|no)\b": '"anything that is not", or name it',
    r"\bin place of\b": '"instead of"',
    r"\bof one (?:shape|dtype|size|length|kind|second)\b": '"of the same"',
    r"\b(?:None|nothing) where\b": '"None if"',
    r"\b(?:tells?|told|says|said) of\b": '"says about", "reports" or "mentions"',
    r"\bin silence\b": '"silently"',
    r"\banother \w+ than\b": '"a different ... from"',
    r"\b(?:less|more) is better\b": '"lower is better" or "higher is better"',
    r"\bor the like\b|\band the like\b": '"or similar"',
    r"\bg(?:ive|ives|iven|ave) (?:\w+ )?back\b": '"return"',
    r"\bcounts \d": '"has the weight"',
    r"\berrors? of (?:an? )?(?:brightness|colou?r|exposure)\b": '"brightness error" or "error in"',
    r"\bof which (?:nothing|no|lower|higher)\b": '"in which" or "where"',
    r"\ba resume\b": '"resuming", or "when the run is resumed"',
    r"\ba (?:\w+ )?training[.,;:)]": '"a training run"',
    r"\blikewise\b": '"also", "in the same way" or "in the same form"',
    r"\bbehind (?:the|its|those) (?:pixels|picture)\b": '"after"',
    r"\bleast side\b": '"smallest side"',
    r"\bin maintenance\b(?! mode)": '"in maintenance mode"',
    r"(?-i:\bas by [A-Z])": '"as ... does it"',
    r"\bfrom where it came\b": '"from its source"',
}
PATTERNS = {
    re.compile(words.replace(" ", r"\s+"), re.IGNORECASE): instead
    for words, instead in WORDS.items()
}


class Hit(NamedTuple):
    """An expression of the table that was found in a file."""

    line: int
    words: str
    instead: str


def texts_of_python(source: str) -> Iterator[tuple[int, str]]:
    """Comments, docstrings and other texts of a Python file, each with the line it starts in.

    Comments on successive lines are one text, which starts with its mark. A value in an f-string
    becomes an ellipsis.
    """
    block: list[str] = []
    start = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, column = token.start
        follows = line == start + len(block) and not token.line[:column].strip()
        if block and not follows:
            yield start, "\n".join(block)
            block = []
        if not block:
            start = line
        block.append(token.string.lstrip("# ") if block else token.string)
    if block:
        yield start, "\n".join(block)

    parts: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts.update(id(value) for value in node.values)
            values = [getattr(value, "value", None) for value in node.values]
            yield node.lineno, "".join(each if isinstance(each, str) else "…" for each in values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in parts:
                yield node.lineno, node.value


def texts_of_markdown(source: str) -> Iterator[tuple[int, str]]:
    """The text of a page without its examples, which are code or the output of a program."""

    def blank(found: re.Match[str]) -> str:
        return re.sub(r"[^\n]+", "…", found.group())

    without_blocks = re.sub(r"^(```+|~~~+).*?^\1", blank, source, flags=re.DOTALL | re.MULTILINE)
    yield 1, re.sub(r"`[^`]+`", blank, without_blocks)


def texts_of_template(source: str) -> Iterator[tuple[int, str]]:
    """The text of a Jinja template without its tags, styles and scripts."""

    def blank(found: re.Match[str]) -> str:
        return "…" + "\n" * found.group().count("\n")

    tags = r"<(style|script)\b.*?</\1>|\{%.*?%\}|\{\{.*?\}\}|<[^>]*>"
    yield 1, re.sub(tags, blank, source, flags=re.DOTALL)


READERS = {".py": texts_of_python, ".md": texts_of_markdown, ".jinja": texts_of_template}


def files() -> list[Path]:
    """Every file that people read, tests apart."""
    found = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    for folder in ("lumloss_jax", "train", "docs", "colab", "benchmarks", "results"):
        found += sorted(path for path in (ROOT / folder).rglob("*") if path.suffix in READERS)
    return found


def hits_in(path: Path) -> list[Hit]:
    """The expressions of the table in a file, in order."""
    found = []
    for start, text in READERS[path.suffix](path.read_text()):
        # Without indentation, a space of a pattern or of a lookbehind is one character
        text = re.sub(r"[ \t]*\n[ \t]*", "\n", text)
        for pattern, instead in PATTERNS.items():
            for match in pattern.finditer(text):
                line = start + text.count("\n", 0, match.start())
                found.append(Hit(line, " ".join(match.group().split()), instead))
    return sorted(found)


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_people_read_is_plain_english(path):
    said = [f'{path}:{line}: "{words}": write {instead}' for line, words, instead in hits_in(path)]
    assert not said, "\n".join(said)


def test_expressions_are_found_in_every_kind_of_text(tmp_path):
    code = tmp_path / "code.py"
    code.write_text(
        '"""Starts the run\n   anew."""\n'
        "SIGMA = 1  # of the noise\n"
        "# A comment that\n"
        "# goes on here, and there\n"
        "# is no second one.\n"
        'MESSAGE = f"{SIGMA} is no number"\n'
    )
    assert [(line, words) for line, words, _ in hits_in(code)] == [
        (2, "anew"),
        (3, "# of"),
        (5, "goes on"),
        (7, "is no number"),
    ]

    page = tmp_path / "page.md"
    page.write_text("One `anew`.\n\n```\nanew\n```\n\nEvery loss but\nfor the default.\n")
    assert [(line, words) for line, words, _ in hits_in(page)] == [(7, "but for")]

    template = tmp_path / "page.html.jinja"
    template.write_text("<style>\n.anew {}\n</style>\n<p>{{ anew }} Whoever reads</p>\n")
    assert [(line, words) for line, words, _ in hits_in(template)] == [(4, "Whoever")]
