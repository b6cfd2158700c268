import contextlib
import csv
import dataclasses
import json
import os
import sqlite3

import pytest

from tests.train.study.conftest import Robots, side_of
from train.__main__ import main
from train.study import scale_sentences, sentences
from train.study.ballots import Vote, score_table, vote_table, why_excluded
from train.study.score import read_results
from train.study.sent import Ballot
from train.study.study_file import FILE_NAME, reading

VOTE = dict(observer=1, number=1, photograph="p", zoomed=False, flickered=False, milliseconds=1)


def honest(kind, left, right, photograph):
    """Prefers a, sees that identical pictures are identical, and finds the obvious one."""
    if kind == "same":
        return "none"
    return side_of("clean" if kind == "obvious" else "a", left)


def score(study, *flags):
    status = main(["study", "score", str(study), *flags])
    record = study / "results.json"
    return status, json.loads(record.read_text()) if record.exists() else None


def vote(left, right, choice, kind="pair", **more):
    return Vote(**{**VOTE, "kind": kind, "left": left, "right": right, "choice": choice, **more})


def test_scores_by_hand():
    votes = [
        vote("a", "b", "left"),  # 1
        vote("b", "a", "right", kind="repeat", number=9),  # 1, averaged with the first
        vote("a", "b", "right", observer=2),  # 0
        vote("b", "a", "none", photograph="q"),  # 0.5
        vote("b", "c", "left", photograph="q"),  # a different comparison
    ]
    scores, names = score_table(votes, "a", "b")
    assert names == ["p", "q"]
    assert scores[0].tolist() == [1, 0]
    assert scores[1, 0] == 0.5 and scores[1, 1] != scores[1, 1]
    votes[1] = vote("b", "a", "left", kind="repeat", number=9)
    assert score_table(votes, "a", "b")[0][0].tolist() == [0.5, 0]


def test_a_table_of_choices_by_hand():
    votes = [
        vote("a", "b", "left"),
        vote("b", "a", "left", kind="repeat", number=9),  # b: the repeat shares the weight
        vote("a", "b", "none", observer=2),
        vote("c", "b", "left", photograph="q"),  # the second set of its pair is on the left
    ]
    table, names = vote_table(votes, [("a", "b"), ("b", "c")])
    assert names == ["p", "q"]
    assert table.shape == (2, 2, 2, 3)
    assert table[0, 0, 0].tolist() == [0.5, 0, 0.5]
    assert table[0, 1, 0].tolist() == [0, 1, 0]
    assert table[1, 0, 1].tolist() == [0, 0, 1]
    assert table.sum() == 3


def test_conditions_that_no_browser_states_are_not_shown(robots):
    """A file of somebody else may hold anything that is JSON."""
    robots.observe(honest, most=30)
    robots.votes._file.execute("""UPDATE observers SET conditions = '{"distance": ["a mile"]}'""")
    robots.votes.close()
    assert main(["study", "score", str(robots.folder)]) == 0
    page = (robots.folder / "results.html").read_text()
    assert "a mile" not in page and "<td></td>" in page


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.5, "50 %"), (0.4967, "49.7 %"), (0.50002, "50.002 %"), (0.494, "49 %"), (1.0, "100 %")],
)
def test_an_end_near_the_middle_shows_its_side(share, text):
    assert sentences.end(share) == text


def test_measurements_show_on_which_side_of_the_middle_an_end_is(robots):
    robots.observe(honest)
    with reading(robots.folder) as file:
        results = read_results(file, robots.folder)
    interval = dataclasses.replace(results.pairs[0].interval, low=0.4967, high=0.5002)
    pair = dataclasses.replace(results.pairs[0], interval=interval)
    for said in (sentences.measurement(results, pair), scale_sentences.measurement(pair)):
        assert "interval 49.7 % to 50.02 %" in said


def test_one_observer_cannot_agree_with_anybody(robots, capsys):
    robots.observe(honest)
    robots.votes.close()
    assert main(["study", "score", str(robots.folder)]) == 0
    assert "between observers needs at least two" in capsys.readouterr().out.replace("\n", " ")


def test_exclusion_by_hand(votes):
    terms = votes.about
    assert terms.obvious == ("clean", "input")
    fair = [vote("a", "b", side) for side in ("left", "right") for _ in range(10)]
    assert why_excluded(fair, terms) == ""
    failed = vote("input", "clean", "left", kind="obvious")
    assert "obvious" in why_excluded([*fair, failed], terms)
    # No difference is not the answer to the obvious pair either.
    unsure = vote("input", "clean", "none", kind="obvious")
    assert "obvious" in why_excluded([*fair, unsure], terms)
    passed = vote("input", "clean", "right", kind="obvious")
    assert why_excluded([*fair, passed], terms) == ""
    lefts = [vote("a", "b", "left")] * 18
    assert why_excluded([*lefts, *fair[10:12]], terms) == ""  # 90 % is not over 90 %
    assert "left" in why_excluded([*lefts, lefts[0], fair[10]], terms)
    assert why_excluded([lefts[0]] * 19, terms) == ""  # fewer than 20 votes
    # A study keeps the rules that it was made with.
    stricter = dataclasses.replace(terms, most_on_one_side=0.8)
    assert "left" in why_excluded([*lefts, *fair[10:12]], stricter)
    assert "left" in why_excluded([lefts[0]] * 19, dataclasses.replace(terms, fewest_for_sides=19))


def test_a_clear_preference_is_found_and_reported(robots, capsys):
    for _ in range(3):
        robots.observe(honest)
    status, results = score(robots.folder)
    assert status == 0
    (pair,) = results["pairs"]
    assert pair["outcome"] == "first"
    assert pair["interval"] == {"mean": 1, "low": 1, "high": 1, "over_observers": True}
    assert pair["choices"] == [45, 0, 0]  # 12 pairs and 3 repeats of each
    assert [each["votes"] for each in pair["observers"]] == [15, 15, 15]
    votes = [each["votes"] for each in pair["photographs"]]
    assert len(votes) == 12 and min(votes) >= 3 and sum(votes) == 45
    assert pair["alpha"] is None and len(pair["agreed"]) == 4 and pair["split"] == []
    assert results["controls"] == {
        "same": 6,
        "same_none": 6,
        "repeats": 9,
        "repeats_equal": 9,
    }
    said = " ".join(capsys.readouterr().out.split())
    assert "A (a) is preferred to B (b)." in said
    assert "This holds for observers and photographs like these." in said
    page = (robots.folder / "results.html").read_text()
    assert "A (a) is preferred to B (b)." in page
    assert "http" not in page.replace("http-equiv", "")  # it fetches nothing
    with (robots.folder / "votes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 18
    assert {row["kind"] for row in rows} == {"pair", "repeat", "same", "obvious"}


def test_votes_that_cancel_out_tell_nothing(robots):
    for _ in range(3):
        robots.observe(
            lambda kind, left, right, photograph: (
                honest(kind, left, right, photograph)
                if kind in ("same", "obvious")
                else side_of("ab"[photograph % 2], left)
            )
        )
    (pair,) = score(robots.folder)[1]["pairs"]
    assert pair["outcome"] == "cannot tell"
    assert pair["interval"]["mean"] == pytest.approx(0.5)
    assert pair["alpha"] == 1


def test_observers_who_fail_are_excluded_and_named(robots, capsys):
    robots.observe(honest)
    robots.observe(honest)
    robots.observe(lambda kind, left, right, photograph: side_of("input", left))
    (pair,) = score(robots.folder)[1]["pairs"]
    assert [each["name"] for each in pair["observers"]] == ["observer 1", "observer 2"]
    assert not pair["interval"]["over_observers"]
    said = " ".join(capsys.readouterr().out.split())
    assert "Observer 3 was excluded: did not choose the better picture" in said
    assert "This holds for these 2 observers" in said


def test_an_observer_who_always_says_left_is_excluded(make_study, capsys):
    def left_unless_obvious(kind, left, right, photograph):
        return side_of("a", left) if kind == "obvious" else "left"

    folder = make_study("--observers", "2", "--votes-per-pair", "2")
    stricter = "json_set(content, '$.most_on_one_side', 0.8, '$.fewest_for_sides', 15)"
    with contextlib.closing(sqlite3.connect(folder / FILE_NAME, isolation_level=None)) as file:
        file.execute(f"UPDATE about SET content = {stricter}")
    robots = Robots(folder)
    robots.observe(lambda kind, left, right, photograph: side_of("a", left))
    robots.observe(left_unless_obvious)
    robots.votes.close()
    (pair,) = score(robots.folder)[1]["pairs"]
    assert [each["name"] for each in pair["observers"]] == ["observer 1"]
    said = " ".join(capsys.readouterr().out.split())
    assert "Observer 2 was excluded: chose the left picture in" in said
    assert "or for choosing the same side in over 80 % of at least 15 votes." in said


def test_a_single_observer_is_never_excluded(make_study, capsys):
    robots = Robots(make_study())
    robots.observe(lambda kind, left, right, photograph: "left")
    robots.votes.close()
    (pair,) = score(robots.folder)[1]["pairs"]
    assert pair["outcome"] == "cannot tell"
    assert "this observer and photographs like these" in " ".join(capsys.readouterr().out.split())


def test_there_is_no_verdict_before_the_last_vote(robots, capsys):
    robots.observe(honest)
    robots.observe(honest, most=15)
    (pair,) = score(robots.folder)[1]["pairs"]
    assert pair["outcome"] == "no verdict"
    said = capsys.readouterr().out
    assert "28 of the 54 votes are in, and their number was fixed" in said
    assert "This holds" not in said
    (pair,) = score(robots.folder, "--end-early")[1]["pairs"]
    assert pair["outcome"] == "first"
    assert "The study was ended early" in " ".join(capsys.readouterr().out.split())


def test_a_choice_of_votes_has_no_verdict(robots):
    for _ in range(3):
        robots.observe(honest)
    with sqlite3.connect(robots.folder / FILE_NAME) as file:
        file.execute("UPDATE votes SET zoomed = 1 WHERE position % 2 = 0")
    plain, boosted = (
        score(robots.folder, "--viewing", viewing)[1]["pairs"][0]
        for viewing in ("plain", "boosted")
    )
    assert plain["outcome"] == boosted["outcome"] == "no verdict"
    assert sum(plain["choices"]) + sum(boosted["choices"]) == 45


def test_a_study_without_votes_is_an_error(study, capsys):
    assert score(study) == (2, None)
    assert "has no vote that counts yet" in capsys.readouterr().err


def test_names_are_escaped(make_study, folders, tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"<{name}>&").symlink_to(folders / name)
    study = tmp_path / "study"
    flags = ["--a", str(tmp_path / "<a>&"), "--b", str(tmp_path / "<b>&")]
    assert main(["study", "create", str(study), *flags]) == 0
    robots = Robots(study)
    robots.observe(honest)
    robots.votes.close()
    score(study)
    page = (study / "results.html").read_text()
    assert "<a>" not in page and "&lt;a&gt;&amp;" in page


def test_a_sequential_study_says_when_the_votes_suffice(make_study, capsys):
    robots = Robots(make_study("--stop", "sequential"))
    votes = robots.votes
    assert not votes.suffices(0)
    while not votes.suffices(robots.observe(honest, most=1) if votes.done(0) == 0 else 0):
        shown = votes.shown(0)
        choice = honest(*robots.trials[shown.trial])
        assert score(robots.folder)[0] in (0, 2)
        assert "is preferred" not in capsys.readouterr().out
        votes.vote(0, Ballot(shown.trial, choice, False, False, 900))
    assert votes.shown(0) is not None  # before the last vote
    status, results = score(robots.folder)
    (pair,) = results["pairs"]
    assert pair["outcome"] == "first"
    assert 0.5 < pair["interval"]["low"] < 1 and pair["interval"]["high"] == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "A (a) is preferred to B (b)." in said and "95 % confidence sequence" in said
    votes.close()


def test_several_observers_cannot_stop_early(folders, tmp_path, capsys):
    flags = ["--a", str(folders / "a"), "--b", str(folders / "b"), "--observers", "2"]
    assert main(["study", "create", str(tmp_path / "s"), *flags, "--stop", "sequential"]) == 2
    assert "not independent" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["results.html", "votes.csv", "results.json"])
def test_files_of_the_user_are_not_replaced(robots, tmp_path, capsys, name):
    robots.observe(honest)
    (tmp_path / name).write_text("mine")
    command = ["study", "score", str(robots.folder), "--output", str(tmp_path)]
    assert main(command) == 2
    assert f"{name} exists and was not written by this command" in capsys.readouterr().err
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_text() == "mine"
    assert main([*command, "--overwrite"]) == 0
    assert main(command) == 0  # All three are its own now.


def test_results_need_a_folder(robots, tmp_path, capsys):
    robots.observe(honest)
    (tmp_path / "file").write_text("mine")
    for folder in ("file", "file/below"):
        assert main(["study", "score", str(robots.folder), "--output", str(tmp_path / folder)]) == 2
        assert "--output must be a folder" in capsys.readouterr().err
