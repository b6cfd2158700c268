"""What every degradation promises: one table, one test per promise.

                        draws   same gradient everywhere   shape kept   devices
gaussian_noise          yes     yes                        yes          bit for bit
poisson_gaussian_noise  yes     yes                        yes          bit for bit
low_light               yes     yes                        yes          bit for bit
blurs, jpeg             no      yes                        yes          to rounding
compose, with a blur    yes     yes                        yes          to rounding
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from lumloss_jax import degradations
from lumloss_jax.degradations import (
    blind_sensor_variances,
    blind_sigma,
    box_blur,
    compose,
    gaussian_blur,
    gaussian_noise,
    jpeg,
    low_light,
    low_light_exposure,
    poisson_gaussian_noise,
    sigma_ramp,
)
from tests.slow_cases import slow_for

RANDOM = {
    "gaussian_noise": partial(gaussian_noise, sigma=0.1),
    "gaussian_noise, per image": partial(gaussian_noise, sigma=jnp.linspace(0.05, 0.2, 8)),
    "gaussian_noise, clipped": partial(gaussian_noise, sigma=0.1, clip=True),
    "poisson_gaussian_noise": partial(
        poisson_gaussian_noise, shot_variance=0.01, read_variance=1e-4
    ),
    "poisson_gaussian_noise, counted": partial(
        poisson_gaussian_noise, shot_variance=0.01, read_variance=1e-4, sampling="poisson"
    ),
    "low_light": partial(low_light, exposure=0.1, gamma=1.5),
    "compose": compose(
        partial(gaussian_blur, sigma=0.7),
        partial(gaussian_noise, sigma=0.1, clip=True),
    ),
}
FIXED = {
    "gaussian_blur": partial(gaussian_blur, sigma=1.0),
    "gaussian_blur, per image": partial(gaussian_blur, sigma=jnp.linspace(0.0, 2.0, 8), size=9),
    "box_blur": partial(box_blur, size=3),
    "jpeg": partial(jpeg, quality=60),
    "jpeg, 4:4:4": partial(jpeg, quality=60, subsampling="4:4:4"),
}
ALL = RANDOM | FIXED
SUMS = {"compose", *FIXED}  # of neighbouring pixels; the others are made pixel by pixel
IMAGES = jax.random.uniform(jax.random.key(42), (8, 12, 20, 3))
KEY = jax.random.key(7)

each = pytest.mark.parametrize("name", ALL)
each_random = pytest.mark.parametrize("name", RANDOM)


# One compilation for all tests that give a key and the images.
COMPILED = {name: jax.jit(degrade) for name, degrade in ALL.items()}


@pytest.fixture(scope="module")
def results() -> dict[str, np.ndarray]:
    """What each gives under jit, which the tests compare with."""
    return {name: np.asarray(degrade(KEY, IMAGES)) for name, degrade in COMPILED.items()}


def test_the_table_holds_every_degradation():
    no_degradation = {
        "SensorVariances",
        "blind_sensor_variances",
        "blind_sigma",
        "low_light_exposure",
        "sigma_ramp",
    }
    assert {name.split(",")[0] for name in ALL} == set(degradations.__all__) - no_degradation


@each
def test_shape_and_dtype(name, results):
    assert results[name].shape == IMAGES.shape and results[name].dtype == np.float32
    assert not np.array_equal(results[name], IMAGES)


@slow_for("name", ALL, ["jpeg", "jpeg, 4:4:4"])
def test_eager_is_jit(name, results):
    # XLA may contract a product and a sum into one rounding. JPEG rounds to 1/255 after it, so it
    # has no last digit.
    np.testing.assert_allclose(ALL[name](KEY, IMAGES), results[name], rtol=2e-6, atol=2e-7)


@slow_for("name", ALL, ["poisson_gaussian_noise, counted", "jpeg"])
def test_vmap_over_legacy_keys_is_a_loop_over_keys(name):
    legacy = jax.random.split(jax.random.PRNGKey(7), 3)
    batches = jnp.stack([IMAGES, 1 - IMAGES, IMAGES[::-1]])
    together = jax.jit(jax.vmap(ALL[name]))(legacy, batches)
    for i in range(3):
        alone = COMPILED[name](jax.random.wrap_key_data(legacy[i]), batches[i])
        np.testing.assert_allclose(together[i], alone, rtol=2e-6, atol=2e-7)


@each
def test_four_devices_give_what_one_gives(name, results):
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    rows = NamedSharding(mesh, P("data"))
    sharded = jax.jit(ALL[name], out_shardings=rows)(KEY, jax.device_put(IMAGES, rows))
    assert len(sharded.sharding.device_set) == 4
    if name in SUMS:
        # How a sum is vectorised, and so rounded, depends on the shape of a device's share; what is
        # then rounded to 8 bit may, once in a while, fall on the other side.
        assert np.mean(np.isclose(sharded, results[name], rtol=2e-6, atol=2e-7)) > 0.99
    else:
        np.testing.assert_array_equal(sharded, results[name])


@each_random
def test_one_key_is_one_result_and_another_is_another(name, results):
    np.testing.assert_array_equal(COMPILED[name](jax.random.key(7), IMAGES), results[name])
    # A clipped or 8-bit result may agree here and there by chance, not in most places.
    other = np.asarray(COMPILED[name](jax.random.key(8), IMAGES))
    assert np.mean(other == results[name]) < 0.3


@pytest.mark.parametrize("name", FIXED)
def test_what_is_not_random_takes_any_key_and_none(name, results):
    np.testing.assert_array_equal(COMPILED[name](jax.random.key(1), IMAGES), results[name])
    np.testing.assert_array_equal(COMPILED[name](None, IMAGES), results[name])


@each
def test_gradients_are_finite_on_black_white_and_between(name):
    images = jnp.concatenate([jnp.zeros((2, 12, 20, 3)), jnp.ones((2, 12, 20, 3)), IMAGES[:4]])
    value, gradient = jax.jit(jax.value_and_grad(lambda x: ALL[name](KEY, x).sum()))(images)
    assert np.isfinite(value) and np.isfinite(gradient).all() and gradient.any()


@each
@pytest.mark.parametrize(("half", "short"), [("bfloat16", "bf16"), ("float16", "f16")])
def test_half_precision_is_converted_first(name, half, short):
    program = jax.make_jaxpr(ALL[name])(KEY, jax.ShapeDtypeStruct(IMAGES.shape, half))
    assert program.out_avals[0].dtype == jnp.float32
    # The image, and nothing that is made of it
    assert len(re.findall(rf"\b{short}\[", str(program))) == 1


@each
def test_greyscale_and_single_images_are_images(name):
    grey = jax.eval_shape(ALL[name], KEY, IMAGES[..., :1])
    assert grey.shape == (8, 12, 20, 1)
    if "per image" not in name:
        assert jax.eval_shape(ALL[name], KEY, IMAGES[0]).shape == (12, 20, 3)


# Every wording is asserted in tests/lumloss_jax/test_checks.py: here, that each degradation asks.
@each
def test_wrong_images_are_refused(name):
    for image, message in [
        (np.zeros((8, 8, 3), np.uint8), "/ 255"),
        (np.zeros((2, 3, 8, 8), np.float32), "NCHW"),
    ]:
        with pytest.raises(ValueError, match=message):
            ALL[name](KEY, image)


DRAWS = RANDOM | {
    "blind_sigma": lambda key, image: blind_sigma(key, (2,), minimum=0, maximum=1),
    "blind_sensor_variances": lambda key, image: blind_sensor_variances(key, (2,)),
    "low_light_exposure": partial(low_light_exposure, brightness=0.1),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize(
    ("key", "message"),
    [
        (0, r"got 0: make one with jax.random.key\(0\)"),
        (None, "got None"),
        (np.zeros(2, np.float32), "dtype float32"),
        (jax.random.split(KEY, 3), r"shape \(3,\): one key serves a whole batch"),
        (jax.random.split(jax.random.PRNGKey(0), 3), "jax.vmap"),
    ],
    ids=["int", "None", "float", "keys", "legacy keys"],
)
def test_wrong_keys_are_refused(name, key, message):
    with pytest.raises(ValueError, match=message):
        DRAWS[name](key, IMAGES)


@pytest.mark.parametrize("name", FIXED)
def test_what_is_not_random_refuses_what_is_no_key_all_the_same(name):
    with pytest.raises(ValueError, match="key must be a jax.random key"):
        FIXED[name](0, IMAGES)


def test_samplers_give_the_same_bits_on_four_devices():
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    rows = NamedSharding(mesh, P("data"))
    ramp_of = partial(sigma_ramp, IMAGES.shape, start=0.1, stop=0.2)
    for draw in (
        lambda key: blind_sigma(key, (8,), minimum=0.1, maximum=0.2),
        lambda key: blind_sensor_variances(key, (8,)).read_variance,
        lambda key: ramp_of(),
    ):
        np.testing.assert_array_equal(jax.jit(draw, out_shardings=rows)(KEY), jax.jit(draw)(KEY))


def test_exposure_found_on_four_devices_is_that_found_on_one():
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    rows = NamedSharding(mesh, P("data"))
    find = jax.jit(partial(low_light_exposure, brightness=0.1))
    # Means over an image are sums in another order.
    np.testing.assert_allclose(
        find(KEY, jax.device_put(IMAGES, rows)), find(KEY, IMAGES), rtol=1e-5
    )
