"""With every preset, a flag changes its own field and nothing else.

The help of a verb lists the flags that it accepts, and no others.
"""

import contextlib
import dataclasses
import functools
import io
import re
from typing import Any

import pytest

from train import verbs
from train.__main__ import main
from train.config import FitConfig, ModelConfig
from train.errors import InputError
from train.experiments.refused_flags import NOT_OF_COMPARE, NOT_OF_TUNE
from train.experiments.tune_config import TuneConfig
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


_NOT_OF = {"compare": NOT_OF_COMPARE, "tune": NOT_OF_TUNE}


@functools.cache
def _help(verb: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        main([*verb.split(), "--help"])
    # Without the frames around it, and without the ends of lines
    return " ".join(re.sub("[│╭╮╰╯─]", " ", printed.getvalue()).split())


@pytest.mark.parametrize(
    ("verb", "flag"), [(verb, flag) for verb, refused in _NOT_OF.items() for flag in refused]
)
def test_a_flag_that_is_refused_is_not_in_the_help(
    verb: str, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = rf"{flag}(, {flag.replace('--', '--no-')})? [A-Z{{]"
    assert re.search(listed, _help("fit"))
    assert not re.search(listed, _help(verb))
    for given in ([flag], [flag, "1"], [f"{flag}=1"], [f"--{flag[2:].replace('-', '_')}"]):
        assert main([verb, *given]) == 2
        assert f"error: {verb} does not accept {flag}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "verb",
    [*verbs.VERBS, *(f"study {part}" for part in ("create", "serve", "score", "export", "merge"))],
)
def test_no_default_is_empty_or_contradicts_the_text(verb: str) -> None:
    text = _help(verb)
    assert "(default: )" not in text and "(default: '')" not in text
    of_one_flag = r"Default: (?:(?!--[\w-]+ [A-Z{\[])[^()])*"
    assert not re.search(rf"{of_one_flag}\(default: None\)", text)


def test_the_weights_that_tune_searches_for_are_not_learned() -> None:
    fit = FitConfig(model=ModelConfig(balance="dwa"))
    with pytest.raises(InputError, match="--balance dwa learns the weights that tune searches"):
        TuneConfig(fit=fit)
