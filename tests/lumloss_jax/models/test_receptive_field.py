"""Every network looks exactly as far as it says."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumloss_jax.models import PRESETS, ReceptiveField, create_model
from tests.slow_cases import slow_for
from tests.small_networks import SMALL_NETWORKS, network_for_tiles

each_network = slow_for(
    "name",
    [name for name in SMALL_NETWORKS if name != "cidnet"],
    [name for name in SMALL_NETWORKS if name.startswith("deeper ") and name != "deeper dncnn"],
)


def no_attention(
    method: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
) -> Any:
    """Replaces sums and means over the whole image, which are not in the receptive field."""
    if context.method_name == "channel_means":
        *batch, _, _, channels = args[0].shape
        return jnp.ones((*batch, 1, 1, channels))
    if context.method_name != "channel_sums":
        return method(*args, **kwargs)
    *batch, _, _, heads, width = args[0].shape
    ones = jnp.ones((*batch, heads, width), args[0].dtype)
    return jnp.ones((*batch, heads, width, width), args[0].dtype), ones, ones


@each_network
def test_the_radius_is_how_far_a_pixel_is_felt(name: str) -> None:
    """An infinite pixel changes all that depends on it if all weights have one sign.

    It is put at every place of a stride, since what a pooled pixel covers lies to one side or the
    other.
    """
    model, variables = network_for_tiles(name)
    field = model.receptive_field
    size = 2 * (field.radius + 2 * field.stride)
    places = [size // 2 // field.stride * field.stride + i for i in range(field.stride)]
    untouched = np.full((len(places), size, size, 3), 0.01, np.float32)
    images = untouched.copy()
    for image, place in zip(images, places, strict=True):
        image[place, place] = np.inf
    variables = jax.tree.map(np.abs, variables)
    sigma = np.float32(0.1) if model.takes_sigma else None
    with nn.intercept_methods(no_attention):
        apply = jax.jit(lambda v, x: model.apply(v, x, sigma=sigma))
        # Image by image, since a CPU may round the images of a batch differently
        changed = np.asarray(apply(variables, images)) != np.asarray(apply(variables, untouched))
    farthest = 0
    for pixels, place in zip(changed, places, strict=True):
        rows, columns = np.nonzero(pixels.any(axis=-1))
        farthest = max(farthest, np.abs(rows - place).max(), np.abs(columns - place).max())
    assert farthest == field.radius


def test_cidnets_radius_is_how_far_a_pixel_is_felt(float64: None) -> None:
    """Its input is clipped and its features are normalized, so small changes are looked for.

    The correction is compared, because the clipping of the result hides changes.
    """
    model, variables = network_for_tiles("cidnet")
    field = model.receptive_field
    size = 2 * (field.radius + 2 * field.stride)
    variables = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), variables)

    @jax.jit
    def corrections(variables: Any, images: jax.Array) -> jax.Array:
        # Flax's layer norm mixes float64 with float32
        with nn.intercept_methods(no_attention), jax.numpy_dtype_promotion("standard"):
            _, seen = model.clone(dtype=jnp.float64).apply(
                variables,
                images,
                capture_intermediates=lambda _, method: method == "_branches",
                mutable=["intermediates"],
            )
        return seen["intermediates"]["_branches"][0]

    untouched = np.random.default_rng(1).uniform(0.2, 0.8, (1, size, size, 3))
    plain = corrections(variables, untouched)
    farthest = 0
    for place in range(size // 2 // 8 * 8, size // 2 // 8 * 8 + 8):
        image = untouched.copy()
        image[0, place, place] = (1, 0, 0)
        rows, columns = np.nonzero(
            np.asarray(corrections(variables, image) != plain)[0].any(axis=-1)
        )
        farthest = max(farthest, np.abs(rows - place).max(), np.abs(columns - place).max())
    assert farthest == field.radius


@pytest.mark.parametrize("name", PRESETS)
def test_every_named_network_has_one(name: str) -> None:
    field = create_model(name).receptive_field
    assert field.radius >= 17 and field.margin % field.stride == 0
    assert 0 <= field.margin - field.radius < field.stride


def test_stages_look_one_after_the_other() -> None:
    one, two = (create_model("retinexformer", stages=stages).receptive_field for stages in (1, 2))
    assert two == one._replace(radius=2 * one.radius)


def test_the_margin_is_a_multiple_of_the_stride() -> None:
    assert ReceptiveField(4, 9).margin == 12
    assert ReceptiveField(4, 8).margin == 8
