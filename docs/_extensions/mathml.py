"""Formulas as MathML, which browsers draw themselves: the site needs no script and no network for them.

Sphinx's own ways are a script from the network (MathJax) or a LaTeX installation (imgmath). Docutils, on which Sphinx
stands, can write MathML; this hands it the formulas.
"""

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


def draw(translator: Any, node: nodes.math | nodes.math_block) -> None:
    """Writes one formula; one that Docutils cannot read is a warning, which fails the build."""
    block = isinstance(node, nodes.math_block)
    try:
        # Docutils knows \\bigl and \\bigr; \\big is the same size.
        drawn = tex2mathml(re.sub(r"\\([bB]igg?)(?![a-zA-Z])", r"\\\1l", node.astext()), as_block=block)
    except MathError as error:
        logger.warning("this formula cannot be written as MathML: %s (%s)", node.astext(), error, location=node)
        drawn = f"<code>{translator.encode(node.astext())}</code>"
    translator.body.append(f'<div class="formula">{drawn}</div>' if block else drawn)
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the renderer under the name that conf.py gives ``html_math_renderer``."""
    app.add_html_math_renderer("mathml", (draw, None), (draw, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
