"""SCICO's DnCNN and UNet against reference files of its own Flax variables, renamed here."""

import re

import jax
import numpy as np
import pytest
from flax import traverse_util

from lumloss_jax.models import create_model, variable_shapes


def dncnn_path(path):
    return (
        path.replace("conv_start", "conv_first")
        .replace("conv_end", "conv_last")
        .replace("ConvBNBlock_", "block_")
        .replace("Conv_0", "conv")
        .replace("BatchNorm_0", "norm")
    )


def unet_path(depth):
    """Multi-blocks are numbered in call order: down all levels, then up from the last but one."""
    stages = [f"encoder_{level}" for level in range(1, depth + 1)] + [
        f"decoder_{level}" for level in range(depth, 1, -1)
    ]

    def rename(path):
        path = re.sub(r"^(\w+)/Conv_0/kernel", r"\1/conv_last/kernel", path)
        path = re.sub(
            r"ConvBNMultiBlock_(\d)/ConvBNBlock_",
            lambda found: f"{stages[int(found[1])]}/block_",
            path,
        )
        path = re.sub(r"ConvBNPoolBlock_(\d)", lambda found: f"down_{int(found[1]) + 2}", path)
        path = re.sub(
            r"ConvBNUpsampleBlock_(\d)", lambda found: f"up_{depth - int(found[1])}", path
        )
        return path.replace("Conv_0", "conv").replace("BatchNorm_0", "norm")

    return rename


CASES = [
    ("dncnn_scico_d5_nf8", "dncnn_scico", {"depth": 5, "features": 8}, dncnn_path),
    ("unet_scico_d2_nf6", "unet_scico", {"depth": 2, "features": 6, "channels": 1}, unet_path(2)),
]


@pytest.mark.parametrize(("file", "name", "config", "rename"), CASES)
def test_restores_and_trains_as_scico_does(file, name, config, rename, reference, jit):
    arrays, model = reference(file), create_model(name, **config)

    def tree(beginning, collection):
        return {
            rename(key.replace(beginning, collection, 1)): array
            for key, array in arrays.items()
            if key.startswith(beginning)
        }

    flat = tree("params/", "params/") | tree("batch_stats/", "batch_stats/")
    shapes = traverse_util.flatten_dict(variable_shapes(model), sep="/")
    assert {key: array.shape for key, array in flat.items()} == {
        key: leaf.shape for key, leaf in shapes.items()
    }
    variables = traverse_util.unflatten_dict(flat, sep="/")

    restored = jit(model.apply)(variables, arrays["input"])
    np.testing.assert_allclose(restored, arrays["output"], rtol=0, atol=3e-5)

    apply = jit(
        lambda variables: model.apply(
            variables, arrays["input"], train=True, mutable=["batch_stats"]
        )
    )
    restored, new = apply(variables)
    np.testing.assert_allclose(restored, arrays["train/output"], rtol=0, atol=3e-5)
    expected = tree("train/new_batch_stats/", "batch_stats/")
    new = traverse_util.flatten_dict(new, sep="/")
    assert set(new) == set(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(new[key], value, rtol=1e-5, atol=1e-6)


def test_parameter_count():
    shapes = variable_shapes(create_model("unet_scico", depth=2, channels=1))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == 591_872
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["batch_stats"])) == 1_408


def test_refuses_levels_it_cannot_build():
    with pytest.raises(ValueError, match="at least 1; got 0 and 2"):
        variable_shapes(create_model("unet_scico", depth=0))
