import datetime
import os
from collections.abc import Callable
from pathlib import Path

import jax
import jax.export
import numpy as np
import pytest

from train.__main__ import main
from train.errors import InputError, first_line
from train.inference.exports import program_loader, stablehlo

BLIND = "dncnn(depth=3, features=4)"
TOLD = "drunet(features=(2, 4), blocks=1)"

Make = Callable[[str], Path]


@pytest.fixture
def exported(checkpoint: Make, tmp_path: Path) -> Callable[[str], Path]:
    def export(spec: str) -> Path:
        file = tmp_path / "model.stablehlo"
        assert (
            main(["export", str(checkpoint(spec)), "--format=stablehlo", f"--output={file}"]) == 0
        )
        return file

    return export


@pytest.fixture
def loaded_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs are loaded in this process, because another one takes a second to start."""

    def why_not_loaded(path: Path) -> str:
        try:
            program_loader._load(path)
        except Exception as error:
            return first_line(error)
        return ""

    monkeypatch.setattr(stablehlo, "why_not_loaded", why_not_loaded)


def on(monkeypatch: pytest.MonkeyPatch, date: datetime.date) -> None:
    monkeypatch.setattr(stablehlo, "_today", lambda: date)


def test_a_program_says_by_what_and_when_it_was_exported(
    exported: Callable[[str], Path], monkeypatch, capsys
) -> None:
    on(monkeypatch, datetime.date(2026, 3, 9))
    file = exported(TOLD)
    assert stablehlo.read_stamp(file) == stablehlo.ProgramStamp(
        jax.__version__, datetime.date(2026, 3, 9)
    )
    name = jax.export.deserialize(bytearray(file.read_bytes())).fun_name
    assert name == f"lumloss_jax_restore exported by jax {jax.__version__} on 2026-03-09"
    said = " ".join(capsys.readouterr().out.split())
    assert "newer versions load such a program for six months" in said
    assert "Use --format onnx or --format torch for archives" in said
    assert stablehlo.examine_program(file)[1] == ""


def test_after_half_a_year_the_promise_has_ended(
    exported: Callable[[str], Path], loaded_here: None, monkeypatch, capsys
) -> None:
    on(monkeypatch, datetime.date(2026, 3, 9))
    file = exported(BLIND)
    capsys.readouterr()
    on(monkeypatch, datetime.date(2026, 9, 7))
    assert stablehlo.examine_program(file)[1] == ""
    on(monkeypatch, datetime.date(2026, 9, 8))
    assert main(["doctor", str(file)]) == 1
    said = capsys.readouterr().out
    assert f"on 2026-03-09; jax {jax.__version__} loads it. {stablehlo.PROMISE}. Export" in said
    assert f"lines need attention: {file}." in said


def test_a_program_of_a_newer_jax_is_named(exported: Callable[[str], Path], monkeypatch) -> None:
    monkeypatch.setattr(jax, "__version__", "99.10.0")
    file = exported(BLIND)
    monkeypatch.undo()
    found, advice = stablehlo.examine_program(file)
    assert "exported by jax 99.10.0 on" in found
    assert advice.startswith(f"{stablehlo.PROMISE}. Update jax, or export")


def test_a_program_that_jax_refuses_gets_the_same_sentence(
    exported: Callable[[str], Path],
) -> None:
    file = exported(BLIND)
    file.write_bytes(bytes(3000) + file.read_bytes()[-100:])
    found, advice = stablehlo.examine_program(file)
    assert f"jax {jax.__version__} cannot load it: " in found and "\n" not in found
    assert advice == f"{stablehlo.PROMISE}. Export the network again. {stablehlo.ARCHIVES}."


def test_a_program_that_keeps_the_parser_busy_is_given_up(
    exported: Callable[[str], Path], monkeypatch
) -> None:
    """One of 10 kB with a few damaged bytes did so for minutes."""
    file = exported(BLIND)
    monkeypatch.setattr(program_loader, "_PATIENCE", 0.01)
    found, _ = stablehlo.examine_program(file)
    assert found.endswith("cannot load it: it was not loaded within 0.01 seconds")


def test_a_program_of_an_earlier_version_has_no_stamp(loaded_here: None, tmp_path: Path) -> None:
    def lumloss_jax_restore(images: jax.Array) -> jax.Array:
        return images

    shape = jax.ShapeDtypeStruct(jax.export.symbolic_shape("b, h, w, 3"), np.float32)
    file = tmp_path / "model.stablehlo"
    file.write_bytes(jax.export.export(jax.jit(lumloss_jax_restore))(shape).serialize())
    assert stablehlo.is_program(file) and stablehlo.read_stamp(file) is None
    found, advice = stablehlo.examine_program(file)
    assert "an earlier version of this program, which did not record when" in found
    assert advice.startswith(stablehlo.PROMISE)


def test_damaged_and_foreign_files_are_refused_in_one_sentence(
    exported: Callable[[str], Path], tmp_path: Path, capsys
) -> None:
    content = exported(BLIND).read_bytes()
    year = content.rindex(b" on 20")
    for changed, message in {
        content[:year] + b" on 2026-99" + content[year + 11 :]: "2026-99-",
        content[:-30]: "is not a program that export --format stablehlo wrote",
        b"": "is not a program that export --format stablehlo wrote",
    }.items():
        file = tmp_path / "changed.stablehlo"
        file.write_bytes(changed)
        assert main(["doctor", str(file)]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(InputError, match="cannot be read: No such file"):
        stablehlo.examine_program(tmp_path / "missing.stablehlo")
    # The end is there, but the rest is damaged.
    file.write_bytes(content[: len(content) // 2] + bytes(16) + content[len(content) // 2 + 16 :])
    stablehlo.examine_program(file)


def test_neither_a_pipe_nor_a_file_without_end_is_read(
    exported: Callable[[str], Path], tmp_path: Path
) -> None:
    content = exported(BLIND).read_bytes()
    pipe, huge = tmp_path / "pipe.stablehlo", tmp_path / "huge.stablehlo"
    os.mkfifo(pipe)
    with huge.open("wb") as file:
        file.truncate(10**12)
        file.seek(0, os.SEEK_END)
        file.write(content[-100:])
    for path in (pipe, huge):
        with pytest.raises(InputError, match="it must be a regular file of at most 400 MB"):
            stablehlo.examine_program(path)
