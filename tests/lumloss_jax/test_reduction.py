"""Input checks (what they refuse, what they say, what they leave alone) and means under weights."""

import re
from contextlib import AbstractContextManager

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from lumloss_jax import _reduction

FLOAT32 = jnp.dtype(jnp.float32)


def refuses(*fragments: str) -> AbstractContextManager[pytest.ExceptionInfo[ValueError]]:
    """A ValueError whose message holds all fragments, in this order."""
    return pytest.raises(ValueError, match=".*".join(map(re.escape, fragments)))


# check_image, check_pair


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_images_come_back_in_float32(dtype: str) -> None:
    assert _reduction.check_image("image", jnp.zeros((2, 2, 3), dtype)).dtype == FLOAT32


def test_numpy_arrays_and_nested_lists_are_images() -> None:
    assert _reduction.check_image("image", np.zeros((2, 2, 1))).shape == (2, 2, 1)
    assert _reduction.check_image("image", [[[0.0, 0.5, 1.0]]]).shape == (1, 1, 3)


@pytest.mark.parametrize(
    ("image", "fragments"),
    [
        (None, ("image must be a float array", "NoneType")),
        ("photo.png", ("image must be a float array", "str")),
        (np.zeros((2, 2, 3), np.uint8), ("uint8", "image.astype('float32') / 255")),
        (np.zeros((2, 2, 3), np.uint16), ("uint16", "/ 65535")),
        (np.zeros((2, 2, 3), bool), ("bool", "image.astype('float32')")),
        (np.zeros((2, 2, 3), np.complex64), ("complex64", "image.astype('float32')")),
        (np.zeros((4, 4)), ("(4, 4)", "channel axis", "image[..., None]")),
        (np.zeros((2, 3, 8, 8)), ("(2, 3, 8, 8)", "NCHW", "jnp.moveaxis(image, -3, -1)")),
        (
            np.zeros((3, 8, 8)),
            ("(3, 8, 8)", "CHW", "jnp.moveaxis(image, -3, -1)", "image[..., None]"),
        ),
        (np.zeros((5, 8, 8)), ("(5, 8, 8)", "image[..., None]")),
        (np.zeros((2, 8, 8, 4)), ("(2, 8, 8, 4)", "RGBA", "image[..., :3]")),
        (np.zeros((0, 8, 8, 3)), ("(0, 8, 8, 3)", "no pixels")),
    ],
)
def test_what_is_no_image_is_refused_with_the_mend(
    image: object, fragments: tuple[str, ...]
) -> None:
    with refuses(*fragments):
        _reduction.check_image("image", image)


def test_a_function_that_needs_colour_says_so() -> None:
    with refuses("(4, 4, 1)", "needs colour"):
        _reduction.check_image("image", np.zeros((4, 4, 1)), channels=(3,))


def test_a_pair_has_one_shape_and_one_dtype() -> None:
    with refuses("predictions", "(4, 4, 3)", "targets", "(4, 4, 1)", "broadcast"):
        _reduction.check_pair(np.zeros((4, 4, 3)), np.zeros((4, 4, 1)))
    predictions, targets = _reduction.check_pair(
        jnp.zeros((1, 1, 3), jnp.bfloat16), jnp.zeros((1, 1, 3))
    )
    assert predictions.dtype == targets.dtype == FLOAT32


def test_symbolic_sizes_are_left_unchecked_but_must_agree() -> None:
    height, width, other = export.symbolic_shape("h, w, x")

    def trace(*shapes: tuple[object, ...]) -> None:
        arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        export.export(jax.jit(lambda p, t: jnp.sum(_reduction.check_pair(p, t)[0])))(*arguments)

    trace((height, width, 3), (height, width, 3))
    with refuses("the two must be the same"):
        trace((height, width, 3), (other, width, 3))
    with refuses("RGBA"):
        trace((height, width, 4), (height, width, 4))


# check_mask


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 4, 5, 1), (2, 1, 1), (1, 4, 1), (2, 1, 1, 1)])
@pytest.mark.parametrize("dtype", ["bool", "int32", "uint8", "float16", "float32"])
def test_masks_come_back_with_the_images_rank_and_dtype(shape: tuple[int, ...], dtype: str) -> None:
    mask = _reduction.check_mask(np.ones(shape, dtype), jnp.zeros((2, 4, 5, 3)))
    assert mask is not None
    assert mask.shape == (shape if len(shape) == 4 else (*shape, 1)) and mask.dtype == FLOAT32


@pytest.mark.parametrize(
    "shape", [(), (2,), (4, 5), (4, 5, 1), (2, 4, 5, 3), (2, 5, 4), (3, 4, 5), (1, 2, 4, 5, 1)]
)
def test_masks_of_other_shapes_are_refused_with_those_taken(shape: tuple[int, ...]) -> None:
    with refuses("mask", str(shape), "(2, 4, 5)", "(2, 4, 5, 1)", "mask.reshape(-1, 1, 1)"):
        _reduction.check_mask(np.ones(shape), jnp.zeros((2, 4, 5, 3)))


@pytest.mark.parametrize(
    ("worst", "shown"), [(-0.5, "-0.5"), (float("nan"), "nan"), (float("inf"), "inf")]
)
def test_masks_are_finite_and_not_negative(worst: float, shown: str) -> None:
    with refuses("mask must be finite and not negative", shown):
        _reduction.check_mask(np.array([[1.0, worst]]), jnp.zeros((1, 2, 3)))


def test_masks_are_real_numbers() -> None:
    with refuses("complex64"):
        _reduction.check_mask(np.ones((1, 2), np.complex64), jnp.zeros((1, 2, 3)))
    with refuses("mask must be numeric"):
        _reduction.check_mask("ones", jnp.zeros((1, 2, 3)))


# Options and numbers


def test_an_option_is_answered_with_those_accepted_and_the_nearest() -> None:
    assert _reduction.check_option("window", "box", ("box", "gaussian")) == "box"
    with refuses("window takes 'box', 'gaussian'; got 'gausian'", "did you mean 'gaussian'?"):
        _reduction.check_option("window", "gausian", ("box", "gaussian"))
    with refuses("got None"):
        _reduction.check_option("window", None, ("box", "gaussian"))


@pytest.mark.parametrize("value", [0, 2, 2.0, np.float64(2), np.int8(2), jnp.float32(2), True])
def test_scalars_of_every_kind(value: object) -> None:
    number = _reduction.check_scalar("weight", value, FLOAT32)
    assert number.shape == () and number.dtype == FLOAT32 and float(number) == float(value)


@pytest.mark.parametrize(
    ("value", "fragment"),
    [
        ([1.0, 2.0], "shape (2,)"),
        (np.ones((1,)), "shape (1,)"),
        ("1", "got '1'"),
        (None, "got None"),
        (-1, "got -1"),
        (float("nan"), "got nan"),
        (1j, "complex"),
        (object(), "numeric"),
    ],
)
def test_what_is_no_weight_is_refused(value: object, fragment: str) -> None:
    with refuses("weight must be", fragment):
        _reduction.check_scalar("weight", value, FLOAT32)


@pytest.mark.parametrize("jit", [False, True])
def test_a_scale_of_zero_is_refused_inside_jit_too(jit: bool) -> None:
    def scale(image: jax.Array) -> jax.Array:
        return image * _reduction.check_scalar("epsilon", 0.0, FLOAT32, minimum=1e-18)

    with refuses("epsilon must be at least 1e-18; got 0"):
        (jax.jit(scale) if jit else scale)(jnp.ones(()))


def test_traced_numbers_are_not_looked_at() -> None:
    assert (
        jax.jit(lambda value: _reduction.check_scalar("weight", value, FLOAT32, minimum=1.0))(-1.0)
        == -1
    )


@pytest.mark.parametrize("size", [1, 7, np.int64(3)])
def test_odd_sizes(size: int) -> None:
    assert _reduction.check_odd_size("window_size", size) == size


@pytest.mark.parametrize(
    ("size", "fragment"),
    [(4, "got 4"), (0, "got 0"), (-1, "got -1"), (3.0, "got 3.0"), ("3", "'3'"), (True, "True")],
)
def test_other_sizes_are_refused(size: object, fragment: str) -> None:
    with refuses("window_size must be", "odd", fragment):
        _reduction.check_odd_size("window_size", size)


def test_a_traced_size_is_told_to_be_bound_before_jit() -> None:
    with refuses(
        "window_size is traced", "functools.partial(..., window_size=7)", "static_argnames"
    ):
        jax.jit(lambda size: _reduction.check_odd_size("window_size", size))(3)


def test_static_numbers() -> None:
    assert _reduction.check_static_number("sigma", np.float32(1.5), above=0) == 1.5
    for value in (0, -1, float("nan"), float("inf")):
        with refuses("sigma must be more than 0; got"):
            _reduction.check_static_number("sigma", value, above=0)
    with refuses("sigma must be one number; got 'wide'"):
        _reduction.check_static_number("sigma", "wide", above=0)
    with refuses("sigma is traced", "functools.partial"):
        jax.jit(lambda sigma: _reduction.check_static_number("sigma", sigma, above=0))(1.0)


# Means


def test_weighted_mean_is_numpys_average() -> None:
    generator = np.random.default_rng(0)
    values, weights = generator.random((2, 4, 5, 3)), generator.random((2, 1, 5, 1))
    expected = np.average(values, weights=np.broadcast_to(weights, values.shape))
    result = _reduction.weighted_mean(jnp.asarray(values, FLOAT32), jnp.asarray(weights, FLOAT32))
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    np.testing.assert_allclose(
        _reduction.weighted_mean(jnp.asarray(values, FLOAT32), None), values.mean(), rtol=1e-6
    )


def test_the_mean_under_no_weight_is_zero_and_so_is_its_gradient() -> None:
    mean, gradient = jax.value_and_grad(_reduction.weighted_mean)(
        jnp.ones((2, 2, 3)), jnp.zeros((2, 2, 1))
    )
    assert mean == 0 and (gradient == 0).all()


def test_the_mean_of_millions_of_values_keeps_float32s_accuracy() -> None:
    values = np.random.default_rng(0).random((4, 512, 512, 3), np.float32)
    expected = values.mean(dtype=np.float64)
    np.testing.assert_allclose(
        _reduction.weighted_mean(jnp.asarray(values), None), expected, rtol=1e-6
    )
    ones = jnp.ones((4, 512, 512, 1))
    np.testing.assert_allclose(
        _reduction.weighted_mean(jnp.asarray(values), ones), expected, rtol=1e-6
    )


def test_what_a_mask_hides_reaches_neither_value_nor_gradient() -> None:
    image, mask = jnp.array([[[jnp.nan], [2.0]]]), jnp.array([[[0.0], [0.5]]])
    np.testing.assert_array_equal(_reduction.hide_masked(image, mask), [[[0], [2]]])
    gradient = jax.grad(lambda image: jnp.sum(jnp.square(_reduction.hide_masked(image, mask))))(
        image
    )
    np.testing.assert_array_equal(gradient, [[[0], [4]]])
    assert _reduction.hide_masked(image, None) is image
