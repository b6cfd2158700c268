"""What each observer sees, in which order, and on which side: decided before the first vote.

| kind | what is shown | what becomes of the vote |
|---|---|---|
| ``practice`` | pairs of the study | it is thrown away |
| ``pair`` | two results for the same photograph | it counts |
| ``repeat`` | an earlier pair with its sides swapped | it is averaged with the first vote |
| ``same`` | one result twice | the honest answer is "no difference" |
| ``obvious`` | two pictures of which one is clearly better | an exclusion rule reads it |
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.errors import InputError
from train.study.rules import FEWEST_PHOTOGRAPHS, PRACTICE, Kind


@dataclass(frozen=True)
class Trial:
    """One pair as an observer sees it. Sides are named by a set, such as "a", or a control."""

    kind: Kind
    photograph: int
    left: str
    right: str

    @property
    def pair(self) -> tuple[int, frozenset[str]]:
        """The photograph and the two sets, whichever side they are on."""
        return self.photograph, frozenset((self.left, self.right))

    def swapped(self, kind: Kind) -> "Trial":
        """The same pair with its sides swapped."""
        return Trial(kind, self.photograph, self.right, self.left)


def plan_place(
    place: int,
    photographs: int,
    sets: Sequence[str],
    *,
    obvious: tuple[str, str],
    votes_per_pair: int = 1,
    seed: int = 0,
) -> list[Trial]:
    """Plans everything that one observer sees.

    Each observer sees every pair. For each two sets, the first one is on the left for half of the
    photographs. Observers 0 and 1 see each pair on opposite sides, as do 2 and 3, and so on.

    Args:
      place: number of the observer, from 0.
      photographs: number of photographs, at least two.
      sets: names of the sets.
      obvious: what is shown in the obvious pair, the better one first.
      votes_per_pair: how many times the observer votes on each pair.
      seed: seed of orders and sides.

    Returns:
      The trials in their order, the practice round first. No photograph appears twice in a row.

    Raises:
      InputError: if there are fewer than two photographs.
    """
    if photographs < FEWEST_PHOTOGRAPHS:
        raise InputError(
            f"A study needs at least {FEWEST_PHOTOGRAPHS} photographs that all sets contain, and "
            f"10 for a verdict; got {photographs}."
        )
    random = np.random.default_rng([seed, place])
    counted = _counted(place, photographs, sets, votes_per_pair, seed)
    trials = _arranged([*counted, *_controls(counted, photographs, sets, obvious, random)], random)
    _put_repeats_last(trials)
    practised = random.permutation(photographs)[:PRACTICE]
    pairs = list(itertools.combinations(sets, 2))
    practice = []
    for photograph in practised:
        sides = random.permutation(pairs[random.integers(len(pairs))])
        practice.append(Trial("practice", int(photograph), str(sides[0]), str(sides[1])))
    if practice[-1].photograph == trials[0].photograph:
        practice[0], practice[-1] = practice[-1], practice[0]
    return [*practice, *trials]


def _counted(
    place: int, photographs: int, sets: Sequence[str], votes_per_pair: int, seed: int
) -> list[Trial]:
    """Every pair of the observer, with balanced sides."""
    shared = np.random.default_rng([seed, 2**32, place // 2])
    trials = []
    for first, second in itertools.combinations(sets, 2):
        larger_half = (photographs + shared.integers(2)) // 2
        on_the_left = set(shared.permutation(photographs)[:larger_half].tolist())
        for photograph, vote in itertools.product(range(photographs), range(votes_per_pair)):
            flips = (photograph not in on_the_left) + place + vote
            sides = (first, second) if flips % 2 == 0 else (second, first)
            trials.append(Trial("pair", photograph, *sides))
    return trials


def _controls(
    counted: Sequence[Trial],
    photographs: int,
    sets: Sequence[str],
    obvious: tuple[str, str],
    random: np.random.Generator,
) -> list[Trial]:
    """Control pairs, spread evenly over the photographs."""
    turn = itertools.cycle(random.permutation(photographs).tolist())
    controls = []
    for number in range(max(2, len(counted) // 10)):
        name = sets[number % len(sets)]
        controls.append(Trial("same", next(turn), name, name))
    sides = random.permutation(obvious)
    controls.append(Trial("obvious", next(turn), str(sides[0]), str(sides[1])))
    left = [counted[i] for i in random.permutation(len(counted))]
    times = Counter[frozenset[str]]()  # repeats of each two sets, which are balanced
    for _ in range(min(len({trial.pair for trial in counted}), max(3, len(counted) // 8))):
        photograph = next(turn)
        candidates = [trial for trial in left if trial.photograph == photograph]
        if not candidates:
            continue
        repeated = min(candidates, key=lambda trial: times[trial.pair[1]])
        times[repeated.pair[1]] += 1
        controls.append(repeated.swapped("repeat"))
        left = [trial for trial in left if trial.pair != repeated.pair]
    return controls


def _arranged(trials: Sequence[Trial], random: np.random.Generator) -> list[Trial]:
    """A random order in which no photograph appears twice in a row.

    A photograph is chosen only if the rest can still be arranged: none of the others may need more
    than every second place, and the chosen one must wait for one place.
    """
    waiting = [trials[i] for i in random.permutation(len(trials))]
    order: list[Trial] = []
    while waiting:
        left = Counter(trial.photograph for trial in waiting)
        rest = len(waiting) - 1
        most = (rest + 1) // 2
        full = [photograph for photograph, count in left.items() if count > most]
        last = order[-1].photograph if order else None
        for trial in waiting:
            chosen = trial.photograph
            fits = left[chosen] - 1 <= rest // 2 and set(full) <= {chosen}
            if chosen != last and fits:
                break
        order.append(trial)
        waiting.remove(trial)
    return order


def _put_repeats_last(trials: list[Trial]) -> None:
    """Makes the later vote of a repeated pair its repeat."""
    for repeat in [i for i, trial in enumerate(trials) if trial.kind == "repeat"]:
        first = next(
            i
            for i, trial in enumerate(trials)
            if trial.kind == "pair" and trial.pair == trials[repeat].pair
        )
        if repeat < first:
            trials[first], trials[repeat] = (
                dataclasses.replace(trials[first], kind="repeat"),
                dataclasses.replace(trials[repeat], kind="pair"),
            )
