"""Comparisons whose networks are fine-tuned from one network, or from one for each seed."""

import json
import shutil
from pathlib import Path

import pytest

from tests.train.experiments.interruption import interrupted_at_first_validation
from train import loop
from train.__main__ import main
from train.config import FitConfig, ModelConfig, load_config
from train.errors import InputError
from train.experiments.compare_config import CompareConfig
from train.experiments.statistics.comparison_table import read_scores
from train.experiments.statistics.conclusions import START

LOSSES = ("luminance_l1", "l1")


@pytest.fixture(scope="module")
def start(small_fit, tmp_path_factory) -> Path:
    """A network that was trained with mse."""
    out = tmp_path_factory.mktemp("start") / "7"
    loop.fit(small_fit("--seed=7", "--loss=mse", f"--out={out}"), report=False)
    return out


@pytest.fixture(scope="module")
def starts(start, small_fit, photographs, tmp_path_factory) -> list[Path]:
    """That network, and one that was trained on the test photographs."""
    out = tmp_path_factory.mktemp("starts") / "8"
    tested = f"--data=folder:{photographs / 'test'}"
    loop.fit(small_fit("--seed=8", "--loss=mse", f"--out={out}", tested), report=False)
    return [start, out]


@pytest.fixture(scope="module")
def flags(small_run) -> tuple[str, ...]:
    return (*small_run, "--losses", *LOSSES, "--seeds=2", "--crops=0", "--learning-rates=0.001")


@pytest.fixture(scope="module")
def finished(flags, start, tmp_path_factory) -> Path:
    """A comparison from one start."""
    out = tmp_path_factory.mktemp("comparison") / "run"
    command = ["compare", "smoke", *flags, f"--init-from={start}", f"--out={out}"]
    assert main(command) == 0
    return out


def test_with_one_start_the_verdict_holds_for_that_network(finished) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    sentences = [one["sentence"] for one in json.loads((finished / "conclusions.json").read_text())]
    assert " for this network" in sentences[0]
    assert sentences[0].endswith("was trained with mse, which is neither of these two losses.")
    assert "The start" not in sentences[1]  # exploratory comparisons have no verdict
    assert "nothing is claimed about the losses in general" in page
    assert "Early training only" not in page and "erhaps early" not in page


def test_the_unchanged_start_is_a_row_of_every_table(finished) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert f'<th scope="row">{START}</th>' in page  # scores
    assert f"<td>{START}</td>" in page  # settings tried on validation photographs
    assert "The scores changed from the start: luminance_l1 PSNR " in page
    scores = read_scores(finished / "scores.csv")
    of_start = [row for row in scores if row.loss == START]
    assert len(of_start) == 10 and len(scores) == 5 * 10
    # With a rate of 0.001 and four steps the networks are not far from it.
    first = [row for row in scores if row.loss == "l1" and row.seed == 0]
    assert [row.photograph for row in first] == [row.photograph for row in of_start]
    distances = [
        abs(a.scores["psnr"] - b.scores["psnr"]) for a, b in zip(first, of_start, strict=True)
    ]
    assert 0 < max(distances) < 1


def test_the_digest_of_the_start_is_kept_and_checked(
    finished, flags, start, tmp_path, capsys
) -> None:
    settings = json.loads((finished / "settings.json").read_text())
    assert len(settings["start_digests"]) == 1 and len(settings["start_digests"][0]) == 64
    out = shutil.copytree(finished, tmp_path / "run")
    settings["start_digests"] = ["0" * 64]
    (out / "settings.json").write_text(json.dumps(settings))
    command = ["compare", "smoke", *flags, f"--init-from={start}", f"--out={out}"]
    assert main(command) == 2
    assert "different settings (start-digests)" in capsys.readouterr().err


@pytest.mark.slow
def test_a_start_that_was_trained_on_test_photographs_is_reported(
    flags, starts, tmp_path, capsys
) -> None:
    out = tmp_path / "run"
    given = ["--starts", *map(str, starts), f"--out={out}", "--population=vmap"]
    command = ["compare", "smoke", *flags, *given]

    # --- all at once, interrupted at the first validation
    interrupted_at_first_validation(command)
    capsys.readouterr()
    assert main(command) == 0

    # --- start i with seed i
    said = capsys.readouterr().out
    warning = f"{starts[1]}, which the networks start from: these photographs were also used for"
    assert warning in said and f"{starts[0]}, which" not in said
    configs = [load_config(path) for path in out.glob("members/*/config.json")]
    assert {(config.seed, config.model.init_from) for config in configs} == {
        (0, str(starts[0])),
        (1, str(starts[1])),
    }
    settings = json.loads((out / "settings.json").read_text())
    assert len(set(settings["start_digests"])) == 2
    of_starts = [row for row in read_scores(out / "scores.csv") if row.loss == START]
    assert {row.seed for row in of_starts} == {0, 1} and len(of_starts) == 2 * 10
    sentence = json.loads((out / "conclusions.json").read_text())[0]["sentence"]
    assert "for this network" not in sentence
    assert sentence.endswith("were trained with mse, which is neither of these two losses.")

    # --- one more seed needs one more start
    again = [word for word in command if word not in ("--seeds=2", "--population=vmap")]
    at = again.index(str(starts[1]))
    again[at + 1 : at + 1] = [str(starts[0]), "--seeds=3"]
    assert main(again) == 0
    assert len(json.loads((out / "settings.json").read_text())["start_digests"]) == 3
    swapped = [*again]
    swapped[at - 1], swapped[at] = again[at], again[at - 1]
    assert main(swapped) == 2
    assert "different settings (starts, start-digests)" in capsys.readouterr().err


@pytest.mark.slow
def test_a_start_without_a_record_of_its_photographs_is_reported(
    flags, start, tmp_path, capsys
) -> None:
    """A checkpoint that was copied out of its run says which loss it was trained with."""
    copied = shutil.copytree(start / "checkpoints" / "4", tmp_path / "copied")
    out = ["--seeds=1", f"--out={tmp_path / 'run'}"]
    assert main(["compare", "smoke", *flags, f"--init-from={copied}", *out]) == 0
    said = capsys.readouterr().out
    assert f"{copied} does not record which photographs it was trained on" in said
    assert "The start was trained with mse" in said


def test_learning_rates_suit_the_training() -> None:
    tuned = FitConfig(model=ModelConfig(init_from="denoiser-2"))
    scratch, fine = CompareConfig(fit=FitConfig()), CompareConfig(fit=tuned)
    assert max(fine.rates) <= min(scratch.rates)
    assert CompareConfig(fit=tuned, learning_rates=(0.5,)).rates == (0.5,)
    assert CompareConfig(fit=FitConfig(seed=3), starts=("a", "b", "c")).start_of_seed == {
        3: "a",
        4: "b",
        5: "c",
    }
    assert fine.settings()["learning_rates"] == fine.rates


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--starts", "a", "b"], "--starts must be one for each of the 3 seeds; got 2"),
        (["--starts", "a", "--seeds=1", "--init-from=b"], "Give only one of them"),
        (["--init-from", "a", "b"], "got 2. To give one for each seed, write: --starts a b"),
        (["--init-from=nowhere"], "There is no folder nowhere"),
        (["--init-from=denoiser-2", "--model=dncnn(depth=3)"], "or --init-from None to start"),
    ],
)
def test_starts_that_do_not_fit_are_one_sentence(
    arguments, message, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "scratch", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_starts_are_refused_by_the_configuration() -> None:
    with pytest.raises(InputError, match="--starts"):
        CompareConfig(fit=FitConfig(), starts=("",))
