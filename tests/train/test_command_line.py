"""What the command line accepts, and what it must not ignore silently."""

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from train import verbs
from train.__main__ import main
from train.errors import needs_extra

ROOT = Path(__file__).resolve().parents[2]


def test_a_missing_extra_is_named_with_the_command_to_install_it() -> None:
    """This needs a new process, in which the packages are not imported yet."""
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({verbs._EXTRA}))\n"
        "from train.__main__ import main\n"
        "sys.exit(main(['compare']) + main(['tune']))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 4
    compare, tune = done.stderr.splitlines()
    assert re.match(r"error: compare needs the package (jinja2|plotly|statsmodels)", compare)
    assert tune.startswith("error: tune needs the package optuna")
    for message in (compare, tune):
        assert message.endswith('Install it with: pip install -e ".[compare]"')


def test_all_packages_of_the_extra_are_known() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    named = {re.split("[>=[]", requirement)[0] for requirement in extras["compare"]}
    imported = {"scikit-learn": "sklearn"}
    assert {imported.get(name, name) for name in named - {"lumloss-jax"}} == set(verbs._EXTRA)


def test_a_missing_module_of_the_program_keeps_its_traceback() -> None:
    with (
        pytest.raises(ModuleNotFoundError, match="nowhere"),
        needs_extra("tune", "compare", verbs._EXTRA),
    ):
        importlib.import_module("train.nowhere")


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", "--learning_rate", "0.1"],
        ["compare", "--learning_rate=0.1"],
        ["compare", "--learning-rate", "0.1"],
        ["compare", "--clip_norm", "1"],
    ],
)
def test_flags_of_other_verbs_are_refused_in_every_spelling(
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--steps=1", "--data=folder:nowhere"]) == 2
    flag = arguments[1].partition("=")[0].replace("_", "-")
    assert f"error: {arguments[0]} does not accept {flag}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bogus", "--resume", "run"], "Leave out the preset 'bogus'"),
        (["smoke", "--resume=run"], "Leave out the preset 'smoke'"),
        (
            ["--resume", "run", "--out", "other"],
            "--resume continues in run, and --out is other. Leave out --out, or start a new run",
        ),
        # The same folder: nothing is passed over
        (
            ["--resume", "run", "--out", "./run"],
            "run is not a run's folder: it has no config.json",
        ),
    ],
)
def test_what_a_resumed_run_would_pass_over_is_refused(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *arguments]) == 2
    assert message in capsys.readouterr().err
