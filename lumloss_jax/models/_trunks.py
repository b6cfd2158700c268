"""The convolutions of VGG16 and AlexNet, whose activations LPIPS and DISTS compare.

Weights are arrays under torchvision's names, ``features.0.weight`` and so on, in PyTorch's order of
axes (output, input, height, width). The widths follow from them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from lumloss_jax.models._torch_names import WRAPPERS

Weights = Mapping[str, ArrayLike]
Pool = Callable[[jax.Array], jax.Array]

# Mean and standard deviation of the images of ImageNet, which the trunks were trained on
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


class Convolution(NamedTuple):
    """One convolution with ReLU: its number in torchvision's list, and what surrounds it."""

    number: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    pools: bool = False  # whether a pooling layer stands before it
    taps: bool = False  # whether its activations are compared


class Trunk(NamedTuple):
    """The convolutions of one network, and the smallest side of an image that reaches its end."""

    name: str
    layers: tuple[Convolution, ...]
    least_side: int
    pool_window: int


ALEX = Trunk(
    "AlexNet",
    (
        Convolution(0, kernel=11, stride=4, padding=2, taps=True),
        Convolution(3, kernel=5, padding=2, pools=True, taps=True),
        Convolution(6, pools=True, taps=True),
        Convolution(8, taps=True),
        Convolution(10, taps=True),
    ),
    least_side=31,
    pool_window=3,
)
VGG = Trunk(
    "VGG16",
    tuple(
        Convolution(number, pools=number in (5, 10, 17, 24), taps=number in (2, 7, 14, 21, 28))
        for number in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    ),
    least_side=16,
    pool_window=2,
)


def rename(weights: Weights, renamings: Sequence[tuple[str, str]]) -> dict[str, ArrayLike]:
    """The arrays whose names match a pattern, under the names that replace them.

    Everything else is dropped, such as the classifier of a trunk. Wrappers, such as ``module.`` of
    DataParallel, are taken off first.
    """
    found = {}
    for raw, value in weights.items():
        name = ".".join(part for part in raw.split(".") if part not in WRAPPERS)
        for pattern, replacement in renamings:
            if re.fullmatch(pattern, name):
                found[re.sub(pattern, replacement, name)] = value
    return found


# The same layer is named differently by torchvision, by lpips and by DISTS_pytorch.
TRUNK_NAMES = [(r"(?:features|net\.slice\d|stage\d)\.(\d+)\.(weight|bias)", r"features.\1.\2")]


def trunk_of(weights: Weights) -> Trunk:
    """The trunk that the names of the weights belong to."""
    return ALEX if "features.3.weight" in weights else VGG


def trunk_shapes(trunk: Trunk, weights: Weights) -> dict[str, tuple[int | None, ...]]:
    """Shapes that each array of a trunk must have; None for a width that it may choose."""
    shapes: dict[str, tuple[int | None, ...]] = {}
    width: int | None = 3
    for layer in trunk.layers:
        name = f"features.{layer.number}"
        shapes[f"{name}.weight"] = (None, width, layer.kernel, layer.kernel)
        given = np.shape(weights.get(f"{name}.weight", ()))
        width = given[0] if len(given) == 4 else None
        shapes[f"{name}.bias"] = (width,)
    return shapes


def tap_widths(trunk: Trunk, weights: Weights) -> list[int]:
    """Numbers of channels of the activations that are compared."""
    return [
        np.shape(weights[f"features.{layer.number}.weight"])[0]
        for layer in trunk.layers
        if layer.taps
    ]


def check_weights(
    metric: str, weights: Weights, shapes: Mapping[str, tuple[int | None, ...]], *, advice: str
) -> None:
    """Checks that all arrays are there, are floats and have these shapes; None fits any size.

    Raises:
      ValueError: the first of these that does not hold, in one sentence, and what to do.
    """
    missing = [name for name in shapes if name not in weights]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(f"the weights of {metric} lack {missing[0]}{more}. {advice}")
    for name, shape in shapes.items():
        value = weights[name]
        given = np.shape(value)
        fits = len(given) == len(shape) and all(
            wanted in (None, size) for wanted, size in zip(shape, given, strict=True)
        )
        if not fits or 0 in given:
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise ValueError(
                f"{name} of {metric} has shape {given}, but it must be ({wanted}), as the layer "
                f"before it leads to. {advice}"
            )
        dtype = jnp.result_type(value)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(f"{name} of {metric} holds {dtype}, but weights are floats. {advice}")


def activations(images: jax.Array, trunk: Trunk, weights: Weights, pool: Pool) -> list[jax.Array]:
    """The activations that are compared, from fine to coarse, of images ``[N, H, W, 3]`` in [0, 1].

    Each has shape ``[N, h, w, channels]``.
    """
    dtype = images.dtype
    mean, deviation = jnp.asarray(_MEAN, dtype), jnp.asarray(_DEVIATION, dtype)
    values = (images - mean.reshape(1, 1, 1, 3)) / deviation.reshape(1, 1, 1, 3)
    found = []
    for layer in trunk.layers:
        name = f"features.{layer.number}"
        values = pool(values) if layer.pools else values
        values = lax.conv_general_dilated(
            values,
            jnp.asarray(weights[f"{name}.weight"]).astype(dtype),
            (layer.stride, layer.stride),
            [(layer.padding, layer.padding)] * 2,
            dimension_numbers=("NHWC", "OIHW", "NHWC"),
            precision=lax.Precision.HIGHEST,
        )
        bias = jnp.asarray(weights[f"{name}.bias"]).astype(dtype)
        values = jax.nn.relu(values + bias.reshape(1, 1, 1, -1))
        if layer.taps:
            found.append(values)
    return found


def max_pool(values: jax.Array, window: int) -> jax.Array:
    """The largest values of windows at stride 2; a remainder is dropped, as in PyTorch."""
    lowest = np.array(-np.inf, values.dtype)
    return lax.reduce_window(values, lowest, lax.max, (1, window, window, 1), (1, 2, 2, 1), "VALID")
