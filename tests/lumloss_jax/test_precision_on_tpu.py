"""A TPU rounds float32 inputs of dots and convolutions to bfloat16 unless asked otherwise.

So losses, metrics, colour spaces and degradations hold none, or ask. Read off the programs lowered
for a TPU, which takes no TPU and compiles nothing.
"""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from lumloss_jax import color, degradations, losses, metrics
from lumloss_jax.losses._spec import LOSSES

IMAGE = jax.ShapeDtypeStruct((2, 192, 192, 3), jnp.float32)
KEY = jax.eval_shape(lambda: jax.random.key(0))

SLOW = [pytest.mark.slow]  # over a thousand taps, written out


def cases(*names: str) -> list[Any]:
    return [pytest.param(name, marks=SLOW if name == "ms_ssim" else []) for name in names]


SPECS = cases(
    *LOSSES, "luminance_l1(window_size=7, brightness='lightness')", "frequency(spectrum='complex')"
)
DEGRADATIONS = {
    "blur": lambda key, x: degradations.gaussian_blur(None, x, sigma=2.0),
    "jpeg": lambda key, x: degradations.jpeg(None, x, quality=50.0),
    "low_light": lambda key, x: degradations.low_light(key, x, exposure=0.1),
    "noise": lambda key, x: degradations.gaussian_noise(key, x, sigma=0.1),
}


def rounded(function, *arguments) -> list[str]:
    """Lines of the lowered program in which a TPU would round its inputs."""
    text = jax.jit(function).trace(*arguments).lower(lowering_platforms=("tpu",)).as_text()
    lines = re.findall(r".*stablehlo\.(?:dot_general|dot|convolution)\b.*", text)
    return [line for line in lines if "HIGHEST" not in line]


@pytest.mark.parametrize("spec", SPECS)
def test_no_loss_is_rounded(spec):
    loss = losses.make_loss(spec)
    assert rounded(loss, IMAGE, IMAGE) == []


@pytest.mark.parametrize("name", cases(*metrics.__all__))
def test_no_metric_is_rounded(name):
    assert rounded(getattr(metrics, name), IMAGE, IMAGE) == []


@pytest.mark.parametrize("name", color.__all__)
def test_no_colour_space_is_rounded(name):
    assert rounded(getattr(color, name), IMAGE) == []


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_no_degradation_is_rounded(name):
    assert rounded(DEGRADATIONS[name], KEY, IMAGE) == []


def test_dots_and_convolutions_would_be_noticed():
    assert len(rounded(lambda x: jnp.einsum("bhwc,cd->bhwd", x, jnp.eye(3)), IMAGE)) == 1
    kernel = jax.ShapeDtypeStruct((3, 3, 3, 3), jnp.float32)
    convolve = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    assert len(rounded(convolve, IMAGE, kernel)) == 1
    assert (
        rounded(functools.partial(convolve, precision=jax.lax.Precision.HIGHEST), IMAGE, kernel)
        == []
    )
