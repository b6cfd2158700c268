import numpy as np
import pytest

from train.data.inspection import similarity as module
from train.data.inspection.similarity import group_similar


def by_hand(hashes: list[int]) -> set[frozenset[int]]:
    """Groups that are found by comparing every hash with every other."""
    groups = [{i} for i in range(len(hashes))]
    for i, one in enumerate(hashes):
        for j in range(i):
            if (one ^ hashes[j]).bit_count() <= 4 and groups[i] is not groups[j]:
                groups[i] |= groups[j]
                for k in groups[j]:
                    groups[k] = groups[i]
    return {frozenset(group) for group in groups}


def found(hashes: list[int]) -> set[frozenset[int]]:
    numbers = group_similar(hashes)
    assert len(numbers) == len(hashes)
    return {
        frozenset(np.flatnonzero(numbers == number).tolist()) for number in set(numbers.tolist())
    }


@pytest.mark.parametrize("table", [1, 8, 512])
def test_groups_are_those_of_all_pairs(table: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TABLE", table)
    random = np.random.default_rng(table)
    for _ in range(5):
        scenes = random.integers(0, 2**63, 12).tolist()
        hashes = []
        for scene in random.choice(scenes, 150).tolist():
            for bit in random.integers(0, 64, random.integers(0, 7)).tolist():
                scene ^= 1 << bit
            hashes.append(scene)
        assert found(hashes) == by_hand(hashes)


def test_four_bits_anywhere_are_alike_and_five_are_not() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        bits = random.choice(64, 5, replace=False).tolist()
        four = sum(1 << bit for bit in bits[:4])
        assert len(found([2**64 - 1, (2**64 - 1) ^ four])) == 1
        assert len(found([0, four | 1 << bits[4]])) == 2


def test_nothing_one_and_very_many_of_one_hash() -> None:
    assert group_similar([]).tolist() == []
    assert group_similar([7]).tolist() == [0]
    assert set(group_similar([5] * 200_000).tolist()) == {0}


def test_many_hashes_of_one_scene_and_of_many() -> None:
    random = np.random.default_rng(0)
    one, other = np.uint64(1) << random.integers(0, 64, (2, 20_000), dtype=np.uint64)
    assert set(group_similar((one | other).tolist()).tolist()) == {0}
    # Spread over all bits by a multiplication: any two are far apart.
    scenes = [i * 0x9E3779B97F4A7C15 % 2**64 for i in range(50_000)]
    assert len(set(group_similar(scenes).tolist())) > 49_000
