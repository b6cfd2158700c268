"""DnCNN: what its fields build, its starting point, what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumloss_jax.models import create_model

IMAGES = np.random.default_rng(0).random((2, 9, 13, 3), np.float32)


def shapes(model, channels=3):
    images = jax.ShapeDtypeStruct((1, 16, 16, channels), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("name", "config", "parameters", "running"),
    [
        ("dncnn", {"channels": 1}, 556_032, 1_920),
        ("dncnn", {"channels": 1, "depth": 20}, 667_008, 2_304),
        ("dncnn", {}, 558_336, 1_920),
        ("dncnn", {"depth": 20}, 669_312, 2_304),
        ("dncnn_kair", {"channels": 1}, 557_057, 1_920),
        ("dncnn_kair", {"channels": 1, "depth": 20}, 668_225, 2_304),
        ("dncnn_kair", {}, 559_363, 1_920),
        ("dncnn_kair", {"depth": 20}, 670_531, 2_304),
        ("dncnn_kair_merged", {"channels": 1}, 555_137, 0),
        ("dncnn_kair_merged", {"channels": 1, "depth": 20}, 665_921, 0),
        ("dncnn_kair_merged", {}, 557_443, 0),
        ("dncnn_kair_merged", {"depth": 20}, 668_227, 0),
    ],
)
def test_parameter_counts_are_the_published_ones(name, config, parameters, running):
    variables = shapes(create_model(name, **config), config.get("channels", 3))
    assert count(variables["params"]) == parameters
    assert count(variables.get("batch_stats", {})) == running
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


def test_starts_as_the_identity_and_learns(jit):
    model = create_model("dncnn", depth=3, features=6)
    # A key of the kind that compiles quickly
    variables = jit(model.init)(jax.random.key(1, impl="rbg"), IMAGES)
    np.testing.assert_array_equal(jit(model.apply)(variables, IMAGES), IMAGES)

    def loss(params):
        restored, _ = model.apply(
            {**variables, "params": params}, IMAGES, train=True, mutable=["batch_stats"]
        )
        return jnp.sum((restored - 0.5) ** 2)

    gradient = jit(jax.grad(loss))(variables["params"])
    assert np.any(gradient["conv_last"]["kernel"])


@pytest.mark.parametrize(
    "initializer", ["buifd", "matconvnet", "kair", "orthogonal", "scico", "torch"]
)
def test_published_initialisers(initializer, jit):
    model = create_model("dncnn", depth=3, features=32, bias="all", initializer=initializer)
    params = jit(model.init)(jax.random.key(2, impl="rbg"), IMAGES)["params"]
    params = jax.tree.map(np.asarray, params)
    kernel, gain = params["block_0"]["conv"]["kernel"], params["block_0"]["norm"]["scale"]
    columns = kernel.reshape(-1, 32)
    fan_in = 9 * 32
    if initializer in ("kair", "orthogonal"):
        scale = 0.2 if initializer == "kair" else 1.0
        np.testing.assert_allclose(columns.T @ columns, scale**2 * np.eye(32), atol=1e-5)
    else:
        variance = {
            "buifd": 2 / fan_in,
            "scico": 2 / fan_in,
            "matconvnet": 2 / 576,
            "torch": 1 / (3 * fan_in),
        }
        np.testing.assert_allclose(columns.std(), np.sqrt(variance[initializer]), rtol=0.03)
    if initializer == "torch":
        bound = 1 / np.sqrt(fan_in)
        bias = params["block_0"]["conv"]["bias"]
        assert (
            0.9 * bound < np.abs(kernel).max() <= bound
            and 0.5 * bound < np.abs(bias).max() <= bound
        )
    else:
        assert not params["block_0"]["conv"]["bias"].any()
    expected_gain = {
        "buifd": (0, 0.025, True),
        "matconvnet": (0.025, 0.3, True),
        "kair": (0.1, 1.0, False),
    }.get(initializer, (1, 1, False))
    size = np.abs(gain)
    assert size.min() >= expected_gain[0] and size.max() <= expected_gain[1]
    assert (np.min(gain) < 0) == expected_gain[2]
    assert params["conv_last"]["kernel"].any()


@pytest.mark.parametrize(
    ("config", "biases"),
    [
        ({}, set()),
        ({"bias": "first"}, {"conv_first"}),
        ({"bias": "all"}, {"conv_first", "block_0", "conv_last"}),
        ({"batch_norm": False}, {"conv_first", "block_0", "conv_last"}),
        ({"batch_norm": False, "bias": "none"}, set()),
    ],
)
def test_biases_are_where_the_field_says(config, biases):
    params = shapes(create_model("dncnn", depth=3, features=4, **config))["params"]
    found = {name for name, layer in params.items() if "bias" in layer.get("conv", layer)}
    assert found == biases
    assert ("norm" in params["block_0"]) == config.get("batch_norm", True)


def test_circular_padding_makes_it_shift_equivariant(random_variables, jit):
    model = create_model("dncnn_scico", depth=3, features=4)
    variables, apply = random_variables(model), jit(model.apply)
    shifted = apply(variables, np.roll(IMAGES, (3, 5), (1, 2)))
    np.testing.assert_allclose(
        shifted, np.roll(apply(variables, IMAGES), (3, 5), (1, 2)), atol=1e-5
    )


def test_running_statistics_keep_the_stated_share(random_variables, jit):
    """With no share kept the batch's own are left, and those are NumPy's mean and variance."""
    model = create_model("dncnn", depth=3, features=4, norm_momentum=0.0)
    variables = random_variables(model)

    def update(momentum):
        network = model.clone(norm_momentum=momentum)
        return network.apply(variables, IMAGES, train=True, mutable=["batch_stats"])[1][
            "batch_stats"
        ]

    batch, kept_much, kept_little = jit(
        lambda: [update(momentum) for momentum in (0.0, 0.9, 0.1)]
    )()
    old = variables["batch_stats"]["block_0"]["norm"]
    for momentum, new in ((0.9, kept_much), (0.1, kept_little)):
        for name in ("mean", "var"):
            expected = momentum * old[name] + (1 - momentum) * batch["block_0"]["norm"][name]
            np.testing.assert_allclose(new["block_0"]["norm"][name], expected, rtol=1e-5)

    x, params = IMAGES, variables["params"]
    for kernel in (params["conv_first"]["kernel"], params["block_0"]["conv"]["kernel"]):
        padded = np.pad(np.maximum(x, 0), [(0, 0), (1, 1), (1, 1), (0, 0)])
        # [..., H, W, C, 3, 3]
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        x = np.einsum("bhwcij,ijco->bhwo", windows, kernel)
    np.testing.assert_allclose(
        batch["block_0"]["norm"]["mean"], x.mean((0, 1, 2)), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(batch["block_0"]["norm"]["var"], x.var((0, 1, 2)), rtol=1e-4)


def test_takes_any_rank(random_variables, jit):
    model = create_model("dncnn", depth=3, features=4)
    variables = random_variables(model)
    batch, first, nested = jit(lambda x: [model.apply(variables, y) for y in (x, x[0], x[None])])(
        IMAGES
    )
    np.testing.assert_allclose(first, batch[0], atol=1e-5)
    np.testing.assert_allclose(nested[0], batch, atol=1e-5)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (jnp.zeros((2, 8, 8, 1)), "channels=3: create the model with channels=1"),
        (jnp.zeros((2, 8, 8, 4)), "RGBA"),
        (jnp.zeros((2, 3, 8, 8)), "NCHW"),
        (jnp.zeros((8, 8)), "lacks a channel axis"),
        (jnp.zeros((2, 8, 8, 3), jnp.uint8), "/ 255"),
        (jnp.zeros((2, 0, 8, 3)), "no pixels"),
    ],
)
def test_refuses_what_is_no_image(images, message):
    model = create_model("dncnn", depth=2, features=2)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), images)


def test_refuses_sigma_and_wrong_fields():
    model = create_model("dncnn", depth=2, features=2)
    with pytest.raises(ValueError, match="blind"):
        jax.eval_shape(lambda: model.init(jax.random.key(0), IMAGES, sigma=0.1))
    for config, message in [
        ({"depth": 1}, "at least 2"),
        ({"bias": "some"}, "'none', 'first', 'all'"),
        ({"padding": "mirror"}, "'zeros', 'circular'"),
        ({"initializer": "kaiming"}, "zero_last"),
    ]:
        with pytest.raises(ValueError, match=message):
            shapes(create_model("dncnn", **config))
