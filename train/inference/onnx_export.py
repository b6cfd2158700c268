"""A network as an ONNX model: converted by jax2onnx, then compared with the network in onnxruntime.

What jax2onnx is given is not the Flax module, of whose layers it knows a part only, but the
operations that the module comes down to; the one among them that onnxruntime has no kernel for is
written in others. jax2onnx cannot cut or pad by an amount that depends on an open size, so open
heights and widths are multiples of the network's stride.
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

_TOLERANCE = 1e-4  # of a pixel, in image units, between the network and its ONNX model
PRODUCER = "lumloss_jax"  # by which a model is known as one from here
_INSTALL = (
    '--format onnx needs the packages that pip install -e ".[onnx]" and pip install --no-deps jax2onnx install '
    "(with its dependencies jax2onnx asks for an Orbax older than the one that checkpoints need)"
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
    """The model of a function of images ``[b, h, w, C]``, and of noise levels ``[b]`` where it is ``told`` them.

    Args:
      restore: traceable with open sizes; gives restored images of the same shape.
      what: the network's spec, for messages.
      field: the network's stride, and how it pads to a multiple of it.
      channels: C.
      told: whether it takes noise levels.
      size: height and width to fix; None: they stay open, as multiples of the stride.

    Returns:
      A serialized ``onnx.ModelProto``, which agrees with ``restore`` within 1e-4 in onnxruntime.
    """
    # Warn of parts that are not installed and shapes that are left out
    for package in (
        "jax2onnx",
        "onnx_ir",
    ):
        logging.getLogger(package).setLevel(logging.ERROR)
    try:
        import jax2onnx
        import onnxruntime
    except ImportError as error:
        raise InputError(f"{_INSTALL}; {error.name or error} is missing.") from None
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
    except Exception as error:  # of many types, and all say the same: not this network
        reason = (str(error).splitlines() or [""])[0][:200]
        mend = "" if size is not None else " With --size, HEIGHTxWIDTH, it may be able to."
        raise InputError(
            f"jax2onnx cannot convert {what} ({type(error).__name__}: {reason}).{mend}"
        ) from error
    if not difference <= _TOLERANCE:
        raise InputError(
            f"The ONNX model of {what} differs from the network by {difference:.2g} in "
            f"onnxruntime, where {_TOLERANCE:g} is allowed: it was not written."
        )
    return content


def parse_size(text: str) -> Size:
    """Height and width of "480x640"."""
    found = re.fullmatch(r"([1-9]\d{0,9})x([1-9]\d{0,9})", text)
    if found is None:
        raise InputError(f"--size is HEIGHTxWIDTH, such as 480x640; got {text!r}.")
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
    """Pads to multiples of the stride as the network would, by gathering, which is converted; and crops."""
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
    """The largest difference for each of some batches of noise."""
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
    """The operations of a function, calls resolved; windowed maxima, for which onnxruntime wants 3 axes, in others."""
    traced = jax.make_jaxpr(restore)(*inputs)

    def written_out(images: jax.Array, *sigma: jax.Array) -> list[jax.Array]:
        # Read by nothing: jax2onnx knows how large 8*h is, and h by itself once an array of that
        # size was there.
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
    """The largest of each square of ``[b, h, w, C]``, squares side by side; whatever else it may be is not in use."""
    batch, height, width, channels = images.shape
    _, rows, columns, _ = window_dimensions
    if tuple(window_strides) != (1, rows, columns, 1) or any(map(any, padding)):
        raise ValueError(
            f"maximum over windows {window_dimensions} by {window_strides}, padded by {padding}"
        )
    squares = images.reshape(batch, height // rows, rows, width // columns, columns, channels)
    return jnp.max(squares, axis=(2, 4))
