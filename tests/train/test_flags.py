"""With every preset, a flag changes its own field and nothing else."""

import dataclasses
from typing import Any

import pytest

from train.presets import COMPARE_PRESETS, PRESETS
from train.verbs import read_compare, read_fit

_FIT_FLAGS = {
    "--sigma=15": "data.sigma",
    "--blind": "data.blind",
    "--patch-size=64": "data.patch_size",
    "--loss=l1": "model.loss",
    "--loss=balanced(dwa, luminance_l1)": "model.balance",
    "--model=dncnn(depth=3)": "model.model",
    "--clip-norm=2": "optimizer.clip_norm",
    "--ema=0.5": "optimizer.ema",
    "--steps=77": "optimizer.steps",
    "--out=there": "run.out",
    "--seed=7": "seed",
}
_COMPARE_FLAGS = {
    "--sigma=15": "fit.data.sigma",
    "--blind": "fit.data.blind",
    "--sigmas=15": "sigmas",
    "--losses=l1,mse": "losses",
    "--learning-rates=0.5": "learning_rates",
    "--seeds=9": "seeds",
    "--steps=77": "fit.optimizer.steps",
}


def _leaves(tree: Any, name: str = "") -> dict[str, Any]:
    if not dataclasses.is_dataclass(tree):
        return {name: tree}
    found: dict[str, Any] = {}
    for field in dataclasses.fields(tree):
        found |= _leaves(getattr(tree, field.name), f"{name}.{field.name}".strip("."))
    return found


def _changed(before: Any, after: Any) -> set[str]:
    old, new = _leaves(before), _leaves(after)
    return {name for name in old if old[name] != new[name]}


@pytest.mark.parametrize("flag", _FIT_FLAGS)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_flag_of_fit_changes_its_own_field_alone(preset: str, flag: str) -> None:
    config, _ = read_fit([preset, flag])
    own = {_FIT_FLAGS[flag]} | ({"model.loss"} if "balanced" in flag else set())
    assert _changed(PRESETS[preset].config, config) <= own


@pytest.mark.parametrize("flag", _COMPARE_FLAGS)
@pytest.mark.parametrize("preset", COMPARE_PRESETS)
def test_a_flag_of_compare_changes_its_own_field_alone(preset: str, flag: str) -> None:
    config = read_compare([preset, *flag.replace("=", " ").replace(",", " ").split(" ")])
    assert _changed(COMPARE_PRESETS[preset].config, config) <= {_COMPARE_FLAGS[flag]}


@pytest.mark.parametrize("preset", COMPARE_PRESETS)
def test_networks_are_scored_at_the_noise_of_their_training(preset: str) -> None:
    plain = read_compare([preset])
    told = read_compare([preset, "--sigma=15"])
    assert told.fit.data.sigma == 15
    if COMPARE_PRESETS[preset].config.sigmas:
        assert told.levels == plain.levels == COMPARE_PRESETS[preset].config.sigmas
    else:
        assert told.levels == (15,)
        assert plain.levels == (plain.fit.data.sigma,)
    assert list(told.settings()["sigmas"]) == list(told.levels)
    assert read_compare([preset, "--sigma=15", "--sigmas", "5", "10"]).levels == (5, 10)
    assert read_compare([preset, "--sigma=15", "--primary-sigmas", "15"]).primary_sigmas == (15,)


def test_no_preset_balances_its_loss() -> None:
    """``--loss balanced(...)`` writes two fields, and ``--loss l1`` only one of them."""
    configs = [preset.config for preset in PRESETS.values()]
    configs += [preset.config.fit for preset in COMPARE_PRESETS.values()]
    assert {config.model.balance for config in configs} == {"none"}
