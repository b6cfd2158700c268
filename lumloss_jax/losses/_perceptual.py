"""Perceptual loss: distance between the features that a fixed network sees in two images."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _checks, _means
from lumloss_jax._means import AxisName
from lumloss_jax.losses._penalties import make_penalty

PENALTIES = ("l1", "l2")

Features = Mapping[str, jax.Array] | Sequence[jax.Array]


def perceptual_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    features: Callable[[jax.Array], Features],
    layers: Mapping[str, ArrayLike] | Sequence[ArrayLike],
    penalty: str = "l1",
    mask: ArrayLike | None = None,
    axis_name: AxisName | None = None,
) -> jax.Array:
    r"""Weighted sum over layers of the mean difference between the features of two images.

    .. math::
        L = \sum_l w_l \, \mathrm{mean}_\text{elements} \, \rho\big(\phi_l(P) - \phi_l(T)\big)

    You provide the features :math:`\phi_l`: any function of an image batch, most often the
    activations of a frozen VGG or of a network trained on your own photographs. The function must
    scale its input as its network expects (for VGG: minus the ImageNet mean, divided by its
    standard deviation), accept greyscale if you pass it, and hold its parameters fixed. Gradients
    flow through it into the predictions.

    Args:
      predictions: float array ``[..., H, W, C]``, C = 3 (red, green, blue) or 1; nominal range [0,
        1], not clipped.
      targets: float array of the same shape.
      features: ``features(images)`` returns the layers of images ``[..., H, W, C]`` as a mapping of
        names to arrays, or as a sequence of arrays, each ``[..., anything]`` with the images'
        leading axes. It is called once for the predictions and once for the targets. With
        flax.linen, sow the activations or return them as a dict, and bind the variables: ``lambda
        images: vgg.apply(variables, images)``.
      layers: w_l, numbers of shape (), 0 or more, may be traced: name -> weight for features that
        are a mapping (layers that are not named are ignored), or one weight for each array of a
        sequence.
      penalty: rho. ``"l1"``, ``|x|``, or ``"l2"``, x^2 (without a half).
      mask: one weight per image, ``[..., 1, 1]`` or ``[..., 1, 1, 1]``, 0 or more; the means become
        weighted means over images. Weights per pixel are not possible, because a feature depends on
        many pixels. If you need them, multiply both images by such a mask first. Where the weight
        is 0, the images are not read. If all weights are 0, the loss and its gradient are 0.
      axis_name: mapped axis or axes (pmap, shard_map) over which numerator and weight are summed
        first, which gives the value over all shards.

    Returns:
      The loss, shape (), 0 or more, lower is better; float64 for float64 features, else float32.

    Raises:
      ValueError: when traced, for images that are not float ``[..., H, W, 1 or 3]`` of the same
        shape, a mask per pixel, layers that the features do not have, features that lack the
        images' leading axes, or a concrete negative weight.

    References:
      Johnson, Alahi, Fei-Fei, "Perceptual losses for real-time style transfer and
      super-resolution", ECCV 2016, arXiv:1603.08155.

    Example:
      >>> import jax.numpy as jnp
      >>> def features(images):  # normally a network
      ...     edges = images[:, :, 1:] - images[:, :, :-1]
      ...     return {"edges": edges, "mean": images.mean(axis=(1, 2))}
      >>> targets = jnp.zeros((1, 4, 4, 3))
      >>> layers = {"edges": 1.0, "mean": 0.5}
      >>> loss = perceptual_loss(targets + 0.1, targets, features=features, layers=layers)
      >>> print(f"{loss:.4f}")  # a shift has no edges
      0.0500
    """
    predictions, targets = _checks.check_pair(predictions, targets)
    weights = _check_weight_per_image(mask, predictions)
    _checks.check_option("penalty", penalty, PENALTIES)
    images = predictions.shape[:-3]
    seen, wanted = (
        features(_means.hide_masked(image, weights)) for image in (predictions, targets)
    )

    terms = []
    for label, weight, of_predictions, of_targets in _select(layers, seen, wanted):
        chex.assert_equal_shape([of_predictions, of_targets])
        if of_predictions.shape[: len(images)] != images:
            raise ValueError(
                f"features give {label} of shape {of_predictions.shape} for images of shape "
                f"{predictions.shape}: the leading axes must be the images', {images}."
            )
        dtype = _means.accumulation_dtype(of_predictions, of_targets)
        rho = make_penalty(penalty, dtype)
        # One value per image: [images, 1, 1, 1], like the weights.
        error = rho(of_predictions.astype(dtype) - of_targets.astype(dtype)).reshape(
            *images, 1, 1, -1
        )
        mean = _means.weighted_mean(
            error, None if weights is None else weights.astype(dtype), axis_name
        )
        terms.append(_checks.check_scalar(f"the weight of {label}", weight, dtype) * mean)
    dtype = _means.accumulation_dtype(*terms)
    return sum((term.astype(dtype) for term in terms[1:]), start=terms[0].astype(dtype))


def _check_weight_per_image(mask: ArrayLike | None, image: jax.Array) -> jax.Array | None:
    """The mask as ``[..., 1, 1, 1]``."""
    weights = _checks.check_mask(mask, image)
    if mask is not None and weights is not None and weights.shape[-3:] != (1, 1, 1):
        raise ValueError(
            f"mask has shape {jnp.shape(mask)}, but perceptual_loss accepts only one weight per "
            f"image, {(*image.shape[:-3], 1, 1)}, because a feature depends on many pixels. "
            "Multiply both images by a mask per pixel first."
        )
    return weights


def _select(
    layers: Any, seen: Any, wanted: Any
) -> list[tuple[str, ArrayLike, jax.Array, jax.Array]]:
    """Label, weight and both features of each requested layer."""
    if isinstance(layers, Mapping) != isinstance(seen, Mapping):
        raise ValueError(
            f"features give a {type(seen).__name__} and layers are a {type(layers).__name__}: "
            "for a mapping of features, give a mapping of names to weights; for a sequence, give "
            "one weight for each array."
        )
    if not len(layers):
        raise ValueError("layers is empty: give at least one layer and its weight.")
    if isinstance(layers, Mapping):
        for name in layers:
            if name not in seen:
                known = ", ".join(map(repr, seen))
                hint = _checks.did_you_mean(name, seen)
                raise ValueError(f"layers has {name!r}, but features give {known}{hint}")
        return [(repr(name), weight, seen[name], wanted[name]) for name, weight in layers.items()]
    if len(layers) != len(seen):
        raise ValueError(
            f"layers holds {len(layers)} weights, but features give {len(seen)} arrays: give one "
            "weight for each."
        )
    return [(f"layer {i}", weight, seen[i], wanted[i]) for i, weight in enumerate(layers)]
