"""Named runs. Each says what it is for, on what, how long it takes and what score to expect."""

import difflib
from dataclasses import dataclass

from train.config import DataConfig, FitConfig, ModelConfig, OptimizerConfig, RunConfig
from train.errors import InputError


@dataclass(frozen=True)
class Preset:
    """A configuration and what a newcomer wants to know before starting it."""

    summary: str
    config: FitConfig


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


def find_preset(name: str) -> FitConfig:
    """The configuration of that name."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(f"There is no preset {name!r}.{hint} Presets: {', '.join(PRESETS)}.")
    return PRESETS[name].config
