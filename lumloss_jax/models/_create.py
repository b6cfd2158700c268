"""Creates networks from a name and fields."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from lumloss_jax import _checks
from lumloss_jax.models._field_types import check_field
from lumloss_jax.models._presets import PRESETS


def create_model(name: str, **config: Any) -> nn.Module:
    """The network with the given name, a Flax Linen module.

    Args:
      name: one of ``PRESETS``.
      **config: fields of its class, instead of the preset's values.

    Returns:
      The module. ``model.init(key, images)`` creates its variables, and ``model.apply(variables,
      images)`` restores images.

    Raises:
      ValueError: for an unknown name or field (the message suggests the nearest one and lists all
        that are accepted), or for a value of a different type.

    Example:
      Shapes and counts without computing or storing anything:

      >>> import jax, jax.numpy as jnp
      >>> model = create_model("dncnn", depth=20)
      >>> images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
      >>> # drunet also needs sigma=0.1
      >>> variables = jax.eval_shape(model.init, jax.random.key(0), images)
      >>> sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
      669312

      A small network, run:

      >>> model = create_model("dncnn", depth=2, features=4)
      >>> images = jnp.full((1, 8, 8, 3), 0.5)
      >>> variables = jax.jit(model.init)(jax.random.key(0), images)
      >>> restored = jax.jit(model.apply)(variables, images)  # starts as the identity
      >>> print(restored.shape, f"{restored.mean():.4f}")
      (1, 8, 8, 3) 0.5000
    """
    preset = PRESETS[_checks.check_option("name", name, PRESETS)]
    accepted = tuple(sorted(field_names(preset.network)))
    for field in config:
        _checks.check_option(f"{name}'s config", field, accepted)
    # A list, which a JSON file may contain, would make the module unhashable.
    fields = {
        key: tuple(value) if isinstance(value, list) else value for key, value in config.items()
    }
    for field, value in fields.items():
        check_field(preset.network, field, value)
    return preset.network(**{**preset.config, **fields})


def field_names(network: type[nn.Module]) -> set[str]:
    """The fields that a network accepts, without the two that Flax adds to every module."""
    return {field.name for field in dataclasses.fields(network) if field.init} - {"parent", "name"}


def variable_shapes(model: nn.Module) -> Any:
    """Shapes and dtypes of a model's variables, as a tree; nothing is computed or stored.

    Args:
      model: a network of this package.

    Returns:
      The tree that ``model.init`` would return, with a ``jax.ShapeDtypeStruct`` for each array. It
      does not depend on the size of the images.

    Raises:
      ValueError: for fields that do not define a network, as ``model.init`` would.

    Example:
      >>> shapes = variable_shapes(create_model("drunet"))
      >>> sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
      32640960
    """
    images = jax.ShapeDtypeStruct((1, 16, 16, model.channels), jnp.float32)
    sigma = 0.1 if model.takes_sigma else None
    return jax.eval_shape(
        lambda key, images: model.init(key, images, sigma=sigma), jax.random.key(0), images
    )
