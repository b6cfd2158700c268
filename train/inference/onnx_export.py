"""Converts a network to an ONNX model with jax2onnx, and checks it in onnxruntime.

jax2onnx supports only some Flax layers. It therefore gets the operations that the module is made
of, and the one operation for which onnxruntime has no kernel is replaced by others. jax2onnx cannot
crop or pad by an amount that depends on an open size, so open heights and widths must be multiples
of the network's stride.
"""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.export
import jax.extend.core
import jax.numpy as jnp
import numpy as np

from lumloss_jax.models import ReceptiveField
from train.bounds import MOST_SIDE, between
from train.errors import InputError
from train.inference.tiles.tiling import cut, round_up

Size = tuple[int, int]  # height and width

_TOLERANCE = 1e-4  # largest difference of a pixel from the network, in image units
PRODUCER = "lumloss_jax"  # marks a model as written by this program
_INSTALL = (
    'Run pip install -e ".[onnx]" and pip install --no-deps jax2onnx. (With dependencies, jax2onnx '
    "would install an older Orbax than checkpoints need.)"
)


def to_onnx(
    restore: Callable[..., jax.Array],
    what: str,
    field: ReceptiveField,
    *,
    channels: int,
    told: bool,
    size: Size | None,
) -> bytes:
    """Converts a function of images ``[b, h, w, C]``, and perhaps noise levels ``[b]``, to ONNX.

    Args:
      restore: the function. It can be traced with open sizes, and returns restored images of the
        same shape.
      what: spec of the network, for messages.
      field: the network's receptive field, with its stride and how it pads to a multiple of it.
      channels: number of channels, C.
      told: whether the function has noise levels as its second argument.
      size: height and width to fix in pixels. None: they stay open, as multiples of the stride.

    Returns:
      A serialized ``onnx.ModelProto``, which agrees with ``restore`` within 1e-4 in onnxruntime.

    Raises:
      InputError: if a package is missing, or the network cannot be converted.
    """
    # They warn about parts that are not installed, and about shapes that are left out.
    for package in ("jax2onnx", "onnx_ir"):
        logging.getLogger(package).setLevel(logging.ERROR)
    try:
        import jax2onnx
        import onnxruntime
    except ImportError as error:
        raise InputError(
            f"--format onnx needs the package {error.name or error}, which is missing. {_INSTALL}"
        ) from None
    fixed = _padded(restore, size, field) if size is not None else restore
    try:
        operations = _operations(
            fixed, _inputs(size or _open(field.stride), channels, told), field.stride
        )
        names = ["images", "sigma"][: 1 + told]
        shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in operations.in_avals]
        model = jax2onnx.to_onnx(
            lambda *inputs: jax.extend.core.jaxpr_as_fun(operations)(*inputs)[0],
            inputs=shapes,
            input_names=names,
            output_names=["restored"],
        )
        model.producer_name = PRODUCER
        content: bytes = model.SerializeToString()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        difference = max(_differences(restore, session, field, channels, told, size))
    except Exception as error:  # errors of many types, which all mean that it cannot convert this
        reason = (str(error).splitlines() or [""])[0][:200]
        advice = "" if size is not None else " It may succeed with --size HEIGHTxWIDTH."
        raise InputError(
            f"jax2onnx cannot convert {what} ({type(error).__name__}: {reason}).{advice}"
        ) from error
    if not difference <= _TOLERANCE:
        raise InputError(
            f"The ONNX model of {what} differs from the network by {difference:.2g} in "
            f"onnxruntime; at most {_TOLERANCE:g} is allowed. It was not written."
        )
    return content


def parse_size(text: str) -> Size:
    """Reads height and width from a text such as "480x640"."""
    found = re.fullmatch(r"([1-9]\d{0,9})x([1-9]\d{0,9})", text)
    if found is None:
        raise InputError(f"--size must be HEIGHTxWIDTH, such as 480x640; got {text!r}.")
    for side in found.groups():
        between("--size", int(side), 1, most=MOST_SIDE)
    return int(found[1]), int(found[2])


def _open(stride: int) -> Any:
    by = "" if stride == 1 else f"{stride}*"
    return jax.export.symbolic_shape(f"{by}h, {by}w")


def _inputs(size: Any, channels: int, told: bool) -> list[jax.ShapeDtypeStruct]:
    scope = next(
        (side.scope for side in size if not isinstance(side, int)), jax.export.SymbolicScope()
    )
    (batch,) = jax.export.symbolic_shape("b", scope=scope)
    images = jax.ShapeDtypeStruct((batch, *size, channels), jnp.float32)
    return [images, jax.ShapeDtypeStruct((batch,), jnp.float32)][: 1 + told]


def _padded(
    restore: Callable[..., jax.Array], size: Size, field: ReceptiveField
) -> Callable[..., jax.Array]:
    """Pads to multiples of the stride as the network would, and crops the result.

    It pads by gathering, which jax2onnx can convert.
    """
    (height, width), (rows, columns) = (
        size,
        (cut(side, side + field.stride, field).pixels for side in size),
    )

    def padded(images: jax.Array, *sigma: jax.Array) -> jax.Array:
        for axis, positions in ((1, rows), (2, columns)):
            if len(positions) > images.shape[axis]:
                images = jnp.take(images, positions, axis=axis, mode="clip")
        return restore(images, *sigma)[:, :height, :width]

    return padded


def _differences(
    restore: Callable[..., jax.Array],
    session: Any,
    field: ReceptiveField,
    channels: int,
    told: bool,
    size: Size | None,
) -> Iterator[float]:
    """The largest difference in each of a few batches of noise."""
    rng = np.random.default_rng(0)
    sides = [round_up(40, field.stride), round_up(56, field.stride)]
    for batch, (height, width) in (
        [(2, size)] if size is not None else [(1, sides), (2, sides[::-1])]
    ):
        inputs = [rng.uniform(0, 1, (batch, height, width, channels)).astype(np.float32)]
        inputs += [rng.uniform(0, 0.2, batch).astype(np.float32)] * told
        names = [one.name for one in session.get_inputs()]
        (found,) = session.run(None, dict(zip(names, inputs, strict=True)))
        expected = np.asarray(jax.jit(restore)(*inputs))
        yield float(np.abs(found - expected).max()) if found.shape == expected.shape else np.inf


def _operations(
    restore: Callable[..., jax.Array], inputs: Sequence[jax.ShapeDtypeStruct], stride: int
) -> Any:
    """The operations of a function, without calls.

    Windowed maxima, which onnxruntime supports only over 3 axes, are replaced by other operations.
    """
    traced = jax.make_jaxpr(restore)(*inputs)

    def written_out(images: jax.Array, *sigma: jax.Array) -> list[jax.Array]:
        # Nothing reads this. jax2onnx knows the size of 8*h, but that of h alone only after it has
        # seen an array of that size.
        jax.lax.slice(images, (0, 0, 0, 0), images.shape, (1, stride, stride, 1))
        return _evaluate(traced.jaxpr, traced.consts, [images, *sigma])

    return jax.make_jaxpr(written_out)(*inputs)


def _evaluate(jaxpr: Any, constants: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *inputs], strict=True))
    for equation in jaxpr.eqns:
        values = [
            one.val if isinstance(one, jax.extend.core.Literal) else known[one]
            for one in equation.invars
        ]
        inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
        if inner is not None:
            outputs = _evaluate(inner.jaxpr, inner.consts, values)
        elif equation.primitive.name == "reduce_window_max":
            outputs = [_pooled(values[0], **equation.params)]
        else:
            found = equation.primitive.bind(*values, **equation.params)
            outputs = found if equation.primitive.multiple_results else [found]
        known.update(zip(equation.outvars, outputs, strict=True))
    return [
        one.val if isinstance(one, jax.extend.core.Literal) else known[one] for one in jaxpr.outvars
    ]


def _pooled(
    images: jax.Array, window_dimensions: Any, window_strides: Any, padding: Any, **other: Any
) -> jax.Array:
    """The maximum of each window of ``[b, h, w, C]``; windows lie side by side without overlap.

    Networks use no other windowed maxima.
    """
    batch, height, width, channels = images.shape
    _, rows, columns, _ = window_dimensions
    if tuple(window_strides) != (1, rows, columns, 1) or any(map(any, padding)):
        raise ValueError(
            f"Maxima over windows {window_dimensions} with strides {window_strides} and padding "
            f"{padding} are not supported. Windows must lie side by side, without padding."
        )
    squares = images.reshape(batch, height // rows, rows, width // columns, columns, channels)
    return jnp.max(squares, axis=(2, 4))
