"""What metrics refuse when traced, with which words, and that symbolic sizes are unchecked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from lumloss_jax import metrics
from tests.slow_cases import slow_for

MAPS = {"flip_map"}  # one value per pixel, without a border, a mask or means to match
EVERY = {name: getattr(metrics, name) for name in sorted(set(metrics.__all__) - MAPS)}
GREY_TOO = {
    "mae",
    "mse",
    "psnr",
    "ssim",
    "ms_ssim",
    "brightness_error",
    "haarpsi",
    "gmsd",
    "ms_gmsd",
    "mdsi",
    "psnr_hvs",
    "psnr_hvs_m",
    "flip",
    "nlpd",
}
every_metric = pytest.mark.parametrize("name", EVERY)


def floats(*shape):
    return np.zeros(shape, np.float32)


# Every wording is asserted in tests/lumloss_jax/test_checks.py: here, that each metric asks.
@every_metric
def test_bad_images_are_named(name):
    for predictions, targets, message in [
        (np.zeros((2, 8, 8, 3), np.uint8), floats(2, 8, 8, 3), "predictions .* uint8"),
        (floats(2, 8, 8, 3), np.zeros((2, 8, 8, 3), np.uint16), "targets .* uint16"),
        (floats(2, 3, 8, 8), floats(2, 3, 8, 8), "moveaxis"),
        (floats(2, 8, 8, 3), floats(1, 8, 8, 3), "must be the same"),
    ]:
        with pytest.raises(ValueError, match=message):
            EVERY[name](predictions, targets)


@every_metric
def test_bad_options_are_named(name):
    for options, message in [
        ({"data_range": 0.0}, "data_range must be more than 0"),
        ({"crop_border": 4}, "crop_border=4 leaves nothing"),
        ({"mask": np.ones((2, 8, 7))}, "mask has shape"),
        ({"gt_mean": "lumma"}, "gt_mean accepts .* did you mean 'luma'"),
    ]:
        with pytest.raises(ValueError, match=message):
            EVERY[name](floats(2, 8, 8, 3), floats(2, 8, 8, 3), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data_range": -1.0}, "data_range must be finite and not negative"),
        ({"data_range": np.ones(2, np.float32)}, "data_range must be one number"),
        ({"crop_border": 4}, "crop_border=4 leaves nothing of images of 8 x 8 pixels.*at most 3"),
        ({"crop_border": -1}, "crop_border must be an int, 0 or more"),
        ({"mask": -np.ones((2, 1, 1))}, "mask must be finite and not negative"),
        (
            {"gt_mean": "lumma"},
            "gt_mean accepts 'luma', 'channels'; got 'lumma'; did you mean 'luma'",
        ),
    ],
)
def test_options_of_the_protocol_are_answered(options, message):
    with pytest.raises(ValueError, match=message):
        metrics.mae(floats(2, 8, 8, 3), floats(2, 8, 8, 3), **options)


@every_metric
def test_grey_images_are_taken_where_they_mean_something(name):
    grey = jax.ShapeDtypeStruct((2, 176, 176, 1), jnp.float32)
    if name in GREY_TOO:
        assert jax.eval_shape(EVERY[name], grey, grey).shape == (2,)
    else:
        with pytest.raises(ValueError, match="needs colour"):
            jax.eval_shape(EVERY[name], grey, grey)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("ssim", 11),
        ("ms_ssim", 176),
        ("haarpsi", 16),
        ("ms_gmsd", 17),
        ("nlpd", 33),
        ("psnr_hvs", 8),
        ("psnr_hvs_m", 8),
    ],
)
def test_the_smallest_size_is_named_and_taken(name, side):
    """In either direction, and after the border is cut off."""
    for height, width, border in [(side - 1, side, 0), (side, side - 1, 0), (side, side, 1)]:
        small = jax.ShapeDtypeStruct((height, width, 3), jnp.float32)
        with pytest.raises(ValueError, match=f"at least {side} x {side} pixels"):
            jax.eval_shape(
                lambda p, t, border=border: EVERY[name](p, t, crop_border=border), small, small
            )
    least = jax.ShapeDtypeStruct((side, side, 3), jnp.float32)
    assert jax.eval_shape(EVERY[name], least, least).shape == ()


def test_options_of_one_metric_are_named():
    image = floats(20, 20, 3)
    with pytest.raises(ValueError, match="constant must be at least 1e-06"):
        metrics.haarpsi(image, image, constant=0.0)
    with pytest.raises(ValueError, match="downsample must be True or False"):
        metrics.haarpsi(image, image, downsample=2)
    with pytest.raises(ValueError, match="chromatic must be True or False"):
        metrics.ms_gmsd(image, image, chromatic="yes")
    with pytest.raises(ValueError, match="luma_range accepts 'studio', 'full'; got 'half'"):
        metrics.psnr_hvs(image, image, luma_range="half")
    with pytest.raises(ValueError, match="pixels_per_degree must be more than 0; got 0"):
        metrics.flip(image, image, pixels_per_degree=0)
    with pytest.raises(ValueError, match="pixels_per_degree must be 1 or more; got 0.5"):
        metrics.s_cielab(image, image, pixels_per_degree=0.5)
    with pytest.raises(ValueError, match="pixels_per_degree is traced"):
        jax.jit(lambda p: metrics.flip(image, image, pixels_per_degree=p))(67.0)
    with pytest.raises(ValueError, match="lightness_factor must be at least 1e-06; got 0"):
        metrics.ciede2000(image, image, lightness_factor=0.0)
    with pytest.raises(ValueError, match="needs colour"):
        metrics.ms_gmsd(image[..., :1], image[..., :1], chromatic=True)


@every_metric
def test_one_value_per_leading_index(name):
    for leading in [(), (2, 1, 3)]:
        image = jax.ShapeDtypeStruct((*leading, 176, 180, 3), jnp.bfloat16)
        value = jax.eval_shape(EVERY[name], image, image)
        assert value.shape == leading and value.dtype == jnp.float32


def test_mdsi_names_what_it_cannot_export():
    height, width = export.symbolic_shape("h, w")
    image = jax.ShapeDtypeStruct((height, width, 3), jnp.float32)
    with pytest.raises(ValueError, match="symbolic sizes: export it for one height and width"):
        export.export(jax.jit(metrics.mdsi))(image, image)


@slow_for(
    "name",
    sorted(set(EVERY) - {"mdsi"}),
    ["nlpd", "s_cielab", "ms_ssim", "flip", "ms_gmsd", "haarpsi"],
)
def test_symbolic_sizes_are_left_unchecked(name):
    batch, height, width = export.symbolic_shape("b, h, w", constraints=["h >= 176", "w >= 176"])
    image = jax.ShapeDtypeStruct((batch, height, width, 3), jnp.float32)
    mask = jax.ShapeDtypeStruct((batch, height, width), jnp.float32)
    masked = jax.jit(lambda p, t, m: EVERY[name](p, t, mask=m))
    assert export.export(masked)(image, image, mask).out_avals[0].shape == (batch,)
