"""Image quality metrics: one value per image, for reports and for choosing between models.

All take predictions and targets ``[..., H, W, C]`` and give ``[...]``, in float32 (float64 for float64 input). Each
docstring names the protocol, that is whose number it equals.
"""

from lumloss_jax.metrics._color_difference import ciede2000
from lumloss_jax.metrics._distortion import psnr
from lumloss_jax.metrics._structural import ssim

__all__ = ["ciede2000", "psnr", "ssim"]
