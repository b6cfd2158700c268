"""Input checks, all in one place.

Every public function calls these first and then does its computation. A check looks only at static
facts (dtype, rank, sizes, and values that are concrete), so it runs once, when a function is
traced, and costs a compiled step nothing. It raises ``ValueError`` with the argument's name, what
was given, what is accepted and what to do; ``chex.disable_asserts()`` does not silence it. Symbolic
sizes (``jax.export``) are not checked.
"""

import difflib
import math
import operator
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from lumloss_jax._means import accumulation_dtype

_WIDEST_WINDOW = 65_535  # wider than any photograph; its weights are a tuple in memory


def check_image(name: str, image: ArrayLike, *, channels: tuple[int, ...] = (1, 3)) -> jax.Array:
    """Checks one float image ``[..., H, W, C]`` and returns it in the accumulation dtype."""
    try:
        image = jnp.asarray(image)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} must be a float array [..., H, W, C]; got {type(image).__name__}."
        ) from None
    shape = image.shape
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(_wrong_dtype(name, image))
    if image.ndim < 3:
        raise ValueError(
            f"{name} has shape {shape}, which lacks a channel axis: images are [..., H, W, C]. "
            f"Add the axis with {name}[..., None]."
        )
    if isinstance(shape[-1], int) and shape[-1] not in channels:
        raise ValueError(_wrong_channels(name, shape, channels))
    if any(isinstance(size, int) and size == 0 for size in shape):
        raise ValueError(
            f"{name} has shape {shape}, which holds no pixels: every size must be at least 1."
        )
    return image.astype(accumulation_dtype(image))


def check_pair(
    predictions: ArrayLike, targets: ArrayLike, *, channels: tuple[int, ...] = (1, 3)
) -> tuple[jax.Array, jax.Array]:
    """Checks two float images of the same shape and returns both in one accumulation dtype.

    Images are ``[..., H, W, C]``.
    """
    predictions = check_image("predictions", predictions, channels=channels)
    targets = check_image("targets", targets, channels=channels)
    if predictions.shape != targets.shape:
        raise ValueError(
            f"predictions have shape {predictions.shape} and targets {targets.shape}: the two "
            "must be the same. They are not broadcast, because comparing a greyscale image with "
            "a colour image would silently give a wrong result."
        )
    dtype = accumulation_dtype(predictions, targets)
    return predictions.astype(dtype), targets.astype(dtype)


def check_mask(mask: ArrayLike | None, image: jax.Array) -> jax.Array | None:
    """Checks per-pixel weights against an image; returns ``[..., H, W, 1]`` in the image's dtype.

    The mask has either one axis fewer than the image, or the same number of axes with a last one of
    size 1. Each of its other sizes is the image's or 1.
    """
    if mask is None:
        return None
    _check_not_negative("mask", mask)
    mask = jnp.asarray(mask)
    if jnp.issubdtype(mask.dtype, jnp.complexfloating):
        raise ValueError(
            f"mask has dtype {mask.dtype}, but weights are bool, integer or float: use its real "
            "part."
        )
    shape = mask.shape
    if mask.ndim == image.ndim - 1:
        mask = mask[..., None]
    fits = mask.ndim == image.ndim and all(
        size == 1 or size == wanted or not (isinstance(size, int) and isinstance(wanted, int))
        for size, wanted in zip(mask.shape, (*image.shape[:-1], 1), strict=True)
    )
    if not fits:
        raise ValueError(
            f"mask has shape {shape} for images of shape {image.shape}: it must have shape "
            f"{image.shape[:-1]} or {(*image.shape[:-1], 1)}, where any size may be 1. For one "
            f"weight per image, use mask.reshape(-1{', 1' * (image.ndim - 2)})."
        )
    return mask.astype(image.dtype)


def check_scalar(
    name: str, value: ArrayLike, dtype: jnp.dtype, *, minimum: float | None = None
) -> jax.Array:
    """Checks a number that may be traced: shape (), and if concrete, finite and not negative.

    ``minimum`` is the smallest value that is accepted, for scales that must not be zero.
    """
    if isinstance(value, str | bytes) or value is None or np.shape(value) != ():
        got = (
            f"shape {np.shape(value)}"
            if not isinstance(value, str | bytes) and value is not None
            else repr(value)
        )
        raise ValueError(
            f"{name} must be one number, shape (); got {got}. To try several, use jax.vmap."
        )
    _check_not_negative(name, value)
    number = jnp.asarray(value)
    if jnp.issubdtype(number.dtype, jnp.complexfloating):
        raise ValueError(f"{name} must be a real number; got dtype {number.dtype}.")
    # Not `number`: inside jit that is traced, however concrete the value
    host = _value_on_host(value)
    if minimum is not None and host is not None and host < minimum:
        raise ValueError(f"{name} must be at least {minimum:g}; got {host:g}.")
    return number.astype(dtype)


def check_option(name: str, value: object, accepted: Iterable[str]) -> str:
    """Checks that a named option has one of the accepted values."""
    accepted = tuple(accepted)
    if isinstance(value, str) and value in accepted:
        return value
    listed = ", ".join(map(repr, accepted))
    raise ValueError(f"{name} accepts {listed}; got {value!r}{did_you_mean(value, accepted)}")


def did_you_mean(given: object, accepted: Iterable[str], *, otherwise: str = ".") -> str:
    """The end of a message: a question that suggests the accepted name closest to the given one.

    Args:
      given: what was given.
      accepted: names that are accepted.
      otherwise: the end if none of them is close.

    Returns:
      "; did you mean 'name'?", or ``otherwise``.
    """
    near = difflib.get_close_matches(str(given), accepted, n=1)
    return f"; did you mean {near[0]!r}?" if near else otherwise


def check_odd_size(name: str, value: object) -> int:
    """Checks a window's size: a static, odd, positive integer."""
    size = _static_int(name, value, "an odd int, 1 or more", 7)
    if size < 1 or size % 2 == 0:
        raise ValueError(
            f"{name} must be odd and at least 1, so that a window has a centre; got {size}."
        )
    if size > _WIDEST_WINDOW:
        raise ValueError(f"{name} is a side in pixels, at most {_WIDEST_WINDOW}; got {size}.")
    return size


def check_count(name: str, value: object, *, minimum: int = 0) -> int:
    """Checks a static whole number of at least ``minimum``, such as pixels of a border."""
    wanted = f"an int, {minimum} or more"
    count = _static_int(name, value, wanted, 4)
    if count < minimum:
        raise ValueError(f"{name} must be {wanted}; got {count}.")
    return count


def check_data_range(data_range: ArrayLike, dtype: jnp.dtype) -> jax.Array:
    """Checks the distance from black to white: one number above 0, which may be traced."""
    if (
        not isinstance(data_range, jax.core.Tracer)
        and np.shape(data_range) == ()
        and data_range == 0
    ):
        raise ValueError(
            "data_range must be more than 0: 1.0 for images in [0, 1], 255.0 for images in [0, "
            "255]."
        )
    return check_scalar("data_range", data_range, dtype)


def check_sides(image: jax.Array, minimum: int, metric: str, *, advice: str = "") -> None:
    """Checks that height and width are at least ``minimum``, as far as they are known.

    Args:
      image: the image ``[..., H, W, C]``, without any border that was cut off.
      minimum: least height and width, in pixels.
      metric: what needs so many, the subject of the message.
      advice: a sentence that says what to do.

    Raises:
      ValueError: the image is smaller.
    """
    if any(isinstance(size, int) and size < minimum for size in image.shape[-3:-1]):
        height, width = image.shape[-3:-1]
        raise ValueError(
            f"{metric} needs at least {minimum} x {minimum} pixels after any crop_border; got "
            f"{height} x {width}.{' ' if advice else ''}{advice}"
        )


def check_crop_border(border: object, image: jax.Array) -> int:
    """Checks the number of pixels to cut off each side: static, and it must leave a pixel."""
    border = check_count("crop_border", border)
    if any(isinstance(size, int) and size <= 2 * border for size in image.shape[-3:-1]):
        height, width = image.shape[-3:-1]
        raise ValueError(
            f"crop_border={border} leaves nothing of images of {height} x {width} pixels: it cuts "
            "that many pixels off each side, so it can be at most "
            f"{(min(s for s in (height, width) if isinstance(s, int)) - 1) // 2} here."
        )
    return border


def check_static_number(name: str, value: Any, *, above: float) -> float:
    """Checks a number that must be known at trace time: finite, and more than ``above``."""
    if isinstance(value, jax.core.Tracer):
        raise ValueError(
            f"{name} is traced, but it must be a static Python number: bind it with "
            "functools.partial."
        )
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be one number; got {value!r}.") from None
    if not math.isfinite(number) or number <= above:
        raise ValueError(f"{name} must be more than {above:g}; got {value!r}.")
    return number


def _static_int(name: str, value: Any, wanted: str, example: int) -> int:
    if isinstance(value, jax.core.Tracer):
        raise ValueError(
            f"{name} is traced, but it sets shapes and must be a static int: bind it before jit "
            f"with functools.partial(..., {name}={example}), or list it in jit's static_argnames."
        )
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be {wanted}; got {value!r}.") from None


def _wrong_dtype(name: str, image: jax.Array) -> str:
    start = f"{name} have dtype {image.dtype}, but images are floats of nominal range [0, 1]: "
    if jnp.issubdtype(image.dtype, jnp.integer):
        peak = {"uint8": 255, "uint16": 65535}.get(str(image.dtype), 255)
        return f"{start}convert with {name}.astype('float32') / {peak}."
    return f"{start}convert with {name}.astype('float32')."


def _wrong_channels(name: str, shape: tuple[int, ...], channels: tuple[int, ...]) -> str:
    start = f"{name} have shape {shape}, but images are [..., H, W, C] with C in {channels}: "
    if shape[-1] == 4:
        return f"{start}four channels look like RGBA, so drop alpha with {name}[..., :3]."
    if shape[-1] in (1, 3):
        return (
            f"{start}this function needs colour. If you mean greyscale, repeat the channel three "
            "times."
        )
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return (
            f"{start}channels first (CHW)? Use jnp.moveaxis({name}, -3, -1). "
            f"Greyscale images without a channel axis? Use {name}[..., None]."
        )
    if shape[-3] in (1, 3, 4):
        return f"{start}this looks like channels first (NCHW), so use jnp.moveaxis({name}, -3, -1)."
    return f"{start}if these are greyscale without a channel axis, use {name}[..., None]."


def _value_on_host(value: ArrayLike) -> np.ndarray | None:
    """The value if it can be read here, else None."""
    if isinstance(value, jax.core.Tracer):
        return None
    if isinstance(value, jax.Array) and not value.is_fully_addressable:
        return None  # a global array of several hosts: this process cannot read it
    # device_get is an explicit transfer: it stays allowed under jax.transfer_guard("disallow").
    return np.asarray(jax.device_get(value))


def _check_not_negative(name: str, value: ArrayLike) -> None:
    """Refuses concrete values that are negative or not finite; traced ones cannot be read."""
    host = _value_on_host(value)
    if host is None:
        return
    if host.dtype == np.bool_ or np.issubdtype(host.dtype, np.complexfloating) or host.size == 0:
        return
    try:
        numbers = host.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be numeric; got {value!r}.") from None
    lowest = numbers.min()
    if not np.isfinite(numbers).all() or lowest < 0:
        worst = lowest if lowest < 0 else numbers[~np.isfinite(numbers)].flat[0]
        raise ValueError(f"{name} must be finite and not negative; got {worst:g}.")
