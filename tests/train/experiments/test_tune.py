import html
import json
import re

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from lumloss_jax import losses
from train import loop
from train.__main__ import main
from train.experiments import tune
from train.experiments.report.sensitivity import describe_effect
from train.experiments.statistics.comparison_table import read_scores
from train.experiments.tune_config import TuneConfig

TRIALS = 5


def trials_of(folder):
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "trials.log")))
    return optuna.load_study(study_name="tune", storage=storage).trials


@pytest.fixture(scope="module")
def flags(small_run):
    return (
        *small_run,
        f"--trials={TRIALS}",
        "--window-sizes=1",
        "3",
        "--penalties=l1",
        "--brightness=luma",
        "--seeds=1",
        "--seed=1",
    )


# Its only parameter makes every test that uses it slow: a fixture has no marks of its own.
@pytest.fixture(scope="module", params=[pytest.param("whole", marks=pytest.mark.slow)])
def found(flags, tmp_path_factory):
    """A search that was interrupted in the middle of its third trial, and then resumed."""
    folder = tmp_path_factory.mktemp("search") / "run"
    fit, runs = loop.fit, []

    def stopped(config, **options):
        runs.append(config)
        if len(runs) == 3:
            raise KeyboardInterrupt
        return fit(config, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "fit", stopped)
        assert main(["tune", *flags, "--out", str(folder)]) == 130
    assert len(trials_of(folder)) == 3
    assert main(["tune", *flags, "--out", str(folder)]) == 0
    return folder


def test_a_trial_that_was_interrupted_runs_again_as_the_same_one(found):
    states = [trial.state.name for trial in trials_of(found)]
    assert len(states) == TRIALS and set(states) <= {"COMPLETE", "PRUNED"}


def test_the_best_setting_is_written_as_a_loss_for_use(found):
    """It is the best one among the trials that finished."""
    result = json.loads((found / "found.json").read_text())
    (best,) = result["best"]
    complete = [trial for trial in trials_of(found) if trial.state.name == "COMPLETE"]
    params = max(complete, key=lambda trial: trial.value).params
    (term,) = losses.parse_loss(best).terms
    options = dict(term.options)
    assert options.get("luminance_weight", 0.5) == pytest.approx(params["luminance_weight"])
    assert options.get("color_weight", 0.5) == pytest.approx(1 - params["luminance_weight"])
    assert options.get("window_size", 1) == params["window_size"]


def test_only_settings_that_are_compared_see_test_photographs(found):
    result = json.loads((found / "found.json").read_text())
    tested = [read_scores(path)[0] for path in found.glob("members/*/test.csv")]
    assert {row.loss for row in tested} == {result["chosen"], "luminance_l1"}
    assert result["chosen"] == result["best"][0], (
        "the default must not be the best one here: use a different seed"
    )
    assert result["against_default"].startswith(f"{result['chosen']} against luminance_l1: PSNR")
    # The search uses seed 1: the setting was chosen because it did well with that seed.
    assert {row.seed for row in tested} == {2}


def test_each_setting_has_a_plot_and_an_answer(found):
    page = (found / "sensitivity.html").read_text(encoding="utf-8")
    plots = ("luminance-weight", "window-size", "penalty", "brightness")
    assert all(
        f'id="{name}" role="img" aria-label="PSNR: There are too few trials to say whether' in page
        for name in plots
    )
    assert (
        f"<title>Search over settings of the luminance loss: {TRIALS} trials</title>" in page
        and 'lang="en"' in page
    )
    assert json.loads((found / "found.json").read_text())["against_default"] in html.unescape(page)


def test_the_setting_that_matters_is_found():
    """The scores depend on the window only. With fewer than eight trials nothing is claimed."""
    config = TuneConfig(trials=60)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    for number in range(60):
        assert bool(tune.importances(study, config)) == (number >= 8)
        trial = study.ask()
        tune.suggest(trial, config)
        study.tell(trial, float(trial.params["window_size"]))
    shares = tune.importances(study, config)
    assert max(shares, key=shares.get) == "window_size" and sum(shares.values()) == pytest.approx(1)
    window, penalty = (
        describe_effect(name, study.trials, shares, 0) for name in ("window_size", "penalty")
    )
    assert (
        window.startswith("It seems to matter here (Kruskal-Wallis p = ")
        and "The means differ by up to 30: they are 1 for 1 (n = " in window
    )
    assert penalty.startswith("There is no sign that it matters here")
    weight = describe_effect("luminance_weight", study.trials, shares, 0)
    assert re.search("for the low third .* for the middle third .* for the high third ", weight)
    # The values are sorted by size, not as words.
    assert re.search("for 1 .* for 3 .* for 7 .* for 15 .* for 31 ", window)


def test_a_trial_that_falls_behind_is_stopped(flags, tmp_path, monkeypatch):
    """Each trial after the first seems to be behind. This is the shortest search with a result."""
    monkeypatch.setattr(optuna.Trial, "should_prune", lambda trial: trial.number > 0)
    folder = tmp_path / "run"
    assert main(["tune", *flags, "--trials=2", "--out", str(folder)]) == 0
    first, second = trials_of(folder)
    assert (first.state.name, second.state.name) == ("COMPLETE", "PRUNED")
    assert sorted(first.intermediate_values) == [2, 4] and sorted(second.intermediate_values) == [2]
    (best,) = json.loads((folder / "found.json").read_text())["best"]
    found = dict(losses.parse_loss(best).terms[0].options)["luminance_weight"]
    assert found == pytest.approx(first.params["luminance_weight"])


@pytest.mark.slow
def test_a_search_for_a_front_stops_no_trial_early(flags, tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(["tune", *flags, "--trials=2", "--pareto", "--out", str(folder)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"brightness error \|ΔL\*\| \d+\.\d{4}, chroma error \|ΔC\*\| \d+", said)
    assert "brightness_error" not in said and " minus that of the default. If lower" in said
    result = json.loads((folder / "found.json").read_text())
    trials = trials_of(folder)
    assert all(len(trial.values) == 2 and not trial.intermediate_values for trial in trials)
    assert 1 <= len(result["best"]) <= 2
    # Both errors are there, each with its interval.
    assert "luminance_l1: brightness error |ΔL*| " in result["against_default"]
    assert (
        "Exploratory metrics. Higher is better: PSNR " in result["against_default"]
        and "lower is better: CIEDE2000 " in result["against_default"]
        and "chroma error |ΔC*| " in result["against_default"]
    )
    assert 'id="front"' in (folder / "sensitivity.html").read_text(encoding="utf-8")


def finished_study(config, values):
    """A search with these values for these weights, from a dictionary or pairs of both.

    Everything else is as in the default setting.
    """
    study = optuna.create_study(directions=["minimize"] * 2 if config.pareto else ["maximize"])
    for weight, value in getattr(values, "items", lambda: values)():
        params = {
            "luminance_weight": weight,
            "window_size": 1,
            "penalty": "l1",
            "brightness": "luma",
        }
        study.enqueue_trial(params)
        trial = study.ask()
        tune.suggest(trial, config)
        study.tell(trial, value)
    return study


def test_if_the_default_came_first_the_next_is_compared_with_it():
    spec, why = tune.choose(
        finished_study(TuneConfig(), {0.5: 30.0, 0.2: 28.0, 0.7: 29.0}), TuneConfig()
    )
    assert "luminance_weight=0.7" in spec and why.startswith("The default setting came first")
    assert tune.choose(finished_study(TuneConfig(), {0.5: 30.0}), TuneConfig())[1].startswith(
        "There is nothing to compare"
    )
    assert tune.choose(finished_study(TuneConfig(), {0.2: 30.0, 0.5: 29.0}), TuneConfig())[1] == ""


def test_the_most_balanced_point_of_a_front_is_compared():
    """Out of errors (0, 10), (3, 2) and (10, 0) the second is chosen; no point is off the front."""
    config = TuneConfig(pareto=True)
    study = finished_study(
        config, {0.9: [0.0, 10.0], 0.7: [3.0, 2.0], 0.1: [10.0, 0.0], 0.3: [4.0, 4.0]}
    )
    spec, why = tune.choose(study, config)
    assert "luminance_weight=0.7" in spec
    assert why.startswith("This setting is the one of 3 on the Pareto front that is nearest")
    alone = finished_study(config, {0.7: [3.0, 2.0], 0.3: [4.0, 4.0]})
    assert tune.choose(alone, config)[1] == "This setting is the only one on the Pareto front."


def test_trying_a_setting_again_adds_no_evidence():
    """One of the best of nine settings is tried twenty more times."""
    config = TuneConfig()
    values = {weight / 20: 29 + (weight % 5) / 10 for weight in range(1, 18, 2)}
    once = finished_study(config, values).trials
    again = finished_study(config, [*values.items(), *20 * [(0.45, values[0.45])]]).trials
    assert len(again) == len(once) + 20
    said = describe_effect("luminance_weight", once, {}, 0)
    assert describe_effect("luminance_weight", again, {}, 0) == said
    assert re.search(
        r"Kruskal-Wallis p = [\d.]+, which is only descriptive, since the search chose what", said
    )
    few = finished_study(config, 8 * [(0.2, 30.0)] + [(0.7, 29.0)]).trials
    too_few = "Only 2 different combinations of settings were trained to the end. At least 8 are"
    assert too_few in describe_effect("luminance_weight", few, {}, 0)


@pytest.mark.parametrize("pareto", [False, True])
def test_a_setting_that_was_tried_twice_is_listed_once(pareto):
    config = TuneConfig(pareto=pareto)
    first, other = ([3.0, 2.0], [0.0, 10.0]) if pareto else (30.0, 29.0)
    study = finished_study(config, [(0.7, first), (0.9, other), (0.7, first)])
    assert len(study.best_trials) == 2 + pareto
    weights = [
        dict(losses.parse_loss(spec).terms[0].options)["luminance_weight"]
        for spec in tune.best_settings(study)
    ]
    assert weights == ([0.7, 0.9] if pareto else [0.7])
    assert not pareto or "the one of 2 on the Pareto front" in tune.choose(study, config)[1]


def test_a_resumed_search_counts_its_looks_at_test_photographs(
    flags, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(tune, "_run", lambda trial, *_: [float(trial.number)])
    monkeypatch.setattr(tune, "_against_default", lambda *_: "it is better.")
    folder = tmp_path / "run"
    chosen = []
    for trials, seeds, often in (
        (2, 1, "once so far"),
        (2, 1, "once so far"),
        (2, 3, "2 times so far"),
        (4, 3, "3 times so far"),
    ):
        assert (
            main(["tune", *flags, f"--trials={trials}", f"--seeds={seeds}", "--out", str(folder)])
            == 0
        )
        said = " ".join(capsys.readouterr().out.split())
        page = html.unescape((folder / "sensitivity.html").read_text(encoding="utf-8"))
        found = json.loads((folder / "found.json").read_text())
        assert f"on test photographs (used {often}): it is better." in said
        assert f"On test photographs (used {often}): it is better." in page
        assert found["looks"] == (1 if often == "once so far" else int(often[0]))
        chosen.append(found["chosen"])
    looks = [
        f"with {setting} and {seeds}"
        for setting, seeds in zip(
            (chosen[0], chosen[2], chosen[3]), ("1 seed", "3 seeds", "3 seeds"), strict=True
        )
    ]
    for text in (said, page):
        assert f"looked at {', then '.join(looks)}. Each look after the first is another" in text


def test_a_setting_that_diverges_counts_but_is_never_the_best(flags, tmp_path, capsys):
    rate = ["--learning-rate=1e25", "--max-skips=1"]
    command = ["tune", *flags, "--trials=2", *rate, "--out", str(tmp_path / "run")]
    assert main(command) == 2
    seen = capsys.readouterr()
    assert "All 2 settings diverged at learning rate 1e+25" in seen.err
    assert [trial.state.name for trial in trials_of(tmp_path / "run")] == ["PRUNED"] * 2
    assert main(command) == 2
    assert "training" not in capsys.readouterr().out  # it is not trained again


def test_settings_of_a_batch_are_chosen_before_any_is_judged(flags, tmp_path, monkeypatch):
    """Two run at a time, the third alone; the second is interrupted, and runs again."""
    seen = []

    def judged(trial, spec, *others):
        seen.append((spec, [other.state.name for other in trials_of(folder)]))
        if len(seen) == 2:
            raise KeyboardInterrupt
        return [float(trial.number)]

    folder = tmp_path / "run"
    monkeypatch.setattr(tune, "_run", judged)
    monkeypatch.setattr(tune, "_against_default", lambda *_: "")
    arguments = ["tune", *flags, "--trials=3", "--batch=2", "--out", str(folder)]
    assert main(arguments) == 130
    assert main(arguments) == 0
    (first, second, again, third), states = zip(*seen, strict=True)
    assert states == (
        ["RUNNING", "RUNNING"],
        ["COMPLETE", "RUNNING"],
        ["COMPLETE", "RUNNING"],
        ["COMPLETE", "COMPLETE", "RUNNING"],
    )
    assert len({first, second, third}) == 3 and again == second


@pytest.mark.slow
def test_settings_of_a_batch_train_at_once(flags, tmp_path):
    folder = tmp_path / "run"
    assert (
        main(["tune", *flags, "--trials=2", "--batch=2", "--population=vmap", "--out", str(folder)])
        == 0
    )
    assert [trial.state.name for trial in trials_of(folder)] == ["COMPLETE"] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "0"], "--batch must be at least 1"),
        (["--population", "vmap", "--devices", "2"], "Use --population mesh"),
        (["--trials", "0"], "--trials must be at least 1"),
        (["--luminance-weights", "0.5", "0.2"], "0 <= lowest < highest <= 1"),
        (["--window-sizes", "3", "4"], "odd numbers"),
        (["--loss", "l1"], "tune does not accept --loss"),
        (["--resume", "there"], "tune does not accept --resume"),
        (["--best-metric", "ssim"], "tune does not accept --best-metric: --objective names"),
        (["--model", "dncn"], "did you mean 'dncnn'"),
        (["--balance", "dwa"], "tune does not accept --balance: it searches for the weights"),
        (["--balance-rate", "1"], "--balance-rate: it belongs to --balance, which tune does not"),
    ],
)
def test_bad_input_is_named(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["tune", *arguments]) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_the_default_search_stays_within_what_the_loss_accepts():
    config = TuneConfig()
    for penalty in config.penalties:
        for brightness in config.brightness:
            losses.parse_loss(f"luminance_l1(penalty={penalty!r}, brightness={brightness!r})")
