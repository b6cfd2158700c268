import zlib

import jax
import numpy as np
import pytest

from train.errors import InputError
from train.randomness import key_of, on_cpu


def test_a_platform_without_the_cpu_is_told_how_to_have_it(monkeypatch):
    def fail(backend: str) -> None:
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(jax, "local_devices", fail)
    monkeypatch.setattr(type(jax.config), "jax_platforms", "cuda")
    with pytest.raises(
        InputError, match=r"not part of JAX_PLATFORMS=cuda. Set JAX_PLATFORMS=cuda,cpu"
    ):
        on_cpu()


@pytest.mark.parametrize("name", ["a.png", "ß/b.tif", "\udcff.jpg"])  # the last is no UTF-8
def test_keys_follow_the_documented_rule(name):
    with jax.default_prng_impl("rbg"):
        key = key_of(3, name)
    crc = zlib.crc32(name.encode(errors="surrogateescape"))
    expected = jax.random.fold_in(jax.random.key(3, impl="threefry2x32"), np.uint32(crc))
    np.testing.assert_array_equal(jax.random.key_data(key), jax.random.key_data(expected))
