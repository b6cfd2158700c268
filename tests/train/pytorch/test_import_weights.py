import json
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
import skimage.data

from lumloss_jax.models import create_model, to_torch_state_dict
from train.__main__ import main
from train.checkpoints.checkpoint import load_network
from train.data.images import write_image
from train.network import init_variables

SPEC = "dncnn(depth=3, features=4)"


@pytest.fixture
def weights(tmp_path: Path) -> Path:

    variables = init_variables(create_model("dncnn", depth=3, features=4), jax.random.key(3))
    path = tmp_path / "trained.safetensors"
    safetensors.numpy.save_file(to_torch_state_dict("dncnn", variables, depth=3, features=4), path)
    return path


def test_an_imported_network_can_be_loaded_and_fine_tuned(
    weights: Path,
    tmp_path: Path,
    tiny_flags: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["import", str(weights), "--model", SPEC]) == 0
    printed = capsys.readouterr().out
    assert "runs/imported/trained" in printed
    network = load_network(tmp_path / "runs" / "imported" / "trained")
    assert network.spec == SPEC
    expected = safetensors.numpy.load_file(weights)
    np.testing.assert_array_equal(
        np.asarray(network.params["conv_first"]["kernel"]),
        expected["dncnn.dncnn.0.weight"].transpose(2, 3, 1, 0),
    )
    flags = [flag for flag in tiny_flags if not flag.startswith("--model")]
    tuned = [
        "--model",
        SPEC,
        "--init-from",
        "runs/imported/trained",
        "--steps=1",
        "--learning-rate=1e-9",
        "--out=tuned",
    ]
    folder = tmp_path / "photographs"
    folder.mkdir()

    write_image(folder / "cat.png", skimage.data.chelsea()[:32, :32])
    assert (
        main(["fit", *flags, *tuned, f"--data=folder:{folder}", f"--test-data=folder:{folder}"])
        == 0
    )
    after = load_network(tmp_path / "tuned")
    np.testing.assert_allclose(
        after.params["conv_last"]["kernel"], network.params["conv_last"]["kernel"], atol=1e-7
    )


def test_where_the_weights_are_from_is_kept(weights: Path, tmp_path: Path) -> None:
    assert main(["import", str(weights), "--model", SPEC, "--out", str(tmp_path / "here")]) == 0
    about = json.loads((tmp_path / "here" / "about" / "metadata").read_text())
    assert about["imported_from"] == "trained.safetensors"
    assert len(about["sha256"]) == 64
    assert about["model"] == SPEC


def test_weights_of_another_network_list_what_does_not_fit(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            [
                "import",
                str(weights),
                "--model",
                "dncnn(depth=4, features=4)",
                "--out",
                str(tmp_path / "no"),
            ]
        )
        == 2
    )
    assert "cannot be imported for --model" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_an_existing_folder_is_not_overwritten(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", str(weights), "--model", SPEC, "--out", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_published_weights_are_imported_whole(shared: Path, tmp_path: Path) -> None:
    with np.load(shared / "pretrained" / "state_color_DnCNN_55.npz") as file:
        np.savez(
            tmp_path / "dncnn.npz",
            **{name.removeprefix("state/"): file[name] for name in file.files},
        )
    out = tmp_path / "out"
    assert (
        main(
            ["import", str(tmp_path / "dncnn.npz"), "--model", "dncnn(depth=20)", "--out", str(out)]
        )
        == 0
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(load_network(out).params)) == 669_312
