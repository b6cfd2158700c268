"""Self-balancing weights: each loss is divided by its learned uncertainty.

All functions here are pure functions of pytrees and have no optimiser of their own. A pytree of
losses holds one scalar per leaf, in any structure, such as the terms that a composed loss returns.
"""

import jax
import jax.numpy as jnp
from jax import lax

from lumloss_jax import _checks, _means, _scalar_trees
from lumloss_jax._scalar_trees import Tree

LIKELIHOODS = ("gaussian", "laplace")

# Added to s^2, so that a scale of 0 does not lead to a division by 0. At s = 1 this is below
# float32's resolution.
_SMALLEST_SQUARE = 1e-8


def uncertainty_init(losses: Tree) -> Tree:
    """Scales for a pytree of losses, all 1 at first, to be learned with the network's parameters.

    Args:
      losses: pytree of scalars, one per loss; only its structure is used.

    Returns:
      The scales s, a pytree of float32 ones of the same structure.

    Raises:
      ValueError: for a pytree without leaves, or with one that is not a scalar.

    Example:
      >>> scales = uncertainty_init({"luminance": 0.1, "color": 0.2})
      >>> print(f"{scales['color']:.1f}")
      1.0
    """
    _scalar_trees.check_scalars("losses", losses)
    return jax.tree.map(lambda _: jnp.ones((), jnp.float32), losses)


def uncertainty_loss(scales: Tree, losses: Tree, *, likelihood: str) -> jax.Array:
    r"""Sum of losses, each divided by its learned uncertainty.

    For squared errors, whose likelihood is Gaussian with standard deviation :math:`s_i`, and for
    absolute errors (L1, the luminance loss), whose likelihood is a Laplace distribution with scale
    :math:`|s_i|`:

    .. math::
        L_\text{gaussian} = \sum_i \frac{L_i}{2 s_i^2} + \log(1 + s_i^2), \qquad
        L_\text{laplace} = \sum_i \frac{L_i}{|s_i|} + \log(1 + |s_i|)

    Differentiate with respect to the scales and the network's parameters together, and give both to
    one optimiser. With log(1 + .) instead of log, the total cannot become negative, and a loss near
    0 drives its weight to infinity less quickly. For a constant loss, the Gaussian scale settles
    where :math:`2 s^4 = L (1 + s^2)`, the Laplace scale where :math:`s^2 = L (1 + |s|)`.

    Args:
      scales: s_i, pytree of scalars, from :func:`uncertainty_init`; their sign has no meaning.
      losses: L_i, pytree of scalars of the same structure, 0 or more.
      likelihood: ``"gaussian"`` for squared errors, ``"laplace"`` for absolute ones. It applies to
        all leaves; for a mixture, add two totals.

    Returns:
      The total, shape (), 0 or more, lower is better; float64 if a loss is, else float32.

    Raises:
      ValueError: when traced, for pytrees of different structures, leaves that are not scalars, or
        an unknown likelihood.

    References:
      Kendall, Gal, Cipolla, "Multi-task learning using uncertainty to weigh losses for scene
      geometry and semantics", CVPR 2018, arXiv:1705.07115. Liebel and Koerner, "Auxiliary tasks in
      multi-task learning", arXiv:1805.06334, 2018 (log(1 + s^2)).

    Example:
      >>> import functools, jax
      >>> losses = {"luminance": 0.1, "color": 0.2}
      >>> scales = uncertainty_init(losses)
      >>> # both losses are absolute errors
      >>> total = functools.partial(uncertainty_loss, likelihood="laplace")
      >>> print(f"{total(scales, losses):.4f}")  # 0.3 + 2 log 2
      1.6863
      >>> # positive: both scales will shrink
      >>> gradient = jax.grad(total)(scales, losses)
      >>> print(f"{gradient['color']:.4f}")
      0.3000
    """
    _scalar_trees.check_same("scales", scales, losses)
    squares, dtype = _squares(scales, losses, likelihood)
    terms = [
        jnp.asarray(loss).astype(dtype) / (2 * square) + jnp.log1p(square)
        if likelihood == "gaussian"
        else jnp.asarray(loss).astype(dtype) / jnp.sqrt(square) + jnp.log1p(jnp.sqrt(square))
        for loss, square in zip(jax.tree.leaves(losses), squares, strict=True)
    ]
    return sum(terms[1:], start=terms[0])


def uncertainty_weights(scales: Tree, *, likelihood: str) -> Tree:
    r"""The weights that learned scales give to their losses, for logging or for use as constants.

    .. math::
        w_i = \frac{1}{2 s_i^2} \text{ (gaussian)}, \qquad w_i = \frac{1}{|s_i|} \text{ (laplace)}

    Args:
      scales: s_i, pytree of scalars, from :func:`uncertainty_init`.
      likelihood: as in :func:`uncertainty_loss`.

    Returns:
      The weights, a pytree of scalars of the same structure, above 0.

    Raises:
      ValueError: in the same cases as :func:`uncertainty_loss`.

    Example:
      >>> print(f"{uncertainty_weights({'l1': 0.5}, likelihood='laplace')['l1']:.4f}")
      2.0000
    """
    _scalar_trees.check_scalars("scales", scales)
    squares, _ = _squares(scales, scales, likelihood)
    weights = [
        0.5 / square if likelihood == "gaussian" else lax.rsqrt(square) for square in squares
    ]
    return jax.tree.unflatten(jax.tree.structure(scales), weights)


def _squares(scales: Tree, losses: Tree, likelihood: str) -> tuple[list[jax.Array], jnp.dtype]:
    _checks.check_option("likelihood", likelihood, LIKELIHOODS)
    dtype = _means.accumulation_dtype(*map(jnp.asarray, jax.tree.leaves((scales, losses))))
    return [
        jnp.square(jnp.asarray(s).astype(dtype)) + _SMALLEST_SQUARE for s in jax.tree.leaves(scales)
    ], dtype
