"""Files in the layouts in which NAFNet and HVI-CIDNet are published.

The published files cannot be had here.
"""

from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from lumloss_jax.models import create_model, to_torch_state_dict, variable_shapes
from tests.train.pytorch.torch_writing import Tensor, save
from train.__main__ import main
from train.checkpoints.checkpoint import load_network

NETWORKS = {
    "nafnet": {"width": 4, "encoder_blocks": (1,), "middle_blocks": 1, "decoder_blocks": (1,)},
    "cidnet": {"features": (4, 4, 4, 4), "heads": (1, 2, 1)},
}


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("nafnet", "params"),
        ("nafnet", "bare"),
        ("cidnet", "safetensors"),
        pytest.param("cidnet", "params", marks=pytest.mark.slow),
        pytest.param("cidnet", "bare", marks=pytest.mark.slow),
    ],
)
def test_a_published_file_is_imported(name: str, layout: str, tmp_path: Path) -> None:
    fields = NETWORKS[name]
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32),
        dict(variable_shapes(create_model(name, **fields))),
    )
    state = to_torch_state_dict(name, variables, **fields)
    file = tmp_path / ("model.safetensors" if layout == "safetensors" else "model.pth")
    if layout == "safetensors":
        safetensors.numpy.save_file(state, file)
    else:
        tensors = {key: Tensor(array) for key, array in state.items()}
        save(file, {"params": tensors} if layout == "params" else tensors)
    listed = ", ".join(f"{field}={value!r}" for field, value in fields.items())
    spec, out = f"{name}({listed})", tmp_path / "imported"
    assert main(["import", str(file), f"--model={spec}", f"--out={out}"]) == 0
    network = load_network(out)
    assert network.spec == spec
    jax.tree.map(np.testing.assert_array_equal, network.params, variables["params"])
