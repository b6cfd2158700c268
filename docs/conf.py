"""Settings with which Sphinx builds the site.

``make docs`` writes it to build/docs, and its pages open from disk without a network.
"""

import importlib.metadata
import inspect
import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_extensions"), str(HERE.parent)]

# The pictures are small, and an accelerator may be in use by another program.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiled functions are kept where the tests keep theirs, because compiling takes most of the time
# of the page on the loss.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(HERE.parent / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")

project = "lumloss_jax"
author = "the lumloss_jax authors"
project_copyright = "the lumloss_jax authors, Apache-2.0"
release = version = importlib.metadata.version("lumloss-jax")

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_nb", "mathml", "whole_names"]
exclude_patterns = ["_extensions"]
templates_path = []
highlight_language = "sh"  # blocks that name no language are commands

# Pages
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120

# Docstrings
autodoc_member_order = "bysource"
# The signature and Args state the types; jax's aliases would unfold into pages of unions.
autodoc_typehints = "none"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_param = True

# Looks
html_theme = "furo"
html_title = "lumloss_jax"
html_math_renderer = "mathml"
html_copy_source = html_show_sourcelink = False
html_show_sphinx = False
html_domain_indices = False  # it would list only five modules
html_static_path = ["_static"]
html_css_files = ["site.css"]


def skip_fields(app, what, name, value, skip, options):
    """Leaves out fields of a named tuple and defaults of a network; the class explains them."""
    return (
        True
        if what == "class" and not (inspect.isroutine(value) or isinstance(value, property))
        else None
    )


def call_fields_arguments(app, what, name, value, options, lines):
    """Shows the fields of a class like arguments of a function, because they are arguments."""
    if what == "class":
        lines[:] = ["Args:" if line == "Attributes:" else line for line in lines]


def shorten_signature(app, what, name, value, options, signature, returned):
    """Leaves out the two fields that Flax adds to every network, and shortens type names."""
    if signature and what == "class":
        signature = re.sub(r", parent=<.*", ")", signature)
        signature = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", signature)
    return signature, returned


def link_names(app, page, source):
    """Links every public name in the list to its text; a name without a text is an error."""
    if page == "functions":
        source[0] = re.sub(
            r"^\| `(\w+\.\w+)` \|", r"| {any}`\1 <lumloss_jax.\1>` |", source[0], flags=re.MULTILINE
        )


def setup(app):
    """Connects the functions above to Sphinx."""
    app.connect("source-read", link_names)
    app.connect("autodoc-skip-member", skip_fields)
    # Before napoleon, at 500
    app.connect("autodoc-process-docstring", call_fields_arguments, priority=400)
    app.connect("autodoc-process-signature", shorten_signature)
