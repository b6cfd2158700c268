import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from train.data import pipeline
from train.data.batch import Pair
from train.data.images import to_float, write_image
from train.data.photographs import Memory
from train.data.pipeline import PatchBatches, stream
from train.data.sources import Source, make_source, open_source
from train.errors import InputError


def _source(*shapes: tuple[int, int]) -> Source:
    """Photographs in which every pixel is unique, so that a patch shows where it was cut."""
    images, first = [], 0
    for height, width in shapes:
        count = height * width
        values = np.arange(first, first + count, dtype=np.uint16).reshape(height, width, 1)
        images.append(np.repeat(values, 3, axis=2))
        first += count
    return make_source(tuple(f"photo{i}" for i in range(len(shapes))), tuple(images))


def _batches(source: Source, **options: int) -> PatchBatches:
    return PatchBatches(source, **{"patch_size": 4, "batch_size": 6, "seed": 3, **options})


def batch_of(batches: PatchBatches, index: int) -> Any:
    """The batch with this number alone."""
    (batch,) = pipeline._each(batches.global_batches(range(index, index + 1)))
    return batch


def _values(batch: np.ndarray) -> np.ndarray:
    assert batch.dtype == np.uint16
    return batch[..., 0].astype(int)


def test_a_batch_depends_on_seed_and_index_alone() -> None:
    source = _source((12, 9), (7, 7))
    first = batch_of(_batches(source), 5)
    assert first.shape == (6, 4, 4, 3)
    assert first.dtype == np.uint16
    fresh = _batches(source)
    batch_of(fresh, 0)  # earlier batches do not matter
    np.testing.assert_array_equal(batch_of(fresh, 5), first)
    assert not np.array_equal(batch_of(_batches(source), 6), first)
    assert not np.array_equal(batch_of(_batches(source, seed=4), 5), first)


def test_patches_are_flips_and_rotations_of_places() -> None:
    source = _source((12, 9), (7, 7))
    windows = [
        np.lib.stride_tricks.sliding_window_view(image[..., 0].astype(int), (4, 4)).reshape(
            -1, 4, 4
        )
        for image in source.images
    ]
    places = {window.tobytes() for window in np.concatenate(windows)}
    seen = set()
    batches = _batches(source, batch_size=64)
    for patch in itertools.chain.from_iterable(_values(batch_of(batches, i)) for i in range(4)):
        turned = {
            (k, flip): np.rot90(patch[:, ::-1] if flip else patch, k)
            for k in range(4)
            for flip in (False, True)
        }
        found = [
            name for name, view in turned.items() if np.ascontiguousarray(view).tobytes() in places
        ]
        assert len(found) == 1
        seen.update(found)
    assert len(seen) == 8


def test_every_position_is_as_likely() -> None:
    # 5x5 has 4 positions for a 4x4 patch, 4x4 has one: of 5000 patches 1000 are the second
    # photograph, SD 28.
    batches = _batches(_source((5, 5), (4, 4)), batch_size=5000)
    from_second = int(np.sum(_values(batch_of(batches, 0)).min(axis=(1, 2)) >= 25))
    assert abs(from_second - 1000) < 5 * 28.3


@pytest.mark.parametrize("processes", [1, 2, 3, 6])
def test_the_hosts_share_one_global_batch_in_contiguous_rows(processes: int) -> None:
    batches = _batches(_source((12, 9)))
    shares = [
        list(
            stream(
                batches, start=2, stop=5, rows=slice(p * 6 // processes, (p + 1) * 6 // processes)
            )
        )
        for p in range(processes)
    ]
    for step in range(3):
        together = np.concatenate([share[step] for share in shares])
        np.testing.assert_array_equal(together, batch_of(batches, 2 + step))


def test_a_stream_that_starts_later_gives_the_same_batches() -> None:
    batches = _batches(_source((12, 9)))
    whole = list(stream(batches, start=0, stop=6))
    rest = list(stream(batches, start=4, stop=6))
    assert len(whole) == 6
    np.testing.assert_array_equal(whole[4:], rest)


def test_a_patch_as_large_as_the_photograph_is_allowed() -> None:
    assert batch_of(_batches(_source((4, 4))), 0).shape == (6, 4, 4, 3)


def test_a_patch_larger_than_a_photograph_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"--patch-size 8 is larger than 1 of 2 .* photo1 \(9x6\)\. Use .* 6"
    ):
        _batches(_source((12, 9), (6, 9)), patch_size=8)


def test_both_halves_of_a_pair_are_cut_and_turned_alike() -> None:
    clean = _source((12, 9), (7, 7))
    # Each pixel tells which one it belongs to
    degraded = tuple(image + np.uint16(1000) for image in clean.images)
    batch = batch_of(_batches(make_source(clean.names, clean.images, inputs=degraded)), 5)
    assert isinstance(batch, Pair)
    np.testing.assert_array_equal(batch.clean, batch_of(_batches(clean), 5))
    np.testing.assert_array_equal(_values(batch.degraded), _values(batch.clean) + 1000)


def test_orientations_are_quarter_turns_and_their_mirrors() -> None:
    # The whole photograph is the patch, so that the draws of a batch show in it, told apart by
    # NumPy's own turning.
    source = _source((4, 4))
    whole = source.images[0]
    for index in range(3):
        generator = np.random.default_rng([3, index])
        generator.integers(1, size=6)
        orientations = generator.integers(8, size=6)
        for patch, orientation in zip(batch_of(_batches(source), index), orientations, strict=True):
            turned = np.rot90(whole, orientation % 4)
            np.testing.assert_array_equal(patch, turned[:, ::-1] if orientation >= 4 else turned)


def test_8_and_16_bits_share_a_batch_at_the_same_brightness() -> None:
    deep = _source((5, 5)).images[0]
    shallow = np.full((5, 5, 3), 51, np.uint8)
    source = make_source(("a", "b"), (deep, shallow), inputs=(shallow, shallow))
    batch = batch_of(_batches(source, batch_size=40), 0)
    assert isinstance(batch, Pair)
    np.testing.assert_array_equal(batch.degraded, np.full((40, 4, 4, 3), 51, np.uint8))
    flat = np.all(to_float(batch.clean) == np.float32(51) / np.float32(255), axis=(1, 2, 3))
    assert 5 < flat.sum() < 35
    assert np.all(_values(batch.clean[~flat]) < 25)


def test_any_number_of_threads_and_any_memory_give_the_same_bits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for side in ("low", "high"):
        (tmp_path / side).mkdir()
        for i in range(5):
            write_image(
                tmp_path / side / f"{i}.png",
                rng.integers(0, 65536, (9 + i, 11, 3), dtype=np.uint16),
            )
    spec = f"pairs:{tmp_path}/low,{tmp_path}/high"
    expected: list[Pair] = []
    for megabytes, threads, processes in ((1, 1, 1), (0, 3, 1), (0.003, 5, 3)):
        batches = _batches(open_source(spec, "train", memory=Memory(megabytes)))
        shares = [
            list(
                stream(
                    batches,
                    start=1,
                    stop=9,
                    rows=slice(p * 6 // processes, (p + 1) * 6 // processes),
                    threads=threads,
                )
            )
            for p in range(processes)
        ]
        found = [
            Pair(*map(np.concatenate, zip(*rows, strict=True)))
            for rows in zip(*shares, strict=True)
        ]
        expected = expected or found
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_photograph_that_vanishes_stops_the_stream(tmp_path: Path) -> None:
    write_image(tmp_path / "only.png", np.zeros((8, 8, 3), np.uint8))
    batches = _batches(open_source(f"folder:{tmp_path}", "train", memory=Memory(0)))
    batch_of(batches, 0)
    (tmp_path / "only.png").unlink()
    with pytest.raises(InputError, match=r"only\.png cannot be read: No such file"):
        list(stream(batches, start=0, stop=3))
