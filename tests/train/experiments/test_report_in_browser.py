"""The report in a real browser: its sliders move what they should, and nothing goes wrong."""

import json
import re
import shutil
import subprocess

import pytest

from train.experiments.report import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

# Runs before the page's own scripts, so that their errors are heard.
LISTEN = """<script>
window.heard = [];
window.addEventListener("error", event => heard.push(String(event.message)));
for (const kind of ["error", "warn"]) console[kind] = (...words) => heard.push(words.join(" "));
</script>"""
# Runs when all is drawn: uses the page as a reader would, and leaves what it saw in the document.
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
  const seen = { before: { clip: clip(), transforms: transforms() }, side: views[0].clientWidth };
  move(".split", 20);
  seen.split = clip();
  move(".zoom", 4);
  seen.zoomed = transforms();
  const drag = (type, x) => views[1].dispatchEvent(
    new PointerEvent(type, { buttons: 1, movementX: x, movementY: 0, pointerId: 1, bubbles: true }));
  drag("pointermove", 30);
  seen.dragged = transforms();
  drag("pointermove", 10000);
  seen.edge = transforms();
  const press = { key: "ArrowRight", bubbles: true, cancelable: true };
  views[0].dispatchEvent(new KeyboardEvent("keydown", press));
  seen.moved = transforms();
  const traces = plot => plot.querySelectorAll(".trace, .scatterlayer").length;
  seen.plots = [...document.querySelectorAll(".plot")].map(traces);
  seen.wide = document.documentElement.scrollWidth <= document.documentElement.clientWidth;
  seen.heard = heard;
  const result = document.createElement("pre");
  result.id = "seen";
  result.textContent = JSON.stringify(seen);
  document.body.append(result);
});
</script>"""


@pytest.fixture(scope="module", params=["1200,900", "500,900"], ids=["desktop", "phone"])
def seen(request, report, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    path = folder / "report.html"
    write_report(report, path)
    page = path.read_text(encoding="utf-8").replace("<head>", f"<head>{LISTEN}").replace("</body>", f"{USE}</body>")
    path.write_text(page, encoding="utf-8")
    switches = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    switches += ["--disable-component-update", "--disable-sync", f"--user-data-dir={folder / 'profile'}"]
    switches += [f"--window-size={request.param}", "--virtual-time-budget=10000", "--dump-dom"]
    run = subprocess.run([CHROMIUM, *switches, path.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="seen">(.*?)</pre>', run.stdout, re.DOTALL)
    assert found, "the page never finished loading"
    return json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


def matrix(transform):
    """Scale and shift of a CSS matrix."""
    a, _, _, d, x, y = map(float, transform.removeprefix("matrix(").removesuffix(")").split(","))
    assert a == d
    return a, x, y


def test_nothing_goes_wrong(seen):
    assert seen["heard"] == []


def test_every_plot_is_drawn_and_nothing_sticks_out(seen):
    assert len(seen["plots"]) == 3 and all(seen["plots"])
    assert seen["wide"]


def test_the_slider_shows_more_or_less_of_the_left_picture(seen):
    assert "50%" in seen["before"]["clip"] and "80%" in seen["split"]


def test_zoom_keeps_the_middle_and_moves_all_panes_alike(seen):
    assert {matrix(t) for t in seen["before"]["transforms"]} == {(1, 0, 0)}
    assert len(set(seen["zoomed"])) == 1
    scale, x, y = matrix(seen["zoomed"][0])
    assert scale == 4 and x == y == pytest.approx(seen["side"] / 2 * (1 - 4), abs=0.1)


def test_dragging_moves_all_panes_and_stops_at_the_edge(seen):
    assert len(set(seen["dragged"])) == len(set(seen["edge"])) == 1
    _, zoomed, _ = matrix(seen["zoomed"][0])
    _, dragged, _ = matrix(seen["dragged"][0])
    assert dragged == pytest.approx(zoomed + 30, abs=0.1)
    assert matrix(seen["edge"][0])[1] == 0


def test_arrow_keys_move_all_panes(seen):
    assert len(set(seen["moved"])) == 1
    assert matrix(seen["moved"][0])[1] == pytest.approx(-seen["side"] / 10, abs=0.1)
