"""NAFNet: against the authors' code, its local form, its first values and its padding."""

import json
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumloss_jax.models import (
    create_model,
    from_torch_state_dict,
    to_torch_state_dict,
    variable_shapes,
)
from lumloss_jax.models._layers import Settings
from lumloss_jax.models._nafnet import Block, box_sums, channels_to_pixels, local_means
from tests.shared_data import needs_shared, of_files

FOLDER = "nafnet_cidnet"
ONES = {"encoder_blocks": (1, 1), "middle_blocks": 1, "decoder_blocks": (1, 1)}
TWO = {**ONES, "encoder_blocks": (1, 2)}
# Fields of each reference file. Those of one channel, of local means and of a black image are kept
# in the repository too.
FILES = {
    "nafnet_w4_e112_m2_d121": {
        "width": 4,
        "encoder_blocks": (1, 1, 2),
        "middle_blocks": 2,
        "decoder_blocks": (1, 2, 1),
    },
    "nafnet_w5_black": {"width": 5, **TWO},
    "nafnet_w5_dark": {"width": 5, **TWO},
    "nafnet_w5_e111_m1_d111_odd": {
        "width": 5,
        "encoder_blocks": (1, 1, 1),
        "middle_blocks": 1,
        "decoder_blocks": (1, 1, 1),
    },
    "nafnet_w5_gray": {"width": 5, "channels": 1, **ONES},
    "nafnet_w5_local16": {"width": 5, "window": (24, 24), **ONES},
    "nafnet_w5_local18x26_one_axis": {"width": 5, "window": (30, 42), **ONES},
    "nafnet_w5_unclipped": {"width": 5, **TWO},
}
# Mean absolute error, from the files' descriptions
LOSSES = {
    "nafnet_w4_e112_m2_d121": 0.5823571864463201,
    "nafnet_w5_black": 0.30233811877187633,
    "nafnet_w5_dark": 0.33829015182726185,
    "nafnet_w5_local16": 0.4671065594135429,
}
TINY = {"width": 4, "encoder_blocks": (1,), "middle_blocks": 1, "decoder_blocks": (1,)}


def nhwc(array):
    return np.asarray(np.moveaxis(array, -3, -1), np.float32)


def part(file, prefix):
    return {
        key.removeprefix(prefix): array for key, array in file.items() if key.startswith(prefix)
    }


# Fast are those that the repository keeps.
SLOW = (
    "w4_e112_m2_d121",
    "w5_dark",
    "w5_e111_m1_d111_odd",
    "w5_local18x26_one_axis",
    "w5_unclipped",
)


@pytest.mark.parametrize(
    "name",
    of_files(
        [f"{FOLDER}/{name}" for name in FILES], slow=[f"{FOLDER}/nafnet_{name}" for name in SLOW]
    ),
)
def test_matches_the_authors_code(name, reference, jit):
    file = reference(name)
    name = name.removeprefix(f"{FOLDER}/")
    config = FILES[name]
    model = create_model("nafnet", **config)
    variables = from_torch_state_dict("nafnet", part(file, "state/"), **config)
    images = nhwc(file["input"])

    def restore(params):
        restored, seen = model.apply(
            {"params": params}, images, mutable=["intermediates"], capture_intermediates=True
        )
        return restored, seen["intermediates"]

    assert ("loss/target" in file) == (name in LOSSES)
    if name not in LOSSES:
        restored, _ = jit(restore)(variables["params"])
        np.testing.assert_allclose(restored, nhwc(file["output_f64"]), rtol=0, atol=3e-5)
        return

    def loss(params):
        restored, seen = restore(params)
        return jnp.mean(jnp.abs(restored - nhwc(file["loss/target"]))), (restored, seen)

    step = jit(jax.value_and_grad(loss, has_aux=True))
    (value, (restored, seen)), gradients = step(variables["params"])
    np.testing.assert_allclose(restored, nhwc(file["output_f64"]), rtol=0, atol=3e-5)
    np.testing.assert_allclose(value, LOSSES[name], rtol=1e-5)
    gradients = to_torch_state_dict("nafnet", {"params": gradients}, **config)
    expected = part(file, "grad/")
    assert set(expected) == set(gradients)
    largest = max(np.abs(gradient).max() for gradient in expected.values())
    for key, gradient in expected.items():
        atol = 1e-4 * np.abs(gradient).max() + 1e-4 * largest
        np.testing.assert_allclose(gradients[key], gradient, rtol=0, atol=atol, err_msg=key)
    check_intermediates(part(file, "inter/"), seen)


def check_intermediates(expected, seen):
    if not expected:
        return
    first = seen["encoder_0_block_0"]
    found = {
        "intro": seen["intro"],
        "enc0_block0_norm1": first["norm_0"],
        "enc0_block0_conv2": first["depthwise"],
        "enc0_block0_sca": first["attention"],
        "enc0_block0_conv3": first["contract_0"],
        "enc0_block0_out": first,
        "down0_out": seen["down_0"],
        "enc2_out": seen["encoder_2_block_1"],
        "middle_out": seen["middle_block_1"],
        "dec0_out": seen["decoder_2_block_0"],
        "dec1_out": seen["decoder_1_block_1"],
        "dec2_out": seen["decoder_0_block_0"],
        "ending": seen["ending"],
    }
    found = {name: one["__call__"][0] for name, one in found.items()}
    for i, level in enumerate((2, 1, 0)):
        found[f"up{i}_out"] = channels_to_pixels(seen[f"up_{level}"]["__call__"][0])
    assert set(expected) <= set(found)
    for key, array in expected.items():
        np.testing.assert_allclose(found[key], nhwc(array), rtol=0, atol=3e-5, err_msg=key)


def test_global_means_differ_from_local_ones(reference, jit):
    file = reference(f"{FOLDER}/nafnet_w5_local18x26_one_axis")
    config = {"width": 5, **ONES}
    variables = from_torch_state_dict("nafnet", part(file, "state/"), **config)
    restored = jit(create_model("nafnet", **config).apply)(variables, nhwc(file["input"]))
    np.testing.assert_allclose(restored, nhwc(file["output_global_f64"]), rtol=0, atol=3e-5)
    assert np.abs(restored - nhwc(file["output_f64"])).max() > 0.1


@needs_shared
def test_the_global_form_of_the_other_local_file(reference, jit):
    file = reference(f"{FOLDER}/nafnet_w5_local16")
    config = {"width": 5, **ONES}
    variables = from_torch_state_dict("nafnet", part(file, "state/"), **config)
    restored = jit(create_model("nafnet", **config).apply)(variables, nhwc(file["input"]))
    np.testing.assert_allclose(restored, nhwc(file["output_global_f64"]), rtol=0, atol=3e-5)


@needs_shared
@pytest.mark.slow
def test_the_full_size_matches_the_authors_code(reference, shared: Path, jit):
    file = reference(f"{FOLDER}/nafnet_sidd_w32_full_recipe")
    described = json.loads(
        (shared / "fixtures" / FOLDER / "nafnet_sidd_w32_full_recipe.json").read_text()
    )
    model = create_model("nafnet")
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), variable_shapes(model))
    state = {
        key: by_recipe(key, array.shape, described["seed"])
        for key, array in to_torch_state_dict("nafnet", zeros).items()
    }
    assert set(state) == set(described["key_sums"])
    for key, total in described["key_sums"].items():
        np.testing.assert_allclose(state[key].sum(dtype=np.float64), total, rtol=1e-6, atol=1e-6)
    restored = jit(model.apply)(from_torch_state_dict("nafnet", state), nhwc(file["input"]))
    np.testing.assert_allclose(restored, nhwc(file["output_f64"]), rtol=0, atol=3e-5)


def by_recipe(key, shape, seed):
    """An array of the full-size network, as the file's description defines it."""
    z = np.random.RandomState(zlib.crc32(key.encode()) ^ seed).standard_normal(shape)
    if key.endswith(("beta", "gamma")):
        z = 0.2 * z
    elif ".norm" in key:
        z = 1 + 0.1 * z if key.endswith("weight") else 0.1 * z
    elif key.endswith("sca.1.bias"):
        z = 1 + 0.05 * z
    elif key.endswith("bias"):
        z = 0.05 * z
    else:
        gain = {"intro": 2, "ending": 0.3}.get(key.split(".")[0], 1)
        z = gain * z / np.sqrt(np.prod(shape[1:]))
    return z.astype(np.float32)


@pytest.mark.parametrize("window", [(3, 3), (4, 5), (6, 20), (9, 30), (20, 4)])
def test_a_local_mean_is_over_a_window_that_is_shifted_inwards(window):
    """Each mean on its own, from the definition of the window's start."""
    x = np.random.default_rng(0).random((9, 13, 2), np.float32)
    found = np.broadcast_to(local_means(jnp.asarray(x), window), x.shape)
    expected = np.empty_like(x)
    rows, columns = (min(length, size) for length, size in zip(window, x.shape[:2], strict=True))
    for i, j in np.ndindex(9, 13):
        top = np.clip(i - (rows - 1) // 2, 0, 9 - rows)
        left = np.clip(j - (columns - 1) // 2, 0, 13 - columns)
        expected[i, j] = x[top : top + rows, left : left + columns].mean(axis=(0, 1))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_box_sums_worked_by_hand():
    x = jnp.arange(1.0, 8)
    np.testing.assert_array_equal(box_sums(x, 1, 0), [1, 2, 3, 4, 5, 6, 7])
    np.testing.assert_array_equal(box_sums(x, 3, 0), [6, 9, 12, 15, 18])
    np.testing.assert_array_equal(box_sums(x, 6, 0), [21, 27])
    np.testing.assert_array_equal(box_sums(x, 7, 0), [28])


def test_four_channels_become_two_rows_of_two_pixels():
    pixels = channels_to_pixels(jnp.arange(8.0).reshape(1, 1, 8))
    np.testing.assert_array_equal(pixels[..., 0], [[0, 1], [2, 3]])
    np.testing.assert_array_equal(pixels[..., 1], [[4, 5], [6, 7]])


def test_a_block_starts_as_the_identity(jit):
    x = np.random.default_rng(1).random((1, 8, 8, 4), np.float32)
    block = Block(Settings(train=False, initializer="torch", dtype=jnp.float32))
    variables = jit(block.init)(jax.random.key(0, impl="rbg"), x)
    np.testing.assert_array_equal(block.apply(variables, x), x)
    assert variables["params"]["gain_0"].shape == (4,)


def test_sizes_are_padded_with_zeros(random_variables, jit):
    model = create_model("nafnet", **TINY)
    restore = jit(lambda images: model.apply(random_variables(model), images))
    images = np.random.default_rng(2).random((1, 7, 9, 3), np.float32)
    padded = np.pad(images, [(0, 0), (0, 1), (0, 1), (0, 0)])
    np.testing.assert_allclose(restore(images), restore(padded)[:, :7, :9], rtol=0, atol=1e-6)
    edges = np.pad(images, [(0, 0), (0, 1), (0, 1), (0, 0)], mode="edge")
    assert np.abs(restore(images) - restore(edges)[:, :7, :9]).max() > 1e-4


def test_names_are_the_published_ones_also_inside_params(random_variables):
    """The authors' files hold one dictionary, ``params``; converted ones begin with generator."""
    model = create_model("nafnet", **TINY)
    variables = random_variables(model)
    state = to_torch_state_dict("nafnet", variables, **TINY)
    assert list(state)[:7] == [
        "intro.weight",
        "intro.bias",
        "ending.weight",
        "ending.bias",
        "encoders.0.0.beta",
        "encoders.0.0.gamma",
        "encoders.0.0.conv1.weight",
    ]
    assert list(state)[-3:] == ["ups.0.0.weight", "downs.0.weight", "downs.0.bias"]
    assert state["encoders.0.0.beta"].shape == (1, 4, 1, 1)
    assert state["encoders.0.0.sca.1.weight"].shape == (4, 4, 1, 1)
    renamed = {f"generator.{key}": array for key, array in state.items()}
    for file in ({"params": state}, renamed):
        found = from_torch_state_dict("nafnet", file, **TINY)
        jax.tree.map(np.testing.assert_array_equal, found, variables)


@pytest.mark.slow
def test_published_forms_have_664_entries():
    gopro = {"encoder_blocks": (1, 1, 1, 28), "middle_blocks": 1, "decoder_blocks": (1, 1, 1, 1)}
    shapes = variable_shapes(create_model("nafnet", **gopro))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 17_111_907
    for fields in ({"width": 2}, {"width": 2, **gopro}):
        shapes = variable_shapes(create_model("nafnet", **fields))
        zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
        assert len(to_torch_state_dict("nafnet", zeros, **fields)) == 664


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 0}, "width must be at least 1"),
        ({"decoder_blocks": (1, 1)}, "one number for each level"),
        ({"middle_blocks": -1}, "each number of blocks 0 or more"),
        ({"window": (384,)}, "must be empty, or the height and the width"),
        ({"window": (384, 8)}, "each at least 16"),
    ],
)
def test_refuses_fields_that_make_no_network(fields, message):
    with pytest.raises(ValueError, match=message):
        variable_shapes(create_model("nafnet", **fields))


def test_windows_need_known_sizes():
    model = create_model("nafnet", **TINY, window=(8, 8))
    shape = jax.export.symbolic_shape("b, h, w, 3")
    with pytest.raises(ValueError, match="needs images of a known size"):
        jax.eval_shape(
            model.apply, variable_shapes(model), jax.ShapeDtypeStruct(shape, jnp.float32)
        )
