"""LPIPS and DISTS against the published packages, and what they keep to with any weights."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tests.lumloss_jax.models.narrow_weights as narrow_weights
from lumloss_jax import models

WEIGHTS = {
    "lpips_vgg": narrow_weights.lpips("vgg"),
    "lpips_alex": narrow_weights.lpips("alex"),
    "dists": narrow_weights.dists(),
}
EACH = pytest.mark.parametrize("name", WEIGHTS)
CUT_FROM = "chelsea_113x97_blur1.2"
GRADIENTS_OF = f"{CUT_FROM}_cut_to_40x48"


def function_of(name):
    return models.dists if name == "dists" else models.lpips


def metric_of(name):
    return functools.partial(function_of(name), weights=WEIGHTS[name])


@functools.cache
def compiled(name):
    """Values of (predictions, targets), and the gradient of their sum. The weights are traced."""

    def values(predictions, targets, weights):
        value = function_of(name)(predictions, targets, weights=weights)
        return jnp.sum(value), value

    with_gradient = jax.jit(jax.value_and_grad(values, has_aux=True))

    def call(predictions, targets, weights=WEIGHTS[name]):
        (_, value), gradient = with_gradient(predictions, targets, weights)
        return value, gradient

    return call


@pytest.fixture(scope="module")
def golden_set(golden):
    described = json.loads((golden / "deep" / "deep.json").read_text())
    with np.load(golden / "deep" / "deep.npz") as gradients:
        gradients = dict(gradients)
    with np.load(golden / "perceptual" / "perceptual.npz") as arrays:
        pairs = {
            pair: tuple(arrays[f"{pair}/{side}"] / 255 for side in "ba")
            for pair in described["pairs"]
            if pair != GRADIENTS_OF
        }
        pairs[GRADIENTS_OF] = tuple(arrays[f"{CUT_FROM}/{side}"][:40, :48] / 255 for side in "ba")
    return described["pairs"], pairs, gradients


def images(shape=(2, 40, 48, 3), *, seed=0, dtype=np.float32):
    random = np.random.RandomState(seed)
    targets = random.uniform(0.1, 0.9, shape)
    predictions = np.clip(targets + 0.1 * random.normal(size=shape), 0, 1)
    return predictions.astype(dtype), targets.astype(dtype)


@EACH
def test_parity_in_float32(golden_set, name):
    expected, pairs, gradients = golden_set
    test, reference = (side.astype(np.float32) for side in pairs[GRADIENTS_OF])
    # Both directions in one batch, of the size that most tests compile
    value, gradient = compiled(name)(np.stack([test, reference]), np.stack([reference, test]))
    np.testing.assert_allclose(value, [expected[GRADIENTS_OF][name]] * 2, rtol=2e-5)
    scale = np.abs(gradients[name]).max()
    np.testing.assert_allclose(gradient[0], gradients[name], rtol=0, atol=1e-3 * scale)


@EACH
def test_parity_in_float64_and_gradient_against_numerical_difference(golden_set, name, float64):
    """To 1e-7, since the packages keep the mean colour of ImageNet in float32."""
    expected, pairs, gradients = golden_set
    test, reference = pairs[GRADIENTS_OF]
    call = jax.jit(jax.value_and_grad(metric_of(name)))
    value, gradient = call(test, reference)
    assert value.dtype == jnp.float64
    np.testing.assert_allclose(value, expected[GRADIENTS_OF][name], rtol=1e-7)
    scale = np.abs(gradients[name]).max()
    np.testing.assert_allclose(gradient, gradients[name], rtol=0, atol=1e-6 * scale)

    direction = np.random.default_rng(3).normal(size=test.shape)
    step = 1e-8  # A step of 1e-7 crosses kinks of max pooling.
    above, below = (call(test + sign * step * direction, reference)[0] for sign in (1, -1))
    np.testing.assert_allclose(
        np.sum(gradient * direction), (above - below) / (2 * step), rtol=1e-5
    )


@pytest.mark.slow
@EACH
def test_parity_of_every_pair(golden_set, name, float64):
    expected, pairs, _ = golden_set
    for pair, (test, reference) in pairs.items():
        value = jax.jit(metric_of(name))(test, reference)
        np.testing.assert_allclose(value, expected[pair][name], rtol=1e-7, atol=1e-12, err_msg=pair)


@EACH
def test_equal_images_score_0_with_gradient_0_where_the_packages_give_nan(name):
    """A plain root, as in lpips, has no slope where all activations are 0."""
    _, targets = images()
    black, white = np.zeros_like(targets), np.ones_like(targets)
    for image in (targets, black, white):
        value, gradient = compiled(name)(image, image)
        np.testing.assert_array_equal(value, [0, 0])
        np.testing.assert_array_equal(gradient, np.zeros_like(image))


@EACH
def test_gradients_are_finite_on_black_flat_and_saturated_images(name):
    _, targets = images()
    black = np.zeros_like(targets)
    one_pixel = black.copy()
    one_pixel[0, 5, 5, 0] = 1 / 255
    for predictions, other in (
        (black, targets),
        (targets, black),
        (black, black + 1),
        (one_pixel, black),
        (black + np.float32(0.5), black),
        (targets * 4 - 1, targets),
    ):
        value, gradient = compiled(name)(predictions, other)
        assert np.isfinite(value).all() and np.isfinite(gradient).all()
        assert value[0] > 0


def test_activations_that_are_all_0_have_finite_gradients():
    """With biases far below 0 no layer sees anything, in either image."""
    dead = {
        name: np.full_like(value, -100.0) if name.endswith("bias") else value
        for name, value in WEIGHTS["lpips_alex"].items()
    }
    value, gradient = compiled("lpips_alex")(*images(), dead)
    assert (value == 0).all() and (gradient == 0).all()


@EACH
def test_batches_units_borders_grey_and_half_precision(name):
    predictions, targets = images()
    expected, _ = compiled(name)(predictions, targets)
    np.testing.assert_allclose(compiled(name)(targets, predictions)[0], expected, rtol=1e-5)
    metric = metric_of(name)
    # Two leading axes, one of them mapped, in other units, as bfloat16, and inside a border
    halves = [jnp.asarray(image, jnp.bfloat16) for image in (predictions, targets)]
    rounded, _ = compiled(name)(*(image.astype(jnp.float32) for image in halves))
    widths = [(0, 0), (0, 0), (3, 3), (3, 3), (0, 0)]
    bordered = [jnp.pad(2 * image[:, None], widths, mode="edge") for image in halves]
    found = jax.jit(jax.vmap(functools.partial(metric, data_range=2.0, crop_border=3)))(*bordered)
    assert found.shape == (2, 1) and found.dtype == jnp.float32
    np.testing.assert_allclose(found[:, 0], rounded, rtol=1e-5)
    grey = [image[..., :1] for image in (predictions, targets)]
    repeated, _ = compiled(name)(*(np.repeat(image, 3, axis=-1) for image in grey))
    np.testing.assert_allclose(jax.jit(metric)(*grey), repeated, rtol=1e-5)


def test_layers_add_up_to_lpips():
    predictions, targets = images()
    layers = jax.jit(functools.partial(models.lpips_layers, weights=WEIGHTS["lpips_vgg"]))(
        predictions, targets
    )
    assert [layer.shape for layer in layers] == [
        (2, 40 // step, 48 // step) for step in (1, 2, 4, 8, 16)
    ]
    total = sum(np.mean(layer, (1, 2)) for layer in layers)
    np.testing.assert_allclose(total, compiled("lpips_vgg")(predictions, targets)[0], rtol=1e-5)


def test_dists_averages_large_images_only_if_asked():
    predictions, targets = images((513, 400, 3))
    metric = jax.jit(metric_of("dists"), static_argnames="downsample")
    # round(400 / 256) = 2, and the last row is dropped
    means = [
        image[:512].reshape(256, 2, 200, 2, 3).mean((1, 3)) for image in (predictions, targets)
    ]
    asked = metric(predictions, targets, downsample=True)
    np.testing.assert_allclose(asked, metric(*means), rtol=1e-5)
    # 383 / 256 is rounded to 1
    first, second = (image[:383, :40] for image in (predictions, targets))
    np.testing.assert_array_equal(
        metric(first, second, downsample=True), metric(first, second, downsample=False)
    )


def as_named_by(package, name):
    """The weights under the names that the state_dict of a published package has."""
    slices = {"vgg": (4, 9, 16, 23, 30), "alex": (2, 5, 8, 10, 12)}[
        "alex" if "alex" in name else "vgg"
    ]
    renamed = {}
    for key, value in WEIGHTS[name].items():
        if key.startswith("features."):
            _, number, leaf = key.split(".")
            place = 1 + next(i for i, end in enumerate(slices) if int(number) < end)
            prefix = f"net.slice{place}" if package == "lpips" else f"stage{place}"
            key = f"{prefix}.{number}.{leaf}"
        renamed[key] = value
        if key.startswith("lin"):
            renamed[f"lins.{key[3:]}"] = value
    return renamed


@EACH
def test_weights_of_published_files_are_renamed(name):
    reader = models.dists_weights if name == "dists" else models.lpips_weights
    expected = reader(WEIGHTS[name])
    assert set(expected) == set(WEIGHTS[name])
    package = "DISTS_pytorch" if name == "dists" else "lpips"
    given = as_named_by(package, name) | {
        "scaling_layer.shift": np.zeros((1, 3, 1, 1)),
        "stage2.4.filter": np.zeros((8, 1, 3, 3)),
        "classifier.0.weight": np.zeros((2, 2)),
    }
    for prefix in ("", "module."):
        found = reader({f"{prefix}{key}": value for key, value in given.items()})
        assert list(found) == list(expected)
        assert all(found[key] is WEIGHTS[name][key] for key in found)


@EACH
def test_bad_weights_are_refused_in_one_sentence(name):
    reader = models.dists_weights if name == "dists" else models.lpips_weights
    given = WEIGHTS[name]
    last = list(given)[-1]

    def refused(weights):
        with pytest.raises(ValueError) as caught:
            reader(weights)
        message = str(caught.value)
        assert "\n" not in message and "Give the weights of torchvision's vgg16" in message
        predictions, targets = images()
        with pytest.raises(ValueError, match="of (LPIPS|DISTS)"):
            function_of(name)(predictions, targets, weights=weights)
        return message

    assert "lack features.0.weight and" in refused({})
    without = {key: value for key, value in given.items() if key != last}
    assert f"lack {last}. Give" in refused(without)
    assert f"{last} of " in refused(given | {last: given[last][:, 1:]})
    assert "but it must be (any, 3," in refused(
        given | {"features.0.weight": np.zeros((8, 4, 3, 3))}
    )
    assert "features.0.bias of" in refused(given | {"features.0.bias": np.zeros(7)})
    assert "holds int32, but weights are floats" in refused(
        given | {"features.0.bias": np.zeros(8, np.int32)}
    )


def test_images_that_a_trunk_cannot_see_are_refused():
    small = np.zeros((15, 40, 3), np.float32)
    with pytest.raises(ValueError, match="LPIPS with VGG16 needs at least 16 x 16"):
        metric_of("lpips_vgg")(small, small)
    small = np.zeros((40, 30, 3), np.float32)
    with pytest.raises(ValueError, match="LPIPS with AlexNet needs at least 31 x 31"):
        metric_of("lpips_alex")(small, small)
    for name, side in (("lpips_vgg", 16), ("lpips_alex", 31), ("dists", 1)):
        image = jax.ShapeDtypeStruct((side, side, 3), np.float32)
        assert jax.eval_shape(metric_of(name), image, image).shape == ()
    with pytest.raises(ValueError, match="downsample must be True or False"):
        models.dists(small, small, weights=WEIGHTS["dists"], downsample=1)
