import dataclasses
import json
from pathlib import Path

import pytest

from train.config import (
    DataConfig,
    FitConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    load_config,
    save_config,
)
from train.errors import InputError
from train.network import parse_model
from train.presets import PRESETS, find_preset


def _profiled(first: int, last: int) -> FitConfig:
    return FitConfig(optimizer=OptimizerConfig(steps=1500), run=RunConfig(profile=(first, last)))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_the_way_to_disk_and_back(name: str, tmp_path: Path) -> None:
    config = find_preset(name)
    save_config(config, tmp_path / "config.json")
    assert load_config(tmp_path / "config.json") == config


def test_steps_of_the_schedule_survive_it_too(tmp_path: Path) -> None:
    config = FitConfig(optimizer=OptimizerConfig(schedule="step", decay_steps=(3, 5)))
    save_config(config, tmp_path / "config.json")
    assert load_config(tmp_path / "config.json") == config


@pytest.mark.parametrize(
    ("written", "loss", "balance"),
    [
        ("balanced(uncertainty)", "luminance_l1", "uncertainty"),
        (" balanced( gradnorm , 0.84*ms_ssim + 0.16*l1 ) ", "0.84*ms_ssim + 0.16*l1", "gradnorm"),
        ("balanced(dwa, luminance_l1(window_size=7))", "luminance_l1(window_size=7)", "dwa"),
    ],
)
def test_a_balanced_loss_is_a_loss_and_its_balance(
    written: str, loss: str, balance: str, tmp_path: Path
) -> None:
    config = FitConfig(model=ModelConfig(loss=written))
    assert config.model == ModelConfig(loss=loss, balance=balance)
    save_config(config, tmp_path / "config.json")
    assert load_config(tmp_path / "config.json") == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"loss": "balanced(luck)"},
            "balanced accepts the methods uncertainty, gradnorm, dwa, upgrad, .*; got 'luck'",
        ),
        ({"loss": "balanced(dwa)", "balance": "gradnorm"}, "contradict each other"),
        ({"loss": "balanced(dwa, l3)"}, "--loss: "),
        ({"loss": "balanced()"}, "--loss: "),
    ],
)
def test_a_balance_that_there_is_not_is_an_error(fields: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ModelConfig(**fields)


def test_an_unknown_key_is_an_error_with_the_nearest_name(tmp_path: Path) -> None:
    tree = dataclasses.asdict(FitConfig())
    tree["data"]["patch_sise"] = 8
    path = tmp_path / "config.json"
    path.write_text(json.dumps(tree))
    with pytest.raises(InputError, match="unknown key 'patch_sise'. Did you mean 'patch_size'"):
        load_config(path)


def test_a_folder_without_a_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a run's folder: it has no config.json"):
        load_config(tmp_path / "config.json")


def test_a_broken_configuration_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        load_config(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DataConfig(patch_size=0), "--patch-size must be at least 1; got 0"),
        (lambda: DataConfig(batch_size=0), "--batch-size must be at least 1"),
        (lambda: DataConfig(sigma=-1.0), "--sigma must be at least 0"),
        (lambda: DataConfig(sigma=float("nan")), "--sigma must be a finite number"),
        (lambda: OptimizerConfig(steps=0), "--steps must be at least 1"),
        (lambda: OptimizerConfig(learning_rate=0.0), "--learning-rate must be more than 0"),
        (lambda: OptimizerConfig(warmup_steps=-1), "--warmup-steps must be at least 0"),
        (lambda: OptimizerConfig(clip_norm=0.0), "--clip-norm must be more than 0"),
        (
            lambda: OptimizerConfig(schedule="step"),
            "--schedule step and --decay-steps belong together",
        ),
        (
            lambda: OptimizerConfig(decay_steps=(5,)),
            "--schedule step and --decay-steps belong together",
        ),
        (
            lambda: OptimizerConfig(weight_decay=0.1),
            "--weight-decay has no effect on adam. Use --optimizer adamw",
        ),
        (lambda: OptimizerConfig(ema=1.0), "--ema must be less than 1; got 1.0"),
        (lambda: OptimizerConfig(accumulate=0), "--accumulate must be at least 1"),
        (lambda: OptimizerConfig(max_skips=0), "--max-skips must be at least 1"),
        (lambda: ModelConfig(level_sigma=0.0), "--level-sigma must be more than 0"),
        (lambda: RunConfig(keep_last=0), "--keep-last must be at least 1"),
        (lambda: RunConfig(devices=0), "--devices must be at least 1"),
        (lambda: RunConfig(checkpoint_every=0), "--checkpoint-every must be at least 1"),
        (lambda: RunConfig(log_every=0), "--log-every must be at least 1"),
        (lambda: FitConfig(seed=-1), "--seed must be at least 0"),
        (
            lambda: _profiled(1501, 1510),
            "--profile 1501 1510 would trace nothing, because the run has 1500 steps",
        ),
        (lambda: ModelConfig(loss="luminence_l1"), "(?s)--loss: .*luminance_l1"),
        (lambda: ModelConfig(model="dncnn("), "--model must be a name"),
    ],
)
def test_values_that_make_no_sense_name_their_flag(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_a_profile_may_reach_beyond_the_last_step() -> None:
    assert _profiled(1500, 1510).run.profile == (1500, 1510)


def test_a_loss_has_one_spelling() -> None:
    assert ModelConfig(loss="luminance_l1( window_size = 7 )") == ModelConfig(
        loss="luminance_l1(window_size=7)"
    )


def test_a_model_is_a_name_or_a_call_with_plain_values() -> None:
    assert parse_model("dncnn") == ("dncnn", {})
    assert parse_model(" dncnn(depth=5, batch_norm=False) ") == (
        "dncnn",
        {"depth": 5, "batch_norm": False},
    )


@pytest.mark.parametrize(
    "text", ["", "dncnn(5)", "a.b(c=1)", "1 + 1", "dncnn(**{'depth': 5})", "dncnn)"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--model must be a name"):
        parse_model(text)


def test_code_in_a_model_spec_is_not_run() -> None:
    with pytest.raises(
        InputError, match="depth must be a number, a text or another literal; got print"
    ):
        parse_model("dncnn(depth=print('run'))")
