"""The verbs of ``python -m train VERB``. Each has a function that reads its flags and runs it.

The docstrings of these functions are help texts.
"""

import dataclasses
import itertools
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import jax
import tyro

from train.bounds import check_name
from train.config import FitConfig
from train.console import complain, make_console
from train.errors import InputError, did_you_mean, list_some, needs_extra
from train.experiments.compare_config import CompareConfig
from train.experiments.refused_flags import (
    NOT_OF_COMPARE,
    NOT_OF_TUNE,
    refuse,
    registry_without,
)
from train.experiments.tune_config import TuneConfig
from train.files.trust import why_untrusted
from train.presets import COMPARE_PRESETS, PRESETS, find_compare_preset, find_preset


def fit(arguments: list[str]) -> None:
    """Train a network, evaluate it on photographs that it never saw, and write a report."""
    config, preset = read_fit(arguments)
    from train import loop  # Its imports take seconds, so the arguments are checked first.

    loop.fit(config, preset=preset)


def read_fit(arguments: list[str]) -> tuple[FitConfig, str]:
    """Returns the configuration of a run, and the name of the preset that it starts from."""
    _check_pairs(arguments)
    named = arguments.pop(0) if arguments and not arguments[0].startswith("-") else None
    preset = named or "default"
    resumed = _value_of("--resume", arguments)
    if resumed:
        _check_resumed(resumed, named, _value_of("--out", arguments))
    defaults = _load_resumed(Path(resumed)) if resumed else find_preset(preset)
    presets = "\n\n".join(f"{name}: {preset.summary}" for name, preset in PRESETS.items())
    config = tyro.cli(
        tyro.conf.OmitArgPrefixes[FitConfig],
        prog="python -m train fit [PRESET]",
        description=f"{fit.__doc__}\n\n{_PRESETS}\n\n{presets}",
        args=arguments,
        default=defaults,
    )
    if resumed:
        _check_unchanged(defaults, config)
    return config, preset


def compare(arguments: list[str]) -> None:
    """Train a network with each loss, and test whether the first loss is better than the others."""
    command = ["python", "-m", "train", "compare", *arguments]
    config = read_compare(arguments)
    with needs_extra("compare", "compare", _EXTRA):
        from train.experiments import compare as comparison
        from train.experiments import plan
    if config.plan:
        plan.plan(config)
    else:
        comparison.compare(config, shlex.join(command))


def read_compare(arguments: list[str]) -> CompareConfig:
    """Returns the configuration of a comparison."""
    _check_pairs(arguments)
    preset = arguments.pop(0) if arguments and not arguments[0].startswith("-") else "small"
    refuse("compare", NOT_OF_COMPARE, arguments)
    _check_one_start(arguments)
    if _value_of("--steps", arguments) and _value_of("--lengths", arguments):
        raise InputError("--lengths replaces --steps. Give only one of them.")
    presets = "\n\n".join(f"{name}: {preset.summary}" for name, preset in COMPARE_PRESETS.items())
    return tyro.cli(
        tyro.conf.OmitArgPrefixes[CompareConfig],
        prog="python -m train compare [PRESET]",
        description=f"{compare.__doc__}\n\n{_PRESETS}\n\n{presets}",
        args=arguments,
        default=find_compare_preset(preset),
        registry=registry_without(NOT_OF_COMPARE),
    )


def tune(arguments: list[str]) -> None:
    """Search for the best weight, window, penalty and brightness signal of the luminance loss."""
    config = read_tune(arguments)
    with needs_extra("tune", "compare", _EXTRA):
        from train.experiments import tune as search

    search.tune(config)


def read_tune(arguments: list[str]) -> TuneConfig:
    """Returns the configuration of a search."""
    _check_pairs(arguments)
    refuse("tune", NOT_OF_TUNE, arguments)
    return tyro.cli(
        tyro.conf.OmitArgPrefixes[TuneConfig],
        prog="python -m train tune",
        description=tune.__doc__,
        args=arguments,
        registry=registry_without(NOT_OF_TUNE),
    )


def compile_(arguments: list[str]) -> None:
    """Compile a training step for a TPU or GPU, present or not, and report its memory use."""
    _check_pairs(arguments)
    preset = arguments.pop(0) if arguments and not arguments[0].startswith("-") else "default"
    from train.compilation import aot

    config = tyro.cli(
        tyro.conf.OmitArgPrefixes[aot.CompileConfig],
        prog="python -m train compile [PRESET]",
        description=f"{compile_.__doc__}\n\nPresets (the same as for fit): {', '.join(PRESETS)}.",
        args=arguments,
        default=aot.CompileConfig(fit=find_preset(preset)),
    )
    aot.report(config)


def import_(arguments: list[str]) -> None:
    """Convert weights trained with PyTorch to a checkpoint that all other verbs can load."""
    from train.pytorch import import_weights

    config = tyro.cli(import_weights.ImportConfig, prog="python -m train import", args=arguments)
    import_weights.import_weights(config)


def restore(arguments: list[str]) -> int:
    """Restore photographs with a trained network."""
    from train.inference import restore

    config = tyro.cli(restore.RestoreConfig, prog="python -m train restore", args=arguments)
    return restore.restore(config)


def data(arguments: list[str]) -> int:
    """Report what a data set contains and what is wrong with it, or convert it for TFDS."""
    from train.data.inspection import inspect

    config = tyro.cli(inspect.InspectConfig, prog="python -m train data", args=arguments)
    return 0 if inspect.inspect(config) else 1


# Programs that JAX has compiled
_CACHE = Path(__file__).resolve().parents[1] / ".cache" / "jax"
_PRESETS = "Presets. Flags override a preset's values:"
# Flags that need two numbers, with examples
_PAIRS = {"--low-light": "0.02 0.1", "--profile": "100 110", "--luminance-weights": "0 0.95"}
_PATHS = ("--output", "--out", "--sheet", "--manual-dir", "--data-dir")
# Packages of the extra "compare", under the names by which they are imported
_EXTRA = ("jinja2", "matplotlib", "optuna", "plotly", "sklearn", "statsmodels")


def evaluate(arguments: list[str]) -> None:
    """Score a trained network on a data set, by a named protocol."""
    from train.inference import evaluate

    evaluate.evaluate(
        tyro.cli(evaluate.EvaluateConfig, prog="python -m train evaluate", args=arguments)
    )


def export(arguments: list[str]) -> None:
    """Write a trained network as one file that can be used without this repository."""
    from train.inference import export

    export.export(tyro.cli(export.ExportConfig, prog="python -m train export", args=arguments))


def study(arguments: list[str]) -> int:
    """Ask people which of two results they prefer, without telling them which is which."""
    from train.study import command

    return command.study(arguments)


def doctor(arguments: list[str]) -> int:
    """Say what this program runs on, what is missing, and what to do about it."""
    from train.environment import doctor as report

    return report.doctor(
        tyro.cli(report.DoctorConfig, prog="python -m train doctor", args=arguments)
    )


VERBS: dict[str, Callable[[list[str]], int | None]] = {
    "fit": fit,
    "compare": compare,
    "tune": tune,
    "study": study,
    "restore": restore,
    "evaluate": evaluate,
    "export": export,
    "data": data,
    "compile": compile_,
    "import": import_,
    "doctor": doctor,
}


def run(arguments: list[str]) -> int:
    """Runs a verb and returns its exit status."""
    # With the cache, a second run of the same preset compiles in a moment.
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(_CACHE)
    if "://" not in cache and (why := why_untrusted(cache)):
        jax.config.update("jax_enable_compilation_cache", False)
        complain(
            f"warning: {cache}, the folder of compiled programs, {why}. Programs of somebody else "
            "could run from there, so it is not used, and everything is compiled again. Set "
            "JAX_COMPILATION_CACHE_DIR to a folder to which only you can write."
        )
    else:
        jax.config.update("jax_compilation_cache_dir", cache)
    if not os.environ.get("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        # JAX leaves out programs that compile in less than a second. Many small ones are needed
        # before the first step.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    if not arguments or arguments[0] in ("-h", "--help"):
        console = make_console()
        console.print("usage: python -m train VERB [--help]", highlight=False, end="\n\n")
        for name, verb in VERBS.items():
            console.print(f"  {name:10} {verb.__doc__}", highlight=False, soft_wrap=True)
        return 0 if arguments else 2
    if arguments[0] not in VERBS:
        hint = did_you_mean(arguments[0], VERBS)
        raise InputError(f"There is no verb {arguments[0]!r}.{hint} Verbs: {', '.join(VERBS)}.")
    for flag in _PATHS:
        # As a path, an empty text would be the current folder.
        if _value_of(flag, arguments) == "":
            check_name(flag, "")
    return VERBS[arguments[0]](arguments[1:]) or 0


def _value_of(flag: str, arguments: list[str]) -> str | None:
    """Returns the value that is given for a flag, or None."""
    for i, argument in enumerate(arguments):
        name, given, value = argument.partition("=")
        if name.replace("_", "-") != flag:  # tyro accepts both spellings
            continue
        if given:
            return value
        if i + 1 < len(arguments):
            return arguments[i + 1]
    return None


def _check_pairs(arguments: list[str]) -> None:
    """Refuses a flag that needs two numbers and has fewer or more.

    The errors of tyro about optional pairs name types instead of what to write.
    """
    for i, argument in enumerate(arguments):
        flag = argument.replace("_", "-")
        if flag not in _PAIRS:
            continue
        given = list(
            itertools.takewhile(lambda word: not word.startswith("--"), arguments[i + 1 :])
        )
        if len(given) != 2 and given != ["None"]:
            raise InputError(
                f"{flag} needs two numbers, such as {_PAIRS[flag]}; got "
                f"{' '.join(given) or 'none'}."
            )


def _check_one_start(arguments: list[str]) -> None:
    """Refuses several starts after --init-from, which the user may have meant for several seeds."""
    for i, argument in enumerate(arguments):
        if argument.replace("_", "-") != "--init-from":
            continue
        given = list(itertools.takewhile(lambda word: word[:1] != "-", arguments[i + 1 :]))
        if len(given) > 1:
            raise InputError(
                f"--init-from gives one start for all seeds; got {len(given)}. To give one for "
                f"each seed, write: --starts {shlex.join(given)}"
            )


def _load_resumed(folder: Path) -> FitConfig:
    # This module reads checkpoints, and its imports take seconds.
    from train.checkpoints.resumed_config import load_resumed

    return load_resumed(folder)


def _check_resumed(resumed: str, preset: str | None, out: str | None) -> None:
    """Refuses a preset and another folder: a resumed run has its configuration and its folder."""
    if preset is not None:
        raise InputError(
            f"--resume continues a run as it was configured. Leave out the preset {preset!r}."
        )
    if out is not None and Path(out).absolute() != Path(resumed).absolute():
        raise InputError(
            f"--resume continues in {resumed}, and --out is {out}. Leave out --out, or start a "
            f"new run with --init-from {resumed}."
        )


def _check_unchanged(before: FitConfig, after: FitConfig) -> None:
    """Refuses a change of what is learned. Where a resumed run runs and logs may change."""
    changed = [flag for flag, value in _flags_of(after).items() if value != _flags_of(before)[flag]]
    if changed:
        raise InputError(
            f"{list_some(changed)} cannot change when a run is resumed, because --resume "
            "continues it as it was configured. Leave "
            f"{'it' if len(changed) == 1 else 'them'} out, or start a new run."
        )


def _flags_of(config: FitConfig) -> dict[str, object]:
    """Returns the values of the flags that change what is learned."""
    renamed = {"source": "data", "validation_source": "validation-data", "test_source": "test-data"}
    flags: dict[str, object] = {"--seed": config.seed}
    for group in (config.data, config.model, config.optimizer):
        for name, value in dataclasses.asdict(group).items():
            flags[f"--{renamed.get(name, name).replace('_', '-')}"] = value
    return flags
