import sqlite3
import threading

from tests.train.study.conftest import CONDITIONS
from train.study.sent import Ballot
from train.study.study_file import FILE_NAME
from train.study.votes import Votes


def ballot(trial, choice="left"):
    return Ballot(trial, choice, False, False, 1000)


def start(votes):
    place = votes.place_of(votes.begin(CONDITIONS))
    return place, votes.shown(place)


def test_a_pair_has_one_vote_whatever_is_sent(votes):
    place, shown = start(votes)
    assert votes.vote(place, ballot(shown.trial)) == "counted"
    # A double click, the back button, a second tab
    assert votes.vote(place, ballot(shown.trial)) == "earlier"
    assert votes.vote(place, ballot(shown.trial, "right")) == "earlier"
    assert votes.done(place) == 1
    rows = votes._file.execute("SELECT choice FROM votes").fetchall()
    assert [row["choice"] for row in rows] == ["left"]


def test_only_the_next_pair_can_be_voted_on(votes, robots):
    place, shown = start(votes)
    later = next(token for token in robots.trials if token not in (shown.trial,))
    assert votes.vote(place, ballot(later)) == "refused"
    assert votes.vote(place, ballot("no trial")) == "refused"
    assert votes.done(place) == 0


def test_pictures_are_shown_only_to_their_observer_and_in_their_turn(votes):
    place, shown = start(votes)
    other, others = start(votes)
    assert votes.picture(place, shown.left) and votes.picture(place, shown.right)
    assert votes.picture(other, shown.left) is None
    assert votes.picture(place, others.left) is None
    (later,) = votes._file.execute(
        "SELECT left_token FROM trials WHERE place = ? AND position = 1", [place]
    ).fetchone()
    assert votes.picture(place, later) is None
    votes.vote(place, ballot(shown.trial))
    assert votes.picture(place, later)


def test_the_last_vote_can_be_taken_back_once(votes):
    place, first = start(votes)
    assert first.undo is None and not votes.undo(place, first.trial)
    votes.vote(place, ballot(first.trial))
    second = votes.shown(place)
    votes.vote(place, ballot(second.trial))
    assert not votes.undo(place, first.trial)  # not the last one
    assert votes.undo(place, second.trial)
    assert not votes.undo(place, second.trial)  # a double click
    assert votes.shown(place).trial == second.trial
    assert votes.shown(place).undo is None  # only the last vote
    assert votes.vote(place, ballot(second.trial, "right")) == "counted"
    rows = votes._file.execute("SELECT choice, undone FROM votes ORDER BY number").fetchall()
    assert [(row["choice"], row["undone"] is None) for row in rows] == [
        ("left", True),
        ("left", False),  # the record keeps it
        ("right", True),
    ]


def test_a_code_moves_an_observer_to_another_browser(votes):
    session = votes.begin(CONDITIONS)
    place = votes.place_of(session)
    code = votes.code_of(place)
    assert len(code.replace("-", "")) == 16  # 80 bits
    assert votes.resume("AAAA-BBBB-CCCC-DDDD") is None
    assert votes.resume("") is None
    moved = votes.resume(f"  {code.lower().replace('-', ' ')} ")
    assert votes.place_of(moved) == place
    assert votes.place_of(session) is None
    assert session not in str(
        [tuple(row) for row in votes._file.execute("SELECT * FROM observers")]
    )


def test_places_are_limited_and_each_is_given_once(votes):
    sessions = [votes.begin(CONDITIONS) for _ in range(5)]
    assert [votes.place_of(session) for session in sessions] == [0, 1, 2, None, None]


def test_many_threads_lose_nothing_and_count_nothing_twice(study):
    votes = Votes(study)
    place, _ = start(votes)
    outcomes = []

    def click():
        while (shown := votes.shown(place)) is not None:
            outcomes.append(votes.vote(place, ballot(shown.trial)))

    threads = [threading.Thread(target=click) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = votes.done(place)
    votes.close()
    assert outcomes.count("counted") == total
    with sqlite3.connect(study / FILE_NAME) as file:
        assert file.execute("SELECT count(*) FROM votes").fetchone()[0] == total
        planned = file.execute("SELECT count(*) FROM trials WHERE place = 0").fetchone()[0]
    assert total == planned


def test_two_servers_of_one_study_share_it(study):
    one, two = Votes(study), Votes(study)
    place, shown = start(one)
    assert one.vote(place, ballot(shown.trial)) == "counted"
    assert two.vote(place, ballot(shown.trial)) == "earlier"
    assert two.vote(place, ballot(two.shown(place).trial)) == "counted"
    assert one.done(place) == 2
    one.close()
    two.close()
