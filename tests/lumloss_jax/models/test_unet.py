"""The UNets with PyTorch ancestors, and DRUNet's noise level."""

import jax
import numpy as np
import pytest

from lumloss_jax.models import create_model, variable_shapes

SMALL = {"features": (4, 6), "blocks": 1}
IMAGES = np.random.default_rng(0).random((2, 8, 12, 3), np.float32)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("name", "config", "parameters", "running"),
    [
        ("drunet", {"channels": 1}, 32_638_656, 0),
        ("drunet", {}, 32_640_960, 0),
        ("drunet", {"bias": True}, 32_653_635, 0),
        ("unet_dpir", {}, 11_558_915, 0),
        ("unet_dpir", {"batch_norm": True}, 11_568_259, 9_344),
        ("unet_dpir", {"channels": 1}, 11_556_609, 0),
        ("unet_dpir", {"channels": 1, "batch_norm": True}, 11_565_953, 9_344),
        ("unet", {}, 8_564_163, 6_528),
        ("unet", {"batch_norm": False}, 8_557_635, 0),
        ("unet", {"channels": 1}, 8_562_881, 6_528),
    ],
)
def test_parameter_counts_are_the_published_ones(name, config, parameters, running):
    variables = variable_shapes(create_model(name, **config))
    assert count(variables["params"]) == parameters
    assert count(variables.get("batch_stats", {})) == running


@pytest.mark.parametrize("name", ["unet", "unet_dpir"])
def test_starts_as_the_identity_where_asked(name, jit):
    config = {"features": (4, 6), "initializer": "zero_last"}
    model = create_model(name, **config)
    variables = jit(model.init)(jax.random.key(1, impl="rbg"), IMAGES)
    np.testing.assert_array_equal(jit(model.apply)(variables, IMAGES), IMAGES)


def test_torch_initialiser_of_a_transposed_convolution(jit):
    """PyTorch counts fan_in over output channels: 1 / sqrt(4 * 2), not 1 / sqrt(4 * 64)."""
    model = create_model("unet_dpir", features=(2, 64), blocks=1)
    variables = jit(model.init)(jax.random.key(2, impl="rbg"), IMAGES)
    layer, bound = variables["params"]["up_1"]["expand"]["transposed_conv"], 1 / np.sqrt(8)
    assert layer["kernel"].shape == (2, 2, 2, 64)
    assert 0.9 * bound < np.abs(layer["kernel"]).max() <= bound
    assert np.abs(layer["bias"]).max() <= bound and np.all(layer["bias"])


def test_odd_sizes_are_padded_by_repeating_the_edge(random_variables, jit):
    model = create_model("unet_dpir", features=(4, 6), blocks=1)
    variables = random_variables(model)
    images = IMAGES[:, :7, :11]
    padded = np.pad(images, ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge")
    apply = jit(model.apply)
    np.testing.assert_allclose(
        apply(variables, images), apply(variables, padded)[:, :7, :11], atol=1e-5
    )


def test_drunet_takes_one_level_one_per_image_or_a_map(random_variables, jit):
    model = create_model("drunet", **SMALL)
    variables, apply = random_variables(model), jit(model.apply)
    levels = np.float32([0.1, 0.2])
    per_image = apply(variables, IMAGES, sigma=levels)
    for i, level in enumerate(levels):
        np.testing.assert_allclose(
            per_image[i], apply(variables, IMAGES, sigma=level)[i], atol=1e-6
        )
    for shape in ((2, 1, 1), (2, 1, 1, 1)):
        np.testing.assert_allclose(
            apply(variables, IMAGES, sigma=levels.reshape(shape)), per_image, atol=1e-6
        )
    full = np.broadcast_to(levels.reshape(2, 1, 1), (2, 8, 12)).copy()
    np.testing.assert_allclose(apply(variables, IMAGES, sigma=full), per_image, atol=1e-6)
    np.testing.assert_allclose(
        apply(variables, IMAGES, sigma=full[..., None]), per_image, atol=1e-6
    )
    full[0, 0, 0] += 0.3
    changed = np.asarray(apply(variables, IMAGES, sigma=full)) != per_image
    assert changed[0].any() and not changed[1].any()


def test_drunet_is_homogeneous_without_biases(random_variables, jit):
    model = create_model("drunet", **SMALL)
    variables = random_variables(model)
    apply = jit(model.apply)
    once = np.asarray(apply(variables, IMAGES, sigma=0.1))
    np.testing.assert_allclose(apply(variables, 0.5 * IMAGES, sigma=0.05), 0.5 * once, atol=1e-5)


@pytest.mark.parametrize(
    ("sigma", "message"),
    [
        (None, "needs the noise's standard deviation"),
        (25, "divide by 255"),
        (-0.1, "not negative"),
        (np.nan, "finite"),
        (np.zeros(3, np.float32), r"shape \(3,\).*must have shape \(\), \(2,\)"),
        (np.zeros((2, 8, 11), np.float32), r"\(2, 8, 12\)"),
        ("much", "dtype"),
        (np.zeros(2, bool), "dtype bool"),
        (np.zeros(2, np.complex64), "dtype complex64"),
    ],
)
def test_drunet_refuses_levels_that_mean_something_else(sigma, message):
    model = create_model("drunet", **SMALL)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda images: model.init(jax.random.key(0), images, sigma=sigma), IMAGES)


@pytest.mark.parametrize("name", ["drunet", "unet", "unet_dpir"])
def test_refuses_no_levels(name):
    with pytest.raises(ValueError, match="one width of at least 1 for each level"):
        variable_shapes(create_model(name, features=()))


@pytest.mark.parametrize("name", ["unet", "unet_dpir", "unet_scico"])
def test_blind_ones_refuse_a_level(name):
    model = create_model(name)
    with pytest.raises(ValueError, match=f"{name} is blind"):
        jax.eval_shape(lambda images: model.init(jax.random.key(0), images, sigma=0.1), IMAGES)
