import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.formula.api as smf
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.weightstats import ttost_paired

from tests.slow_cases import slow_for
from train.experiments.statistics import stats


def crossed(images, seeds, *, image_sd, seed_sd, residual_sd, mean=0.0, seed=0, repeats=None):
    """Draws differences from the model, [images, seeds], or ``repeats`` such tables."""
    draw = np.random.default_rng(seed).normal
    shape = () if repeats is None else (repeats,)
    return (
        mean
        + image_sd * draw(size=(*shape, images, 1))
        + seed_sd * draw(size=(*shape, 1, seeds))
        + residual_sd * draw(size=(*shape, images, seeds))
    )


def test_by_hand():
    """Two images, two seeds: mean 2, image means 1 and 3, seed means 1.5 and 2.5, no residual."""
    difference = stats.paired_difference(np.array([[0.5, 1.5], [2.5, 3.5]]))
    assert difference.mean == 2 and difference.by_seed == (1.5, 2.5) and difference.images == 2
    # Mean squares: images 2 * (1 + 1) / 1 = 4, seeds 2 * (0.25 + 0.25) / 1 = 1, residual 0.
    assert difference.standard_error == pytest.approx(math.sqrt((4 + 1) / 4))
    assert difference.degrees_of_freedom == pytest.approx((4 + 1) ** 2 / (4**2 / 1 + 1**2 / 1))
    assert difference.image_sd == pytest.approx(
        math.sqrt(4 / 2)
    ) and difference.seed_sd == pytest.approx(math.sqrt(1 / 2))
    assert difference.residual_sd == 0
    half = scipy.stats.t.ppf(0.975, 25 / 17) * math.sqrt(5 / 4)
    assert (difference.low, difference.high) == (pytest.approx(2 - half), pytest.approx(2 + half))


def test_components_are_those_of_the_anova_of_statsmodels():
    table = crossed(12, 4, image_sd=0.3, seed_sd=0.2, residual_sd=0.1)
    rows = pd.DataFrame(
        [{"d": table[i, s], "image": i, "seed": s} for i in range(12) for s in range(4)],
    )
    squares = anova_lm(smf.ols("d ~ C(image) + C(seed)", rows).fit())["mean_sq"]
    difference = stats.paired_difference(table)
    assert difference.residual_sd**2 == pytest.approx(squares["Residual"])
    assert 4 * difference.image_sd**2 + squares["Residual"] == pytest.approx(squares["C(image)"])
    assert 12 * difference.seed_sd**2 + squares["Residual"] == pytest.approx(squares["C(seed)"])


def test_one_seed_is_the_paired_t_test_over_images():
    table = crossed(20, 1, image_sd=0.3, seed_sd=0, residual_sd=0, mean=0.1)
    difference = stats.paired_difference(table)
    expected = scipy.stats.ttest_1samp(table[:, 0], 0)
    assert difference.p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (difference.low, difference.high) == (
        pytest.approx(interval.low),
        pytest.approx(interval.high),
    )
    assert (
        math.isnan(difference.seed_sd)
        and stats.outcome(difference, difference.p_value) == "no verdict"
    )


SPREADS = [(0.1, 0.1), (0.2, 0.05), (0.2, 0.1), (0.2, 0.2), (0.4, 0.1)]  # image_sd, residual_sd


@pytest.mark.parametrize("seed_sd", [0.0, 0.01, 0.02, 0.05])
@slow_for("spread", SPREADS, [spread for spread in SPREADS if spread != (0.2, 0.1)])
def test_intervals_cover_as_often_as_they_say(seed_sd, spread):
    """95 % intervals cover the truth in 93 to 97 % of 4000 simulated comparisons.

    Each has 68 photographs and 3 seeds.
    """
    image_sd, residual_sd = spread
    deviations = {"image_sd": image_sd, "seed_sd": seed_sd, "residual_sd": residual_sd}
    tables = crossed(68, 3, **deviations, mean=0.2, repeats=4000, seed=7)
    held = [
        difference.low <= 0.2 <= difference.high
        for difference in map(stats.paired_difference, tables)
    ]
    assert 0.93 <= np.mean(held) <= 0.97


@pytest.mark.parametrize(
    ("image_sd", "seed_sd", "residual_sd"),
    [(0.05, 0.005, 0.01), (0.05, 0.01, 0.02), (0.1, 0.02, 0.02), (0.02, 0.01, 0.01)],
)
def test_the_fewest_photographs_of_a_verdict_are_enough_for_intervals(
    image_sd, seed_sd, residual_sd
):
    """Intervals cover as often as they say with so few photographs and three seeds.

    The spreads, in dB, are smaller than above, because networks that are fine-tuned start alike.
    """
    spread = {"image_sd": image_sd, "seed_sd": seed_sd, "residual_sd": residual_sd}
    tables = crossed(stats.FEWEST_IMAGES, 3, **spread, mean=0.2, repeats=4000, seed=7)
    held = [
        difference.low <= 0.2 <= difference.high
        for difference in map(stats.paired_difference, tables)
    ]
    assert 0.93 <= np.mean(held) <= 0.97


def test_the_interval_is_at_least_that_of_the_seeds_alone():
    """If only seeds differ, it is the interval of the t test over their means (2 degrees)."""
    table = np.tile([0.3, -0.1, 0.2], (30, 1)) + crossed(
        30, 3, image_sd=0, seed_sd=0, residual_sd=1e-9
    )
    difference = stats.paired_difference(table)
    expected = scipy.stats.ttest_1samp(table.mean(axis=0), 0)
    interval = expected.confidence_interval(0.95)
    assert (difference.low, difference.high) == (
        pytest.approx(interval.low),
        pytest.approx(interval.high),
    )
    assert difference.p_value == pytest.approx(expected.pvalue)
    # Satterthwaite's interval, which includes the degrees of freedom of the photographs, would be
    # narrower here than that of the seeds alone.
    spread = crossed(30, 3, image_sd=0.3, seed_sd=0, residual_sd=0.01) + [[0.3, -0.1, 0.2]]
    wider = stats.paired_difference(spread)
    half = (wider.high - wider.low) / 2
    assert half == pytest.approx(scipy.stats.t.ppf(0.975, 2) * wider.seed_error)
    assert half > scipy.stats.t.ppf(0.975, wider.degrees_of_freedom) * wider.standard_error
    above = [scipy.stats.t.sf((wider.mean + 0.1) / wider.seed_error, 2)]
    above += [scipy.stats.t.sf((wider.mean + 0.1) / wider.standard_error, wider.degrees_of_freedom)]
    assert stats.not_worse_p(wider, 0.1) == pytest.approx(max(above))


def test_leaving_seeds_out_would_cover_too_rarely():
    """The two-way model is needed: without seeds intervals cover the truth in 4 of 5 cases."""
    tables = crossed(
        68, 3, image_sd=0.2, seed_sd=0.05, residual_sd=0.1, mean=0.2, repeats=2000, seed=7
    )
    naive = [stats.paired_difference(table.mean(axis=1, keepdims=True)) for table in tables]
    assert np.mean([d.low <= 0.2 <= d.high for d in naive]) < 0.9


def test_equal_scores_differ_by_nothing():
    difference = stats.paired_difference(np.zeros((12, 3)))
    assert (difference.low, difference.mean, difference.high, difference.p_value) == (0, 0, 0, 1)
    assert stats.wilcoxon_p(np.zeros((12, 3))) == 1
    assert stats.outcome(difference, 1.0) == "cannot tell"
    assert stats.equivalence_p(difference, 0.01) == 0


def test_equivalence_is_two_one_sided_tests():
    table = crossed(30, 1, image_sd=0.1, seed_sd=0, residual_sd=0, mean=0.01)
    difference = stats.paired_difference(table)
    expected, *_ = ttost_paired(table[:, 0], np.zeros(30), -0.05, 0.05)
    assert stats.equivalence_p(difference, 0.05) == pytest.approx(expected)
    assert stats.not_worse_p(difference, 0.05) == pytest.approx(
        scipy.stats.ttest_1samp(table[:, 0], -0.05, alternative="greater").pvalue
    )
    with pytest.raises(ValueError, match="margin must be more than 0"):
        stats.equivalence_p(difference, 0.0)


def test_holm_by_hand():
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert stats.holm([]) == ()


def test_wilcoxon_is_on_the_means_of_images():
    table = crossed(15, 3, image_sd=0.1, seed_sd=0.1, residual_sd=0.1, mean=0.1)
    assert stats.wilcoxon_p(table) == pytest.approx(scipy.stats.wilcoxon(table.mean(axis=1)).pvalue)


def test_verdicts():
    clear = crossed(20, 3, image_sd=0.1, seed_sd=0.01, residual_sd=0.01, mean=1.0)
    better = stats.paired_difference(clear)
    assert stats.outcome(better, better.p_value) == "better"
    assert stats.outcome(stats.paired_difference(-clear), better.p_value) == "worse"
    assert stats.outcome(better, 0.2) == "cannot tell"  # a higher p-value after correction
    fewest = stats.FEWEST_IMAGES
    assert stats.outcome(stats.paired_difference(clear[: fewest - 1]), 0.0) == "no verdict"
    assert stats.outcome(stats.paired_difference(clear[:fewest]), 0.0) == "better"


def contradicting(seeds):
    """All seeds at +0.2 dB except one, at -0.01, on 20 photographs."""
    gains = np.r_[np.full(seeds - 1, 0.2), -0.01]
    return stats.paired_difference(
        gains + crossed(20, seeds, image_sd=0.01, seed_sd=0, residual_sd=0.01)
    )


def test_few_seeds_that_disagree_give_no_verdict_whatever_p_is():
    assert (
        not contradicting(5).seeds_agree and stats.outcome(contradicting(5), 0.0) == "cannot tell"
    )


def test_one_of_many_seeds_may_contradict_the_others():
    """With twelve seeds, one of which contradicts the rest, the interval over seeds decides."""
    difference = contradicting(12)
    assert difference.p_value < 1e-4 and not difference.seeds_agree
    assert stats.outcome(difference, difference.p_value) == "better"
    assert stats.outcome(difference, 0.06) == "cannot tell"


def test_seeds_that_disagree_need_so_many_that_they_may_disagree():
    """Four seeds differ by chance on ten photographs.

    A fifth would be enough, except that five must agree.
    """
    spread = {"mean": 0.15, "image_sd": 0.0, "seed_sd": 0.0, "residual_sd": 0.3, "images": 10}
    contradict = dataclasses.replace(contradicting(4), **spread)
    agree = dataclasses.replace(contradict, by_seed=(0.2, 0.2, 0.2, 0.001))
    assert (stats.seeds_that_would_tell(agree), stats.seeds_that_would_tell(contradict)) == (5, 6)


@pytest.mark.parametrize("gains", [[0.5, 0.4, -0.01], [0.2, -0.1, 0.1], [0.2, 0.05, 0.1]])
def test_the_suggested_number_of_seeds_leads_to_a_verdict(gains):
    """Out of 300 new sets with that number of seeds, four in five lead to the verdict."""
    table = np.array(gains) + crossed(30, 3, image_sd=0.05, seed_sd=0, residual_sd=0.05)
    now = stats.paired_difference(table)
    assert stats.outcome(now, now.p_value) == "cannot tell"
    seeds = stats.seeds_that_would_tell(now)
    photographs = table.mean(axis=1) - now.mean
    photographs *= now.image_sd / photographs.std(ddof=1)
    new = crossed(
        30,
        seeds,
        image_sd=0,
        seed_sd=now.seed_sd,
        residual_sd=now.residual_sd,
        mean=now.mean,
        repeats=300,
    )
    later = [stats.paired_difference(photographs[:, None] + one) for one in new]
    told = np.mean([stats.outcome(one, one.p_value) == "better" for one in later])
    assert stats.POWER - 0.05 <= told <= stats.POWER + 0.1


def test_more_seeds_do_not_help_if_photographs_hide_the_mean():
    hidden_by_seeds = stats.paired_difference(np.tile([0.2, 0.02, 0.1], (30, 1)))
    needed = stats.seeds_that_would_tell(hidden_by_seeds)
    assert hidden_by_seeds.low < 0 < hidden_by_seeds.high
    assert needed is not None and needed > 3
    # If only seeds differ, the rule is that of the one-sample t test: the first n for which half
    # the width, plus the luck of four cases in five, is less than the mean.
    sd = np.std([0.2, 0.02, 0.1], ddof=1)
    reach = [
        (scipy.stats.t.ppf(0.975, n - 1) + scipy.stats.norm.ppf(0.8)) * sd / math.sqrt(n) < 0.32 / 3
        for n in range(2, needed + 1)
    ]
    assert reach == [False] * (needed - 2) + [True]
    hidden_by_photographs = stats.paired_difference(
        crossed(10, 3, image_sd=5.0, seed_sd=0.01, residual_sd=0.01, mean=0.0)
    )
    assert stats.seeds_that_would_tell(hidden_by_photographs) is None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.zeros(5), "at least 2 images"),
        (np.zeros((1, 3)), "at least 2 images"),
        (np.array([[0.0, np.nan], [1.0, 2.0]]), "must be finite; got 1 values that are not"),
    ],
)
def test_tables_of_the_wrong_kind_are_refused(table, message):
    with pytest.raises(ValueError, match=message):
        stats.paired_difference(table)
