"""The harness notices each thing that a reader must not do; the readers here do it on purpose."""

import io
import os
import random
import signal
import time
import zipfile
from pathlib import Path

import pytest

from tests import fuzzing
from tests.fuzzing import check, damaged_file
from tests.mutations import mutated, mutated_json, mutated_zip, with_declared_size
from train.errors import InputError

VALID = b"valid"


def _kept_whole(path: Path) -> None:
    if path.read_bytes() != VALID:
        raise InputError("This file is damaged.")


def _dies(path: Path) -> None:
    if path.read_bytes() != VALID:
        os.kill(os.getpid(), signal.SIGSEGV)


def _raises(path: Path) -> None:
    if path.read_bytes() != VALID:
        raise RecursionError("too deep")


def _exits(path: Path) -> None:
    if path.read_bytes() != VALID:
        raise SystemExit(0)


def _hangs(path: Path) -> None:
    if path.read_bytes() != VALID:
        time.sleep(60)


def _computes_on(path: Path) -> None:
    while path.read_bytes() != VALID:
        pass


def _fills_memory(path: Path) -> int:
    return len(b"1" * 1_600_000_000) if path.read_bytes() != VALID else 0


def _hides_that_memory_was_lacking(path: Path) -> None:
    try:
        bytearray(10**12 if path.read_bytes() != VALID else 1)
    except MemoryError:
        raise InputError("This file is damaged.") from None


def _refuses_all(path: Path) -> None:
    raise InputError("This file is damaged.")


def test_a_reader_that_refuses_damaged_files_passes(tmp_path: Path) -> None:
    check(_kept_whole, {"one": VALID}, tmp_path / "case.bin", cases=20)


@pytest.mark.parametrize(
    ("reader", "said"),
    [
        (_dies, "died with status -11: Fatal Python error: Segmentation fault"),
        (_raises, "RecursionError: too deep"),
        (_exits, "SystemExit: 0"),
        (_hangs, "no answer within 10 s of computing or 0.2 s of waiting"),
        (_computes_on, "no answer within 0.2 s of computing"),
        (_fills_memory, "took 1.6 GB of memory"),
        (_hides_that_memory_was_lacking, "asked for more memory than the limit"),
        (_refuses_all, "does not read the valid file 'one': InputError: This file is damaged"),
    ],
)
def test_each_failure_is_noticed(
    reader, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzzing, "KEPT", tmp_path / "kept")
    if reader is _hangs:
        monkeypatch.setattr(fuzzing, "PATIENCE", 0.2)
    if reader is _computes_on:
        monkeypatch.setattr(fuzzing, "SECONDS", 0.2)
    with pytest.raises(AssertionError) as error:
        check(reader, {"one": VALID}, tmp_path / "case.bin", cases=2)
    assert said in str(error.value)
    kept = sorted((tmp_path / "kept").glob("*.bin"))
    assert bool(kept) == (reader is not _refuses_all)
    name = f"{__name__}:{reader.__name__}"
    for path in kept:
        number = int(path.stem.rpartition("-")[2])
        assert path.read_bytes() == damaged_file({"one": VALID}, mutated, name, 0, number)


def test_mutations_are_drawn_from_the_seed_and_damage_something(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", b"12345")
        archive.writestr("b", b"12345")
    seeds = {
        mutated: b"1 2 3 4",
        mutated_json: b'{"a": [1, 2.5, "b"]}',
        mutated_zip(): buffer.getvalue(),
    }
    for mutate, data in seeds.items():
        first = [mutate(random.Random(i), data, [data]) for i in range(50)]
        second = [mutate(random.Random(i), data, [data]) for i in range(50)]
        assert first == second
        assert sum(changed != data for changed in first) > 40
        assert len(set(first)) > 25
    lying = with_declared_size(buffer.getvalue(), "b", 10**9)
    with zipfile.ZipFile(io.BytesIO(lying)) as archive:
        assert [info.file_size for info in archive.infolist()] == [5, 10**9]
