import dataclasses
import json
import shutil

import numpy as np
import pytest

from tests.train.experiments.interruption import interrupted_at_first_validation
from train import loop
from train.__main__ import main
from train.config import FitConfig, OptimizerConfig, load_config
from train.errors import InputError
from train.experiments.compare_config import CompareConfig
from train.experiments.networks.members import Member
from train.experiments.statistics.comparison_table import read_scores
from train.presets import COMPARE_PRESETS, PRESETS

LOSSES = ("luminance_l1", "balanced(uncertainty)")


@pytest.fixture(scope="module")
def flags(small_run):
    return (
        *small_run,
        "--losses",
        *LOSSES,
        "--seeds=2",
        "--learning-rates=0.001",
        "0.004",
        "--crops=1",
        "--baselines=gaussian",
    )


@pytest.fixture(scope="module")
def finished(flags, tmp_path_factory):
    """A complete comparison."""
    folder = tmp_path_factory.mktemp("comparison") / "run"
    assert main(["compare", "smoke", *flags, "--out", str(folder)]) == 0
    return folder


def test_every_photograph_is_scored_under_every_loss_and_seed(finished):
    scores = read_scores(finished / "scores.csv")
    assert len(scores) == 2 * 2 * 10
    assert {(row.loss, row.seed) for row in scores} == {
        (loss, seed) for loss in LOSSES for seed in (0, 1)
    }


def test_settings_are_picked_by_validation_for_each_loss(finished):
    names = {path.name for path in (finished / "members").iterdir()}
    tried = {path.parent.name for path in finished.glob("members/*/validation.csv")}
    tested = {path.parent.name for path in finished.glob("members/*/test.csv")}
    assert len(tried) == 4 and len(tested) == 4 and tried | tested == names
    for loss in LOSSES:
        of_loss = [
            path
            for path in finished.glob("members/*/validation.csv")
            if read_scores(path)[0].loss == loss
        ]
        means = {
            path.parent.name: np.mean([row.scores["psnr"] for row in read_scores(path)])
            for path in of_loss
        }
        assert [name for name in means if name in tested] == [max(means, key=means.get)]


def test_the_report_and_the_conclusions_are_there(finished):
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "python -m train compare smoke" in page and page.count('class="crop"') == 1
    primary = json.loads((finished / "conclusions.json").read_text())[0]
    assert primary["sentence"].startswith("luminance_l1 against balanced(uncertainty): PSNR")
    assert "6 networks were trained one after the other (loop). This took " in page
    assert (
        "<strong>Note:</strong> settings were picked with seed 0, which is also one of the seeds "
        "compared" in page
    )
    assert primary["sentence"] in page.replace("&#39;", "'")
    (loss,) = {row.loss for row in read_scores(finished / "baselines.csv")}
    assert f"{loss} (baseline)</th>" in page and loss == "gaussian"


def test_what_is_done_is_kept_and_what_was_interrupted_resumes(finished, flags, monkeypatch):
    before = (finished / "scores.csv").read_bytes()
    stopped = sorted((finished / "members").glob("*seed1"))[0]
    for name in ("done", "test.csv"):
        (stopped / name).unlink()
    shutil.rmtree(stopped / "checkpoints" / "4")
    trained = []
    fit = loop.fit
    monkeypatch.setattr(
        loop,
        "fit",
        lambda config, **options: trained.append(config.run.resume) or fit(config, **options),
    )
    (finished / "scores.csv").unlink()
    assert main(["compare", "smoke", *flags, "--out", str(finished)]) == 0
    assert trained == [str(stopped)]
    assert (finished / "scores.csv").read_bytes() == before


def test_another_comparisons_folder_is_refused(finished, flags, capsys):
    assert main(["compare", "smoke", *flags, "--out", str(finished), "--draws", "2"]) == 2
    assert "holds an experiment with different settings" in capsys.readouterr().err


def test_one_test_photograph_is_refused_before_training(photographs, flags, tmp_path, capsys):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "0.png").write_bytes((photographs / "test" / "0.png").read_bytes())
    arguments = [*flags, f"--test-data=folder:{tmp_path / 'one'}", "--out", str(tmp_path / "run")]
    assert main(["compare", "smoke", *arguments]) == 2
    assert (
        "compare needs at least 2 test photographs, and 8 for a verdict" in capsys.readouterr().err
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_more_seeds_train_only_what_is_missing(finished, flags, tmp_path, monkeypatch):
    """The advice of a report is followed in the same folder."""
    folder = shutil.copytree(finished, tmp_path / "run")
    trained = []
    fit = loop.fit
    monkeypatch.setattr(
        loop, "fit", lambda config, **options: trained.append(config.seed) or fit(config, **options)
    )
    assert main(["compare", "smoke", *flags, "--seeds=3", "--crops=0", "--out", str(folder)]) == 0
    assert trained == [2, 2]
    before, after = (read_scores(path / "scores.csv") for path in (finished, folder))
    assert all(row in after for row in before) and len(before) < len(after)
    assert {row.seed for row in after} == {0, 1, 2}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "looked at with 2 seeds, then with 3 seeds. Each look" in page
    assert f"--out {folder}" not in page  # the command would make a new comparison


DIVERGING = 1e25  # a learning rate, whose second step is not finite


@pytest.mark.slow
@pytest.mark.parametrize("population", ["loop", "vmap"])
def test_diverged_networks_are_left_out_and_reported(small_run, population, tmp_path, capsys):
    rates = ["--learning-rates", "0.002", str(DIVERGING), "--max-skips=1", "--clip-norms"]
    out = ["--out", str(tmp_path / "run"), "--crops=0", "--seeds=1", f"--population={population}"]
    command = ["compare", "smoke", *small_run, "--losses", "l1", "mse", *rates, *out]
    assert main(command) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("diverged: ") == 2
    assert "Each difference is the score of l1 minus that of mse. If lower is better" in said
    assert (
        "Exploratory metrics. Higher is better: PSNR-Y " in said
        and "; lower is better: CIE" in said
    )
    assert (
        "note: l1, mse: the learning rate that was picked, 0.002, is the lower of only two. A "
        in said
    )
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert page.count("<td>diverged</td>") == 2
    assert main(command) == 0
    assert "training" not in capsys.readouterr().out  # nothing that diverged is trained again


@pytest.fixture(scope="module")
def together(flags, tmp_path_factory):
    """The comparison with all networks at once, interrupted at its first validation and resumed."""
    folder = tmp_path_factory.mktemp("together") / "run"
    command = ["compare", "smoke", *flags, "--population=vmap", "--out", str(folder)]
    interrupted_at_first_validation(command)
    stopped = [path.parent.parent.name for path in folder.glob("members/*/checkpoints/2")]
    assert main(command) == 0
    return folder, stopped


def assert_same_scores(one, other):
    key = ("loss", "seed", "sigma", "photograph")
    for a, b in zip(
        read_scores(one / "scores.csv"), read_scores(other / "scores.csv"), strict=True
    ):
        assert [getattr(a, name) for name in key] == [getattr(b, name) for name in key]
        assert b.scores == pytest.approx(a.scores, abs=1e-3)


@pytest.mark.slow
def test_networks_that_train_at_once_get_the_same_scores(finished, together):
    folder, stopped = together
    assert_same_scores(finished, folder)
    assert len(stopped) == 4  # both rates of both losses, all saved when they were interrupted


@pytest.mark.slow
def test_networks_on_several_devices_get_the_same_scores(finished, flags, tmp_path, capsys):
    """Four networks train on three devices, then two on two: devices may hold different numbers."""
    folder = tmp_path / "run"
    assert (
        main(["compare", "smoke", *flags, "--population=mesh", "--devices=3", "--out", str(folder)])
        == 0
    )
    said = capsys.readouterr().out
    assert (
        "4 networks at once on 3 cpu devices" in said
        and "2 networks at once on 2 cpu devices" in said
    )
    assert "6 networks were trained at once, divided over devices (mesh). This took " in said
    assert_same_scores(finished, folder)


@pytest.mark.slow
def test_each_of_them_leaves_the_same_files_as_fit(finished, together):
    names = {path.name for path in (finished / "members").iterdir()}
    assert {path.name for path in (together[0] / "members").iterdir()} == names
    for name in names:
        alone, member = finished / "members" / name, together[0] / "members" / name
        files = {path.name for path in alone.iterdir()}
        assert {path.name for path in member.iterdir()} == files
        logged = [
            [json.loads(line) for line in (p / "metrics.jsonl").open()] for p in (alone, member)
        ]
        assert [list(line) for line in logged[0]] == [list(line) for line in logged[1]]
        for a, b in zip(*logged, strict=True):
            assert (b["step"], b["learning_rate"]) == (a["step"], pytest.approx(a["learning_rate"]))
            assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
            assert b["validation/psnr"] == pytest.approx(a["validation/psnr"], abs=1e-3)
        assert (
            load_config(member / "config.json").optimizer
            == load_config(alone / "config.json").optimizer
        )
    page = (together[0] / "report.html").read_text(encoding="utf-8")
    assert "6 networks were trained at once on one device (vmap). This took " in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--population", "vmap", "--devices", "2"],
            "--devices 2 does not fit --population vmap, which trains on one device. Use",
        ),
        (
            ["--population", "mesh", "--profile", "1", "2"],
            "--profile traces the training of one network, but --population mesh trains",
        ),
        (["smok"], "Did you mean 'smoke'?"),
        (["--losses", "l1"], "two or more different losses"),
        (["--losses", "l1", "1*l1"], "two or more different losses"),
        (["--losses", "l1", "l3"], "--losses: "),
        (
            ["--losses", "balanced(dwa)", "balanced(dwa, luminance_l1)"],
            "two or more different losses",
        ),
        (
            ["--losses", "l1", "balanced(dw)"],
            "--losses: balanced accepts the methods uncertainty, gradnorm, dwa, upgrad, cagrad, "
            "mgda, pcgrad; got 'dw'",
        ),
        (["--losses", "mse", "balanced(dwa, l1)"], "dwa needs a --loss with two or more terms"),
        (["--balance", "dwa"], 'write "balanced(METHOD, LOSS)" in --losses'),
        (["--loss", "l1"], "list the losses with --losses"),
        (["--learning-rate=0.1"], "--learning-rates"),
        (["--resume", "there"], "compare does not accept --resume"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--learning-rates", "0"], "--learning-rates must be more than 0"),
        (["--validation-data", "none"], "Use --validation-data"),
        (
            ["--primary-sigmas", "15"],
            "--primary-sigmas must be among --sigmas (25), each at most once; got 15",
        ),
        (["--margin", "0"], "--margin must be more than 0"),
    ],
)
def test_bad_input_is_named(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_members_of_a_seed_differ_only_in_loss_and_settings(tmp_path):
    fit = FitConfig(optimizer=OptimizerConfig(steps=7), seed=9)
    one, other = (
        dataclasses.asdict(Member(loss, 3, rate, clip).config(fit, tmp_path))
        for loss, rate, clip in (("l1", 1e-3, None), ("mse", 2e-3, 1.0))
    )
    assert one["seed"] == other["seed"] == 3
    for config, loss, rate, clip in ((one, "l1", 1e-3, None), (other, "mse", 2e-3, 1.0)):
        assert config["model"].pop("loss") == loss
        assert (
            config["optimizer"].pop("learning_rate") == rate
            and config["optimizer"].pop("clip_norm") == clip
        )
    assert one == other


def test_balanced_losses_work_like_others_and_have_one_spelling(tmp_path):
    losses = ("balanced( dwa )", "balanced(gradnorm,1*l1+ms_ssim)", "luminance_l1")
    spelled = CompareConfig(losses=losses).losses
    assert spelled == ("balanced(dwa)", "balanced(gradnorm, l1 + ms_ssim)", "luminance_l1")
    models = [Member(loss, 0, 1e-3, None).config(FitConfig(), tmp_path).model for loss in spelled]
    assert [(model.loss, model.balance) for model in models] == [
        ("luminance_l1", "dwa"),
        ("l1 + ms_ssim", "gradnorm"),
        ("luminance_l1", "none"),
    ]


def test_folders_of_members_are_told_apart():
    losses = ["l1", "balanced(dwa)", "balanced(gradnorm)", "0.5*l1 + 0.5*mse"]
    losses += ["luminance_l1(window_size=7)", "luminance_l1(window_size=9)"]
    names = [Member(loss, 0, 1e-3, clip).name for loss in losses for clip in (None, 1.0)]
    assert len(set(names)) == len(names) and all(
        "/" not in name and " " not in name for name in names
    )


def test_presets_say_what_they_are():
    assert set(COMPARE_PRESETS) == {
        "small",
        "scratch",
        "smoke",
        "paper-dncnn",
        "paper-buifd",
        "paper-retinexformer",
        "paper-nafnet",
        "paper-cidnet",
    }
    smoke, alone = COMPARE_PRESETS["smoke"].config.fit, PRESETS["smoke"].config
    assert dataclasses.replace(smoke, run=alone.run) == alone
    # Otherwise it would be unknown whether networks were still learning.
    for preset in COMPARE_PRESETS.values():
        assert preset.config.fit.run.validate_every <= 0.75 * preset.config.fit.optimizer.steps
    with pytest.raises(InputError, match="two or more"):
        CompareConfig(losses=())
