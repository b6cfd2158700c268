"""What every metric keeps to: a table of properties, masks, gradients, transformations, dtypes."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from lumloss_jax import metrics
from tests.lumloss_jax.metrics.properties import (
    LONG,
    SHAPE,
    TABLE,
    TRACES,
    assert_gradients_agree,
    compiled,
    every_metric,
    holding,
    images,
    pixel_mask,
)
from tests.slow_cases import slow_for

# Programs with a mask that fast tests do not compile: the losses of the first five read masks in
# the same way, which is tested, and the last two do as the metrics they are made of.
MASKED_ELSEWHERE = ["flip", "nlpd", "ciede2000", "ms_ssim", "haarpsi", "ms_gmsd", "s_cielab"]


def test_the_table_holds_every_metric():
    maps = {"flip_map"}  # one value per pixel, not per image
    assert set(TABLE) == set(metrics.__all__) - maps


@every_metric
def test_equal_images(name):
    _, targets = images()
    for data_range in (1.0, 255.0):
        value, gradient = compiled(name)(
            data_range * targets, data_range * targets, data_range=data_range
        )
        np.testing.assert_allclose(value, np.full(4, TABLE[name].equal), rtol=1e-6)
        # Nothing pushes what is right already; one pixel of MAE would be pushed by 5e-4.
        np.testing.assert_allclose(gradient, np.zeros(SHAPE), atol=1e-10)


@holding("symmetric")
def test_symmetry(name):
    predictions, targets = images()
    there, back = (
        compiled(name)(*pair)[0] for pair in ((predictions, targets), (targets, predictions))
    )
    np.testing.assert_allclose(there, back, rtol=1e-6)


@holding("shift")
def test_constant_shift(name):
    _, targets = images()
    for c in (0.1, 0.25):
        value, _ = compiled(name)(targets + c, targets)
        np.testing.assert_allclose(value, np.full(4, TABLE[name].shift(c)), rtol=2e-6)


@holding("monotone")
def test_a_larger_shift_is_worse(name):
    _, targets = images()
    better = TABLE[name].equal
    for c in (0.05, 0.1, 0.2, 0.4):
        value, _ = compiled(name)(targets + c, targets)
        assert (value < better).all() if TABLE[name].equal > 0 else (value > better).all()
        better = value


@holding("white_on_black", slow=["ciede2000", "s_cielab", "flip", "psnr_hvs_m", "ms_ssim"])
def test_white_on_black(name, optimized):
    black = jnp.zeros(SHAPE)
    value = jax.jit(TABLE[name].metric)(black + 1, black)
    np.testing.assert_allclose(value, np.full(4, TABLE[name].white_on_black), rtol=1e-6, atol=5e-6)


@every_metric
def test_data_range_is_a_change_of_units(name):
    predictions, targets = images()
    value, gradient = compiled(name)(predictions, targets)
    traces = TRACES[name]
    scaled, scaled_gradient = compiled(name)(255 * predictions, 255 * targets, data_range=255.0)
    np.testing.assert_allclose(scaled, value, rtol=1e-5)
    assert_gradients_agree(name, 255 * scaled_gradient, gradient, rtol=1e-3, atol=1e-3)
    assert TRACES[name] == traces, "a data range is data: it must not trace again"


@slow_for("name", TABLE, MASKED_ELSEWHERE)
def test_mask_of_ones_is_no_mask_and_its_scale_does_not_matter(name):
    predictions, targets = images()
    value, gradient = compiled(name)(predictions, targets)
    for weight in (1.0, 2.0):
        masked, masked_gradient = compiled(name)(
            predictions, targets, jnp.full(SHAPE[:-1], weight, jnp.float32)
        )
        np.testing.assert_allclose(masked, value, rtol=2e-6)
        assert_gradients_agree(name, masked_gradient, gradient, rtol=1e-4, atol=1e-5)
    traces = TRACES[name]
    compiled(name)(predictions, targets, pixel_mask())
    assert TRACES[name] == traces, "weights are data: other ones must not trace again"


@slow_for("name", TABLE, MASKED_ELSEWHERE)
def test_what_is_masked_out_is_not_read(name):
    predictions, targets = images()
    value, gradient = compiled(name)(predictions, targets, pixel_mask())
    out = (pixel_mask() == 0)[..., None]
    nan_p, nan_t = (jnp.where(out, jnp.nan, image) for image in (predictions, targets))
    unread, gradient_unread = compiled(name)(nan_p, nan_t, pixel_mask())
    np.testing.assert_array_equal(unread, value)
    np.testing.assert_array_equal(gradient_unread, gradient)
    assert np.isfinite(value).all() and (jnp.where(out, gradient, 0) == 0).all()
    assert (jnp.where(out, 0, gradient) != 0).any()


@slow_for("name", TABLE, MASKED_ELSEWHERE)
def test_an_image_without_weight_scores_nan_with_gradient_0(name):
    predictions, targets = images()
    whole, gradient_of_whole = compiled(name)(predictions, targets, pixel_mask())
    value, gradient = compiled(name)(predictions, targets, pixel_mask().at[1].set(0))
    assert np.isnan(value[1]) and (gradient[1] == 0).all()
    others = np.array([0, 2, 3])
    np.testing.assert_array_equal(value[others], whole[others])
    np.testing.assert_array_equal(gradient[others], gradient_of_whole[others])


@holding("inverse_of_mean", slow=["ciede2000"])
def test_mask_weighs_what_pixels_score_by_themselves(name):
    value, _ = compiled(name)(*images(), pixel_mask())
    pixels = jax.jit(TABLE[name].metric)(*(image[..., None, None, :] for image in images()))
    assert pixels.shape == SHAPE[:-1]  # one value per leading index, whatever their number
    inverse = TABLE[name].inverse_of_mean
    expected = [
        np.average(inverse(of_image), weights=w)
        for of_image, w in zip(pixels, pixel_mask(), strict=True)
    ]
    np.testing.assert_allclose(inverse(value), expected, rtol=1e-5)


def bordered(array, fill):
    """The array with a border of one pixel of ``fill`` around height and width."""
    widths = [(0, 0), (1, 1), (1, 1)] + [(0, 0)] * (array.ndim - 3)
    return np.pad(np.asarray(array), widths, constant_values=fill)


@slow_for("name", TABLE, [*LONG, "ciede2000"])
def test_crop_border_slices_images_and_mask(name):
    """Without a mask: in the test of GT-mean."""
    predictions, targets = images()
    metric = jax.jit(functools.partial(TABLE[name].metric, crop_border=1))
    cropped = metric(
        bordered(predictions, 0.9), bordered(targets, 0.1), mask=bordered(pixel_mask(), 1)
    )
    inside, _ = compiled(name)(predictions, targets, pixel_mask())
    np.testing.assert_allclose(cropped, inside, rtol=1e-5)


@holding("rectangle", slow=["ciede2000", "ms_ssim"])
def test_a_mask_of_a_rectangle_is_slicing(name):
    predictions, targets = images()
    # Its rows and columns are even, as the second scale of MS-SSIM takes them.
    rows, columns = slice(2, 24), slice(2, 24)
    mask = np.zeros(SHAPE[:-1], np.float32)
    mask[:, rows, columns] = 1
    value, _ = compiled(name)(predictions, targets, mask)
    inside = jax.jit(TABLE[name].metric)(predictions[:, rows, columns], targets[:, rows, columns])
    np.testing.assert_allclose(value, inside, rtol=1e-5)


@slow_for("name", TABLE, LONG)
def test_gt_mean_looks_past_a_gain_inside_the_border(name):
    _, targets = images()
    # Other colours, of the same mean over channels but not of the same luma
    predictions = jnp.flip(targets, -1)
    metric = jax.jit(functools.partial(TABLE[name].metric, gt_mean="luma", crop_border=1))
    value = metric(bordered(0.5 * predictions, 0.9), bordered(targets, 0.1))
    means = [
        np.mean(np.asarray(image, np.float64) @ [0.299, 0.587, 0.114], (1, 2))
        for image in (predictions, targets)
    ]
    gain = (means[1] / means[0]).astype(np.float32).reshape(4, 1, 1, 1)
    by_hand, _ = compiled(name)(jnp.clip(predictions * gain, 0, 1), targets)
    np.testing.assert_allclose(value, by_hand, rtol=1e-5)
    assert np.abs(value - compiled(name)(0.5 * predictions, targets)[0]).min() > 1e-3


def extreme_pairs():
    grey, black, white = (np.full(SHAPE, level, np.float32) for level in (0.5, 0.0, 1.0))
    one_pixel, tiny = grey.copy(), np.full(SHAPE, 1e-22, np.float32)
    one_pixel[0, 5, 5, 0] += 1 / 255
    tiny[..., 1] *= -3
    outside = np.linspace(-0.5, 1.5, math.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    yield from [
        (grey, grey),
        (black, black),
        (white, white),
        (black, white),
        (white, black),
        (tiny, black),
    ]
    yield from [
        (one_pixel, grey),
        (grey, one_pixel),
        (outside, grey),
        (outside, 1 - outside),
        (black, tiny),
    ]


@every_metric
def test_value_and_gradient_are_finite_everywhere(name):
    for predictions, targets in extreme_pairs():
        value, gradient = compiled(name)(predictions, targets)
        assert np.isfinite(value).all() and np.isfinite(gradient).all()


# Each operation is a program: the examples of the slow ones are eager too.
@slow_for("name", TABLE, [*LONG, "ciede2000"])
def test_eager_is_jit(name):
    value, _ = compiled(name)(*images())
    np.testing.assert_allclose(TABLE[name].metric(*images()), value, rtol=2e-6)


@slow_for("name", TABLE, ["flip", "nlpd", "s_cielab"])
def test_vmap_and_shards_agree_with_jit(name):
    metric = TABLE[name].metric
    predictions, targets = images()
    value, _ = compiled(name)(predictions, targets)
    # Mapped and sharded in one compilation: over the second of two leading axes, so that both ways
    # of having them are here, and over as many devices.
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec(None, "batch"))
    shards = [jax.device_put(image[None], sharding) for image in (predictions, targets)]
    mapped = jax.jit(jax.vmap(metric, in_axes=1, out_axes=1))(*shards)
    assert mapped.sharding.is_equivalent_to(sharding, 2)
    np.testing.assert_allclose(mapped, value[None], rtol=2e-6)


@every_metric
def test_half_precision_is_converted_first(name):
    metric, shape = TABLE[name].metric, SHAPE
    if name == "nlpd":  # its images are enlarged before it sees them
        metric, shape = metric.__wrapped__, (4, 48, 52, 3)
    program = jax.make_jaxpr(metric)(*(jax.ShapeDtypeStruct(shape, "bfloat16") for _ in range(2)))
    assert program.out_avals[0].dtype == jnp.float32
    # The two images, and nothing made of them
    assert len(re.findall(r"\bbf16\[", str(program))) == 2


@pytest.fixture
def in_float32(name):
    """Values and gradient of the images before float64 is switched on."""
    return compiled(name)(*images())


@functools.cache
def compiled_in_float64(name):
    """Values of (predictions, targets), and the gradient of their sum; for tests under float64."""

    def values(predictions, targets):
        value = TABLE[name].metric(predictions, targets)
        return jnp.sum(value), value

    return jax.jit(jax.value_and_grad(values, has_aux=True))


@slow_for("name", TABLE, [*LONG, "chroma_error"])
def test_float32_against_float64(name, in_float32, float64):
    """The gradient too: compilers have got it wrong by as much as itself."""
    (_, exact), exact_gradient = compiled_in_float64(name)(
        *(image.astype(jnp.float64) for image in images())
    )
    value, gradient = in_float32
    assert (
        exact.dtype == exact_gradient.dtype == jnp.float64
        and value.dtype == gradient.dtype == jnp.float32
    )
    np.testing.assert_allclose(value, exact, rtol=1e-5, atol=TABLE[name].atol)
    assert_gradients_agree(name, gradient, exact_gradient, rtol=1e-3, atol=1e-3)


@slow_for("name", TABLE, [*LONG, "chroma_error"])
def test_gradient_against_numerical_difference(name, float64):
    predictions, targets = (np.asarray(image, np.float64) for image in images())
    direction = np.random.default_rng(3).normal(size=SHAPE)
    _, gradient = compiled_in_float64(name)(predictions, targets)
    step = 1e-6
    (above, _), _ = compiled_in_float64(name)(predictions + step * direction, targets)
    (below, _), _ = compiled_in_float64(name)(predictions - step * direction, targets)
    np.testing.assert_allclose(
        np.sum(gradient * direction), (above - below) / (2 * step), rtol=1e-5, atol=1e-8
    )
