"""Noise of a camera's sensor: photons are counted (shot noise), then read out (read noise)."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _checks
from lumloss_jax.degradations import _inputs
from lumloss_jax.degradations._straight_through import clip_to_range

SAMPLINGS = ("normal", "poisson")

# Above this many photons, jax's rejection sampler loses digits to float32 (its logarithms reach
# 1e5), while the Poisson distribution has a skewness of only 0.01. So the normal distribution
# replaces it there.
_MOST_COUNTED = 1e4

# The logarithm is taken of this value. It is far smaller than any sensor's.
_SMALLEST_SHOT = 1e-12

# Brooks et al. 2019, fitted to the cameras of the Darmstadt noise data set.
_READ_SLOPE, _READ_INTERCEPT, _READ_SPREAD = 2.18, 1.20, 0.26


class SensorVariances(NamedTuple):
    """The two parameters of :func:`poisson_gaussian_noise`.

    Attributes:
      shot_variance: variance per unit of signal, a in a x + b.
      read_variance: variance in the dark, b in a x + b.
    """

    shot_variance: jax.Array
    read_variance: jax.Array


def poisson_gaussian_noise(
    key: jax.Array,
    image: ArrayLike,
    *,
    shot_variance: ArrayLike,
    read_variance: ArrayLike,
    sampling: str = "normal",
    clip: bool = False,
) -> jax.Array:
    r"""Adds sensor noise, whose variance grows with the signal.

    .. math:: \mathrm{E}[y] = x, \quad \mathrm{Var}[y] = a \max(x, 0) + b

    with a the shot variance and b the read variance. Photon counts are proportional to linear
    light: on linear images this is the noise of a camera, on gamma-encoded images it is merely some
    noise that depends on the signal.

    Args:
      key: one random key, typed or legacy, for the whole batch.
      image: float array ``[..., H, W, C]``, C = 3 or 1, nominal range [0, 1].
      shot_variance: a, the variance that white adds, 0 or more: one over the number of photons at
        white. One number or one per image, ``image.shape[:-3]``; may be traced.
        :func:`blind_sensor_variances` draws it.
      read_variance: b, the variance at black, 0 or more, in the same form. It is the square of a
        sigma in image units.
      sampling: ``"normal"``, y = x + sqrt(a x + b) n with n standard normal: cheap, and
        differentiable with respect to x, a and b. ``"poisson"``, y = a Poisson(x / a) + sqrt(b) n:
        whole photons, with the skewed distribution of real ones in the dark. It is slower (some 25
        times on a CPU) and needs a threefry key; its gradient with respect to the image is taken as
        1, and with respect to a as 0. Above 10,000 photons, where the two agree, it draws from the
        normal one.
      clip: whether to clip the result to [0, 1], as a sensor that saturates does. Clipped values
        pass no gradient.

    Returns:
      The noisy image, same shape; float64 for float64 input, else float32.

    Raises:
      ValueError: when traced, for something that is not a random key, an image that is not float
        ``[..., H, W, 1 or 3]``, a variance of a different shape, a concrete one that is negative or
        not finite, or an unknown sampling.

    References:
      Foi et al., "Practical Poissonian-Gaussian Noise Modeling and Fitting for Single-Image
      Raw-Data", TIP 2008.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> image = jnp.stack([jnp.full((64, 64, 3), 0.1), jnp.full((64, 64, 3), 0.8)])
      >>> variances = dict(shot_variance=0.01, read_variance=1e-4)
      >>> noisy = poisson_gaussian_noise(jax.random.key(0), image, **variances)
      >>> dark, bright = jnp.std(noisy - image, axis=(1, 2, 3))
      >>> # sqrt(0.01 * 0.1 + 0.0001) and sqrt(0.01 * 0.8 + 0.0001)
      >>> print(f"{dark:.2f} {bright:.2f}")
      0.03 0.09
    """
    key, image = _inputs.check_degradation(key, image)
    shot = _inputs.check_amount("shot_variance", shot_variance, image.shape, image.dtype)
    read = _inputs.check_amount("read_variance", read_variance, image.shape, image.dtype)
    _checks.check_option("sampling", sampling, SAMPLINGS)
    clip = _inputs.check_flag("clip", clip)
    if sampling == "normal":
        noisy = image + sensor_sigma(image, shot, read) * jax.random.normal(
            key, image.shape, image.dtype
        )
    else:
        key_of_photons, key_of_readout = jax.random.split(_check_threefry(key))
        photons = _photon_noise(key_of_photons, image, shot)
        read_sigma = sensor_sigma(jnp.zeros_like(image), shot, read)
        noisy = (
            image
            + photons
            + read_sigma * jax.random.normal(key_of_readout, image.shape, image.dtype)
        )
    chex.assert_equal_shape([noisy, image])
    return clip_to_range(noisy) if clip else noisy


def blind_sensor_variances(
    key: jax.Array,
    shape: tuple[int, ...],
    *,
    minimum_shot: ArrayLike = 1e-4,
    maximum_shot: ArrayLike = 0.012,
) -> SensorVariances:
    r"""Draws the variances of real cameras' noise, from low to high ISO.

    .. math:: \log a \sim \mathcal{U}(\log a_{\min}, \log a_{\max}), \quad
        \log b \sim \mathcal{N}(2.18 \log a + 1.20, 0.26)

    The two are correlated, because a higher gain raises both. Values are for linear light with
    white at 1.

    Args:
      key: one random key, typed or legacy.
      shape: shape of each result, ``images.shape[:-3]`` for one per image.
      minimum_shot: lowest shot variance, above 0; one number, may be traced.
      maximum_shot: highest shot variance, at least ``minimum_shot``; one number, may be traced.

    Returns:
      ``SensorVariances(shot_variance, read_variance)``, float32, each of ``shape``.

    Raises:
      ValueError: for something that is not a random key, a shape that is not a tuple of sizes,
        concrete bounds that are not above 0, not finite or in the wrong order.

    References:
      Brooks et al., "Unprocessing Images for Learned Raw Denoising", CVPR 2019.

    Example:
      >>> import jax
      >>> variances = blind_sensor_variances(jax.random.key(0), (4,))  # for four images
      >>> shot = variances.shot_variance
      >>> shot.shape, bool(1e-4 <= shot.min() and shot.max() <= 0.012)
      ((4,), True)
    """
    key = _inputs.check_key(key)
    shape = _inputs.check_sizes("shape", shape)
    lowest, highest = _inputs.check_range(
        "minimum_shot", minimum_shot, "maximum_shot", maximum_shot, minimum=_SMALLEST_SHOT
    )
    key_of_shot, key_of_read = jax.random.split(key)
    log_shot = jax.random.uniform(
        key_of_shot, shape, jnp.float32, jnp.log(lowest), jnp.log(highest)
    )
    log_read = _READ_SLOPE * log_shot + _READ_INTERCEPT
    log_read = log_read + _READ_SPREAD * jax.random.normal(key_of_read, shape, jnp.float32)
    return SensorVariances(jnp.exp(log_shot), jnp.exp(log_read))


def sensor_sigma(image: jax.Array, shot: jax.Array, read: jax.Array) -> jax.Array:
    """sqrt(a x + b), with a gradient of 0 where it is 0: the root's own is infinite there."""
    variance = shot * jnp.maximum(image, 0) + read
    noisy = variance > 0
    return jnp.where(
        noisy,
        jnp.sqrt(jnp.where(noisy, variance, jnp.ones_like(variance))),
        jnp.zeros_like(variance),
    )


def _photon_noise(key: jax.Array, image: jax.Array, shot: jax.Array) -> jax.Array:
    """The noise of counting, a Poisson(x / a) - x.

    It is a constant for gradients, because whole numbers have none.
    """
    key_of_few, key_of_many = jax.random.split(key)
    image, shot = jax.lax.stop_gradient(
        (jnp.maximum(image, 0), jnp.broadcast_to(shot, image.shape))
    )
    counting = shot > 0
    photons = image / jnp.where(counting, shot, jnp.ones_like(shot))
    few = counting & (photons <= _MOST_COUNTED)
    mean = jnp.where(few, photons, jnp.zeros_like(photons)).astype(jnp.float32)
    count = jax.random.poisson(key_of_few, mean, dtype=jnp.int32).astype(image.dtype)
    many = sensor_sigma(image, shot, jnp.zeros_like(shot)) * jax.random.normal(
        key_of_many, image.shape, image.dtype
    )
    return jnp.where(few, shot * (count - photons), many)


def _check_threefry(key: jax.Array) -> jax.Array:
    implementation = str(jax.random.key_impl(key))
    if "threefry" not in implementation:
        raise ValueError(
            "sampling='poisson' needs a threefry key, because jax samples Poisson with no other; "
            f"got one of {implementation}: make one with jax.random.key(0, impl='threefry2x32'), "
            "or use sampling='normal'."
        )
    return key
