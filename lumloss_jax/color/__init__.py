"""Colour spaces of sRGB images, jittable and differentiable: luma, luminance, lightness, Y'CbCr, XYZ, Lab.

All take and give float arrays ``[..., H, W, C]``, red, green, blue, nominal range [0, 1], and compute in float32
(float64 for float64 input). Nothing is clipped. What loses no information has its inverse here.
"""

from lumloss_jax.color._lab import lab_to_rgb, rgb_to_lab, rgb_to_lightness, rgb_to_xyz, xyz_to_rgb
from lumloss_jax.color._luma import rgb_to_luma
from lumloss_jax.color._srgb import linear_to_srgb, rgb_to_luminance, srgb_to_linear
from lumloss_jax.color._ycbcr import rgb_to_ycbcr, ycbcr_to_rgb

__all__ = [
    "lab_to_rgb",
    "linear_to_srgb",
    "rgb_to_lab",
    "rgb_to_lightness",
    "rgb_to_luma",
    "rgb_to_luminance",
    "rgb_to_xyz",
    "rgb_to_ycbcr",
    "srgb_to_linear",
    "xyz_to_rgb",
    "ycbcr_to_rgb",
]
