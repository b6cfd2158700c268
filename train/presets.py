"""Named runs. Each says what it is for, on what, how long it takes and what score to expect."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from train.config import DataConfig, FitConfig, ModelConfig, OptimizerConfig, RunConfig
from train.errors import InputError
from train.experiments.compare_config import CompareConfig


@dataclass(frozen=True)
class Preset:
    """A configuration and what a newcomer wants to know before starting it."""

    summary: str
    config: FitConfig


@dataclass(frozen=True)
class ComparePreset:
    """The same for a comparison."""

    summary: str
    config: CompareConfig


PRESETS = {
    "default": Preset("small DnCNN, sigma 25, packaged photographs; minutes on 2 CPU cores", FitConfig()),
    "smoke": Preset(
        "the whole way in seconds, to see that everything works; the result is poor",
        FitConfig(
            data=DataConfig(patch_size=24, batch_size=8),
            model=ModelConfig(model="dncnn(depth=3, features=8, batch_norm=False)"),
            optimizer=OptimizerConfig(steps=30, warmup_steps=5),
            run=RunConfig(checkpoint_every=10, log_every=5),
        ),
    ),
    "dncnn": Preset(
        "DnCNN at its published size, 17 layers of 64 features, batch norm; for a GPU or TPU and --data folder:PATH",
        FitConfig(
            data=DataConfig(patch_size=40, batch_size=128),
            model=ModelConfig(model="dncnn(depth=17, features=64)"),
            optimizer=OptimizerConfig(steps=100_000, learning_rate=1e-3, warmup_steps=1000),
            run=RunConfig(checkpoint_every=5000, log_every=100),
        ),
    ),
}


COMPARE_PRESETS = {
    "small": ComparePreset(
        "small DnCNN, three losses, three seeds, packaged photographs; about half an hour on 2 CPU cores",
        CompareConfig(fit=FitConfig(optimizer=OptimizerConfig(steps=1000), run=RunConfig(validate_every=125))),
    ),
    "smoke": ComparePreset(
        "the whole way in a minute, to see that everything works; the result says nothing",
        CompareConfig(
            losses=("luminance_l1", "l1"),
            seeds=2,
            learning_rates=(2e-3,),
            clip_norms=(),
            crops=1,
            fit=PRESETS["smoke"].config,
        ),
    ),
}


def find_preset(name: str) -> FitConfig:
    """The configuration of ``fit`` of that name."""
    return PRESETS[_known(name, PRESETS)].config


def find_compare_preset(name: str) -> CompareConfig:
    """The configuration of ``compare`` of that name."""
    return COMPARE_PRESETS[_known(name, COMPARE_PRESETS)].config


def _known(name: str, presets: Iterable[str]) -> str:
    presets = list(presets)
    if name not in presets:
        near = difflib.get_close_matches(name, presets, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(f"There is no preset {name!r}.{hint} Presets: {', '.join(presets)}.")
    return name
