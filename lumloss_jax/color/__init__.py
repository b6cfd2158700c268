"""Colour spaces of sRGB images, jittable and differentiable: luma, luminance, lightness, XYZ, Lab.

All take and give float arrays ``[..., H, W, C]``, red, green, blue, nominal range [0, 1], and compute in float32
(float64 for float64 input). Nothing is clipped.
"""

from lumloss_jax.color._lab import rgb_to_lab, rgb_to_lightness, rgb_to_xyz
from lumloss_jax.color._luma import rgb_to_luma
from lumloss_jax.color._srgb import linear_to_srgb, rgb_to_luminance, srgb_to_linear

__all__ = [
    "linear_to_srgb",
    "rgb_to_lab",
    "rgb_to_lightness",
    "rgb_to_luma",
    "rgb_to_luminance",
    "rgb_to_xyz",
    "srgb_to_linear",
]
