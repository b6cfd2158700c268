"""The pages in a real Chromium, used as observers use them."""

import base64
from collections.abc import Iterator

import numpy as np
import pytest

from tests.train.study.conftest import served
from train.__main__ import main
from train.data.images import decode_image
from train.study.score import PAGE
from train.study.sent import Ballot
from train.study.votes import Votes


@pytest.fixture
def address(votes: Votes) -> Iterator[str]:
    """The address of a server of the study, which stops after the test."""
    yield from served(votes)


class Observer:
    """A browser of its own, which hears every error of the pages."""

    def __init__(self, chromium, address, **context):
        self.context = chromium.new_context(
            **{"viewport": {"width": 1200, "height": 800}} | context
        )
        self.context.set_default_timeout(120_000)
        self.heard = []
        self.page = self.open()
        self.page.goto(address)

    def open(self):
        """A new tab."""
        page = self.context.new_page()
        page.on("console", lambda said: self.heard.append(said.text))
        page.on("pageerror", lambda error: self.heard.append(str(error)))
        return page

    def begin(self):
        """States a distance and goes to the first pair, by keyboard."""
        page = self.page
        page.keyboard.press("Tab")
        page.keyboard.type("60")
        page.keyboard.press("Enter")
        page.wait_for_url("**/pause")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        self.ready()

    def ready(self, page=None):
        """Waits until the pictures are shown."""
        (page or self.page).wait_for_selector("[data-choice=left]:not([disabled])")

    def progress(self):
        """Which pair the page says is shown."""
        return self.page.inner_text("#progress")

    def press(self, key):
        """Presses a key that leads to a different pair, and waits for it."""
        before = self.page.evaluate("document.getElementById('pair').textContent")
        self.page.keyboard.press(key)
        self.page.wait_for_function(
            "before => document.readyState === 'complete' && "
            "document.getElementById('pair')?.textContent !== before",
            arg=before,
        )

    def close(self):
        """Closes the browser, which must have heard no error."""
        self.context.close()
        # Chromium advises this file about how it reads pixels.
        assert [said for said in self.heard if "getImageData" not in said] == []


PIXELS = """id => {
  const canvas = document.getElementById(id), context = canvas.getContext("2d");
  const { width, height } = canvas, { data } = context.getImageData(0, 0, width, height);
  let text = "";
  for (let i = 0; i < data.length; i += 8192)
    text += String.fromCharCode(...data.subarray(i, i + 8192));
  return [width, height, btoa(text)];
}"""


def seen(observer, name):
    width, height, pixels = observer.page.evaluate(PIXELS, name)
    return np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(height, width, 4)


def test_two_observers_by_keyboard_alone(chromium, few):
    votes, serving = few, served(few)
    address = next(serving)
    one, two = (Observer(chromium, address) for _ in range(2))
    one.begin()
    two.begin()
    for observer in (one, two):
        assert observer.progress() == "Practice 1 of 4"
    keys = ["ArrowLeft", "ArrowDown", "ArrowRight"]
    for number in range(sum(votes.counts())):
        for observer in (one, two):
            observer.ready()
            with observer.page.expect_navigation():
                observer.page.keyboard.press(keys[number % 3])
    for observer in (one, two):
        observer.page.wait_for_url("**/finish")
        assert "all your votes are saved" in observer.page.inner_text("main")
    choices = [
        [
            row["choice"]
            for row in votes._file.execute(
                "SELECT choice FROM votes WHERE place = ? ORDER BY position", [place]
            )
        ]
        for place in (0, 1)
    ]
    wanted = [["left", "none", "right"][number % 3] for number in range(sum(votes.counts()))]
    assert choices == [wanted, wanted]
    one.page.keyboard.press("Tab")  # the undo of the last vote
    one.page.keyboard.press("Enter")
    one.page.wait_for_url("**/pair")
    one.close()
    two.close()
    serving.close()


def test_refresh_back_button_and_two_tabs_count_once(chromium, address, votes):
    observer = Observer(chromium, address)
    observer.begin()
    first = observer.page.url
    observer.page.reload()
    observer.ready()
    assert observer.progress() == "Practice 1 of 5"
    tab = observer.open()
    tab.goto(first)
    observer.ready(tab)
    with observer.page.expect_navigation():
        observer.page.keyboard.press("ArrowLeft")
    observer.ready()
    # The second tab still shows the first pair. Its vote does not count, and it moves on.
    with tab.expect_navigation():
        tab.keyboard.press("ArrowRight")
    observer.ready(tab)
    assert tab.inner_text("#progress") == "Practice 2 of 5"
    observer.page.go_back()
    observer.page.wait_for_load_state()
    observer.page.goto(first)
    observer.ready()
    assert observer.progress() == "Practice 2 of 5"
    rows = votes._file.execute("SELECT choice FROM votes").fetchall()
    assert [row["choice"] for row in rows] == ["left"]
    # Undo, by key
    observer.press("u")
    observer.ready()
    assert observer.progress() == "Practice 1 of 5"
    assert observer.page.is_disabled("#undo")
    observer.close()


def test_a_double_click_begins_once(chromium, address, votes):
    observer = Observer(chromium, address)
    observer.page.fill("#distance", "60")
    observer.page.evaluate(
        "() => { const button = document.querySelector('#begin button');"
        " button.click(); button.click(); }"
    )
    observer.page.wait_for_url("**/pause")
    rows = votes._file.execute("SELECT place FROM observers").fetchall()
    assert [row["place"] for row in rows] == [0]
    observer.close()


@pytest.mark.parametrize("ratio", [1, 1.5, 2])
def test_pixels_are_not_resampled(chromium, address, votes, ratio):
    observer = Observer(chromium, address, device_scale_factor=ratio)
    observer.begin()
    shown = votes.shown(0)
    for name in ("left", "right"):
        picture = decode_image(votes.picture(0, getattr(shown, name)), name)
        height, width = picture.shape[:2]
        found = seen(observer, name)
        top, left = (found.shape[0] - height) // 2, (found.shape[1] - width) // 2
        area = found[top : top + height, left : left + width]
        # The centre of an odd room is rounded up or down.
        for dy in (0, 1):
            for dx in (0, 1):
                moved = found[top + dy : top + dy + height, left + dx : left + dx + width, :3]
                area = moved if (moved == picture).all() else area
        assert (area[..., :3] == picture).all()
    observer.page.keyboard.press("z")
    assert observer.page.inner_text("#scale") == "200 %"
    doubled = picture.repeat(2, axis=0).repeat(2, axis=1)
    found = seen(observer, "right")
    rows = found.shape[0] // 2
    strip = found[rows - 20 : rows + 20]
    wanted = {tuple(row) for row in doubled.reshape(-1, 3)}
    inside = strip[strip[..., 3] > 0][:, :3]
    assert {tuple(pixel) for pixel in inside} <= wanted  # nearest neighbour invents no colour
    observer.close()


def test_alternating_in_place_shows_one_and_then_the_other(chromium, address, votes):
    observer = Observer(chromium, address)
    observer.begin()
    page = observer.page
    page.keyboard.press("f")
    assert page.inner_text("#left-name") == "Left"
    first = seen(observer, "left")
    page.keyboard.press("f")
    assert page.inner_text("#left-name") == "Right"
    assert (seen(observer, "left") != first).any()
    page.keyboard.press("f")
    assert (seen(observer, "left") == first).all()
    page.keyboard.press("s")
    assert page.get_attribute("#panes", "data-mode") == "sides"
    observer.press("ArrowLeft")
    row = votes._file.execute("SELECT zoomed, flickered FROM votes").fetchone()
    assert tuple(row) == (0, 1)
    observer.close()


def test_touch_on_a_phone_in_the_dark(chromium, address, votes):
    phone = {"viewport": {"width": 390, "height": 700}, "device_scale_factor": 3}
    observer = Observer(
        chromium, address, has_touch=True, is_mobile=True, color_scheme="dark", **phone
    )
    page = observer.page
    page.fill("#distance", "35")
    page.tap("#begin button")
    page.wait_for_url("**/pause")
    assert page.locator("#code").bounding_box()["height"] < 45  # the code is on one line
    page.tap("a.button")
    observer.ready()
    wide = "document.documentElement.scrollWidth <= innerWidth"
    assert page.evaluate(wide)
    assert page.inner_text(".keys").strip() == "All pictures move together when you drag one."
    for choice in ("left", "none", "right"):
        box = page.locator(f"[data-choice={choice}]").bounding_box()
        assert box["height"] >= 44 and box["y"] + box["height"] <= 700  # a thumb reaches it
    with page.expect_navigation():
        page.tap("[data-choice=none]")
    observer.ready()
    assert votes.done(0) == 1
    stored = votes._file.execute("SELECT conditions FROM observers").fetchone()["conditions"]
    assert '"ratio": 3' in stored and '"width": 390' in stored
    observer.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_have_no_barriers(chromium, address, scheme, study, votes):
    from axe_playwright_python.sync_playwright import Axe

    observer = Observer(chromium, address, color_scheme=scheme, bypass_csp=True)
    found = {"start": Axe().run(observer.page)}
    observer.page.keyboard.press("Tab")
    observer.page.keyboard.type("60")
    observer.page.keyboard.press("Enter")
    observer.page.wait_for_url("**/pause")
    found["pause"] = Axe().run(observer.page)
    observer.page.click("a.button")
    observer.ready()
    found["pair"] = Axe().run(observer.page)
    query = "SELECT token, CASE left_name WHEN 'clean' THEN 'left' ELSE 'right' END FROM trials"
    choices = dict(map(tuple, votes._file.execute(query)))
    while (shown := votes.shown(0)) is not None:
        votes.vote(0, Ballot(shown.trial, choices[shown.trial], False, False, 1))
    observer.page.goto(f"{address}finish")
    found["finish"] = Axe().run(observer.page)
    assert main(["study", "score", str(study)]) == 0
    observer.page.set_viewport_size({"width": 390, "height": 844})
    observer.page.goto((study / PAGE).as_uri())
    assert observer.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found["results"] = Axe().run(observer.page)
    assert {
        name: each.generate_report() for name, each in found.items() if each.violations_count
    } == {}
    observer.close()


def test_a_vote_that_is_not_saved_is_said(chromium, votes):
    serving = served(votes)
    observer = Observer(chromium, next(serving))
    observer.begin()
    serving.close()  # the server stops
    observer.page.keyboard.press("ArrowLeft")
    observer.page.wait_for_selector("#problem:not([hidden])")
    assert "was not saved" in observer.page.inner_text("#problem")
    assert not observer.page.is_disabled("[data-choice=left]")
    assert votes.done(0) == 0
    observer.heard.clear()  # Chromium says that the server could not be reached
    observer.close()
