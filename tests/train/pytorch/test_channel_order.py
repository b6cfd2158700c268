import json
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from lumloss_jax.models import create_model, to_torch_state_dict, variable_shapes
from train.__main__ import main
from train.checkpoints.checkpoint import load_network
from train.pytorch.channel_order import reverse_channels

FIELDS = {
    "dncnn": {"depth": 3, "features": 4, "batch_norm": False},
    "buifd": {
        "depth": 2,
        "features": 4,
        "level_depth": 2,
        "level_features": 4,
        "fusion_features": 4,
    },
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_reversed_network_does_to_reversed_images_what_it_did(name: str) -> None:
    model = create_model(name, **FIELDS[name])
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda s: rng.normal(0, 0.3, s.shape).astype(np.float32), variable_shapes(model)
    )
    images = rng.uniform(0, 1, (1, 6, 7, 3)).astype(np.float32)
    apply = jax.jit(model.apply)
    there, back = (
        apply(variables, images),
        apply(reverse_channels(model, variables), images[..., ::-1]),
    )
    np.testing.assert_allclose(back[..., ::-1], there, rtol=0, atol=1e-5)
    assert np.abs(np.asarray(apply(variables, images[..., ::-1]))[..., ::-1] - there).max() > 0.01


def test_weights_for_bgr_are_imported_for_rgb(tmp_path: Path, capsys) -> None:
    spec = "dncnn(depth=2, features=4, batch_norm=False)"
    model = create_model("dncnn", depth=2, features=4, batch_norm=False)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda s: rng.normal(0, 0.3, s.shape).astype(np.float32), variable_shapes(model)
    )
    file = tmp_path / "bgr.safetensors"
    safetensors.numpy.save_file(
        to_torch_state_dict("dncnn", variables, depth=2, features=4, batch_norm=False), file
    )
    command = [
        "import",
        str(file),
        "--model",
        spec,
        "--channel-order=bgr",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(command) == 0
    kernel = np.asarray(load_network(tmp_path / "out").params["conv_first"]["kernel"])
    np.testing.assert_array_equal(kernel, variables["params"]["conv_first"]["kernel"][:, :, ::-1])
    assert (
        json.loads((tmp_path / "out" / "about" / "metadata").read_text())["channel_order"] == "bgr"
    )


def test_networks_whose_channels_lie_elsewhere_are_refused() -> None:
    with pytest.raises(Exception, match="works for DnCNN, BUIFD; got UNet"):
        reverse_channels(create_model("unet"), {})
