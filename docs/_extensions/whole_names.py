"""Keeps names whole on narrow pages: no line ends within PSNR-Y or --data, or before an arrow.

A hyphen that does not break would do so too, but a reader who searches for the name would not find
it. The reports of ``compare`` mark names in the same way.
"""

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

NAME = re.compile(r"([A-Z]\w*(?:-[A-Z]\w*)+)")
LONGEST = 30  # characters of inline code that fit on a line of a phone
VERBATIM = (nodes.literal, nodes.FixedTextElement, nodes.math, nodes.raw, nodes.title)


def keep_whole(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Marks the names on one page."""
    for text in list(doctree.findall(nodes.Text)):
        if isinstance(text.parent, VERBATIM):
            continue
        words = re.sub(r" ([↑↓])", "\N{NO-BREAK SPACE}\\1", text)
        parts: list[nodes.Node] = []
        for number, part in enumerate(NAME.split(words)):
            if number % 2:
                parts.append(nodes.inline("", part, classes=["whole"]))
            elif part:
                parts.append(nodes.Text(part))
        text.parent.replace(text, parts)
    for code in doctree.findall(nodes.literal):
        word = code.astext()
        if len(word) <= LONGEST and " " not in word:
            code["classes"].append("whole")


def setup(app: Sphinx) -> dict[str, Any]:
    """Marks names when a page is complete, with what its code has printed."""
    app.connect("doctree-resolved", keep_whole)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
