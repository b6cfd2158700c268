"""A study of three sets from the first command to the page."""

import json
import sqlite3

import pytest

from tests.train.study.conftest import Robots, side_of
from tests.train.study.test_score import score
from tests.train.study.test_static import exported, run, save
from train.study.results import PairResult
from train.study.scale_sentences import find_circle, signed
from train.study.score_tables import TABLE
from train.study.statistics import Interval
from train.study.study_file import FILE_NAME, reading

RANKING = "abc"  # the best one first


@pytest.fixture
def three(make_study, folders):
    """A study of three sets and three observers."""
    flags = ("--clean", str(folders / "clean"), "--input", str(folders / "input"))
    return make_study("--c", str(folders / "c"), *flags, "--observers", "3")


def prefers(*, unless_tied=lambda left, right, photograph: False):
    """A rule that prefers sets in their ranking, and sees no difference where it is told so."""

    def rule(kind, left, right, photograph):
        if kind == "obvious":
            return side_of("clean", left)
        if kind == "same" or unless_tied(left, right, photograph):
            return "none"
        return side_of(min(left, right), left)

    return rule


def vote_all(folder, *rules):
    robots = Robots(folder)
    for rule in rules:
        robots.observe(rule)
    robots.votes.close()
    return folder


def test_a_ranking_is_found_and_reported(three, capsys):
    def sometimes(left, right, photograph):
        # a and b look alike in every third photograph, b and c in none, a and c in one
        return {left, right} == {"a", "b"} and photograph % 3 == 0 or photograph == 0

    def contrary(kind, left, right, photograph):
        if kind in ("pair", "repeat") and photograph in (1, 2):
            return side_of(max(left, right), left)
        return prefers(unless_tied=sometimes)(kind, left, right, photograph)

    rule = prefers(unless_tied=sometimes)
    status, results = score(vote_all(three, rule, rule, contrary))
    assert status == 0
    assert [pair["outcome"] for pair in results["pairs"]] == ["first"] * 3
    # Two pairs are decided at once, and the third one then has a comparison to itself.
    levels = [pair["confidence"] for pair in results["pairs"]]
    assert levels == pytest.approx([0.95, 1 - 0.05 / 3, 1 - 0.05 / 3])
    # 4 repeats for each observer, balanced over the pairs
    assert all(3 * 12 + 3 <= sum(pair["choices"]) <= 3 * 12 + 6 for pair in results["pairs"])
    scale = results["scale"]
    assert [placed["letter"] for placed in scale["sets"]] == list(RANKING)
    assert scale["never_beaten"] == ["abc"] and scale["why_not"] == ""
    assert sum(placed["jod"]["mean"] for placed in scale["sets"]) == pytest.approx(0)
    assert scale["sets"][0]["jod"]["over_observers"]
    said = " ".join(capsys.readouterr().out.split())
    for sentence in (
        "A (a) is preferred to B (b).",
        "A (a) is preferred to C (c).",
        "B (b) is preferred to C (c).",
        "This holds for observers and photographs like these.",
        "by Holm's method",
    ):
        assert sentence in said
    page = (three / "results.html").read_text()
    assert "The sets on one scale" in page and "B (b) is preferred to C (c)." in page
    assert "http" not in page
    rows = (three / "votes.csv").read_text().splitlines()
    assert len(rows) == 1 + sum(observer["votes"] - 5 for observer in results["observers"])


def test_unanimous_votes_are_said_to_have_no_distance(three, capsys):
    _, results = score(vote_all(three, *[prefers()] * 3))
    assert "Infinity" not in (three / "results.json").read_text()
    assert results["scale"]["never_beaten"] == ["a", "b", "c"]
    said = " ".join(capsys.readouterr().out.split())
    assert "No vote prefers B to A. The distance between them may be larger than shown" in said
    assert "No vote prefers C to A or B." in said
    assert "does not describe" not in said


def test_ties_alone_have_no_scale(three, capsys):
    _, results = score(vote_all(three, *[prefers(unless_tied=lambda *_: True)] * 3))
    assert [pair["outcome"] for pair in results["pairs"]] == ["cannot tell"] * 3
    assert results["scale"]["sets"] == []
    said = " ".join(capsys.readouterr().out.split())
    assert "There is no scale, because every vote says “no difference”." in said
    assert "The sets on one scale" not in (three / "results.html").read_text()


def test_sets_that_were_not_compared_have_no_scale(three, capsys):
    vote_all(three, *[prefers()] * 3)
    with sqlite3.connect(three / FILE_NAME) as file:
        file.execute(
            "DELETE FROM votes WHERE (place, position) IN (SELECT place, position FROM trials "
            "WHERE 'c' IN (left_name, right_name))"
        )
    _, results = score(three, "--end-early")
    said = " ".join(capsys.readouterr().out.split())
    assert "no vote compares A and B with C, so they have no common scale" in said
    assert results["scale"]["sets"] == []


def test_a_circle_is_said(three, capsys):
    def circle(kind, left, right, photograph):
        if kind in ("pair", "repeat") and {left, right} == {"a", "c"}:
            return side_of("c", left)
        return prefers()(kind, left, right, photograph)

    score(vote_all(three, *[circle] * 3))
    said = " ".join(capsys.readouterr().out.split())
    assert "The verdicts run in a circle: A over B over C over A." in said
    assert "The scale does not describe A against B well" in said


def pair(first, second, outcome):
    interval = Interval(0.5, 0.4, 0.6, over_observers=False)
    empty = ((), (), (0, 0, 0), (0, 1), None, (), ())
    return PairResult(first, second, outcome, "", interval, 0.95, *empty)


def test_places_have_signs_except_zero():
    assert [signed(place) for place in (1.234, -0.5, 0.0, -0.001)] == [
        "+1.23",
        "−0.50",
        "0.00",
        "0.00",
    ]


def test_circles_by_hand():
    line = [pair("a", "b", "first"), pair("b", "c", "first"), pair("a", "c", "cannot tell")]
    assert find_circle(line) == []
    four = [*line, pair("c", "d", "first"), pair("a", "d", "second")]
    assert find_circle(four) == ["a", "b", "c", "d", "a"]


def test_files_of_observers_are_merged(three, tmp_path):
    page, held = exported(three, tmp_path)
    said = page[page.index("</style>") :]
    assert '"c"' not in said and "obvious" not in said
    assert run("merge", three, save(tmp_path / "votes.json", held)) == 0
    with reading(three) as file:
        count = file.execute("SELECT count(*) FROM votes").fetchone()[0]
    assert count == len(held["trials"]) == 5 + 36 + 3 + 1 + 4


def write_scores(folder, values, head="photograph,psnr,flip,niqe"):
    lines = [f"p{number:02d}.png,{30 + value},{1 - value / 20},3" for number, value in values]
    (folder / TABLE).write_text("\n".join([head, *lines]) + "\n")


def make_with_scores(folders, tmp_path, *, scores):
    """A study of three folders with tables of scores."""
    flags = []
    for letter in RANKING:
        (tmp_path / letter).mkdir()
        for photograph in (folders / letter).iterdir():
            (tmp_path / letter / photograph.name).symlink_to(photograph)
        write_scores(tmp_path / letter, enumerate(scores[letter]))
        flags += [f"--{letter}", tmp_path / letter]
    assert run("create", tmp_path / "study", *flags, "--observers", "3", "--seed", "3") == 0
    return tmp_path / "study"


def test_metrics_beside_the_photographs_are_compared_with_the_votes(folders, tmp_path, capsys):
    # PSNR prefers a to b to c; so does FLIP, which falls with quality.
    scores = {letter: [5 - rank + n / 20 for n in range(12)] for rank, letter in enumerate("abc")}
    study = make_with_scores(folders, tmp_path, scores=scores)
    said = " ".join(capsys.readouterr().out.split())
    assert "has columns that are not metrics of evaluate" in said and "niqe" in said
    contrary = prefers(unless_tied=lambda left, right, photograph: photograph % 4 == 0)

    def rule(kind, left, right, photograph):
        # Without --clean, the obvious pair is a against a blurred.
        return side_of("a", left) if kind == "obvious" else contrary(kind, left, right, photograph)

    status, results = score(vote_all(study, *[rule] * 3))
    assert status == 0
    metrics = {each["metric"]: each for each in results["metrics"]["metrics"]}
    assert set(metrics) == {"psnr", "flip"}
    assert metrics["psnr"]["correlation"]["mean"] > 0.5
    assert metrics["flip"]["agrees"] == metrics["psnr"]["agrees"] == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "has the highest rank correlation with these votes" in said
    page = (study / "results.html").read_text()
    assert "Which metric predicts these votes" in page and "PSNR" in page


def test_a_damaged_score_is_refused(folders, tmp_path, capsys):
    study = make_with_scores(folders, tmp_path, scores=dict.fromkeys("abc", range(12)))
    vote_all(study, prefers())
    with sqlite3.connect(study / FILE_NAME) as file:
        file.execute("UPDATE scores SET value = 1e300 WHERE rowid = 3")
    assert score(study, "--end-early") == (2, None)
    assert "A score of the study is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"photograph,psnr\np00.png,1\np00.jpg,2\n", "several rows for p00"),
        (b"photograph,psnr\np00.png,1,2\n", "line 2 does not have 2 cells"),
        (b"photograph,psnr\np00.png,1e9\n", "psnr must be a number"),
        (b"photograph,psnr\np00.png,nan\n", "psnr must be a number"),
        (b"photograph,niqe\np00.png,1\n", "columns named as metrics"),
        (b"name,psnr\np00.png,1\n", "a column named photograph"),
        (b"photograph,psnr\nother.png,1\n", "no row for any of these photographs"),
        (b"\xff\xfe\x00", "is not used"),
        (b"", "a column named photograph"),
    ],
)
def test_tables_that_cannot_be_used_are_named(content, message, folders, tmp_path, capsys):
    (tmp_path / "b").mkdir()
    for photograph in (folders / "b").iterdir():
        (tmp_path / "b" / photograph.name).symlink_to(photograph)
    (tmp_path / "b" / TABLE).write_bytes(content)
    flags = ["--a", folders / "a", "--b", tmp_path / "b"]
    assert run("create", tmp_path / "study", *flags) == 0
    assert message in " ".join(capsys.readouterr().out.split())
    with reading(tmp_path / "study") as file:
        assert file.execute("SELECT count(*) FROM scores").fetchone()[0] == 0


def test_the_table_of_evaluate_is_read(folders, tmp_path):
    (tmp_path / "b").mkdir()
    for photograph in (folders / "b").iterdir():
        (tmp_path / "b" / photograph.name).symlink_to(photograph)
    (tmp_path / "b" / TABLE).write_text(
        "photograph,sigma,seed,method,psnr,ms_ssim\n"
        "p00.png,25,0,input,20,\np00.png,25,0,restored,31.5,\np01.png,25,0,restored,32.5,\n"
    )
    assert run("create", tmp_path / "study", "--a", folders / "a", "--b", tmp_path / "b") == 0
    with reading(tmp_path / "study") as file:
        rows = file.execute("SELECT * FROM scores ORDER BY photograph").fetchall()
        assert [tuple(row) for row in rows] == [(0, "b", "psnr", 31.5), (1, "b", "psnr", 32.5)]


def test_the_record_holds_every_number(three):
    _, results = score(vote_all(three, *[prefers()] * 3))
    assert json.dumps(results, allow_nan=False)
    assert [
        (each["first"], each["second"], each["jod"]["mean"] > 0)
        for each in results["scale"]["distances"]
    ] == [("a", "b", True), ("a", "c", True), ("b", "c", True)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_has_no_barriers(chromium, scheme, folders, tmp_path):
    from axe_playwright_python.sync_playwright import Axe

    scores = {letter: [5 - rank + n / 20 for n in range(12)] for rank, letter in enumerate("abc")}
    study = make_with_scores(folders, tmp_path, scores=scores)
    divided = prefers(unless_tied=lambda left, right, photograph: photograph % 3 == 0)
    assert score(vote_all(study, *[divided] * 3), "--end-early")[0] == 0
    phone = chromium.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page = phone.new_page()
    heard = []
    page.on("console", lambda message: heard.append(message.text))
    page.goto((study / "results.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert heard == []
    phone.close()
