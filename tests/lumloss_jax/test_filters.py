"""Windows: their weights, and averages and correlations against NumPy loops over every pixel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from numpy.lib.stride_tricks import sliding_window_view

from lumloss_jax import _filters

WINDOWS = {
    "box 3": _filters.box_taps(3),
    "box 31": _filters.box_taps(31),
    "box 67, in groups": _filters.box_taps(67),
    "gaussian 9": _filters.gaussian_taps(9, 2.0),
}
every_window = pytest.mark.parametrize("taps", WINDOWS.values(), ids=WINDOWS)

SHAPES = ((2, 6, 9, 1), (5, 4, 3), (1, 1, 12, 1))


def average_by_loops(
    image: np.ndarray, taps: tuple[float, ...], mask: np.ndarray | None = None
) -> np.ndarray:
    """The weighted average of what exists around each pixel, pixel by pixel, in float64."""
    height, width = image.shape[-3:-1]
    mask = (
        np.ones((*image.shape[:-1], 1))
        if mask is None
        else np.broadcast_to(mask, (*image.shape[:-1], 1))
    )
    radius = len(taps) // 2
    result = np.zeros(image.shape)
    for row in range(height):
        for column in range(width):
            total, weight = 0.0, 0.0
            for i in range(max(0, row - radius), min(height, row + radius + 1)):
                for j in range(max(0, column - radius), min(width, column + radius + 1)):
                    tap = taps[i - row + radius] * taps[j - column + radius] * mask[..., i, j, :]
                    total, weight = total + tap * image[..., i, j, :], weight + tap
            result[..., row, column, :] = np.where(
                mask[..., row, column, :] > 0, total / np.maximum(weight, 1e-300), 0
            )
    return result


def average(
    image: np.ndarray, taps: tuple[float, ...], mask: np.ndarray | None = None
) -> jax.Array:
    return jax.jit(lambda image, mask: _filters.local_average(image, taps, mask))(image, mask)


def random_image(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.2, 1.2, shape).astype(np.float32)


def test_box_taps_are_equal_and_sum_to_one() -> None:
    assert _filters.box_taps(5) == (0.2,) * 5


def test_gaussian_taps_are_a_sampled_gaussian() -> None:
    taps = np.array(_filters.gaussian_taps(5, 1.5))
    expected = np.exp(-0.5 * (np.arange(-2, 3) / 1.5) ** 2)
    np.testing.assert_allclose(taps, expected / expected.sum(), rtol=1e-14)


@pytest.mark.parametrize("sigma", [1e-3, 1e-200, 1e-320])
def test_a_gaussian_narrower_than_a_pixel_is_no_window(sigma: float) -> None:
    assert _filters.gaussian_taps(5, sigma) == (0, 0, 1, 0, 0)


def test_a_gaussian_wider_than_its_window_is_a_box() -> None:
    np.testing.assert_allclose(_filters.gaussian_taps(5, 1e300), 0.2)


@pytest.mark.parametrize(("size", "sigma"), [(1, 0.5), (3, 0.8), (7, 1.4), (11, 2.0)])
def test_default_sigma(size: int, sigma: float) -> None:
    assert _filters.default_sigma(size) == pytest.approx(sigma)


@pytest.mark.parametrize("size", [1, 3, 5, 7, 8, 11])
def test_sliding_along_both_axes_is_numpys_correlation(size: int) -> None:
    image = random_image((2, 13, 11, 3))
    # Lopsided: a flip would show
    taps = tuple(np.random.default_rng(size).uniform(0, 1, size).tolist())
    windows = sliding_window_view(image.astype(np.float64), (size, size), axis=(1, 2))
    expected = np.einsum("nhwcij,i,j->nhwc", windows, taps, taps)
    result = jax.jit(lambda image: _filters.slide(_filters.slide(image, taps, 1), taps, 2))(image)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "taps",
    [
        _filters.box_taps(3),
        _filters.box_taps(7),
        _filters.box_taps(31),
        _filters.gaussian_taps(9, 2.0),
    ],
    ids=["box 3", "box 7", "box 31, larger than the image", "gaussian 9"],
)
def test_local_average_is_the_mean_of_what_exists(
    shape: tuple[int, ...], taps: tuple[float, ...]
) -> None:
    image = random_image(shape)
    result = average(image, taps)
    np.testing.assert_allclose(result, average_by_loops(image, taps), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e4])
@every_window
def test_local_average_keeps_its_digits_far_from_zero(
    taps: tuple[float, ...], offset: float
) -> None:
    """No running sum and no summed-area table: the error does not grow along the image."""
    image = random_image((1, 90, 500, 1)) + np.float32(offset)
    expected = image.astype(np.float64)[0, ..., 0]
    for axis in (0, 1):
        sums = [np.convolve(line, taps, "full") for line in np.moveaxis(expected, axis, 1)]
        weights = np.convolve(np.ones(expected.shape[axis]), taps, "full")
        inside = slice(len(taps) // 2, len(taps) // 2 + expected.shape[axis])
        expected = np.moveaxis((np.array(sums) / weights)[:, inside], 1, axis)
    error = np.abs(np.asarray(average(image, taps))[0, ..., 0] - expected).max()
    assert error < 6 * np.finfo(np.float32).eps * np.abs(image).max()


@every_window
def test_gradients_of_a_local_average_are_its_transpose(taps: tuple[float, ...]) -> None:
    """In reverse and forward mode, and mapped over images, the products agree."""
    generator = np.random.default_rng(0)
    image, direction, pull = (
        jnp.asarray(generator.normal(size=(2, 40, 71, 1)).astype(np.float32)) for _ in range(3)
    )
    averager = jax.jit(jax.vmap(lambda image: _filters.local_average(image, taps)))
    _, forward = jax.jit(lambda x, v: jax.jvp(averager, (x,), (v,)))(image, direction)
    (backward,) = jax.vjp(averager, image)[1](pull)
    np.testing.assert_allclose(forward, averager(direction), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        jnp.vdot(pull, forward), jnp.vdot(backward, direction), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("mask_shape", [(2, 6, 9, 1), (1, 6, 9, 1), (2, 6, 1, 1)])
@pytest.mark.parametrize(
    "taps", [_filters.box_taps(5), _filters.gaussian_taps(31, 1.4)], ids=["box", "gaussian"]
)
def test_local_average_under_a_mask(mask_shape: tuple[int, ...], taps: tuple[float, ...]) -> None:
    image = random_image((2, 6, 9, 1))
    mask = np.maximum(random_image(mask_shape, seed=1) - 0.5, 0)
    assert (mask == 0).any() and (mask > 0).any()
    result = average(image, taps, mask)
    np.testing.assert_allclose(result, average_by_loops(image, taps, mask), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [3, 5, 15, 101])
@pytest.mark.parametrize("kind", ["box", "gaussian"])
def test_a_constant_keeps_its_value_up_to_the_border(size: int, kind: str) -> None:
    taps = (
        _filters.box_taps(size)
        if kind == "box"
        else _filters.gaussian_taps(size, _filters.default_sigma(size))
    )
    result = average(np.full((1, 12, 10, 1), 0.3, np.float32), taps)
    np.testing.assert_allclose(result, 0.3, rtol=1e-6)


def test_a_mask_has_a_finite_gradient_under_a_narrow_gaussian() -> None:
    """Seven pixels from the one that counts, the window's weight is 1e-43.

    Its square would be 0, and must not be divided by.
    """
    image = jnp.asarray(random_image((12, 12, 1)))
    mask = jnp.zeros((12, 12, 1)).at[2, 2].set(1.0)
    taps = _filters.gaussian_taps(15, 0.5)
    gradient = jax.jit(
        jax.grad(lambda mask: jnp.sum(mask * _filters.local_average(image, taps, mask)))
    )(mask)
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("count", [5, 6, 7, 8, 15])
@pytest.mark.parametrize("axis", [0, 1])
def test_both_ways_to_slide_agree_in_value_and_gradient(count: int, axis: int) -> None:
    image = jnp.asarray(random_image((17, 16, 2)))
    taps = tuple(np.random.default_rng(count).uniform(0, 1, count).tolist())
    at_once, pull_at_once = jax.vjp(
        jax.jit(lambda image: _filters._slide_at_once(image, taps, axis)), image
    )
    in_halves, pull_in_halves = jax.vjp(
        jax.jit(lambda image: _filters._slide_in_halves(image, taps, axis)), image
    )
    np.testing.assert_allclose(in_halves, at_once, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        pull_in_halves(at_once)[0], pull_at_once(at_once)[0], rtol=1e-5, atol=1e-6
    )


@pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="asks what XLA's CPU backend makes of it"
)
def test_the_second_pass_does_not_repeat_the_first_for_each_tap() -> None:
    size, image = 15, jnp.zeros((1, 64, 64, 1))

    def loss(image: jax.Array) -> jax.Array:
        return jnp.sum(jnp.abs(_filters.local_average(image, _filters.box_taps(size))))

    compiled = jax.jit(jax.value_and_grad(loss)).lower(image).compile()
    # Two passes there and two back, 15 products and sums each, are 120; with the passes fused they
    # are above 1400.
    assert compiled.cost_analysis()["flops"] / image.size < size * size


@pytest.mark.parametrize(
    "taps", [_filters.box_taps(7), _filters.gaussian_taps(31, 2.0)], ids=["box", "gaussian"]
)
def test_symbolic_sizes_average_as_static_ones_do(taps: tuple[float, ...]) -> None:
    batch, height, width = export.symbolic_shape("n, h, w")
    averager = jax.jit(lambda image: _filters.local_average(image, taps))
    exported = export.export(averager)(jax.ShapeDtypeStruct((batch, height, width, 1), jnp.float32))
    for shape in ((2, 9, 8, 1), (1, 3, 40, 1)):
        image = jnp.asarray(random_image(shape))
        np.testing.assert_allclose(exported.call(image), averager(image), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("width", [0, 1, 3, 5, 7])
def test_mirror_is_numpys_symmetric_padding(width):
    image = np.arange(2 * 5 * 4 * 3, dtype=np.float32).reshape(2, 5, 4, 3)
    for axis in (1, 2):
        widths = [(0, 0)] * 4
        widths[axis] = (width, width)
        expected = np.pad(image, widths, mode="symmetric")
        np.testing.assert_array_equal(_filters.mirror(jnp.asarray(image), width, axis), expected)
