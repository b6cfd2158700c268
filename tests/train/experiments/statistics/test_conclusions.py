import dataclasses
import functools

import numpy as np
import pytest

from train.errors import InputError
from train.experiments.report.wording import (
    describe_comparison,
    describe_difference,
    describe_other_metrics,
    headline,
)
from train.experiments.statistics import stats
from train.experiments.statistics.comparison_table import ComparisonRow
from train.experiments.statistics.conclusions import FineTuned, conclude
from train.experiments.statistics.convergence import Curve, gain_of_last_quarter
from train.inference.scoring.registry import DEFAULT, METRICS

LOSSES = ("luminance_l1", "mse", "l1")
GAINS = {"luminance_l1": 0.0, "mse": -1.0, "l1": -0.01}  # dB against the candidate


@functools.cache
def make_scores(images=20, seeds=3, sigmas=(15.0, 50.0), seed_sd=0.05, losses=LOSSES):
    draw = np.random.default_rng(0).normal
    difficulty = draw(0, 3, images)
    rows = []
    for loss in losses:
        for seed in range(seeds):
            luck = draw(0, seed_sd)
            for sigma in sigmas:
                for image in range(images):
                    psnr = 32 - sigma / 10 + difficulty[image] + GAINS[loss] + luck + draw(0, 0.01)
                    # PSNR-Y equals PSNR; the candidate pays for its gain in colour.
                    color = 2 + (0.5 if loss == "luminance_l1" else 0) + draw(0, 0.01)
                    values = (psnr, psnr, 0.9, 40 - psnr, 5.0, color, 0.8, 0.1)
                    scores = dict(zip(DEFAULT, values, strict=True))
                    rows.append(ComparisonRow(loss, seed, sigma, f"{image:02}", scores))
    return rows


@functools.cache
def concluded(**options):
    """The conclusions about the losses from scores drawn so, which no test changes."""
    return conclude(make_scores(**options), LOSSES)


def find(comparisons, other, metric="psnr", sigmas=(15.0, 50.0)):
    return next(c for c in comparisons if (c.other, c.metric, c.sigmas) == (other, metric, sigmas))


def test_a_start_is_said_to_favour_its_own_loss_only():
    comparisons = conclude(make_scores(), LOSSES, fine_tuned=FineTuned(1, ("l1",)))
    against_mse, against_l1 = (describe_comparison(find(comparisons, loss)) for loss in LOSSES[1:])
    assert against_mse.endswith("was trained with l1, which is neither of these two losses.")
    assert against_l1.endswith("The start was trained with l1, which favours that loss.")
    candidate = conclude(make_scores(), LOSSES, fine_tuned=FineTuned(1, ("luminance_l1",)))
    said = describe_comparison(find(candidate, "mse"))
    assert said.endswith("The start was trained with luminance_l1, which favours that loss.")


def test_only_primary_comparisons_are_claimed_and_come_first():
    comparisons = concluded()
    assert [(c.candidate, c.other, c.metric) for c in comparisons[:2]] == [
        ("luminance_l1", "mse", "psnr"),
        ("luminance_l1", "l1", "psnr"),
    ]
    assert len(comparisons) == 2 * len(DEFAULT) * 3  # both levels together, and each
    assert all(
        (c.adjusted_p is None) == ("exploratory" in describe_comparison(c)) for c in comparisons
    )
    assert all(c.outcome in ("cannot tell", "no verdict") for c in comparisons[2:])


def test_a_clear_gain_is_said_and_a_small_one_is_not():
    comparisons = concluded()
    against_mse, against_l1 = find(comparisons, "mse"), find(comparisons, "l1")
    assert against_mse.outcome == "better"
    assert against_mse.difference.mean == pytest.approx(1.0, abs=0.1)
    assert "luminance_l1 against mse: PSNR +" in describe_comparison(
        against_mse
    ) and "all 3 seeds agree" in describe_comparison(against_mse)
    assert against_l1.outcome == "cannot tell" and "Cannot tell" in describe_comparison(against_l1)


def test_the_price_in_colour_is_shown_in_its_own_direction():
    """Chroma error grows by 0.5: the sentence shows a plus, and the difference is a loss."""
    chroma = find(concluded(), "l1", "chroma_error")
    assert chroma.difference.mean == pytest.approx(-0.5, abs=0.01)
    assert f"chroma error |ΔC*| {-chroma.difference.mean:+.3f} [" in describe_comparison(chroma)
    low, high = (
        float(part) for part in describe_comparison(chroma).split("[")[1].split("]")[0].split(",")
    )
    assert 0.4 < low < -chroma.difference.mean < high < 0.6


def test_correction_is_over_the_primary_comparisons_only():
    comparisons = concluded()
    p = [find(comparisons, other).difference.p_value for other in ("mse", "l1")]
    assert find(comparisons, "mse").adjusted_p == pytest.approx(2 * min(p))
    assert find(comparisons, "l1").adjusted_p == pytest.approx(max(2 * min(p), max(p)))


def test_not_worse_is_a_test_with_a_margin():
    close = find(concluded(seed_sd=0.001), "l1")
    assert close.not_worse_p < 0.05
    blurred = find(concluded(seed_sd=1.0), "l1")
    assert blurred.not_worse_p > 0.05 and "is not worse" not in describe_comparison(blurred)
    unclear = find(concluded(seed_sd=0.02), "l1")
    assert unclear.equal_p >= unclear.not_worse_p
    one_sided = describe_comparison(
        dataclasses.replace(unclear, equal_p=0.2, outcome="cannot tell")
    )
    assert "not worse by 0.1 dB or more (p = " in one_sided and "smaller than" not in one_sided
    worse = describe_comparison(dataclasses.replace(unclear, outcome="worse", equal_p=0.2))
    assert "luminance_l1 is worse by less than 0.1 dB (p = " in worse and "not worse" not in worse


def test_equal_to_within_the_margin_is_a_verdict():
    comparisons = concluded(seed_sd=0.02)
    equal = find(comparisons, "l1")
    assert equal.outcome == "equal" and equal.adjusted_p >= 0.05 > equal.equal_p
    said = describe_comparison(equal)
    assert "Equal to within 0.1 dB" in said and "Cannot tell" not in said
    assert headline(comparisons, []) == (
        "luminance_l1 is better than mse. It is equal to l1 to within 0.1 dB."
    )
    # The verdict needs Holm's correction: alone, p would be below 0.05.
    corrected = dataclasses.replace(equal, equal_p=0.06, outcome="cannot tell")
    assert not corrected.within_margin
    both = [dataclasses.replace(equal, other=other) for other in ("mse", "l1")]
    assert headline(both, []) == "luminance_l1 is equal to mse and l1 to within 0.1 dB."


def test_a_real_difference_below_the_margin_is_said_to_be_too_small_to_matter():
    small = find(concluded(seed_sd=0.001), "l1")
    assert small.outcome == "better" and small.difference.mean == pytest.approx(0.01, abs=0.005)
    assert "The difference is real, but smaller than 0.1 dB" in describe_comparison(small)
    assert headline([small], []) == (
        "luminance_l1 is better than l1, but by less than 0.1 dB, which is too little to matter."
    )


def test_equality_is_claimed_after_holms_correction():
    comparisons = concluded(seed_sd=0.02)
    p_values = [stats.equivalence_p(comparison.difference, 0.1) for comparison in comparisons[:2]]
    assert [comparison.equal_p for comparison in comparisons[:2]] == list(stats.holm(p_values))
    difference = comparisons[1].difference
    assert stats.outcome(difference, 0.2, equal_p=0.051) == "cannot tell"
    assert stats.outcome(difference, 0.2, equal_p=0.049) == "equal"
    one_seed = dataclasses.replace(difference, by_seed=difference.by_seed[:1])
    assert stats.outcome(one_seed, 0.2, equal_p=0.001) == "no verdict"


def test_the_margin_is_answered_whichever_way_it_came_out():
    better = find(concluded(), "mse")
    assert (
        better.outcome == "better"
        and "luminance_l1 is not worse by 0.1 dB or more (p = " in describe_comparison(better)
    )
    unknown = find(concluded(seed_sd=1.0), "l1")
    not_ruled_out = "luminance_l1 may still be worse by 0.1 dB or more (p = "
    assert not_ruled_out in describe_comparison(unknown)


def test_what_an_interval_beyond_the_margin_says_is_not_doubted_in_words():
    losses = ("mse", "luminance_l1")  # mse is worse by 1 dB
    worse = find(conclude(make_scores(), losses), "luminance_l1")
    assert worse.outcome == "worse" and worse.difference.high < -0.1
    assert describe_comparison(worse).endswith("all 3 seeds agree).")
    wide = dataclasses.replace(worse.difference, high=-0.05)
    doubted = describe_comparison(dataclasses.replace(worse, difference=wide))
    assert "mse may still be worse by 0.1 dB or more (p = " in doubted


def test_a_metric_without_decibels_has_only_the_users_margin():
    untested = find(conclude(make_scores(), LOSSES, primary="ciede2000"), "l1", "ciede2000")
    assert (
        untested.margin is None
        and untested.equal_p is None
        and "worse" not in describe_comparison(untested)
    )
    tested = find(
        conclude(make_scores(), LOSSES, primary="ciede2000", margin=0.5), "l1", "ciede2000"
    )
    assert "Equal to within 0.5 (p = " in describe_comparison(tested)


def test_verdicts_are_on_the_chosen_metric_and_levels():
    comparisons = conclude(make_scores(), LOSSES, primary="chroma_error", primary_sigmas=(50.0,))
    named = [(c.metric, c.sigmas) for c in comparisons if c.adjusted_p is not None]
    assert named == [("chroma_error", (50.0,))] * 2
    assert len(comparisons) == 2 * len(DEFAULT) * 3 and comparisons[0].outcome == "worse"
    both = conclude(make_scores(sigmas=(15.0, 25.0, 50.0)), LOSSES, primary_sigmas=(50.0, 15.0))
    # These, all, and each
    assert both[0].sigmas == (15.0, 50.0) and len(both) == 2 * len(DEFAULT) * 5


def test_more_seeds_are_suggested_if_several_losses_are_compared():
    # A margin that is too small for the difference to be tested as equal
    unclear = find(conclude(make_scores(seed_sd=0.02), LOSSES, margin=0.001), "l1")
    alone, corrected = (
        dataclasses.replace(unclear, family=family).seeds_needed for family in (1, 2)
    )
    assert 3 < alone < corrected == unclear.seeds_needed
    assert f"About {corrected} seeds would probably decide it" in describe_comparison(unclear)
    # A p-value that the correction has raised to 1 is corrected for just as many comparisons.
    assert dataclasses.replace(unclear, adjusted_p=1.0).seeds_needed == corrected


def test_p_values_before_and_after_correction_are_told_apart():
    pair = find(concluded(), "l1")
    alone = pair.difference.p_value
    assert (
        f"(p = {pair.adjusted_p:.2g} after Holm's correction for 2 comparisons, {alone:.2g} "
        "without it)" in describe_comparison(pair)
    )
    (single,) = [
        c for c in conclude(make_scores(), ("luminance_l1", "l1")) if c.adjusted_p is not None
    ]
    assert f"(p = {single.difference.p_value:.2g})" in describe_comparison(
        single
    ) and "Holm" not in describe_comparison(single)


def test_other_metrics_are_shown_without_a_claim():
    comparisons = concluded()
    words = describe_other_metrics(find(comparisons, "l1"), comparisons)
    assert words.startswith("Exploratory metrics. Higher is better: PSNR-Y") and " dB [" in words
    assert "CIEDE2000 " in words and "chroma error |ΔC*| +0." in words
    higher, lower = [], []
    for metric in DEFAULT:
        described = describe_difference(find(comparisons, "l1", metric))
        (higher if METRICS[metric].higher_is_better else lower).append(described)
    assert words == (
        f"Exploratory metrics. Higher is better: {', '.join(higher[1:])}; lower is better: "
        f"{', '.join(lower)}."
    )


def test_few_photographs_and_one_seed_give_no_verdict():
    few = find(concluded(images=4), "mse")
    assert few.outcome == "no verdict" and "4 test photographs are too few" in describe_comparison(
        few
    )
    alone = find(concluded(seeds=1), "mse")
    assert alone.outcome == "no verdict" and "one seed says nothing" in describe_comparison(alone)


def test_scores_that_do_not_pair_are_refused():
    rows = [row for row in make_scores() if (row.loss, row.photograph) != ("l1", "00")]
    with pytest.raises(InputError, match="'l1' of 19 and 3. A paired comparison needs the same"):
        conclude(rows, LOSSES)


def test_the_headline_lists_all_losses_of_an_outcome():
    comparisons = concluded(images=4)
    assert (
        headline(comparisons, []) == "There is no verdict on luminance_l1 compared with mse or l1."
    )
    worse = [dataclasses.replace(each, outcome="worse") for each in comparisons]
    assert headline(worse, []) == "luminance_l1 is worse than mse and l1."


def test_the_headline_warns_if_networks_were_still_learning():
    """Still learning means a rise of 0.05 dB in the last quarter, which is steps 75 to 100 here."""
    comparisons = concluded()
    verdict = "luminance_l1 is better than mse. It cannot be told apart from l1."
    rising = Curve("l1", 0, [50, 75, 100], [20.0, 30.0, 30.0625])
    flat = Curve("mse", 0, [50, 75, 100], [20.0, 30.0, 30.03125])
    late = Curve("mse", 1, [100], [30.0])
    assert (gain_of_last_quarter(rising), gain_of_last_quarter(flat)) == (0.0625, 0.03125)
    assert headline(comparisons, [flat]) == verdict
    assert headline(comparisons, [flat, rising, late]).startswith(
        "Early training only: the networks were still"
    )
    assert headline(comparisons, [flat, late]).startswith(
        "Perhaps early training only: there was no validation"
    )
