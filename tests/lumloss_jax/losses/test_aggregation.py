"""Gradient aggregation: parity with torchjd, cases by hand, invariants, and gradients of all kinds.

Functions are compiled once for each number of gradients.
"""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumloss_jax import losses

SHAPES = ((3, 4), (5,))
CASES = (
    "two_in_conflict",
    "two_in_harmony",
    "three_in_conflict",
    "nearly_parallel",
    "six_in_conflict",
    "six_of_all_scales",
)
METHODS = {
    "pcgrad": jax.jit(functools.partial(losses.pcgrad, jax.random.key(0))),
    "mgda": jax.jit(losses.mgda),
    "cagrad": jax.jit(losses.cagrad),
    "upgrad": jax.jit(losses.upgrad),
}
each_method = pytest.mark.parametrize("method", METHODS)


def split(vectors: Any, dtype: Any = np.float32) -> dict[str, dict[str, np.ndarray]]:
    """Rows of 17 numbers as gradients of a kernel and a bias."""
    return {
        f"loss{i}": {"kernel": row[:12].reshape(3, 4), "bias": row[12:]}
        for i, row in enumerate(np.asarray(vectors, dtype))
    }


def joined(direction: Any) -> np.ndarray:
    return np.concatenate([np.ravel(direction["kernel"]), np.ravel(direction["bias"])])


def of(method: str, vectors: Any) -> np.ndarray:
    """The direction of a method, from rows of 17 numbers."""
    return np.float64(joined(METHODS[method](split(vectors)).direction))


def weights_of(method: str, *gradients: list[float]) -> list[float]:
    named = {f"loss{i}": jnp.array(gradient) for i, gradient in enumerate(gradients)}
    return [float(weight) for weight in METHODS[method](named).weights.values()]


def direction_of(method: str, *gradients: list[float]) -> list[float]:
    named = {f"loss{i}": jnp.array(gradient) for i, gradient in enumerate(gradients)}
    return [float(x) for x in METHODS[method](named).direction]


@functools.cache
def three_in_conflict() -> np.ndarray:
    vectors = np.random.default_rng(2).normal(size=(3, 17))
    return vectors - 0.6 * vectors.mean(axis=0)


@pytest.fixture(scope="module")
def reference(golden: Path) -> Mapping[str, np.ndarray]:
    folder = golden / "aggregation"
    shapes = json.loads((folder / "aggregation.json").read_text())["shapes"]
    assert tuple(map(tuple, shapes)) == SHAPES
    with np.load(folder / "aggregation.npz") as arrays:
        return dict(arrays)


# --- parity


@pytest.mark.parametrize("case", CASES)
def test_parity_with_torchjd(case: str, reference: Mapping[str, np.ndarray], float64: None) -> None:
    gradients = split(reference[f"{case}/gradients"], np.float64)
    upgrad, mgda, cagrad = (
        joined(METHODS[method](gradients).direction) for method in ("upgrad", "mgda", "cagrad")
    )
    for found, name in ((upgrad, "upgrad"), (mgda, "shortest"), (cagrad, "cagrad_0.5")):
        wanted = reference[f"{case}/{name}"]
        assert np.linalg.norm(found - wanted) <= 1e-6 * np.linalg.norm(wanted), name
    # torchjd approaches the shortest vector by iterations. Any other convex combination is at least
    # as far from it as their squares differ.
    theirs = reference[f"{case}/mgda"]
    assert mgda @ mgda <= theirs @ theirs * (1 + 1e-9)
    assert np.sum((mgda - theirs) ** 2) <= (theirs @ theirs) * (1 + 1e-9) - mgda @ mgda


def test_parity_of_pcgrad_in_all_orders(reference: Mapping[str, np.ndarray], float64: None) -> None:
    """Three gradients have eight possible results, and random keys find all of them."""
    for case, count in (("two_in_conflict", 1), ("three_in_conflict", 8)):
        gradients = split(reference[f"{case}/gradients"], np.float64)
        keys = jax.random.split(jax.random.key(1), 64)
        found = jax.jit(jax.vmap(losses.pcgrad, in_axes=(0, None)))(keys, gradients).direction
        wanted = reference[f"{case}/pcgrad"]
        assert len(wanted) == count
        rows = np.concatenate(
            [np.reshape(found["kernel"], (64, 12)), np.reshape(found["bias"], (64, 5))], axis=1
        )
        off = np.max(np.abs(rows[:, None] - wanted[None]), axis=2)
        assert np.all(off.min(axis=1) < 1e-9)
        assert set(off.argmin(axis=1)) == set(range(count))


# --- by hand


def test_two_gradients_by_hand() -> None:
    a, b = [1.0, 0.0], [-1.0, 1.0]  # a b = -1, |b|^2 = 2
    # a becomes a + b/2 = (1/2, 1/2), and b becomes b + a = (0, 1).
    np.testing.assert_allclose(direction_of("pcgrad", a, b), [0.5, 1.5], rtol=1e-5)
    np.testing.assert_allclose(weights_of("pcgrad", a, b), [2, 1.5], rtol=1e-5)
    # With two gradients, both methods project alike, but UPGrad takes the mean.
    np.testing.assert_allclose(direction_of("upgrad", a, b), [0.25, 0.75], rtol=1e-5)
    # The shortest vector between them is orthogonal to b - a = (-2, 1): w = 2/5 for b.
    np.testing.assert_allclose(weights_of("mgda", a, b), [0.6, 0.4], rtol=1e-5)
    np.testing.assert_allclose(direction_of("mgda", a, b), [0.2, 0.4], rtol=1e-5)
    # By symmetry both have the same weight: (1, 0) and (0, 1) add half of |g0| = sqrt(1/2) along
    # the diagonal.
    equal = np.full(2, 0.5 + 0.5 * np.sqrt(0.5) * np.sqrt(0.5))
    np.testing.assert_allclose(direction_of("cagrad", [1.0, 0.0], [0.0, 1.0]), equal, rtol=1e-5)


def test_gradients_in_harmony_are_added_up() -> None:
    a, b = [1.0, 0.5], [0.25, 2.0]
    assert weights_of("pcgrad", a, b) == [1, 1]
    assert weights_of("upgrad", a, b) == [0.5, 0.5]
    # All of b is beyond a, so a is the shortest.
    np.testing.assert_allclose(weights_of("mgda", [1.0, 0.0], [2.0, 1.0]), [1, 0], atol=1e-6)


def test_projecting_each_parameter_array_would_be_something_else() -> None:
    """The gradients agree as a whole, and only those of the bias are opposite."""
    gradients = {
        "color": {"kernel": jnp.array([2.0, 0.0]), "bias": jnp.array([1.0])},
        "luminance": {"kernel": jnp.array([1.0, 1.0]), "bias": jnp.array([-1.0])},
    }
    alone = {name: {"bias": gradient["bias"]} for name, gradient in gradients.items()}
    whole = {
        name: {"all": jnp.concatenate([gradient["kernel"], gradient["bias"]])}
        for name, gradient in gradients.items()
    }
    for method in ("pcgrad", "upgrad"):
        found = METHODS[method](gradients).direction
        plain = 1.0 if method == "pcgrad" else 0.5
        np.testing.assert_allclose(found["kernel"], [3 * plain, plain], rtol=1e-5)
        np.testing.assert_allclose(found["bias"], [0], atol=1e-6)
    for method in METHODS:
        found = METHODS[method](gradients).direction
        in_one = METHODS[method](whole).direction["all"]
        np.testing.assert_allclose([*found["kernel"], *found["bias"]], in_one, rtol=1e-5, atol=1e-6)
    # An opposite bias alone has the mean 0 by every method, which the whole direction need not have
    assert abs(float(METHODS["cagrad"](gradients).direction["bias"][0])) > 0.1
    assert float(METHODS["cagrad"](alone).direction["bias"][0]) == 0


# --- invariants


@each_method
def test_scale_and_order_do_not_matter(method: str) -> None:
    vectors = three_in_conflict()
    wanted = of(method, vectors)
    size = np.linalg.norm(wanted)
    for scale in (1e-25, 1e25):  # whose squares float32 does not hold
        assert np.linalg.norm(of(method, scale * vectors) / scale - wanted) < 1e-5 * size
    if method != "pcgrad":  # which draws an order for each gradient
        assert np.linalg.norm(of(method, vectors[[2, 0, 1]]) - wanted) < 1e-5 * size


def test_upgrad_opposes_no_gradient_and_is_linear_in_the_weights() -> None:
    for seed in range(20):
        vectors = np.random.default_rng(seed).normal(size=(3, 17))
        vectors = (vectors - 0.9 * vectors.mean(axis=0)) * [[1e-3], [1.0], [30.0]]
        found = of("upgrad", vectors)
        products = vectors @ found / np.linalg.norm(vectors, axis=1) / np.linalg.norm(found)
        assert products.min() > -1e-5
    vectors = three_in_conflict()
    once, twice, thrice = (of("upgrad", vectors * [[n], [1], [1]]) for n in (1, 2, 3))
    np.testing.assert_allclose(thrice - twice, twice - once, atol=1e-5)


def test_mgda_is_the_shortest_of_all_convex_combinations() -> None:
    grid = np.array([(i, j, 40 - i - j) for i in range(41) for j in range(41 - i)]) / 40
    for seed in range(20):
        vectors = np.random.default_rng(seed).normal(size=(3, 17)) + 0.5
        vectors *= [[1.0], [1.5], [0.5]]
        found = of("mgda", vectors)
        shortest = np.linalg.norm(grid @ vectors, axis=1).min()
        assert 0.98 * shortest < np.linalg.norm(found) < shortest * (1 + 1e-6)
        # All losses fall at least as fast as the square of its length.
        assert (vectors @ found).min() > (1 - 1e-5) * (found @ found)


def test_cagrad_is_the_best_direction_of_its_ball() -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        vectors = np.random.default_rng(seed).normal(size=(3, 17))
        vectors += 0.5 * vectors.mean(axis=0)
        found, mean = of("cagrad", vectors), vectors.mean(axis=0)
        radius = 0.5 * np.linalg.norm(mean)
        assert np.linalg.norm(found - mean) < radius * (1 + 1e-5)
        others = (found - mean) + 0.3 * radius * rng.normal(size=(500, 17)) / np.sqrt(17)
        others *= radius / np.linalg.norm(others, axis=1, keepdims=True)
        assert (vectors @ found).min() >= ((others + mean) @ vectors.T).min(axis=1).max() - 1e-5


# --- gradients of all kinds


@each_method
def test_zero_identical_and_opposite_gradients(method: str) -> None:
    a, zero = [3.0, -4.0], [0.0, 0.0]
    np.testing.assert_array_equal(direction_of(method, zero, zero), 0)
    np.testing.assert_allclose(direction_of(method, a, [-3.0, 4.0]), 0, atol=1e-5)
    same = {"pcgrad": 2.0, "mgda": 1.0, "cagrad": 1.5, "upgrad": 1.0}[method]
    np.testing.assert_allclose(direction_of(method, a, a), np.multiply(same, a), rtol=1e-5)
    one_zero = {"pcgrad": 1.0, "mgda": 0.0, "cagrad": 0.0, "upgrad": 0.5}[method]
    np.testing.assert_allclose(direction_of(method, a, zero), np.multiply(one_zero, a), rtol=1e-5)
    assert all(np.isfinite(weights_of(method, zero, a)))


@each_method
def test_one_number_that_is_not_finite_makes_all_nan(method: str) -> None:
    """So that a step that checks its update skips it."""
    for bad in (np.nan, np.inf):
        assert np.isnan(direction_of(method, [1.0, 2.0], [bad, 1.0])).all()
        assert np.isnan(weights_of(method, [bad, 1.0], [1.0, 2.0])).all()


@each_method
def test_half_precision_keeps_its_dtype_and_one_gradient_is_itself(method: str) -> None:
    gradient = {"kernel": jnp.array([[1.0, -2.0]], jnp.bfloat16), "bias": jnp.array([0.5])}
    found = METHODS[method]({"l1": gradient})
    factor = 1.5 if method == "cagrad" else 1.0
    chex.assert_trees_all_equal_dtypes(found.direction, gradient)
    wanted = jax.tree.map(lambda x: (factor * x.astype(jnp.float32)).astype(x.dtype), gradient)
    chex.assert_trees_all_close(found.direction, wanted, rtol=1e-2)
    assert found.weights["l1"].dtype == jnp.float32


# --- errors

SEVEN = {f"loss{i}": jnp.ones(2) for i in range(7)}


@pytest.mark.parametrize("method", ["pcgrad", "mgda", "cagrad", "upgrad"])
@pytest.mark.parametrize(
    ("gradients", "message"),
    [
        ({}, "gradients must map the name"),
        ([jnp.ones(2)], "gradients must map the name"),
        (SEVEN, "There are 7 gradients, but at most 6 are accepted"),
        ({"a": {"x": jnp.ones(2)}, "b": {"y": jnp.ones(2)}}, "'b' has structure"),
        ({"a": jnp.ones(2), "b": jnp.ones(3)}, r"'b' has arrays of shapes \[\(3,\)\]"),
        ({"a": jnp.ones(2, jnp.int32)}, "holds an array of int32 at its root"),
        ({"a": {}}, "'a' holds no arrays"),
    ],
)
def test_errors(method: str, gradients: Any, message: str) -> None:
    key = (jax.random.key(0),) if method == "pcgrad" else ()
    with pytest.raises(ValueError, match=message):
        getattr(losses, method)(*key, gradients)


def test_errors_of_c() -> None:
    with pytest.raises(ValueError, match="c must be finite and not negative; got -1"):
        losses.cagrad({"a": jnp.ones(2)}, c=-1)
    with pytest.raises(ValueError, match="c must be one number"):
        losses.cagrad({"a": jnp.ones(2)}, c=np.ones(2))
