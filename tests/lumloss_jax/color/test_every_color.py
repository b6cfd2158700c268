"""What every colour function keeps to: a table of properties, gradients, dtypes, bad input."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export  # jax 0.7 has no attribute for it until it is imported
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from lumloss_jax import color
from tests.lumloss_jax.property_tables import rows_holding

SHAPE = (4, 5, 6, 3)


@dataclasses.dataclass(frozen=True)
class Row:
    """One function and its properties. One that does not hold is a string that says why."""

    function: Callable
    inverse: Callable | str
    channels: int = 3  # it gives
    # Value of a grey with this linear light, in float64
    grey: Callable[[np.ndarray], np.ndarray] | str = ""
    takes_grey: bool | str = True  # one channel too
    atol: float = 1e-6  # of float32 against float64
    round_trip: float = 1e-6  # what float32 leaves of x after there and back


def encoded(y):
    return np.where(y > 0.0031308, 1.055 * y ** (1 / 2.4) - 0.055, 12.92 * y)


def lightness(y):
    return 1.16 * np.where(y > (6 / 29) ** 3, np.cbrt(y), y * (29 / 6) ** 2 / 3 + 4 / 29) - 0.16


def pq(light):
    """Of cd/m2, with a floor of 0.005."""
    power = (np.maximum(light, 0.005) / 10000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def pu21(light):
    power = np.clip(light, 0.005, 10000) ** 0.9062562627
    quotient = (0.353487901 + 0.3734658629 * power) / (1 + 8.277049286e-05 * power)
    return np.maximum(596.3148142 * (quotient**0.09150303166 - 0.9099517204), 0)


def grey_axis(first, place=0):
    """A colour that is grey: one channel, and 0 in the two others."""
    return np.insert(np.zeros((*first.shape, 2)), place, first, axis=-1)


COLOUR_ONLY = "it is about what a grey has not"
SUM = "a sum of three channels does not tell them apart"
INPUT = "its input is no RGB image"
FULL, STUDIO = ({"full_range": value} for value in (True, False))
TABLE = {
    "srgb_to_linear": Row(color.srgb_to_linear, color.linear_to_srgb, grey=lambda y: y),
    "linear_to_srgb": Row(
        color.linear_to_srgb, color.srgb_to_linear, grey=lambda y: encoded(encoded(y))
    ),
    "rgb_to_luma": Row(color.rgb_to_luma, SUM, channels=1, grey=encoded),
    "rgb_to_luminance": Row(color.rgb_to_luminance, SUM, channels=1, grey=lambda y: y),
    "rgb_to_lightness": Row(color.rgb_to_lightness, SUM, channels=1, grey=lightness),
    "rgb_to_ycbcr, studio": Row(
        functools.partial(color.rgb_to_ycbcr, **STUDIO),
        functools.partial(color.ycbcr_to_rgb, **STUDIO),
        grey=lambda y: np.stack(
            [(16 + 219 * encoded(y)) / 255, *[np.full_like(y, 128 / 255)] * 2], -1
        ),
        takes_grey=COLOUR_ONLY,
    ),
    "rgb_to_ycbcr, full": Row(
        functools.partial(color.rgb_to_ycbcr, **FULL),
        functools.partial(color.ycbcr_to_rgb, **FULL),
        grey=lambda y: np.stack([encoded(y), *[np.full_like(y, 128 / 255)] * 2], -1),
        takes_grey=COLOUR_ONLY,
    ),
    "ycbcr_to_rgb": Row(color.ycbcr_to_rgb, color.rgb_to_ycbcr, grey=INPUT, takes_grey=COLOUR_ONLY),
    "rgb_to_xyz": Row(
        color.rgb_to_xyz,
        color.xyz_to_rgb,
        grey=lambda y: y[..., None] * np.array([0.950456, 1.0, 1.088754]),
        takes_grey=COLOUR_ONLY,
        round_trip=4e-6,  # of a dark channel beside bright ones: the inverse matrix subtracts those
    ),
    "xyz_to_rgb": Row(
        color.xyz_to_rgb, color.rgb_to_xyz, grey=INPUT, takes_grey=COLOUR_ONLY, atol=4e-6
    ),
    "rgb_to_lab": Row(
        color.rgb_to_lab,
        color.lab_to_rgb,
        grey=lambda y: np.stack([100 * lightness(y), 0 * y, 0 * y], -1),
        takes_grey=COLOUR_ONLY,
        atol=1e-4,
        round_trip=4e-6,
    ),
    "lab_to_rgb": Row(
        color.lab_to_rgb,
        color.rgb_to_lab,
        grey=INPUT,
        takes_grey=COLOUR_ONLY,
        atol=4e-6,
        round_trip=1e-4,
    ),
    "rgb_to_oklab": Row(
        color.rgb_to_oklab,
        color.oklab_to_rgb,
        grey=lambda y: grey_axis(np.cbrt(y)),
        takes_grey=COLOUR_ONLY,
        # A dark channel next to bright ones: 1e-7 of their cubes, times 4, times 12.92
        round_trip=3e-5,
    ),
    "oklab_to_rgb": Row(
        color.oklab_to_rgb, color.rgb_to_oklab, grey=INPUT, takes_grey=COLOUR_ONLY, atol=1e-5
    ),
    "rgb_to_hvi": Row(
        color.rgb_to_hvi,
        color.hvi_to_rgb,
        grey=lambda y: grey_axis(encoded(y), 2),
        takes_grey=COLOUR_ONLY,
    ),
    "hvi_to_rgb": Row(color.hvi_to_rgb, color.rgb_to_hvi, grey=INPUT, takes_grey=COLOUR_ONLY),
    "rgb_to_ictcp": Row(
        color.rgb_to_ictcp,
        color.ictcp_to_rgb,
        grey=lambda y: grey_axis(pq(100 * y)),
        takes_grey=COLOUR_ONLY,
        round_trip=1e-4,  # the slope of PQ's inverse
    ),
    "ictcp_to_rgb": Row(
        color.ictcp_to_rgb, color.rgb_to_ictcp, grey=INPUT, takes_grey=COLOUR_ONLY, atol=1e-4
    ),
    "linear_to_pq": Row(
        color.linear_to_pq, color.pq_to_linear, grey=lambda y: pq(100 * encoded(y)), round_trip=1e-5
    ),
    "pq_to_linear": Row(color.pq_to_linear, color.linear_to_pq, grey=INPUT, atol=1e-5),
    "linear_to_pu21": Row(
        color.linear_to_pu21,
        color.pu21_to_linear,
        grey=lambda y: pu21(100 * encoded(y)),
        atol=2e-4,
        round_trip=1e-5,
    ),
    "pu21_to_linear": Row(
        color.pu21_to_linear, color.linear_to_pu21, grey=INPUT, atol=1e-5, round_trip=2e-4
    ),
}
every_function = pytest.mark.parametrize("name", TABLE)
holding = functools.partial(rows_holding, TABLE)


@functools.cache
def compiled(name):
    """The value, and the gradient of the mean of its squares."""
    return jax.jit(
        jax.value_and_grad(lambda image: _mean_square(TABLE[name].function(image)), has_aux=True)
    )


def _mean_square(value):
    return jnp.mean(value * value), value


def value_of(name, image):
    (_, value), _ = compiled(name)(image)
    return value


@functools.cache
def images(name):
    """Images within the function's range and beyond: below thresholds, below 0, above 1."""
    rgb = np.random.default_rng(0).uniform(-0.2, 1.2, SHAPE).astype(np.float32)
    rgb[0] *= 0.01
    rgb[1, 0] = 0
    rgb[1, 1] = 1
    rgb[1, 2] = rgb[1, 2, :, :1]
    within = np.where(rgb < 0, -rgb, rgb / np.float32(1.2))  # nothing at 1, where hues have corners
    within[1] = rgb[1].clip(0, 1)
    lit = np.float32(0.01) + np.float32(0.99) * within  # above the floor of PQ and PU21
    return {
        "lab_to_rgb": lambda: jax.jit(color.rgb_to_lab)(rgb),
        "oklab_to_rgb": lambda: jax.jit(color.rgb_to_oklab)(rgb),
        "rgb_to_hvi": lambda: within,
        "hvi_to_rgb": lambda: jax.jit(color.rgb_to_hvi)(within),
        "rgb_to_ictcp": lambda: lit,
        "ictcp_to_rgb": lambda: jax.jit(color.rgb_to_ictcp)(lit),
        "linear_to_pq": lambda: lit,
        "pq_to_linear": lambda: jax.jit(color.linear_to_pq)(lit),
        "linear_to_pu21": lambda: lit,
        "pu21_to_linear": lambda: jax.jit(color.linear_to_pu21)(lit),
    }.get(name, lambda: rgb)()


def test_the_table_holds_every_function():
    assert {name.split(",")[0] for name in TABLE} == set(color.__all__)


@holding("inverse")
def test_there_and_back(name):
    image = images(name)
    value = value_of(name, image)
    assert value.shape == SHAPE
    row = getattr(TABLE[name].inverse, "__name__", "")  # mostly one that is compiled already
    back = value_of(row, value) if row in TABLE else jax.jit(TABLE[name].inverse)(value)
    np.testing.assert_allclose(back, image, rtol=2e-6, atol=TABLE[name].round_trip)


@holding("grey")
def test_a_grey(name):
    light = np.random.default_rng(1).uniform(0, 1, SHAPE[:-1])
    light[0] *= 0.005
    image = np.broadcast_to(encoded(light)[..., None], SHAPE).astype(np.float32)
    value, expected = value_of(name, image), TABLE[name].grey(light)
    expected = expected if expected.ndim == 4 else np.broadcast_to(expected[..., None], value.shape)
    # The white of sRGB's matrix is not Xn, Zn in the last digits: a* and b* of a grey are up to
    # 0.01.
    atol = {"rgb_to_lab": 1e-2, "linear_to_pu21": 2e-4}.get(name, 1e-6)
    np.testing.assert_allclose(value, expected, rtol=2e-6, atol=atol)


@holding("takes_grey")
def test_one_channel_is_a_grey_of_three(name):
    grey = images(name)[..., :1]
    one, three = jax.jit(TABLE[name].function)(grey), value_of(name, np.repeat(grey, 3, -1))
    assert one.shape == grey.shape
    np.testing.assert_allclose(one, three[..., :1], rtol=2e-6, atol=1e-6)


@every_function
def test_one_channel_is_refused_where_it_has_no_meaning(name):
    grey = jax.ShapeDtypeStruct((2, 4, 4, 1), jnp.float32)
    if TABLE[name].takes_grey is True:
        assert jax.eval_shape(TABLE[name].function, grey).shape == grey.shape
    else:
        with pytest.raises(ValueError, match="needs colour"):
            jax.eval_shape(TABLE[name].function, grey)


@every_function
def test_value_and_gradient_are_finite_everywhere(name):
    thresholds = [0.04045, 0.0031308, (6 / 29) ** 3, 6 / 29, -0.055, 0.0, 1.0]
    thresholds += [1e-22, -1e-22, -30.0, 300.0]
    levels = np.resize(np.array(thresholds, np.float32), SHAPE)
    for image in (images(name), levels, levels[..., ::-1].copy(), np.zeros(SHAPE, np.float32)):
        (_, value), gradient = compiled(name)(image)
        assert np.isfinite(value).all() and np.isfinite(gradient).all()


@every_function
def test_gradient_against_numerical_difference(name, float64):
    image = images(name)[2:].astype(np.float64)
    direction = np.random.default_rng(3).normal(size=image.shape)

    def along(step):
        return jnp.mean(jnp.square(TABLE[name].function(image + step * direction)))

    gradient = jax.jit(jax.value_and_grad(along))
    step = 1e-6
    numerical = (gradient(step)[0] - gradient(-step)[0]) / (2 * step)
    np.testing.assert_allclose(gradient(0.0)[1], numerical, rtol=1e-6, atol=1e-8)


@every_function
def test_jit_eager_vmap_and_shards_agree(name):
    function, image = TABLE[name].function, jnp.asarray(images(name))
    value = value_of(name, image)
    assert value.shape == (*SHAPE[:-1], TABLE[name].channels) and value.dtype == jnp.float32
    close = {"rtol": 2e-6, "atol": TABLE[name].atol}
    np.testing.assert_allclose(function(image), value, **close)
    # Mapped and sharded in one compilation, over the second of two leading axes.
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec(None, "batch"))
    mapped = jax.jit(jax.vmap(function, in_axes=1, out_axes=1))(
        jax.device_put(image[None], sharding)
    )
    assert mapped.sharding.is_equivalent_to(sharding, 5)
    np.testing.assert_allclose(mapped, value[None], **close)


@every_function
def test_half_precision_is_computed_in_float32(name):
    rounded = jnp.asarray(images(name)).astype(jnp.bfloat16)
    value = jax.jit(TABLE[name].function)(rounded)
    assert value.dtype == jnp.float32
    expected = value_of(name, rounded.astype(jnp.float32))
    np.testing.assert_allclose(value, expected, rtol=2e-6, atol=TABLE[name].atol)


@pytest.fixture
def in_float32(name):
    """The image and its value before float64 is switched on."""
    image = images(name)
    return np.asarray(image), value_of(name, image)


@every_function
def test_float32_against_float64(name, in_float32, float64):
    image, single = in_float32
    exact = jax.jit(TABLE[name].function)(image.astype(np.float64))
    assert exact.dtype == jnp.float64
    np.testing.assert_allclose(single, exact, rtol=1e-5, atol=TABLE[name].atol)


@every_function
def test_symbolic_sizes(name):
    batch, height, width = export.symbolic_shape("b, h, w")
    image = jax.ShapeDtypeStruct((batch, height, width, 3), jnp.float32)
    (value,) = export.export(jax.jit(TABLE[name].function))(image).out_avals
    assert value.shape == (batch, height, width, TABLE[name].channels)


@every_function
@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3), np.uint8), r"image have dtype uint8.*/ 255"),
        (np.zeros((4, 4), np.float32), "lacks a channel axis"),
        (np.zeros((3, 4, 5), np.float32), "moveaxis"),
        (np.zeros((4, 4, 4, 4), np.float32), "drop alpha"),
        ("image", "must be a float array"),
    ],
)
def test_bad_images_are_named(name, image, message):
    with pytest.raises(ValueError, match=message):
        TABLE[name].function(image)
