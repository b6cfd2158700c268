"""Small quadratic problems over the gradients of a few losses, solved exactly.

A solution is a weighted sum of gradients in which some weights are 0. If it is known which ones,
the others follow from a linear system. There are few gradients, so all 2^K possibilities are solved
at once, and the one that satisfies the conditions of an optimum (Karush, Kuhn and Tucker) is taken.
Among several candidates, the one that violates them least wins. This measure is linear in the
error. The minimised value is not: near its minimum it is flat, and float32 would hide an error of
3e-4 in the direction.

All systems are written for gradients of norm 1, so that losses of very different scales lose no
digits. ``gramian`` is the matrix of cosines, and ``norms`` the norms of the gradients.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# In these multiples of the dtype's resolution: added to the cosines' diagonal, so that systems with
# parallel gradients have a solution.
_RIDGE = 4


def min_norm_weights(gramian: jax.Array, norms: jax.Array) -> jax.Array:
    """Weights of the shortest convex combination of gradients.

    Args:
      gramian: cosines between the gradients, ``[K, K]``.
      norms: norms of the gradients, ``[K]``.

    Returns:
      The weights, ``[K]``: 0 or more, with a sum of 1.
    """
    sets = _sets(len(norms), smallest=1)
    ratios = _ratios_to_smallest(norms)
    solved = _solve_bordered(gramian, ratios, sets, [jnp.zeros_like(norms)], [1.0])
    parts, level = solved[:, :-1, 0], solved[:, -1:, 0]
    # Optimum: every gradient has at least the same product with the combination.
    slack = _times(parts, gramian) - level * ratios[None]
    violation = jnp.maximum(_most_negative(slack, sets), jnp.max(-parts * ratios[None], axis=-1))
    best = jnp.maximum(parts[jnp.argmin(violation)] * ratios, 0)
    # A gradient of 0 is the shortest combination itself.
    alone = jax.nn.one_hot(jnp.argmin(norms), len(norms), dtype=norms.dtype)
    return jnp.where(jnp.min(norms) > 0, best / jnp.sum(best), alone)


def conflict_averse_weights(gramian: jax.Array, norms: jax.Array, radius: jax.Array) -> jax.Array:
    """Weights of the direction whose smallest product with a gradient is largest.

    Directions lie in a ball around the mean gradient g0, whose radius is a share c of its length.
    The dual problem is to minimise g_w g0 + c |g0| |g_w| over convex combinations g_w, and the
    direction is g0 + c |g0| g_w / |g_w|.

    Args:
      gramian: cosines between the gradients, ``[K, K]``.
      norms: norms of the gradients, ``[K]``.
      radius: c, a scalar.

    Returns:
      The weights, ``[K]``; all 0 if the optimal combination is 0, because then there is no
      direction.
    """
    count, sets = len(norms), _sets(len(norms), smallest=1)
    eps = jnp.finfo(norms.dtype).eps
    ratios = _ratios_to_smallest(norms)
    largest = jnp.maximum(jnp.max(norms), jnp.finfo(norms.dtype).tiny)
    # Products of the unit gradients with g0, and its length, in multiples of the largest norm
    products = _times((norms / largest)[None], gramian)[0] / count
    length = jnp.sqrt(jnp.maximum(jnp.sum(products * norms / largest) / count, 0))
    slopes = products / jnp.where(length > 0, length, 1)

    # --- With s = |g_w| / c, the optimum of a set is p + s q: two right-hand sides
    solved = _solve_bordered(gramian, ratios, sets, [jnp.zeros_like(norms), -slopes], [1.0, 0.0])
    p, q = solved[:, :-1, 0], solved[:, :-1, 1]
    p_square, q_square = (jnp.sum(x * _times(x, gramian), axis=-1) for x in (p, q))
    # |g_w|^2 = p^2 + s^2 q^2, because the weights of q sum to 0, so that q is orthogonal to p.
    left = jnp.square(radius) - q_square
    possible = (left > eps) & (p_square > 100 * eps)
    s = jnp.sqrt(jnp.where(possible, p_square, 1) / jnp.where(possible, left, 1))[:, None]
    parts, level = p + s * q, solved[:, -1:, 0] + s * solved[:, -1:, 1]

    # --- conditions of the optimum
    slack = (_times(parts, gramian) - level * ratios[None]) / s + slopes[None]
    violation = jnp.maximum(_most_negative(slack, sets), jnp.max(-parts * ratios[None], axis=-1))
    violation = jnp.where(possible, violation, jnp.inf)
    chosen = jnp.argmin(violation)
    best = jnp.maximum(parts[chosen] * ratios, 0)
    best = best / jnp.maximum(jnp.sum(best), eps)
    # c |g0| / |g_w| times the weights of g_w; |g_w| is c s times the smallest norm.
    scale = length * (largest / jnp.where(jnp.min(norms) > 0, jnp.min(norms), 1)) / s[chosen, 0]
    found = (violation[chosen] < 10 * jnp.sqrt(eps)) & (jnp.min(norms) > 0)
    weights = jnp.where(found, 1 / count + scale * best, 0)
    return jnp.where((radius > 0) & (length > 0), weights, jnp.full_like(norms, 1 / count))


def unconflicting_weights(gramian: jax.Array, norms: jax.Array) -> jax.Array:
    """Weights of the mean of gradients, each projected to where it conflicts with none.

    The projection is onto the cone of directions that have a product of 0 or more with every
    gradient.

    Args:
      gramian: cosines between the gradients, ``[K, K]``.
      norms: norms of the gradients, ``[K]``.

    Returns:
      The weights, ``[K]``, 0 or more.
    """
    count, sets = len(norms), _sets(len(norms), smallest=0)
    eye = jnp.eye(count, dtype=norms.dtype)
    # Column i: gradient i plus these multiples of the gradients that it would oppose
    right = jnp.where(sets[:, :, None], -gramian[None], 0)
    multiples = jnp.linalg.solve(_restricted(gramian, sets), right)
    slack = _times(gramian[None], multiples + eye[None])
    violation = jnp.maximum(
        jnp.max(-multiples, axis=1),
        jnp.max(jnp.where(sets[:, :, None], jnp.abs(slack), -slack), axis=1),
    )
    chosen = jnp.argmin(violation, axis=0)  # one set for each gradient
    picked = jnp.take_along_axis(multiples, chosen[None, None], axis=0)[0]
    added = jnp.sum(jnp.maximum(picked, 0) * norms[None], axis=1) / _safe(norms)
    return (1 + added) / count


def projected_weights(gramian: jax.Array, norms: jax.Array, orders: jax.Array) -> jax.Array:
    """Weights of the sum of gradients, each projected off those that it opposes, one by one.

    Args:
      gramian: cosines between the gradients, ``[K, K]``.
      norms: norms of the gradients, ``[K]``.
      orders: row i says in which order gradient i is compared with the gradients, ``[K, K]``.

    Returns:
      The weights, ``[K]``, 1 or more.
    """
    count = len(norms)
    itself = jnp.arange(count)
    largest = _safe(jnp.max(norms))
    multiples = jnp.diag(norms / largest)  # row i: gradient i, as multiples of unit gradients
    for others in orders.T:
        product = jnp.sum(multiples * gramian[others], axis=1)
        # Unit gradients have a square of 1.
        taken = jnp.where((product < 0) & (others != itself), product, 0)
        multiples = multiples.at[itself, others].add(-taken)
    added = jnp.sum(multiples - jnp.diag(norms / largest), axis=0) / _safe(norms / largest)
    return 1 + added


@functools.cache
def _sets(count: int, *, smallest: int) -> np.ndarray:
    """All sets of at least ``smallest`` of ``count`` gradients, small ones first."""
    sets = [
        [i in members for i in range(count)]
        for size in range(smallest, count + 1)
        for members in itertools.combinations(range(count), size)
    ]
    return np.array(sets)


def _restricted(gramian: jax.Array, sets: np.ndarray) -> jax.Array:
    """The cosines within each set, and 1 on the diagonal for all others, ``[sets, K, K]``."""
    eye = jnp.eye(len(gramian), dtype=gramian.dtype)
    ridge = _RIDGE * jnp.finfo(gramian.dtype).eps
    inside = sets[:, :, None] & sets[:, None, :]
    return jnp.where(inside, (gramian + ridge * eye)[None], eye[None])


def _solve_bordered(
    gramian: jax.Array,
    ratios: jax.Array,
    sets: np.ndarray,
    rights: list[jax.Array],
    sums: list[float],
) -> jax.Array:
    """Solves G x - y r = right with r x = sum within each set, ``[sets, K + 1, rights]``.

    The last row is the multiplier y. Without the border, gradients that cancel would make the
    system singular.
    """
    dtype = gramian.dtype
    members = jnp.asarray(sets, dtype)
    border = members * ratios[None]
    top = jnp.concatenate([_restricted(gramian, sets), -border[:, :, None]], axis=2)
    bottom = jnp.concatenate([border, jnp.zeros((len(sets), 1), dtype)], axis=1)[:, None]
    columns = [
        jnp.concatenate([members * right[None], jnp.full((len(sets), 1), total, dtype)], axis=1)
        for right, total in zip(rights, sums, strict=True)
    ]
    return jnp.linalg.solve(jnp.concatenate([top, bottom], axis=1), jnp.stack(columns, axis=2))


def _ratios_to_smallest(norms: jax.Array) -> jax.Array:
    """The smallest norm divided by each norm: a weight is this times its unit gradient's."""
    return jnp.where(jnp.min(norms) > 0, jnp.min(norms) / _safe(norms), 1)


def _most_negative(slack: jax.Array, sets: np.ndarray) -> jax.Array:
    """How far slacks are below 0, or from 0 within their set; the largest of each set."""
    return jnp.max(jnp.where(sets, jnp.abs(slack), -slack), axis=-1)


def _times(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.matmul(x, y, precision=lax.Precision.HIGHEST)


def _safe(norms: jax.Array) -> jax.Array:
    """Norms as divisors: 1 for a gradient of 0, whose multiples are 0."""
    return jnp.where(norms > 0, norms, jnp.ones_like(norms))
