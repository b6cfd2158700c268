"""README and documentation are true: examples run, links lead somewhere, nothing is fetched.

The site is built as ``make docs`` builds it, warnings being errors: of references, formulas and
pages in no contents. Commands are in test_commands.py.
"""

import doctest
import os
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from lumloss_jax.models import PRESETS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = {
    path.relative_to(ROOT).as_posix(): re.findall(
        r"^```([^\n`]*)\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE
    )
    for path in PAGES
}
EXAMPLES = {
    page: "\n".join(text for kind, text in blocks if kind == "python")
    for page, blocks in BLOCKS.items()
}


@pytest.mark.parametrize("page", [page for page, examples in EXAMPLES.items() if examples])
def test_examples_run_as_they_stand(page):
    examples = doctest.DocTestParser().get_doctest(EXAMPLES[page], {}, page, page, 0)
    assert examples.examples, f"{page}: a block marked python holds no >>>"
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples).failed == 0


def test_the_table_of_networks_is_that_of_the_code():
    text = (ROOT / "docs" / "networks.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \| ([\d,]+) \| (.*?) \|", text, re.MULTILINE)
    assert rows == [
        (name, f"{preset.parameters:,}", f"{preset.macs_per_pixel:,}", preset.reference)
        for name, preset in PRESETS.items()
    ]


class Page(HTMLParser):
    """The anchors and links of a page, what a browser loads with it, and its pictures."""

    def __init__(self, path: Path):
        super().__init__()
        self.path, self.anchors, self.links, self.loaded, self.pictures = path, set(), [], [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        """Called by feed for every tag."""
        of = dict(attributes)
        self.anchors |= {of[key] for key in ("id", "name") if of.get(key)}
        if tag == "a" and of.get("href"):
            self.links.append(of["href"])
        elif tag == "link" and of.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(of["href"])
        elif of.get("src"):
            self.loaded.append(of["src"])
        if tag == "img":
            self.pictures.append(of)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> dict[Path, Page]:
    """The built pages by path, as ``make docs`` builds them."""
    built = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-b",
        "html",
        "-n",
        "-W",
        "--keep-going",
        "-q",
        "docs",
        str(built),
    ]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return {path.resolve(): Page(path.resolve()) for path in built.rglob("*.html")}


@pytest.mark.slow
def test_links_between_pages_and_to_anchors_lead_somewhere(site):
    broken, followed = [], 0
    for page in site.values():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            followed += 1
            path = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
            found = path.is_file() and (
                not parts.fragment or unquote(parts.fragment) in site[path].anchors
            )
            if not found:
                broken.append(f"{page.path.name}: {link}")
    assert not broken
    assert followed > 100


@pytest.mark.slow
def test_pages_load_nothing_from_the_network_or_from_where_nothing_is(site):
    for page in site.values():
        for loaded in page.loaded:
            parts = urlsplit(loaded)
            assert parts.scheme in ("", "data"), f"{page.path.name} loads {loaded}"
            assert parts.scheme or (page.path.parent / unquote(parts.path)).is_file(), (
                f"{page.path.name}: {loaded}"
            )


def test_no_line_ends_within_a_name():
    nodes = pytest.importorskip("docutils.nodes", reason="needs the extra docs")
    extension = runpy.run_path(str(ROOT / "docs" / "_extensions" / "whole_names.py"))
    code = [nodes.literal("", word) for word in ("--data", "--data folder:a", "a" * 31)]
    page = nodes.paragraph("", "", nodes.Text("Of MS-SSIM and PSNR-HVS-M ↑, pre-trained"), *code)
    extension["keep_whole"](None, page, "page")
    whole = [node.astext() for node in page.findall(nodes.Element) if "whole" in node["classes"]]
    assert whole == ["MS-SSIM", "PSNR-HVS-M", "--data"]
    assert page.astext().startswith("Of MS-SSIM and PSNR-HVS-M\N{NO-BREAK SPACE}↑, pre-trained")


@pytest.mark.slow
def test_pictures_say_in_words_what_they_show(site):
    pictures = [picture for page in site.values() for picture in page.pictures]
    assert len(pictures) > 5
    assert all(len(picture.get("alt", "")) > 20 for picture in pictures)
