"""Frequency loss: L1 between Fourier spectra, in which periodic artefacts are single peaks."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from lumloss_jax import _checks, _means
from lumloss_jax._absolute import absolute
from lumloss_jax._means import AxisName

SPECTRA = ("complex", "amplitude")


def frequency_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    spectrum: str = "complex",
    mask: ArrayLike | None = None,
    axis_name: AxisName | None = None,
) -> jax.Array:
    r"""Mean absolute error of the 2-D Fourier spectra, channel by channel.

    .. math::
        F(x)_{uv} = \frac{1}{\sqrt{HW}} \sum_{ij} x_{ij} \, e^{-2 \pi i (ui / H + vj / W)}

    .. math::
        L_\text{complex} = \tfrac{1}{2} \, \mathrm{mean} \big( |\mathrm{Re}\, F(P - T)|
        + |\mathrm{Im}\, F(P - T)| \big), \qquad
        L_\text{amplitude} = \mathrm{mean} \, \big| |F(P)| - |F(T)| \big|

    The transform preserves energy, so the loss does not grow with the image: Gaussian noise of
    standard deviation s costs 0.56 s (complex) at any size. Code that does not scale the transform
    gives sqrt(H W) times this loss. Add it to a pixel loss with a small weight, because the
    amplitude alone does not depend on where things are.

    Args:
      predictions: float array ``[..., H, W, C]``, C = 3 (red, green, blue) or 1; nominal range [0,
        1], not clipped.
      targets: float array of the same shape.
      spectrum: ``"complex"`` compares real and imaginary parts, and so amplitude and phase;
        ``"amplitude"`` compares only amplitudes, and does not see a shift of the whole image
        (periodic at its border).
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1. Both
        images are multiplied by it before the transform, and each image's loss is divided by the
        mean of its mask, so that a weight per image makes a weighted mean over images. Where the
        mask is 0, the images are not read. If all weights are 0, the loss and its gradient are 0.
      axis_name: mapped axis or axes (pmap, shard_map) over which numerator and weight are summed
        first, which gives the value over all shards. H and W themselves cannot be sharded.

    Returns:
      The loss, shape (), 0 or more, lower is better; float64 for float64 input, else float32.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape, for an unknown spectrum, or for a mask that does not fit or is concretely negative.

    References:
      Cho et al., "Rethinking coarse-to-fine approach in single image deblurring", ICCV 2021,
      arXiv:2108.05054. Fuoli, Van Gool, Timofte, "Fourier space losses for efficient perceptual
      image super-resolution", ICCV 2021, arXiv:2106.00783.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.full((1, 8, 8, 1), 0.5)
      >>> # only frequency 0, real: sqrt(64) * 0.1 / 64 / 2
      >>> brighter = targets + 0.1
      >>> print(f"{frequency_loss(brighter, targets):.5f}")
      0.00625
      >>> print(f"{frequency_loss(brighter, targets, spectrum='amplitude'):.5f}")
      0.01250
    """
    predictions, targets = _checks.check_pair(predictions, targets)
    mask = _checks.check_mask(mask, predictions)
    _checks.check_option("spectrum", spectrum, SPECTRA)
    chex.assert_equal_shape([predictions, targets])

    predictions, targets = (_means.hide_masked(image, mask) for image in (predictions, targets))
    share = None  # weight of each image, [..., 1, 1, 1]
    if mask is not None:
        share = jnp.mean(mask, axis=(-3, -2, -1), keepdims=True)
        mask = mask / jnp.where(share == 0, jnp.ones_like(share), share)
        predictions, targets = predictions * mask, targets * mask
    if spectrum == "complex":
        # The transform is linear, so the difference is transformed once
        difference = _transform(predictions - targets)
        error = 0.5 * (absolute(difference.real) + absolute(difference.imag))
    else:
        error = absolute(jnp.abs(_transform(predictions)) - jnp.abs(_transform(targets)))
    return _means.weighted_mean(error * _column_counts(predictions), share, axis_name)


def _transform(image: jax.Array) -> jax.Array:
    """Half of the spectrum, ``[..., H, W // 2 + 1, C]``.

    The other half is its mirror image, with equal amplitudes.
    """
    return jnp.fft.rfft2(image, axes=(-3, -2), norm="ortho")


def _column_counts(image: jax.Array) -> jax.Array:
    """How often the full spectrum holds each column of the half, divided by the mean.

    Means over the half are then means over the full spectrum.
    """
    width = image.shape[-2]
    counts = np.full(width // 2 + 1, 2.0)
    counts[0] = 1.0
    if width % 2 == 0:
        counts[-1] = 1.0
    shape = (1,) * (image.ndim - 2) + (-1, 1)
    return jnp.asarray(counts / counts.mean(), image.dtype).reshape(shape)
