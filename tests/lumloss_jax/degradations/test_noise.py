"""Gaussian noise against its formula.

Seeds are fixed, and bounds are what the sample size allows at 4.5 sigma.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumloss_jax.degradations import blind_sigma, gaussian_noise, sigma_ramp

GREY = jnp.full((4, 96, 96, 3), 0.5)


# Compiled, which is far quicker than its operations one by one.
noisy_of = jax.jit(gaussian_noise, static_argnames="clip")


def noise_of(seed: int, image: jax.Array, sigma, **options) -> np.ndarray:
    return np.asarray(
        noisy_of(jax.random.key(seed), image, sigma=sigma, **options) - image, np.float64
    )


def assert_gaussian(noise: np.ndarray, sigma: float) -> None:
    """First four moments of N(0, sigma^2), each within 4.5 of its own standard errors."""
    n = noise.size
    z = noise / sigma
    assert abs(z.mean()) < 4.5 / n**0.5
    assert abs((z**2).mean() - 1) < 4.5 * (2 / n) ** 0.5
    assert abs((z**3).mean()) < 4.5 * (15 / n) ** 0.5
    assert abs((z**4).mean() - 3) < 4.5 * (96 / n) ** 0.5


@pytest.mark.parametrize("sigma", [15 / 255, 25 / 255, 50 / 255])
def test_moments_are_those_of_the_formula(sigma):
    assert_gaussian(noise_of(1, GREY, sigma), sigma)


def test_noise_is_added_to_the_image_and_sigma_scales_it():
    key = jax.random.key(2)
    image = jax.random.uniform(jax.random.key(3), (5, 7, 3))
    unit = jax.random.normal(key, image.shape)
    np.testing.assert_allclose(noisy_of(key, image, sigma=0.2), image + 0.2 * unit, rtol=1e-6)


def test_sigma_zero_changes_nothing():
    np.testing.assert_array_equal(noisy_of(jax.random.key(0), GREY, sigma=0), GREY)


def test_images_channels_and_neighbours_are_independent():
    noise = noise_of(4, GREY, 1.0)
    bound = 4.5 / noise[0].size ** 0.5

    def correlation(a, b):
        return abs(np.mean(a * b))

    assert correlation(noise[0], noise[1]) < bound
    assert correlation(noise[..., 0], noise[..., 1]) < bound
    assert correlation(noise[..., 0], noise[..., 2]) < bound
    assert correlation(noise[:, 1:], noise[:, :-1]) < bound
    assert correlation(noise[:, :, 1:], noise[:, :, :-1]) < bound


def test_one_sigma_per_image():
    sigma = jnp.array([0.0, 0.05, 0.1, 0.3])
    noise = noise_of(5, GREY, sigma)
    assert not noise[0].any()
    for i in (1, 2, 3):
        assert_gaussian(noise[i], float(sigma[i]))


def test_one_sigma_per_image_with_two_leading_axes():
    image = jnp.full((2, 3, 40, 40, 1), 0.5)
    sigma = jnp.arange(0.1, 0.65, 0.1).reshape(2, 3)
    noise = noise_of(6, image, sigma)
    np.testing.assert_allclose(noise.std(axis=(2, 3, 4)), sigma, rtol=4.5 / (2 * 1600) ** 0.5)


def test_sigma_map_sets_each_pixel():
    sigma = jnp.zeros((4, 96, 96)).at[1, 10:50, 20:60].set(0.2)
    for shape in ((4, 96, 96), (4, 96, 96, 1)):
        noise = noise_of(7, GREY, sigma.reshape(shape))
        inside = noise[1, 10:50, 20:60]
        assert_gaussian(inside, 0.2)
        noise[1, 10:50, 20:60] = 0
        assert not noise.any()


def test_sigma_map_broadcasts_over_axes_of_one():
    sigma = jnp.linspace(0.1, 0.2, 96)
    full = jnp.broadcast_to(sigma, (4, 96, 96))
    np.testing.assert_array_equal(noise_of(8, GREY, sigma[None, None]), noise_of(8, GREY, full))


def test_clip_is_a_choice():
    image = jnp.stack([jnp.zeros((64, 64, 3)), jnp.ones((64, 64, 3))])
    key = jax.random.key(9)
    free = noisy_of(key, image, sigma=0.1)
    clipped = noisy_of(key, image, sigma=0.1, clip=True)
    assert free.min() < 0 and free.max() > 1
    np.testing.assert_array_equal(clipped, np.clip(free, 0, 1))


def test_gradients_are_one_for_the_image_and_the_noise_for_sigma():
    image, key = GREY[0], jax.random.key(10)
    by_image, by_sigma = jax.grad(lambda x, s: noisy_of(key, x, sigma=s).sum(), argnums=(0, 1))(
        image, 0.1
    )
    np.testing.assert_array_equal(by_image, 1)
    np.testing.assert_allclose(by_sigma, jax.random.normal(key, image.shape).sum(), rtol=1e-4)
    clipped = jax.grad(lambda x: noisy_of(key, x, sigma=1.0, clip=True).sum())(image)
    assert set(np.unique(clipped)) == {0.0, 1.0}


def test_float64_stays_and_draws_float64_noise(x64):
    noisy = noisy_of(jax.random.key(11), np.zeros((8, 8, 1)), sigma=1.0)
    assert noisy.dtype == jnp.float64
    assert np.any(np.asarray(noisy) != np.asarray(noisy).astype(np.float32))


# Blind levels


def test_blind_levels_are_uniform_over_their_range():
    n = 20_000
    sigma = np.asarray(
        blind_sigma(jax.random.key(0), (n,), minimum=5 / 255, maximum=55 / 255), np.float64
    )
    assert sigma.dtype == np.float64 and sigma.min() >= 5 / 255 - 1e-9 and sigma.max() < 55 / 255
    unit = (sigma * 255 - 5) / 50
    # Kolmogorov-Smirnov: 1.95 / sqrt(n) is exceeded once in a thousand seeds.
    assert np.abs(np.sort(unit) - (np.arange(n) + 0.5) / n).max() < 1.95 / n**0.5


def test_blind_levels_take_traced_bounds_and_meet_equal_ones():
    draw = jax.jit(lambda lo, hi: blind_sigma(jax.random.key(0), (100,), minimum=lo, maximum=hi))
    levels = draw(0.1, 0.3)
    assert levels.min() >= 0.1 and levels.max() <= 0.3 and levels.dtype == jnp.float32
    np.testing.assert_allclose(draw(0.2, 0.2), 0.2, rtol=1e-6)


def test_blind_levels_compose_with_the_noise():
    sigma = blind_sigma(jax.random.key(1), GREY.shape[:-3], minimum=0.02, maximum=0.3)
    assert len(np.unique(sigma)) == 4
    noise = noise_of(2, GREY, sigma)
    for i in range(4):
        assert_gaussian(noise[i], float(sigma[i]))


# Ramps


def test_ramp_rises_linearly_along_the_width_by_hand():
    ramp = sigma_ramp((3, 5, 1), start=0.1, stop=0.3)
    np.testing.assert_allclose(ramp, np.tile([0.1, 0.15, 0.2, 0.25, 0.3], (3, 1)), rtol=1e-6)


def test_ramp_along_the_height_and_one_per_image():
    ramp = sigma_ramp(
        (2, 3, 4, 3), start=jnp.array([0.0, 0.2]), stop=jnp.array([0.2, 0.2]), axis="height"
    )
    assert ramp.shape == (2, 3, 4)
    np.testing.assert_allclose(ramp[0], np.tile([[0.0], [0.1], [0.2]], (1, 4)), rtol=1e-6)
    np.testing.assert_allclose(ramp[1], 0.2, rtol=1e-6)


def test_ramp_ends_are_exact_and_one_pixel_holds_the_start():
    start, stop = jnp.float32(5 / 255), jnp.float32(25 / 255)
    ramp = sigma_ramp((1, 321, 3), start=start, stop=stop)
    assert ramp[0, 0] == start and ramp[0, -1] == stop
    assert sigma_ramp((4, 1, 3), start=start, stop=stop)[0, 0] == start


def test_ramp_gives_each_column_its_level():
    image = jnp.full((2, 400, 9, 3), 0.5)
    sigma = sigma_ramp(image.shape, start=15 / 255, stop=35 / 255)
    noise = noise_of(3, image, sigma)
    for column in range(9):
        assert_gaussian(noise[:, :, column], float(sigma[0, 0, column]))


# Errors


@pytest.mark.parametrize(
    ("sigma", "message"),
    [
        (-0.1, r"sigma must lie in \[0, 1\]; got -0.1"),
        (25, r"sigma must lie in \[0, 1\]; got 25: .* divide levels for 0 to 255 by 255"),
        (np.array([0.1, -0.2, 0.1, 0.1]), "got -0.2"),
        (float("nan"), "got nan"),
        (float("inf"), "got inf"),
        ("25", "sigma must be real numbers; got '25'"),
        (np.ones(3), r"one per image \(4,\), or a map \(4, 96, 96\)"),
        (np.ones((4, 96, 95)), r"sigma has shape \(4, 96, 95\)"),
        (np.ones((96, 96)), r"that all images share, use sigma\[None, \.\.\.\]"),
        (np.ones((4, 96, 96, 3)), r"sigma has shape \(4, 96, 96, 3\)"),
        (1j, "real"),
        (True, "real numbers; got True"),
        (None, "real numbers; got None"),
    ],
)
def test_wrong_sigma_is_refused(sigma, message):
    with pytest.raises(ValueError, match=message):
        gaussian_noise(jax.random.key(0), GREY, sigma=sigma)


def test_traced_sigma_of_a_wrong_shape_is_refused():
    with pytest.raises(ValueError, match="sigma has shape"):
        jax.jit(lambda s: gaussian_noise(jax.random.key(0), GREY, sigma=s))(jnp.ones(5))


@pytest.mark.parametrize("clip", [1, "yes", None])
def test_clip_must_be_a_bool(clip):
    with pytest.raises(ValueError, match="clip must be True or False"):
        gaussian_noise(jax.random.key(0), GREY, sigma=0.1, clip=clip)


def test_traced_clip_is_named():
    with pytest.raises(ValueError, match="clip is traced"):
        jax.jit(lambda c: gaussian_noise(jax.random.key(0), GREY, sigma=0.1, clip=c))(True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minimum": 0.3, "maximum": 0.1}, "maximum must be at least minimum, 0.3; got 0.1"),
        ({"minimum": -0.1, "maximum": 0.1}, "minimum must be finite and not negative"),
        ({"minimum": 0.0, "maximum": float("inf")}, "maximum"),
        ({"minimum": 0.0, "maximum": 55}, r"maximum must lie in \[0, 1\]; got 55: .* by 255"),
        ({"minimum": np.zeros(2), "maximum": 1.0}, r"minimum must be one number"),
    ],
)
def test_wrong_blind_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        blind_sigma(jax.random.key(0), (2,), **options)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="shape must be a tuple"):
        blind_sigma(jax.random.key(0), 4, minimum=0, maximum=1)
    with pytest.raises(ValueError, match="image_shape must be the shape"):
        sigma_ramp((4, 4), start=0, stop=1)
    with pytest.raises(ValueError, match="start has shape"):
        sigma_ramp((2, 4, 4, 3), start=np.zeros(3), stop=1)
    with pytest.raises(ValueError, match=r"stop must lie in \[0, 1\]"):
        sigma_ramp((2, 4, 4, 3), start=0, stop=-1)
    with pytest.raises(ValueError, match="axis accepts 'width', 'height'"):
        sigma_ramp((2, 4, 4, 3), start=0, stop=1, axis="rows")
