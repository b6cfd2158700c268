"""Several degradations, one after the other."""

from collections.abc import Callable

import jax
from jax.typing import ArrayLike

from lumloss_jax.degradations import _inputs

Degradation = Callable[[jax.Array, ArrayLike], jax.Array]


def compose(*degradations: Degradation) -> Degradation:
    r"""One degradation out of several, applied from first to last.

    .. math:: y = d_n(k_n, \ldots d_2(k_2, d_1(k_1, x))), \quad k_i = \mathrm{fold\_in}(k, i)

    Each gets a key of its own, so their noises are independent; adding one at the end leaves those
    before it as they were. What comes out is called like any other degradation, jits,
    differentiates and composes again.

    Args:
      *degradations: functions of a key and an image: those of this package with their options bound
        by ``functools.partial``, or your own.

    Returns:
      A function ``(key, image) -> image``.

    Raises:
      ValueError: for no degradation at all, or one that cannot be called; from the function that
        comes out, for a key that is none, and whatever the degradations raise.

    References:
      Zhang et al., "Designing a Practical Degradation Model for Deep Blind Image Super-Resolution",
      ICCV 2021, where blur, noise and JPEG follow one another.

    Example:
      >>> from functools import partial
      >>> import jax, jax.numpy as jnp
      >>> from lumloss_jax.degradations import gaussian_blur, gaussian_noise, jpeg
      >>> degrade = compose(
      ...     partial(gaussian_blur, sigma=1.0),
      ...     partial(gaussian_noise, sigma=10 / 255),
      ...     partial(jpeg, quality=40),
      ... )
      >>> degrade(jax.random.key(0), jnp.full((2, 24, 24, 3), 0.5)).shape
      (2, 24, 24, 3)
    """
    if not degradations:
        raise ValueError(
            "compose takes at least one degradation, such as functools.partial(gaussian_noise, "
            "sigma=0.1)."
        )
    for degradation in degradations:
        if not callable(degradation):
            raise ValueError(
                f"compose takes functions of a key and an image; got {degradation!r}: bind "
                "options with functools.partial(gaussian_noise, sigma=0.1) instead of calling."
            )

    def degrade(key: jax.Array, image: ArrayLike) -> jax.Array:
        key, degraded = _inputs.check_degradation(key, image)
        for index, degradation in enumerate(degradations):
            degraded = degradation(jax.random.fold_in(key, index), degraded)
        return degraded

    return degrade
