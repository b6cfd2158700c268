"""Low light against its formula, and its calibration on scikit-image's photographs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.color
import skimage.data

from lumloss_jax.color import linear_to_srgb, rgb_to_luma, srgb_to_linear
from lumloss_jax.degradations import low_light, low_light_exposure

# Compiled, which is far quicker than their operations one by one.
darken = jax.jit(low_light, static_argnames="clip")
exposure_for = jax.jit(low_light_exposure, static_argnames="clip")

NOISELESS = {"shot_variance": 0.0, "read_variance": 0.0}
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def photographs() -> jax.Array:
    """Crops of 96 x 96 of three photographs, mean luma 0.51 to 0.24."""
    images = (skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea())
    return jnp.stack([jnp.asarray(image[100:196, 100:196], jnp.float32) / 255 for image in images])


def mean_luma(image: jax.Array) -> np.ndarray:
    return np.asarray(rgb_to_luma(image).mean(axis=(-3, -2, -1)), np.float64)


# The formula


def test_light_is_scaled_where_it_is_linear_by_hand():
    # 0.5 encodes 0.21404 of white; a quarter of that, 0.05351, is encoded as 1.055 *
    # 0.05351^(1/2.4) - 0.055.
    dark = darken(KEY, jnp.full((1, 1, 1), 0.5), exposure=0.25, **NOISELESS)
    assert f"{dark[0, 0, 0]:.5f}" == f"{1.055 * 0.0535103 ** (1 / 2.4) - 0.055:.5f}" == "0.25648"


def test_gamma_is_a_power_of_the_encoded_values_by_hand():
    dark = darken(KEY, jnp.full((1, 1, 1), 0.5), exposure=1.0, gamma=2.0, **NOISELESS)
    np.testing.assert_allclose(dark[0, 0, 0], 0.25, rtol=1e-6)


def test_full_exposure_without_noise_changes_nothing(photographs):
    np.testing.assert_allclose(
        darken(KEY, photographs, exposure=1.0, **NOISELESS), photographs, atol=1e-6
    )


def test_no_light_without_noise_is_black(photographs):
    assert not darken(KEY, photographs, exposure=0.0, **NOISELESS).any()


def test_noise_has_the_sensor_s_variance_in_linear_light():
    grey = jnp.full((1, 128, 128, 3), 0.6)
    options = {"exposure": 0.3, "shot_variance": 2e-4, "read_variance": 3e-5}
    light = np.asarray(srgb_to_linear(darken(KEY, grey, **options, clip=False)), np.float64)
    signal = 0.3 * float(srgb_to_linear(grey)[0, 0, 0, 0])
    variance = 2e-4 * signal + 3e-5
    n = light.size
    assert abs(light.mean() - signal) < 4.5 * (variance / n) ** 0.5
    assert abs(((light - signal) ** 2).mean() / variance - 1) < 4.5 * (2 / n) ** 0.5


def test_clip_is_a_choice(photographs):
    options = {"exposure": 1e-3, "shot_variance": 1e-2, "read_variance": 1e-4}
    clipped, free = (darken(KEY, photographs, **options, clip=clip) for clip in (True, False))
    assert clipped.min() == 0 and free.min() < 0
    np.testing.assert_allclose(
        clipped, linear_to_srgb(jnp.clip(srgb_to_linear(free), 0, 1)), atol=1e-6
    )


def test_amounts_go_by_image(photographs):
    exposure, gamma = jnp.array([0.1, 0.2, 0.3]), jnp.array([1.0, 2.0, 3.0])
    together = darken(KEY, photographs, exposure=exposure, gamma=gamma, **NOISELESS)
    for i in range(3):
        alone = darken(KEY, photographs[i], exposure=exposure[i], gamma=gamma[i], **NOISELESS)
        np.testing.assert_allclose(together[i], alone, rtol=1e-5, atol=1e-7)


def test_gradients_are_finite_also_outside_the_range():
    image = jnp.array([-0.5, 0.0, 1e-30, 0.5, 1.0, 1.5]).reshape(1, 6, 1)

    @jax.jit
    def gradients(noise, *arguments):
        def total(x, e, g):
            return low_light(KEY, x, exposure=e, gamma=g, **noise).sum()

        return jax.grad(total, argnums=(0, 1, 2))(*arguments)

    for gamma in (0.5, 1.0, 2.5):
        for noise in (NOISELESS, {}):
            for gradient in gradients(noise, image, 0.1, gamma):
                assert np.isfinite(gradient).all()


def test_gradient_is_that_of_finite_differences(photographs, x64):
    image = np.asarray(photographs[0, :4, :4], np.float64)
    direction = np.random.default_rng(0).normal(size=image.shape)

    @jax.jit
    def brightness(step, exposure=0.2, gamma=1.5):
        return low_light(KEY, image + step * direction, exposure=exposure, gamma=gamma).sum()

    gradient = jax.jit(jax.grad(brightness))(0.0)
    np.testing.assert_allclose(gradient, (brightness(1e-6) - brightness(-1e-6)) / 2e-6, rtol=1e-6)


# Calibration


@pytest.mark.parametrize("brightness", [0.02, 0.05, 0.15])
@pytest.mark.parametrize(
    "options",
    [
        {},
        NOISELESS,
        {"gamma": 2.5},
        {"shot_variance": 3e-3, "read_variance": 1e-5},
        {"shot_variance": 1e-3, "read_variance": 1e-6, "clip": False},
    ],
    ids=["default", "noiseless", "contrast", "high ISO", "unclipped"],
)
def test_photographs_get_the_chosen_mean_brightness(photographs, options, brightness):
    options = {"gamma": 1.0, "shot_variance": 1e-4, "read_variance": 6.3e-9} | options
    exposure = exposure_for(KEY, photographs, brightness=brightness, **options)
    assert exposure.shape == (3,)
    np.testing.assert_allclose(
        mean_luma(darken(KEY, photographs, exposure=exposure, **options)), brightness, rtol=1e-4
    )


def test_calibration_nearly_holds_under_another_key(photographs):
    exposure = exposure_for(KEY, photographs, brightness=0.05)
    np.testing.assert_allclose(
        mean_luma(darken(jax.random.key(1), photographs, exposure=exposure)), 0.05, rtol=5e-3
    )


def test_calibration_takes_a_traced_brightness_per_image(photographs):
    brightness = jnp.array([0.03, 0.1, 0.2])
    exposure = jax.jit(lambda b: exposure_for(KEY, photographs, brightness=b))(brightness)
    np.testing.assert_allclose(
        mean_luma(darken(KEY, photographs, exposure=exposure)), brightness, rtol=1e-4
    )


def test_calibration_of_greyscale_brightens_too_where_asked(photographs):
    grey = rgb_to_luma(photographs) * 0.1
    exposure = exposure_for(KEY, grey, brightness=0.08)
    assert (exposure > 1).all()
    np.testing.assert_allclose(mean_luma(darken(KEY, grey, exposure=exposure)), 0.08, rtol=1e-4)


def test_calibration_of_a_flat_grey_follows_skimage_s_curve():
    grey = jnp.full((8, 8, 1), 0.5)
    exposure = float(exposure_for(KEY, grey, brightness=0.1, **NOISELESS))

    def light(value):  # skimage's own sRGB curve, by way of XYZ's Y of a neutral grey
        return skimage.color.rgb2xyz(np.full((1, 1, 3), value))[0, 0, 1]

    np.testing.assert_allclose(exposure, light(0.1) / light(0.5), rtol=1e-4)


def test_what_cannot_be_reached_gives_the_nearer_end():
    black = jnp.zeros((8, 8, 3))
    np.testing.assert_allclose(
        exposure_for(KEY, black, brightness=0.05, **NOISELESS), 16, rtol=1e-6
    )
    grey = jnp.full((64, 64, 3), 0.5)
    noisy = {"shot_variance": 1e-4, "read_variance": 0.1}
    np.testing.assert_allclose(
        exposure_for(KEY, grey, brightness=0.05, **noisy), 2.0**-20, rtol=1e-6
    )


def test_exposure_is_a_constant_for_gradients(photographs):
    gradient = jax.grad(lambda x: exposure_for(KEY, x, brightness=0.05).sum())(photographs)
    assert not gradient.any()


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exposure": -0.1}, "exposure must be finite and not negative; got -0.1"),
        ({"exposure": np.ones(2)}, r"exposure has shape \(2,\)"),
        ({"exposure": np.ones((3, 96, 96))}, r"must be one number, one per image \(3,\)\."),
        ({"gamma": 0.0}, "gamma must be finite and at least 0.01; got 0"),
        ({"shot_variance": -1e-3}, "shot_variance must be finite and not negative"),
        ({"read_variance": -1e-3}, "read_variance must be finite and not negative"),
        ({"clip": 1}, "clip must be True or False"),
    ],
)
def test_wrong_options_are_refused(photographs, options, message):
    with pytest.raises(ValueError, match=message):
        low_light(KEY, photographs, **({"exposure": 0.1} | options))
    if "exposure" not in options:
        with pytest.raises(ValueError, match=message):
            low_light_exposure(KEY, photographs, brightness=0.1, **options)


@pytest.mark.parametrize("brightness", [0.0, 1.5, -1.0, np.nan])
def test_wrong_brightness_is_refused(photographs, brightness):
    with pytest.raises(ValueError, match=r"brightness must lie in \[0.0001, 1\]"):
        low_light_exposure(KEY, photographs, brightness=brightness)
