"""Degradations: clean images in, training and test inputs out, in pure functions.

All are jittable, and differentiable where that makes sense.

All are called alike, ``(key, image, *, options)``, so that they compose: a random key (those
without randomness take None too), a float image ``[..., H, W, C]`` of nominal range [0, 1], options
by keyword. Amounts (noise level, quality) are one number or one per image, in image units (25/255,
not 25), and may be traced. What differs from image to image is drawn by a function of its own, so
that it can be had: ``blind_sigma``, ``blind_sensor_variances``, ``low_light_exposure``. Computed in
float32 (float64 for float64 input); the same key gives the same result on any number of devices.
There is no mask: what a loss leaves out is the loss's business.
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
