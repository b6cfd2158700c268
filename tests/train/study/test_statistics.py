import numpy as np
import pytest

from benchmarks.study_coverage import coverage, false_alarms, simulate
from tests.slow_cases import slow_for
from train.study.sequential import arrived, betting_sequence, excluded, suffices
from train.study.statistics import (
    crossed_bootstrap,
    krippendorff_alpha,
    wilson,
)


def test_krippendorffs_own_example():
    """The 12 units and 4 observers of Krippendorff (2011), whose nominal alpha is 0.743."""
    rows = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]
    units = [[value for value in column if value != "."] for column in zip(*rows, strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)


def test_alpha_by_hand():
    # Pairs that disagree: 2 in the second unit. Values: 3 of "a", 1 of "b", so 16 - 9 - 1 = 6 pairs
    # disagree overall, and alpha = 1 - 3 * 2 / 6 = 0.
    assert krippendorff_alpha([["a", "a"], ["a", "b"]]) == pytest.approx(0)
    assert krippendorff_alpha([["a", "a"], ["b", "b"]]) == 1
    assert krippendorff_alpha([["a", "a"], ["a", "a"]]) is None
    assert krippendorff_alpha([["a"], ["b"]]) is None


def test_wilson_by_hand():
    # 8 of 10: (0.8 + 0.19207) / 1.38415 plus and minus 1.95996 * sqrt(0.016 + 0.0096036) / 1.38415
    low, high = wilson(8, 10)
    assert (low, high) == (pytest.approx(0.49016, abs=1e-5), pytest.approx(0.94332, abs=1e-5))
    assert wilson(10, 10)[1] == pytest.approx(1)


def test_observers_are_drawn_if_there_are_three():
    scores = np.repeat([[1.0, 0.0, 0.5]], 20, axis=0)  # photographs are all alike
    interval = crossed_bootstrap(scores)
    assert interval.over_observers
    assert interval.mean == 0.5
    # The lowest and the highest of 27 equally likely draws have a chance of 4 % each.
    assert (interval.low, interval.high) == (0, 1)
    two = crossed_bootstrap(scores[:, :2])
    assert (two.mean, two.low, two.high, two.over_observers) == (0.5, 0.5, 0.5, False)


def test_photographs_are_drawn():
    """For one observer, the interval is that of the binomial draws of photographs."""
    scores = np.array([[1.0]] * 14 + [[0.0]] * 6)
    interval = crossed_bootstrap(scores)
    # 2.5 % and 97.5 % quantiles of binomial(20, 0.7) / 20
    assert (interval.low, interval.high) == (pytest.approx(0.5), pytest.approx(0.9))


def test_missing_votes_do_not_count():
    scores = np.array([[1.0, np.nan, 1.0], [np.nan, 0.0, 1.0], [1.0, 0.0, np.nan]])
    assert crossed_bootstrap(scores).mean == pytest.approx(4 / 6)
    with pytest.raises(ValueError, match="photographs, observers"):
        crossed_bootstrap(np.full((3, 2), np.nan))


def test_a_sequence_of_bets_by_hand():
    """After scores of 1, the money of each candidate m can be worked out.

    The first bet is sqrt(2 ln 40 / (0.25 ln 2)) = 6.53. For m = 0.5 it is limited to 1, so that the
    money is (1.5 + 0.5) / 2 after one score, and (1.5^n + 0.5^n) / 2 as long as bets are limited.
    1.5^9 / 2 = 19.2 is less than 20, and 1.5^10 / 2 = 28.8 is more. All bets until then exceed 1.
    """
    assert not excluded([1.0] * 9, 0.5)
    assert excluded([1.0] * 10, 0.5)
    assert excluded([0.0] * 10, 0.5)
    assert not excluded([], 0.5)
    assert betting_sequence([]) == (0, 1)
    assert betting_sequence([1.0]) == (0, 1)
    low, high = betting_sequence([1.0] * 10)
    assert 0.5 < low < 0.6 and high == 1


def test_an_exclusion_is_for_good_and_sequences_never_widen():
    random = np.random.default_rng(5)
    scores = random.choice([0.0, 0.5, 1.0], 60).tolist()
    ends = [betting_sequence(scores[:count]) for count in range(0, 61, 15)]
    widths = [high - low for low, high in ends]
    assert widths[0] == 1
    assert all(later <= earlier for earlier, later in zip(widths[:-1], widths[1:], strict=True))
    assert excluded([1.0] * 10 + [0.0] * 10, 0.5)


def test_fewer_than_ten_photographs_never_suffice():
    assert not suffices([1.0] * 9) and suffices([1.0] * 10)
    assert not suffices([1.0, 0.0] * 20)


def test_photographs_arrive_with_their_last_vote():
    planned = {7: [3, 9], 8: [4], 9: [5, 6]}
    scores = {3: 1.0, 4: 0.5, 5: 0.0, 9: 0.0}
    assert arrived(planned, scores) == [(8, 0.5), (7, 0.5)]
    assert arrived(planned, {**scores, 6: 1.0}) == [(8, 0.5), (9, 0.5), (7, 0.5)]


@slow_for("image_sd", [0.0, 0.8], [0.0])
def test_stopping_early_rarely_raises_a_false_alarm(image_sd):
    assert false_alarms(200, 40, image_sd=image_sd) <= 0.06


@pytest.mark.slow
@pytest.mark.parametrize("image_sd", [0.0, 0.8])
def test_stopping_early_rarely_raises_a_false_alarm_in_many_studies(image_sd):
    assert false_alarms(2000, 40, image_sd=image_sd) <= 0.06


SHORT = [(3, 1.0, 0.75, 0.0), (10, 0.5, 0.6, 0.2), (5, 0.0, 1.0, 0.0)]


@slow_for("study", SHORT, SHORT[1:])
def test_intervals_contain_the_truth(study):
    """A short form of the simulation below; 92 % minus the luck of 200 studies."""
    observers, observer_sd, preference, ties = study
    found = coverage(200, observers, 20, preference=preference, ties=ties, observer_sd=observer_sd)
    assert found >= 0.92 - 2 * (0.92 * 0.08 / 200) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("preference", [0.6, 0.75, 1.0])
@pytest.mark.parametrize("ties", [0.0, 0.2])
@pytest.mark.parametrize("observers", [3, 5, 10])
@pytest.mark.parametrize("observer_sd", [0.0, 0.5, 1.0])
def test_intervals_contain_the_truth_in_92_percent_of_studies(
    observers, observer_sd, preference, ties
):
    found = coverage(1000, observers, 20, preference=preference, ties=ties, observer_sd=observer_sd)
    assert found >= 0.92


def test_the_robots_have_the_preference_that_they_are_given():
    random = np.random.default_rng(3)
    scores = [simulate(random, 30, 30, preference=0.75, observer_sd=1.0) for _ in range(100)]
    assert np.mean(scores) == pytest.approx(0.75, abs=0.01)
