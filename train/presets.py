"""Named runs. Each says what it is for and where it runs, and its time and result if it was run."""

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass

from train.config import DataConfig, FitConfig, ModelConfig, OptimizerConfig, RunConfig
from train.errors import InputError, did_you_mean
from train.experiments.compare_config import CompareConfig


@dataclass(frozen=True)
class Preset:
    """A configuration, and what a newcomer wants to know before starting it."""

    summary: str
    config: FitConfig


@dataclass(frozen=True)
class ComparePreset:
    """A configuration of a comparison, and what a newcomer wants to know before starting it."""

    summary: str
    config: CompareConfig


# The photographs of published set-ups. They are expected in folders of these names in the working
# directory, unless flags name other ones.
_CBSD = DataConfig(
    source="folder:CBSD432",
    test_source="folder:CBSD68",
    patch_size=50,
    batch_size=128,
    sigma=75.0,
    blind=True,
)
# 50 epochs of 3,834 batches of colour patches. The learning rate falls to a tenth after 30 epochs.
_BUIFD_OPTIMIZER = OptimizerConfig(
    steps=191_700, learning_rate=1e-3, schedule="buifd", warmup_steps=0
)
_LONG = RunConfig(checkpoint_every=5000, validate_every=5000, log_every=100)

PRESETS = {
    "default": Preset(
        "A small DnCNN for noise of sigma 25, on the photographs in scikit-image. It trains in "
        "153 s on 2 CPU cores and reaches 31.34 dB on chelsea and 29.31 dB on coffee.",
        FitConfig(),
    ),
    "smoke": Preset(
        "All stages in a few seconds, to check that everything works. The result is poor.",
        FitConfig(
            data=DataConfig(patch_size=24, batch_size=8),
            model=ModelConfig(model="dncnn(depth=3, features=8, batch_norm=False)"),
            optimizer=OptimizerConfig(steps=30, warmup_steps=5),
            run=RunConfig(checkpoint_every=10, log_every=5),
        ),
    ),
    "dncnn": Preset(
        "DnCNN at its published size: 17 layers, 64 features, batch norm. This preset needs "
        "a GPU or TPU, and your photographs in --data folder:PATH.",
        FitConfig(
            data=DataConfig(patch_size=40, batch_size=128),
            model=ModelConfig(model="dncnn(depth=17, features=64)"),
            optimizer=OptimizerConfig(steps=100_000, learning_rate=1e-3, warmup_steps=1000),
            run=RunConfig(checkpoint_every=5000, log_every=100),
        ),
    ),
    "paper-dncnn": Preset(
        "The blind DnCNN for colour as El Helou and Suesstrunk trained it on CBSD432. "
        "This preset needs a GPU or TPU. It has never been run.",
        FitConfig(
            data=dataclasses.replace(_CBSD, sigma=55.0),
            model=ModelConfig(model='dncnn(depth=20, initializer="buifd")', loss="mse"),
            optimizer=_BUIFD_OPTIMIZER,
            run=_LONG,
        ),
    ),
    "paper-buifd": Preset(
        "BUIFD as published, for noise up to sigma 75, on CBSD432. This preset needs a GPU or "
        "TPU. It has never been run.",
        FitConfig(
            data=_CBSD,
            model=ModelConfig(model="buifd", loss="mse", level_weight=1.0, level_sigma=75.0),
            optimizer=_BUIFD_OPTIMIZER,
            run=_LONG,
        ),
    ),
    "paper-retinexformer": Preset(
        "Retinexformer as published for LOL-v1, but without its mixup. This preset needs a GPU "
        "or TPU. It has never been run. On 2 busy CPU cores, compiling it for a TPU v5e was "
        "stopped, unfinished, after more than an hour.",
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
    "paper-nafnet": Preset(
        "NAFNet of width 32 as published for SIDD, trained on SIDD's pieces of 512x512 pixels. "
        "Unlike the original, it also mirrors and rotates patches. This preset needs a GPU or TPU. "
        "It has never been run.",
        FitConfig(
            data=DataConfig(
                source="pairs:SIDD/train/input_crops,SIDD/train/gt_crops",
                test_source="pairs:SIDD/val/input_crops,SIDD/val/gt_crops",
                patch_size=256,
                batch_size=32,
            ),
            model=ModelConfig(model="nafnet", loss="psnr"),
            optimizer=OptimizerConfig(
                steps=200_000,
                learning_rate=1e-3,
                schedule="nafnet",
                warmup_steps=0,
                optimizer="adamw",
                beta2=0.9,
                clip_norm=0.01,
            ),
            run=_LONG,
        ),
    ),
    "paper-cidnet": Preset(
        "HVI-CIDNet as its authors' code trains it on LOL-v1, with three changes: the loss has "
        "no VGG term, patches are also rotated, and the loss uses a fixed k of 0.2 for the HVI "
        "colour space. This preset needs a GPU or TPU. It has never been run.",
        FitConfig(
            data=DataConfig(
                source="pairs:LOLv1/Train/input,LOLv1/Train/target",
                test_source="pairs:LOLv1/Test/input,LOLv1/Test/target",
                patch_size=256,
                batch_size=8,
            ),
            model=ModelConfig(model="cidnet", loss="cidnet"),
            # 1000 epochs of 61 batches
            optimizer=OptimizerConfig(
                steps=61_000, learning_rate=1e-4, schedule="cidnet", warmup_steps=0
            ),
            run=_LONG,
        ),
    ),
}


def _paper(name: str, clip_norm: float | None, *, sigmas: tuple[float, ...] = ()) -> ComparePreset:
    """A comparison of losses on a published set-up.

    The learning rates are half, once and twice the published one, which was chosen for the
    published loss.
    """
    preset = PRESETS[name]
    rate = preset.config.optimizer.learning_rate
    set_up = re.sub("^The ", "the ", preset.summary)
    # Clipping is tried for each loss, as the learning rates are.
    optimizer = dataclasses.replace(preset.config.optimizer, clip_norm=None)
    return ComparePreset(
        f"Three losses with three seeds. Each run is the preset {name} of fit: {set_up}",
        CompareConfig(
            sigmas=sigmas,
            learning_rates=(rate / 2, rate, 2 * rate),
            clip_norms=() if clip_norm is None else (clip_norm,),
            fit=dataclasses.replace(preset.config, optimizer=optimizer),
        ),
    )


COMPARE_PRESETS = {
    "small": ComparePreset(
        "Three losses with three seeds. Each run fine-tunes the bundled network denoiser-2 for 400 "
        "updates on photographs in scikit-image, and is tested on eight pictures of scikit-image, "
        "scikit-learn and matplotlib.",
        CompareConfig(
            clip_norms=(),
            fit=FitConfig(
                data=DataConfig(source="samples"),
                model=ModelConfig(init_from="denoiser-2"),
                optimizer=OptimizerConfig(steps=400),
                run=RunConfig(validate_every=100),
            ),
        ),
    ),
    "scratch": ComparePreset(
        "Three losses with three seeds. Each run trains a small DnCNN from random weights, on the "
        "photographs in scikit-image. This preset took 3,992 s on 2 busy CPU cores. "
        "It has two test photographs, too few for a verdict: give --data or --test-data.",
        CompareConfig(
            fit=FitConfig(optimizer=OptimizerConfig(steps=1000), run=RunConfig(validate_every=125))
        ),
    ),
    "smoke": ComparePreset(
        "All stages in a few minutes, to check that everything works. The result means nothing.",
        CompareConfig(
            losses=("luminance_l1", "l1"),
            seeds=2,
            learning_rates=(2e-3,),
            clip_norms=(),
            crops=1,
            # There are validations before the last quarter too. Without them nobody could say
            # whether the networks were still learning.
            fit=dataclasses.replace(
                PRESETS["smoke"].config,
                run=dataclasses.replace(PRESETS["smoke"].config.run, validate_every=10),
            ),
        ),
    ),
    "paper-dncnn": _paper("paper-dncnn", 1.0, sigmas=(15.0, 25.0, 50.0)),
    "paper-buifd": _paper("paper-buifd", 1.0, sigmas=(15.0, 25.0, 50.0, 75.0)),
    "paper-retinexformer": _paper("paper-retinexformer", 0.01),
    "paper-nafnet": _paper("paper-nafnet", 0.01),
    "paper-cidnet": _paper("paper-cidnet", None),
}


def find_preset(name: str) -> FitConfig:
    """Returns the preset of ``fit`` with this name."""
    return PRESETS[_known(name, PRESETS)].config


def find_compare_preset(name: str) -> CompareConfig:
    """Returns the preset of ``compare`` with this name."""
    return COMPARE_PRESETS[_known(name, COMPARE_PRESETS)].config


def _known(name: str, presets: Iterable[str]) -> str:
    presets = list(presets)
    if name not in presets:
        hint = did_you_mean(name, presets)
        raise InputError(f"There is no preset {name!r}.{hint} Presets: {', '.join(presets)}.")
    return name
