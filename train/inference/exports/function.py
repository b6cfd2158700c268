"""A network as one function of images, which is what the exported formats hold."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

PRODUCER = "lumloss_jax"  # marks a file as written by this program
NAME = f"{PRODUCER}_restore"


def restoring_function(model: nn.Module, variables: Any) -> Callable[..., jax.Array]:
    """The network with its variables inside, and with its output clipped to [0, 1].

    Args:
      model: the network, in the form of :func:`~train.inference.predict.for_inference`.
      variables: its variables.

    Returns:
      A function of images ``[b, h, w, C]`` and, for networks that need it, of the noise level in
      image units, ``[b]`` or ``[b, h, w]``.
    """

    def restore(images: jax.Array, *levels: jax.Array) -> jax.Array:
        (sigma,) = levels or (None,)
        with jax.default_matmul_precision("float32"):
            restored = model.apply(variables, images, sigma=sigma)
        return jnp.clip(jnp.asarray(restored), 0, 1)

    restore.__name__ = NAME
    return restore
