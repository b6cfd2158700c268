"""Image quality metrics: one value per image, for reports and for choosing between models.

All functions accept predictions and targets ``[..., H, W, C]`` and return ``[...]``, in float32
(float64 for float64 input). Each docstring names the protocol: the implementations that give the
same number.
"""

from lumloss_jax.metrics._brightness_and_chroma import brightness_error, chroma_error
from lumloss_jax.metrics._color_difference import cie76, ciede2000
from lumloss_jax.metrics._distortion import mae, mse, psnr, psnr_y
from lumloss_jax.metrics._flip import flip, flip_map
from lumloss_jax.metrics._gmsd import gmsd, ms_gmsd
from lumloss_jax.metrics._haarpsi import haarpsi
from lumloss_jax.metrics._mdsi import mdsi
from lumloss_jax.metrics._nlpd import nlpd
from lumloss_jax.metrics._psnr_hvs import psnr_hvs, psnr_hvs_m
from lumloss_jax.metrics._s_cielab import s_cielab
from lumloss_jax.metrics._structural import ms_ssim, ssim

__all__ = [
    "brightness_error",
    "chroma_error",
    "cie76",
    "ciede2000",
    "flip",
    "flip_map",
    "gmsd",
    "haarpsi",
    "mae",
    "mdsi",
    "ms_gmsd",
    "ms_ssim",
    "mse",
    "nlpd",
    "psnr",
    "psnr_hvs",
    "psnr_hvs_m",
    "psnr_y",
    "s_cielab",
    "ssim",
]
