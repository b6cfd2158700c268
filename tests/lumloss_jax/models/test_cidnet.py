"""HVI-CIDNet: against the authors' code, its colour transform, its resampling and its padding."""

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
from lumloss_jax.models._cidnet import from_hvi, to_hvi
from lumloss_jax.models._cross_attention import Rows, double, halve
from tests.shared_data import needs_shared, of_files

FOLDER = "nafnet_cidnet"
LARGER = {"features": (6, 4, 8, 12), "heads": (2, 2, 4)}
SMALLER = {"features": (4, 4, 6, 8), "heads": (2, 3, 2)}
# Fields of each reference file. The one with norms and the transform are kept in the repository
# too.
FILES = {
    "cidnet_c4_4_6_8_black": SMALLER,
    "cidnet_c4_4_6_8_dark": SMALLER,
    "cidnet_c4_4_6_8_grey": SMALLER,
    "cidnet_c4_4_6_8_norm": {**SMALLER, "norm": True},
    "cidnet_c6_4_8_12": LARGER,
}
# Mean absolute error, from the files' descriptions
LOSSES = {
    "cidnet_c4_4_6_8_black": 0.650766604699952,
    "cidnet_c4_4_6_8_dark": 0.4494650243451819,
    "cidnet_c4_4_6_8_grey": 0.376513808896949,
    "cidnet_c6_4_8_12": 0.2488019258878358,
}
EXPONENTS = (0.2, 0.4003, 0.9835, 1.1255)


def nhwc(array):
    return np.moveaxis(np.asarray(array), -3, -1)


def part(file, prefix):
    return {
        key.removeprefix(prefix): array for key, array in file.items() if key.startswith(prefix)
    }


def with_variables(name, file, config, dtype=np.float32):
    variables = from_torch_state_dict("cidnet", part(file, "state/"), **config)
    return create_model("cidnet", **config), jax.tree.map(lambda x: x.astype(dtype), variables)


@pytest.mark.parametrize(
    "name",
    of_files(
        [f"{FOLDER}/{name}" for name in FILES],
        slow=[f"{FOLDER}/{name}" for name in FILES if name != "cidnet_c4_4_6_8_norm"],
    ),
)
def test_matches_the_authors_code(name, reference, jit):
    file = reference(name)
    name = name.removeprefix(f"{FOLDER}/")
    config = FILES[name]
    model, variables = with_variables(name, file, config)
    images = nhwc(file["input"]).astype(np.float32)

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
        target = nhwc(file["loss/target"]).astype(np.float32)
        return jnp.mean(jnp.abs(restored - target)), (restored, seen)

    step = jit(jax.value_and_grad(loss, has_aux=True))
    (value, (restored, seen)), gradients = step(variables["params"])
    np.testing.assert_allclose(restored, nhwc(file["output_f64"]), rtol=0, atol=3e-5)
    np.testing.assert_allclose(value, LOSSES[name], rtol=1e-5)
    gradients = to_torch_state_dict("cidnet", {"params": gradients}, **config)
    expected = part(file, "grad/")
    assert set(expected) == set(gradients)
    largest = max(np.abs(gradient).max() for gradient in expected.values())
    for key, gradient in expected.items():
        atol = 1e-4 * np.abs(gradient).max() + 1e-4 * largest
        np.testing.assert_allclose(gradients[key], gradient, rtol=0, atol=atol, err_msg=key)
        assert key.startswith("I_LCA5.") <= (not gradients[key].any())
    check_intermediates(part(file, "inter/"), seen)


def check_intermediates(expected, seen):
    if not expected:
        return
    blocks = {"I_LCA": "intensity_layer_", "HV_LCA": "color_layer_"}
    found = {}
    for key in expected:
        if "LCA" in key:
            branch, _, number = key.partition("LCA")
            number, _, inner = number.partition("_")
            block = seen[f"{blocks[branch + 'LCA']}{number}"]
            found[key] = (block[inner] if inner else block)["__call__"][0]
        elif "_enc" in key or "_dec" in key:
            branch, step = key.split("_")
            path, number = {"i": "intensity", "hv": "color"}[branch], int(step[3:])
            down = "in" if number == 0 else f"down_{number}"
            up = "out" if number == 0 else f"up_{number - 1}"
            found[key] = seen[f"{path}_{down if step.startswith('enc') else up}"]["__call__"][0]
    assert len(found) == len(expected) - 2  # hvi and output_hvi are not a module's
    for key, array in found.items():
        wanted = nhwc(expected[key])
        atol = 3e-5 * max(1, np.abs(wanted).max())  # features have no bound
        np.testing.assert_allclose(array, wanted, rtol=0, atol=atol, err_msg=key)


@needs_shared
@pytest.mark.slow
def test_odd_sizes_and_factors_match_the_authors_code(reference, jit):
    file = reference(f"{FOLDER}/cidnet_c6_4_8_12_odd")
    _, variables = with_variables("odd", file, LARGER)
    images = nhwc(file["input"]).astype(np.float32)
    cases = {
        "output_f64": {},
        "variant/lolv1": {"saturation": 1.3},
        "variant/lolv2_real": {"brightness": 0.8},
        "variant/demo": {"saturation": 0.7, "brightness": 1.2, "gamma": 1.6},
    }

    def all_cases(variables, images):
        return {
            key: create_model("cidnet", **LARGER, **fields).apply(variables, images)
            for key, fields in cases.items()
        }

    for key, restored in jit(all_cases)(variables, images).items():
        np.testing.assert_allclose(restored, nhwc(file[key]), rtol=0, atol=3e-5, err_msg=key)


@needs_shared
@pytest.mark.slow
def test_the_full_size_matches_the_authors_code(reference, shared: Path, jit):
    file = reference(f"{FOLDER}/cidnet_full_recipe")
    described = json.loads((shared / "fixtures" / FOLDER / "cidnet_full_recipe.json").read_text())
    model = create_model("cidnet")
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), variable_shapes(model))
    state = {
        key: by_recipe(key, array.shape, described["seed"], described["density_k"])
        for key, array in to_torch_state_dict("cidnet", zeros).items()
    }
    assert set(state) == set(described["key_sums"])
    for key, total in described["key_sums"].items():
        np.testing.assert_allclose(state[key].sum(dtype=np.float64), total, rtol=1e-6, atol=1e-6)
    images = nhwc(file["input"]).astype(np.float32)
    restored = jit(model.apply)(from_torch_state_dict("cidnet", state), images)
    np.testing.assert_allclose(restored, nhwc(file["output_f64"]), rtol=0, atol=3e-5)


def by_recipe(key, shape, seed, k):
    """An array of the full-size network, as the file's description defines it."""
    z = np.random.RandomState(zlib.crc32(key.encode()) ^ seed).standard_normal(shape)
    if key == "trans.density_k":
        z = np.full(shape, k)
    elif key.endswith("temperature"):
        z = 1 + 0.3 * z
    elif ".norm." in key:
        z = 1 + 0.1 * z if key.endswith("weight") else 0.1 * z
    elif key.endswith("prelu.weight"):
        z = 0.25 + 0.1 * z
    else:
        gain = {"HVD_block0": 0.3, "ID_block0": 0.3, "HVE_block0": 1.5, "IE_block0": 1.5}.get(
            key.split(".")[0], 1.3 if "dwconv" in key else 1
        )
        z = gain * z / np.sqrt(np.prod(shape[1:]))
    return z.astype(np.float32)


def test_the_colour_transform_matches_the_authors_code(reference):
    file = reference(f"{FOLDER}/cidnet_hvi_transform")
    rgb, hvi_in = (jnp.asarray(nhwc(file[key])) for key in ("rgb", "hvi_in"))
    for i, k in enumerate(EXPONENTS):
        exponent = jnp.asarray([k], jnp.float32)
        expected = nhwc(file[f"k{i}/hvi_f64"])
        found = {
            "hvi": to_hvi(rgb, exponent),
            "roundtrip": from_hvi(jnp.asarray(expected, jnp.float32), exponent),
            "back": from_hvi(hvi_in, exponent),
            "alpha": 0.8 * from_hvi(hvi_in, exponent, saturation=1.3),
        }
        for key, array in found.items():
            wanted = nhwc(file[f"k{i}/{key}_f64"])
            np.testing.assert_allclose(array, wanted, rtol=0, atol=2e-6, err_msg=key)


def test_the_colour_transforms_gradients_match_the_authors_code(reference, float64):
    """In float64, where no two channels are equal: a tie is shared here, and not by PyTorch."""
    file = reference(f"{FOLDER}/cidnet_hvi_transform")
    for i, k in enumerate(EXPONENTS):
        inputs = (nhwc(file[key]) for key in ("rgb", "hvi_in"))
        check_gradients(file, i, jnp.asarray([k], jnp.float64), *inputs, file["distinct"])


def check_gradients(file, i, k, rgb, hvi_in, distinct):
    weights = {key: jnp.asarray(nhwc(file[f"weights/{key}"])) for key in ("forward", "back")}
    rgb, hvi_in = (jnp.asarray(x, jnp.float64) for x in (rgb, hvi_in))
    by_rgb, by_k = jax.grad(lambda x, k: jnp.sum(weights["forward"] * to_hvi(x, k)), (0, 1))(rgb, k)
    expected = nhwc(file[f"grad/k{i}/rgb"])
    np.testing.assert_allclose(by_rgb[distinct], expected[distinct], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(by_k, file[f"grad/k{i}/density_k"], rtol=1e-6)
    by_hvi, by_k = jax.grad(lambda x, k: jnp.sum(weights["back"] * from_hvi(x, k)), (0, 1))(
        hvi_in, k
    )
    np.testing.assert_allclose(by_hvi, nhwc(file[f"grad/k{i}/hvi_in"]), rtol=1e-6, atol=1e-6)
    assert by_k == 0


def test_a_hue_that_rounds_up_to_a_full_turn_is_not_black():
    """V just below 0 beside a positive H, where the published code gives black."""
    k = jnp.asarray([0.2])
    up = np.array([0, -1e-9, -1e-8, -5e-8, -1e-7, -2e-7], np.float32)
    hvi = np.stack([np.full_like(up, 0.8), up, np.full_like(up, 0.9)], axis=-1)[None]
    restored = np.asarray(from_hvi(jnp.asarray(hvi), k))
    np.testing.assert_allclose(restored[0], np.tile(restored[0, 0], (6, 1)), atol=1e-5)
    assert restored[..., 0].min() > 0.8


@pytest.mark.slow  # those of its colour space are finite in a fast test
def test_flat_images_have_finite_gradients(random_variables, jit):
    """Black, grey and white, and what lies outside [0, 1], which is clipped."""
    fields = {"features": (4, 4, 4, 4), "heads": (1, 2, 1)}
    model = create_model("cidnet", **fields)

    @jit
    def step(variables, images):
        return jax.value_and_grad(lambda v: jnp.mean((model.apply(v, images) - 0.3) ** 2))(
            variables
        )

    for value in (0.0, 0.5, 1.0, -0.1, 2.5):
        loss, gradients = step(random_variables(model), np.full((1, 8, 8, 3), value, np.float32))
        assert np.isfinite(loss) and all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_resampling_aligns_the_corners(size):
    """The corners keep their values, and a ramp stays a ramp, as positions are linear."""
    x = jnp.asarray(np.random.default_rng(size).random((2 * size, 3), np.float32))
    half = halve(x, 0)
    assert half.shape == (size, 3)
    np.testing.assert_array_equal(half[0], x[0])
    if size > 1:
        np.testing.assert_array_equal(half[-1], x[-1])
        ramp = jnp.linspace(0.0, 1.0, 2 * size)[:, None]
        np.testing.assert_allclose(halve(ramp, 0)[:, 0], np.linspace(0, 1, size), atol=1e-6)
        np.testing.assert_allclose(
            double(ramp, 0)[:, 0], np.linspace(0, 1, 4 * size), rtol=0, atol=1e-6
        )
    double_size = double(x, 0)
    np.testing.assert_array_equal(double_size[0], x[0])
    np.testing.assert_allclose(double_size[-1], x[-1], rtol=1e-6)


def test_resampling_worked_by_hand():
    np.testing.assert_allclose(halve(jnp.asarray([0.0, 3, 6, 9, 12, 15]), 0), [0, 7.5, 15])
    # Positions 0, 2/5, 4/5, 6/5, 8/5, 2 of three
    found = double(jnp.asarray([0.0, 10, 40]), 0)
    np.testing.assert_allclose(found, [0, 4, 8, 16, 28, 40], rtol=1e-6)


def test_a_strip_is_resampled_as_in_the_whole_image():
    x = jnp.asarray(np.random.default_rng(1).random((1, 16, 3, 2), np.float32))
    rows = Rows(jnp.asarray(2), jnp.asarray(8))
    np.testing.assert_allclose(halve(x[:, 4:10], 1, rows), halve(x, 1)[:, 2:5], rtol=1e-6)
    rows = Rows(jnp.asarray(3), jnp.asarray(16))
    found = double(x[:, 3:9], 1, rows)
    np.testing.assert_allclose(found[:, 2:-2], double(x, 1)[:, 8:16], rtol=1e-6)


@pytest.mark.slow
def test_names_are_the_published_ones(random_variables):
    """The authors' files hold the dictionary itself; the order is that of their module."""
    variables = random_variables(create_model("cidnet", **SMALLER))
    state = to_torch_state_dict("cidnet", variables, **SMALLER)
    names = list(state)
    assert len(names) == 191 and names[-1] == "trans.density_k"
    assert names[:3] == [
        "HVE_block0.1.weight",
        "HVE_block1.prelu.weight",
        "HVE_block1.down.0.weight",
    ]
    assert state["trans.density_k"].shape == (1,)
    assert state["HV_LCA3.gdfn.project_in.weight"].shape == (2 * 21, 8, 1, 1)
    assert state["I_LCA5.ffn.temperature"].shape == (3, 1, 1)
    normed = create_model("cidnet", **SMALLER, norm=True)
    state_of_normed = to_torch_state_dict("cidnet", random_variables(normed), **SMALLER, norm=True)
    assert len(state_of_normed) == 215
    # A checkpoint of training code may wrap the dictionary
    found = from_torch_state_dict("cidnet", {"params": state}, **SMALLER)
    jax.tree.map(np.testing.assert_array_equal, found, variables)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"features": (4, 4, 4)}, "there must be 4 features"),
        ({"heads": (1, 2, 4, 8)}, "and 3 heads"),
        ({"heads": (2, 4, 7)}, "must divide its features"),
        ({"heads": (0, 4, 8)}, "each must be at least 1"),
        ({"brightness": 0.0}, "each must be above 0"),
    ],
)
def test_refuses_fields_that_make_no_network(fields, message):
    with pytest.raises(ValueError, match=message):
        variable_shapes(create_model("cidnet", **fields))
