import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.train.inference.exports.stand_in import stand_in
from train.__main__ import main
from train.checkpoints.checkpoint import load_network
from train.inference.predictors import predictor_for

POOLED = "unet(features=(2, 4))"
TOLD = "drunet(features=(2, 4), blocks=1)"
SPECS = (
    "dncnn(depth=3, features=4)",
    "dncnn_scico(depth=3, features=4)",
    POOLED,
    "unet_scico(depth=2, features=2, block_depth=1)",
    "unet_dpir(features=(2, 4, 4), blocks=1)",
    TOLD,
    "buifd(depth=3, features=4, level_depth=2, level_features=4, fusion_features=4)",
    "retinexformer(features=4, levels=1, num_blocks=(1, 1))",
)

Make = Callable[[str], Path]


def test_sizes_stay_open_in_multiples_of_the_stride(
    checkpoint: Make, tmp_path: Path, monkeypatch, capsys
) -> None:
    asked = stand_in(monkeypatch)
    for spec in (POOLED, TOLD):
        file = tmp_path / f"{len(asked)}.onnx"
        assert main(["export", str(checkpoint(spec)), "--format=onnx", f"--output={file}"]) == 0
        assert "h and w must be multiples of 2" in capsys.readouterr().out
        assert file.read_bytes() == (b"model 0" if spec == POOLED else b"model 1")
    assert str(asked[0].inputs[0].shape) == "(b, 2*h, 2*w, 3)" and len(asked[0].inputs) == 1
    assert str(asked[1].inputs[1].shape) == "(b,)"


def test_a_fixed_size_may_be_any(checkpoint: Make, tmp_path: Path, monkeypatch, capsys) -> None:
    asked = stand_in(monkeypatch)
    command = [
        "export",
        str(checkpoint(POOLED)),
        "--format=onnx",
        f"--output={tmp_path / 'model.onnx'}",
    ]
    # Neither is a multiple of two. A different result would be an error.
    assert main([*command, "--size=7x11"]) == 0
    assert asked[0].inputs[0].shape[1:] == (7, 11, 3)
    assert "[b, 7, 11, 3]" in capsys.readouterr().out


def test_a_model_that_differs_is_not_written(
    checkpoint: Make, tmp_path: Path, monkeypatch, capsys
) -> None:
    stand_in(monkeypatch, error=1.5e-4)
    file = tmp_path / "model.onnx"
    assert (
        main(
            ["export", str(checkpoint(POOLED)), "--format=onnx", f"--output={file}", "--size=7x11"]
        )
        == 2
    )
    assert "differs from the network by 0.00015" in capsys.readouterr().err
    assert not file.exists()


def test_a_network_that_cannot_be_converted_is_an_error(
    checkpoint: Make, tmp_path: Path, monkeypatch, capsys
) -> None:
    stand_in(monkeypatch)

    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("no such operation\nand more")

    monkeypatch.setattr(sys.modules["jax2onnx"], "to_onnx", fail)
    command = [
        "export",
        str(checkpoint(POOLED)),
        "--format=onnx",
        f"--output={tmp_path / 'model.onnx'}",
    ]
    assert main(command) == 2
    said = capsys.readouterr().err
    expected = f"cannot convert {POOLED} (RuntimeError: no such operation). It may succeed with --"
    assert expected in said


def test_without_the_converter_the_error_says_how_to_install_it(
    checkpoint: Make, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    command = ["export", str(checkpoint(POOLED)), f"--output={tmp_path / 'model.onnx'}"]
    assert main([*command, "--format=onnx"]) == 2
    assert 'pip install -e ".[onnx]" and pip install --no-deps jax2onnx' in capsys.readouterr().err
    assert main([*command, "--format=onnx", "--size=7"]) == 2
    assert "--size must be HEIGHTxWIDTH, such as 480x640; got '7'" in capsys.readouterr().err
    command[-1] = f"--output={tmp_path / 'model.stablehlo'}"
    assert main([*command, "--format=stablehlo", "--size=7x11"]) == 2
    assert "--size 7x11 is only for --format onnx and darktable" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # warnings of the converter, which we cannot fix
@pytest.mark.parametrize("spec", SPECS)
def test_every_network_runs_in_onnxruntime(checkpoint: Make, tmp_path: Path, spec: str) -> None:
    pytest.importorskip(
        "jax2onnx", reason="needs the packages of --format onnx", exc_type=ImportError
    )
    import onnxruntime

    network = load_network(checkpoint(spec))
    predictor = predictor_for(network.model, network.params, network.batch_stats)
    images = np.random.default_rng(1).uniform(0, 1, (2, 52, 44, 3)).astype(np.float32)
    for options, cut in (((), images), (("--size=7x11",), images[:, :7, :11])):
        file = tmp_path / "model.onnx"
        assert (
            main(["export", str(checkpoint(spec)), "--format=onnx", f"--output={file}", *options])
            == 0
        )
        inputs = {"images": cut} | ({"sigma": np.float32([0.1, 0.1])} if spec == TOLD else {})
        (found,) = onnxruntime.InferenceSession(str(file)).run(["restored"], inputs)
        for one, image in zip(found, cut, strict=True):
            np.testing.assert_allclose(one, predictor.restore(image, sigma=0.1), rtol=0, atol=1e-4)
