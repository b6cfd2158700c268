"""Input checks: what they refuse, what they say, and what they leave alone."""

import re
from contextlib import AbstractContextManager

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from lumloss_jax import _checks

FLOAT32 = jnp.dtype(jnp.float32)


def refuses(*fragments: str) -> AbstractContextManager[pytest.ExceptionInfo[ValueError]]:
    """A ValueError whose message holds all fragments, in this order."""
    return pytest.raises(ValueError, match=".*".join(map(re.escape, fragments)))


# check_image, check_pair


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_images_come_back_in_float32(dtype: str) -> None:
    assert _checks.check_image("image", jnp.zeros((2, 2, 3), dtype)).dtype == FLOAT32


def test_numpy_arrays_and_nested_lists_are_images() -> None:
    assert _checks.check_image("image", np.zeros((2, 2, 1))).shape == (2, 2, 1)
    assert _checks.check_image("image", [[[0.0, 0.5, 1.0]]]).shape == (1, 1, 3)


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
def test_what_is_not_an_image_is_refused_with_the_fix(
    image: object, fragments: tuple[str, ...]
) -> None:
    with refuses(*fragments):
        _checks.check_image("image", image)


def test_a_function_that_needs_colour_says_so() -> None:
    with refuses("(4, 4, 1)", "needs colour"):
        _checks.check_image("image", np.zeros((4, 4, 1)), channels=(3,))


def test_a_pair_has_one_shape_and_one_dtype() -> None:
    with refuses("predictions", "(4, 4, 3)", "targets", "(4, 4, 1)", "broadcast"):
        _checks.check_pair(np.zeros((4, 4, 3)), np.zeros((4, 4, 1)))
    predictions, targets = _checks.check_pair(
        jnp.zeros((1, 1, 3), jnp.bfloat16), jnp.zeros((1, 1, 3))
    )
    assert predictions.dtype == targets.dtype == FLOAT32


def test_symbolic_sizes_are_left_unchecked_but_must_agree() -> None:
    height, width, other = export.symbolic_shape("h, w, x")

    def trace(*shapes: tuple[object, ...]) -> None:
        arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        export.export(jax.jit(lambda p, t: jnp.sum(_checks.check_pair(p, t)[0])))(*arguments)

    trace((height, width, 3), (height, width, 3))
    with refuses("the two must be the same"):
        trace((height, width, 3), (other, width, 3))
    with refuses("RGBA"):
        trace((height, width, 4), (height, width, 4))


# check_mask


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 4, 5, 1), (2, 1, 1), (1, 4, 1), (2, 1, 1, 1)])
@pytest.mark.parametrize("dtype", ["bool", "int32", "uint8", "float16", "float32"])
def test_masks_come_back_with_the_images_rank_and_dtype(shape: tuple[int, ...], dtype: str) -> None:
    mask = _checks.check_mask(np.ones(shape, dtype), jnp.zeros((2, 4, 5, 3)))
    assert mask is not None
    assert mask.shape == (shape if len(shape) == 4 else (*shape, 1)) and mask.dtype == FLOAT32


@pytest.mark.parametrize(
    "shape", [(), (2,), (4, 5), (4, 5, 1), (2, 4, 5, 3), (2, 5, 4), (3, 4, 5), (1, 2, 4, 5, 1)]
)
def test_masks_of_other_shapes_are_refused_with_those_taken(shape: tuple[int, ...]) -> None:
    with refuses("mask", str(shape), "(2, 4, 5)", "(2, 4, 5, 1)", "mask.reshape(-1, 1, 1)"):
        _checks.check_mask(np.ones(shape), jnp.zeros((2, 4, 5, 3)))


@pytest.mark.parametrize(
    ("worst", "shown"), [(-0.5, "-0.5"), (float("nan"), "nan"), (float("inf"), "inf")]
)
def test_masks_are_finite_and_not_negative(worst: float, shown: str) -> None:
    with refuses("mask must be finite and not negative", shown):
        _checks.check_mask(np.array([[1.0, worst]]), jnp.zeros((1, 2, 3)))


def test_masks_are_real_numbers() -> None:
    with refuses("complex64"):
        _checks.check_mask(np.ones((1, 2), np.complex64), jnp.zeros((1, 2, 3)))
    with refuses("mask must be numeric"):
        _checks.check_mask("ones", jnp.zeros((1, 2, 3)))


# Options and numbers


def test_an_option_is_answered_with_the_accepted_ones() -> None:
    assert _checks.check_option("window", "box", ("box", "gaussian")) == "box"
    with refuses("window accepts 'box', 'gaussian'; got 'gausian'", "did you mean 'gaussian'?"):
        _checks.check_option("window", "gausian", ("box", "gaussian"))
    with refuses("got None"):
        _checks.check_option("window", None, ("box", "gaussian"))


@pytest.mark.parametrize("value", [0, 2, 2.0, np.float64(2), np.int8(2), jnp.float32(2), True])
def test_scalars_of_every_kind(value: object) -> None:
    number = _checks.check_scalar("weight", value, FLOAT32)
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
        _checks.check_scalar("weight", value, FLOAT32)


@pytest.mark.parametrize("jit", [False, True])
def test_a_scale_of_zero_is_refused_inside_jit_too(jit: bool) -> None:
    def scale(image: jax.Array) -> jax.Array:
        return image * _checks.check_scalar("epsilon", 0.0, FLOAT32, minimum=1e-18)

    with refuses("epsilon must be at least 1e-18; got 0"):
        (jax.jit(scale) if jit else scale)(jnp.ones(()))


def test_traced_numbers_are_not_looked_at() -> None:
    assert (
        jax.jit(lambda value: _checks.check_scalar("weight", value, FLOAT32, minimum=1.0))(-1.0)
        == -1
    )


@pytest.mark.parametrize("size", [1, 7, np.int64(3)])
def test_odd_sizes(size: int) -> None:
    assert _checks.check_odd_size("window_size", size) == size


@pytest.mark.parametrize(
    ("size", "fragment"),
    [(4, "got 4"), (0, "got 0"), (-1, "got -1"), (3.0, "got 3.0"), ("3", "'3'"), (True, "True")],
)
def test_other_sizes_are_refused(size: object, fragment: str) -> None:
    with refuses("window_size must be", "odd", fragment):
        _checks.check_odd_size("window_size", size)


def test_a_traced_size_is_told_to_be_bound_before_jit() -> None:
    with refuses(
        "window_size is traced", "functools.partial(..., window_size=7)", "static_argnames"
    ):
        jax.jit(lambda size: _checks.check_odd_size("window_size", size))(3)


def test_static_numbers() -> None:
    assert _checks.check_static_number("sigma", np.float32(1.5), above=0) == 1.5
    for value in (0, -1, float("nan"), float("inf")):
        with refuses("sigma must be more than 0; got"):
            _checks.check_static_number("sigma", value, above=0)
    with refuses("sigma must be one number; got 'wide'"):
        _checks.check_static_number("sigma", "wide", above=0)
    with refuses("sigma is traced", "functools.partial"):
        jax.jit(lambda sigma: _checks.check_static_number("sigma", sigma, above=0))(1.0)


def test_a_name_is_answered_with_the_nearest() -> None:
    assert _checks.did_you_mean("ms_sim", ("l1", "ms_ssim")) == "; did you mean 'ms_ssim'?"
    assert _checks.did_you_mean("other", ("l1", "ms_ssim")) == "."
    assert _checks.did_you_mean("other", ("l1", "ms_ssim"), otherwise="") == ""
