"""Damaged files of prepared data sets are read correctly, or a sentence says what is wrong."""

import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import fuzzing
from tests.mutations import mutated, mutated_json
from train.data.entries import decode_entries
from train.data.photographs import Memory
from train.data.sources import list_source, make_photographs

pytest.importorskip("tensorflow_datasets")


def mutated_records(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Damages the records, or the list of them at the end. Most of such a file is padding."""
    start, stop = rng.choice(((0, 7_300), (65_536, 65_700), (0, len(data))))
    return data[:start] + mutated(rng, data[start:stop], others) + data[stop:]


FILES = {
    "dataset_info.json": mutated_json,
    "features.json": mutated_json,
    "lol-train.array_record-00000-of-00001": mutated_records,
}


def read_data_set(path: Path) -> None:
    """Opens the data set that a file belongs to, and decodes its photographs."""
    listing = list_source(f"tfds:{path.parent}:train", "train")
    decode_entries(listing.names, *make_photographs(listing, Memory(1)))


@pytest.mark.parametrize("cases", fuzzing.CASES)
@pytest.mark.parametrize("name", FILES)
def test_damaged_data_sets_are_read_or_refused(
    name: str, cases: int, lol: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "1.0.0"
    shutil.copytree(lol / "tfds" / "lol" / "1.0.0", copied)
    seeds = {name: (copied / name).read_bytes()}
    fuzzing.check(read_data_set, seeds, copied / name, cases=cases, mutate=FILES[name])
