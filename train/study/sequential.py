"""A verdict that may be looked at after every vote, for the votes of one observer.

The server asks after each vote whether the votes suffice, so this file needs the standard library
only.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

from train.study.rules import FEWEST_FOR_VERDICT

_ALPHA = 0.05  # chance that a true mean is ever excluded
_GRID = 1000  # steps between the means that a sequence examines
_LARGEST_BET = 0.5  # share of the stake that would ruin a bet


def excluded(scores: Sequence[float], mean: float) -> bool:
    """Whether the scores have ever excluded a mean, at the moment of any of them.

    One gambler bets that scores are above the mean m, and one that they are below. If m is the
    mean, their money

        K(m) = (prod_t(1 + b_t * (x_t - m)) + prod_t(1 - b_t * (x_t - m))) / 2

    is a martingale, so the chance that it ever reaches 20 is at most 5 % (Waudby-Smith and Ramdas
    2024). The bets b_t depend on earlier scores only, and cannot lose more than half of the money.

    The scores must come from one observer, one for each photograph. Scores of several observers are
    not independent, and false alarms would be frequent.

    Args:
      scores: from 0 to 1, in the order of arrival.
      mean: the candidate.

    Returns:
      Whether it is excluded. Later scores do not change that.
    """
    above = below = 0.0  # logarithms of the money
    for score, bet in zip(scores, _bets(scores), strict=True):
        up = min(bet, _LARGEST_BET / mean) if mean > 0 else bet
        down = min(bet, _LARGEST_BET / (1 - mean)) if mean < 1 else bet
        above += math.log1p(up * (score - mean))
        below += math.log1p(-down * (score - mean))
        higher, lower = max(above, below), min(above, below)
        if higher + math.log1p(math.exp(lower - higher)) >= math.log(2 / _ALPHA):
            return True
    return False


def betting_sequence(scores: Sequence[float]) -> tuple[float, float]:
    """The smallest and the largest mean that the scores have never excluded.

    If they have excluded all, as changing preferences can, both are the mean of the scores.
    """
    left = [step / _GRID for step in range(_GRID + 1) if not excluded(scores, step / _GRID)]
    if not left:
        mean = sum(scores) / len(scores)
        return mean, mean
    return left[0], left[-1]


def suffices(scores: Sequence[float]) -> bool:
    """Whether the scores are enough for a verdict."""
    return len(scores) >= FEWEST_FOR_VERDICT and excluded(scores, 0.5)


def arrived(
    planned: Mapping[int, Sequence[int]], scores: Mapping[int, float]
) -> list[tuple[int, float]]:
    """The photographs whose votes are all in, with their scores, in the order of arrival.

    A photograph arrives with its last vote. The plan decides the order, so it does not depend on
    what the votes say.

    Args:
      planned: positions of the votes that are planned for each photograph.
      scores: scores of the votes that are in, by position.
    """
    complete = [
        (max(positions), photograph, sum(scores[each] for each in positions) / len(positions))
        for photograph, positions in planned.items()
        if all(each in scores for each in positions)
    ]
    return [(photograph, score) for _, photograph, score in sorted(complete)]


def _bets(scores: Sequence[float]) -> Iterator[float]:
    """The bet before each score. It starts as if one score of 1/2 had arrived."""
    total, squares = 0.5, 0.25
    for t, score in enumerate(scores, start=1):
        variance = squares / t
        yield math.sqrt(2 * math.log(2 / _ALPHA) / (variance * t * math.log(t + 1)))
        total += score
        squares += (score - total / (t + 1)) ** 2
