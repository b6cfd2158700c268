"""Metrics of what people see as losses: FLIP, CIEDE2000, HaarPSI and NLPD.

A metric that agrees with people's opinions is not automatically a good loss: many different images
can get the same score, and some of them look wrong. Ding, Ma, Wang and Simoncelli ("Comparison of
full-reference image quality models for optimization of image processing systems", IJCV 129, 2021)
trained networks on eleven metrics and asked people. Add one of these losses to a pixel loss, such
as ``"0.9*luminance_l1 + 0.1*haarpsi"``.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _checks, _means
from lumloss_jax._ciede2000 import SMALLEST_FACTOR, ciede2000_of_lab
from lumloss_jax._flip import PIXELS_PER_DEGREE, check_view, flip_of_pair
from lumloss_jax._haarpsi import haarpsi_of_pair
from lumloss_jax._means import AxisName
from lumloss_jax._nlpd import nlpd_of_pair
from lumloss_jax._pair import Pair, zero_where_equal
from lumloss_jax.color._lab import rgb_to_lab

_CONSTANT, _STEEPNESS = 30.0, 4.2  # as the authors of HaarPSI fitted them


def flip_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    pixels_per_degree: float = PIXELS_PER_DEGREE,
    floor: ArrayLike = 1e-4,
    data_range: ArrayLike = 1.0,
    mask: ArrayLike | None = None,
    axis_name: AxisName | None = None,
) -> jax.Array:
    r"""Mean of the LDR-FLIP map.

    .. math:: L = \mathrm{mean} \; \Delta E_c^{\, 1 - \Delta E_f}

    with :math:`\Delta E_c` the difference of colour after the eye's filters and
    :math:`\Delta E_f` the difference of edges and points; see :func:`lumloss_jax.metrics.flip`.

    The slopes of both grow without bound as a difference vanishes, which makes training unstable.
    ``floor`` bounds them; with 0 the value is the metric's. FLIP clips both images to the data
    range, so a prediction outside it has gradient 0: add a pixel loss.

    Args:
      predictions: float array ``[..., H, W, C]``, gamma-encoded sRGB: C = 3 (red, green, blue) or
        1.
      targets: float array of the same shape.
      pixels_per_degree: pixels of the image in one degree of the observer's view, above 0; static.
        The default is 0.7 m from a display that is 0.7 m and 3,840 pixels wide.
      floor: least change of an edge or a point and least square of a chroma difference, 0 or more;
        it may be traced. Pixels whose surroundings are equal stay 0.
      data_range: distance from black to white, above 0; one number, may be traced.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1. A
        pixel counts with the least weight among the pixels that its value was computed from, 21 x
        21 at the default distance. Where it is 0 the images are not read. If nothing counts, loss
        and gradient are 0.
      axis_name: mapped axis or axes (pmap, shard_map) over which numerator and weight are summed
        first: the value over all shards. H and W themselves cannot be sharded.

    Returns:
      The loss, shape (), from 0 (equal) to 1, lower is better; float64 for float64 input, else
      float32.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape, a data_range that is concretely 0 or less, a ``pixels_per_degree`` that is traced or
        not above 0, a floor that is concretely negative, or a mask that does not fit or is
        concretely negative.

    References:
      Andersson, Nilsson, Akenine-Möller, Oskarsson, Åström, Fairchild, "FLIP: a difference
      evaluator for alternating images", Proceedings of the ACM on Computer Graphics and Interactive
      Techniques 3(2), 2020.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.full((1, 24, 24, 3), 0.5)
      >>> redder = targets.at[..., 0].add(0.1)
      >>> print(f"{flip_loss(redder, targets):.4f}")
      0.2525
    """
    pair = _read(predictions, targets, data_range, mask)
    floor = _checks.check_scalar("floor", floor, pair.targets.dtype)
    values, counts = flip_of_pair(pair, check_view(pixels_per_degree), floor)
    return _means.weighted_mean(values, counts, axis_name)


def ciede2000_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    lightness_factor: ArrayLike = 1.0,
    chroma_factor: ArrayLike = 1.0,
    hue_factor: ArrayLike = 1.0,
    data_range: ArrayLike = 1.0,
    mask: ArrayLike | None = None,
    axis_name: AxisName | None = None,
) -> jax.Array:
    r"""Mean CIEDE2000 colour difference, divided by 100.

    .. math:: L = \mathrm{mean} \; \Delta E_{00} / 100

    with :math:`\Delta E_{00}` the difference of :func:`lumloss_jax.metrics.ciede2000`. White
    against black is then 1, as in a pixel loss, so that the two can be weighed against each other.

    Args:
      predictions: float array ``[..., H, W, 3]``, gamma-encoded sRGB: red, green, blue; nominal
        range [0, ``data_range``], not clipped.
      targets: float array of the same shape.
      lightness_factor: k_L, above 0; it may be traced. Photographs fit best near 2.
      chroma_factor: k_C, above 0; it may be traced.
      hue_factor: k_H, above 0; it may be traced.
      data_range: distance from black to white, above 0; one number, may be traced.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1. The
        mean becomes a weighted mean. Where it is 0 the images are not read. If nothing counts, loss
        and gradient are 0.
      axis_name: mapped axis or axes (pmap, shard_map) over which numerator and weight are summed
        first: the value over all shards.

    Returns:
      The loss, shape (), 0 or more, lower is better; float64 for float64 input, else float32. The
      gradient where two colours are equal is 0.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 3]`` of the same shape, a
        data_range that is concretely 0 or less, a factor that is concretely 0 or less, or a mask
        that does not fit or is concretely negative.

    References:
      Sharma, Wu, Dalal, "The CIEDE2000 color-difference formula: implementation notes,
      supplementary test data, and mathematical observations", Color Research and Application 30(1),
      2005.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.full((1, 2, 2, 3), 128 / 255)
      >>> f"{ciede2000_loss(targets + 2 / 255, targets):.5f}"
      '0.00753'
    """
    pair = _read(predictions, targets, data_range, mask, channels=(3,))
    factors = {
        "lightness_factor": lightness_factor,
        "chroma_factor": chroma_factor,
        "hue_factor": hue_factor,
    }
    checked = {
        name: _checks.check_scalar(name, factor, pair.targets.dtype, minimum=SMALLEST_FACTOR)
        for name, factor in factors.items()
    }
    difference = ciede2000_of_lab(rgb_to_lab(pair.predictions), rgb_to_lab(pair.targets), **checked)
    return _means.weighted_mean(zero_where_equal(difference, pair) / 100, pair.mask, axis_name)


def haarpsi_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike = 1.0,
    mask: ArrayLike | None = None,
    axis_name: AxisName | None = None,
) -> jax.Array:
    r"""1 minus the mean HaarPSI.

    .. math:: L = 1 - \mathrm{mean}_n \, \mathrm{HaarPSI}(P_n, T_n)

    over the images; see :func:`lumloss_jax.metrics.haarpsi`. It compares sizes of details and not
    their signs, so an inverted image costs little, and so does an error without coarse details:
    add a pixel loss.

    Args:
      predictions: float array ``[..., H, W, C]``, C = 3 (red, green, blue) or 1, H and W at least
        16; nominal range [0, ``data_range``], not clipped.
      targets: float array of the same shape.
      data_range: distance from black to white, above 0; one number, may be traced.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1. A
        coefficient counts with the least weight over its largest window, 16 x 16 pixels, an image
        with the mean weight of its coefficients. Where it is 0 the images are not read. If nothing
        counts, loss and gradient are 0.
      axis_name: mapped axis or axes (pmap, shard_map) over which numerator and weight are summed
        first: the value over all shards. H and W themselves cannot be sharded.

    Returns:
      The loss, shape (), from 0 (equal) to below 1, lower is better; float64 for float64 input,
      else float32.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape or have a side below 16, a data_range that is concretely 0 or less, or a mask that
        does not fit or is concretely negative.

    References:
      Reisenhofer, Bosse, Kutyniok, Wiegand, "A Haar wavelet-based perceptual similarity index for
      image quality assessment", Signal Processing: Image Communication 61, 2018, arXiv:1607.06140.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.zeros((1, 16, 16, 1)).at[:, :, 8:].set(1.0)
      >>> blurred = targets.at[:, :, 6:10].set(0.5)
      >>> print(f"{haarpsi_loss(targets, targets):.4f} {haarpsi_loss(blurred, targets):.4f}")
      0.0000 0.5871
    """
    pair = _read(predictions, targets, data_range, mask)
    dtype = pair.targets.dtype
    constant, steepness = (jnp.asarray(value, dtype) for value in (_CONSTANT, _STEEPNESS))
    excess, counts = haarpsi_of_pair(pair, constant, steepness, downsample=True)
    # 1 - (1 + e)^2 = -e (2 + e), which keeps the digits of a small e
    return _mean_over_images(-excess * (2 + excess), counts, axis_name)


def nlpd_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    data_range: ArrayLike = 1.0,
    mask: ArrayLike | None = None,
    axis_name: AxisName | None = None,
) -> jax.Array:
    r"""Mean normalised Laplacian pyramid distance.

    .. math:: L = \mathrm{mean}_n \, \mathrm{NLPD}(P_n, T_n)

    over the images; see :func:`lumloss_jax.metrics.nlpd`. It reads luma only: add a loss that sees
    colour.

    Args:
      predictions: float array ``[..., H, W, C]``, C = 3 (red, green, blue) or 1, H and W at least
        33; nominal range [0, ``data_range``], not clipped.
      targets: float array of the same shape.
      data_range: distance from black to white, above 0; one number, may be traced.
      mask: weights per pixel, ``[..., H, W]`` or ``[..., H, W, 1]``, where any size may be 1. A
        pixel of a band counts with the least weight among the pixels that it was computed from, an
        image with its mean weight. A level in which no pixel counts is left out. Where the mask is
        0 the images are not read. If nothing counts, loss and gradient are 0.
      axis_name: mapped axis or axes (pmap, shard_map) over which numerator and weight are summed
        first: the value over all shards. H and W themselves cannot be sharded.

    Returns:
      The loss, shape (), from 0 (equal) to about 2, lower is better; float64 for float64 input,
      else float32.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape or have a side below 33, a data_range that is concretely 0 or less, or a mask that
        does not fit or is concretely negative.

    References:
      Laparra, Ballé, Berardino, Simoncelli, "Perceptual image quality assessment using a
      normalized Laplacian pyramid", Human Vision and Electronic Imaging, 2016.

    Example:
      >>> import jax.numpy as jnp
      >>> targets = jnp.full((1, 33, 33, 1), 0.5)
      >>> brighter, spot = targets + 0.1, targets.at[:, 16, 16].add(0.1)
      >>> print(f"{nlpd_loss(brighter, targets):.4f} {nlpd_loss(spot, targets):.4f}")
      0.0384 0.0281
    """
    pair = _read(predictions, targets, data_range, mask)
    distances, levels = nlpd_of_pair(pair)
    none = levels == 0
    values = distances / jnp.where(none, jnp.ones_like(levels), levels)
    counts = None
    if pair.mask is not None:
        counts = jnp.where(none[..., None, None, None], jnp.zeros_like(pair.mask), pair.mask)
    return _mean_over_images(values, counts, axis_name)


def _mean_over_images(
    values: jax.Array, counts: jax.Array | None, axis_name: AxisName | None
) -> jax.Array:
    """Mean of one value per image ``[...]``; an image counts with its mean weight."""
    if counts is None:
        return _means.weighted_mean(values[..., None], None, axis_name)
    weights = jnp.broadcast_to(jnp.mean(counts, (-3, -2, -1)), values.shape)
    return _means.weighted_mean(values[..., None], weights[..., None], axis_name)


def _read(
    predictions: ArrayLike,
    targets: ArrayLike,
    data_range: ArrayLike,
    mask: ArrayLike | None,
    channels: tuple[int, ...] = (1, 3),
) -> Pair:
    """Images of range 1, 0 where the mask is 0, and the mask."""
    p, t = _checks.check_pair(predictions, targets, channels=channels)
    weights = _checks.check_mask(mask, p)
    scale = _checks.check_data_range(data_range, p.dtype)
    return Pair(
        _means.hide_masked(p, weights) / scale, _means.hide_masked(t, weights) / scale, weights
    )
