"""How functions are compiled for CPUs: XLA's options, and a step whose transposes stand alone.

The time of a step differs by a factor of two between ways to compile it, and so do the last bits of
its result. A run is therefore compiled in one way from its first step to its last: ``--cpu-step``,
which is saved with the run.

========  ==========================================  =======================
way       libraries that XLA calls                    transposes of images
========  ==========================================  =======================
plain     YNNPACK for products of matrices            fused with what is near
fast      YNNPACK for sums over axes as well          kept apart
========  ==========================================  =======================

Both keep convolutions with Eigen. jaxlib 0.10 would compute them with YNNPACK, whose gradient of
the weights uses a single thread. "plain" is how runs were compiled before there was a choice.
"""

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

CpuStep = Literal["plain", "fast"]

_CPUINFO = Path("/proc/cpuinfo")  # only on Linux
_LIBRARIES = "xla_cpu_experimental_ynn_fusion_type"
_OPTIONS: dict[CpuStep, dict[str, Any]] = {
    "plain": {_LIBRARIES: "LIBRARY_FUSION_TYPE_DOT"},
    "fast": {_LIBRARIES: "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"},
}


@functools.cache
def compiler_options(cpu_step: CpuStep) -> dict[str, Any] | None:
    """Returns compiler options of a training step, if a trial compilation accepts them.

    Here an unknown name is an error that can be caught. In XLA_FLAGS it would end the process.

    Args:
      cpu_step: which options.

    Returns:
      The options. None on other backends, and if this jaxlib does not know them.
    """
    if jax.default_backend() != "cpu":
        return None
    options = _OPTIONS[cpu_step]
    trial: Any = jax.jit(lambda x: x + 1, compiler_options=options)
    try:
        trial.lower(0.0).compile()
    # Older and newer versions of jaxlib have different options, and raise different errors.
    except Exception:
        return None
    return dict(options)


def inference_options() -> dict[str, Any] | None:
    """Returns compiler options of a function that restores images with convolutions.

    There is no gradient of weights. If the processor computes with vectors of 512 bits, XLA's own
    choice is faster, and on other processors Eigen is. docs/costs.md has the measurements. Networks
    with attention were not measured on such processors, and keep the options of "plain".
    """
    return None if _has_avx512() else compiler_options("plain")


def _has_avx512() -> bool:
    """Whether XLA compiles for vectors of 512 bits; False if the processor is unknown."""
    limit = re.search(r"--xla_cpu_max_isa=(\w+)", os.environ.get("XLA_FLAGS", ""))
    if limit is not None and "AVX512" not in limit[1].upper():
        return False
    try:
        return re.search(r"^flags\s*:.* avx512f\b", _CPUINFO.read_text(), re.MULTILINE) is not None
    except OSError:
        return False


def transposes_apart(
    step: Callable[..., Any], count: Callable[[Any], jax.Array]
) -> Callable[..., Any]:
    """Makes the same step, in which XLA cannot fuse what computes an image with its transpose.

    The gradient of a convolution's weights needs the input with channels and batch exchanged. XLA
    computes such a transpose quickly by itself. But it fuses bias, batch norm and ReLU into it, and
    a fusion that writes across the memory is slow. An optimization barrier does not prevent it,
    because it is removed before fusion. XLA fuses nothing across a conditional.

    So the input of each convolution passes through a conditional whose two branches are the same.
    Whatever its condition is, the result is exactly the input, also for NaN and infinity. The
    condition must be a value that XLA does not know when it compiles, because it would remove the
    conditional otherwise. The number of the step is one that stays a scalar under ``vmap``.

    Args:
      step: the update. Its first argument is the state.
      count: takes the number of the step, a scalar, from the state.

    Returns:
      The update, which computes the same and can be differentiated to any order.
    """

    def apart(state: Any, *arguments: Any) -> Any:
        started = count(state) >= 0

        def intercept(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
            module = context.module
            # XLA computes convolutions in groups in a different way.
            plain = isinstance(module, nn.Conv) and module.feature_group_count == 1
            if plain and context.method_name == "__call__":
                args = (_pass_through(started, args[0]), *args[1:])
            return method(*args, **kwargs)

        with nn.intercept_methods(intercept):
            return step(state, *arguments)

    return apart


@jax.custom_jvp
def _pass_through(condition: jax.Array, image: jax.Array) -> jax.Array:
    """Returns the image, through a conditional."""

    # JAX leaves out a branch's output that is the input itself, so the branches move an axis. In
    # XLA's program this costs nothing, because it only renames the axes of the same memory.
    def moved(image: jax.Array) -> jax.Array:
        return jnp.moveaxis(image, -1, 0)

    return jnp.moveaxis(jax.lax.cond(condition, moved, moved, image), 0, -1)


@_pass_through.defjvp
def _pass_through_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    # Gradients need no conditional: their transposes are fused with little.
    return _pass_through(*primals), tangents[1]
