"""Blur against scipy's filters."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from scipy import ndimage

from lumloss_jax.degradations import box_blur, gaussian_blur

IMAGE = np.random.default_rng(0).uniform(size=(23, 19, 3)).astype(np.float32)


def blur(sigma, size=None, image=IMAGE):
    """Compiled, which is far quicker than its operations one by one."""
    return jax.jit(partial(gaussian_blur, None, sigma=sigma, size=size))(image)


def by_scipy(image: np.ndarray, kernel: str, **options) -> np.ndarray:
    """The filter with nothing beyond the edge, divided by that of ones."""
    filter_ = {"gaussian": ndimage.gaussian_filter, "box": ndimage.uniform_filter}[kernel]
    planes = [
        filter_(plane, mode="constant", **options)
        / filter_(np.ones_like(plane), mode="constant", **options)
        for plane in np.moveaxis(image.astype(np.float64), -1, 0)
    ]
    return np.stack(planes, -1)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.3, 8.0])
def test_gaussian_is_scipy_s(sigma):
    np.testing.assert_allclose(blur(sigma), by_scipy(IMAGE, "gaussian", sigma=sigma), atol=1e-6)


def test_gaussian_takes_a_size_as_scipy_takes_a_radius():
    ours = blur(2.0, 7)
    np.testing.assert_allclose(ours, by_scipy(IMAGE, "gaussian", sigma=2.0, radius=3), atol=1e-6)


@pytest.mark.parametrize("size", [1, 3, 9])
def test_box_is_scipy_s(size):
    np.testing.assert_allclose(
        box_blur(None, IMAGE, size=size), by_scipy(IMAGE, "box", size=size), atol=1e-6
    )


def test_blur_by_hand():
    row = jnp.array([0.0, 1.0, 0.0, 0.0]).reshape(1, 4, 1)
    np.testing.assert_allclose(
        box_blur(None, row, size=3).ravel(), [1 / 2, 1 / 3, 1 / 3, 0], rtol=1e-6
    )
    weight = np.exp(-1 / 8)  # of a neighbour, at sigma 2
    expected = [weight / (1 + weight), 1 / (1 + 2 * weight), weight / (1 + 2 * weight), 0]
    np.testing.assert_allclose(blur(2.0, 3, row).ravel(), expected, rtol=1e-6)


def test_flat_images_stay_flat_and_windows_may_exceed_the_image():
    flat = jnp.full((2, 5, 4, 1), 0.3)
    for blurred in (blur(6.0, image=flat), jax.jit(partial(box_blur, None, size=31))(flat)):
        np.testing.assert_allclose(blurred, 0.3, rtol=1e-6)
    everywhere = blur(1000.0, 61)
    np.testing.assert_allclose(
        everywhere, np.broadcast_to(IMAGE.mean((0, 1)), IMAGE.shape), atol=1e-3
    )


def test_sigma_zero_changes_nothing():
    np.testing.assert_array_equal(blur(0.0), IMAGE)
    np.testing.assert_array_equal(blur(0.0, 9), IMAGE)


def test_sigma_may_be_traced_and_differ_by_image():
    batch = jnp.stack([IMAGE, IMAGE, IMAGE])
    sigma = jnp.array([0.0, 0.7, 1.9])
    traced = jax.jit(lambda x, s: gaussian_blur(None, x, sigma=s, size=17))
    together = traced(batch, sigma)
    for i in range(3):
        alone = traced(IMAGE, sigma[i])
        np.testing.assert_allclose(together[i], alone, atol=1e-6)
    # Concrete: the largest sets the size
    np.testing.assert_allclose(blur(sigma, image=batch), together, atol=1e-6)


def test_gradients_are_finite_and_right(x64):
    image = IMAGE.astype(np.float64)
    weights = np.random.default_rng(1).normal(size=image.shape)

    @jax.jit
    def scored_with_slopes(image, sigma):
        def scored(image, sigma):
            return (weights * gaussian_blur(None, image, sigma=sigma, size=9)).sum()

        return jax.value_and_grad(scored, argnums=(0, 1))(image, sigma)

    def scored(image, sigma):
        return scored_with_slopes(image, sigma)[0]

    _, (by_image, by_sigma) = scored_with_slopes(image, 1.3)
    # Linear in the image
    np.testing.assert_allclose(np.sum(by_image * image), scored(image, 1.3), rtol=1e-10)
    step = 1e-6
    np.testing.assert_allclose(
        by_sigma, (scored(image, 1.3 + step) - scored(image, 1.3 - step)) / (2 * step), rtol=1e-6
    )
    for narrow in (0.0, 1e-30, 0.01, 0.02):
        assert np.isfinite(scored_with_slopes(image, narrow)[1][1])


def test_symbolic_sizes_export():
    height, width = export.symbolic_shape("h, w")
    spec = jax.ShapeDtypeStruct((height, width, 3), jnp.float32)
    for each in (partial(gaussian_blur, None, sigma=1.0), partial(box_blur, None, size=3)):
        exported = export.export(jax.jit(each))(spec)
        np.testing.assert_allclose(
            exported.call(jnp.asarray(IMAGE)), jax.jit(each)(IMAGE), atol=1e-6
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": -1.0}, "sigma must be finite and not negative; got -1"),
        ({"sigma": np.nan}, "sigma must be finite"),
        ({"sigma": np.ones(2), "size": 3}, r"sigma has shape \(2,\)"),
        ({"sigma": np.ones((23, 19)), "size": 3}, "must be one number"),
        ({"sigma": 1.0, "size": 4}, "size must be odd"),
        ({"sigma": 1.0, "size": 2.5}, "size must be an odd int"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        gaussian_blur(None, IMAGE, **options)


def test_traced_sigma_asks_for_a_size():
    with pytest.raises(ValueError, match="sigma is traced.*give size"):
        jax.jit(lambda s: gaussian_blur(None, IMAGE, sigma=s))(1.0)
    with pytest.raises(ValueError, match="size is traced"):
        jax.jit(lambda s: box_blur(None, IMAGE, size=s))(3)
    with pytest.raises(ValueError, match="size must be odd"):
        box_blur(None, IMAGE, size=2)
