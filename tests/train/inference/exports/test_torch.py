import json
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from lumloss_jax.models import create_model, from_torch_state_dict, variable_shapes
from train.__main__ import main
from train.checkpoints.checkpoint import Network, load_network
from train.inference.exports.torch import to_torch
from train.inference.predictors import predictor_for
from train.network import build_model

GOLDEN = json.loads(
    (Path(__file__).parents[4] / "tests" / "golden" / "models" / "spandrel_keys.json").read_text()
)["networks"]
NORMED = "dncnn(depth=8, features=4)"

Make = Callable[[str], Path]


def exported(checkpoint: Path, folder: Path, *options: str) -> Path:
    file = folder / "model.safetensors"
    assert main(["export", str(checkpoint), "--format=torch", f"--output={file}", *options]) == 0
    return file


@pytest.mark.parametrize(
    ("spec", "kair", "golden"),
    [
        ("dncnn", True, "dncnn_kair_merged"),
        ("dncnn_kair", False, "dncnn_kair"),
        ("dncnn_kair", True, "dncnn_kair_merged"),
        ("dncnn_kair_merged", False, "dncnn_kair_merged"),
        pytest.param("drunet", False, "drunet", marks=pytest.mark.slow),
        pytest.param("retinexformer", False, "retinexformer", marks=pytest.mark.slow),
    ],
)
def test_keys_and_shapes_are_those_of_spandrels_networks(
    spec: str, kair: bool, golden: str
) -> None:
    model = build_model(spec)
    variables = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype), dict(variable_shapes(model))
    )
    network = Network(model, spec, variables["params"], variables.get("batch_stats", {}))
    content, _ = to_torch(network, kair=kair)
    found = {key: list(array.shape) for key, array in safetensors.numpy.load(content).items()}
    assert found == GOLDEN[golden]


@pytest.mark.parametrize("options", ["", ", batch_norm=False, bias='none'", ", bias='first'"])
def test_the_merged_form_restores_the_same(checkpoint: Make, tmp_path: Path, options: str) -> None:
    spec = f"{NORMED[:-1]}{options})"
    arrays = safetensors.numpy.load_file(exported(checkpoint(spec), tmp_path, "--kair"))
    fields = {"depth": 8, "features": 4}
    variables = from_torch_state_dict("dncnn_kair_merged", arrays, **fields)
    image = np.random.default_rng(0).uniform(0, 1, (17, 23, 3)).astype(np.float32)
    found = create_model("dncnn_kair_merged", **fields).apply(variables, image)
    network = load_network(checkpoint(spec))
    wanted = predictor_for(network.model, network.params, network.batch_stats).restore(image)
    np.testing.assert_allclose(np.clip(found, 0, 1), wanted, rtol=0, atol=1e-5)


def test_few_layers_and_other_names_get_a_note(checkpoint: Make, tmp_path: Path, capsys) -> None:
    exported(checkpoint("dncnn(depth=7, features=4)"), tmp_path, "--kair")
    assert "recognizes this form from 8 convolutions on, and this network has 7" in (
        capsys.readouterr().out
    )
    exported(checkpoint(NORMED), tmp_path, "--kair")
    assert "note" not in capsys.readouterr().out
    exported(checkpoint(NORMED), tmp_path)
    assert "note: spandrel does not recognize these names. Use --kair" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("drunet(features=(2, 4), blocks=1)", ("--format=torch",), "only for networks of the kind"),
        ("dncnn_scico(depth=3, features=4)", ("--format=torch",), 'has padding="circular"'),
        (NORMED, ("--format=stablehlo",), "--kair chooses the names in a state dict"),
    ],
)
def test_the_merged_form_is_refused_where_it_does_not_fit(
    checkpoint: Make, tmp_path: Path, capsys, spec: str, options: tuple[str, ...], message: str
) -> None:
    ending = "safetensors" if options == ("--format=torch",) else "stablehlo"
    file = tmp_path / f"model.{ending}"
    assert main(["export", str(checkpoint(spec)), "--kair", f"--output={file}", *options]) == 2
    assert message in capsys.readouterr().err
    assert not file.exists()


@pytest.mark.filterwarnings("ignore")  # warnings of PyTorch's, which we cannot fix
@pytest.mark.parametrize(
    ("spec", "options", "architecture"),
    [
        (NORMED, ("--kair",), "DnCNN"),
        ("dncnn_kair(depth=5, features=4)", (), "DnCNN"),
        ("dncnn_kair_merged(depth=8, features=4)", (), "DnCNN"),
        ("drunet(features=(2, 4, 4, 8), blocks=3)", (), "DRUNet"),
        ("retinexformer(features=4, num_blocks=(1, 1, 1))", (), "RetinexFormer"),
    ],
)
def test_spandrel_loads_what_is_exported(
    checkpoint: Make, tmp_path: Path, spec: str, options: tuple[str, ...], architecture: str
) -> None:
    spandrel = pytest.importorskip("spandrel", reason="needs spandrel, and PyTorch with it")
    import torch

    loaded = spandrel.ModelLoader().load_from_file(exported(checkpoint(spec), tmp_path, *options))
    assert loaded.architecture.id == architecture
    image = np.random.default_rng(0).uniform(0, 1, (32, 40, 3)).astype(np.float32)
    with torch.no_grad():
        (found,) = loaded(torch.from_numpy(image.transpose(2, 0, 1)[None])).numpy()
    network = load_network(checkpoint(spec))
    predictor = predictor_for(network.model, network.params, network.batch_stats)
    wanted = predictor.restore(image, sigma=15 / 255)  # what spandrel tells DRUNet
    np.testing.assert_allclose(found.transpose(1, 2, 0).clip(0, 1), wanted, rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore")  # warnings of PyTorch's, which we cannot fix
def test_spandrel_does_not_know_the_default_names(checkpoint: Make, tmp_path: Path) -> None:
    spandrel = pytest.importorskip("spandrel", reason="needs spandrel, and PyTorch with it")
    with pytest.raises(spandrel.UnsupportedModelError):
        spandrel.ModelLoader().load_from_file(exported(checkpoint(NORMED), tmp_path))
