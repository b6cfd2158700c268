"""Colour spaces of sRGB images, jittable and differentiable, and encodings of linear light.

The spaces are luma, luminance, lightness, Y'CbCr, XYZ, Lab, OKLab, ICtCp and HVI. The encodings are
sRGB, PQ and PU21.

All functions accept and return float arrays ``[..., H, W, C]``, with channels red, green, blue and
nominal range [0, 1], and compute in float32 (float64 for float64 input). Nothing is clipped. Every
conversion that loses no information has its inverse here.
"""

from lumloss_jax.color._hvi import hvi_to_rgb, rgb_to_hvi
from lumloss_jax.color._ictcp import ictcp_to_rgb, rgb_to_ictcp
from lumloss_jax.color._lab import lab_to_rgb, rgb_to_lab, rgb_to_lightness, rgb_to_xyz, xyz_to_rgb
from lumloss_jax.color._luma import rgb_to_luma
from lumloss_jax.color._luminance_encodings import (
    linear_to_pq,
    linear_to_pu21,
    pq_to_linear,
    pu21_to_linear,
)
from lumloss_jax.color._oklab import oklab_to_rgb, rgb_to_oklab
from lumloss_jax.color._srgb import linear_to_srgb, rgb_to_luminance, srgb_to_linear
from lumloss_jax.color._ycbcr import rgb_to_ycbcr, ycbcr_to_rgb

__all__ = [
    "hvi_to_rgb",
    "ictcp_to_rgb",
    "lab_to_rgb",
    "linear_to_pq",
    "linear_to_pu21",
    "linear_to_srgb",
    "oklab_to_rgb",
    "pq_to_linear",
    "pu21_to_linear",
    "rgb_to_hvi",
    "rgb_to_ictcp",
    "rgb_to_lab",
    "rgb_to_lightness",
    "rgb_to_luma",
    "rgb_to_luminance",
    "rgb_to_oklab",
    "rgb_to_xyz",
    "rgb_to_ycbcr",
    "srgb_to_linear",
    "xyz_to_rgb",
    "ycbcr_to_rgb",
]
