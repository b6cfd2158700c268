"""Degradations: pure functions that turn clean images into inputs for training and testing.

All can be jitted, and differentiated if that makes sense.

All are called in the same way, ``(key, image, *, options)``, so that they compose: with a random
key (None is accepted by those without randomness), a float image ``[..., H, W, C]`` of nominal
range [0, 1], and options by keyword. Amounts (noise level, quality) are one number or one per
image, in image units (25/255, not 25), and may be traced. Amounts that differ from image to image
come from functions of their own, so that you can use or log them: ``blind_sigma``,
``blind_sensor_variances``, ``low_light_exposure``. Everything is computed in float32 (float64 for
float64 input), and the same key gives the same result on any number of devices. There is no mask:
ignoring pixels is up to the loss.
"""

from lumloss_jax.degradations._blur import box_blur, gaussian_blur
from lumloss_jax.degradations._composition import compose
from lumloss_jax.degradations._jpeg import jpeg
from lumloss_jax.degradations._low_light import low_light, low_light_exposure
from lumloss_jax.degradations._noise import blind_sigma, gaussian_noise, sigma_ramp
from lumloss_jax.degradations._sensor import (
    SensorVariances,
    blind_sensor_variances,
    poisson_gaussian_noise,
)

__all__ = [
    "SensorVariances",
    "blind_sensor_variances",
    "blind_sigma",
    "box_blur",
    "compose",
    "gaussian_blur",
    "gaussian_noise",
    "jpeg",
    "low_light",
    "low_light_exposure",
    "poisson_gaussian_noise",
    "sigma_ramp",
]
