"""The one way to run a trained network on a photograph."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from train.sharding import compiler_options

Predict = Callable[[np.ndarray], np.ndarray]


def make_predictor(model: nn.Module, params: Any, batch_stats: Any, *, sigma: float) -> Predict:
    """predict(noisy) -> restored, both float32 ``[H, W, C]``; the output is clipped to [0, 1].

    The whole photograph goes through the network at once; one size of photograph compiles once. ``sigma``, in image
    units, is told to networks that take it.
    """
    variables = {"params": params, "batch_stats": batch_stats}
    known = sigma if model.takes_sigma else None

    def restore(variables: Any, noisy: jax.Array) -> jax.Array:
        return jax.numpy.clip(model.apply(variables, noisy[None], sigma=known)[0], 0, 1)

    compiled = jax.jit(restore, compiler_options=compiler_options())
    return lambda noisy: np.asarray(compiled(variables, noisy))
