"""Which metric predicts the votes, by hand and with robots whose taste is known."""

import numpy as np
import pytest
import scipy.stats

from benchmarks.study_coverage import coverage_of_correlation
from tests.slow_cases import slow_for
from train.study.metric_ranks import rank_metrics, signed_ranks

PAIRS = [("a", "b"), ("a", "c"), ("b", "c")]
NAMES = [f"p{number:02d}" for number in range(20)]


def votes_of(scores):
    """A table of votes with these mean scores, ``[photographs, observers, pairs]``."""
    return np.stack([scores, np.zeros_like(scores), 1 - scores], axis=-1)


def by_set(values, letters):
    """Values ``[photographs, sets]`` by set and photograph."""
    return {
        letter: dict(zip(NAMES, map(float, column), strict=True))
        for letter, column in zip(letters, values.T, strict=True)
    }


def test_signed_ranks_are_spearmans_in_both_directions():
    random = np.random.default_rng(0)
    values = random.integers(-4, 5, (3, 30)).astype(float)
    others = random.integers(-4, 5, (3, 30)).astype(float)
    for one, two in zip(values, others, strict=True):
        wanted = scipy.stats.spearmanr([*one, *-one], [*two, *-two]).statistic
        x, y = signed_ranks(one[None])[0], signed_ranks(two[None])[0]
        assert (x @ y) / np.sqrt((x @ x) * (y @ y)) == pytest.approx(wanted)


def test_two_sets_by_hand():
    """Differences 1 to 20 in order with preferences, except that two neighbours are swapped."""
    lead = np.arange(1, 21) / 40
    values = np.stack([np.arange(1, 21), np.zeros(20)], axis=1)
    swapped = values.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    table = votes_of(0.5 + lead[:, None, None])
    ranks = rank_metrics(
        table,
        NAMES,
        [("a", "b")],
        # FLIP is better if it is smaller, so that these are in the order of preferences.
        {
            "psnr": by_set(swapped, "ab"),
            "flip": by_set(-values, "ab"),
            "ssim": by_set(-values, "ab"),
        },
    )
    found = {rank.metric: rank for rank in ranks.metrics}
    assert [rank.metric for rank in ranks.metrics] == ["flip", "psnr", "ssim"]
    assert found["flip"].correlation.mean == pytest.approx(1)
    assert found["ssim"].correlation.mean == pytest.approx(-1)
    # Ranks of +-1 to +-20 are 0.5 to 19.5 with signs. The swap costs (1.5 - 0.5)^2 twice in each
    # direction: 1 - sum(d^2) / (2 * sum of squared ranks).
    squares = 2 * sum((n - 0.5) ** 2 for n in range(1, 21))
    assert found["psnr"].correlation.mean == pytest.approx(1 - 4 / (2 * squares))
    assert (found["flip"].agrees, found["psnr"].agrees, found["ssim"].agrees) == (1, 1, 0)
    assert ranks.confidence == pytest.approx(1 - 0.05 / 3)
    assert not found["ssim"].may_be_best and found["flip"].may_be_best


def robots_with_taste(random, *, observers=6, noise=(0.2, 3.0)):
    """Votes by quality, and two metrics that measure it with little and with much noise."""
    quality = np.array([1.0, 0.5, 0.0]) + random.standard_normal((20, 3))
    lead = np.stack([quality[:, 0] - quality[:, 1], quality[:, 0] - quality[:, 2]], axis=1)
    lead = np.concatenate([lead, (quality[:, 1] - quality[:, 2])[:, None]], axis=1)
    chances = 1 / (1 + np.exp(-2 * lead))[:, None]
    chosen = (random.random((20, observers, 3)) < chances).astype(float)
    metrics = {
        name: by_set(sign * (quality + sd * random.standard_normal(quality.shape)), "abc")
        for name, sign, sd in zip(("flip", "psnr"), (-1, 1), noise, strict=True)
    }
    return votes_of(chosen), metrics


def test_the_better_metric_is_found():
    table, metrics = robots_with_taste(np.random.default_rng(0))
    ranks = rank_metrics(table, NAMES, PAIRS, metrics)
    assert [rank.metric for rank in ranks.metrics] == ["flip", "psnr"]
    best = ranks.metrics[0]
    assert best.correlation.low > 0.3 and best.correlation.over_observers
    assert best.correlation.low < best.correlation.mean < best.correlation.high
    assert [rank.may_be_best for rank in ranks.metrics] == [True, False]


@slow_for("study", [(3, 1.5), (10, 0.2)], [(10, 0.2)])
def test_intervals_contain_the_truth(study):
    """92 % minus the luck of 40 studies."""
    observers, noise = study
    found = coverage_of_correlation(40, observers, 20, noise=noise, draws=400)
    assert found >= 0.92 - 2 * (0.92 * 0.08 / 40) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.2, 1.5])
@pytest.mark.parametrize("observers", [3, 5, 10])
def test_intervals_contain_the_truth_in_92_percent_of_studies(observers, noise):
    assert coverage_of_correlation(1000, observers, 20, noise=noise) >= 0.92


def test_the_best_metric_is_rarely_left_out():
    """Of two metrics of the same kind, either may be the best one, and both are kept."""
    random = np.random.default_rng(1)
    kept = []
    for _ in range(40):
        table, metrics = robots_with_taste(random, noise=(0.7, 0.7))
        ranks = rank_metrics(table, NAMES, PAIRS, metrics, draws=400)
        kept += [rank.may_be_best for rank in ranks.metrics]
    assert np.mean(kept) >= 0.95


def test_what_cannot_be_compared_is_said():
    random = np.random.default_rng(2)
    table, metrics = robots_with_taste(random)
    few = rank_metrics(table[:9], NAMES[:9], PAIRS, metrics)
    assert "9 photographs are too few" in few.why_not and few.metrics == ()
    del metrics["psnr"]["c"]
    metrics["ssim"] = by_set(np.ones((20, 3)), "abc")
    ranks = rank_metrics(table, NAMES, PAIRS, metrics)
    assert [rank.metric for rank in ranks.metrics] == ["flip"]
    assert ranks.left_out == ("psnr", "ssim") and ranks.metrics[0].may_be_best
    none = rank_metrics(table, NAMES, PAIRS, {"ssim": metrics["ssim"]})
    assert none.why_not == "no metric has a score for every picture"
    table[:] = [0, 1, 0]
    ties = rank_metrics(table, NAMES, PAIRS, metrics)
    assert ties.why_not == "every vote says “no difference”"
