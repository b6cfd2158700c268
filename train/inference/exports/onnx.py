"""Converts a network to an ONNX model with jax2onnx, and checks it in onnxruntime.

jax2onnx supports only some Flax layers. It therefore gets the operations that the module is made
of, and the one operation for which onnxruntime has no kernel is replaced by others. jax2onnx cannot
crop or pad by an amount that depends on an open size, so open heights and widths must be multiples
of the network's stride.
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.export
import jax.extend.core
import jax.numpy as jnp
import numpy as np

from lumloss_jax.models import ReceptiveField
from train.bounds import MOST_SIDE, between
from train.errors import InputError
from train.inference.exports.function import PRODUCER
from train.inference.tiles.tiling import cut, round_up

Size = tuple[int, int]  # height and width

SAMPLED = 2 * 40 * 56  # pixels of the largest batch that open sizes are compared on
_TOLERANCE = 1e-4  # largest difference of a pixel from the network, in image units
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
    return convert(
        _padded(restore, size, field) if size is not None else restore,
        _inputs(size or _open(field.stride), channels, told),
        what,
        names=["images", "sigma"][: 1 + told],
        output="restored",
        samples=_samples(field, channels, told, size),
        stride=field.stride,
        expected=restore,
        advice="" if size is not None else " It may succeed with --size HEIGHTxWIDTH.",
    )


def convert(
    function: Callable[..., jax.Array],
    inputs: Sequence[jax.ShapeDtypeStruct],
    what: str,
    *,
    names: Sequence[str],
    output: str,
    samples: Iterable[Sequence[np.ndarray]],
    stride: int = 1,
    expected: Callable[..., jax.Array] | None = None,
    opset: int | None = None,
    advice: str = "",
) -> bytes:
    """Converts a function to ONNX, and compares the two on samples.

    Args:
      function: the function.
      inputs: shapes and dtypes of its arguments.
      what: spec of the network, for messages.
      names: names of the model's inputs.
      output: name of the model's output.
      samples: arguments to compare with, each a sequence of arrays.
      stride: what open heights and widths are multiples of.
      expected: a function that the model must agree with. None: ``function``.
      opset: version of ONNX's operators. None: the one that jax2onnx chooses.
      advice: what to try if the conversion fails, as the end of a message.

    Returns:
      A serialized ``onnx.ModelProto``, which agrees within 1e-4 in onnxruntime.

    Raises:
      InputError: if a package is missing, or the function cannot be converted.
    """
    # They warn about parts that are not installed, and about shapes that are left out.
    for package in ("jax2onnx", "onnx_ir"):
        logging.getLogger(package).setLevel(logging.ERROR)
    try:
        import jax2onnx
        import onnxruntime
    except ImportError as error:
        raise InputError(
            f"ONNX models need the package {error.name or error}, which is missing. {_INSTALL}"
        ) from None
    try:
        operations = _operations(function, inputs, stride)
        shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in operations.in_avals]
        model = jax2onnx.to_onnx(
            lambda *inputs: jax.extend.core.jaxpr_as_fun(operations)(*inputs)[0],
            inputs=shapes,
            input_names=list(names),
            output_names=[output],
            **({} if opset is None else {"opset": opset}),
        )
        model.producer_name = PRODUCER
        content: bytes = model.SerializeToString()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        difference = max(_difference(expected or function, session, sample) for sample in samples)
    except Exception as error:  # errors of many types, which all mean that it cannot convert this
        reason = (str(error).splitlines() or [""])[0][:200]
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


def _samples(
    field: ReceptiveField, channels: int, told: bool, size: Size | None
) -> Iterator[list[np.ndarray]]:
    """A few batches of noise, and perhaps noise levels."""
    rng = np.random.default_rng(0)
    sides = [round_up(40, field.stride), round_up(56, field.stride)]
    for batch, (height, width) in (
        [(2, size)] if size is not None else [(1, sides), (2, sides[::-1])]
    ):
        images = rng.uniform(0, 1, (batch, height, width, channels)).astype(np.float32)
        yield [images, rng.uniform(0, 0.2, batch).astype(np.float32)][: 1 + told]


def _difference(
    expected: Callable[..., jax.Array], session: Any, sample: Sequence[np.ndarray]
) -> float:
    """The largest difference between the model and a function in any pixel."""
    names = [one.name for one in session.get_inputs()]
    (found,) = session.run(None, dict(zip(names, sample, strict=True)))
    wanted = np.asarray(jax.jit(expected)(*sample))
    return float(np.abs(found - wanted).max()) if found.shape == wanted.shape else np.inf


def _operations(
    function: Callable[..., jax.Array], inputs: Sequence[jax.ShapeDtypeStruct], stride: int
) -> Any:
    """The operations of a function, without calls.

    Windowed maxima, which onnxruntime supports only over 3 axes, are replaced by other operations.
    """
    traced = jax.make_jaxpr(function)(*inputs)

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
