"""Powers by exponential and logarithm: as exact as float32 allows, in slope and curvature too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lumloss_jax.color import _powers

FUNCTIONS = {
    "2.4": (_powers.power_2_4, 2.4),
    "1/3": (lambda base: _powers.power(base, 1 / 3), 1 / 3),
}
every_power = pytest.mark.parametrize(("function", "exponent"), FUNCTIONS.values(), ids=FUNCTIONS)


@every_power
def test_values_and_slopes_are_exact_within_a_few_units_in_the_last_place(
    function, exponent
) -> None:
    base = np.linspace(0.008, 2, 100_001).astype(np.float32)
    value, slope = jax.jit(lambda x: jax.jvp(function, (x,), (jnp.ones_like(x),)))(base)
    exact = base.astype(np.float64) ** exponent
    for result, expected in ((value, exact), (slope, exponent * exact / base)):
        units = (np.asarray(result) - expected) / np.spacing(expected.astype(np.float32))
        assert np.abs(units).max() < 6


@every_power
def test_derivatives_are_those_of_numerical_differences(function, exponent, float64) -> None:
    base = jnp.array([0.1, 0.3, 1.0, 7.0])
    check_grads(function, (base,), order=2, modes=("fwd", "rev"), rtol=1e-6, atol=1e-6, eps=1e-5)


@every_power
def test_what_is_infinite_stays_so(function, exponent) -> None:
    assert function(jnp.float32(np.inf)) == np.inf
