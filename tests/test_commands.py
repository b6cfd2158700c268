"""The command line accepts every command of README and documentation as it stands.

The commands of the quickstart run one after another.
"""

import re
import runpy
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import tyro

from train.__main__ import main
from train.config import save_config
from train.data import index
from train.data.images import read_image, write_image
from train.inference.scoring.protocols import find_protocol
from train.network import build_model
from train.presets import find_preset
from train.verbs import VERBS

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (ROOT / "README.md", *ROOT.glob("docs/**/*.md"))
}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
QUICKSTART = [text for kind, text in BLOCK.findall(PAGES["docs/quickstart.md"]) if kind == ""]


def commands(start: str) -> list[Any]:
    """Commands that begin so: in blocks, in what gcloud, XPK and srun run, and in sentences."""
    found = []
    for page, text in sorted(PAGES.items()):
        shells = [block for kind, block in BLOCK.findall(text) if kind in ("", "sh", "bash")]
        lines = [line for block in shells for line in block.replace("\\\n", " ").splitlines()]
        inline = re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))
        for line in (*lines, *(word for word in inline if re.match(start, word))):
            for match in re.finditer(rf"(?<![\w-]){start}.*?(?=&&|\s#|`|$)", line):
                command = re.sub(r"\s+", " ", match[0]).strip()
                # The end of what another program is given
                if any(command.count(quote) % 2 for quote in "'\""):
                    command = command[:-1]
                found.append(pytest.param(command, id=f"{page}: {command}"))
    return found


TRAIN = commands("python -m train [a-z]")
SCRIPTS = commands("python (?:benchmarks|docs)/")


class Parsed(BaseException):
    """What a command was read as, raised before anything is done."""


@pytest.fixture
def parsing(tmp_path, monkeypatch) -> None:
    """Commands end once arguments are read; the run that pages resume has a configuration."""
    read = tyro.cli

    def stop(*arguments: Any, **options: Any) -> None:
        raise Parsed(read(*arguments, **options))

    monkeypatch.setattr(tyro, "cli", stop)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "001-default").mkdir(parents=True)
    save_config(find_preset("default"), tmp_path / "runs" / "001-default" / "config.json")


@pytest.mark.parametrize("command", TRAIN)
def test_verb_preset_flags_and_values_are_taken(command, parsing, capsys):
    arguments = shlex.split(command)[3:]
    if "--help" in arguments:
        with pytest.raises(SystemExit, match="0"):
            main(arguments)
    else:
        with pytest.raises(Parsed) as parsed:
            # Where it has not come so far
            pytest.fail(f"{main(arguments)}: {capsys.readouterr().err}")
        (config,) = parsed.value.args
        for field, check in {
            "protocol": find_protocol,
            "model": build_model,
        }.items():  # which evaluate and import do later
            if isinstance(value := getattr(config, field, None), str):
                check(value)


@pytest.mark.parametrize("command", SCRIPTS)
def test_scripts_take_their_flags(command, parsing, monkeypatch):
    _, script, *arguments = shlex.split(command)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    monkeypatch.setattr(sys, "path", [str((ROOT / script).parent), *sys.path])
    with pytest.raises(Parsed):
        runpy.run_path(str(ROOT / script), run_name="__main__")


@pytest.mark.parametrize("command", commands("make [a-z]"))
def test_make_knows_its_targets(command):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    words = shlex.split(command, comments=True)[1:]
    assert {word for word in words if "=" not in word} <= set(targets)


@pytest.mark.parametrize("command", commands("pip install"))
def test_extras_that_are_installed_exist(command):
    for extras in re.findall(r"\.\[([\w,]+)\]", command):
        assert set(extras.split(",")) <= set(EXTRAS)


def test_the_commands_of_every_page_were_found():
    pages = {each.id.split(":")[0] for each in TRAIN}
    assert pages >= {
        "README.md",
        *(f"docs/{name}.md" for name in ("quickstart", "faq", "choosing", "protocols", "results")),
    }
    verbs = {shlex.split(each.values[0])[3] for each in TRAIN}
    assert verbs == set(VERBS)
    on_hosts = [each.values[0] for each in TRAIN if "--distributed" in each.values[0]]
    assert len(on_hosts) == 4  # gcloud, XPK, srun, and on each host by hand
    assert not any(command.endswith(("'", '"')) for command in on_hosts)


def of_quickstart(start: str) -> list[str]:
    """Arguments of The quickstart's first command that begins so."""
    lines = (line for block in QUICKSTART for line in block.replace("\\\n", " ").splitlines())
    return shlex.split(
        next(line for line in lines if line.startswith(f"python -m train {start}")), comments=True
    )[3:]


@pytest.mark.slow
def test_the_quickstart_leads_from_photographs_to_an_exported_program(
    tmp_path, monkeypatch, capsys
):
    """README's own commands, with a small preset, photographs, and a batch of four parts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(index, "PATH", tmp_path / "photographs.sqlite")
    (tmp_path / "photographs").mkdir()
    whole = skimage.data.chelsea()
    for i in range(24):
        top, left = 40 * (i // 6), 60 * (i % 6)
        write_image(
            tmp_path / "photographs" / f"{i:02d}.png", whole[top : top + 40, left : left + 48]
        )

    def run(start: str, **replaced: str) -> str:
        arguments = of_quickstart(start)
        for old, new in {"runs/001-default": "runs/001-smoke", **replaced}.items():
            arguments = [new if argument == old else argument for argument in arguments]
        assert main(arguments) == 0
        return capsys.readouterr().out

    verb, *flags = of_quickstart("fit --data")
    assert main([verb, "smoke", *flags, "--batch-size", "16"]) == 0
    checkpoints = tmp_path / "runs" / "001-smoke" / "checkpoints"
    (checkpoints / "30").rename(tmp_path / "30")  # as if it had been killed after step 20
    assert "resuming from step 20" in capsys.readouterr().out + run("fit --resume")
    assert sorted(path.name for path in checkpoints.iterdir())[-1] == "30"
    run("restore")
    assert len(list((tmp_path / "restored").glob("*.png"))) == 24
    run("evaluate", **{"folder:CBSD68": "folder:photographs"})
    assert {path.name for path in (tmp_path / "scores").iterdir()} >= {"scores.csv", "summary.json"}
    run("export")

    images = np.stack(
        [read_image(path) for path in sorted((tmp_path / "photographs").glob("*.png"))[:2]]
    )
    images = images.astype(np.float32) / 255
    names = {"images": images}
    (loader,) = (
        text
        for kind, text in BLOCK.findall(PAGES["docs/quickstart.md"])
        if "jax.export.deserialize" in text
    )
    exec(loader, names)
    first = read_image(tmp_path / "restored" / "00.png")
    assert np.abs(np.clip(names["restored"][0], 0, 1) * 255 - first).max() <= 1
