"""What every loss of (predictions, targets) keeps to, from a table of properties.

Masks, gradients, transformations and dtypes are tested for each.

The luminance loss has tests of its own; it is here as a term of a composition.
"""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from lumloss_jax import losses
from tests.lumloss_jax.losses.properties import (
    SHAPE,
    TABLE,
    compiled,
    every_loss,
    holding,
    images,
    some_mask,
)
from tests.slow_cases import slow_for

# Compiling the gradient takes seconds. Fast tests compile it with a mask, and metrics without one.
LONG = ["nlpd", "flip", "haarpsi", "ciede2000", "ms_ssim", "cidnet"]


def test_the_table_holds_every_loss():
    others = "adversarial|luminance|make|parse|uncertainty"
    named = {name for name in losses.__all__ if re.fullmatch(f"(?!{others}).*_loss", name)}
    assert named and named <= {
        getattr(row.loss, "func", row.loss).__name__ for row in TABLE.values()
    }


@slow_for("name", TABLE, LONG)
def test_value_at_equality(name):
    _, targets = images()
    value, gradient = compiled(name)(targets, targets, None)
    np.testing.assert_allclose(value, TABLE[name].equal, rtol=1e-5, atol=2e-6)
    # Nothing pushes what is right already; one pixel of plain L1 would be pushed by 1e-4.
    np.testing.assert_allclose(gradient, jnp.zeros(SHAPE), atol=1e-7)


@holding("symmetric", slow=LONG)
def test_symmetry(name):
    predictions, targets = images()
    there, back = (
        compiled(name)(*pair, None)[0] for pair in ((predictions, targets), (targets, predictions))
    )
    np.testing.assert_allclose(there, back, rtol=1e-6)


@holding("shift")
def test_constant_shift(name):
    _, targets = images()
    value, _ = compiled(name)(targets + 0.1, targets, None)
    np.testing.assert_allclose(value, TABLE[name].shift(0.1), rtol=1e-5, atol=1e-7)


@holding("degree")
def test_homogeneity(name):
    predictions, targets = images()
    whole, _ = compiled(name)(predictions, targets, None)
    half, _ = compiled(name)(0.5 * (predictions + targets), targets, None)
    np.testing.assert_allclose(half, whole * 0.5 ** TABLE[name].degree, rtol=1e-5)


@slow_for("name", TABLE, LONG)
def test_mask_of_ones_is_no_mask_and_its_scale_does_not_matter(name):
    predictions, targets = images()
    plain = compiled(name)(predictions, targets, None)
    shape = SHAPE[:-1] if TABLE[name].mask_per_pixel else (4, 1, 1)
    for weight in (1.0, 2.0):
        masked = compiled(name)(predictions, targets, jnp.full(shape, weight, jnp.float32))
        np.testing.assert_allclose(masked[0], plain[0], rtol=2e-6)
        np.testing.assert_allclose(masked[1], plain[1], rtol=1e-4, atol=1e-8)


@every_loss
def test_what_is_masked_out_is_not_read(name):
    predictions, targets = images()
    mask = some_mask(name)
    value, gradient = compiled(name)(predictions, targets, mask)
    out = jnp.broadcast_to(mask == 0, SHAPE[:-1])[..., None]
    assert out.any()
    nan_p, nan_t = (jnp.where(out, jnp.nan, image) for image in (predictions, targets))
    unread, gradient_unread = compiled(name)(nan_p, nan_t, mask)
    np.testing.assert_array_equal(unread, value)
    np.testing.assert_array_equal(gradient_unread, gradient)
    assert (jnp.where(out, gradient, 0) == 0).all()
    assert (jnp.where(out, 0, gradient) != 0).any()


@every_loss
def test_mask_of_zeros_gives_zero(name):
    mask = jnp.zeros(SHAPE[:-1] if TABLE[name].mask_per_pixel else (4, 1, 1))
    value, gradient = compiled(name)(*images(), mask)
    assert value == 0
    assert (gradient == 0).all()


@pytest.fixture
def in_float32(name):
    """Value and gradient of the images before float64 is switched on."""
    return compiled(name)(*images(), some_mask(name))


# The metrics of the slow ones do their arithmetic, and their gradients are tested.
@slow_for("name", TABLE, LONG)
def test_gradient_against_numerical_difference_and_float32(name, in_float32, x64):
    single = *images(), some_mask(name)
    predictions, targets, mask = (np.float64(array) for array in single)
    direction = np.random.default_rng(3).normal(size=SHAPE)
    if name == "gt_mean_l1":
        # No gradient flows through gain and W, which a numerical difference would see: go where
        # they stand still.
        weights = mask[..., None]
        direction -= np.mean(direction * weights, (1, 2), keepdims=True) / np.mean(
            weights, (1, 2), keepdims=True
        )

    @jax.jit
    @jax.value_and_grad
    def along(step, predictions, targets, mask, direction):
        return TABLE[name].loss(predictions + step * direction, targets, mask=mask)

    step = 1e-7  # small, so that no absolute value passes its kink in between
    arrays = predictions, targets, mask, direction
    numerical = (along(step, *arrays)[0] - along(-step, *arrays)[0]) / (2 * step)
    exact, slope = along(0.0, *arrays)
    np.testing.assert_allclose(slope, numerical, rtol=1e-5, atol=1e-8)

    value, gradient = in_float32
    assert exact.dtype == jnp.float64 and value.dtype == gradient.dtype == jnp.float32
    np.testing.assert_allclose(value, exact, rtol=1e-5, atol=1e-6)


def extreme_pairs():
    grey, black, white = (jnp.full(SHAPE, level, jnp.float32) for level in (0.5, 0.0, 1.0))
    one_pixel = grey.at[0, 5, 5, 0].add(1 / 255)
    outside = jnp.linspace(-0.5, 1.5, math.prod(SHAPE)).reshape(SHAPE)
    yield from [(grey, grey), (black, black), (white, white), (black, white), (white, black)]
    yield from [(one_pixel, grey), (grey, one_pixel), (outside, grey), (outside, 1 - outside)]


@slow_for("name", TABLE, LONG)
def test_value_and_gradient_are_finite_everywhere(name):
    for predictions, targets in extreme_pairs():
        value, gradient = compiled(name)(predictions, targets, None)
        assert np.isfinite(value) and np.isfinite(gradient).all()


# Each operation is a program: the examples of the slow ones are eager too.
@slow_for("name", TABLE, LONG)
def test_eager_is_jit(name):
    value, _ = compiled(name)(*images(), None)
    np.testing.assert_allclose(TABLE[name].loss(*images()), value, rtol=2e-6)


@slow_for("name", TABLE, LONG)
def test_vmap_and_shards_agree_with_jit(name):
    """Over shards each image has a weight, which makes the value a weighted mean."""
    loss = TABLE[name].loss
    value, _ = compiled(name)(*images(), None)
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
    weights = jnp.array([3.0, 1.0, 0.0, 4.0]).reshape(4, 1, 1)
    *shards, mask = (
        jax.device_put(array, NamedSharding(mesh, PartitionSpec("batch")))
        for array in (*images(), weights)
    )

    @jax.jit  # Mapped and sharded in one compilation
    def both(predictions, targets, mask):
        return jax.vmap(loss)(predictions, targets), loss(predictions, targets, mask=mask)

    values, sharded = both(*shards, mask)
    np.testing.assert_allclose(np.mean(values), value, rtol=2e-6)
    np.testing.assert_allclose(sharded, np.average(values, weights=weights.ravel()), rtol=2e-6)


@slow_for("name", TABLE, LONG)
def test_axis_name_gives_the_value_of_all_shards(name):
    loss = TABLE[name].loss
    predictions, targets = images()
    uneven = some_mask(name) * jnp.array([1.0, 0.25, 2.0, 0.0]).reshape(4, 1, 1)
    whole, _ = compiled(name)(predictions, targets, uneven)

    def of_shard(predictions, targets, mask):
        return loss(predictions, targets, mask=mask, axis_name="batch")

    values = jax.pmap(of_shard, axis_name="batch")(
        *(array[:, None] for array in (predictions, targets, uneven))
    )
    # Sums of four shards and one sum over all are rounded otherwise: by 3e-6 for the spectra.
    np.testing.assert_allclose(values, jnp.full(4, whole), rtol=1e-5)


@every_loss
@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_half_precisions_are_converted_first(name, half):
    loss = TABLE[name].loss
    shape = SHAPE
    if name == "nlpd":  # its images are enlarged before it sees them
        loss, shape = loss.__wrapped__, (4, 48, 52, 3)
    program = jax.make_jaxpr(loss)(*(jax.ShapeDtypeStruct(shape, half) for _ in range(2)))
    assert program.out_avals[0].dtype == jnp.float32
    short = {"bfloat16": "bf16", "float16": "f16"}[half]
    # The two images, and nothing made of them
    assert len(re.findall(rf"\b{short}\[", str(program))) == 2


# Every wording is asserted in tests/lumloss_jax/test_checks.py: here, that each loss asks.
@every_loss
def test_bad_images_are_named(name):
    float32, bytes_ = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.uint8)
    for predictions, targets, message in [
        (bytes_, float32, "predictions .* uint8"),
        (float32, bytes_, "targets .* uint8"),
        (float32, float32[:, :, 1:], "must be the same"),
    ]:
        with pytest.raises(ValueError, match=message):
            TABLE[name].loss(predictions, targets)


@every_loss
def test_bad_masks_are_named(name):
    predictions, targets = images()
    with pytest.raises(ValueError, match="mask has shape"):
        TABLE[name].loss(predictions, targets, mask=jnp.ones((4, 24, 25)))
    with pytest.raises(ValueError, match="mask must be finite and not negative"):
        TABLE[name].loss(predictions, targets, mask=-jnp.ones((4, 1, 1)))
