"""Computes depthwise convolutions on the CPU as sums of shifted images.

On the CPU, XLA runs them as grouped convolutions with one channel in each group. For 160 channels
and 3x3 taps this took 5 to 14 times as long as nine multiplications and additions, and twice the
memory. On other backends nothing is changed.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def quick_depthwise() -> AbstractContextManager[None]:
    """A context in which Flax computes depthwise convolutions in a fast way for the backend."""
    return nn.intercept_methods(_intercept) if jax.default_backend() == "cpu" else nullcontext()


def _intercept(
    method: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
) -> Any:
    module = context.module
    if (
        isinstance(module, nn.Conv)
        and context.method_name == "__call__"
        and _is_depthwise(module, args[0])
    ):
        kernel = module.variables["params"]["kernel"]  # (h, w, 1, C)
        bias = module.variables["params"].get("bias")
        image, kernel = (x.astype(module.dtype or args[0].dtype) for x in (args[0], kernel))
        return _shifted_sum(image, kernel, None if bias is None else bias.astype(image.dtype))
    return method(*args, **kwargs)


def _is_depthwise(conv: nn.Conv, image: jax.Array) -> bool:
    plain = conv.padding == "SAME" and set(_pair(conv.strides)) == set(
        _pair(conv.kernel_dilation)
    ) == set(_pair(conv.input_dilation)) == {1}
    return plain and conv.feature_group_count == conv.features == image.shape[-1] > 1


def _pair(value: Any) -> tuple[int, ...]:
    return (1,) if value is None else (value,) if isinstance(value, int) else tuple(value)


def _shifted_sum(image: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> jax.Array:
    """Convolves ``[..., H, W, C]``, which is padded with zeros, to the same shape."""
    height, width = image.shape[-3:-1]
    rows, columns = kernel.shape[:2]
    around = (
        [(0, 0)] * (image.ndim - 3) + [((n - 1) // 2, n // 2) for n in (rows, columns)] + [(0, 0)]
    )
    padded = jnp.pad(image, around)
    total: Any = 0 if bias is None else bias
    for i in range(rows):
        for j in range(columns):
            total = total + padded[..., i : i + height, j : j + width, :] * kernel[i, j, 0]
    return total
