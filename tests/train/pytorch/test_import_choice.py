"""Which dictionary of a file ``import`` chooses, what it reports, and what it refuses."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lumloss_jax.models import create_model, to_torch_state_dict
from tests.train.pytorch.torch_writing import Tensor, save
from train.__main__ import main
from train.checkpoints.checkpoint import load_network
from train.errors import InputError
from train.network import init_variables
from train.pytorch import import_weights
from train.pytorch.state_dicts import StateDict

FIELDS: dict[str, Any] = {"depth": 2, "features": 4, "batch_norm": False}
SPEC = "dncnn(depth=2, features=4, batch_norm=False)"
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    import jax

    model = create_model("dncnn", **FIELDS)
    return to_torch_state_dict("dncnn", init_variables(model, jax.random.key(0)), **FIELDS)


def _tensors(
    arrays: dict[str, np.ndarray], plus: float = 0.0, prefix: str = ""
) -> dict[str, Tensor]:
    return {f"{prefix}{name}": Tensor(array + np.float32(plus)) for name, array in arrays.items()}


def _import(path: Path, *flags: str) -> tuple[int, Path]:
    out = path.parent / "out"
    return main(["import", str(path), "--model", SPEC, "--out", str(out), *flags]), out


def _offset(out: Path, arrays: dict[str, np.ndarray]) -> float:
    """Returns how much was added to the imported weights."""
    kernel = np.asarray(load_network(out).params["conv_last"]["kernel"])
    last = [name for name in arrays if name.endswith("weight")][-1]
    return round(float((kernel - arrays[last].transpose(2, 3, 1, 0)).mean()), 3)


def _about(out: Path) -> dict[str, Any]:
    return json.loads((out / "about" / "metadata").read_text())


def test_the_average_is_taken_wherever_it_stands(arrays, tmp_path: Path, capsys) -> None:
    content = {"params": _tensors(arrays), "params_ema": _tensors(arrays, 0.5)}
    for order in (list(content), list(reversed(content))):
        path = save(tmp_path / "weights.pth", {key: content[key] for key in order})
        status, out = _import(path)
        assert status == 0
        assert _offset(out, arrays) == 0.5
        said = " ".join(capsys.readouterr().out.split())
        assert 'under "params_ema", which is an average' in said
        assert '"params" fits too; use --weights params to import it instead' in said
        about = _about(out)
        assert about["found_under"] == ["params_ema"]
        assert about["is_average"] is True
        assert about["would_fit_too"] == ["params"]
        os.rename(out, tmp_path / order[0])


def test_the_user_may_choose(arrays, tmp_path: Path, capsys) -> None:
    path = save(
        tmp_path / "weights.pth", {"params": _tensors(arrays), "params_ema": _tensors(arrays, 0.5)}
    )
    status, out = _import(path, "--weights", "params")
    assert status == 0
    assert _offset(out, arrays) == 0
    assert _about(out)["found_under"] == ["params"]
    out.rename(tmp_path / "first")
    capsys.readouterr()
    assert _import(path, "--weights", "param")[0] == 2
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "it contains no dictionary of arrays with the name 'param'. There are: "
        '"params", "params_ema".' in said
    )


def test_the_dictionary_that_fits_wins_over_a_larger_one(arrays, tmp_path: Path, capsys) -> None:
    discriminator = {f"layer{i}.weight": Tensor(np.zeros((64, 64), np.float32)) for i in range(5)}
    path = save(tmp_path / "gan.pth", {"net_d": discriminator, "net_g": _tensors(arrays, 0.25)})
    status, out = _import(path)
    assert status == 0
    assert _offset(out, arrays) == 0.25
    assert _about(out)["found_under"] == ["net_g"]
    assert _about(out)["would_fit_too"] == []


def test_a_dictionary_is_found_among_an_optimizers(arrays, tmp_path: Path) -> None:
    moments = {i: {"exp_avg": Tensor(np.zeros(10_000, np.float32))} for i in range(10)}
    path = save(
        tmp_path / "run.ckpt",
        {"optimizer": {"state": moments}, "model": {"net": _tensors(arrays, 0.25)}},
    )
    status, out = _import(path)
    assert status == 0
    assert _about(out)["found_under"] == ["model", "net"]


def test_two_that_fit_alike_are_a_question_unless_they_are_equal(
    arrays, tmp_path: Path, capsys
) -> None:
    path = save(tmp_path / "two.pth", {"first": _tensors(arrays), "second": _tensors(arrays, 0.25)})
    status, out = _import(path)
    assert status == 2
    assert not out.exists()
    said = " ".join(capsys.readouterr().err.split())
    assert 'several dictionaries fit: "first", "second". Choose one with --weights.' in said
    assert (
        _import(
            save(tmp_path / "equal.pth", {"first": _tensors(arrays), "second": _tensors(arrays)})
        )[0]
        == 0
    )


def test_names_of_torch_compile_are_understood(arrays, tmp_path: Path) -> None:
    path = save(
        tmp_path / "compiled.pth", {"state_dict": _tensors(arrays, 0.25, "module._orig_mod.")}
    )
    status, out = _import(path)
    assert status == 0
    assert _offset(out, arrays) == 0.25


def test_what_does_not_fit_is_about_the_nearest_dictionary(arrays, tmp_path: Path, capsys) -> None:
    nearly = {name: tensor for name, tensor in list(_tensors(arrays).items())[1:]}
    other = {f"layer{i}.weight": Tensor(np.zeros((64, 64), np.float32)) for i in range(5)}
    assert _import(save(tmp_path / "gan.pth", {"net_d": other, "net_g": nearly}))[0] == 2
    said = capsys.readouterr().err
    assert "missing: model.0.weight (4, 3, 3, 3)" in said
    assert 'This is about "net_g". The file also contains "net_d" (5 arrays).' in said
    assert "unknown" not in said


@pytest.mark.parametrize(
    "name", ["params_ema", "ema", "model_ema", "EMA", "ema_state_dict", "swa_model", "averaged"]
)
def test_names_of_averages(name: str) -> None:
    assert StateDict(("run", name), {}).is_average


@pytest.mark.parametrize("name", ["params", "schema", "remap", "gemma", "state_dict"])
def test_other_names_are_not_averages(name: str) -> None:
    assert not StateDict((name,), {}).is_average


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_weights_that_are_not_finite_are_refused_by_name(
    value: float, arrays, tmp_path: Path, capsys
) -> None:
    bad = dict(arrays)
    first = next(iter(bad))
    bad[first] = bad[first].astype(np.float64)
    bad[first][0, 0, 0, 0] = value
    np.savez(tmp_path / "bad.npz", **bad)
    status, out = _import(tmp_path / "bad.npz")
    assert status == 2
    said = " ".join(capsys.readouterr().err.split())
    assert (
        f"contains weights that are NaN, infinite or impossible: {first} (1 of {bad[first].size})"
        in said
    )
    assert not out.exists()


def test_weights_of_other_types_are_refused_by_name(arrays, tmp_path: Path, capsys) -> None:
    first = next(iter(arrays))
    for dtype in (np.int32, np.bool_, np.complex64):
        np.savez(tmp_path / "typed.npz", **{**arrays, first: arrays[first].astype(dtype)})
        assert _import(tmp_path / "typed.npz")[0] == 2
        assert (
            f"wrong dtype: {first} holds {np.dtype(dtype)}, takes floats" in capsys.readouterr().err
        )
    np.savez(tmp_path / "scalar.npz", **{**arrays, first: np.float32(1)})
    assert _import(tmp_path / "scalar.npz")[0] == 2
    assert f"misshapen: {first} is (), takes (4, 3, 3, 3)" in capsys.readouterr().err


def test_hostile_names_are_escaped(arrays, tmp_path: Path, capsys) -> None:
    hostile = "\x1b[2J[red]\nerror: lost"
    path = save(
        tmp_path / "names.pth",
        {hostile: {**_tensors(arrays), hostile: Tensor(np.zeros(3, np.float32))}},
    )
    assert _import(path)[0] == 2
    path = save(tmp_path / "\x1b[31m.pth", {hostile: _tensors(arrays)})
    assert _import(path)[0] == 0
    printed = capsys.readouterr()
    for said in printed:
        assert "\x1b" not in said
        assert "\nerror: lost" not in said
    assert r"\x1b[2J[red]\nerror: lost" in printed.out


def _left_over(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if "import-" in name or "orbax" in name)


def test_an_import_that_fails_leaves_nothing(
    arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    np.savez(tmp_path / "weights.npz", **arrays)

    def fail(folder: Path, *ignored: Any) -> None:
        folder.mkdir()
        (folder / "half").write_bytes(b"1")
        raise InputError(f"{folder} could not be written: no space. Is the disk full?")

    monkeypatch.setattr(import_weights, "save_network", fail)
    status, out = _import(tmp_path / "weights.npz")
    assert status == 2
    assert not out.exists()
    assert _left_over(tmp_path) == []
    assert f"error: --out {out} could not be written: no space." in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() == 0, reason="rights mean nothing to an administrator"
)
def test_a_folder_that_cannot_be_written_to_is_named(arrays, tmp_path: Path, capsys) -> None:
    np.savez(tmp_path / "weights.npz", **arrays)
    (tmp_path / "closed").mkdir(mode=0o500)
    assert (
        main(
            [
                "import",
                str(tmp_path / "weights.npz"),
                "--model",
                SPEC,
                "--out",
                str(tmp_path / "closed/x"),
            ]
        )
        == 2
    )
    assert "cannot be written: Permission denied" in capsys.readouterr().err


def test_a_file_in_the_way_is_named(arrays, tmp_path: Path, capsys) -> None:
    np.savez(tmp_path / "weights.npz", **arrays)
    below = tmp_path / "weights.npz" / "below"
    assert (
        main(["import", str(tmp_path / "weights.npz"), "--model", SPEC, "--out", str(below)]) == 2
    )
    assert "cannot be written, because a file is in the way" in " ".join(
        capsys.readouterr().err.split()
    )


KILLED = """
import os, signal, sys
from train.checkpoints import checkpoint
from train.pytorch import import_weights
from train.__main__ import main

write = import_weights.save_network

def write_and_die(*arguments):
    write(*arguments)
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))

import_weights.save_network = write_and_die
main(sys.argv[2:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_a_killed_import_leaves_no_checkpoint(
    number: str, arrays, tmp_path: Path, monkeypatch
) -> None:
    np.savez(tmp_path / "weights.npz", **arrays)
    out = tmp_path / "out"
    command = ["import", str(tmp_path / "weights.npz"), "--model", SPEC, "--out", str(out)]
    ended = subprocess.run([sys.executable, "-c", KILLED, number, *command], cwd=ROOT, check=False)
    assert ended.returncode != 0 or number == "SIGINT"
    assert not out.exists()
    assert bool(_left_over(tmp_path)) == (number == "SIGKILL")
    monkeypatch.setattr(import_weights, "_ABANDONED", -1)
    assert main(command) == 0
    assert _left_over(tmp_path) == []
    assert signal.Signals[number] and load_network(out).spec == SPEC


FULL = """
import resource, sys
from train.__main__ import main
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))  # bytes of a file, as if the disk were full
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="limits no file's size")
def test_a_full_disk_leaves_nothing_and_is_one_sentence(arrays, tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", **arrays)
    out = tmp_path / "out"
    command = ["import", str(tmp_path / "weights.npz"), "--model", SPEC, "--out", str(out)]
    ended = subprocess.run(
        [sys.executable, "-c", FULL, *command],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert f"error: --out {out} could not be written: " in ended.stderr
    assert "Is the disk full?" in ended.stderr
    assert os.listdir(tmp_path) == ["weights.npz"]
