import dataclasses

import numpy as np
import pytest

from train.errors import InputError
from train.experiments.conclusions import conclude, still_learning
from train.experiments.scores import METRICS, Score

LOSSES = ("luminance_l1", "mse", "l1")
GAINS = {"luminance_l1": 0.0, "mse": -1.0, "l1": -0.01}  # dB against the candidate


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
                    # Twice the gain in brightness, and for the candidate a price in colour.
                    color = 2 + (0.5 if loss == "luminance_l1" else 0) + draw(0, 0.01)
                    rows.append(Score(loss, seed, sigma, f"{image:02}", psnr, psnr, 0.9, 40 - psnr, 5.0, color))
    return rows


def find(comparisons, other, metric="psnr", sigmas=(15.0, 50.0)):
    return next(c for c in comparisons if (c.other, c.metric, c.sigmas) == (other, metric, sigmas))


def test_the_primary_comparisons_come_first_and_only_they_are_claimed():
    comparisons = conclude(make_scores(), LOSSES)
    assert [(c.candidate, c.other, c.metric) for c in comparisons[:2]] == [
        ("luminance_l1", "mse", "psnr"),
        ("luminance_l1", "l1", "psnr"),
    ]
    assert len(comparisons) == 2 * len(METRICS) * 3  # both levels together, and each
    assert all((c.adjusted_p is None) == ("Exploratory" in c.sentence) for c in comparisons)
    assert all(c.outcome in ("cannot tell", "no verdict") for c in comparisons[2:])


def test_a_clear_gain_is_said_and_a_small_one_is_not():
    comparisons = conclude(make_scores(), LOSSES)
    against_mse, against_l1 = find(comparisons, "mse"), find(comparisons, "l1")
    assert against_mse.outcome == "better"
    assert against_mse.difference.mean == pytest.approx(1.0, abs=0.1)
    assert "luminance_l1 against mse: PSNR +" in against_mse.sentence and "all 3 seeds agree" in against_mse.sentence
    assert against_l1.outcome == "cannot tell" and "Cannot tell" in against_l1.sentence


def test_the_price_in_colour_is_shown_in_its_own_direction():
    """Chroma error grows by 0.5: a plus in the sentence, as the metric counts, and a loss in the difference."""
    chroma = find(conclude(make_scores(), LOSSES), "l1", "chroma_error")
    assert chroma.difference.mean == pytest.approx(-0.5, abs=0.01)
    assert f"error of chroma |ΔC*| {-chroma.difference.mean:+.3f} [" in chroma.sentence
    low, high = (float(part) for part in chroma.sentence.split("[")[1].split("]")[0].split(","))
    assert 0.4 < low < -chroma.difference.mean < high < 0.6


def test_correction_is_over_the_primary_comparisons_only():
    comparisons = conclude(make_scores(), LOSSES)
    p = [find(comparisons, other).difference.p_value for other in ("mse", "l1")]
    assert find(comparisons, "mse").adjusted_p == pytest.approx(2 * min(p))
    assert find(comparisons, "l1").adjusted_p == pytest.approx(max(2 * min(p), max(p)))


def test_not_worse_is_a_test_with_a_margin():
    close = find(conclude(make_scores(seed_sd=0.001), LOSSES), "l1")
    assert close.not_worse_p < 0.05
    blurred = find(conclude(make_scores(seed_sd=1.0), LOSSES), "l1")
    assert blurred.not_worse_p > 0.05 and "Not worse" not in blurred.sentence
    unclear = find(conclude(make_scores(seed_sd=0.02), LOSSES), "l1")
    assert unclear.outcome == "cannot tell" and "Equal to within 0.1 dB (p = " in unclear.sentence
    assert unclear.equal_p >= unclear.not_worse_p
    one_sided = dataclasses.replace(unclear, equal_p=0.2).sentence
    assert "Not worse by 0.1 dB or more (p = " in one_sided and "Equal" not in one_sided


def test_the_number_of_seeds_that_would_tell_is_larger_where_several_losses_are_compared():
    unclear = find(conclude(make_scores(seed_sd=0.02), LOSSES), "l1")
    alone, corrected = (
        dataclasses.replace(unclear, adjusted_p=factor * unclear.difference.p_value).seeds_needed for factor in (1, 2)
    )
    assert 3 < alone < corrected
    assert f"About {unclear.seeds_needed} seeds would tell" in unclear.sentence


def test_few_photographs_and_one_seed_give_no_verdict():
    few = find(conclude(make_scores(images=4), LOSSES), "mse")
    assert few.outcome == "no verdict" and "4 photographs are too few" in few.sentence
    alone = find(conclude(make_scores(seeds=1), LOSSES), "mse")
    assert alone.outcome == "no verdict" and "one seed says nothing" in alone.sentence


def test_scores_that_do_not_pair_are_refused():
    rows = [row for row in make_scores() if (row.loss, row.photograph) != ("l1", "00")]
    with pytest.raises(InputError, match="'l1' of 19 and 3: a paired comparison needs the same"):
        conclude(rows, LOSSES)


def test_a_curve_that_rises_by_a_twentieth_of_a_decibel_is_still_learning():
    assert still_learning(0.05) and not still_learning(0.049) and not still_learning(float("nan"))
