"""Bradley and Terry's model of choices, with Davidson's answer to ties, and a scale for its worths.

If set i has the worth w_i, a vote on sets i and j says

    P(i) = w_i / total, P(j) = w_j / total, P(no difference) = v * sqrt(w_i * w_j) / total

with ``total`` the sum of the three numerators. v says how often people see no difference. The model
is that of Bradley and Terry (1952) for v = 0, and is due to Davidson (1970).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Votes that are added to each two sets, half of them for each. Without them, a set that always wins
# would be infinitely far from the others.
PRIOR_VOTES = 1.0
_MOST_STEPS = 200
_LONGEST_STEP = 1.0  # logits; Newton's method may overshoot far from its goal
_CLOSE = 1e-10  # a step after which the goal is reached


@dataclass(frozen=True)
class Worths:
    """Fitted worths.

    Attributes:
      logits: logarithms of the worths, ``[..., sets]``, with mean 0.
      ties: how often people see no difference, v in the formula, ``[...]``.
    """

    logits: np.ndarray
    ties: np.ndarray

    @property
    def jod(self) -> np.ndarray:
        """Places of the sets in JOD, ``[..., sets]``, with mean 0.

        Two sets that are 1 JOD apart score 75 % against each other, if a vote for no difference
        counts half. With x = sqrt(w_i / w_j), the score of i is

            (x + v / 2) / (x + 1 / x + v) = 3/4 if x = (v + sqrt(v^2 + 12)) / 2
        """
        unit = 2 * np.log((self.ties + np.sqrt(self.ties**2 + 12)) / 2)
        return self.logits / unit[..., None]

    def score(self, first: int, second: int) -> np.ndarray:
        """The score that a set should have against another one, ``[...]``: a tie counts half."""
        half = (self.logits[..., first] - self.logits[..., second]) / 2
        wins, losses = np.exp(half), np.exp(-half)
        return (wins + self.ties / 2) / (wins + losses + self.ties)


def fit_worths(
    votes: np.ndarray,
    pairs: Sequence[tuple[int, int]],
    *,
    prior_votes: float = PRIOR_VOTES,
    start: Worths | None = None,
) -> Worths:
    """Fits worths to votes, by maximum likelihood with a weak prior.

    The logarithm of the likelihood is concave, and Newton's method climbs it.

    Args:
      votes: ``[..., pairs, 3]``: votes for the first set, for no difference, and for the second.
        They may be fractions.
      pairs: the two sets of each pair, as numbers from 0.
      prior_votes: votes that are added to each pair, half of them for each set.
      start: worths to start from, without leading axes. None: all sets are equal.

    Returns:
      The worths. If no vote says "no difference", ``ties`` is 0.

    Raises:
      ValueError: if the votes have no finite maximum.
    """
    if votes.shape[-2:] != (len(pairs), 3):
        raise ValueError(f"votes must be [..., {len(pairs)}, 3]; got {votes.shape}.")
    sets = max(max(pair) for pair in pairs) + 1
    sides = np.zeros((len(pairs), sets))
    for number, (first, second) in enumerate(pairs):
        sides[number, first], sides[number, second] = 1, -1
    wins, none, losses = (np.asarray(votes[..., i], float) for i in range(3))
    wins, losses = wins + prior_votes / 2, losses + prior_votes / 2
    count = wins + none + losses
    has_ties = none.sum(axis=-1) > 0
    shape = votes.shape[:-2]
    logits = np.broadcast_to(0.0 if start is None else start.logits, (*shape, sets)).copy()
    log_ties = np.zeros(shape) if start is None else np.full(shape, math.log(start.ties + 1e-3))

    hessian = np.zeros((*shape, sets + 1, sets + 1))
    slope = np.zeros((*shape, sets + 1))
    for _ in range(_MOST_STEPS):
        half = logits @ sides.T / 2
        terms = np.exp(half), np.exp(-half), np.where(has_ties, np.exp(log_ties), 0.0)[..., None]
        total = terms[0] + terms[1] + terms[2]
        lead, tie = (terms[0] - terms[1]) / total, terms[2] / total
        # Derivatives by the differences of logits, and by the logarithm of v
        slope[..., :sets] = ((wins - losses - count * lead) / 2) @ sides
        slope[..., sets] = np.where(has_ties, (none - count * tie).sum(axis=-1), 0)
        bends = count * (1 - tie - lead**2) / 4
        hessian[..., :sets, :sets] = np.einsum("...p,pi,pj->...ij", bends, sides, sides) + 1
        mixed = (-count * lead * tie / 2) @ sides
        hessian[..., :sets, sets] = hessian[..., sets, :sets] = mixed
        both = (count * tie * (1 - tie)).sum(axis=-1)
        hessian[..., sets, sets] = np.where(has_ties, both, 1.0)
        # The added 1 keeps the mean of the logits, on which no vote depends.
        try:
            step = np.linalg.solve(hessian, slope[..., None])[..., 0]
        except np.linalg.LinAlgError:
            break
        longest = np.abs(step).max(axis=-1, keepdims=True)
        step *= np.minimum(1, _LONGEST_STEP / np.maximum(longest, _LONGEST_STEP))
        logits, log_ties = logits + step[..., :sets], log_ties + step[..., sets]
        if longest.size == 0 or longest.max() < _CLOSE:
            return Worths(
                logits - logits.mean(axis=-1, keepdims=True),
                np.where(has_ties, np.exp(log_ties), 0.0),
            )
    raise ValueError("The votes have no finite maximum. Use prior_votes.")


def groups_compared(
    votes: np.ndarray, pairs: Sequence[tuple[int, int]], *, sets: int
) -> list[list[int]]:
    """Groups of sets that are connected by comparisons. Two groups have no common scale.

    Args:
      votes: ``[pairs, 3]``, as for :func:`fit_worths`.
      pairs: the two sets of each pair.
      sets: number of sets.

    Returns:
      The groups, as numbers of sets.
    """
    edges = [both for both, row in zip(pairs, votes, strict=True) if row.sum() > 0]
    return _reachable([*edges, *(edge[::-1] for edge in edges)], sets)


def groups_never_beaten(
    votes: np.ndarray, pairs: Sequence[tuple[int, int]], *, sets: int
) -> list[list[int]]:
    """Groups of sets of which each was preferred to each other one, directly or through others.

    If there are several groups, their distance depends on the prior, because no vote prefers a set
    to one of an earlier group.

    Args:
      votes: ``[pairs, 3]``, as for :func:`fit_worths`.
      pairs: the two sets of each pair.
      sets: number of sets.

    Returns:
      The groups, the preferred ones first.
    """
    edges = []
    for (first, second), row in zip(pairs, votes, strict=True):
        edges += [(first, second)] if row[0] > 0 else []
        edges += [(second, first)] if row[2] > 0 else []
    return _reachable(edges, sets)


def _reachable(edges: Sequence[tuple[int, int]], sets: int) -> list[list[int]]:
    """Groups of numbers that all lead to each other, those that lead to most others first."""
    leads = np.eye(sets, dtype=bool)
    for start, end in edges:
        leads[start, end] = True
    for middle in range(sets):  # Warshall's algorithm
        leads |= leads[:, middle : middle + 1] & leads[middle : middle + 1]
    groups: dict[tuple[bool, ...], list[int]] = {}
    for one in sorted(range(sets), key=lambda one: -int(leads[one].sum())):
        groups.setdefault(tuple((leads[one] & leads[:, one]).tolist()), []).append(one)
    return list(groups.values())
