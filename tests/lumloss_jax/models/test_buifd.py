"""BUIFD against outputs of the authors' code, kept in files, and against its paper."""

import functools

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
from tests.shared_data import of_files

# Each file's fields. The first is kept in the repository too, without intermediates.
FILES = {
    "buifd_gray_d4_w8": {"depth": 4, "features": 8, "level_features": 6, "channels": 1},
    "buifd_color_d5_w8_odd": {"depth": 5, "features": 8, "level_features": 8, "fusion_features": 6},
    "buifd_color_d20_full_fp16w": {},
}
# The image's and the level's loss, from the files' descriptions.
LOSSES = {
    "buifd_gray_d4_w8": (408.671544621989, 51.178986463426845),
    "buifd_color_d5_w8_odd": (1913.06446971666, 191.18445230289993),
}
TINY = {"depth": 3, "features": 4, "level_depth": 3, "level_features": 4, "fusion_features": 4}
IMAGES = np.random.default_rng(0).random((2, 9, 13, 3), np.float32)


def nhwc(array):
    return np.asarray(np.moveaxis(array, -3, -1), np.float32)


def part(file, prefix):
    return {
        key.removeprefix(prefix): array for key, array in file.items() if key.startswith(prefix)
    }


def assert_near(found, expected, message=""):
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-5, err_msg=message)


def restore_and_see(model, variables, images, **options):
    """Restored images, noise level, and everything else that the pass wrote."""
    restored, written = model.apply(
        variables, images, mutable=["intermediates", "batch_stats"], **options
    )
    return restored, written["intermediates"]["noise_level"][0], written


def check_restoring(file, config, jit):
    model = create_model("buifd", **config)
    variables = from_torch_state_dict("buifd", part(file, "state/"), **config)
    images = nhwc(file["input"])
    run = jit(functools.partial(restore_and_see, model, capture_intermediates=True))
    restored, level, written = run(variables, images)
    # The authors' code returns the noise.
    assert_near(images - restored, nhwc(file["output_f64"]))
    assert_near(level, nhwc(file["noise_level_f64"]))
    if "inter/prior" in file:
        prior = written["intermediates"]["prior"]["__call__"][0]
        assert_near(images - prior, nhwc(file["inter/dncnn_noise"]))
        assert_near(prior, nhwc(file["inter/prior"]))
        assert_near(restored, nhwc(file["inter/fused_image"]))
        groups = [images, prior, level, images * (1 - level), prior * level]
        assert_near(np.concatenate(groups, -1), nhwc(file["inter/fusion_input"]))


def check_training(file, config, jit):
    """One pass with batch statistics, and the authors' loss with its gradients.

    Returns the losses of the image and of the level.
    """
    model = create_model("buifd", **config)
    variables = from_torch_state_dict("buifd", part(file, "state/"), **config)
    images, noisy, noise, target = (
        nhwc(file[key]) for key in ("input", "loss/noisy", "loss/noise", "loss/level_target")
    )

    def loss(params, images):
        restored, level, written = restore_and_see(
            model, {**variables, "params": params}, images, train=True
        )
        terms = [
            jnp.sum(jnp.square(x)) / (2 * len(images))
            for x in (images - restored - noise, level - target)
        ]
        return sum(terms), (terms, restored, level, written["batch_stats"])

    step = jit(jax.value_and_grad(loss, has_aux=True))
    (_, (_, restored, level, statistics)), _ = step(variables["params"], images)
    assert_near(images - restored, nhwc(file["train/output"]))
    assert_near(level, nhwc(file["train/noise_level"]))

    (_, (terms, *_)), gradients = step(variables["params"], noisy)
    found = to_torch_state_dict("buifd", {"params": gradients, "batch_stats": statistics}, **config)
    for key, gradient in part(file, "grad/").items():
        np.testing.assert_allclose(
            found[key], gradient, rtol=0, atol=1e-4 * np.abs(gradient).max(), err_msg=key
        )
    count = images.size // images.shape[-1]
    for key, expected in part(file, "train/new_running/").items():
        if key.endswith("running_var"):  # PyTorch keeps the unbiased variance, Flax the biased one
            kept = 0.9 * file[f"state/{key}"]
            found[key] = kept + (found[key] - kept) * count / (count - 1)
        assert_near(found[key], expected, key)
    return terms


@pytest.mark.parametrize("name", of_files(FILES))
def test_matches_the_authors_code(name, reference, jit):
    file = reference(name)
    check_restoring(file, FILES[name], jit)
    assert (name in LOSSES) == ("loss/noisy" in file)
    if name in LOSSES:
        np.testing.assert_allclose(check_training(file, FILES[name], jit), LOSSES[name], rtol=1e-5)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("config", "parameters", "level", "fusion"),
    [
        ({"channels": 1}, 1_186_016, 515_840, 3_168),
        ({"channels": 1, "depth": 17}, 1_075_040, 515_840, 3_168),
        ({}, 1_196_448, 522_240, 4_896),
        ({"depth": 17}, 1_085_472, 522_240, 4_896),
    ],
)
def test_parameter_counts_are_the_published_ones(config, parameters, level, fusion):
    shapes = variable_shapes(create_model("buifd", **config))
    params = shapes["params"]
    assert count(params) == parameters
    assert count(params["level"]) == level and count(shapes["batch_stats"]["level"]) == 640
    assert sum(count(params[f"fusion_{i}"]) for i in range(3)) == fusion
    assert count(shapes["batch_stats"]) == (2_944 if config.get("depth", 20) == 20 else 2_560)


@pytest.mark.slow
def test_starts_as_the_authors_code(jit):
    """Convolutions are normal with variance 2 / fan_in; gains of batch norm are within 0.025."""
    model = create_model("buifd", depth=3, features=64, level_depth=3)
    # A key of the kind that compiles quickly.
    params = jit(model.init)(jax.random.key(1, impl="rbg"), IMAGES)["params"]
    kernels = [params[f"fusion_{i}"]["kernel"] for i in range(3)]
    for branch in (params["prior"], params["level"]):
        kernels.extend(
            layer["kernel"] for layer in (branch["conv_first"], branch["block_0"]["conv"])
        )
        kernels.append(branch["conv_last"]["kernel"])
        norm = branch["block_0"]["norm"]
        assert 0.02 < np.abs(norm["scale"]).max() <= 0.025 + 1e-9 and np.min(norm["scale"]) < 0
        assert not norm["bias"].any()
    for kernel in kernels:
        np.testing.assert_allclose(
            np.std(kernel), np.sqrt(2 / np.prod(kernel.shape[:-1])), rtol=0.15
        )
    biased = {
        jax.tree_util.keystr(path[:-1])
        for path, _ in jax.tree.leaves_with_path(params)
        if path[-1].key == "bias"
    }
    assert biased == {"['prior']['block_0']['norm']", "['level']['block_0']['norm']"}


def test_both_losses_reach_what_they_should(random_variables, jit):
    """The level's error trains only the level branch; the image's error trains everything."""
    model = create_model("buifd", **TINY)
    variables = random_variables(model)

    @functools.partial(jit, static_argnums=1)
    def gradient(params, of_level):
        def loss(params):
            restored, level, _ = restore_and_see(
                model, {**variables, "params": params}, IMAGES, train=True
            )
            return jnp.sum(jnp.square(level if of_level else restored))

        return jax.grad(loss)(params)

    def reached(of_level):
        names = set()
        for name, layer in gradient(variables["params"], of_level).items():
            if any(np.any(leaf != 0) for leaf in jax.tree.leaves(layer)):
                names.add(name)
        return names

    assert reached(True) == {"level"}
    assert reached(False) == {"prior", "level", "fusion_0", "fusion_1", "fusion_2"}


def test_the_noise_level_is_sown_for_each_pixel_and_channel(random_variables, jit):
    model = create_model("buifd", **TINY, dtype=jnp.bfloat16)
    variables = random_variables(model)
    restored, level, _ = jit(functools.partial(restore_and_see, model))(variables, IMAGES)
    assert (
        level.shape == restored.shape == IMAGES.shape
        and level.dtype == restored.dtype == jnp.float32
    )
    assert 0 < level.min() < level.max() < 1
    assert (level[..., 0] != level[..., 1]).any()
    np.testing.assert_array_equal(jit(model.apply)(variables, IMAGES), restored)


def test_half_precision_does_not_round_the_image(random_variables, jit):
    """The branches compute in bfloat16 and the fusion in float32.

    With branches that say nothing both agree.
    """
    model = create_model("buifd", **TINY)
    variables = random_variables(model)
    for branch in ("prior", "level"):
        variables["params"][branch]["conv_last"]["kernel"] *= 0
    full, half = (
        jit(model.clone(dtype=dtype).apply)(variables, IMAGES)
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    np.testing.assert_array_equal(full, half)


def test_one_export_serves_every_size(random_variables, jit):
    model = create_model("buifd", **TINY)
    variables = random_variables(model)
    shape = jax.export.symbolic_shape("b, h, w, 3")
    exported = jax.export.export(jit(functools.partial(model.apply, variables)))(
        jax.ShapeDtypeStruct(shape, jnp.float32)
    )
    for images in (IMAGES, IMAGES[:1, :5, :2]):
        np.testing.assert_allclose(
            exported.call(images), jit(model.apply)(variables, images), atol=1e-5
        )


def test_statistics_span_the_mapped_axis(random_variables, jit):
    """Two shards under axis_name see each other's statistics, in both branches."""
    model = create_model("buifd", **TINY, axis_name="shards")
    variables = random_variables(model)

    def run(images):
        restored, level, written = restore_and_see(model, variables, images, train=True)
        return restored, level, written["batch_stats"]

    restored, level, statistics = jit(jax.vmap(run, axis_name="shards"))(IMAGES[:, None])
    model = model.clone(axis_name=None)
    whole_restored, whole_level, whole_statistics = jit(run)(IMAGES)
    # Sums in another order: rounding, which is in proportion to the outputs (up to 4 here).
    np.testing.assert_allclose(restored[:, 0], whole_restored, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(level[:, 0], whole_level, rtol=1e-5, atol=1e-5)
    for sharded, whole in zip(
        jax.tree.leaves(statistics), jax.tree.leaves(whole_statistics), strict=True
    ):
        np.testing.assert_allclose(sharded, np.stack([whole, whole]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fusion", ["FusionLayers", "FinalFusionLayers"])
def test_both_names_of_the_fusion_are_understood(fusion, random_variables):
    model = create_model("buifd", **TINY)
    variables = random_variables(model)
    state = {
        f"module.{key}".replace("FinalFusionLayers", fusion): array
        for key, array in to_torch_state_dict("buifd", variables, **TINY).items()
    }
    assert (
        f"module.{fusion}.fusion_layers.2.weight" in state
        and "module.noisecnn.noisecnn.5.weight" in state
    )
    jax.tree.map(
        np.testing.assert_array_equal, from_torch_state_dict("buifd", state, **TINY), variables
    )


@pytest.mark.parametrize(
    ("images", "config", "arguments", "message"),
    [
        (jnp.zeros((1, 8, 8, 1)), {}, {}, "channels=3: create the model with channels=1"),
        (jnp.zeros((1, 3, 8, 8)), {}, {}, "moveaxis"),
        (jnp.zeros((1, 8, 8, 3), jnp.uint8), {}, {}, "astype"),
        (IMAGES, {}, {"sigma": 0.1}, "buifd is blind"),
        (IMAGES, {"depth": 1}, {}, "depth must be at least 2"),
        (IMAGES, {"level_depth": 1}, {}, "level_depth must be at least 2"),
    ],
)
def test_refuses(images, config, arguments, message):
    model = create_model("buifd", **{**TINY, **config})
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda key: model.init(key, images, **arguments), jax.random.key(0))
