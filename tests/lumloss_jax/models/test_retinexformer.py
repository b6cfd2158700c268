"""Retinexformer does what its text says: fields, starting point, padding, attention, refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from lumloss_jax.models import (
    create_model,
    from_torch_state_dict,
    to_torch_state_dict,
    variable_shapes,
)
from lumloss_jax.models._guided_attention import Attention
from lumloss_jax.models._layers import Settings

TINY = {"features": 4, "num_blocks": (0, 0, 1)}
IMAGES = np.random.default_rng(0).random((2, 8, 12, 3), np.float32)


def initialise(model):
    """Random variables without compiling the initialisers: uniform within 1 / sqrt(fan_in)."""
    random = np.random.default_rng(1)

    def draw(leaf):
        return random.uniform(-1, 1, leaf.shape).astype(np.float32) / np.sqrt(
            max(1, np.prod(leaf.shape[:-1]))
        )

    return jax.tree.map(draw, variable_shapes(model))


def test_parameter_counts_by_part():
    params = variable_shapes(create_model("retinexformer"))["params"]
    counts = {}
    for stage, layers in params.items():
        for name, layer in layers.items():
            key = stage if stage.startswith("estimator") else name.split("_block_")[0]
            counts[key] = counts.get(key, 0) + sum(leaf.size for leaf in jax.tree.leaves(layer))
    assert counts == {
        "estimator_0": 10_363,
        "embed": 1_080,
        "down_0": 21_481,
        "halve_0": 51_200,
        "halve_guide_0": 51_200,
        "down_1": 162_724,
        "halve_1": 204_800,
        "halve_guide_1": 204_800,
        "bottleneck": 632_648,
        "double_1": 51_280,
        "fuse_1": 12_800,
        "up_1": 162_724,
        "double_0": 12_840,
        "fuse_0": 3_200,
        "up_0": 21_481,
        "output": 1_080,
    }


@pytest.mark.parametrize(
    ("config", "restorer"),
    [
        ({"stages": 2}, {"bottleneck_block_0", "bottleneck_block_1"}),
        (
            {"levels": 1, "num_blocks": (1, 3)},
            {"bottleneck_block_0", "bottleneck_block_1", "bottleneck_block_2"},
        ),
        (
            {"levels": 3, "num_blocks": (0, 0, 0, 1)},
            {"bottleneck_block_0", "halve_2", "double_2", "fuse_2"},
        ),
        ({"levels": 0, "num_blocks": (1,)}, {"embed", "bottleneck_block_0", "output"}),
    ],
)
def test_fields_set_what_is_built(config, restorer):
    model = create_model("retinexformer", features=4, **config)
    params = variable_shapes(model)["params"]
    assert set(params) == {
        f"{part}_{i}" for part in ("estimator", "restorer") for i in range(model.stages)
    }
    for i in range(model.stages):
        layers = params[f"restorer_{i}"]
        assert restorer <= set(layers) and f"halve_{model.levels}" not in layers
        assert layers["output"]["kernel"].shape == (3, 3, 4, 3)


def test_heads_double_with_each_level():
    params = variable_shapes(create_model("retinexformer", features=8, heads=2))["params"][
        "restorer_0"
    ]
    for name, heads in (("down_0", 2), ("down_1", 4), ("bottleneck", 8), ("up_1", 4), ("up_0", 2)):
        assert params[f"{name}_block_0"]["attention"]["rescale"].shape == (heads, 1, 1)


@pytest.mark.slow
def test_starts_as_the_authors_code(jit):
    """PyTorch's uniform draws everywhere but in linear layers, layer norms and the rescaling."""
    model = create_model("retinexformer", features=16, num_blocks=(0, 0, 1))
    # A key of the kind that compiles quickly.
    params = jit(model.init)(jax.random.key(1, impl="rbg"), jnp.zeros((1, 8, 8, 3)))["params"]
    estimator, restorer = params["estimator_0"], params["restorer_0"]
    block = restorer["bottleneck_block_0"]
    layers = [  # and their fan_in
        (estimator["expand"], 4),
        (estimator["spread"], 16 // 4 * 25),
        (estimator["light"], 16),
        (restorer["embed"], 3 * 9),
        (restorer["halve_0"], 16 * 16),
        (restorer["double_1"], 32 * 4),  # of a transposed convolution: the output channels
        (restorer["fuse_1"], 64),
        (block["attention"]["position_0"], 9),
        (block["expand"], 64),
        (block["depthwise"], 9),
        (block["contract"], 256),
    ]
    for layer, fan_in in layers:
        for leaf in layer.values():
            size, bound = np.abs(leaf), 1 / np.sqrt(fan_in)
            assert size.max() <= bound
            if leaf.size > 30:  # enough draws to tell a uniform distribution by
                assert size.max() > 0.9 * bound
                np.testing.assert_allclose(size.mean(), bound / 2, rtol=0.2)
    for name in ("queries", "keys", "values", "project"):
        np.testing.assert_allclose(np.std(block["attention"][name]["kernel"]), 0.02, rtol=0.05)
    assert set(block["attention"]["queries"]) == {"kernel"}
    assert not block["attention"]["project"]["bias"].any() and not block["norm"]["bias"].any()
    assert (block["norm"]["scale"] == 1).all() and (block["attention"]["rescale"] == 1).all()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_padding_reflects_without_the_edge(size, jit):
    """Two rows are too few to reflect once: there and back. One row is repeated."""
    model = create_model("retinexformer", **TINY)
    restore = jit(functools.partial(model.apply, initialise(model)))
    images = IMAGES[:, :size, :4]
    padded = np.pad(images, [(0, 0), (0, 4 - size), (0, 0), (0, 0)], mode="reflect")
    restored = restore(images)
    np.testing.assert_allclose(restored, restore(padded)[:, :size], rtol=1e-5, atol=1e-6)
    # What it is padded with reaches the result.
    otherwise = np.pad(images, [(0, 0), (0, 4 - size), (0, 0), (0, 0)])
    assert np.abs(restored - restore(otherwise)[:, :size]).max() > 1e-4


def test_one_export_serves_every_size_and_odd_ones_are_padded(jit):
    """Symbolic sizes take the padding of known ones, also where reflecting once does not do."""
    model = create_model("retinexformer", **TINY)
    variables = initialise(model)
    restore = jit(lambda images: model.apply(variables, images, mutable=["intermediates"]))
    shape = jax.export.symbolic_shape("b, h, w, 3")
    exported = jax.export.export(jit(functools.partial(model.apply, variables)))(
        jax.ShapeDtypeStruct(shape, jnp.float32)
    )
    images = IMAGES[:, :7, :9]
    padded = np.pad(images, [(0, 0), (0, 1), (0, 3), (0, 0)], mode="reflect")
    (restored, seen), (whole, _) = restore(images), restore(padded)
    assert seen["intermediates"]["lit_images"][0].shape == images.shape
    np.testing.assert_allclose(restored, whole[:, :7, :9], atol=1e-6)
    np.testing.assert_allclose(exported.call(images), restored, atol=1e-6)
    np.testing.assert_allclose(exported.call(padded), whole, atol=1e-6)
    narrow = IMAGES[:, :4, :2]
    whole, _ = restore(narrow[:, :, [0, 1, 0, 1]])
    np.testing.assert_allclose(exported.call(narrow), whole[:, :, :2], atol=1e-6)


def test_gradients_are_finite_on_black_and_white(jit):
    model = create_model("retinexformer", **TINY)
    variables = initialise(model)

    @jit
    def gradients(variables, images):
        return jax.grad(lambda *args: jnp.sum(model.apply(*args) ** 2), argnums=(0, 1))(
            variables, images
        )

    for value in (0.0, 1e-30, 1e-12, 1.0):
        found = gradients(variables, np.full(IMAGES.shape, value, np.float32))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found)), value
        # The last convolution is reached whatever the image: the blocks' biases see to that.
        assert np.abs(found[0]["params"]["restorer_0"]["output"]["kernel"]).max() > 0


def attention(heads, width, x, guide):
    module = Attention(Settings(train=False, initializer="torch", dtype=jnp.float32), heads)
    shapes = jax.eval_shape(module.init, jax.random.key(2), x, guide)
    random = np.random.default_rng(2)
    return module, jax.tree.map(lambda leaf: random.standard_normal(leaf.shape, np.float32), shapes)


def test_maps_by_hand():
    """Two pixels, one head of two channels; rows are keys, softmax runs along the queries."""
    # Columns (3, 4) and (0, 2): norms 5 and 2
    queries = jnp.array([[3.0, 0.0], [4.0, 2.0]]).reshape(1, 2, 1, 2)
    # Columns (0, 1) and (1, 0): norms 1
    keys = jnp.array([[0.0, 1.0], [1.0, 0.0]]).reshape(1, 2, 1, 2)
    module, _ = attention(1, 2, jnp.zeros((1, 2, 2)), jnp.zeros((1, 2, 2)))
    maps = module.channel_maps(*module.channel_sums(queries, keys), jnp.full((1, 1, 1), 2.0))
    cosines = np.array([[0.8, 1.0], [0.6, 0.0]])
    np.testing.assert_allclose(
        maps[0], np.exp(2 * cosines) / np.exp(2 * cosines).sum(1, keepdims=True), rtol=1e-6
    )
    # A channel that is 0 everywhere has cosine 0 with all.
    maps = module.channel_maps(*module.channel_sums(queries, 0 * keys), jnp.full((1, 1, 1), 2.0))
    np.testing.assert_allclose(maps, 0.5)


def test_a_head_of_one_channel_passes_its_lit_values_on(jit):
    x, guide = IMAGES[..., :2], IMAGES[..., 1:]
    module, variables = attention(2, 2, x, guide)
    params = variables["params"]
    values = x @ params["values"]["kernel"]
    mixed = (values * guide) @ params["project"]["kernel"] + params["project"]["bias"]
    unlit = {
        name: np.zeros_like(leaf["kernel"])
        for name, leaf in params.items()
        if name.startswith("position")
    }
    params = {**params, **{name: {"kernel": kernel} for name, kernel in unlit.items()}}
    np.testing.assert_allclose(
        jit(module.apply)({"params": params}, x, guide), mixed, rtol=1e-5, atol=1e-5
    )


def test_sums_of_tiles_can_stand_in_for_those_of_the_image(jit):
    """Sums add up over tiles, and every attention uses those it is given: tiling rests on it."""
    model = create_model("retinexformer", features=4, levels=1, num_blocks=(1, 0))
    variables = initialise(model)

    @jit
    def recorded(images):
        sums, of_tiles = {}, {}

        def record(call, args, kwargs, context):
            found = call(*args, **kwargs)
            if context.method_name == "channel_sums":
                path = "/".join(context.module.path)
                sums[path] = found
                of_tiles[path] = [
                    call(*(x[:, rows] for x in args)) for rows in (slice(None, 1), slice(1, None))
                ]
            return found

        with nn.intercept_methods(record):
            return model.apply(variables, images), sums, of_tiles

    @jit
    def replaced(images, sums):
        def replace(call, args, kwargs, context):
            if context.method_name == "channel_sums":
                return sums["/".join(context.module.path)]
            return call(*args, **kwargs)

        with nn.intercept_methods(replace):
            return model.apply(variables, images)

    restored, sums, of_tiles = recorded(IMAGES)
    assert len(sums) == 2  # one for each block
    for path, found in sums.items():
        for whole, *parts in zip(found, *of_tiles[path], strict=True):
            np.testing.assert_allclose(np.sum(parts, 0), whole, rtol=1e-5)
    np.testing.assert_allclose(replaced(IMAGES, sums), restored, atol=1e-6)
    # Of the other image
    other = {path: (products[::-1], *squares) for path, (products, *squares) in sums.items()}
    assert np.abs(replaced(IMAGES, other) - restored).max() > 1e-3


def test_a_second_stage_reads_what_the_first_restored(jit):
    double, single = (create_model("retinexformer", stages=stages, **TINY) for stages in (2, 1))
    params = initialise(double)["params"]
    restore = jit(lambda params, images: single.apply({"params": params}, images))
    steps = [IMAGES]
    for i in range(2):
        stage = {f"{name}_0": params[f"{name}_{i}"] for name in ("estimator", "restorer")}
        steps.append(restore(stage, steps[-1]))
    restored, seen = jit(lambda *args: double.apply(*args, mutable=["intermediates"]))(
        {"params": params}, IMAGES
    )
    np.testing.assert_allclose(restored, steps[-1], atol=1e-6)
    assert [lit.shape for lit in seen["intermediates"]["lit_images"]] == [IMAGES.shape] * 2


def test_takes_any_rank_and_training_is_evaluation(jit):
    model = create_model("retinexformer", **TINY)
    variables = initialise(model)
    restored, first, nested = jit(
        lambda x: [model.apply(variables, y) for y in (x, x[0], x[None])]
    )(IMAGES)
    np.testing.assert_allclose(first, restored[0], atol=1e-6)
    np.testing.assert_allclose(nested, restored[None], atol=1e-6)
    evaluated, trained = (
        str(jax.make_jaxpr(functools.partial(model.apply, train=train))(variables, IMAGES))
        for train in (False, True)
    )
    assert evaluated == trained


@pytest.mark.parametrize(
    ("images", "config", "arguments", "message"),
    [
        (jnp.zeros((1, 8, 8, 1)), {}, {}, "channels=3"),
        (jnp.zeros((1, 3, 8, 8)), {}, {}, "moveaxis"),
        (jnp.zeros((8, 8)), {}, {}, "lacks a channel axis"),
        (jnp.zeros((1, 8, 8, 3), jnp.uint8), {}, {}, "astype"),
        (IMAGES, {}, {"sigma": 0.1}, "blind"),
        (IMAGES, {"features": 6}, {}, "a multiple of 4"),
        (IMAGES, {"features": 4, "heads": 3}, {}, "of heads"),
        (IMAGES, {"stages": 0}, {}, "at least 1"),
        (IMAGES, {"levels": 1}, {}, "levels \\+ 1 numbers"),
        (IMAGES, {"num_blocks": (1, -1, 1)}, {}, "0 or more"),
    ],
)
def test_refuses(images, config, arguments, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(
            lambda key: create_model("retinexformer", **config).init(key, images, **arguments),
            jax.random.key(0),
        )


def test_imports_a_training_checkpoint_and_gives_it_back():
    """Below ``params``, named as by DataParallel."""
    model = create_model("retinexformer", **TINY)
    state = to_torch_state_dict("retinexformer", initialise(model), **TINY)
    again = from_torch_state_dict(
        "retinexformer", {"params": {f"module.{k}": v for k, v in state.items()}}, **TINY
    )
    for key, array in to_torch_state_dict("retinexformer", again, **TINY).items():
        np.testing.assert_array_equal(array, state[key])


def test_stages_apart_are_the_whole_network() -> None:
    model = create_model("retinexformer", **TINY, stages=2)
    variables = initialise(model)
    lit = jnp.asarray(IMAGES)
    for stage, params in model.separate_stages(variables["params"]):
        assert stage.attention_blocks == 1
        lit = jax.jit(stage.apply)({"params": params}, lit)
    assert model.attention_blocks == 2
    np.testing.assert_allclose(lit, jax.jit(model.apply)(variables, IMAGES), rtol=0, atol=1e-6)


def test_blocks_are_counted_down_and_up() -> None:
    model = create_model("retinexformer", num_blocks=(1, 2, 4), stages=3)
    assert model.attention_blocks == 3 * (1 + 2 + 4 + 2 + 1)
