"""Weights of LPIPS and DISTS from files to scores."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

import tests.lumloss_jax.models.narrow_weights as narrow_weights
from lumloss_jax import models
from train.__main__ import main
from train.data.images import write_image
from train.errors import InputError
from train.inference.scoring import deep_metrics
from train.inference.scoring.measure import score
from train.inference.scoring.metric_weights import check_weights, load_weights, path_of

NAMES = ("lpips_alex", "lpips_vgg", "dists")


def weights_of(name: str) -> dict[str, np.ndarray]:
    return narrow_weights.dists() if name == "dists" else narrow_weights.lpips(name[6:])


def kind_of(name: str) -> str:
    return name.split("_")[0]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_one_file_with_everything(name: str, suffix: str, here: Path, capsys) -> None:
    given = weights_of(name) | {"classifier.0.weight": np.ones((2, 2), np.float32)}
    path = here / f"file{suffix}"
    if suffix == ".npz":
        np.savez(path, **given)
    else:
        safetensors.numpy.save_file(given, path)
    assert main(["import", str(path), "--metric", kind_of(name)]) == 0
    printed = capsys.readouterr().out
    assert str(path_of(name)) in printed and f"--metrics {name}" in printed
    found = load_weights(name)
    assert set(found) == set(weights_of(name))
    for key, value in weights_of(name).items():
        np.testing.assert_array_equal(found[key], value)
    # Scores by different weights must not be mixed
    assert main(["import", str(path), "--metric", kind_of(name)]) == 2
    assert "exists already. Remove it first" in capsys.readouterr().err


def test_trunk_and_heads_in_files_of_their_own(here: Path, capsys) -> None:
    whole = weights_of("lpips_alex")
    trunk = {key: value for key, value in whole.items() if key.startswith("features")}
    heads = {key: value for key, value in whole.items() if key.startswith("lin")}
    safetensors.numpy.save_file(trunk, "alexnet.safetensors")
    np.savez("alex.npz", **heads)
    assert main(["import", "alex.npz", "--metric", "lpips"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "lack features.0.weight" in error and "name it with --trunk" in error
    command = ["import", "alex.npz", "--metric", "lpips", "--trunk", "alexnet.safetensors"]
    assert main(command) == 0
    assert set(load_weights("lpips_alex")) == set(whole)
    # Heads of one network do not fit the trunk of the other
    np.savez("vgg.npz", **{k: v for k, v in weights_of("lpips_vgg").items() if k[:3] == "lin"})
    assert main(["import", "vgg.npz", *command[2:]]) == 2
    assert "lin1.model.1.weight of LPIPS has shape" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "Give either --model"),
        (("--model", "dncnn", "--metric", "dists"), "Give either --model"),
        (("--model", "dncnn", "--trunk", "other.npz"), "--trunk belongs to --metric"),
        (("--metric", "dists", "--out", "here"), "does not accept --out"),
        (("--metric", "dists", "--channel-order", "bgr"), "does not accept --out"),
    ],
)
def test_flags_that_do_not_fit_together(flags, words: str, here: Path, capsys) -> None:
    np.savez("file.npz", **weights_of("dists"))
    assert main(["import", "file.npz", *flags]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_weights_that_are_not_finite_are_refused(here: Path, capsys) -> None:
    given = weights_of("dists")
    given["alpha"] = np.full_like(given["alpha"], np.nan)
    np.savez("file.npz", **given)
    assert main(["import", "file.npz", "--metric", "dists"]) == 2
    assert "NaN" in capsys.readouterr().err
    assert not path_of("dists").exists()


def test_missing_and_damaged_files_are_one_sentence_and_what_to_do(here: Path) -> None:
    with pytest.raises(InputError, match="import FILE --metric lpips"):
        check_weights(["psnr", "lpips_vgg"])
    check_weights(["psnr", "flip"])
    path = path_of("lpips_vgg")
    path.parent.mkdir(parents=True)
    whole = safetensors.numpy.save(weights_of("lpips_vgg"))
    huge = (2**62).to_bytes(8, "little") + b"{}"
    missing = weights_of("lpips_vgg")
    missing.pop("lin3.model.1.weight")
    for content, words in (
        (b"", "cannot be read"),
        (whole[:1000], "cannot be read"),
        (huge, "its header has"),
        (safetensors.numpy.save(missing), "lack lin3.model.1.weight"),
        (safetensors.numpy.save(weights_of("lpips_alex")), r"belong to LPIPS \(AlexNet\)"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=words) as caught:
            check_weights(["lpips_vgg"])
        assert "Delete it" in str(caught.value) and "\n" not in str(caught.value)
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="not a regular file"):
        check_weights(["lpips_vgg"])


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_the_library(name: str, here: Path, monkeypatch) -> None:
    path_of(name).parent.mkdir(parents=True)
    path_of(name).write_bytes(safetensors.numpy.save(weights_of(name)))
    random = np.random.default_rng(0)
    clean = random.uniform(size=(101, 135, 3)).astype(np.float32)
    image = np.clip(clean + np.float32(0.1) * random.normal(size=clean.shape), 0, 1)
    image = image.astype(np.float32)
    function = models.dists if name == "dists" else models.lpips
    expected = jax.jit(lambda a, b: function(a, b, weights=weights_of(name)))(image, clean)
    assert score(image, clean, names=("psnr", name))[name] == pytest.approx(
        float(expected), rel=1e-5
    )


@pytest.mark.parametrize("name", ["lpips_alex", pytest.param("lpips_vgg", marks=pytest.mark.slow)])
def test_tiles_give_what_the_whole_photograph_gives(name: str, here: Path, monkeypatch) -> None:
    """Tiles of 48 pixels, with as many pixels around them as the last layer sees."""
    path_of(name).parent.mkdir(parents=True)
    path_of(name).write_bytes(safetensors.numpy.save(weights_of(name)))
    monkeypatch.setattr(deep_metrics, "_TILE", 48)
    monkeypatch.setattr(deep_metrics, "_AROUND", 112)
    random = np.random.default_rng(0)
    # Sides that no step of a layer divides, and a last tile that is narrow
    clean = random.uniform(size=(51, 150, 3)).astype(np.float32)
    image = clean.copy()
    image[40:, 30:100] = 0  # what lies in one tile is seen in others
    expected = jax.jit(lambda a, b: models.lpips(a, b, weights=weights_of(name)))(image, clean)
    found = score(image, clean, names=(name,))[name]
    assert found == pytest.approx(float(expected), rel=1e-5)
    monkeypatch.setattr(deep_metrics, "_AROUND", 32)
    assert score(image, clean, names=(name,))[name] != pytest.approx(float(expected), rel=1e-4)


def test_evaluate_scores_with_imported_weights(here: Path, capsys) -> None:
    folder = here / "photographs"
    folder.mkdir()
    random = np.random.default_rng(0)
    write_image(folder / "one.png", random.integers(0, 255, (40, 40, 3)).astype(np.uint8))
    command = ["evaluate", "denoiser-2", f"--data=folder:{folder}", "--protocol=float"]
    command += ["--output=scores", "--sigmas", "25", "--metrics", "dists", "lpips_alex"]
    assert main(command) == 2
    assert "LPIPS (AlexNet) needs weights" in " ".join(capsys.readouterr().err.split())
    assert not (here / "scores").exists()
    for name in ("dists", "lpips_alex"):
        np.savez("file.npz", **weights_of(name))
        assert main(["import", "file.npz", "--metric", kind_of(name)]) == 0
    capsys.readouterr()
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "DISTS ↓" in printed and "LPIPS (AlexNet) ↓" in printed
    summary = json.loads((here / "scores" / "summary.json").read_text())
    assert set(summary["metric_weights"]) == {"dists", "lpips_alex"}
    assert all(row["dists"] > 0 and row["lpips_alex"] > 0 for row in summary["means"])
