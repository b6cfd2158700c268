"""Worths by hand, and Davidson's own example."""

import itertools
import math

import numpy as np
import pytest

from train.study.davidson import Worths, fit_worths, groups_compared, groups_never_beaten

THREE = [(0, 1), (0, 2), (1, 2)]

# Davidson (1970): 15 comparisons of six chocolate puddings. Preferences for the first brand, for
# neither, and for the second. The numbers are those of the data set "pudding" of the R package
# PlackettLuce, whose manual also gives the estimates, as those of Davidson's paper.
PUDDINGS = {
    (0, 1): (19, 16, 22),
    (0, 2): (16, 12, 19),
    (1, 2): (19, 10, 19),
    (0, 3): (18, 13, 23),
    (1, 3): (23, 9, 19),
    (2, 3): (19, 15, 20),
    (0, 4): (13, 18, 19),
    (1, 4): (16, 12, 20),
    (2, 4): (16, 17, 15),
    (3, 4): (17, 16, 14),
    (0, 5): (18, 12, 21),
    (1, 5): (22, 12, 20),
    (2, 5): (13, 10, 18),
    (3, 5): (14, 18, 19),
    (4, 5): (11, 12, 21),
}
WORTHS = [0.1388005, 0.1729985, 0.1617420, 0.1653930, 0.1586805, 0.2023855]
TIES = 0.7468147


def test_davidsons_own_example():
    """The published estimates are those after seven iterations, which agree to four decimals."""
    votes = np.array(list(PUDDINGS.values()))
    fitted = fit_worths(votes, list(PUDDINGS), prior_votes=0)
    worths = np.exp(fitted.logits)
    np.testing.assert_allclose(worths / worths.sum(), WORTHS, atol=5e-5)
    assert fitted.ties == pytest.approx(TIES, abs=5e-5)
    published = log_likelihood(np.array(WORTHS), TIES)
    assert published < log_likelihood(worths, float(fitted.ties)) < published + 1e-4


def log_likelihood(worths, ties):
    total = 0.0
    for (first, second), votes in PUDDINGS.items():
        one, two = worths[first], worths[second]
        terms = np.array([one, ties * math.sqrt(one * two), two])
        total += float(votes @ np.log(terms / terms.sum()))
    return total


def test_two_sets_by_hand():
    """With two sets the model fits exactly: w_1 / w_2 = wins / losses, v = ties / sqrt(product)."""
    fitted = fit_worths(np.array([[27, 18, 3]]), [(0, 1)], prior_votes=0)
    assert np.diff(fitted.logits)[0] == pytest.approx(-math.log(9))
    assert fitted.ties == pytest.approx(18 / 9)
    # One vote more, half for each: 27.5 / 3.5
    fitted = fit_worths(np.array([[27, 18, 3]]), [(0, 1)], prior_votes=1)
    assert np.diff(fitted.logits)[0] == pytest.approx(-math.log(27.5 / 3.5))


def test_three_sets_without_ties_by_hand():
    """Worths of 4, 2 and 1 give 4:2, 4:1 and 2:1, which these votes have exactly."""
    votes = np.array([[40, 0, 20], [48, 0, 12], [20, 0, 10]])
    fitted = fit_worths(votes, THREE, prior_votes=0)
    np.testing.assert_allclose(fitted.logits, [math.log(2), 0, -math.log(2)], atol=1e-12)
    assert fitted.ties == 0


def test_three_sets_with_ties_by_hand():
    """Worths of 16, 4 and 1 with v = 1/2: totals 16 + 4 + 4, 16 + 1 + 2, and 4 + 1 + 1."""
    votes = np.array([[16, 4, 4], [16, 2, 1], [4, 1, 1]])
    fitted = fit_worths(votes, THREE, prior_votes=0)
    np.testing.assert_allclose(fitted.logits, [math.log(4), 0, -math.log(4)], atol=1e-12)
    assert fitted.ties == pytest.approx(0.5)


def test_an_incomplete_design_is_enough():
    """Sets 0 and 2 are never compared, and differ by the sum of their distances from set 1."""
    fitted = fit_worths(np.array([[30, 0, 10], [20, 0, 20]]), [(0, 1), (1, 2)], prior_votes=0)
    assert fitted.logits[0] - fitted.logits[2] == pytest.approx(math.log(3))


def test_a_jod_is_75_percent_with_ties_counted_half():
    for ties in (0.0, 0.5, 3.0, 100.0):
        one = Worths(np.array([0.5, -0.5]), np.array(ties))
        unit = 1 / (one.jod[0] - one.jod[1])  # logits
        apart = Worths(np.array([unit / 2, -unit / 2]), np.array(ties))
        assert apart.jod[0] - apart.jod[1] == pytest.approx(1)
        assert apart.score(0, 1) == pytest.approx(0.75)
        assert apart.score(1, 0) == pytest.approx(0.25)
    assert Worths(np.array([math.log(3), 0.0]), np.array(0.0)).jod[0] == pytest.approx(1)


def test_many_fits_at_once_are_those_one_by_one():
    random = np.random.default_rng(1)
    votes = random.poisson(6, (7, 3, 3)).astype(float)
    votes[0, :, 1] = 0  # without ties
    votes[1] = [[30, 0, 0], [30, 0, 0], [30, 0, 0]]  # one set always wins
    votes[2, :, ::2] = 0  # with ties only
    start = fit_worths(votes.sum(axis=0), THREE)
    together = fit_worths(votes, THREE, start=start)
    for i, each in enumerate(votes):
        alone = fit_worths(each, THREE)
        np.testing.assert_allclose(together.logits[i], alone.logits, atol=1e-8)
        np.testing.assert_allclose(together.ties[i], alone.ties, rtol=1e-8)
    assert np.isfinite(together.jod).all()
    assert together.ties[0] == 0
    np.testing.assert_allclose(together.logits[2], 0, atol=1e-12)


def test_without_a_finite_maximum_there_is_an_error_or_a_prior():
    votes = np.array([[30, 0, 0], [30, 0, 0], [15, 0, 15]])
    with pytest.raises(ValueError, match="no finite maximum"):
        fit_worths(votes, THREE, prior_votes=0)
    fitted = fit_worths(votes, THREE)
    assert np.isfinite(fitted.jod).all() and fitted.jod.argmax() == 0
    with pytest.raises(ValueError, match="votes must be"):
        fit_worths(votes, THREE[:2])


def test_groups_by_hand():
    """Sets 0 and 1 beat each other and set 2; set 3 is compared with nothing."""
    pairs = list(itertools.combinations(range(4), 2))
    votes = np.zeros((6, 3))
    votes[pairs.index((0, 1))] = [3, 0, 1]
    votes[pairs.index((0, 2))] = [2, 5, 0]
    votes[pairs.index((1, 2))] = [0, 4, 0]
    assert groups_never_beaten(votes, pairs, sets=4) == [[0, 1], [2], [3]]
    assert sorted(map(sorted, groups_compared(votes, pairs, sets=4))) == [[0, 1, 2], [3]]
    votes[pairs.index((1, 2)), 2] = 1
    assert groups_never_beaten(votes, pairs, sets=4) == [[0, 1, 2], [3]]
    votes[pairs.index((2, 3))] = [0, 1, 0]  # a tie connects, but prefers nothing
    assert len(groups_compared(votes, pairs, sets=4)) == 1
    assert groups_never_beaten(votes, pairs, sets=4) == [[0, 1, 2], [3]]
