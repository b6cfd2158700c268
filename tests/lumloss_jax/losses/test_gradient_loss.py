"""Gradient loss against scipy's Sobel filter and NumPy's differences, and by hand."""

import jax
import numpy as np
import pytest
from scipy import ndimage

from lumloss_jax.losses import gradient_loss

PREDICTIONS, TARGETS = (
    np.random.default_rng(0).uniform(-0.2, 1.2, (2, 2, 7, 8, 3)).astype(np.float32)
)
MASK = np.random.default_rng(1).integers(0, 6, (2, 7, 8)).astype(np.float32)  # a sixth of it 0


def reference(operator, mask):
    """The loss in float64, from derivatives that read only pixels inside the image.

    Each is weighted by the least weight that it reads.
    """
    difference = PREDICTIONS.astype(np.float64) - TARGETS
    terms = []
    for axis in (1, 2):
        # Scipy's kernels are (1, 2, 1) times (-1, 0, 1): 8 times a derivative per pixel
        if operator == "sobel":
            inside, size = np.s_[:, 1:-1, 1:-1], (1, 3, 3)
            derivative = np.zeros_like(difference)
            for n, c in np.ndindex(2, 3):  # image by image: scipy smooths along all other axes
                derivative[n, ..., c] = ndimage.sobel(difference[n, ..., c], axis - 1) / 8
            error = np.abs(derivative)[inside]
        else:
            size = (1, 2, 1) if axis == 1 else (1, 1, 2)
            inside = np.s_[:, 1:] if axis == 1 else np.s_[:, :, 1:]
            error = np.abs(np.diff(difference, axis=axis))
        # Of an even size the window ends at its place
        least = ndimage.minimum_filter(mask, size)[inside]
        terms.append(np.average(error.mean(-1), weights=least))
    return sum(terms) / 2


@pytest.mark.parametrize("operator", ["sobel", "difference"])
def test_scipy_and_numpy_in_float64(operator):
    loss = jax.jit(lambda p, t, mask: gradient_loss(p, t, operator=operator, mask=mask))
    for mask in (np.ones_like(MASK), MASK):
        np.testing.assert_allclose(
            loss(PREDICTIONS, TARGETS, mask), reference(operator, mask), rtol=1e-5
        )
    plain = gradient_loss(PREDICTIONS, TARGETS, operator=operator)
    np.testing.assert_allclose(plain, reference(operator, np.ones_like(MASK)), rtol=1e-5)


def test_by_hand():
    black = np.zeros((3, 3, 1), np.float32)
    corner = black.copy()
    corner[0, 0] = 0.8  # smoothed by 1/4, over two pixels: 0.1 down, 0.1 across
    np.testing.assert_allclose(gradient_loss(corner, black), 0.1, rtol=1e-6)
    centre = np.roll(corner, (1, 1), (0, 1))
    assert gradient_loss(centre, black) == 0  # a central difference does not read its own place
    square = np.array([[0, 0.3], [0.1, 0.6]], np.float32)[..., None]
    # Down 0.1 and 0.3, across 0.3 and 0.5.
    np.testing.assert_allclose(
        gradient_loss(square, 0 * square, operator="difference"), 0.3, rtol=1e-6
    )


@pytest.mark.parametrize("operator", ["sobel", "difference"])
def test_both_operators_give_the_slope_of_a_ramp_per_pixel(operator):
    rows, columns = np.mgrid[:6, :7].astype(np.float32)
    ramp = (0.05 * rows - 0.02 * columns)[..., None]
    np.testing.assert_allclose(
        gradient_loss(ramp, 0 * ramp, operator=operator), (0.05 + 0.02) / 2, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("shape", "operator", "message"),
    [
        ((2, 9, 3), "sobel", r"\(2, 9, 3\) are too small: operator='sobel' needs at least 3 x 3"),
        ((1, 9, 1), "difference", "operator='difference' needs at least 2 x 2"),
        (
            (9, 9, 3),
            "sobol",
            "operator accepts 'sobel', 'difference'; got 'sobol'; did you mean 'sobel'",
        ),
    ],
)
def test_errors(shape, operator, message):
    with pytest.raises(ValueError, match=message):
        gradient_loss(np.zeros(shape, np.float32), np.zeros(shape, np.float32), operator=operator)
