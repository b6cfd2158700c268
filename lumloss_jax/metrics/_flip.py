"""FLIP: what an observer sees who flips between two images, as a map and as its mean."""

import jax
from jax.typing import ArrayLike

from lumloss_jax import _means
from lumloss_jax._flip import PIXELS_PER_DEGREE, check_view, flip_of_pair
from lumloss_jax.metrics._protocol import prepare


def flip(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike = 1.0,
    crop_border: int = 0,
    mask: ArrayLike | None = None,
    gt_mean: str | None = None,
    pixels_per_degree: float = PIXELS_PER_DEGREE,
) -> jax.Array:
    r"""LDR-FLIP of each image: the mean of :func:`flip_map`.

    .. math:: \mathrm{mean} \; \Delta E_c^{\, 1 - \Delta E_f}

    with :math:`\Delta E_c` the difference of colour after the eye's filters and
    :math:`\Delta E_f` the difference of edges and points.

    Protocol: ``flip_evaluator.evaluate(t, p, "LDR")`` and FLIP.h, for images in [0, 1]. Both images
    are clipped to the data range first, so a prediction outside it has gradient 0.

    Args:
      predictions: float array ``[..., H, W, C]``, gamma-encoded sRGB: C = 3 (red, green, blue) or
        1.
      targets: float array of the same shape.
      data_range: the distance from black to white in the images' own units, above 0; it may be
        traced.
      crop_border: pixels cut off each side first; static.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1. A
        pixel of the map counts with the least of the mask over the pixels that it was computed
        from, 21 x 21 at the default distance. Where the mask is 0 the images are not read. An image
        in which no pixel counts scores NaN (``jnp.nanmean`` leaves it out).
      gt_mean: None, ``"luma"`` or ``"channels"``: see :func:`psnr`; name the number "FLIP
        (GT-mean)".
      pixels_per_degree: pixels of the image in one degree of the observer's view, above 0; static.
        The default is 0.7 m from a display that is 0.7 m and 3,840 pixels wide.

    Returns:
      Difference, shape ``[...]``, from 0 for equal images to 1, lower is better; float64 for
      float64 input, else float32. The gradient is 0 at pixels whose surroundings are equal.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape, a border that leaves nothing, an unknown ``gt_mean``, a ``pixels_per_degree`` that is
        traced or not above 0, a concrete negative mask or data range.

    References:
      Andersson, Nilsson, Akenine-Möller, Oskarsson, Åström, Fairchild, "FLIP: a difference
      evaluator for alternating images", Proceedings of the ACM on Computer Graphics and Interactive
      Techniques 3(2), 2020.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.full((1, 24, 24, 3), 0.5)
      >>> redder = targets.at[..., 0].add(0.1)
      >>> print(f"{flip(redder, targets)[0]:.4f}")
      0.2497
    """
    pair = prepare(
        predictions,
        targets,
        data_range=data_range,
        crop_border=crop_border,
        mask=mask,
        gt_mean=gt_mean,
    )
    values, counts = flip_of_pair(pair, check_view(pixels_per_degree))
    return _means.image_mean(values, counts)


def flip_map(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike = 1.0,
    pixels_per_degree: float = PIXELS_PER_DEGREE,
) -> jax.Array:
    r"""LDR-FLIP of each pixel, for figures; :func:`flip` is its mean.

    .. math:: \Delta E_c^{\, 1 - \Delta E_f}

    Protocol: ``flip_evaluator.evaluate(t, p, "LDR", applyMagma=False)``. The authors paint the map
    with matplotlib's ``magma``.

    Args:
      predictions: float array ``[..., H, W, C]``, gamma-encoded sRGB: C = 3 (red, green, blue) or
        1.
      targets: float array of the same shape.
      data_range: the distance from black to white in the images' own units, above 0; it may be
        traced.
      pixels_per_degree: see :func:`flip`.

    Returns:
      Differences ``[..., H, W]``, each from 0 to 1, lower is better; float64 for float64 input,
      else float32.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape, a ``pixels_per_degree`` that is traced or not above 0, a concrete negative data
        range.

    References:
      Andersson et al., 2020: see :func:`flip`.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.full((24, 24, 3), 0.5)
      >>> one_pixel = targets.at[12, 12].set(1.0)
      >>> differences = flip_map(one_pixel, targets)
      >>> differences.shape, int(jnp.argmax(differences)) == 12 * 24 + 12
      ((24, 24), True)
    """
    pair = prepare(
        predictions, targets, data_range=data_range, crop_border=0, mask=None, gt_mean=None
    )
    return flip_of_pair(pair, check_view(pixels_per_degree))[0][..., 0]
