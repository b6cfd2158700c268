"""CIEDE2000, CIE76 and the two separate errors.

Published pairs, scikit-image, by hand, and the corners of hue.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.color import deltaE_cie76, deltaE_ciede2000, rgb2lab

from lumloss_jax import metrics
from lumloss_jax._ciede2000 import ciede2000_of_lab

of_lab = jax.jit(lambda lab_1, lab_2: ciede2000_of_lab(lab_1, lab_2)[..., 0])
of_lab_with = jax.jit(
    lambda lab_1, lab_2, factors: ciede2000_of_lab(lab_1, lab_2, **factors)[..., 0]
)


@functools.cache
def of_pixels(name):
    """One value per pixel: each is an image of its own."""
    return jax.jit(lambda p, t: getattr(metrics, name)(p[:, None, None], t[:, None, None]))


@pytest.fixture(scope="module")
def sharma(golden):
    """Lab pairs and their CIEDE2000, 34 of each."""
    table = np.loadtxt(golden / "metrics" / "sharma_2005.csv", delimiter=",", skiprows=1)
    assert table.shape == (34, 7)
    return table[:, :3], table[:, 3:6], table[:, 6]


def test_published_pairs_of_sharma_et_al(sharma, float64):
    first, second, expected = sharma
    for pair in ((first, second), (second, first)):
        # Half of the last digit that was published, and the rounding of that.
        np.testing.assert_allclose(of_lab(*pair), expected, rtol=0, atol=5.001e-5)


@pytest.mark.parametrize(
    "factors", [(1, 1, 1), (2, 1, 1), (2.3, 1, 1), (1, 1.5, 0.8), (0.5, 2, 3)], ids=str
)
def test_pairs_with_factors(golden, factors, float64):
    with np.load(golden / "perceptual" / "perceptual.npz") as arrays:
        of_list = {key: value for key, value in arrays.items() if key.startswith("ciede2000/")}
    labs = [of_list[f"ciede2000/lab_{i}"] for i in (1, 2)]
    expected = of_list["ciede2000/kL{}_kC{}_kH{}".format(*factors)]
    assert len(of_list) == 2 + 5  # the pairs, and a list for each triple of factors
    names = ("lightness_factor", "chroma_factor", "hue_factor")
    found = of_lab_with(*labs, dict(zip(names, map(float, factors), strict=True)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_published_pairs_in_float32(sharma):
    first, second, expected = sharma
    # Opposite hues: half a turn is more or less than pi by the last digit, and the mean hue lies on
    # either side.
    opposite = (first[:, 1:] == -second[:, 1:]).all(1)
    assert opposite.sum() == 2
    values = of_lab(first.astype(np.float32), second.astype(np.float32))
    np.testing.assert_allclose(values[~opposite], expected[~opposite], rtol=0, atol=1e-4)
    np.testing.assert_allclose(values[opposite], expected[opposite], rtol=0, atol=0.06)


def test_lab_pairs_of_the_fixture(golden, float64):
    with np.load(golden / "metrics" / "metrics.npz") as arrays:
        first, second, expected = (
            arrays[f"colour/{name}"] for name in ("lab1", "lab2", "ciede2000")
        )
    np.testing.assert_allclose(of_lab(first, second), expected, rtol=1e-11, atol=1e-12)


def colours(kind):
    """1500 pairs in [0, 1] of one kind: any, close, near grey, near one grey, or dark."""
    rng = np.random.default_rng(1)
    grey, other, noise = (
        rng.uniform(0, 1, (1500, 1)),
        rng.uniform(0, 1, (1500, 1)),
        rng.normal(size=(2, 1500, 3)),
    )
    return {
        "any": lambda: rng.uniform(0, 1, (2, 1500, 3)),
        "close": lambda: rng.uniform(0, 1, (1500, 3)) + 0.01 * noise,
        "near grey": lambda: np.stack([grey, other]) + 0.002 * noise,
        "near one grey": lambda: grey + 0.002 * noise,
        "dark": lambda: rng.uniform(0, 0.06, (2, 1500, 3)),
    }[kind]().clip(0, 1)


@pytest.mark.parametrize("kind", ["any", "close", "near grey", "near one grey", "dark"])
def test_skimage(kind):
    predictions, targets = colours(kind).astype(np.float32)
    lab_p, lab_t = (rgb2lab(image.astype(np.float64)) for image in (predictions, targets))
    chroma_p, chroma_t = (np.hypot(lab[:, 1], lab[:, 2]) for lab in (lab_p, lab_t))
    for name, expected in {
        "cie76": deltaE_cie76(lab_p, lab_t),
        "ciede2000": deltaE_ciede2000(lab_p, lab_t),
        "brightness_error": np.abs(lab_p - lab_t)[:, 0],
        "chroma_error": np.abs(chroma_p - chroma_t),
    }.items():
        values = of_pixels(name)(predictions, targets)
        # Rounded constants in scikit-image move single dark colours by 2e-4 of Lab.
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=3e-4, err_msg=name)
        np.testing.assert_allclose(
            np.mean(values), expected.mean(), rtol=1e-6, atol=3e-5, err_msg=name
        )


def test_brightness_and_chroma_see_one_thing_each():
    greys = np.broadcast_to(np.linspace(0, 0.9, 1500, dtype=np.float32)[:, None], (1500, 3))
    lighter = greys + np.float32(0.1)
    scores = {
        name: of_pixels(name)(lighter, greys)
        for name in ("chroma_error", "brightness_error", "cie76")
    }
    np.testing.assert_allclose(
        scores["chroma_error"], np.zeros(1500), atol=1e-2
    )  # the matrix' white is not quite Xn, Zn
    np.testing.assert_allclose(scores["brightness_error"], scores["cie76"], rtol=1e-4)
    # A grey of one channel is a grey of three, to the sum of the matrix' second row.
    np.testing.assert_allclose(
        of_pixels("brightness_error")(lighter[:, :1], greys[:, :1]),
        scores["brightness_error"],
        rtol=1e-5,
    )


def test_gradient_of_ciede2000_against_numerical_differences(float64):
    first, second = (jnp.asarray(rgb2lab(image[:40])) for image in colours("any"))
    direction = jnp.asarray(np.random.default_rng(2).normal(size=(40, 3)))
    along = jax.jit(
        jax.value_and_grad(lambda step: jnp.sum(of_lab(first + step * direction, second)))
    )
    step = 1e-6
    numerical = (along(step)[0] - along(-step)[0]) / (2 * step)
    np.testing.assert_allclose(along(0.0)[1], numerical, rtol=1e-6)


def test_gradient_at_the_corners_of_hue_is_finite(sharma):
    # Greys, equal colours, and opposite hues among the published pairs.
    first, second, _ = (array.astype(np.float32) for array in sharma)
    grey = np.array([[40, 0, 0], [40, 0, 0], [0, 0, 0], [100, 0, 0], [50, 20, -30]], np.float32)
    others = np.array(
        [[40, 0, 0], [40, 10, 0], [100, 0, 0], [100, 1e-20, -1e-20], [50, 20, -30]], np.float32
    )
    gradient = jax.jit(jax.grad(lambda lab_1, lab_2: jnp.sum(of_lab(lab_1, lab_2)), (0, 1)))
    for side in gradient(np.concatenate([first, grey]), np.concatenate([second, others])):
        assert np.isfinite(side).all()
        # Equal colours: nothing pushes
        np.testing.assert_array_equal(np.asarray(side)[[34, 38]], np.zeros((2, 3)))
