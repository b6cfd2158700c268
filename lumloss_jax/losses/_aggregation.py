"""Gradient aggregation: one direction from the gradients of several losses, without weights.

All functions here are pure functions of a mapping from the name of a loss to its gradient, as
``jax.jacrev`` of a function that returns a dict of losses gives it. Each method depends on the
gradients' lengths and angles only, which are computed over all parameters together.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from lumloss_jax import _active_sets, _checks, _means
from lumloss_jax._scalar_trees import Tree

MOST_TERMS = 6  # the solvers go through all subsets of the terms


class GradientAggregation(NamedTuple):
    """A direction that combines gradients; follow its negative.

    Attributes:
      direction: pytree like one gradient, the weighted sum of the gradients.
      weights: the weight of each gradient by name, scalars of 0 or more.
    """

    direction: Tree
    weights: dict[str, jax.Array]


def pcgrad(key: jax.Array, gradients: Mapping[str, Tree]) -> GradientAggregation:
    r"""PCGrad: each gradient is projected off those that it opposes, and the results are added.

    Every gradient starts as :math:`h_i = g_i`. It meets all others in a random order, and

    .. math::
        h_i \leftarrow h_i - \frac{\min(h_i \cdot g_j, 0)}{\lVert g_j \rVert^2} \, g_j

    The direction is :math:`\sum_i h_i`. With three gradients or more it may still oppose some.

    Lengths and angles are those of the whole gradients. To project the gradient of each parameter
    array separately is a common error: it changes directions in which no losses conflict.

    Args:
      key: random key for the orders, which matter for three gradients or more.
      gradients: name -> gradient, one to six pytrees of float arrays of the same structure, in
        which all arrays together are one vector.

    Returns:
      The direction and the weights, which are 1 for gradients that do not conflict. A gradient of 0
      changes nothing. If any number is not finite, everything is NaN.

    Raises:
      ValueError: when traced, for no gradient or more than six, for pytrees of different structures
        or shapes, and for arrays that are not floats.

    References:
      Yu et al., "Gradient surgery for multi-task learning", NeurIPS 2020, arXiv:2001.06782.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> gradients = {"color": jnp.array([1.0, 0.0]), "luminance": jnp.array([-1.0, 1.0])}
      >>> found = pcgrad(jax.random.key(0), gradients)
      >>> print(*(f"{x:.1f}" for x in found.direction))
      0.5 1.5
    """
    names, trees = _check_gradients(gradients)
    gramian, norms = _lengths_and_cosines(trees)
    numbers = jnp.arange(len(trees))
    orders = jax.vmap(lambda key: jax.random.permutation(key, numbers))(
        jax.random.split(key, len(trees))
    )
    return _combine(names, trees, gramian, _active_sets.projected_weights(gramian, norms, orders))


def mgda(gradients: Mapping[str, Tree]) -> GradientAggregation:
    r"""MGDA: the shortest vector among all weighted means of the gradients.

    .. math::
        d = \operatorname*{arg\,min} \Big\{ \lVert d \rVert^2 : d = \sum_i w_i g_i, \ w_i \ge 0, \
        \sum_i w_i = 1 \Big\}

    A step against it lowers all losses at equal rates, except those with weight 0, which fall
    faster. The shortest gradients dominate, so give losses comparable scales. The solution is
    exact: all sets of gradients with weights above 0 are tried.

    Lengths and angles are those of the whole gradients. To minimise for each parameter array
    separately is a common error: such a direction can raise a loss.

    Args:
      gradients: name -> gradient, one to six pytrees of float arrays of the same structure, in
        which all arrays together are one vector.

    Returns:
      The direction and the weights, which sum to 1. The direction is 0 if no step lowers all
      losses, for example if gradients are opposite or one is 0. If any number is not finite,
      everything is NaN.

    Raises:
      ValueError: when traced, for no gradient or more than six, for pytrees of different structures
        or shapes, and for arrays that are not floats.

    References:
      Desideri, "Multiple-gradient descent algorithm (MGDA) for multiobjective optimization",
      Comptes Rendus Mathematique 350, 2012. Sener and Koltun, "Multi-task learning as
      multi-objective optimization", NeurIPS 2018, arXiv:1810.04650.

    Example:
      >>> import jax.numpy as jnp
      >>> gradients = {"color": jnp.array([2.0, 0.0]), "luminance": jnp.array([0.0, 1.0])}
      >>> found = mgda(gradients)
      >>> print(f"{found.weights['color']:.1f}", *(f"{x:.1f}" for x in found.direction))
      0.2 0.4 0.8
    """
    names, trees = _check_gradients(gradients)
    gramian, norms = _lengths_and_cosines(trees)
    return _combine(names, trees, gramian, _active_sets.min_norm_weights(gramian, norms))


def cagrad(gradients: Mapping[str, Tree], *, c: ArrayLike = 0.5) -> GradientAggregation:
    r"""CAGrad: near the mean gradient, the direction that is best for the loss that gains least.

    With the mean gradient :math:`g_0`:

    .. math::
        d = \operatorname*{arg\,max}_{\lVert d - g_0 \rVert \le c \lVert g_0 \rVert} \min_i \,
        g_i \cdot d

    Its dual is a minimum over weighted means of the gradients. For each set of gradients with
    weights above 0 it has a closed form, so the solution is exact, without iterations.

    Lengths and angles are those of the whole gradients. To search for each parameter array
    separately is a common error: it solves many unrelated problems.

    Args:
      gradients: name -> gradient, one to six pytrees of float arrays of the same structure, in
        which all arrays together are one vector.
      c: how far the direction may be from the mean gradient, relative to its length, 0 or more;
        below 1 the mean of the losses still falls. 0 gives the mean gradient. It may be traced.

    Returns:
      The direction and the weights. The direction is 0 if some weighted mean of the gradients is
      (nearly) 0 and no direction lowers all losses. If any number is not finite, everything is NaN.

    Raises:
      ValueError: when traced, for no gradient or more than six, for pytrees of different structures
        or shapes, for arrays that are not floats, and for a c that is not one number or is
        concretely negative.

    References:
      Liu et al., "Conflict-averse gradient descent for multi-task learning", NeurIPS 2021,
      arXiv:2110.14048.

    Example:
      >>> import jax.numpy as jnp
      >>> gradients = {"color": jnp.array([4.0, 0.0]), "luminance": jnp.array([0.0, 2.0])}
      >>> found = cagrad(gradients)  # the mean gradient is (2, 1)
      >>> print(*(f"{x:.3f}" for x in found.direction))
      2.000 2.118
    """
    names, trees = _check_gradients(gradients)
    gramian, norms = _lengths_and_cosines(trees)
    c = _checks.check_scalar("c", c, norms.dtype)
    return _combine(names, trees, gramian, _active_sets.conflict_averse_weights(gramian, norms, c))


def upgrad(gradients: Mapping[str, Tree]) -> GradientAggregation:
    r"""UPGrad: the mean of the gradients, each projected to where it opposes no gradient.

    .. math::
        d = \frac{1}{K} \sum_i \pi(g_i), \qquad \pi(g) = \operatorname*{arg\,min} \{ \lVert d - g
        \rVert^2 : d \cdot g_j \ge 0 \text{ for all } j \}

    A small step against it raises no loss. Scaling one gradient scales its share of the direction,
    so weights of losses keep their meaning. Gradients that do not conflict give their mean. The
    solution is exact: all sets of gradients that may be opposed are tried.

    Lengths and angles are those of the whole gradients. To project the gradient of each parameter
    array separately is a common error: it changes directions in which no losses conflict.

    Args:
      gradients: name -> gradient, one to six pytrees of float arrays of the same structure, in
        which all arrays together are one vector.

    Returns:
      The direction and the weights, at least 1 / K each. A gradient of 0 adds nothing, and opposite
      gradients give 0. If any number is not finite, everything is NaN.

    Raises:
      ValueError: when traced, for no gradient or more than six, for pytrees of different structures
        or shapes, and for arrays that are not floats.

    References:
      Quinton and Rey, "Jacobian descent for multi-objective optimization", arXiv:2406.16232, 2024.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> def losses_of(x):
      ...     return {"color": jnp.abs(x[0]), "luminance": jnp.abs(x[1] - x[0])}
      >>> gradients = jax.jacrev(losses_of)(jnp.array([1.0, 2.0]))  # (1, 0) and (-1, 1)
      >>> found = upgrad(gradients)
      >>> print(*(f"{x:.2f}" for x in found.direction))
      0.25 0.75
    """
    names, trees = _check_gradients(gradients)
    gramian, norms = _lengths_and_cosines(trees)
    return _combine(names, trees, gramian, _active_sets.unconflicting_weights(gramian, norms))


def _check_gradients(gradients: Mapping[str, Tree]) -> tuple[list[str], list[Tree]]:
    if not isinstance(gradients, Mapping) or not gradients:
        raise ValueError(
            "gradients must map the name of each loss to its gradient, such as "
            f"{{'l1': ..., 'ssim': ...}}; got {'{}' if gradients == {} else type(gradients)}."
        )
    if len(gradients) > MOST_TERMS:
        raise ValueError(
            f"There are {len(gradients)} gradients, but at most {MOST_TERMS} are accepted, because "
            "all subsets of them are tried. Add some of the losses up first."
        )
    names, trees = list(gradients), [jax.tree.map(jnp.asarray, tree) for tree in gradients.values()]
    first = trees[0]
    if not jax.tree.leaves(first):
        raise ValueError(f"The gradient of {names[0]!r} holds no arrays.")
    for name, tree in zip(names, trees, strict=True):
        structure, common = str(jax.tree.structure(tree)), str(jax.tree.structure(first))
        if structure != common:
            raise ValueError(
                f"The gradient of {name!r} has structure {structure}, and that of {names[0]!r} "
                f"{common}. Differentiate all losses with respect to the same parameters."
            )
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                raise ValueError(
                    f"The gradient of {name!r} holds an array of {leaf.dtype} at "
                    f"{jax.tree_util.keystr(path) or 'its root'}, but gradients must be floats."
                )
        shapes, wanted = ([leaf.shape for leaf in jax.tree.leaves(t)] for t in (tree, first))
        if shapes != wanted:
            raise ValueError(
                f"The gradient of {name!r} has arrays of shapes {shapes}, and that of "
                f"{names[0]!r} {wanted}. Differentiate all losses with respect to the same "
                "parameters."
            )
    return names, trees


def _lengths_and_cosines(trees: Sequence[Tree]) -> tuple[jax.Array, jax.Array]:
    """Cosines ``[K, K]`` and norms ``[K]`` of gradients, over all their arrays together.

    A gradient of 0 has a cosine of 0 with itself too. No gradient flows through these numbers.
    """
    vectors = [[lax.stop_gradient(leaf) for leaf in jax.tree.leaves(tree)] for tree in trees]
    dtype = _means.accumulation_dtype(*(leaf for vector in vectors for leaf in vector))
    vectors = [[leaf.astype(dtype) for leaf in vector if leaf.size] for vector in vectors]

    def unit(vector: list[jax.Array]) -> tuple[list[jax.Array], jax.Array]:
        # Divided by the largest entry first: squares of 1e-30 or 1e30 would leave float32's range.
        largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in vector]))
        largest = jnp.where(largest == 0, jnp.ones_like(largest), largest)
        scaled = [leaf / largest for leaf in vector]
        length = jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in scaled))
        divisor = jnp.where(length == 0, jnp.ones_like(length), length)
        return [leaf / divisor for leaf in scaled], length * largest

    units, norms = zip(*map(unit, vectors), strict=True)

    def cosine(i: int, j: int) -> jax.Array:
        pairs = zip(units[i], units[j], strict=True)
        return jnp.sum(jnp.stack([jnp.sum(x * y) for x, y in pairs]))

    count = range(len(trees))
    known = {(i, j): cosine(i, j) for i in count for j in count if i <= j}
    rows = [jnp.stack([known[min(i, j), max(i, j)] for j in count]) for i in count]
    return jnp.stack(rows), jnp.stack(norms)


def _combine(
    names: Sequence[str], trees: Sequence[Tree], gramian: jax.Array, weights: jax.Array
) -> GradientAggregation:
    # The chosen subset of gradients that are not finite would be arbitrary.
    weights = jnp.where(jnp.all(jnp.isfinite(gramian)), weights, jnp.nan)

    def add(*leaves: jax.Array) -> jax.Array:
        total = sum(weights[i] * leaf.astype(weights.dtype) for i, leaf in enumerate(leaves))
        return jnp.asarray(total).astype(leaves[0].dtype)

    direction = jax.tree.map(add, *trees)
    return GradientAggregation(direction, {name: weights[i] for i, name in enumerate(names)})
