"""Statistics of paired scores: how large and how certain a difference is, and what would settle it.

Two losses are compared by the differences d of their scores on the same photographs after training
from the same seeds:

    d[image, seed] = mean + a[image] + b[seed] + e[image, seed]

Photographs and seeds are both samples of what the user cares about, and they are crossed: each seed
is scored on each photograph. Leaving out either makes an interval too narrow; treating rows as
independent makes it far too narrow.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.special
import scipy.stats
from statsmodels.stats.multitest import multipletests

# Fewer photographs say too little about the next one for a verdict. With eight of them and three
# seeds, 95 % intervals covered the truth in 93 to 97 % of simulated comparisons, with spreads of
# 0.02 to 0.1 dB over photographs, and 0.005 to 0.03 dB over seeds. With three photographs they were
# too wide, at up to 99 %.
FEWEST_IMAGES = 8
MOST_SEEDS = 100  # nobody would train more
# With at most this many seeds, all must agree. An interval over few seeds relies on their
# differences being normal. Five seeds agree by chance alone in 2 / 2**5 = 6 % of comparisons, so
# asking for agreement is a mild demand. With six or more (3 %) the interval decides: out of many
# seeds some contradict the mean of all, however certain that mean is.
MUST_AGREE = 5
# Probability that the suggested number of seeds leads to a verdict. If the number were chosen so
# that the interval just excludes 0, it would be one half.
POWER = 0.8

CONFIDENCE = 0.95  # confidence level of every interval that is shown

Outcome = Literal["better", "worse", "equal", "cannot tell", "no verdict"]


@dataclass(frozen=True)
class Difference:
    """A mean paired difference, its interval, and where its uncertainty comes from.

    Means, ends, errors and spreads are in the metric's unit.

    Attributes:
      mean: mean over images and seeds.
      standard_error: standard error of the mean.
      seed_error: the part of the standard error that comes from the spread over seeds alone; NaN if
        there is one seed.
      low: lower end of the interval, whose confidence level is ``CONFIDENCE``.
      high: upper end of the interval.
      p_value: two-sided p-value of the hypothesis that the mean is 0.
      degrees_of_freedom: Satterthwaite's degrees of freedom of the standard error.
      image_sd: spread over photographs.
      seed_sd: spread over training seeds; NaN if there is one seed.
      residual_sd: spread that neither explains, for one photograph and one seed; NaN if there is
        one seed.
      by_seed: mean over the photographs, for each seed.
      images: number of photographs.
    """

    mean: float
    standard_error: float
    seed_error: float
    low: float
    high: float
    p_value: float
    degrees_of_freedom: float
    image_sd: float
    seed_sd: float
    residual_sd: float
    by_seed: tuple[float, ...]
    images: int

    @property
    def seeds_agree(self) -> bool:
        """Whether each seed on its own favours the same loss."""
        return len({math.copysign(1, value) for value in self.by_seed if value != 0}) <= 1


def paired_difference(differences: np.ndarray) -> Difference:
    """The mean of ``[images, seeds]`` differences, with images and seeds as crossed random effects.

    The variance of the mean is (MS_images + MS_seeds - MS_residual) / (images * seeds), from the
    mean squares of a two-way analysis of variance without replication, in which a negative variance
    component counts as 0. Degrees of freedom are Satterthwaite's (1946). The interval is never
    narrower than the one that the component of the seeds has by itself, with the few degrees of
    freedom of the seeds. If that component is most of the variance, Satterthwaite's interval for 68
    photographs and 3 seeds covers the truth in 92.2 % of cases instead of 95 %; this one covers it
    in 93.0 to 96.8 % and is 7 % wider on average. This was simulated with spreads of 0.1 to 0.4 dB
    over photographs, 0 to 0.1 over seeds, and a residual of 0.05 to 0.2. Outside that range,
    coverage is 92.7 % with 0.02 dB over photographs, 0.02 over seeds and a residual of 0.1, and up
    to 97.6 % if the residual is 0.4 and photographs differ by 0.1 or less.

    With one seed the interval is over photographs only: it holds for these two trained networks,
    not for the losses.

    Raises:
      ValueError: if the array is not ``[images, seeds]`` with two images or more, or if it holds
        NaN or infinity.
    """
    if differences.ndim != 2 or differences.shape[0] < 2 or differences.shape[1] < 1:
        raise ValueError(
            "differences must be [images, seeds] with at least 2 images; got shape "
            f"{differences.shape}."
        )
    if not np.isfinite(differences).all():
        raise ValueError(
            "differences must be finite; got "
            f"{np.sum(~np.isfinite(differences))} values that are not."
        )
    images, seeds = differences.shape
    mean, by_image, by_seed = differences.mean(), differences.mean(axis=1), differences.mean(axis=0)
    ms_images = seeds * np.sum((by_image - mean) ** 2) / (images - 1)
    if seeds == 1:
        variance, of_seeds, freedom = ms_images / images, math.nan, images - 1.0
        components = (math.sqrt(ms_images), math.nan, math.nan)
    else:
        residual = differences - by_image[:, None] - by_seed + mean
        ms_seeds = images * np.sum((by_seed - mean) ** 2) / (seeds - 1)
        ms_residual = np.sum(residual**2) / ((images - 1) * (seeds - 1))
        variance, freedom = _variance_and_freedom(ms_images, ms_seeds, ms_residual, images, seeds)
        of_seeds = max(ms_seeds - ms_residual, 0) / (images * seeds)
        components = (
            math.sqrt(max(ms_images - ms_residual, 0) / seeds),
            math.sqrt(max(ms_seeds - ms_residual, 0) / images),
            math.sqrt(ms_residual),
        )
    error, seed_error = math.sqrt(variance), math.sqrt(of_seeds)
    half = _half_width(error, freedom, seed_error, seeds, CONFIDENCE)
    return Difference(
        mean=float(mean),
        standard_error=error,
        seed_error=seed_error,
        low=float(mean - half),
        high=float(mean + half),
        p_value=min(2 * _p_above(abs(float(mean)), error, freedom, seed_error, seeds), 1.0),
        degrees_of_freedom=float(freedom),
        image_sd=components[0],
        seed_sd=components[1],
        residual_sd=components[2],
        by_seed=tuple(float(value) for value in by_seed),
        images=images,
    )


def wilcoxon_p(differences: np.ndarray) -> float:
    """p-value of the two-sided Wilcoxon signed-rank test on the means per image.

    It holds for these trained networks, not for their losses.
    """
    by_image = differences.mean(axis=1)
    return float(scipy.stats.wilcoxon(by_image).pvalue) if np.any(by_image != 0) else 1.0


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """p-values that are adjusted for their number by Holm's step-down method.

    The chance of any false alarm among them then stays at the level that is chosen.
    """
    return (
        tuple(float(p) for p in multipletests(p_values, method="holm")[1]) if len(p_values) else ()
    )


def equivalence_p(difference: Difference, margin: float) -> float:
    """p-value for "neither is better by ``margin`` or more" (Schuirmann 1987).

    It is the larger p-value of two one-sided tests.
    """
    mirrored = dataclasses.replace(difference, mean=-difference.mean)
    return max(not_worse_p(difference, margin), not_worse_p(mirrored, margin))


def not_worse_p(difference: Difference, margin: float) -> float:
    """One-sided p-value for "not worse by ``margin`` or more"; a positive mean is better."""
    if not margin > 0:
        raise ValueError(f"margin must be more than 0, in the metric's unit; got {margin!r}.")
    d = difference
    return _p_above(
        d.mean + margin, d.standard_error, d.degrees_of_freedom, d.seed_error, len(d.by_seed)
    )


def seeds_that_would_tell(difference: Difference, *, confidence: float = CONFIDENCE) -> int | None:
    """How many seeds would probably lead to a verdict, if the spreads are as estimated.

    With that many, four out of five new sets of seeds, scored on the same photographs, have an
    interval of ``confidence`` that excludes 0. Seeds that disagree already will continue to do so;
    the number is then so large that they need not agree (more than ``MUST_AGREE``).

    The result is None if it would be more than 100, or if there is only one seed, which says
    nothing about the next.

    More seeds do not reduce the uncertainty that comes from the photographs. If that alone hides
    the mean, only more photographs help.
    """
    if len(difference.by_seed) < 2:
        return None
    image, seed, residual = (
        sd**2 for sd in (difference.image_sd, difference.seed_sd, difference.residual_sd)
    )
    images = difference.images
    fewest = max(len(difference.by_seed), 0 if difference.seeds_agree else MUST_AGREE) + 1
    for seeds in range(fewest, MOST_SEEDS + 1):
        squares = (seeds * image + residual, images * seed + residual, residual)
        variance, freedom = _variance_and_freedom(*squares, images, seeds)
        half = _half_width(math.sqrt(variance), freedom, math.sqrt(seed / seeds), seeds, confidence)
        luck = scipy.special.ndtri(POWER) * math.sqrt((seed + residual / images) / seeds)
        if half + luck < abs(difference.mean):
            return seeds
    return None


def would_tell(
    size: float,
    spreads: tuple[float, float, float],
    *,
    images: int,
    seeds: int,
    confidence: float = CONFIDENCE,
) -> bool:
    """Whether a difference of this size would probably lead to a verdict.

    Args:
      size: the true difference, in the metric's unit.
      spreads: the spreads of differences over photographs, over seeds, and of what neither
        explains.
      images: number of photographs.
      seeds: number of seeds; two or more.
      confidence: confidence level of the interval that must exclude 0.

    Returns:
      Whether four out of five new sets of photographs and seeds would have such an interval.
    """
    image, seed, residual = (sd**2 for sd in spreads)
    squares = (seeds * image + residual, images * seed + residual, residual)
    variance, freedom = _variance_and_freedom(*squares, images, seeds)
    error = math.sqrt(variance)
    half = _half_width(error, freedom, math.sqrt(seed / seeds), seeds, confidence)
    return bool(half + scipy.special.ndtri(POWER) * error < size)


def outcome(
    difference: Difference,
    adjusted_p: float,
    *,
    equal_p: float | None = None,
    alpha: float = 0.05,
) -> Outcome:
    """What may be claimed, if a positive mean is better.

    Args:
      difference: the difference that was measured.
      adjusted_p: p-value after correction for the number of comparisons.
      equal_p: p-value of :func:`equivalence_p`, corrected too; None if it was not tested.
      alpha: the accepted chance of a false alarm.

    Returns:
      The claim. It needs more than a handful of photographs. To be better or worse, all seeds must
      agree if they are few. "equal" means equal to within the margin of ``equal_p``.
    """
    seeds = len(difference.by_seed)
    if difference.images < FEWEST_IMAGES or seeds < 2:
        return "no verdict"
    if adjusted_p >= alpha or (seeds <= MUST_AGREE and not difference.seeds_agree):
        return "equal" if equal_p is not None and equal_p < alpha else "cannot tell"
    return "better" if difference.mean > 0 else "worse"


def _variance_and_freedom(
    ms_images: float, ms_seeds: float, ms_residual: float, images: int, seeds: int
) -> tuple[float, float]:
    """Variance of the grand mean, and Satterthwaite's degrees of freedom for it."""
    ms_images, ms_seeds = max(ms_images, ms_residual), max(ms_seeds, ms_residual)
    total = ms_images + ms_seeds - ms_residual
    if total == 0:
        return 0.0, images - 1.0
    parts = ms_images**2 / (images - 1) + ms_residual**2 / ((images - 1) * (seeds - 1))
    # Otherwise seeds add nothing that can be seen, and cost no degrees of freedom.
    if ms_seeds > ms_residual:
        parts += ms_seeds**2 / (seeds - 1)
    return total / (images * seeds), total**2 / parts


def _half_width(
    error: float, freedom: float, seed_error: float, seeds: int, confidence: float
) -> float:
    """Half the width of the wider of two intervals, by t quantiles.

    One is the interval of the mean, the other comes from the component of the seeds alone.
    """
    half = scipy.special.stdtrit(freedom, 0.5 + confidence / 2) * error
    if seeds > 1:
        half = max(half, scipy.special.stdtrit(seeds - 1, 0.5 + confidence / 2) * seed_error)
    return float(half)


def _p_above(distance: float, error: float, freedom: float, seed_error: float, seeds: int) -> float:
    """One-sided p-value of lying ``distance`` above: the larger of two, as for the interval."""
    pairs = [(error, freedom)] + ([(seed_error, seeds - 1)] if seeds > 1 else [])
    return max(_tail(distance, *pair) for pair in pairs)


def _tail(distance: float, error: float, freedom: float) -> float:
    if error > 0:
        return float(scipy.special.stdtr(freedom, -distance / error))
    return 0.5 if distance == 0 else float(distance < 0)
