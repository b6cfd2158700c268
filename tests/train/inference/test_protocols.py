import jax
import numpy as np
import pytest

from train.errors import InputError
from train.inference.protocols import add_fixed_noise


def test_a_platform_without_the_cpu_is_told_how_to_have_it(monkeypatch) -> None:
    def fail(backend: str) -> None:
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(jax, "local_devices", fail)
    monkeypatch.setattr(type(jax.config), "jax_platforms", "cuda")
    with pytest.raises(InputError, match=r"which JAX_PLATFORMS=cuda leaves out: set JAX_PLATFORMS=cuda,cpu"):
        add_fixed_noise(np.zeros((2, 2, 3), np.float32), "a.png", sigma=25, seed=0)
