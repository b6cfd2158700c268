"""The scale of three sets or more: known rankings, intervals, and what has no scale."""

import itertools

import numpy as np
import pytest

from benchmarks.study_coverage import (
    coverage_of_scale,
    simulate_sets,
    true_scale,
    wrong_verdicts,
)
from tests.slow_cases import slow_for
from train.study.scale import make_scale
from train.study.statistics import crossed_bootstrap, stepdown_intervals

PAIRS = [("a", "b"), ("a", "c"), ("b", "c")]


@pytest.mark.parametrize(
    ("logits", "ties"),
    [((0.0, 1.0, 2.0), 0.0), ((2.0, 0.0, 1.0, 3.0), 0.8), ((1.0, 2.0, 0.0), 4.0)],
)
def test_a_known_ranking_is_recovered(logits, ties):
    random = np.random.default_rng(0)
    letters = "abcd"[: len(logits)]
    pairs = list(itertools.combinations(letters, 2))
    table = simulate_sets(random, logits, 12, 80, ties=ties, observer_sd=0, image_sd=0)
    scale = make_scale(table, letters, pairs)
    ranking = sorted(letters, key=lambda letter: -logits[letters.index(letter)])
    assert [placed.letter for placed in scale.sets] == ranking
    assert scale.ties == pytest.approx(ties / (2 + ties), abs=0.02)
    truth = true_scale(logits, ties=ties, spread=0)
    np.testing.assert_allclose(truth.logits, np.array(logits) - np.mean(logits), atol=1e-9)
    for placed in scale.sets:
        place = truth.jod[letters.index(placed.letter)]
        assert placed.jod.mean == pytest.approx(place, abs=0.15)
        assert placed.jod.low < placed.jod.mean < placed.jod.high
    for distance in scale.distances:
        one, two = (letters.index(each) for each in (distance.first, distance.second))
        assert distance.score == pytest.approx(float(truth.score(one, two)), abs=0.03)


def test_preferences_by_hand():
    """One observer, ten photographs: a beats b 8:2, a beats c 10:0, b and c tie."""
    table = np.zeros((10, 1, 3, 3))
    table[:8, 0, 0, 0] = table[8:, 0, 0, 2] = 1
    table[:, 0, 1, 0] = 1
    table[:, 0, 2, 1] = 1
    scale = make_scale(table, "abc", PAIRS)
    preferences = {placed.letter: placed.preference for placed in scale.sets}
    assert preferences["a"].mean == pytest.approx((0.8 + 1) / 2)
    assert preferences["b"].mean == pytest.approx((0.2 + 0.5) / 2)
    assert preferences["c"].mean == pytest.approx((0 + 0.5) / 2)
    # The 2.5 % and 97.5 % quantiles of binomial(10, 0.8) are 5 and 10.
    assert (preferences["a"].low, preferences["a"].high) == (pytest.approx(0.75), pytest.approx(1))
    assert not preferences["a"].over_observers
    assert scale.never_beaten == ("ab", "c")  # a and b beat each other, c beats nothing


def test_unanimous_votes_stay_finite():
    table = np.zeros((12, 3, 3, 3))
    table[..., 0] = 1
    scale = make_scale(table, "abc", PAIRS)
    assert [placed.letter for placed in scale.sets] == ["a", "b", "c"]
    assert scale.never_beaten == ("a", "b", "c")
    ends = [value for placed in scale.sets for value in (placed.jod.low, placed.jod.high)]
    assert np.isfinite(ends).all()


def test_sets_without_a_common_scale():
    table = np.zeros((12, 3, 2, 3))
    table[..., 0] = 1
    scale = make_scale(table, "abcd", [("a", "b"), ("c", "d")])
    assert scale.sets == ()
    assert scale.why_not == "no vote compares A and B with C and D, so they have no common scale"


def test_nobody_sees_a_difference():
    table = np.zeros((12, 3, 3, 3))
    table[..., 1] = 1
    assert make_scale(table, "abc", PAIRS).why_not == "every vote says “no difference”"


def test_holms_method_by_hand():
    """Of three intervals two exclude 1/2 at once, so that the third one has a level of 95 %."""
    clear = np.ones((20, 1))
    unclear = np.array([[1.0]] * 14 + [[0.0]] * 6)
    intervals = stepdown_intervals([clear, unclear, 1 - clear])
    assert [level for _, level in intervals] == pytest.approx([1 - 0.05 / 3, 0.95, 1 - 0.05 / 3])
    assert intervals[1][0] == crossed_bootstrap(unclear)
    # If nothing is clear, all intervals have the level of the first round.
    assert [level for _, level in stepdown_intervals([unclear, unclear])] == [0.975, 0.975]
    assert stepdown_intervals([]) == []


@slow_for("study", [(3, 1.0, 0.0), (5, 0.5, 0.6)], [(3, 1.0, 0.0)])
def test_places_contain_the_truth(study):
    """A short form of the simulation below; 92 % minus the luck of 40 studies of three places."""
    observers, observer_sd, ties = study
    found = coverage_of_scale(40, observers, 20, ties=ties, observer_sd=observer_sd)
    assert found >= 0.92 - 2 * (0.92 * 0.08 / 40) ** 0.5


def test_equal_sets_rarely_get_a_verdict():
    assert wrong_verdicts(100, 5, 20, ties=0.6, observer_sd=0.5) <= 0.06


@pytest.mark.slow
@pytest.mark.parametrize("ties", [0.0, 0.6])
@pytest.mark.parametrize("observers", [3, 5, 10])
@pytest.mark.parametrize("observer_sd", [0.0, 0.5, 1.0])
def test_places_contain_the_truth_in_92_percent_of_studies(observers, observer_sd, ties):
    assert coverage_of_scale(1000, observers, 20, ties=ties, observer_sd=observer_sd) >= 0.92


@pytest.mark.slow
@pytest.mark.parametrize("observer_sd", [0.0, 0.5, 1.0])
def test_equal_sets_rarely_get_a_verdict_in_many_studies(observer_sd):
    assert wrong_verdicts(1000, 5, 20, ties=0.6, observer_sd=observer_sd) <= 0.06
