"""Colour spaces against scikit-image and the CIE's exact constants, and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.color

from lumloss_jax import color

MATRIX = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])


def colours():
    """[3, 40, 50, 3] in [0, 1]: any, near grey, dark; black and white among them."""
    rng = np.random.default_rng(0)
    any_colour, grey = rng.uniform(0, 1, (40, 50, 3)), rng.uniform(0, 1, (40, 50, 1))
    any_colour[0, :2] = [[0], [1]]
    near_grey = (grey + 0.002 * rng.normal(size=(40, 50, 3))).clip(0, 1)
    return np.stack([any_colour, near_grey, 0.06 * any_colour]).astype(np.float32)


def lab_of(rgb):
    """From the definition, with CIE's exact thresholds."""
    linear = np.where(rgb > 0.04045, ((np.maximum(rgb, 0) + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    ratio = linear @ MATRIX.T / WHITE
    x, y, z = np.moveaxis(
        np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * (29 / 6) ** 2 / 3 + 4 / 29), -1, 0
    )
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def test_skimage():
    image = colours()
    double = image.astype(np.float64)
    xyz, lab = skimage.color.rgb2xyz(double), skimage.color.rgb2lab(double)
    xyz_32, lab_32 = xyz.astype(np.float32), lab.astype(np.float32)
    for value, expected, atol in (
        (jax.jit(color.rgb_to_xyz)(image), xyz, 3e-7),
        (jax.jit(color.xyz_to_rgb)(xyz_32), skimage.color.xyz2rgb(xyz_32.astype(np.float64)), 1e-6),
        # scikit-image has Rec. 601's matrix rounded to a thousandth of 255.
        (jax.jit(color.rgb_to_ycbcr)(image), skimage.color.rgb2ycbcr(double) / 255, 1e-6),
        # scikit-image has CIE's 0.008856... and 7.787... rounded to four digits.
        (jax.jit(color.rgb_to_lab)(image), lab, 3e-4),
        # Of a dark channel beside bright ones: 1e-7 of XYZ, times 3.2 in the matrix, times 12.92 on
        # sRGB's line.
        (jax.jit(color.lab_to_rgb)(lab_32), skimage.color.lab2rgb(lab_32.astype(np.float64)), 6e-6),
    ):
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=atol)


def test_lab_from_its_definition(float64):
    image = np.random.default_rng(1).uniform(-0.2, 1.3, (20, 30, 3))
    image[:5] *= 0.02
    np.testing.assert_allclose(
        jax.jit(color.rgb_to_lab)(image), lab_of(image), rtol=1e-9, atol=1e-11
    )


def test_lab_in_float32_keeps_the_digits_of_colours_near_grey():
    image = colours()
    error = np.abs(jax.jit(color.rgb_to_lab)(image) - lab_of(image.astype(np.float64))).max((1, 2))
    np.testing.assert_array_less(
        error, np.array([[3e-5, 6e-5, 6e-5], [3e-5, 5e-6, 5e-6], [3e-5, 6e-5, 6e-5]])
    )


def test_fixture(golden):
    with np.load(golden / "metrics" / "metrics.npz") as arrays:
        rgb, lab = arrays["colour/rgb"], arrays["colour/lab"]
    np.testing.assert_allclose(
        jax.jit(color.rgb_to_lab)(np.float32(rgb / 255)), lab, rtol=1e-6, atol=2e-4
    )


def test_lightness_and_lab_agree_within_a_hundredth():
    """One has Rec. 709's coefficients to four digits, the other scikit-image's matrix."""
    image = colours()
    difference = (
        100 * jax.jit(color.rgb_to_lightness)(image)[..., 0]
        - jax.jit(color.rgb_to_lab)(image)[..., 0]
    )
    assert 1e-4 < np.abs(difference).max() < 0.01


@pytest.mark.parametrize(
    ("coefficients", "weights"),
    [
        ("rec601", (0.299, 0.587, 0.114)),
        ("rec709", (0.2126, 0.7152, 0.0722)),
        ("rec2020", (0.2627, 0.6780, 0.0593)),
        ((0.2, 0.5, 0.3), (0.2, 0.5, 0.3)),
    ],
)
def test_coefficients(coefficients, weights):
    image = colours()
    linear = np.asarray(jax.jit(color.srgb_to_linear)(image), np.float64)
    y = (linear @ np.array(weights))[..., None]
    lightness = (
        1.16 * np.where(y > (6 / 29) ** 3, np.cbrt(y), y * (29 / 6) ** 2 / 3 + 4 / 29) - 0.16
    )
    for function, expected in (
        (color.rgb_to_luma, (image.astype(np.float64) @ np.array(weights))[..., None]),
        (color.rgb_to_luminance, y),
        (color.rgb_to_lightness, lightness),
    ):
        value = jax.jit(
            lambda image, function=function: function(image, coefficients=coefficients)
        )(image)
        np.testing.assert_allclose(value, expected, rtol=2e-6, atol=3e-7)


@pytest.mark.parametrize(
    "function", [color.rgb_to_luma, color.rgb_to_luminance, color.rgb_to_lightness]
)
def test_bad_coefficients_are_named(function):
    image = np.zeros((2, 2, 3), np.float32)
    for wrong, message in [
        ("rec7o9", "coefficients accepts .*did you mean 'rec709'"),
        ((0.2989, 0.5870, 0.1140), r"must sum to 1 within 1e-6.*0.9999"),
        ((0.5, 0.5), "three numbers"),
        (1.0, "three numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            function(image, coefficients=wrong)
    with pytest.raises(ValueError, match="traced"):
        jax.jit(lambda c: function(image, coefficients=c))(jnp.array([0.3, 0.6, 0.1]))


def test_bad_range_is_named():
    for function in (color.rgb_to_ycbcr, color.ycbcr_to_rgb):
        with pytest.raises(ValueError, match="full_range must be True or False"):
            function(np.zeros((2, 2, 3), np.float32), full_range="full")


def test_ycbcr_from_its_definition():
    """Full range follows ITU-T T.871; studio range squeezes that to 219 and 224 steps."""
    image = colours()
    red, green, blue = np.moveaxis(255 * image.astype(np.float64), -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    c_b = (-0.299 * red - 0.587 * green + 0.886 * blue) / 1.772
    c_r = (0.701 * red - 0.587 * green - 0.114 * blue) / 1.402
    for full_range, expected in (
        (True, [luma, 128 + c_b, 128 + c_r]),
        (False, [16 + 219 / 255 * luma, 128 + 224 / 255 * c_b, 128 + 224 / 255 * c_r]),
    ):
        value = jax.jit(
            lambda image, full_range=full_range: color.rgb_to_ycbcr(image, full_range=full_range)
        )(image)
        np.testing.assert_allclose(255 * value, np.stack(expected, -1), rtol=0, atol=5e-5)


def test_below_thresholds_curves_are_lines_that_meet_them():
    for function, threshold, divisor in (
        (color.srgb_to_linear, 0.04045, 12.92),
        (color.linear_to_srgb, 0.0031308, 1 / 12.92),
    ):
        levels = np.linspace(-1, 0.999 * threshold, 30, dtype=np.float32).reshape(5, 6, 1)
        np.testing.assert_allclose(function(levels), levels / divisor, rtol=1e-6)
        around = np.array([threshold * (1 - 1e-6), threshold * (1 + 1e-6)], np.float32).reshape(
            1, 2, 1
        )
        np.testing.assert_allclose(*np.asarray(function(around)).reshape(2), rtol=1e-4)
    # L* = Y (29/3)^3 up to Y = (6/29)^3, where L* is 8; there sRGB is a power, and a line below
    # 0.04045.
    dark = np.linspace(-0.5, 0.04, 30, dtype=np.float32).reshape(5, 6, 1)
    np.testing.assert_allclose(
        100 * color.rgb_to_lightness(dark), dark / 12.92 * (29 / 3) ** 3, rtol=1e-5, atol=1e-5
    )
    y = np.array([(6 / 29) ** 3 * (1 - 1e-6), (6 / 29) ** 3 * (1 + 1e-6)], np.float32).reshape(
        1, 2, 1
    )
    np.testing.assert_allclose(
        100 * color.rgb_to_lightness(color.linear_to_srgb(y)), np.full((1, 2, 1), 8), rtol=1e-4
    )


@pytest.mark.parametrize("function", [color.rgb_to_lightness, color.rgb_to_lab])
def test_lightness_below_grey_24_is_a_line_where_others_follow_the_cube_root(function):
    """Two public libraries give 116 cbrt(Y) - 16 to all greys, which is -16 for black."""
    scale = 100 if function is color.rgb_to_lightness else 1
    image = np.repeat(np.arange(25, dtype=np.float32)[:, None, None] / 255, 3, axis=-1)
    lightness = scale * function(image)[:, 0, 0]
    luminance = np.asarray(color.rgb_to_luminance(image)[:, 0, 0], np.float64)
    dark = luminance < (6 / 29) ** 3
    assert dark.tolist() == [True] * 24 + [False]
    np.testing.assert_allclose(lightness[:24], (29 / 3) ** 3 * luminance[:24], rtol=2e-4, atol=3e-5)
    off = lightness - (116 * np.cbrt(luminance) - 16)
    assert off[0] == 16 and (off[:24] > 0).all() and abs(off[24]) < 1e-2


def test_above_white_powers_go_on():
    bright = np.array([1.0, 1.5, 4.0], np.float32).reshape(1, 3, 1)
    expected = ((bright.astype(np.float64) + 0.055) / 1.055) ** 2.4
    np.testing.assert_allclose(color.srgb_to_linear(bright), expected, rtol=1e-6)
    np.testing.assert_allclose(
        color.rgb_to_lightness(bright), 1.16 * np.cbrt(expected) - 0.16, rtol=1e-6
    )
