"""Networks of an experiment: which one is scored, and what is kept when a training starts again."""

import io
import json
import os
import shutil
import signal

import pytest
from rich.console import Console

from train import assembly
from train.__main__ import main
from train.errors import InputError
from train.experiments.networks.members import Member, Members
from train.validation import Validator

MEMBER = Member("l1", 0, 1e-3, None)


@pytest.fixture(scope="module")
def trained(small_fit, splits, tmp_path_factory):
    """A folder with one trained network, and its scores."""
    folder = tmp_path_factory.mktemp("members")
    return folder, scores_of(Members(folder, small_fit(), Console(quiet=True)), splits)


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of that network's folder, which a test may damage."""
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    return tmp_path / MEMBER.name


@pytest.fixture
def members(small_fit, tmp_path):
    return Members(tmp_path, small_fit(), Console(quiet=True))


def scores_of(members, splits, *, metrics=("psnr", "ssim")):
    return members.train_and_score(
        MEMBER, splits.test, "test", sigmas=(25.0,), draws=1, metrics=metrics
    )


def test_networks_of_different_settings_have_different_folders():
    rates = (1e-3, 1.0000001e-3, 0.1 + 0.2, 0.3)
    names = {Member("l1", 0, rate, clip).name for rate in rates for clip in (None, *rates)}
    assert len(names) == 20
    # Folders of earlier versions have this name.
    assert Member("l1", 0, 2e-3, 1.0).name.endswith("-lr0.002-clip1-seed0")


@pytest.mark.parametrize(
    "planted",
    [
        '{"seconds": 5.0, "steps": 1' + 400 * "0" + "}",
        '{"seconds": 5.0, "steps": 0}',
        '{"seconds": 5.0, "steps": -7}',
        '{"seconds": -5.0, "steps": 7}',
        '{"seconds": 1e308, "steps": 7}',
        '{"seconds": NaN, "steps": 7}',
        '{"seconds": 1' + 400 * "0" + ', "steps": 7}',
    ],
)
def test_a_cost_that_no_training_has_is_not_counted(planted, members, tmp_path):
    other = Member("mse", 0, 1e-3, None)
    for member, cost in ((MEMBER, planted), (other, '{"seconds": 3.5, "steps": 7}')):
        (tmp_path / member.name).mkdir()
        (tmp_path / member.name / "cost.json").write_text(cost)
    assert members.cost([MEMBER, other]) == (3.5, 7)


def test_only_the_network_of_the_last_step_is_scored(members, folder, splits, trained):
    """If its checkpoint is damaged, training resumes from the one before, to the same bits."""
    (folder / "test.csv").unlink()
    (folder / "checkpoints" / "4" / "about" / "metadata").write_text("{}")
    assert scores_of(members, splits) == trained[1]
    assert (folder / "broken_checkpoints" / "4").is_dir()


def test_a_network_has_the_bits_that_fit_gives_it_and_fit_resumes_it(
    members, small_fit, small_run, tmp_path
):
    first, second = MEMBER, Member("l1", 1, 3e-3, 0.05)
    assert members.ensure_trained(first)
    # The second one uses the compiled step of the first, and is stopped.
    assert not members.ensure_trained(second, watch=lambda step, scores: step == 2)
    assert main(["fit", "--resume", str(tmp_path / second.name)]) == 0
    assembly._programs.cache_clear()
    flags = ("--loss=l1", "--seed=1", "--learning-rate=3e-3", "--clip-norm=0.05")
    assert main(["fit", "smoke", *small_run, *flags, f"--out={tmp_path / 'alone'}"]) == 0
    found = []
    for name in (second.name, "alone"):
        about = tmp_path / name / "checkpoints" / "4" / "about" / "metadata"
        found.append(json.loads(about.read_text())["digests"])
    assert found[0] == found[1]


def test_a_network_is_resumed_as_its_step_was_compiled_before(members, folder):
    """Earlier versions compiled it in a different way, and did not record it."""
    assert members._resume_config(MEMBER)[0].run.cpu_step == "fast"
    path = folder / "config.json"
    tree = json.loads(path.read_text())
    tree["run"]["cpu_step"] = "plain"
    path.write_text(json.dumps(tree))
    assert members._resume_config(MEMBER)[0].run.cpu_step == "plain"


@pytest.mark.parametrize("whole", [False, True])
def test_nothing_is_removed_behind_a_link(whole, small_fit, splits, tmp_path):
    """A folder may be a link that a stranger planted; what cannot resume would be cleared."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "thesis.tex").write_text("years of work")
    folder = tmp_path / "comparison" / "members"
    if whole:
        folder.parent.mkdir()
        folder.symlink_to(elsewhere, target_is_directory=True)
    else:
        folder.mkdir(parents=True)
        (folder / MEMBER.name).symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(InputError, match="is a link to .*elsewhere, outside the run"):
        scores_of(Members(folder, small_fit(), Console(quiet=True)), splits)
    assert [path.name for path in elsewhere.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("population", ["loop", "vmap", "mesh"])
@pytest.mark.parametrize("part", ["checkpoints", "tensorboard", "profile/plugins"])
def test_nothing_is_written_or_removed_behind_a_link_in_a_networks_folder(
    part, population, small_fit, folder, tmp_path_factory
):
    """Resuming deletes old checkpoints, and cuts event files back."""
    (folder / "done").unlink()
    shutil.rmtree(folder / "checkpoints" / "4")
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "part"
    if (folder / part).exists():
        (folder / part).rename(elsewhere)
    else:
        elsewhere.mkdir()
        (folder / part).parent.mkdir()
    (folder / part).symlink_to(elsewhere, target_is_directory=True)
    before = contents(elsewhere)
    assert before or part == "profile/plugins"
    fit = small_fit("--keep-last=1", "--keep-best=0")
    members = Members(folder.parent, fit, Console(quiet=True), population=population)
    with pytest.raises(InputError, match="is a link to .*part, outside the run"):
        members.ensure_all_trained([MEMBER])
    assert contents(elsewhere) == before


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_mark_of_a_trained_network_is_not_written_via_a_link(members, folder, tmp_path):
    (folder / "done").unlink()
    (folder / "done").symlink_to(tmp_path / "elsewhere")
    assert members.ensure_trained(MEMBER)
    assert (folder / "done").is_file() and not (folder / "done").is_symlink()
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("population", [pytest.param("loop", marks=pytest.mark.slow), "vmap"])
def test_a_signal_is_answered_with_how_to_resume_the_experiment(
    population, small_fit, tmp_path, monkeypatch, capsys
):
    """``fit --resume`` with the member's folder would resume only a part of the experiment."""
    experiment, validate, signals = tmp_path / "the run", Validator.__call__, [signal.SIGTERM]

    def struck(self, *weights):
        if signals:
            os.kill(os.getpid(), signals.pop())
        return validate(self, *weights)

    monkeypatch.setattr(Validator, "__call__", struck)
    printed = io.StringIO()
    console = Console(file=printed, width=500)
    members = Members(experiment / "members", small_fit(), console, population=population)
    with pytest.raises(SystemExit):
        members.ensure_all_trained([MEMBER])
    said = (printed.getvalue() + capsys.readouterr().out).splitlines()
    assert f"to resume: repeat the command with --out '{experiment}'" in said
    assert not [line for line in said if "fit --resume" in line]


def test_a_kill_before_the_verdict_on_scores_that_are_not_finite(members, folder, splits):
    """Only the table was written, from which it is found out that the network diverged."""
    table = (folder / "test.csv").read_text().splitlines()
    cells = table[1].split(",")
    cells[table[0].split(",").index("psnr")] = "nan"
    (folder / "test.csv").write_text("\n".join([table[0], ",".join(cells), *table[2:]]) + "\n")
    assert scores_of(members, splits) == [] and members.diverged(MEMBER)


@pytest.mark.parametrize("lacks", ["column", "cell"])
def test_a_table_without_a_metric_is_made_again_as_a_whole(
    lacks, folder, small_fit, splits, trained
):
    """Earlier versions had fewer metrics; the network is there, so it is scored, not trained."""
    path = folder / "test.csv"
    header, first, *others = [line.split(",") for line in path.read_text().splitlines()]
    kept = slice(0, header.index("ssim"))
    if lacks == "column":
        lines = [line[kept] for line in (header, first, *others)]
    else:
        lines = [header, [*first[kept], ""], *others]
    lines[-1][header.index("psnr")] = "12.5"  # no score of the old table survives
    path.write_text("".join(f"{','.join(line)}\n" for line in lines))
    printed = io.StringIO()
    members = Members(folder.parent, small_fit(), Console(file=printed, width=500))
    assert scores_of(members, splits) == trained[1]
    assert printed.getvalue() == f"{path} does not have SSIM, so the network is scored again.\n"
    assert scores_of(members, splits, metrics=("psnr",)) == trained[1]  # more does no harm
    assert printed.getvalue().count("\n") == 1


def test_a_table_that_lost_rows_is_not_taken_for_the_scores(members, folder, splits):
    table = (folder / "test.csv").read_text()
    (folder / "test.csv").write_text("".join(table.splitlines(keepends=True)[:-1]))
    with pytest.raises(
        InputError, match="test.csv has 9 rows, which are not the 10 rows for these photographs"
    ):
        scores_of(members, splits)
    (folder / "test.csv").rename(folder / "moved.csv")
    scores_of(members, splits)
    assert (folder / "test.csv").read_text() == table


def test_damaged_checkpoints_are_kept_when_training_starts_again(members, folder):
    (folder / "done").unlink()
    (folder / "checkpoints").rename(folder / "broken_checkpoints")
    assert members.ensure_trained(MEMBER)
    assert {path.name for path in (folder / "broken_checkpoints").iterdir()} == {"2", "4"}
    assert (folder / "checkpoints" / "4").is_dir()


def test_the_curve_leaves_out_validations_that_are_not_finite(members, folder):
    lines = [
        {"step": 1, "validation/psnr": 20.0},
        {"step": 2},
        {"step": 3, "validation/psnr": None},
        {"step": 4, "validation/psnr": float("nan")},
        {"step": 4, "validation/psnr": float("inf")},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    curve = members.curve(MEMBER)
    assert (curve.steps, curve.psnr) == ([1], [20.0])
    assert members.validations(MEMBER, "psnr") == {1: 20.0}
