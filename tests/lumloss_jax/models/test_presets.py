"""The table of presets is true, and every preset keeps the calling convention.

A new preset joins in conftest.py.
"""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from lumloss_jax.models import PRESETS, create_model, variable_shapes
from tests.lumloss_jax.models.conftest import SMALL
from tests.slow_cases import slow_for


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def noise_level(model):
    """What the network takes for sigma: a value, or None where it is blind."""
    return 0.1 if model.takes_sigma else None


def multiplications(jaxpr):
    """Multiplications with addition in the convolutions and matrix products of a program."""
    total = 0
    for equation in jaxpr.eqns:
        out, params = equation.outvars[0].aval, equation.params
        if equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            out_features = kernel[params["dimension_numbers"].rhs_spec[0]]
            # A transposed convolution is written as one over an image with zeros in between: those
            # are not counted.
            total += (
                out.size * math.prod(kernel) // out_features // math.prod(params["lhs_dilation"])
            )
        elif equation.primitive.name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            total += out.size * math.prod(
                equation.invars[0].aval.shape[axis] for axis in contracted
            )
        for value in params.values():
            inner = getattr(value, "jaxpr", value)
            total += multiplications(inner) if hasattr(inner, "eqns") else 0
    return total


@slow_for("name", PRESETS, ["nafnet_w64", "retinexformer"])
def test_costs_in_the_table(name):
    preset, model = PRESETS[name], create_model(name)
    variables = variable_shapes(model)
    assert count(variables["params"]) == preset.parameters
    images = jax.ShapeDtypeStruct((1, 64, 64, model.channels), jnp.float32)
    apply = jax.make_jaxpr(
        lambda variables, images: model.apply(variables, images, sigma=noise_level(model))
    )
    costs = preset.macs_per_pixel * 64 * 64 + preset.macs_per_image
    assert multiplications(apply(variables, images).jaxpr) == costs


# The slow ones take a step in other tests too: of parity with PyTorch, and of their gradients.
_STEPS_ELSEWHERE = [
    "cidnet",
    "dncnn_kair",
    "drunet",
    "nafnet",
    "nafnet_w64",
    "retinexformer",
    "unet",
    "unet_scico",
    "unet_dpir",
    "buifd",
]


@slow_for("name", PRESETS, _STEPS_ELSEWHERE)
def test_initialises_restores_and_takes_a_step(name, jit):
    config = SMALL[name]
    model = create_model(name, **config)
    sigma = noise_level(model)
    random = np.random.default_rng(0)
    targets = random.random((2, 13, 18, 3), np.float32)  # no multiple of anything
    images = targets + 0.1 * random.standard_normal(targets.shape, np.float32)
    # Keys of this kind compile in a tenth of the time that the default kind takes on a CPU.
    variables = jit(model.init)(jax.random.key(2, impl="rbg"), targets, sigma=sigma)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))

    @jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def step(params, variables, images, targets):
        restored, new = model.apply(
            {**variables, "params": params},
            images,
            sigma=sigma,
            train=True,
            mutable=["batch_stats"],
        )
        return jnp.mean((restored - targets) ** 2), (restored, new)

    (before, (restored, new)), gradient = step(variables["params"], variables, images, targets)
    assert restored.shape == images.shape and restored.dtype == jnp.float32
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(gradient)))
    assert np.isfinite(norm)
    params = jax.tree.map(
        lambda leaf, slope: np.asarray(leaf) - 1e-3 * slope / norm, variables["params"], gradient
    )
    (after, _), _ = step(params, variables, images, targets)
    assert after < before
    assert set(new) == ({"batch_stats"} if "batch_stats" in variables else set())
    for old, moved in zip(
        jax.tree.leaves(variables.get("batch_stats", {})), jax.tree.leaves(new), strict=True
    ):
        assert np.any(np.asarray(old) != moved)

    # No variance, no direction: what divides by either needs its epsilon
    black = np.zeros_like(images)
    _, gradient = step(variables["params"], variables, black, targets)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_any_size_keeps_its_shape_also_symbolically(small):
    name, config = small
    model = create_model(name, **config)
    apply = functools.partial(model.apply, sigma=noise_level(model))
    variables = variable_shapes(model)
    sizes = [(1, 1, 1, 3), (2, 5, 16, 3), (9, 7, 3)]
    if getattr(model, "padding", "zeros") == "zeros":  # jnp.pad(mode="wrap") asks for known sizes
        sizes.append(export.symbolic_shape("b, h, w, 3"))
    for size in sizes:
        images = jax.ShapeDtypeStruct(size, jnp.float32)
        assert jax.eval_shape(apply, variables, images).shape == size


def test_half_precision_is_near_and_equal_shapes_are_traced_once(small, random_variables, jit):
    """bfloat16 within 2 % of the output's range: eight bits of mantissa, rounded once per layer.

    CIDNet's output jumps with the hue of colours near grey, so its correction is compared. It
    passes through three times as many layers, and differs by up to 5 %.
    """
    name, config = small

    def restore_in_both(model, variables, images):
        half = model.clone(dtype=jnp.bfloat16)
        if name != "cidnet":
            return [
                network.apply(variables, images, sigma=noise_level(model))
                for network in (model, half)
            ]
        corrections = []
        for network in (model, half):
            restored, seen = network.apply(
                variables,
                images,
                capture_intermediates=lambda _, method: method == "_branches",
                mutable=["intermediates"],
            )
            assert restored.dtype == jnp.float32
            (correction,) = seen["intermediates"]["_branches"]
            corrections.append(correction.astype(jnp.float32))
        return corrections

    chex.clear_trace_counter()  # it counts by name, so the presets before this one are in it
    apply = jit(chex.assert_max_traces(restore_in_both, n=1), static_argnums=0)
    variables = random_variables(create_model(name, **config))
    images = np.random.default_rng(5).random((1, 16, 16, 3), np.float32)
    full, half = (
        np.asarray(restored) for restored in apply(create_model(name, **config), variables, images)
    )
    assert half.dtype == full.dtype == np.float32
    assert 0 < np.abs(half - full).max() < (0.05 if name == "cidnet" else 0.02) * np.ptp(full)
    # Other values, and a model made again from the same fields: a second trace would raise.
    apply(create_model(name, **config), variables, 1 - images)


@slow_for("name", PRESETS, [name for name in PRESETS if name not in ("dncnn", "drunet", "nafnet")])
def test_rematerialisation_is_in_the_gradient(name):
    config = SMALL[name]
    model, plain = create_model(name, **config, remat=True), create_model(name, **config)
    assert variable_shapes(model) == variable_shapes(plain)

    def gradient(model):
        def loss(variables, images):
            return model.apply(
                variables, images, sigma=noise_level(model), mutable=["batch_stats"], train=True
            )[0].sum()

        return str(
            jax.make_jaxpr(jax.grad(loss))(variable_shapes(model), jnp.zeros((1, 16, 16, 3)))
        )

    assert "remat" in gradient(model) and "remat" not in gradient(plain)


@pytest.mark.parametrize(
    ("name", "config"),
    [("dncnn", {"depth": 4, "features": 6}), ("drunet", {"features": (4, 6), "blocks": 1})],
)
def test_rematerialisation_changes_no_number(name, config, random_variables, jit):
    images = np.random.default_rng(8).random((1, 16, 16, 3), np.float32)
    model = create_model(name, **config)
    variables = random_variables(model)

    def loss(params, model):
        restored, _ = model.apply(
            {**variables, "params": params},
            images,
            sigma=noise_level(model),
            train=True,
            mutable=["batch_stats"],
        )
        return jnp.sum((restored - 0.5) ** 2)

    gradient = jit(jax.grad(loss), static_argnums=1)
    plain, again = (
        gradient(variables["params"], model.clone(remat=remat)) for remat in (False, True)
    )
    for left, right in zip(jax.tree.leaves(plain), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5 * np.abs(left).max())
