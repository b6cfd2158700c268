"""From a network's spec, "dncnn(depth=17, features=64)", to the module, its variables and its use."""

import ast
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lumloss_jax.models import create_model
from train.errors import InputError


def parse_model(text: str) -> tuple[str, dict[str, Any]]:
    """Name and fields of a network written as a call, "dncnn(depth=17, features=64)", or as a bare name."""
    wrong = InputError(f'--model takes a name or a name with fields, such as "dncnn(depth=17)"; got {text!r}.')
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise wrong from None
    if isinstance(node, ast.Name):
        return node.id, {}
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)) or node.args:
        raise wrong
    fields: dict[str, Any] = {}
    for keyword in node.keywords:
        try:
            value = ast.literal_eval(keyword.value)  # literals only: nothing of the text is ever run
        except ValueError:
            raise InputError(
                f"--model: {keyword.arg} must be a plain value; got {ast.unparse(keyword.value)}."
            ) from None
        if keyword.arg is None:
            raise wrong
        fields[keyword.arg] = value
    return node.func.id, fields


def build_model(spec: str, dtype: str | None = None, axis_name: str | None = None) -> nn.Module:
    """The network that a spec names.

    Args:
      spec: a name, or a name with fields.
      dtype: to compute in, if another than the spec's.
      axis_name: mapped axis over which batch norm takes its statistics; networks without batch norm have no use for it.
    """
    name, fields = parse_model(spec)
    if dtype is not None:
        fields["dtype"] = jnp.dtype(dtype)
    try:
        model = create_model(name, **fields)
    except (TypeError, ValueError) as error:
        raise InputError(f"--model: {error}") from None
    return model.clone(axis_name=axis_name) if axis_name and hasattr(model, "axis_name") else model


def init_variables(model: nn.Module, key: jax.Array) -> dict[str, Any]:
    """Fresh parameters and batch statistics ({} without batch norm); they do not depend on the size of an image."""
    sigma = 0.1 if model.takes_sigma else None
    variables = model.init(key, jnp.zeros((1, 16, 16, model.channels), jnp.float32), sigma=sigma)
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


def sows(model: nn.Module, name: str) -> bool:
    """Whether a network tells its intermediate value of that name; nothing is computed."""
    variables = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
    images = jax.ShapeDtypeStruct((1, 16, 16, model.channels), jnp.float32)
    sigma = 0.1 if model.takes_sigma else None
    _, sown = jax.eval_shape(
        lambda variables, images: model.apply(variables, images, sigma=sigma, mutable=["intermediates"]),
        variables,
        images,
    )
    return name in sown.get("intermediates", {})
