"""Comparisons that train for several numbers of updates, each with a full schedule."""

import json
import os
import signal
from pathlib import Path

import pytest

from train.__main__ import main
from train.errors import InputError
from train.experiments.compare_config import CompareConfig
from train.experiments.statistics.comparison_table import read_scores
from train.experiments.statistics.convergence import Curve, lengths_warning, rises_between
from train.validation import Validator

LOSSES = ("luminance_l1", "mse", "l1")


@pytest.fixture(scope="module")
def command(small_run, tmp_path_factory) -> list[str]:
    out = tmp_path_factory.mktemp("lengths") / "run"
    flags = [flag for flag in small_run if not flag.startswith("--steps")]
    flags += ["--lengths", "8", "4", "--seeds=2", "--crops=0", "--learning-rates", "0.001", "0.004"]
    return ["compare", "smoke", *flags, "--losses", *LOSSES, "--out", str(out)]


@pytest.fixture(scope="module")
def finished(command) -> tuple[Path, set[str]]:
    """A comparison that was interrupted in its second length, and what was trained by then."""
    folder = Path(command[-1])
    validate = Validator.__call__

    def stop(self, *weights):
        if (folder / "members-8").exists() and signals:
            os.kill(os.getpid(), signals.pop())
        return validate(self, *weights)

    signals = [signal.SIGTERM]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Validator, "__call__", stop)
        with pytest.raises(SystemExit):
            main(command)
    done = {str(path.parent.relative_to(folder)) for path in folder.glob("members-*/*/done")}
    assert main(command) == 0
    return folder, done


@pytest.mark.slow
def test_each_length_is_a_training_of_its_own_with_the_settings_of_the_shortest(finished) -> None:
    folder, done = finished
    assert len(done) == 9 and all(name.startswith("members-4/") for name in done)
    for steps, networks in ((4, 9), (8, 6)):  # settings are picked with the shortest one
        configs = list(folder.glob(f"members-{steps}/*/config.json"))
        assert len(configs) == networks
        for path in configs:
            assert json.loads(path.read_text())["optimizer"]["steps"] == steps
    names = {path.name for path in folder.glob("members-8/*")}
    assert names < {path.name for path in folder.glob("members-4/*")}
    assert len(read_scores(folder / "scores.csv")) == 3 * 2 * 10
    assert len(read_scores(folder / "scores-4.csv")) == 3 * 2 * 10


@pytest.mark.slow
def test_only_the_longest_training_has_verdicts(finished) -> None:
    folder, _ = finished
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "When does the difference vanish?" in page and "Shorter training runs" in page
    assert page.count("<td>4</td>") == 2 and "<td>8</td>" not in page
    conclusions = json.loads((folder / "conclusions.json").read_text())
    verdicts = [one for one in conclusions if one["adjusted_p"] is not None]
    assert [one["family"] for one in verdicts] == [2, 2]
    scores = [row for row in read_scores(folder / "scores.csv") if row.seed == 0]
    means = {}
    for loss in LOSSES[:2]:
        of_loss = [row.scores["psnr"] for row in scores if row.loss == loss]
        means[loss] = sum(of_loss) / len(of_loss)
    by_seed = verdicts[0]["difference"]["by_seed"]
    assert by_seed[0] == pytest.approx(means["luminance_l1"] - means["mse"], abs=1e-6)
    assert "15 networks were trained one after the other" in page
    assert "were picked with 4 updates, and are those of every length" in page


def test_two_lengths_that_end_alike_have_converged() -> None:
    def curves(ends: dict[str, tuple[float, float]]) -> list[Curve]:
        return [
            Curve(loss, seed, [1, 2], [0.0, psnr])
            for loss, both in ends.items()
            for seed, psnr in enumerate(both)
        ]

    short = curves({"l1": (30.0, 31.0), "mse": (29.0, 29.0)})
    rises = rises_between(short, curves({"l1": (30.1, 30.98), "mse": (29.0, 29.0625)}))
    assert rises == pytest.approx({"l1": 0.04, "mse": 0.03125})
    assert lengths_warning(rises, 1000, 4000) == ""
    rises = rises_between(short, curves({"l1": (30.1, 31.1), "mse": (28.5, 29.2)}))
    assert lengths_warning(rises, 1000, 4000) == (
        "Early training only: from 1,000 to 4,000 updates, each with a full schedule, the "
        "validation PSNR still changed by -0.15 dB with mse. "
    )
    assert "there was no validation" in lengths_warning({}, 1000, 4000)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ((4,), "two or more different numbers of updates; got 4. For one length, use --steps"),
        ((4, 4), "two or more different numbers of updates; got 4 4"),
        ((0, 4), "--lengths must be at least 1"),
    ],
)
def test_lengths_that_do_not_make_sense_are_refused(lengths, message) -> None:
    with pytest.raises(InputError, match=message):
        CompareConfig(lengths=lengths)


def test_steps_and_lengths_are_not_given_together(capsys) -> None:
    assert main(["compare", "--lengths", "4", "8", "--steps=5"]) == 2
    assert "--lengths replaces --steps" in capsys.readouterr().err
