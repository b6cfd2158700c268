"""The documentation: it builds without a warning, opens from disk, and leads nowhere that is not there."""

import importlib.util
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[1]


class Page(HTMLParser):
    """What a page names (anchors), what it leads to (links), and what a browser loads with it."""

    def __init__(self, path: Path):
        super().__init__()
        self.path, self.anchors, self.links, self.loaded = path, set(), [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        of = dict(attributes)
        self.anchors |= {of[key] for key in ("id", "name") if of.get(key)}
        if tag == "a" and of.get("href"):
            self.links.append(of["href"])
        elif tag == "link" and of.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(of["href"])
        elif of.get("src"):
            self.loaded.append(of["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> dict[Path, Page]:
    """The built pages by path, as ``make docs`` builds them."""
    missing = [name for name in ("sphinx", "furo", "myst_nb", "matplotlib") if not importlib.util.find_spec(name)]
    if missing:
        pytest.skip(f"the extra docs is not installed: no {', '.join(missing)}")
    built = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-n", "-W", "--keep-going", "-q", "docs", str(built)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return {path.resolve(): Page(path.resolve()) for path in built.rglob("*.html")}


def test_links_between_pages_and_to_anchors_lead_somewhere(site):
    broken, followed = [], 0
    for page in site.values():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            followed += 1
            path = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
            found = path.is_file() and (not parts.fragment or unquote(parts.fragment) in site[path].anchors)
            if not found:
                broken.append(f"{page.path.name}: {link}")
    assert not broken
    assert followed > 100


def test_pages_load_nothing_from_the_network_or_from_where_nothing_is(site):
    for page in site.values():
        for loaded in page.loaded:
            parts = urlsplit(loaded)
            assert parts.scheme in ("", "data"), f"{page.path.name} loads {loaded}"
            assert parts.scheme or (page.path.parent / unquote(parts.path)).is_file(), f"{page.path.name}: {loaded}"
