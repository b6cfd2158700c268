"""The CIEDE2000 formula, with a finite gradient for equal colours, greys and opposite hues.

Sharma, Wu, Dalal, "The CIEDE2000 color-difference formula: implementation notes, supplementary test
data, and mathematical observations", Color Research and Application 30(1), 2005.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

_25_TO_7 = 25.0**7

# A difference is divided by its factor; with a smaller one its square would overflow in float32.
SMALLEST_FACTOR = 1e-6


def ciede2000_of_lab(
    lab_1: jax.Array,
    lab_2: jax.Array,
    *,
    lightness_factor: ArrayLike = 1.0,
    chroma_factor: ArrayLike = 1.0,
    hue_factor: ArrayLike = 1.0,
) -> jax.Array:
    """CIEDE2000 of two arrays of Lab colours ``[..., 3]``, as ``[..., 1]``.

    Equations are numbered as in Sharma et al.
    """
    l_1, a_1, b_1 = (lab_1[..., i : i + 1] for i in range(3))
    l_2, a_2, b_2 = (lab_2[..., i : i + 1] for i in range(3))
    # (2)-(7): a is stretched near grey; chroma and hue follow from it.
    g = 0.5 * (1 - _seventh_power_share((chroma(a_1, b_1) + chroma(a_2, b_2)) / 2))
    a_1, a_2 = (1 + g) * a_1, (1 + g) * a_2
    c_1, c_2 = chroma(a_1, b_1), chroma(a_2, b_2)
    h_1, h_2 = _hue(a_1, b_1), _hue(a_2, b_2)
    # (8)-(11): the difference of hues is the shorter way around; with a grey it is 0.
    grey = c_1 * c_2 == 0
    angle = h_2 - h_1
    angle = jnp.where(
        angle > math.pi,
        angle - 2 * math.pi,
        jnp.where(angle < -math.pi, angle + 2 * math.pi, angle),
    )
    angle = jnp.where(grey, jnp.zeros_like(angle), angle)
    dl, dc, dh = l_2 - l_1, c_2 - c_1, 2 * safe_sqrt(c_1 * c_2) * jnp.sin(angle / 2)
    # (12)-(14): means; if two hues are more than half a turn apart, their mean is on the other
    # side.
    mean_l, mean_c, hue_sum = (l_1 + l_2) / 2, (c_1 + c_2) / 2, h_1 + h_2
    apart = jnp.abs(h_1 - h_2) > math.pi
    other_side = jnp.where(hue_sum < 2 * math.pi, hue_sum / 2 + math.pi, hue_sum / 2 - math.pi)
    mean_h = jnp.where(grey, hue_sum, jnp.where(apart, other_side, hue_sum / 2))
    # (15)-(21): weighting functions and the rotation of blue.
    t = (
        1
        - 0.17 * jnp.cos(mean_h - math.radians(30))
        + 0.24 * jnp.cos(2 * mean_h)
        + 0.32 * jnp.cos(3 * mean_h + math.radians(6))
        - 0.20 * jnp.cos(4 * mean_h - math.radians(63))
    )
    from_50 = jnp.square(mean_l - 50)
    s_l = 1 + 0.015 * from_50 / jnp.sqrt(20 + from_50)
    s_c = 1 + 0.045 * mean_c
    s_h = 1 + 0.015 * mean_c * t
    turn = math.radians(30) * jnp.exp(-jnp.square((mean_h - math.radians(275)) / math.radians(25)))
    r_t = -jnp.sin(2 * turn) * 2 * _seventh_power_share(mean_c)
    # (22)
    dl = dl / (lightness_factor * s_l)
    dc = dc / (chroma_factor * s_c)
    dh = dh / (hue_factor * s_h)
    return safe_sqrt(dl * dl + dc * dc + dh * dh + r_t * dc * dh)


def safe_sqrt(square: jax.Array) -> jax.Array:
    """Square root with slope 0 at 0, where the true slope is infinite.

    The argument is never negative, except by rounding.
    """
    positive = square > 0
    return jnp.where(
        positive,
        jnp.sqrt(jnp.where(positive, square, jnp.ones_like(square))),
        jnp.zeros_like(square),
    )


def chroma(a: jax.Array, b: jax.Array) -> jax.Array:
    """C* of a* and b*, with slope 0 for a grey, where the slope is undefined."""
    return safe_sqrt(a * a + b * b)


def euclidean(vectors: jax.Array) -> jax.Array:
    """Length of the last axis, kept as 1."""
    return safe_sqrt(jnp.sum(vectors * vectors, axis=-1, keepdims=True))


def _seventh_power_share(c: jax.Array) -> jax.Array:
    """sqrt(c^7 / (c^7 + 25^7)), which is c^3.5 / sqrt(...): its slope at 0 is 0."""
    return c * c * c * safe_sqrt(c) / jnp.sqrt(c**7 + _25_TO_7)


def _hue(a: jax.Array, b: jax.Array) -> jax.Array:
    """Angle from 0 to 2 pi; 0, with slope 0, for a grey."""
    # Tested on the square by which the slope is divided: it underflows at 1e-20, before a and b do.
    grey = a * a + b * b == 0
    angle = jnp.arctan2(jnp.where(grey, jnp.zeros_like(b), b), jnp.where(grey, jnp.ones_like(a), a))
    return jnp.where(angle < 0, angle + 2 * math.pi, angle)
