"""Pages that open from disk: they contain Plotly's script and every picture, and fetch nothing."""

import importlib.resources
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jinja2
import plotly.graph_objects as go
from markupsafe import Markup, escape

from train.checkpoints.versions import OF_REPORTS, package_versions
from train.files.outputs import write_text

# Colours that differ for all kinds of colour vision: those of Okabe and Ito, except that two from
# ColorBrewer replace those that are too pale on white. Each has a contrast of 3 or more with the
# page, light and dark. Symbols and dashes distinguish series without colour.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#a6761d", "#7570b3")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
QUIET = "#7d7d7d"  # for what is shown but does not count

_NAME = re.compile(r"[A-Z]\w*(?:-[A-Z]\w*)+|\|Δ\w\*\|")  # PSNR-Y, |ΔL*|


@dataclass(frozen=True)
class Figure:
    """A plot: its heading, its description for people who cannot see it, and its data as JSON."""

    id: str
    title: str
    words: str
    json: str
    height: int = 384  # pixels


def script() -> str:
    """Plotly's script, from its package."""
    return (importlib.resources.files("plotly") / "package_data" / "plotly.min.js").read_text(
        encoding="utf-8"
    )


def write_page(template: str, path: Path, **values: Any) -> None:
    """Writes the page; the file appears whole or not at all.

    Args:
      template: file name of the template.
      path: file to write.
      **values: what the template shows.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("train.experiments.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["whole"] = _whole
    page = environment.get_template(template).render(plotly=script(), **values)
    write_text(page, path)


def _whole(words: str) -> Markup:
    """Marks names as whole: no line may end within them.

    A hyphen that does not break would do so too, but a reader who searches for the name would not
    find it.
    """
    escaped = str(escape(words))
    return Markup(_NAME.sub(r'<span class="whole">\g<0></span>', escaped))


def as_json(figure: go.Figure, **layout: Any) -> str:
    """A figure as JSON, for a page whose script gives it the page's colours."""
    figure.update_layout(
        template="none",
        margin={"l": 60, "r": 20, "t": 20, "b": 50},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": 1.1},
    )
    figure.update_layout(**layout)
    # Plotly escapes < and >, so that nothing in the JSON can end the script element.
    return str(figure.to_json())


def describe_environment() -> dict[str, str]:
    """Versions and devices that a result may depend on, by name."""
    devices = jax.devices()
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores" if devices[0].platform == "cpu" else ""
    )
    device = " ".join(filter(None, [f"{len(devices)} x {devices[0].device_kind}", machine]))
    return {
        "Python": platform.python_version(),
        **package_versions(packages=OF_REPORTS),
        "on": device,
    }
