"""The losses of NAFNet and HVI-CIDNet, against the authors' code and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumloss_jax import losses
from lumloss_jax._laplacian import laplacian
from lumloss_jax.color import rgb_to_hvi
from tests.shared_data import KEPT, SHARED

# Values from the files' descriptions; the terms have their weights
PSNR = [-19.978792280126235, -50.0233431607419, -80.0]
TERMS = {
    "rgb/l1": 0.09087715656352016,
    "rgb/ssim": 0.06349681125418244,
    "rgb/edge": 0.33048196302782673,
    "hvi/l1": 0.11373321777707507,
    "hvi/ssim": 0.09111330379732802,
    "hvi/edge": 0.7324054814421872,
}
WEIGHTS = {"l1": 1.0, "ssim": 0.5, "edge": 50.0}
TOTAL = 1.4221079338621196


@pytest.fixture
def file(name):
    folder = SHARED / "fixtures" if SHARED.is_dir() else KEPT
    with np.load(folder / "nafnet_cidnet" / f"{name}.npz") as arrays:
        return {
            key: np.moveaxis(array, -3, -1) if array.ndim > 3 else array
            for key, array in arrays.items()
        }


def pair(file, dtype):
    return tuple(jnp.asarray(file[f"loss/{key}"], dtype) for key in ("prediction", "target"))


@pytest.mark.parametrize("name", ["nafnet_psnr_loss"])
def test_psnr_matches_the_authors_code(file):
    predictions, targets = pair(file, jnp.float32)
    per_image = jax.vmap(losses.psnr_loss)(predictions, targets)
    np.testing.assert_allclose(per_image, PSNR, rtol=1e-5)
    value, gradient = jax.value_and_grad(losses.psnr_loss)(predictions, targets)
    np.testing.assert_allclose(value, np.mean(PSNR), rtol=1e-5)
    expected = file["grad/prediction"]
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    assert not gradient[2].any()  # an image that equals its target, whose value is at the floor


@pytest.mark.parametrize("name", ["cidnet_losses"])
def test_cidnets_terms_match_the_authors_code(file, x64):
    """In float64. Their HVI has epsilons that change values by up to 8e-6."""
    predictions, targets = pair(file, jnp.float64)
    off = {"l1_weight": 0.0, "ssim_weight": 0.0, "edge_weight": 0.0}
    for key, expected in TERMS.items():
        space, term = key.split("/")
        options = {**off, f"{term}_weight": WEIGHTS[term], "hvi_weight": 1.0}
        both = losses.cidnet_loss(predictions, targets, **options)
        rgb = losses.cidnet_loss(predictions, targets, **{**options, "hvi_weight": 0.0})
        found = rgb if space == "rgb" else both - rgb
        # The window and the kernel of the authors are float32 numbers
        np.testing.assert_allclose(found, expected, rtol=2e-5, err_msg=key)
        if f"grad/{key}" in file and space == "rgb":
            gradient = jax.grad(
                lambda p, options=options: losses.cidnet_loss(
                    p, targets, **{**options, "hvi_weight": 0.0}
                )
            )(predictions)
            wanted = file[f"grad/{key}"]
            np.testing.assert_allclose(gradient, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    step = jax.value_and_grad(lambda p, k: losses.cidnet_loss(p, targets, k=k), (0, 1))
    value, (gradient, by_k) = step(predictions, jnp.float64(0.2))
    np.testing.assert_allclose(value, TOTAL, rtol=1e-5)
    expected = file["grad/total"]
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(by_k, file["grad/density_k"][0], rtol=1e-4)
    edge = losses.laplacian_loss(predictions, targets)
    np.testing.assert_allclose(edge, TERMS["rgb/edge"] / WEIGHTS["edge"], rtol=1e-6)


def test_a_laplacian_worked_by_hand():
    """Of one pixel in the middle of an even row and column, along the row through it."""
    image = jnp.zeros((1, 11, 11, 1)).at[0, 4, 4, 0].set(1.0)
    taps = {-2: 0.05, -1: 0.25, 0: 0.4, 1: 0.25, 2: 0.05}
    # G of the pixel, times 2 for each axis where the place is even, then G again
    kept = {place: 2 * taps[place] for place in (-2, 0, 2)}
    smooth = {
        place: sum(taps.get(place - other, 0.0) * value for other, value in kept.items())
        for place in range(-4, 5)
    }
    found = laplacian(image)[0, 4, :9, 0]
    expected = [(place == 0) - smooth[0] * smooth[place] for place in range(-4, 5)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_hvi_is_the_loss_of_the_converted_images():
    rng = np.random.default_rng(0)
    predictions, targets = (jnp.asarray(rng.random((2, 16, 17, 3), np.float32)) for _ in range(2))
    found = losses.hvi_loss(predictions, targets, loss="ssim", k=0.4)
    converted = (rgb_to_hvi(image, k=0.4) for image in (predictions, targets))
    np.testing.assert_allclose(found, losses.ssim_loss(*converted), rtol=1e-6)


@pytest.mark.parametrize("loss", [losses.cidnet_loss, losses.hvi_loss])
def test_grey_images_are_refused(loss):
    image = jnp.zeros((1, 16, 16, 1))
    with pytest.raises(ValueError, match="3 channels|must have 3|channel"):
        loss(image, image)
