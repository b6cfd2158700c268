"""Makes a network and its variables from a spec such as "dncnn(depth=17, features=64)"."""

import ast
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import FlaxError

from lumloss_jax.models import create_model
from train.errors import InputError, first_line

_LONGEST_SPEC = 1000  # characters
# Fields that say how many layers there are. Their product is limited: a layer takes a hundredth of
# a second to trace and much longer to compile, so a million layers would take hours.
_LAYERS = ("depth", "level_depth", "block_depth", "blocks", "num_blocks", "stages", "levels")
# NAFNet's, whose sum counts.
_LAYERS_IN_PARTS = ("encoder_blocks", "middle_blocks", "decoder_blocks")
_MOST_LAYERS = 512
_WIDEST = 65_536
_MOST_PARAMETERS = 1_000_000_000  # 4 GB, and three times that with Adam's two moments
_MOST_LEVELS = 10  # Each level halves the image, so after ten little is left of any photograph.
_HALVING = (("unet_scico", "depth"), ("retinexformer", "levels"))
_DTYPES = ("float32", "bfloat16", "float16")
_SET_BY_THE_PROGRAM = ("axis_name", "name", "parent")


def parse_model(text: str) -> tuple[str, dict[str, Any]]:
    """Splits a spec such as "dncnn(depth=17, features=64)" or "dncnn" into name and fields."""
    shown = text if len(text) <= _LONGEST_SPEC else f"{text[:50]} and so on, {len(text)} characters"
    wrong = InputError(
        f'--model must be a name, or a name with fields such as "dncnn(depth=17)"; got {shown!r}.'
    )
    if len(text) > _LONGEST_SPEC:
        raise wrong
    try:
        node = ast.parse(text.strip(), mode="eval").body
    # The text is not Python, or it nests brackets too deeply.
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise wrong from None
    if isinstance(node, ast.Name):
        return node.id, {}
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)) or node.args:
        raise wrong
    fields: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise wrong
        if keyword.arg in fields:
            raise InputError(f"--model: {keyword.arg} is given twice.")
        try:
            # Only literals are accepted, so nothing in the text ever runs.
            value = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, RecursionError, MemoryError):
            given = ast.get_source_segment(text.strip(), keyword.value)
            raise InputError(
                f"--model: {keyword.arg} must be a number, a text or another literal; got {given}."
            ) from None
        fields[keyword.arg] = value
    return node.func.id, fields


def build_model(spec: str, *, dtype: str | None = None, axis_name: str | None = None) -> nn.Module:
    """Makes the network that a spec names.

    Args:
      spec: a name, or a name with fields.
      dtype: number format to compute in; None for the format in the spec.
      axis_name: mapped axis over which batch norm computes its statistics. Networks without batch
        norm ignore it.

    Returns:
      The module.
    """
    _check_network(spec)
    name, fields = parse_model(spec)
    if dtype is not None:
        fields["dtype"] = jnp.dtype(dtype)
    model = create_model(name, **fields)
    return model.clone(axis_name=axis_name) if axis_name and hasattr(model, "axis_name") else model


@functools.lru_cache(maxsize=64)
def _check_network(spec: str) -> None:
    """Refuses fields that do not make a network, and networks too large for any machine.

    Nothing is computed.
    """
    name, fields = parse_model(spec)
    for field in _SET_BY_THE_PROGRAM:
        if field in fields:
            raise InputError(f"--model: the program sets {field}. Leave it out.")
    if fields.get("dtype", "float32") not in _DTYPES:
        raise InputError(f"--model: dtype must be {' or '.join(_DTYPES)}; got {fields['dtype']!r}.")
    try:
        model = create_model(name, **fields)
        _check_size(name, fields)
        shapes = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
    except _MAKE_NO_NETWORK as error:
        message = first_line(error)
        end = "" if message.endswith("?") else "."
        raise InputError(f"--model {spec}: {message}{end}") from None
    # Python's integers are used, because a product of sizes may exceed 64 bits.
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    if parameters > _MOST_PARAMETERS:
        raise InputError(
            f"--model {spec} has {parameters:,} parameters. At most {_MOST_PARAMETERS:,} are "
            "accepted. Use fewer layers or features."
        )


def _check_size(name: str, fields: dict[str, Any]) -> None:
    """Refuses impossible sizes, and networks whose shapes alone would take minutes to compute."""
    layers, in_parts = 1, 0
    counts = _LAYERS + _LAYERS_IN_PARTS
    for field, value in fields.items():
        several = isinstance(value, list | tuple)
        sizes = [size for size in (value if several else [value]) if isinstance(size, int)]
        for size in sizes:
            if size < 0 or (size == 0 and field.endswith(("features", "channels", "width"))):
                raise ValueError(
                    f"{field} must be at least {int(field not in counts)}; got {value}"
                )
            if size > _WIDEST:
                raise ValueError(f"{field} must be at most {_WIDEST}; got {value}")
        if field in _LAYERS:
            layers *= max(1, sum(sizes))
        if field in _LAYERS_IN_PARTS:
            in_parts += sum(sizes)
        levels = len(sizes) if several else value if (name, field) in _HALVING else 1
        if levels > _MOST_LEVELS:
            raise ValueError(
                f"{field}={value} halves the image more than {_MOST_LEVELS} times; use fewer levels"
            )
    if max(layers, in_parts) > _MOST_LAYERS:
        given = ", ".join(f"{field}={fields[field]}" for field in counts if field in fields)
        raise ValueError(f"{given} makes more than {_MOST_LAYERS:,} layers; use fewer")


# Errors of Flax, JAX and NumPy for sizes that do not fit together.
_MAKE_NO_NETWORK = (
    FlaxError,
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    RecursionError,
    MemoryError,
)


def init_variables(model: nn.Module, key: jax.Array) -> dict[str, Any]:
    """Makes random parameters, and batch statistics ({} without batch norm).

    They do not depend on the size of an image.
    """
    sigma = 0.1 if model.takes_sigma else None
    variables = model.init(key, jnp.zeros((1, 16, 16, model.channels), jnp.float32), sigma=sigma)
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


def sows(model: nn.Module, name: str) -> bool:
    """Whether a network sows an intermediate value with this name. Nothing is computed."""
    variables = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
    images = jax.ShapeDtypeStruct((1, 16, 16, model.channels), jnp.float32)
    sigma = 0.1 if model.takes_sigma else None
    _, sown = jax.eval_shape(
        lambda variables, images: model.apply(
            variables, images, sigma=sigma, mutable=["intermediates"]
        ),
        variables,
        images,
    )
    return name in sown.get("intermediates", {})
