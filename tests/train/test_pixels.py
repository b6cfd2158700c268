import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.data.images import to_float
from train.pixels import to_unit_range


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_stored_value_becomes_the_float_that_numpy_gives(dtype: type) -> None:
    values = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(-1, 4, 4)
    for convert in (to_unit_range, jax.jit(to_unit_range), jax.jit(jax.vmap(to_unit_range))):
        np.testing.assert_array_equal(convert(values), to_float(values))


def test_a_compiled_product_does_not_move_the_last_bit() -> None:
    # What follows in a step is fused with the conversion.
    values = np.arange(65536, dtype=np.uint16)
    doubled = jax.jit(lambda pixels: 2 * to_unit_range(pixels) + 0)(values)
    np.testing.assert_array_equal(doubled, 2 * to_float(values))


def test_floats_pass_untouched() -> None:
    floats = jnp.linspace(-1, 2, 7)
    assert to_unit_range(floats) is floats
