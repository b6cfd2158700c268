"""Formulas as MathML, which browsers draw without a script and without the network.

Sphinx's own ways are a script from the network (MathJax) or a LaTeX installation (imgmath).
Docutils, on which Sphinx stands, can write MathML; this hands it the formulas.
"""

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

# A tall delimiter that need not close, \big and its like, which Docutils does not know: a pair of
# an empty one and it.
BIG = re.compile(r"\\([bB]igg?)(?![a-zA-Z])")


def draw(translator: Any, node: nodes.math | nodes.math_block) -> None:
    """Writes one formula; one that Docutils cannot read is a warning, which fails the build."""
    block = isinstance(node, nodes.math_block)
    try:
        drawn = tex2mathml(BIG.sub(r"\\\1l.\\\1r", node.astext()), as_block=block)
    except MathError as error:
        logger.warning(
            "this formula cannot be written as MathML: %s (%s)", node.astext(), error, location=node
        )
        drawn = f"<code>{translator.encode(node.astext())}</code>"
    translator.body.append(f'<div class="formula">{drawn}</div>' if block else drawn)
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the renderer under the name that conf.py gives ``html_math_renderer``."""
    app.add_html_math_renderer("mathml", (draw, None), (draw, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
