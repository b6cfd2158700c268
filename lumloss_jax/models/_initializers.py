"""Initial values of a network's parameters: the published recipes, each under one name.

| name | convolutions | last convolution | biases | batch-norm gain | used by |
|---|---|---|---|---|---|
| ``zero_last`` | normal, variance 2 / fan_in | zero | zero | one | our DnCNN |
| ``torch`` | uniform within 1 / sqrt(fan_in) | same | same | one | PyTorch: UNet, DPIR UNet |
| ``buifd`` | normal, variance 2 / fan_in | same | zero | normal, size <= 0.025 | BUIFD |
| ``matconvnet`` | normal, variance 2 / (9 * 64) | same | zero | normal, size >= 0.025 | DnCNN |
| ``kair`` | orthogonal, gain 0.2 | same | zero | uniform in [0.1, 1] | KAIR's DnCNN, DRUNet |
| ``orthogonal`` | orthogonal, gain 1 | same | zero | one | the first authors' PyTorch DnCNN |
| ``scico`` | truncated normal, variance 2 / fan_in | same | zero | one | scico's DnCNN, UNet |

If its last convolution is zero, a residual network starts as the identity, so its first loss is the
loss of the noisy image. Random values there cost about 2 dB in the first epochs.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from lumloss_jax import _checks

Initializer = Callable[..., jax.Array]

# Both recipes for the gain of batch norm assume 3x3 convolutions of 64 features, and keep that
# number for other widths.
_GAIN_DEVIATION = math.sqrt(2 / (9 * 64))
_GAIN_BOUND = 0.025


class Initializers(NamedTuple):
    """One recipe.

    ``bias`` is a function of the layer's fan_in, which cannot be derived from the shape of a bias.
    """

    kernel: Initializer
    last_kernel: Initializer
    bias: Callable[[int], Initializer]
    norm_scale: Initializer


def initializers(name: str) -> Initializers:
    """The recipe with the given name; raises ``ValueError`` for an unknown name."""
    return _RECIPES[_checks.check_option("initializer", name, _RECIPES)]


def _recipe(
    kernel: Initializer,
    *,
    last_kernel: Initializer | None = None,
    bias: Callable[[int], Initializer] = lambda fan_in: nn.initializers.zeros,
    norm_scale: Initializer = nn.initializers.ones,
) -> Initializers:
    return Initializers(kernel, kernel if last_kernel is None else last_kernel, bias, norm_scale)


def uniform_of_fan_in(fan_in: int) -> Initializer:
    """Uniform within 1 / sqrt(fan_in), PyTorch's default for biases."""
    bound = 1 / math.sqrt(fan_in)
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -bound, bound
    )


def _ceiling_gain(
    key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32
) -> jax.Array:
    return jnp.clip(
        _GAIN_DEVIATION * jax.random.normal(key, shape, dtype), -_GAIN_BOUND, _GAIN_BOUND
    )


def _floor_gain(
    key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32
) -> jax.Array:
    gain = _GAIN_DEVIATION * jax.random.normal(key, shape, dtype)
    return jnp.where(gain < 0, jnp.minimum(gain, -_GAIN_BOUND), jnp.maximum(gain, _GAIN_BOUND))


def _uniform_gain(
    key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32
) -> jax.Array:
    return jax.random.uniform(key, shape, dtype, 0.1, 1.0)


# PyTorch's default is Kaiming-uniform with a = sqrt(5), which is uniform within 1 / sqrt(fan_in).
torch_kernel: Initializer = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
_he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")

_RECIPES = {
    "zero_last": _recipe(_he_normal, last_kernel=nn.initializers.zeros),
    "torch": _recipe(torch_kernel, bias=uniform_of_fan_in),
    "buifd": _recipe(_he_normal, norm_scale=_ceiling_gain),
    "matconvnet": _recipe(nn.initializers.normal(_GAIN_DEVIATION), norm_scale=_floor_gain),
    "kair": _recipe(nn.initializers.orthogonal(0.2), norm_scale=_uniform_gain),
    "orthogonal": _recipe(nn.initializers.orthogonal(1.0)),
    "scico": _recipe(nn.initializers.kaiming_normal()),
}
INITIALIZERS = tuple(_RECIPES)
