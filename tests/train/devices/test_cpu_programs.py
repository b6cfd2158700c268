from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.assembly import assemble
from train.config import DataConfig, FitConfig, ModelConfig
from train.devices import cpu_programs, sharding
from train.devices.cpu_programs import transposes_apart

CONFIG = FitConfig(
    data=DataConfig(patch_size=8, batch_size=4),
    model=ModelConfig(model="dncnn(depth=4, features=8)"),
)
CLEAN = np.random.default_rng(0).random((4, 8, 8, 3), np.float32)


class Layers(nn.Module):
    """Two convolutions whose inputs are computed by something that XLA could fuse."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``[N, H, W, 3]`` to ``[N, H, W, 2]``."""
        x = nn.relu(nn.Conv(4, (3, 3))(jnp.sin(x)))
        return nn.Conv(2, (3, 3))(x)


def gradient_of(count: Any, image: jax.Array) -> Any:
    variables = Layers().init(jax.random.key(0), jnp.zeros((1, 5, 6, 3)))
    return jax.grad(lambda v: jnp.sum(Layers().apply(v, image) ** 2))(variables)


def apart(count: Any, image: jax.Array) -> Any:
    return transposes_apart(gradient_of, lambda count: count)(count, image)


def conditionals(function: Callable[..., Any], *arguments: Any) -> int:
    text = jax.jit(function).lower(*arguments).compile().as_text()
    return text.count(" conditional(")


@pytest.mark.parametrize("count", [0, 7, -1])
@pytest.mark.parametrize("fault", [None, np.nan, np.inf, -np.inf])
def test_the_gradient_is_that_of_the_plain_step(count: int, fault: float | None) -> None:
    image = np.random.default_rng(1).standard_normal((2, 5, 6, 3)).astype(np.float32)
    if fault is not None:
        image[1, 2, 3, 0] = fault
    wanted, found = (jax.jit(f)(count, image) for f in (gradient_of, apart))
    for new, old in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        largest = np.abs(old, where=np.isfinite(old), out=np.zeros_like(old)).max()
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-6 * largest)
        assert np.isfinite(new).all() == (fault is None)


def test_each_convolution_has_a_conditional_of_its_own_also_for_a_population() -> None:
    """Under vmap a condition that differs between members would become a choice of two results."""
    image = np.ones((2, 5, 6, 3), np.float32)
    assert conditionals(gradient_of, 0, image) == 0
    assert conditionals(apart, 0, image) == 2
    of_three = jax.vmap(apart, in_axes=(None, 0))
    images = np.random.default_rng(2).random((3, *image.shape), np.float32)
    assert conditionals(of_three, 0, images) == 2
    one = [jax.jit(apart)(0, image) for image in images]
    for found, *wanted in zip(
        jax.tree.leaves(jax.jit(of_three)(0, images)), *map(jax.tree.leaves, one), strict=True
    ):
        np.testing.assert_allclose(found, np.stack(wanted), rtol=1e-5, atol=1e-5)


def test_derivatives_in_both_directions_and_of_second_order() -> None:
    def loss(x: jax.Array, condition: jax.Array) -> jax.Array:
        return jnp.sum(cpu_programs._pass_through(condition, x**2) ** 2)  # x^4

    x = np.array([[1.0, -2.0]], np.float32)
    for condition in (True, False):
        slope, direction = jax.jvp(lambda x, c=condition: loss(x, c), (x,), (np.ones_like(x),))
        np.testing.assert_allclose(slope, 17)
        np.testing.assert_allclose(direction, 4 - 32)
        np.testing.assert_allclose(jax.grad(loss)(x, condition), 4 * x**3)
        hessian = jax.hessian(loss)(x, condition).reshape(2, 2)
        np.testing.assert_allclose(hessian, np.diag([12.0, 48.0]))


def test_only_the_fast_step_has_conditionals_for_its_four_convolutions() -> None:
    state = jax.jit(assemble(CONFIG).fresh_state)()
    count = {}
    for cpu_step in ("plain", "fast"):
        step = sharding.compile_step(
            assemble(CONFIG).update, sharding.make_mesh(1), cpu_step=cpu_step
        )
        count[cpu_step] = step.lower(state, CLEAN).compile().as_text().count(" conditional(")
    assert count["fast"] - count["plain"] == 4


def test_options_that_this_jaxlib_does_not_know_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu_programs.compiler_options.cache_clear()
    monkeypatch.setitem(cpu_programs._OPTIONS, "fast", {"xla_no_such_option": "x"})
    assert cpu_programs.compiler_options("fast") is None
    cpu_programs.compiler_options.cache_clear()


@pytest.mark.parametrize(
    ("flags", "xla", "wide"),
    [
        ("fpu sse2 avx2 fma", "", False),
        ("fpu avx2 avx512f avx512dq", "", True),
        ("fpu avx2 avx512dq", "", False),
        ("fpu avx2 avx512f", "--xla_cpu_max_isa=AVX2 --xla_x=1", False),
        ("fpu avx2 avx512f", "--xla_cpu_max_isa=AVX512", True),
        (None, "", False),
    ],
)
def test_restoring_follows_the_vectors_of_the_processor(
    flags: str | None, xla: str, wide: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_programs, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setenv("XLA_FLAGS", xla)
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t:\n")
    options = cpu_programs.inference_options()
    assert options == (None if wide else cpu_programs.compiler_options("plain"))
