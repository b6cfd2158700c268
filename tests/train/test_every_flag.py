"""Every flag of every verb with bad values: a sentence or a configuration, never a traceback."""

import dataclasses
import errno
import math
import os
import types
import typing
from pathlib import Path
from typing import Any

import pytest

from train import verbs
from train.__main__ import main
from train.compilation import aot
from train.config import DataConfig, FitConfig, ModelConfig, OptimizerConfig, RunConfig
from train.data.inspection.inspect import InspectConfig
from train.environment.doctor import DoctorConfig
from train.errors import InputError
from train.experiments.compare_config import CompareConfig
from train.experiments.tune_config import TuneConfig
from train.inference.evaluate import EvaluateConfig
from train.inference.export import ExportConfig
from train.inference.restore import RestoreConfig
from train.pytorch.import_weights import ImportConfig
from train.study.create_config import CreateConfig
from train.study.score import ScoreConfig
from train.study.serve import ServeConfig

_VALUES: dict[Any, tuple[Any, ...]] = {
    float: (math.inf, -math.inf, math.nan, 0.0, -1.0, 1e30, -1e-30, 5e-324),
    int: (0, -1, 2**31, 2**63, -(2**63), 10**400),
    str: (
        "",
        " ",
        "a" * 5000,
        "a\nb",
        "[/b]\x1b[2J",
        "\0",
        "\udcff",
        "../" * 2000,
        "(" * 5000,
        ":" * 300,
    ),
}
_VALUES[Path] = tuple(map(Path, _VALUES[str]))
_CONFIGS = (
    DataConfig(),
    ModelConfig(),
    OptimizerConfig(),
    RunConfig(),
    RunConfig(distributed=True, coordinator="host:1", processes=2, process=0),
    FitConfig(),
    CompareConfig(),
    TuneConfig(),
    aot.CompileConfig(),
    RestoreConfig(("in.png",), Path("out"), "run"),
    EvaluateConfig(Path("run"), "photos", "float", Path("out")),
    ExportConfig(Path("run"), "torch", Path("out.safetensors")),
    InspectConfig("photos"),
    DoctorConfig((Path("model.stablehlo"),)),
    ImportConfig(Path("file.pth"), "dncnn"),
    CreateConfig(Path("study"), a=Path("a"), b=Path("b"), clean=Path("clean")),
    ServeConfig(Path("study")),
    ScoreConfig(Path("study")),
)
_CASES = [
    pytest.param(config, field.name, id=f"{type(config).__name__} {field.name}")
    for config in _CONFIGS
    for field in dataclasses.fields(config)
]


def _values_of(kind: Any) -> list[Any]:
    if isinstance(kind, types.UnionType):
        (kind,) = set(typing.get_args(kind)) - {type(None)}
    if typing.get_origin(kind) is not tuple:
        return list(_VALUES.get(kind, ()))
    of, more = typing.get_args(kind)
    return [*([()] if more is ... else []), *((value, value) for value in _VALUES.get(of, ()))]


def _numbers(value: Any) -> list[float]:
    values = value if isinstance(value, tuple) else (value,)
    return [one for one in values if isinstance(one, float)]


@pytest.mark.parametrize(("config", "field"), _CASES)
def test_no_value_of_a_flag_is_a_traceback(config: Any, field: str) -> None:
    kind = typing.get_type_hints(type(config))[field]
    for value in _values_of(kind):
        try:
            made = dataclasses.replace(config, **{field: value})
        except InputError as error:
            assert len(str(error)) < 12_000
        else:
            assert all(map(math.isfinite, _numbers(getattr(made, field)))), value


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("sigma", math.inf, "--sigma must be a finite number; got inf"),
        ("sigma", math.nan, "--sigma must be a finite number; got nan"),
        ("sigma", 1e30, "--sigma must be at most 255"),
        ("patch_size", 2**63, "--patch-size must be at most 2147483647"),
        ("batch_size", 10**9, "makes batches of 1,600,000,000,000 pixels"),
        ("batch_size", 10**400, "--batch-size must be at most 2147483647"),
    ],
)
def test_what_is_too_much_for_photographs_is_said(field: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DataConfig(**{field: value})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("workers", 257, "--workers must be at most 256"),
        ("memory_mb", 2**31, "--memory-mb must be at most"),
        ("out", "", "--out is empty"),
        ("resume", "", "--resume is empty"),
        ("out", "a" * 5000, "--out is too long"),
        ("out", "a/" * 2100, "--out is too long"),
        ("out", "a" * 256, "--out is too long. A name may have 255 bytes"),
        ("out", "\0", "--out contains a NUL byte"),
    ],
)
def test_what_is_too_much_for_a_run_is_said(field: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RunConfig(**{field: value})
    RunConfig(out="a" * 255)


def test_a_seed_leaves_room_for_those_counted_up_from_it() -> None:
    assert FitConfig(seed=2**62).seed == 2**62
    with pytest.raises(InputError, match="--seed must be at most"):
        FitConfig(seed=2**63)


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit", "--dtype=\udcff\x1b"],
        ["fit", "--bogus=[/b]"],
        ["fit", "--steps=x"],
        ["fit", "--steps=" + "9" * 5000],
        ["fit", "--steps"],
        ["fit", "smoke", "extra"],
        ["data"],
        ["restore", "run", "--tile=x"],
        ["export", "run", "--format=x", "--output=o"],
    ],
)
def test_what_is_no_flag_ends_with_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "help" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], "There is no verb ''"),
        (["fti"], "Did you mean 'fit'?"),
        (["o[/v2]\x1b"], "There is no verb"),
        (["fit", "smok"], "Did you mean 'smoke'?"),
        (["fit", "--resume="], "--resume is empty"),
        (["fit", "--resume", ""], "--resume is empty"),
        (["compare", "smok"], "Did you mean 'smoke'?"),
        (["compile", "smok"], "Did you mean 'smoke'?"),
    ],
)
def test_what_is_misspelt_is_one_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert "\x1b" not in printed


def test_a_window_wider_than_any_photograph_is_one_sentence() -> None:
    with pytest.raises(
        InputError, match="window_size is a side in pixels, at most 65535; got 999999999999"
    ):
        ModelConfig(loss="luminance_l1(window_size=999999999999)")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RuntimeError("Unable to initialize backend 'x': it is not known\nmore"),
            "error: Unable to initialize backend",
        ),
        (
            OSError(errno.ENAMETOOLONG, "File name too long", "aa"),
            "error: aa: File name too long.\n",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "error: a file: No space left on device.\n",
        ),
        (OSError(errno.EFBIG, "File too large", "a.csv"), "error: a.csv: File too large.\n"),
        (OSError(errno.EIO, "Input/output error", "a"), "error: a: Input/output error.\n"),
        (OSError(errno.EISDIR, "Is a directory", "runs"), "error: runs: Is a directory.\n"),
        (OSError(errno.ENOTDIR, "Not a directory", "a/b"), "error: a/b: Not a directory.\n"),
    ],
)
def test_what_the_system_refuses_is_one_sentence(
    error: Exception,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(arguments: list[str]) -> int:
        raise error

    monkeypatch.setattr(verbs, "run", fail)
    assert main(["fit"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(message)
    assert len(printed.splitlines()) == 1


def test_a_deleted_working_directory_is_said_before_anything_is_imported(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verbs, "run", lambda arguments: 0)
    monkeypatch.setattr(os, "getcwd", lambda: os.stat(tmp_path / "missing"))
    assert main(["doctor"]) == 2
    assert capfd.readouterr().err == (
        "error: The working directory was deleted. Change to another folder.\n"
    )


@pytest.mark.parametrize(
    "error", [RuntimeError("a defect"), FileNotFoundError(errno.ENOENT, "none", "x")]
)
def test_a_defect_keeps_its_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(arguments: list[str]) -> int:
        raise error

    monkeypatch.setattr(verbs, "run", fail)
    with pytest.raises(type(error)):
        main(["fit"])
