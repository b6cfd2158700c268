"""Stands in for jax2onnx and onnxruntime, which are not installed where the fast tests run."""

import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.export
import numpy as np
import pytest


@dataclass(frozen=True)
class Conversion:
    """What the converter was given."""

    inputs: Sequence[jax.ShapeDtypeStruct]
    names: Sequence[str]
    outputs: Sequence[str]
    opset: int | None
    program: jax.export.Exported


def stand_in(monkeypatch: pytest.MonkeyPatch, error: float = 0.0) -> list[Conversion]:
    """Replaces the converter and the runtime by classes that compute with jax.export.

    They have the interfaces of the two packages. The result is a list, to which each conversion is
    added. The runtime adds ``error`` to its results.
    """
    made: dict[bytes, Conversion] = {}
    asked: list[Conversion] = []

    class Session:
        def __init__(self, content: bytes, options: object, providers: Sequence[str]) -> None:
            self._made = made[content]

        def get_inputs(self) -> list[types.SimpleNamespace]:
            return [types.SimpleNamespace(name=name) for name in self._made.names]

        def run(self, outputs: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            given = [inputs[name] for name in self._made.names]
            return [np.asarray(self._made.program.call(*given)) + np.float32(error)]

    def convert(
        function: Callable[..., jax.Array],
        inputs: Sequence[jax.ShapeDtypeStruct],
        input_names: Sequence[str],
        output_names: Sequence[str],
        opset: int | None = None,
    ) -> object:
        program = jax.export.export(jax.jit(function))(*inputs)
        conversion = Conversion(inputs, input_names, output_names, opset, program)
        content = f"model {len(made)}".encode()
        asked.append(conversion)
        made[content] = conversion
        return types.SimpleNamespace(SerializeToString=lambda: content)

    monkeypatch.setitem(sys.modules, "jax2onnx", types.SimpleNamespace(to_onnx=convert))
    runtime = types.SimpleNamespace(SessionOptions=types.SimpleNamespace, InferenceSession=Session)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    return asked
