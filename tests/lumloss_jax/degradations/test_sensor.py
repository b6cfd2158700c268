"""Sensor noise against its variance a x + b and against scipy's Poisson.

Bounds are 4.5 standard errors.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from lumloss_jax.degradations import SensorVariances, blind_sensor_variances, poisson_gaussian_noise

LEVELS = np.array([0.0, 0.02, 0.1, 0.5, 1.0], np.float32)
FLAT = jnp.broadcast_to(LEVELS[:, None, None, None], (5, 96, 96, 3))  # one level per image


# Compiled, which is far quicker than its operations one by one.
compiled = jax.jit(poisson_gaussian_noise, static_argnames=("sampling", "clip"))


def noisy_of(key, image, *, shot_variance, read_variance, **options):
    """Variances are arrays: a Python number would be of another type, and compile again."""
    variances = {"shot_variance": shot_variance, "read_variance": read_variance}
    arrays = {name: jnp.asarray(value, image.dtype) for name, value in variances.items()}
    return compiled(key, image, **arrays, **options)


def noise_of(seed: int, image, **options) -> np.ndarray:
    return np.asarray(noisy_of(jax.random.key(seed), image, **options) - image, np.float64)


@pytest.mark.parametrize("sampling", ["normal", "poisson"])
@pytest.mark.parametrize(("shot", "read"), [(0.01, 4e-4), (0.2, 0.0), (0.0, 1e-2), (1e-3, 1e-6)])
def test_mean_is_the_signal_and_variance_is_linear_in_it(sampling, shot, read):
    noise = noise_of(1, FLAT, shot_variance=shot, read_variance=read, sampling=sampling)
    n = noise[0].size
    for level, sample in zip(LEVELS.astype(float), noise, strict=True):
        variance = shot * level + read
        assert abs(sample.mean()) <= 4.5 * (variance / n) ** 0.5 + 1e-9
        # Fourth central moment of a Poisson(x / a) + sqrt(b) n; it sets the variance's own standard
        # error.
        fourth = 3 * variance**2 + (shot**3 * level if sampling == "poisson" else 0)
        assert (
            abs((sample**2).mean() - variance) <= 4.5 * ((fourth - variance**2) / n) ** 0.5 + 1e-9
        )


def test_poisson_sampling_follows_scipys_distribution():
    shot = 0.01
    photons = np.array([0.5, 3.0, 9.0, 40.0, 700.0], np.float32)  # both of jax's samplers
    image = jnp.broadcast_to((shot * photons)[:, None, None, None], (5, 96, 96, 3))
    noisy = noisy_of(
        jax.random.key(2), image, shot_variance=shot, read_variance=0, sampling="poisson"
    )
    counts = np.asarray(noisy, np.float64) / shot
    np.testing.assert_allclose(counts, counts.round(), atol=2e-3)  # whole photons
    for mean, sample in zip(photons.astype(float), counts.round().astype(int), strict=True):
        n = sample.size
        largest = int(mean + 10 * mean**0.5 + 10)
        empirical = np.cumsum(np.bincount(sample.ravel(), minlength=largest))[:largest] / n
        gap = np.abs(empirical - stats.poisson.cdf(np.arange(largest), mean)).max()
        assert gap < 1.95 / n**0.5  # Kolmogorov: once in a thousand seeds, less for whole numbers


def test_poisson_sampling_above_the_largest_count_is_normal():
    image = jnp.ones_like(FLAT)
    noise = (
        noise_of(3, image, shot_variance=1e-5, read_variance=0, sampling="poisson").ravel()
        / 1e-5**0.5
    )
    assert abs(noise.mean()) < 4.5 / noise.size**0.5
    assert abs((noise**2).mean() - 1) < 4.5 * (2 / noise.size) ** 0.5


def test_dark_poisson_is_skewed_and_normal_is_not():
    image = jnp.full_like(FLAT, 0.02)
    for sampling, skewness, spread in (("poisson", 0.5**0.5, 3.0), ("normal", 0.0, 1.0)):
        # Two photons a pixel
        noise = noise_of(4, image, shot_variance=0.01, read_variance=0, sampling=sampling)
        z = noise / (0.01 * 0.02) ** 0.5
        assert abs((z**3).mean() - skewness) < 4.5 * spread * (15 / z.size) ** 0.5


def test_variances_per_image_set_the_noise_of_each():
    image = jnp.full((3, 64, 64, 1), 0.5)
    shot, read = jnp.array([0.0, 0.01, 0.1]), jnp.array([1e-4, 0.0, 1e-2])
    noise = noise_of(5, image, shot_variance=shot, read_variance=read)
    np.testing.assert_allclose(
        noise.std(axis=(1, 2, 3)) ** 2, shot * 0.5 + read, rtol=4.5 * (2 / 4096) ** 0.5
    )


def test_no_noise_where_both_are_zero():
    for sampling in ("normal", "poisson"):
        assert not noise_of(6, FLAT, shot_variance=0, read_variance=0, sampling=sampling).any()
        black = noise_of(6, 0 * FLAT, shot_variance=0.1, read_variance=0, sampling=sampling)
        assert not black.any()


def test_values_below_black_have_black_s_noise():
    below = jnp.full_like(FLAT, -0.2)
    for sampling in ("normal", "poisson"):
        noise = noise_of(7, below, shot_variance=0.1, read_variance=0.01, sampling=sampling)
        assert abs(noise.std() - 0.1) < 4.5 * 0.1 / (2 * noise.size) ** 0.5
        assert abs(noise.mean()) < 4.5 * 0.1 / noise.size**0.5


def test_clip_is_a_choice():
    key, options = jax.random.key(8), {"shot_variance": 0.05, "read_variance": 0.01}
    free = noisy_of(key, FLAT, **options)
    clipped = noisy_of(key, FLAT, **options, clip=True)
    assert free.min() < 0 and free.max() > 1
    np.testing.assert_array_equal(clipped, np.clip(free, 0, 1))


def test_gradients_of_normal_sampling_are_those_of_the_formula():
    key, x, a, b = jax.random.key(9), jnp.full((1, 1, 1), 0.3), 0.02, 0.001
    n = float(jax.random.normal(key, (1, 1, 1))[0, 0, 0])
    by_x, by_a, by_b = jax.grad(
        lambda x, a, b: noisy_of(key, x, shot_variance=a, read_variance=b).sum(),
        argnums=(0, 1, 2),
    )(x, a, b)
    root = 2 * (a * 0.3 + b) ** 0.5
    np.testing.assert_allclose(by_x[0, 0, 0], 1 + n * a / root, rtol=1e-5)
    np.testing.assert_allclose(by_a, n * 0.3 / root, rtol=1e-5)
    np.testing.assert_allclose(by_b, n / root, rtol=1e-5)


def test_gradients_are_finite_at_black_without_read_noise():
    for sampling in ("normal", "poisson"):
        gradients = jax.grad(
            lambda x, a, b, sampling=sampling: noisy_of(
                jax.random.key(10), x, shot_variance=a, read_variance=b, sampling=sampling
            ).sum(),
            argnums=(0, 1, 2),
        )(jnp.zeros((4, 4, 3)), 0.1, 0.0)
        for gradient in gradients:
            assert np.isfinite(gradient).all()
        np.testing.assert_array_equal(gradients[0], 1)


def test_float64_stays(x64):
    for sampling in ("normal", "poisson"):
        image = np.full((4, 4, 3), 0.5)
        noisy = noisy_of(
            jax.random.key(0), image, shot_variance=0.01, read_variance=1e-4, sampling=sampling
        )
        assert noisy.dtype == jnp.float64


def test_blind_variances_follow_the_fitted_line():
    n = 20_000
    drawn = blind_sensor_variances(jax.random.key(0), (n,))
    assert isinstance(drawn, SensorVariances) and drawn.shot_variance.dtype == jnp.float32
    log_shot, log_read = (np.log(np.asarray(v, np.float64)) for v in drawn)
    unit = (log_shot - np.log(1e-4)) / np.log(0.012 / 1e-4)
    assert np.abs(np.sort(unit) - (np.arange(n) + 0.5) / n).max() < 1.95 / n**0.5
    rest = (log_read - 2.18 * log_shot - 1.2) / 0.26
    assert abs(rest.mean()) < 4.5 / n**0.5 and abs((rest**2).mean() - 1) < 4.5 * (2 / n) ** 0.5
    # The spread does not follow the level
    assert abs((rest * (unit - 0.5) * 12**0.5).mean()) < 4.5 / n**0.5


def test_blind_variances_take_traced_bounds():
    draw = jax.jit(
        lambda lo, hi: blind_sensor_variances(
            jax.random.key(0), (50,), minimum_shot=lo, maximum_shot=hi
        )
    )
    shot = draw(1e-3, 2e-3).shot_variance
    assert shot.min() >= 0.999e-3 and shot.max() <= 2.001e-3


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shot_variance": -1.0}, "shot_variance must be finite and not negative; got -1"),
        ({"read_variance": float("nan")}, "read_variance must be finite and not negative; got nan"),
        ({"shot_variance": np.ones(4)}, r"shot_variance has shape \(4,\).* one per image \(5,\)\."),
        ({"read_variance": np.ones((5, 96, 96))}, "read_variance has shape"),
        ({"sampling": "poison"}, "did you mean 'poisson'"),
        ({"clip": None}, "clip must be True or False"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        poisson_gaussian_noise(
            jax.random.key(0), FLAT, **({"shot_variance": 0.1, "read_variance": 0.1} | options)
        )


def test_poisson_sampling_names_the_key_that_it_needs():
    options = {"shot_variance": 0.1, "read_variance": 0.1}
    for key in (jax.random.key(0, impl="rbg"),):
        with pytest.raises(ValueError, match="needs a threefry key.*impl='threefry2x32'"):
            poisson_gaussian_noise(key, FLAT, **options, sampling="poisson")
        assert np.isfinite(poisson_gaussian_noise(key, FLAT, **options)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minimum_shot": 0.0}, "minimum_shot must be at least 1e-12; got 0"),
        ({"minimum_shot": 0.1}, "maximum_shot must be at least minimum_shot, 0.1; got 0.012"),
        ({"maximum_shot": float("inf")}, "maximum_shot must be finite"),
    ],
)
def test_wrong_ranges_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        blind_sensor_variances(jax.random.key(0), (2,), **options)
    with pytest.raises(ValueError, match="shape must be a tuple"):
        blind_sensor_variances(jax.random.key(0), [2])
