"""Frequency loss against NumPy's full spectrum in float64, and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumloss_jax.losses import frequency_loss


def reference(predictions, targets, spectrum, mask):
    """Mean over images and frequencies, each image weighed by the mean of its mask."""
    share = mask.mean((1, 2), keepdims=True)
    scaled = mask / np.where(share == 0, 1, share)
    p, t = (
        np.fft.fft2(x * scaled[..., None], axes=(1, 2), norm="ortho")
        for x in (predictions, targets)
    )
    error = (
        (abs((p - t).real) + abs((p - t).imag)) / 2
        if spectrum == "complex"
        else abs(abs(p) - abs(t))
    )
    return np.average(error.mean((1, 2, 3)), weights=share.ravel())


@pytest.mark.parametrize("spectrum", ["complex", "amplitude"])
# The half spectrum of an even width ends in a column of its own
@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_numpy_in_float64(spectrum, size):
    rng = np.random.default_rng(0)
    predictions, targets = rng.uniform(-0.2, 1.2, (2, 3, *size, 3)).astype(np.float32)
    loss = jax.jit(lambda p, t, mask: frequency_loss(p, t, spectrum=spectrum, mask=mask))
    ones, mask = np.ones((3, *size), np.float32), rng.integers(0, 3, (3, *size)).astype(np.float32)
    mask[1] = 0
    for m in (ones, mask):
        expected = reference(
            *(x.astype(np.float64) for x in (predictions, targets)), spectrum, m.astype(np.float64)
        )
        np.testing.assert_allclose(loss(predictions, targets, m), expected, rtol=1e-5)
    plain = frequency_loss(predictions, targets, spectrum=spectrum)
    np.testing.assert_allclose(plain, loss(predictions, targets, ones), rtol=1e-6)


def test_by_hand():
    black = jnp.zeros((4, 6, 1))
    # One pixel at the origin has the same real amplitude at every frequency.
    point = black.at[0, 0].set(0.5)
    np.testing.assert_allclose(frequency_loss(point, black), 0.5 / np.sqrt(24) / 2, rtol=1e-6)
    np.testing.assert_allclose(
        frequency_loss(point, black, spectrum="amplitude"), 0.5 / np.sqrt(24), rtol=1e-6
    )
    # A cosine across has two peaks of sqrt(24) / 2 times its amplitude, both real.
    wave = black + 0.2 * jnp.cos(2 * jnp.pi * jnp.arange(6.0) / 6).reshape(1, 6, 1)
    np.testing.assert_allclose(
        frequency_loss(wave, black), 2 * 0.1 * np.sqrt(24) / 24 / 2, rtol=1e-5
    )


def test_only_amplitudes_are_blind_to_a_periodic_shift():
    image = jnp.asarray(np.random.default_rng(1).uniform(0, 1, (1, 8, 9, 3)), jnp.float32)
    shifted = jnp.roll(image, (2, 3), (1, 2))
    assert (
        frequency_loss(shifted, image, spectrum="amplitude")
        < 1e-6
        < 0.1
        < frequency_loss(shifted, image)
    )


@pytest.mark.parametrize("size", [16, 96])
def test_noise_costs_the_same_at_any_size(size):
    """The cost is 0.1 / sqrt(2) sqrt(2 / pi) on average.

    Real and imaginary parts have a standard deviation of s / sqrt(2) each.
    """
    noise = np.random.default_rng(2).normal(0, 0.1, (4, size, size, 3)).astype(np.float32)
    np.testing.assert_allclose(frequency_loss(noise, 0 * noise), 0.1 / np.sqrt(np.pi), rtol=0.03)


def test_an_unknown_spectrum_is_named():
    image = np.zeros((4, 4, 1), np.float32)
    with pytest.raises(
        ValueError, match="spectrum accepts 'complex', 'amplitude'; got 'amplitudes'; did you mean"
    ):
        frequency_loss(image, image, spectrum="amplitudes")
