import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.errors import InputError
from train.study.plan import plan_place
from train.study.rules import PRACTICE

PLANS = {
    "place": st.integers(0, 5),
    "photographs": st.integers(2, 40),
    "sets": st.sampled_from(["ab", "abc", "abcd"]),
    "votes_per_pair": st.integers(1, 3),
    "seed": st.integers(0, 2**62),
}


@given(**PLANS)
def test_every_plan_keeps_its_promises(place, photographs, sets, votes_per_pair, seed):
    plan = plan_place(
        place,
        photographs,
        sets,
        obvious=("clean", "input"),
        votes_per_pair=votes_per_pair,
        seed=seed,
    )
    kinds = Counter(trial.kind for trial in plan)
    pairs = photographs * len(sets) * (len(sets) - 1) // 2
    practice = min(PRACTICE, photographs)
    assert [trial.kind for trial in plan[:practice]] == ["practice"] * practice
    assert kinds["practice"] == practice
    assert kinds["pair"] == pairs * votes_per_pair
    assert kinds["same"] == max(2, pairs * votes_per_pair // 10)
    assert kinds["obvious"] == 1
    assert min(pairs, 3) - 1 <= kinds["repeat"] <= max(3, pairs * votes_per_pair // 8)
    # No photograph appears twice in a row.
    assert all(
        one.photograph != two.photograph for one, two in zip(plan[:-1], plan[1:], strict=True)
    )
    # Every pair appears as often as planned.
    seen = Counter(trial.pair for trial in plan if trial.kind == "pair")
    assert len(seen) == pairs and set(seen.values()) == {votes_per_pair}
    # Repeats are balanced over the sets, as long as there are not too many for the photographs.
    repeats = Counter(trial.pair[1] for trial in plan if trial.kind == "repeat")
    if kinds["repeat"] <= photographs:
        each = [repeats[frozenset(two)] for two in itertools.combinations(sets, 2)]
        assert max(each) - min(each) <= 1
    # A repeat comes after the first vote on the same pair.
    for number, trial in enumerate(plan):
        if trial.kind == "repeat":
            assert trial.pair in [each.pair for each in plan[:number] if each.kind == "pair"]
            if votes_per_pair == 1:
                (first,) = [each for each in plan if each.kind == "pair" if each.pair == trial.pair]
                assert (first.left, first.right) == (trial.right, trial.left)


@given(photographs=PLANS["photographs"], sets=PLANS["sets"], seed=PLANS["seed"])
def test_sides_are_balanced(photographs, sets, seed):
    plans = [
        [
            (trial.photograph, trial.left, trial.right)
            for trial in plan_place(place, photographs, sets, obvious=("a", "blurred"), seed=seed)
            # A swap of a first vote with its repeat exchanges their sides.
            if trial.kind in ("pair", "repeat")
        ]
        for place in (0, 1)
    ]
    for i, first in enumerate(sets):
        for second in sets[i + 1 :]:
            left, right = (
                {photograph for photograph, *sides in plans[0] if sides == [one, two]}
                for one, two in ((first, second), (second, first))
            )
            repeated = left & right
            assert abs(len(left - repeated) - len(right - repeated)) <= 1 + len(repeated)


def test_two_observers_see_opposite_sides():
    def sides(place):
        plan = plan_place(place, 20, "ab", obvious=("a", "blurred"), seed=7)
        repeated = {trial.pair for trial in plan if trial.kind == "repeat"}
        return {
            trial.photograph: trial.left
            for trial in plan
            if trial.kind == "pair" and trial.pair not in repeated
        }

    both = sides(0).keys() & sides(1).keys()
    assert len(both) > 12
    assert all(sides(0)[photograph] != sides(1)[photograph] for photograph in both)


def test_the_seed_decides_everything():
    plans = [plan_place(0, 20, "ab", obvious=("a", "blurred"), seed=seed) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    assert plans[0] != plan_place(1, 20, "ab", obvious=("a", "blurred"), seed=1)


def test_one_photograph_is_too_few():
    with pytest.raises(InputError, match="at least 2 photographs"):
        plan_place(0, 1, "ab", obvious=("a", "blurred"))
