"""Readers decode damaged and hostile photographs or say why not, within time and memory."""

from pathlib import Path

import pytest

from tests import fuzzing
from tests.train.data.hostile_images import (
    KINDS,
    full,
    hostile_files,
    mutated_photograph,
    restore_header,
    restore_pixels,
)
from tests.train.inference.stored_images import pixels


def _seeds() -> dict[str, bytes]:
    seeds = {kind: full(kind, pixels((12, 9, 3))) for kind in (*KINDS, "BMP")}
    seeds["grey PNG"] = full("PNG", pixels((9, 12)))
    seeds["transparent PNG"] = full("PNG", pixels((9, 12, 4)))
    seeds["transparent WebP"] = full("WEBP", pixels((9, 12, 4)))
    return seeds


@pytest.mark.parametrize("cases", fuzzing.CASES)
@pytest.mark.parametrize("reader", [restore_pixels, restore_header])
def test_damaged_photographs_are_read_or_refused(reader, cases: int, tmp_path: Path) -> None:
    fuzzing.check(reader, _seeds(), tmp_path / "case.img", cases=cases, mutate=mutated_photograph)


@pytest.mark.parametrize("reader", [restore_header, restore_pixels])
@pytest.mark.slow
def test_what_claims_far_more_than_it_is_is_refused_at_once(reader, tmp_path: Path) -> None:
    hostile = hostile_files()
    said = fuzzing.answers(
        reader, {name: content for name, (content, _) in hostile.items()}, tmp_path / "case.img"
    )
    for name, (_, words) in hostile.items():
        assert words in said[name], f"{name}: {said[name]}"
        assert not words or said[name], f"{name} was read"
