"""The report in a real browser: its sliders move what they should, and nothing goes wrong."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from train.data.images import read_image

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

# Runs before the page's own scripts, so that their errors are heard.
LISTEN = """<script>
window.heard = [];
window.addEventListener("error", event => heard.push(String(event.message)));
for (const kind of ["error", "warn"]) console[kind] = (...words) => heard.push(words.join(" "));
</script>"""
# Runs when everything is drawn: uses the page as a reader would, and writes down what it saw.
USE = """<script>
addEventListener("load", () => {
  const crop = document.querySelector(".crop"), views = [...crop.querySelectorAll(".view")];
  const move = (name, value) => {
    const slider = crop.querySelector(name);
    slider.value = value;
    slider.dispatchEvent(new Event("input"));
  };
  const transforms = () => views.map(view => getComputedStyle(view.querySelector("img")).transform);
  const clip = () => getComputedStyle(crop.querySelector(".clip")).clipPath;
  const touch = () => getComputedStyle(views[0]).touchAction;
  const before = { clip: clip(), transforms: transforms(), touch: touch() };
  const seen = { before, side: views[0].clientWidth };
  move(".split", 20);
  seen.split = clip();
  move(".zoom", 4);
  seen.zoomed = transforms();
  seen.touch = touch();
  const drag = (type, x) => views[1].dispatchEvent(
    new PointerEvent(type,
      { buttons: 1, movementX: x, movementY: 0, pointerId: 1, bubbles: true }));
  drag("pointermove", 30);
  seen.dragged = transforms();
  drag("pointermove", 10000);
  seen.edge = transforms();
  const press = { key: "ArrowRight", bubbles: true, cancelable: true };
  views[0].dispatchEvent(new KeyboardEvent("keydown", press));
  seen.moved = transforms();
  const traces = plot => plot.querySelectorAll(".trace, .scatterlayer").length;
  seen.plots = [...document.querySelectorAll(".plot")].map(traces);
  dispatchEvent(new Event("beforeprint"));
  seen.unfolded = [...document.querySelectorAll("details")].every(details => details.open);
  const sticksOut = box => box.scrollWidth > box.clientWidth;
  const parts = document.querySelectorAll(".scroll, pre, .plot, figure");
  const boxes = [document.documentElement, ...parts];
  seen.cut = boxes.filter(sticksOut).map(box => box.outerHTML.slice(0, 60));
  const scrolls = box => ["auto", "scroll", "hidden"].includes(getComputedStyle(box).overflowX);
  seen.scrolls = boxes.filter(box => box.matches(".scroll, pre") && scrolls(box)).length;
  // A caption must be readable without scrolling, however wide its table is.
  seen.captions = [...document.querySelectorAll(".scroll caption")].map(caption => {
    const table = caption.closest("table"), width = table.style.width;
    table.style.width = "3000px";
    const sizes = [caption.getBoundingClientRect().width, table.closest(".scroll").clientWidth];
    table.style.width = width;
    return sizes;
  });
  // As narrow as their words allow
  for (const table of document.querySelectorAll("table")) table.style = "min-width: 0; width: 1px";
  const names = [...document.querySelectorAll("table .whole")];
  seen.names = names.map(name => [name.textContent, name.getClientRects().length]);
  for (const table of document.querySelectorAll("table")) table.style = "";
  const texts = "h1, .headline, .quiet, caption, figcaption, td, td small, th, label, pre, summary";
  seen.texts = [...document.querySelectorAll(texts)].map(element => {
    let behind = element;
    const background = () => getComputedStyle(behind).backgroundColor;
    while (background() === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
    return [getComputedStyle(element).color, background()];
  });
  const paper = getComputedStyle(document.body).backgroundColor;
  const series = Object.values(figures).flatMap(figure => figure.data);
  seen.series = series.map(one => [(one.marker ?? one.line).color, paper]);
  const plotTexts = [...document.querySelectorAll(".plot text")];
  seen.plotText = plotTexts.map(text => [getComputedStyle(text).fill, paper]);
  seen.heard = heard;
  const result = document.createElement("pre");
  result.id = "seen";
  result.textContent = JSON.stringify(seen);
  document.body.append(result);
});
</script>"""


SWITCHES = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
]
SWITCHES += ["--disable-component-update", "--disable-sync", "--virtual-time-budget=10000"]
DARK = ["--blink-settings=preferredColorScheme=0"]
A4 = "--window-size=703,1500"  # the area inside its margins, in CSS pixels

# Replacements that show a page on the screen as it is printed.
PRINTED = {
    "@media print": "@media screen",
    'matchMedia("print")': "{ matches: true, addEventListener() {} }",
}
VIEWS = {
    "desktop": ["--window-size=1200,900"],
    "phone": ["--window-size=500,900"],
    "dark": ["--window-size=1200,900", *DARK],
    "print": [A4],
    "print from dark": [A4, *DARK],
}


def browse(page, folder, *switches):
    """Shows a page, and returns what Chromium prints."""
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    command = [
        CHROMIUM,
        *SWITCHES,
        f"--user-data-dir={folder / 'profile'}",
        *switches,
        path.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def printed(page):
    for on_paper, on_screen in PRINTED.items():
        assert on_paper in page
        page = page.replace(on_paper, on_screen)
    return page


# A narrow page, and paper from a light page, which is easier than paper from a dark one
SLOW = ["phone", "print"]


@pytest.fixture(
    scope="module",
    params=[pytest.param(view, marks=pytest.mark.slow if view in SLOW else ()) for view in VIEWS],
)
def view(request):
    return request.param


@pytest.fixture(scope="module")
def seen(view, text, tmp_path_factory):
    page = printed(text) if view.startswith("print") else text
    page = page.replace("<head>", f"<head>{LISTEN}").replace("</body>", f"{USE}</body>")
    out = browse(page, tmp_path_factory.mktemp("browser"), *VIEWS[view], "--dump-dom")
    found = re.search(r'<pre id="seen">(.*?)</pre>', out, re.DOTALL)
    assert found, "the page never finished loading"
    return json.loads(html.unescape(found[1]))


def matrix(transform):
    """Scale and shift of a CSS matrix."""
    a, _, _, d, x, y = map(float, transform.removeprefix("matrix(").removesuffix(")").split(","))
    assert a == d
    return a, x, y


def test_nothing_goes_wrong(seen):
    assert seen["heard"] == []


def test_every_plot_is_drawn_and_nothing_sticks_out(seen, view):
    assert len(seen["plots"]) == 3 and all(seen["plots"])
    # On a screen a wide table scrolls in its box. On paper nothing can scroll, so nothing may be
    # wider than its box.
    assert [
        box
        for box in seen["cut"]
        if view.startswith("print") or not box.startswith(('<div class="scroll', "<pre"))
    ] == []
    assert bool(seen["scrolls"]) != view.startswith("print")
    assert seen["unfolded"]  # before printing


def test_captions_are_no_wider_than_what_is_shown_of_a_wide_table(seen):
    assert seen["captions"]
    for width, shown in seen["captions"]:
        assert 0 < width <= shown


def test_no_line_of_a_table_ends_within_a_name(seen):
    assert {"PSNR-Y", "|ΔL*|", "|ΔC*|"} <= {name for name, _ in seen["names"]}
    assert [name for name, lines in seen["names"] if lines != 1] == []


def contrast(pair):
    """The contrast of two colours as WCAG defines it, from 1 to 21."""
    luminances = []
    for colour in pair:
        parts = (
            [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
            if colour[0] == "#"
            else re.findall(r"\d+", colour)[:3]
        )
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
            for c in (int(p) / 255 for p in parts)
        ]
        luminances.append(np.dot(linear, (0.2126, 0.7152, 0.0722)) + 0.05)
    return max(luminances) / min(luminances)


def test_text_and_series_stand_out_from_what_is_behind_them(seen, view):
    """WCAG requires at least 4.5 for text and 3 for what is drawn."""
    assert min(map(contrast, seen["texts"] + seen["plotText"])) >= 4.5
    assert min(map(contrast, seen["series"])) >= 3
    behind = {pair[1] for pair in seen["series"]}
    assert behind == {"rgb(22, 24, 26)" if view == "dark" else "rgb(255, 255, 255)"}


@pytest.mark.parametrize("view", ["dark", "print from dark"])
def test_a_screenshot_is_dark_or_white_all_over(view, text, tmp_path):
    """Four fifths have the page's own colour, whatever the colours of plots and pictures are."""
    picture = tmp_path / "page.png"
    browse(
        printed(text) if view != "dark" else text, tmp_path, *VIEWS[view], f"--screenshot={picture}"
    )
    pixels = read_image(picture)
    paper = (22, 24, 26) if view == "dark" else (255, 255, 255)
    assert np.mean((pixels == paper).all(axis=-1)) > 0.8


def test_the_slider_shows_more_or_less_of_the_left_picture(seen):
    assert "50%" in seen["before"]["clip"] and "80%" in seen["split"]


def test_zoom_keeps_the_middle_and_moves_all_panes_alike(seen):
    assert {matrix(t) for t in seen["before"]["transforms"]} == {(1, 0, 0)}
    assert len(set(seen["zoomed"])) == 1
    scale, x, y = matrix(seen["zoomed"][0])
    assert scale == 4 and x == y == pytest.approx(seen["side"] / 2 * (1 - 4), abs=0.1)


def test_a_finger_scrolls_the_page_until_it_is_zoomed(seen):
    assert (seen["before"]["touch"], seen["touch"]) == ("auto", "none")


def test_dragging_moves_all_panes_and_stops_at_the_edge(seen):
    assert len(set(seen["dragged"])) == len(set(seen["edge"])) == 1
    _, zoomed, _ = matrix(seen["zoomed"][0])
    _, dragged, _ = matrix(seen["dragged"][0])
    assert dragged == pytest.approx(zoomed + 30, abs=0.1)
    assert matrix(seen["edge"][0])[1] == 0


def test_arrow_keys_move_all_panes(seen):
    assert len(set(seen["moved"])) == 1
    assert matrix(seen["moved"][0])[1] == pytest.approx(-seen["side"] / 10, abs=0.1)
