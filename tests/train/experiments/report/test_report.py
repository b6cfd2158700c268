import dataclasses
import html.parser
import json
import re

import numpy as np

from train.experiments.report.figures import by_length
from train.experiments.report.report import Crop, People, as_record, write_report
from train.experiments.report.wording import (
    better,
    describe_comparison,
    describe_measurement,
)
from train.experiments.statistics.conclusions import START, conclude
from train.inference.scoring.error_maps import FLIP_IN_WORDS
from train.inference.scoring.registry import DEFAULT, LEGEND, METRICS

HOSTILE = "</script><script>alert(1)</script>"  # the same as in the fixture


class Page(html.parser.HTMLParser):
    """Elements with their attributes, and the scripts separately."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.scripts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Keeps an element."""
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        """Keeps the text of a script."""
        if self.elements and self.elements[-1][0] == "script" and self.cdata_elem == "script":
            self.scripts.append(data)

    def all(self, tag):
        """Attributes of every element of that name."""
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_page_is_whole_and_fetches_nothing(text):
    page = Page(text)
    assert len(text) < 10e6
    assert not [a for _, a in page.elements if a.get("src", "data:").startswith(("http", "//"))]
    assert not page.all("link")
    assert all(a["src"].startswith("data:image/webp;base64,") for a in page.all("img"))


def test_what_the_user_named_cannot_become_code(text):
    assert HOSTILE not in text
    assert len(Page(text).all("script")) == 2
    assert "l1 &lt;/script&gt;" in text


def without_marks(text):
    """The page without what keeps names whole."""
    return re.sub(r'<span class="whole">(.*?)</span>', r"\1", text)


def test_it_says_what_was_concluded(text, report):
    words = html.unescape(without_marks(text))
    for comparison in report.comparisons:
        is_primary = comparison.adjusted_p is not None
        assert (
            describe_comparison(comparison)
            if is_primary
            else f"<td>{describe_measurement(comparison)}</td>"
        ) in words
    assert report.cost in words and "python -m train compare" in words and "jax 1.2.3" in words


def test_each_plot_has_its_place_its_data_and_its_words(text):
    page = Page(text)
    plots = [a for a in page.all("div") if a.get("class") == "plot"]
    assert [plot["id"] for plot in plots] == ["by-sigma", "learning", "trade-off"]
    assert all(plot["role"] == "img" and len(plot["aria-label"]) > 40 for plot in plots)
    for plot in plots:
        data = re.search(rf'"{plot["id"]}": (\{{.*?\}})(?:, "| \}};)', text, re.DOTALL)
        assert data


def test_pictures_are_named_and_sliders_reach_by_keyboard(text):
    page = Page(text)
    assert all(a["alt"] for a in page.all("img"))
    ranges = [a for a in page.all("input") if a["type"] == "range"]
    assert len(ranges) == 2 and all(a["aria-label"] for a in ranges)


def test_the_slider_between_two_pictures_names_their_losses(report, text, tmp_path):
    losses = ("luminance_l1", "mse")
    comparisons = [c for c in report.comparisons if c.other == "mse"]
    two = dataclasses.replace(report, losses=losses, comparisons=comparisons)
    write_report(two, tmp_path / "report.html")
    assert "<label>luminance_l1 / mse <input" in (tmp_path / "report.html").read_text("utf-8")
    assert "<label>luminance_l1 / the other losses <input" in text


def test_the_chance_of_a_verdict_is_explained_only_if_a_number_of_seeds_is_suggested(
    report, tmp_path
):
    explained = "the chance of a verdict is about 80 %"
    first, *_ = report.comparisons
    exploratory = [c for c in report.comparisons if c.adjusted_p is None]
    pages = []
    for gain in (0.2, 0.0):
        # A small gain that seeds hide, and none at all
        unclear = dataclasses.replace(
            first,
            outcome="cannot tell",
            difference=dataclasses.replace(
                first.difference, mean=gain, image_sd=0.1, seed_sd=0.2, residual_sd=0.1
            ),
        )
        page = tmp_path / f"{gain}.html"
        write_report(dataclasses.replace(report, comparisons=[unclear, *exploratory]), page)
        pages.append(page.read_text("utf-8"))
    suggested, hopeless = pages
    assert "seeds would probably decide it" in suggested and explained in suggested
    assert "seeds would probably decide it" not in hopeless and explained not in hopeless


def test_each_loss_has_a_map_of_flip_with_its_mean_and_a_bar(text, report):
    page, words = Page(text), html.unescape(text)
    (crop,) = report.crops
    for loss in report.losses:
        assert f"a photograph, map of FLIP of {loss}" in [a["alt"] for a in page.all("img")]
        assert f"FLIP of {loss}: {crop.flip[loss].mean():.3f} on average" in words
    assert "from black at 0 to pale yellow at 0.5 and above" in text
    assert "linear-gradient(to right, rgb(0 0 4), " in text and FLIP_IN_WORDS in words


def test_the_tables_say_which_direction_is_better(text, report):
    assert "FLIP&nbsp;↓</th>" in text and "HaarPSI&nbsp;↑</th>" in text and LEGEND in text
    pattern = r"against [^<]*: (.*?)( dB)? [+-][^<]*</td><td>(\w+)</td>"
    rows = re.findall(pattern, without_marks(text))
    directions = {metric.label: better(name) for name, metric in METRICS.items()}
    assert len(rows) == len(report.comparisons) - 2
    assert {label for label, *_ in rows} == {METRICS[name].label for name in DEFAULT}
    assert all(directions[label] == said for label, _, said in rows)


def test_the_change_from_the_start_has_its_interval_below(report, tmp_path):
    changes = [dataclasses.replace(c, other=START) for c in report.comparisons]
    start = [dataclasses.replace(row, loss=START) for row in report.scores if row.loss == "mse"]
    fine_tuned = dataclasses.replace(report, changes=changes, scores=[*report.scores, *start])
    write_report(fine_tuned, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    number = r"[+-]\d+\.\d+"
    cell = (
        rf'<td><span class="whole">{number}( dB)?</span><small>\[{number}, {number}\]</small></td>'
    )
    assert len(re.findall(cell, page)) == len(changes)


def test_what_people_saw_is_said(report, text, tmp_path):
    assert "<h2>Ask people</h2>" in text  # nobody has voted yet
    people = People(
        question=f"Which one {HOSTILE}?",
        verdicts=[("B is preferred to A.", "Score of A: 20 %.")],
        scale=[(f"B {HOSTILE}", "+0.80", "+0.30 to +1.31", "70 %", "61 % to 80 %")],
        said=("Fixed before the first vote.",),
        page="study/results.html",
    )
    write_report(dataclasses.replace(report, people=people), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert HOSTILE not in page and "Which one &lt;/script&gt;" in page
    assert "<strong>B is preferred to A.</strong> Score of A: 20 %." in page
    assert "<h2>What people saw</h2>" in page
    assert "<td>+0.80</td><td>+0.30 to +1.31</td><td>70 %</td><td>61 % to 80 %</td>" in page
    assert '<a href="study/results.html">' in page


def test_a_file_is_replaced_whole(report, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(report, path)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [path]


def test_conclusions_go_into_json_as_they_are(report):
    record = json.loads(json.dumps(as_record(report.comparisons[0])))
    assert record["sentence"] == describe_comparison(report.comparisons[0])
    assert record["difference"]["images"] == 12 and len(record["difference"]["by_seed"]) == 3


def test_what_one_seed_cannot_tell_is_null_in_json(report):
    rows = [row for row in report.scores if row.seed == 0]
    record = as_record(conclude(rows, report.losses)[0])
    assert record["difference"]["seed_sd"] is None and record["difference"]["image_sd"] > 0
    json.dumps(record, allow_nan=False)


def test_pictures_that_would_make_it_too_large_are_left_out(report, tmp_path):
    noise = np.random.default_rng(0).uniform(size=(250, 250, 3))
    crops = [
        Crop(
            f"photograph {i}",
            noise,
            noise,
            dict.fromkeys(report.losses, noise),
            dict.fromkeys(report.losses, np.zeros((250, 250))),
        )
        for i in range(3)
    ]
    write_report(dataclasses.replace(report, crops=crops), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(text) < 10e6 and text.count('<section class="crop"') == 2
    assert "1 more photograph is left out, to keep this page below 10 MB" in text


def test_the_points_of_a_difference_are_means_with_their_intervals(report):
    compared = report.comparisons
    at_lengths = {1000: compared, 2000: compared}
    (figure,) = by_length(report.losses, at_lengths, compared[0].metric)
    line = json.loads(figure.json)["data"][0]
    first = next(c.difference for c in compared if c.other == report.losses[1])
    assert line["y"] == [first.mean, first.mean]
    assert line["error_y"]["array"] == [first.high - first.mean] * 2
