import shutil
from pathlib import Path

import chex
import numpy as np
import pytest
import skimage.data

from lumloss_jax.metrics import psnr
from tests.train.inference.stored_images import SPEC, Make, pixels, save, stored
from train.__main__ import main
from train.checkpoints import bundled
from train.checkpoints.checkpoint import load_network
from train.errors import InputError
from train.inference.choice import choose_network
from train.inference.predictors import predictor_for


def test_every_bundled_network_is_small_and_has_a_card() -> None:
    for name in bundled.bundled_names():
        path = Path(bundled.__file__).parent / "bundled" / f"{name}.safetensors"
        assert path.stat().st_size <= 300_000
        card = path.with_suffix(".md").read_text()
        assert "CC BY 4.0" in card and "CBSD68" in card
    assert bundled.DEFAULT in bundled.bundled_names()


def test_the_bundled_network_removes_noise_of_every_level() -> None:
    network = load_network(Path(bundled.DEFAULT))
    predictor = predictor_for(network.model, network.params, network.batch_stats)
    clean = skimage.data.chelsea()[64:192, 64:192].astype(np.float32) / 255
    for sigma, least in ((5, 1.0), (15, 5.0), (25, 8.0), (50, 11.0)):
        noise = np.random.default_rng(0).normal(0, sigma / 255, clean.shape).astype(np.float32)
        noisy = clean + noise
        gain = psnr(predictor.restore(noisy), clean) - psnr(np.clip(noisy, 0, 1), clean)
        assert gain > least, sigma


def test_a_photograph_alone_is_restored_by_the_bundled_network(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    image = pixels((24, 16, 3))
    save(tmp_path / "a.png", image)
    assert main(["restore", "a.png"]) == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("network: denoiser-2, which comes with this program.")
    assert second.startswith("a.png -> restored/a.png: restored")
    network = load_network(Path("denoiser-2"))
    predictor = predictor_for(network.model, network.params, network.batch_stats)
    expected = predictor.restore(image.astype(np.float32) / 255)
    assert np.array_equal(stored(tmp_path / "restored" / "a.png"), np.rint(255 * expected))


def test_the_network_is_the_first_argument_or_the_flag(checkpoint: Make, tmp_path: Path) -> None:
    run = str(checkpoint(SPEC))
    photograph = str(save(tmp_path / "a.png", pixels((8, 8, 3))))
    for inputs, network, chosen in (
        ([run, photograph], None, (run, [photograph])),
        ([photograph], run, (run, [photograph])),
        ([photograph, run], None, ("denoiser-2", [photograph, run])),
        ([photograph], "denoiser-2", ("denoiser-2", [photograph])),
        (["denoiser-2", photograph], None, ("denoiser-2", [photograph])),
        (["missing", photograph], None, ("denoiser-2", ["missing", photograph])),
        ([], None, ("denoiser-2", [])),
    ):
        assert choose_network(inputs, network) == (Path(chosen[0]), tuple(chosen[1]))


def test_a_run_without_a_checkpoint_is_still_a_run(tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    save(run / "report.png", pixels((8, 8, 3)))
    photograph = str(save(tmp_path / "a.png", pixels((8, 8, 3))))
    assert main(["restore", str(run), photograph, "--output", str(tmp_path / "out")]) == 2
    assert "There is no checkpoint in" in capsys.readouterr().err


def test_a_folder_of_runs_is_not_taken_for_photographs(
    checkpoint: Make, tmp_path: Path, capsys
) -> None:
    shutil.copytree(checkpoint(SPEC), tmp_path / "runs" / "001" / "checkpoints" / "5")
    save(tmp_path / "runs" / "001" / "report.png", pixels((8, 8, 3)))
    command = ["restore", str(tmp_path / "runs"), "--output", str(tmp_path / "out")]
    assert main(command) == 2
    assert "runs is a folder of runs. Give one of them" in capsys.readouterr().err
    assert main([*command, "--network", "denoiser-2"]) == 0
    assert stored(tmp_path / "out" / "001" / "report.png").shape == (8, 8, 3)


def test_a_missing_path_is_an_error(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, message in (
        (["missing.jpg"], "There is no file or folder missing.jpg"),
        (["a.png", "--network", "denoiser-9"], "name of a bundled network: denoiser-2."),
        ([], "There is nothing to restore"),
    ):
        save(tmp_path / "a.png", pixels((8, 8, 3)))
        assert main(["restore", *arguments]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "restored").exists()


def test_a_folder_with_the_name_of_a_bundled_network_comes_first(
    checkpoint: Make, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(checkpoint(SPEC), tmp_path / "denoiser-2")
    assert load_network(Path("denoiser-2")).spec == SPEC


def test_a_damaged_file_is_one_sentence(tmp_path: Path, monkeypatch) -> None:
    content = (bundled._FOLDER / "denoiser-2.safetensors").read_bytes()
    monkeypatch.setattr(bundled, "_FOLDER", tmp_path)
    flipped = bytearray(content)
    flipped[-5] ^= 1
    for damaged in (b"", content[:1000], bytes(flipped)):
        (tmp_path / "denoiser-2.safetensors").write_bytes(damaged)
        with pytest.raises(InputError, match="denoiser-2.safetensors is damaged"):
            bundled.load_bundled("denoiser-2")


@pytest.mark.parametrize("start", range(4))
def test_no_flipped_bit_in_the_header_of_a_bundled_network_goes_unnoticed(
    start: int, tmp_path: Path, monkeypatch
) -> None:
    content = (bundled._FOLDER / "denoiser-2.safetensors").read_bytes()
    monkeypatch.setattr(bundled, "_FOLDER", tmp_path)
    end = 8 + int.from_bytes(content[:8], "little")
    for place in range(start, end, 16):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place // 16 % 7
        (tmp_path / "denoiser-2.safetensors").write_bytes(flipped)
        with pytest.raises(InputError, match="denoiser-2.safetensors is damaged"):
            bundled.load_bundled("denoiser-2")


def test_a_saved_network_is_loaded_as_it_was(tmp_path: Path, monkeypatch) -> None:
    spec, variables, summary = bundled.load_bundled("denoiser-2")
    loss, photographs = bundled.bundled_origin("denoiser-2")
    monkeypatch.setattr(bundled, "_FOLDER", tmp_path)
    about = {"loss": loss, "photographs": photographs}
    bundled.save_bundled(tmp_path / "again.safetensors", spec, variables, summary, **about)
    assert bundled.bundled_names() == ["again"]
    found = bundled.load_bundled("again")
    assert found[0] == spec and found[2] == summary
    assert bundled.bundled_origin("again") == (loss, photographs)
    chex.assert_trees_all_equal(found[1], variables)


@pytest.mark.parametrize("verb", ["evaluate", "export"])
def test_other_verbs_accept_the_name(verb: str, tmp_path: Path) -> None:
    photographs = tmp_path / "in"
    save(photographs / "a.png", pixels((24, 24, 3)))
    arguments = {
        "evaluate": ["--data", f"folder:{photographs}", "--protocol", "float", "--sigmas", "25"],
        "export": ["--format", "torch"],
    }[verb]
    out = tmp_path / ("out" if verb == "evaluate" else "out.safetensors")
    assert not main([verb, "denoiser-2", *arguments, "--output", str(out)])
    assert out.exists()
