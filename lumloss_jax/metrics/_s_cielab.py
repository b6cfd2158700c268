"""S-CIELAB: the colour difference of two images after the blur of the eye that sees them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from lumloss_jax import _checks, _filters, _means
from lumloss_jax import _local_similarity as local
from lumloss_jax._ciede2000 import ciede2000_of_lab
from lumloss_jax._flip import PIXELS_PER_DEGREE
from lumloss_jax.color._lab import RGB_TO_XYZ, xyz_to_lab
from lumloss_jax.color._luma import sum_channels
from lumloss_jax.color._srgb import linearise
from lumloss_jax.metrics._protocol import prepare

# From XYZ to luminance, red-green and blue-yellow, for the 2 degree observer.
_OPPONENT = np.array(
    [
        [0.2787336, 0.7218031, -0.1065520],
        [-0.4487736, 0.2898056, 0.0771569],
        [0.0859513, -0.5899859, 0.5011089],
    ]
)
# The Gaussians of each plane: half width at half maximum, in degrees, and weight.
_GAUSSIANS = (
    ((0.05, 1.00327), (0.225, 0.114416), (7.0, -0.117686)),
    ((0.0685, 0.616725), (0.826, 0.383275)),
    ((0.0920, 0.567885), (0.6451, 0.432115)),
)


def s_cielab(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike = 1.0,
    crop_border: int = 0,
    mask: ArrayLike | None = None,
    gt_mean: str | None = None,
    pixels_per_degree: float = PIXELS_PER_DEGREE,
) -> jax.Array:
    r"""S-CIELAB of each image: the mean CIEDE2000 difference of what the eye resolves.

    .. math:: \mathrm{mean} \; \Delta E_{00}\big(\mathrm{Lab}(F * P), \mathrm{Lab}(F * T)\big)

    with F a filter for each of the planes luminance, red-green and blue-yellow, in linear light: a
    sum of Gaussians that passes less detail of colour than of luminance. Noise that is too fine to
    be seen at this distance hardly counts.

    Protocol: ISETCam's constants for the 2 degree observer, and filters of one degree. At the
    border the image is mirrored with its edge pixel, where ISETCam wraps it round.

    Args:
      predictions: float array ``[..., H, W, 3]``, gamma-encoded sRGB: red, green, blue; not
        clipped.
      targets: float array of the same shape.
      data_range: the value of white, above 0; images are divided by it first. It may be traced.
      crop_border: pixels cut off each side first; static.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1. A
        pixel counts with the least of the mask over the filter, 67 x 67 pixels at the default
        distance. Where the mask is 0 the images are not read. An image in which no pixel counts
        scores NaN (``jnp.nanmean`` leaves it out).
      gt_mean: None, ``"luma"`` or ``"channels"``: see :func:`psnr`; name the number "S-CIELAB
        (GT-mean)".
      pixels_per_degree: pixels of the image in one degree of the observer's view, 1 or more;
        static. The default is that of :func:`flip`. Below about 20 the narrowest filter falls
        between the pixels.

    Returns:
      Mean difference, shape ``[...]``, 0 or more, lower is better; about 1 is a just noticeable
      difference. float64 for float64 input, else float32. The gradient is 0 at pixels whose
      surroundings are equal.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 3]`` of the same shape, a
        border that leaves nothing, an unknown ``gt_mean``, a ``pixels_per_degree`` that is traced
        or below 1, a concrete negative mask or data range.

    References:
      Zhang, Wandell, "A spatial extension of CIELAB for digital color image reproduction", SID
      Symposium Digest 27, 1996.

    Example:
      >>> import jax
      >>> targets = jax.numpy.full((1, 32, 32, 3), 0.5)
      >>> noisy = targets + 0.1 * jax.random.normal(jax.random.key(0), targets.shape)
      >>> near, far = (s_cielab(noisy, targets, pixels_per_degree=p)[0] for p in (20, 40))
      >>> print(f"{near:.2f} {far:.2f}")
      4.70 2.82
    """
    density = _checks.check_static_number("pixels_per_degree", pixels_per_degree, above=0)
    if density < 1:
        raise ValueError(
            f"pixels_per_degree must be 1 or more; got {density:g}. A degree of the observer's "
            "view holds less than one pixel."
        )
    pair = prepare(
        predictions,
        targets,
        data_range=data_range,
        crop_border=crop_border,
        mask=mask,
        gt_mean=gt_mean,
        channels=(3,),
    )
    length = math.ceil(density)
    length -= 1 - length % 2
    linear = linearise(jnp.stack([pair.predictions, pair.targets]))
    planes = [
        _filter_plane(sum_channels(linear, tuple(row.tolist())), gaussians, density, length)
        for row, gaussians in zip(_OPPONENT @ np.array(RGB_TO_XYZ), _GAUSSIANS, strict=True)
    ]
    seen = jnp.concatenate(planes, axis=-1)
    lab = xyz_to_lab(
        jnp.concatenate(
            [sum_channels(seen, tuple(r.tolist())) for r in np.linalg.inv(_OPPONENT)], axis=-1
        )
    )
    sides = local.both_sides(pair)
    radius = length // 2
    difference = local.zero_where(
        local.least_around(sides.equal, radius, radius), ciede2000_of_lab(lab[0], lab[1])
    )
    counts = None if sides.counts is None else local.least_around(sides.counts, radius, radius)
    return _means.image_mean(difference, counts)


def _filter_plane(
    plane: jax.Array, gaussians: tuple[tuple[float, float], ...], density: float, length: int
) -> jax.Array:
    """A weighted sum of Gaussian blurs of ``[..., H, W, 1]``, divided by the sum of the weights."""
    pixels = np.arange(length) - length // 2
    total = jnp.zeros_like(plane)
    for half_width, weight in gaussians:
        values = np.exp(-math.log(2) * (pixels / (density * half_width)) ** 2)
        taps = tuple(float(value) for value in values / values.sum())
        total = total + weight * _blur(plane, taps)
    return total / sum(weight for _, weight in gaussians)


def _blur(plane: jax.Array, taps: tuple[float, ...]) -> jax.Array:
    """Correlates both axes with ``taps``; the image is mirrored with its edge pixel outside."""
    for axis in (plane.ndim - 3, plane.ndim - 2):
        plane = _filters.slide(_filters.mirror(plane, len(taps) // 2, axis), taps, axis)
    return plane
