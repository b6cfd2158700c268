"""Warnings about test photographs that were trained on too, or scored several times."""

from pathlib import Path

import pytest

from train.__main__ import main
from train.errors import InputError
from train.experiments.interim_looks import look_warnings, record_look


@pytest.fixture
def leaking(photographs: Path, small_run: tuple[str, ...], tmp_path: Path) -> list[str]:
    """Flags of an experiment whose test photographs are also trained on, with different noise."""
    flags = [flag for flag in small_run if not flag.startswith("--test-data")]
    return [*flags, f"--test-data=folder:{photographs / 'train'}", f"--out={tmp_path / 'run'}"]


LEAK = (
    "these photographs were also used for training, so their scores mean little: 0.png (test), "
    "1.png (test)"
)


@pytest.mark.slow
def test_a_comparison_says_which_photographs_were_trained_on_too(
    leaking: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--losses", "l1", "mse", "--seeds=1", "--crops=0", "--learning-rates=0.002"]
    assert main(["compare", "smoke", *leaking, *few]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.count(f"warning: {LEAK}") == 1 and f"note: {LEAK}" in said
    assert f"<strong>Note:</strong> {LEAK}" in (tmp_path / "run" / "report.html").read_text(
        encoding="utf-8"
    )


@pytest.mark.slow
def test_a_search_says_which_photographs_were_trained_on_too(
    leaking: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--trials=1", "--seeds=1", "--window-sizes=3", "--penalties=l1", "--brightness=luma"]
    assert main(["tune", *leaking, *few]) == 0
    assert " ".join(capsys.readouterr().out.split()).count(f"warning: {LEAK}") == 1
    page = (tmp_path / "run" / "sensitivity.html").read_text(encoding="utf-8")
    assert f"<strong>Note:</strong> {LEAK}" in page


def test_looks_are_counted_unless_they_repeat_the_last_one(tmp_path: Path) -> None:
    assert [len(record_look(tmp_path, look)) for look in (3, 3, 8, 8, 3)] == [1, 1, 2, 2, 3]
    (tmp_path / "search").mkdir()
    for chosen in ("l1", "mse"):
        looks = record_look(tmp_path / "search", {"chosen": chosen, "seeds": 3})
    assert [look["chosen"] for look in looks] == ["l1", "mse"]
    (tmp_path / "search" / "looks.json").write_text('[{"chosen": 1, "seeds": 3}]')
    with pytest.raises(InputError, match="something other than looks at the test photographs"):
        record_look(tmp_path / "search", {"chosen": "l1", "seeds": 3})


@pytest.mark.parametrize(
    "planted", ["[0]", "[-3]", f"[1{'0' * 300}]", "[true]", "[3.5]", '[{"seeds": 3}]']
)
def test_numbers_of_seeds_that_no_command_accepts_are_refused(planted: str, tmp_path: Path) -> None:
    (tmp_path / "looks.json").write_text(planted)
    with pytest.raises(InputError, match="something other than looks at the test photographs"):
        record_look(tmp_path, 3)
    assert (tmp_path / "looks.json").read_text() == planted


def test_many_looks_are_one_short_sentence() -> None:
    (sentence,) = look_warnings([f"{seeds} seeds" for seeds in range(2, 5000)])
    assert sentence.startswith(
        "the test results were looked at 4998 times, most recently with 4999 "
    )


def test_one_look_needs_no_warning() -> None:
    assert look_warnings(["3 seeds"]) == []
    (sentence,) = look_warnings(["3 seeds", "8 seeds"], simulated=" (so often)")
    assert sentence.startswith(
        "the test results were looked at with 3 seeds, then with 8 seeds. Each look after the first"
    )
    assert sentence.endswith("the rate of false alarms is above 5 % (so often).")
