"""Several degradations, one after the other."""

from collections.abc import Callable

import jax
from jax.typing import ArrayLike

from lumloss_jax.degradations import _inputs

Degradation = Callable[[jax.Array, ArrayLike], jax.Array]


def compose(*degradations: Degradation) -> Degradation:
    r"""Combines several degradations into one, which applies them from first to last.

    .. math:: y = d_n(k_n, \ldots d_2(k_2, d_1(k_1, x))), \quad k_i = \mathrm{fold\_in}(k, i)

    Each gets its own key, so their noises are independent, and adding one at the end does not
    change the ones before it. The result is called like any other degradation, and can be jitted,
    differentiated and composed again.

    Args:
      *degradations: functions of a key and an image: functions of this package with their options
        bound by ``functools.partial``, or your own.

    Returns:
      A function ``(key, image) -> image``.

    Raises:
      ValueError: for no degradation at all, or one that cannot be called. The returned function
        raises it for something that is not a random key, and raises whatever the degradations
        raise.

    References:
      Zhang et al., "Designing a Practical Degradation Model for Deep Blind Image Super-Resolution",
      ICCV 2021, where blur, noise and JPEG follow one another.

    Example:
      >>> from functools import partial
      >>> import jax, jax.numpy as jnp
      >>> from lumloss_jax.degradations import box_blur, gaussian_noise
      >>> degrade = compose(partial(box_blur, size=3), partial(gaussian_noise, sigma=10 / 255))
      >>> degraded = degrade(jax.random.key(0), jnp.full((32, 32, 1), 0.5))
      >>> print(f"{255 * jnp.std(degraded):.0f}")  # the blur leaves a flat image flat
      10
    """
    if not degradations:
        raise ValueError(
            "compose needs at least one degradation, such as functools.partial(gaussian_noise, "
            "sigma=0.1)."
        )
    for degradation in degradations:
        if not callable(degradation):
            raise ValueError(
                f"compose accepts functions of a key and an image; got {degradation!r}: bind "
                "options with functools.partial(gaussian_noise, sigma=0.1) instead of calling it."
            )

    def degrade(key: jax.Array, image: ArrayLike) -> jax.Array:
        key, degraded = _inputs.check_degradation(key, image)
        for index, degradation in enumerate(degradations):
            degraded = degradation(jax.random.fold_in(key, index), degraded)
        return degraded

    return degrade
