"""What may be in a folder that a new run will be written to."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from train.checkpoints.run_folder import new_folder
from train.config import FitConfig, OptimizerConfig, RunConfig, save_config
from train.errors import InputError

CONFIG = FitConfig(optimizer=OptimizerConfig(steps=60))


@pytest.fixture
def held() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A run that was killed before its first checkpoint."""
    folder = tmp_path / "run"
    (folder / "checkpoints" / "20.orbax-checkpoint-tmp-7").mkdir(parents=True)
    (folder / "tensorboard").mkdir()
    (folder / "metrics.jsonl").write_text('{"step": 20}\n')
    (folder / "split.json").write_text("{}")
    (folder / ".lumloss-0123456789abcdef.json").write_text("{")
    (folder / ".in_use").write_text("process 1 on another")
    save_config(dataclasses.replace(CONFIG, run=RunConfig(out=str(folder))), folder / "config.json")
    return folder


def test_a_run_without_a_checkpoint_starts_over(begun: Path, held: contextlib.ExitStack) -> None:
    again = dataclasses.replace(CONFIG, run=RunConfig(out=str(begun), log_every=7))
    assert new_folder(str(begun), "default", held, config=again) == begun
    assert [path.name for path in begun.iterdir()] == [".in_use"]


def test_a_run_without_a_configuration_starts_over_too(
    begun: Path, held: contextlib.ExitStack
) -> None:
    for name in ("checkpoints/20.orbax-checkpoint-tmp-7", "checkpoints", "tensorboard"):
        (begun / name).rmdir()
    for name in ("metrics.jsonl", "config.json"):
        (begun / name).unlink()
    new_folder(str(begun), "default", held, config=CONFIG)
    assert [path.name for path in begun.iterdir()] == [".in_use"]


@pytest.mark.parametrize(
    "more", ["notes.txt", "checkpoints/20", "checkpoints/055", "checkpoints/mine"]
)
def test_what_else_is_there_is_not_touched(
    more: str, begun: Path, held: contextlib.ExitStack
) -> None:
    (begun / more).mkdir()
    before = sorted(begun.rglob("*"))
    with pytest.raises(
        InputError, match="is not empty, and does not contain a run|contains a run. Resume it"
    ):
        new_folder(str(begun), "default", held, config=CONFIG)
    assert set(before) - set(begun.rglob("*")) <= {
        begun / ".in_use",
        begun / ".lumloss-0123456789abcdef.json",
    }


def test_a_run_of_another_configuration_is_not_touched(
    begun: Path, held: contextlib.ExitStack
) -> None:
    other = dataclasses.replace(CONFIG, seed=1)
    with pytest.raises(InputError, match="is not empty, and does not contain a run"):
        new_folder(str(begun), "default", held, config=other)
    (begun / "config.json").write_text("{")
    with pytest.raises(InputError, match="is not empty, and does not contain a run"):
        new_folder(str(begun), "default", held, config=CONFIG)
    assert (begun / "metrics.jsonl").exists()


def test_a_name_that_is_too_long_is_one_sentence(
    tmp_path: Path, held: contextlib.ExitStack
) -> None:
    with pytest.raises(InputError, match="cannot be written to: File name too long"):
        new_folder(str(tmp_path / ("x" * 5000)), "default", held, config=CONFIG)
