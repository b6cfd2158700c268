import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.slow_cases import slow_for
from tests.train.inference.exports.stand_in import stand_in
from train.__main__ import main
from train.checkpoints.checkpoint import load_network
from train.inference.predictors import predictor_for

BLIND = "dncnn(depth=3, features=4)"
TOLD = "drunet(features=(2, 4), blocks=1)"
GREY = "dncnn(depth=3, features=4, channels=1)"

Make = Callable[[str], Path]


def exported(checkpoint: Path, file: Path, *options: str) -> int:
    return main(["export", str(checkpoint), "--format=darktable", f"--output={file}", *options])


def description(file: Path) -> dict[str, object]:
    with zipfile.ZipFile(file) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/config.json")]
        return json.loads(archive.read(name))


def test_a_package_holds_a_model_and_its_description(
    checkpoint: Make, tmp_path: Path, monkeypatch, capsys
) -> None:
    asked = stand_in(monkeypatch)
    file = tmp_path / "denoise-mine.dtmodel"
    assert exported(checkpoint(BLIND), file, "--size=192x192") == 0
    assert exported(checkpoint(BLIND), file) == 0  # It is ours, so it is replaced.
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        assert archive.read("denoise-mine/model.onnx") == b"model 1"
    assert [entry.filename for entry in entries] == [
        "denoise-mine/model.onnx",
        "denoise-mine/config.json",
    ]
    assert {entry.external_attr >> 16 for entry in entries} == {0o644}
    assert description(file) == {
        "id": "denoise-mine",
        "name": "denoise-mine",
        "description": f"{BLIND}, exported by lumloss_jax",
        "task": "denoise",
        "arch": "dncnn",
        "backend": "onnx",
        "version": "1.0",
        "tiling": True,
        "num_inputs": 1,
        "attributes": {"input_sizes": [768]},
    }
    _, converted = asked
    assert [one.shape for one in converted.inputs] == [(1, 3, 768, 768)]
    assert (converted.names, converted.outputs, converted.opset) == (["input"], ["output"], 20)
    said = capsys.readouterr().out
    assert "for darktable 5.6, tiles of 768x768 pixels: import" in said and "note" not in said


def test_a_network_that_needs_the_level_takes_it_from_a_map(
    checkpoint: Make, tmp_path: Path, monkeypatch, capsys
) -> None:
    asked = stand_in(monkeypatch)
    file = tmp_path / "Told.dtmodel"
    assert exported(checkpoint(TOLD), file, "--size=192x192") == 0
    assert description(file)["num_inputs"] == 2
    assert description(file)["id"] == "denoise-told"
    assert description(file)["attributes"] == {"input_sizes": [192]}
    assert "gives the network the noise level 25" in capsys.readouterr().out
    (converted,) = asked
    assert converted.names == ["input", "sigma"]
    assert [one.shape for one in converted.inputs] == [(1, 3, 192, 192), (1, 1, 192, 192)]
    network = load_network(checkpoint(TOLD))
    predictor = predictor_for(network.model, network.params, {})
    image = np.random.default_rng(0).uniform(0, 1, (192, 192, 3)).astype(np.float32)
    for sigma in (0.1, 0.3):
        level = np.full((1, 1, 192, 192), sigma, np.float32)
        (found,) = np.asarray(converted.program.call(image.transpose(2, 0, 1)[None], level))
        wanted = predictor.restore(image, sigma=sigma)
        np.testing.assert_allclose(found.transpose(1, 2, 0), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (GREY, (), "darktable's models restore colour photographs. Export a network with"),
        (BLIND, ("--size=192x256",), "--size 192x256 is not square"),
        (BLIND, ("--size=128x128",), "tiles overlap by 64 pixels on each side. Use more than 128"),
        (TOLD, ("--size=193x193",), "--size 193x193 is not a multiple of 2 pixels"),
    ],
)
def test_what_darktable_cannot_run_is_refused(
    checkpoint: Make, tmp_path: Path, capsys, spec: str, options: tuple[str, ...], message: str
) -> None:
    file = tmp_path / "mine.dtmodel"
    assert exported(checkpoint(spec), file, *options) == 2
    assert message in capsys.readouterr().err
    assert not file.exists()


def test_a_name_without_letters_is_refused(
    checkpoint: Make, tmp_path: Path, monkeypatch, capsys
) -> None:
    stand_in(monkeypatch)
    assert exported(checkpoint(BLIND), tmp_path / "模型.dtmodel", "--size=192x192") == 2
    assert "has no letter or digit of ASCII in its name" in capsys.readouterr().err


FAR = {
    "drunet(features=(2, 2, 2), blocks=3)": "65 pixels far",
    "retinexformer(features=4, levels=1, num_blocks=(1, 1))": "at the whole photograph",
    "nafnet(width=4, encoder_blocks=(1,), decoder_blocks=(1,), middle_blocks=0)": (
        "at the whole photograph"
    ),
}


@slow_for("spec", FAR, [spec for spec in FAR if spec.startswith(("drunet", "retinexformer"))])
def test_networks_that_look_farther_than_tiles_overlap_get_a_note(
    spec: str, checkpoint: Make, tmp_path: Path, monkeypatch, capsys
) -> None:
    stand_in(monkeypatch)
    assert exported(checkpoint(spec), tmp_path / "far.dtmodel", "--size=192x192") == 0
    assert f"note: the network looks {FAR[spec]}" in capsys.readouterr().out


def test_a_model_that_differs_is_not_written(
    checkpoint: Make, tmp_path: Path, monkeypatch, capsys
) -> None:
    stand_in(monkeypatch, error=1.5e-4)
    assert exported(checkpoint(BLIND), tmp_path / "mine.dtmodel", "--size=192x192") == 2
    assert "differs from the network by 0.00015" in capsys.readouterr().err
    assert not (tmp_path / "mine.dtmodel").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # warnings of the converter, which we cannot fix
@pytest.mark.parametrize("spec", [BLIND, TOLD])
def test_packages_run_in_onnxruntime(checkpoint: Make, tmp_path: Path, spec: str) -> None:
    pytest.importorskip(
        "jax2onnx", reason="needs the packages of --format onnx", exc_type=ImportError
    )
    import onnx
    import onnxruntime

    file = tmp_path / "denoise-mine.dtmodel"
    assert exported(checkpoint(spec), file) == 0
    with zipfile.ZipFile(file) as archive:
        content = archive.read("denoise-mine/model.onnx")
    assert [(one.domain, one.version) for one in onnx.load_from_string(content).opset_import] == [
        ("", 20)
    ]
    session = onnxruntime.InferenceSession(content)
    assert session.get_outputs()[0].shape == [1, 3, 768, 768]
    image = np.random.default_rng(1).uniform(0, 1, (768, 768, 3)).astype(np.float32)
    inputs = {"input": image.transpose(2, 0, 1)[None]}
    if spec == TOLD:
        inputs["sigma"] = np.full((1, 1, 768, 768), 50 / 255, np.float32)
    ((found,),) = session.run(["output"], inputs)
    network = load_network(checkpoint(spec))
    predictor = predictor_for(network.model, network.params, network.batch_stats)
    wanted = predictor.restore(image, sigma=50 / 255)
    np.testing.assert_allclose(found.transpose(1, 2, 0), wanted, rtol=0, atol=1e-4)
