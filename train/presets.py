"""Named runs. Each says what it is for, on what, and, if it was run, its time and result."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from train.config import DataConfig, FitConfig, ModelConfig, OptimizerConfig, RunConfig
from train.errors import InputError, did_you_mean
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


# Of published set-ups: photographs, in folders of these names where the command is given, or named
# by flags.
_CBSD = DataConfig(
    source="folder:CBSD432",
    test_source="folder:CBSD68",
    patch_size=50,
    batch_size=128,
    sigma=75.0,
    blind=True,
)
# 50 epochs of 3,834 batches of colour patches; a tenth of the rate after 30 of them.
_BUIFD_OPTIMIZER = OptimizerConfig(
    steps=191_700, learning_rate=1e-3, schedule="buifd", warmup_steps=0
)
_LONG = RunConfig(checkpoint_every=5000, validate_every=5000, log_every=100)

PRESETS = {
    "default": Preset(
        "small DnCNN, sigma 25, packaged photographs; 123 s of training on 2 CPU cores: chelsea "
        "31.42 dB, coffee 29.39",
        FitConfig(),
    ),
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
        "DnCNN at its published size, 17 layers of 64 features, batch norm; for a GPU or TPU and "
        "--data folder:PATH",
        FitConfig(
            data=DataConfig(patch_size=40, batch_size=128),
            model=ModelConfig(model="dncnn(depth=17, features=64)"),
            optimizer=OptimizerConfig(steps=100_000, learning_rate=1e-3, warmup_steps=1000),
            run=RunConfig(checkpoint_every=5000, log_every=100),
        ),
    ),
    "paper-dncnn": Preset(
        "blind DnCNN as El Helou and Suesstrunk trained it on colour, on CBSD432; for a GPU or "
        "TPU, never run",
        FitConfig(
            data=dataclasses.replace(_CBSD, sigma=55.0),
            model=ModelConfig(model='dncnn(depth=20, initializer="buifd")', loss="mse"),
            optimizer=_BUIFD_OPTIMIZER,
            run=_LONG,
        ),
    ),
    "paper-buifd": Preset(
        "BUIFD as published, noise up to sigma 75, on CBSD432; for a GPU or TPU, never run",
        FitConfig(
            data=_CBSD,
            model=ModelConfig(model="buifd", loss="mse", level_weight=1.0, level_sigma=75.0),
            optimizer=_BUIFD_OPTIMIZER,
            run=_LONG,
        ),
    ),
    "paper-retinexformer": Preset(
        "Retinexformer as published for LOL-v1, but without its mixup; for a GPU or TPU, never "
        "run; compiling it for a TPU v5e did not end within an hour on 2 busy CPU cores",
        FitConfig(
            data=DataConfig(
                source="pairs:LOLv1/Train/input,LOLv1/Train/target",
                test_source="pairs:LOLv1/Test/input,LOLv1/Test/target",
                patch_size=128,
                batch_size=8,
            ),
            model=ModelConfig(model="retinexformer", loss="l1"),
            optimizer=OptimizerConfig(
                steps=150_000,
                learning_rate=2e-4,
                schedule="retinexformer",
                warmup_steps=0,
                clip_norm=0.01,
            ),
            run=_LONG,
        ),
    ),
}


def _paper(name: str, clip_norm: float, *, sigmas: tuple[float, ...] = ()) -> ComparePreset:
    """A comparison of losses on a published set-up.

    Learning rates are half, once and twice the published one, which was chosen for the published
    loss.
    """
    preset = PRESETS[name]
    rate = preset.config.optimizer.learning_rate
    # Tried for each loss, as the rates are
    optimizer = dataclasses.replace(preset.config.optimizer, clip_norm=None)
    return ComparePreset(
        f"three losses, three seeds; {preset.summary}",
        CompareConfig(
            sigmas=sigmas,
            learning_rates=(rate / 2, rate, 2 * rate),
            clip_norms=(clip_norm,),
            fit=dataclasses.replace(preset.config, optimizer=optimizer),
        ),
    )


COMPARE_PRESETS = {
    "small": ComparePreset(
        "small DnCNN, three losses, three seeds, packaged photographs; 3,992 s on 2 busy CPU cores",
        CompareConfig(
            fit=FitConfig(optimizer=OptimizerConfig(steps=1000), run=RunConfig(validate_every=125))
        ),
    ),
    "smoke": ComparePreset(
        "the whole way in a minute, to see that everything works; the result says nothing",
        CompareConfig(
            losses=("luminance_l1", "l1"),
            seeds=2,
            learning_rates=(2e-3,),
            clip_norms=(),
            crops=1,
            # Validated before its last quarter too: else nobody could say whether the networks were
            # still learning.
            fit=dataclasses.replace(
                PRESETS["smoke"].config,
                run=dataclasses.replace(PRESETS["smoke"].config.run, validate_every=10),
            ),
        ),
    ),
    "paper-dncnn": _paper("paper-dncnn", 1.0, sigmas=(15.0, 25.0, 50.0)),
    "paper-buifd": _paper("paper-buifd", 1.0, sigmas=(15.0, 25.0, 50.0, 75.0)),
    "paper-retinexformer": _paper("paper-retinexformer", 0.01),
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
        hint = did_you_mean(name, presets)
        raise InputError(f"There is no preset {name!r}.{hint} Presets: {', '.join(presets)}.")
    return name
