"""Self-balancing weights: GradNorm, which makes losses train at equal rates.

All functions here are pure functions of pytrees and have no optimiser of their own. A pytree of
losses holds one scalar per leaf, in any structure, such as the terms that a composed loss returns.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from lumloss_jax import _checks, _means, _scalar_trees
from lumloss_jax._scalar_trees import Tree

# Losses and norms in a denominator are at least this, so that a loss of exactly 0 gives a finite
# number.
_SMALLEST_LOSS = 1e-12
# A weight of 0 would have no gradient with which to recover.
_SMALLEST_WEIGHT = 1e-3


class GradNormState(NamedTuple):
    """State of GradNorm: pytrees of scalars.

    Attributes:
      weights: one weight for each loss; they sum to the number of losses.
      initial_losses: the losses at the start of training.
    """

    weights: Tree
    initial_losses: Tree


def gradnorm_init(losses: Tree) -> GradNormState:
    """State of GradNorm at the first step: weights of 1.

    Args:
      losses: pytree of scalars above 0, the losses at the first step; progress is measured relative
        to them.

    Returns:
      The state; ``state.weights`` are the weights.

    Raises:
      ValueError: for a pytree without leaves, or with one that is not a scalar.

    Example:
      >>> state = gradnorm_init({"l1": 0.2, "ms_ssim": 0.4})
      >>> print(f"{state.weights['l1']:.1f} {state.initial_losses['l1']:.1f}")
      1.0 0.2
    """
    _scalar_trees.check_scalars("losses", losses)
    initial = jax.tree.map(lambda loss: lax.stop_gradient(_scalar_trees.as_float(loss)), losses)
    return GradNormState(weights=jax.tree.map(jnp.ones_like, initial), initial_losses=initial)


def gradnorm_update(
    state: GradNormState,
    losses: Tree,
    norms: Tree,
    *,
    alpha: ArrayLike = 1.5,
    learning_rate: ArrayLike = 0.025,
) -> GradNormState:
    r"""One step of GradNorm: it changes weights so that losses that lag behind train faster.

    With :math:`G_i = w_i \lVert \nabla L_i \rVert`, its mean :math:`\bar G`, and the rate of
    training :math:`r_i = \tilde L_i / \mathrm{mean}_j \tilde L_j`, where :math:`\tilde L_i = L_i /
    L_i(0)`:

    .. math::
        L_\text{grad} = \sum_i \big| G_i - \bar G r_i^\alpha \big|, \qquad
        w_i \leftarrow w_i - \eta \, \frac{\partial L_\text{grad}}{\partial w_i} \Big/ \bar G

    with the target :math:`\bar G r_i^\alpha` held constant; then the weights are scaled so that
    they sum to their number. The paper does not fix the optimiser. This is plain gradient descent,
    divided by the mean norm so that eta does not depend on the scale of the losses or the network.
    Before scaling, every weight is raised to at least 0.001.

    Args:
      state: state from :func:`gradnorm_init` or from the previous step.
      losses: L_i, pytree of scalars, the unweighted losses of this step.
      norms: norms of the gradients of the unweighted losses with respect to parameters that they
        share (in the paper, the last shared layer), from :func:`gradient_norms`; a pytree of
        scalars of the same structure.
      alpha: strength of the pull towards equal rates, 0 or more; 0 makes the weighted norms equal.
        It may be traced.
      learning_rate: eta, 0 or more; may be traced.

    Returns:
      The new state. No gradient flows through it.

    Raises:
      ValueError: when traced, for pytrees of different structures, leaves that are not scalars, or
        options that are not numbers or are concretely negative.

    References:
      Chen et al., "GradNorm: gradient normalization for adaptive loss balancing in deep multitask
      networks", ICML 2018, arXiv:1711.02257.

    Example:
      >>> state = gradnorm_init({"l1": 0.2, "ms_ssim": 0.4})
      >>> losses, norms = {"l1": 0.1, "ms_ssim": 0.4}, {"l1": 1.0, "ms_ssim": 1.0}
      >>> # ms_ssim has not fallen, so its weight grows
      >>> state = gradnorm_update(state, losses, norms)
      >>> print(f"{state.weights['l1']:.3f} {state.weights['ms_ssim']:.3f}")
      0.975 1.025
    """
    _scalar_trees.check_same("losses", losses, state.weights)
    _scalar_trees.check_same("norms", norms, state.weights)
    weights, initial = _scalar_trees.stack(state.weights), _scalar_trees.stack(state.initial_losses)
    current, sizes = lax.stop_gradient((_scalar_trees.stack(losses), _scalar_trees.stack(norms)))
    dtype = _means.accumulation_dtype(weights, initial, current, sizes)
    weights, initial, current, sizes = (
        each.astype(dtype) for each in (weights, initial, current, sizes)
    )
    alpha = _checks.check_scalar("alpha", alpha, dtype)
    learning_rate = _checks.check_scalar("learning_rate", learning_rate, dtype)

    weighted = weights * sizes  # G_i
    mean = jnp.maximum(jnp.mean(weighted), _SMALLEST_LOSS)
    left = jnp.maximum(current, 0) / jnp.maximum(initial, _SMALLEST_LOSS)
    rates = left / jnp.maximum(jnp.mean(left), _SMALLEST_LOSS)
    gradient = jnp.sign(weighted - mean * _power(rates, alpha)) * sizes / mean
    weights = jnp.maximum(weights - learning_rate * gradient, _SMALLEST_WEIGHT)
    weights = weights / jnp.mean(weights)
    return GradNormState(_scalar_trees.unstack(weights, state.weights), state.initial_losses)


def gradient_norms(losses: Callable[[Tree], Tree], parameters: Tree) -> Tree:
    r"""Norms of losses' gradients, :math:`\lVert \nabla L_i \rVert_2`, for :func:`gradnorm_update`.

    This takes one forward pass, and one backward pass per loss. Restrict ``parameters`` to what
    matters, such as the last shared layer.

    Args:
      losses: function of the parameters that returns a pytree of scalars.
      parameters: pytree of float arrays.

    Returns:
      The norms, a pytree of scalars, 0 or more, with the structure that ``losses`` returns.

    Raises:
      ValueError: for losses that are not scalars.

    Example:
      >>> import jax.numpy as jnp
      >>> def losses_of(x):
      ...     return {"sum": jnp.sum(x), "square": jnp.sum(x * x)}
      >>> norms = gradient_norms(losses_of, jnp.array([3.0, 4.0]))
      >>> print(f"{norms['sum']:.4f} {norms['square']:.4f}")
      1.4142 10.0000
    """

    def checked(parameters: Tree) -> Tree:
        values = losses(parameters)
        _scalar_trees.check_scalars("losses", values)
        return values

    values, pull_back = jax.vjp(checked, parameters)
    leaves, structure = jax.tree.flatten(values)
    norms = []
    for i in range(len(leaves)):
        seeds = [
            jnp.ones_like(leaf) if j == i else jnp.zeros_like(leaf) for j, leaf in enumerate(leaves)
        ]
        (gradient,) = pull_back(jax.tree.unflatten(structure, seeds))
        squares = [
            jnp.sum(jnp.square(_scalar_trees.as_float(part))) for part in jax.tree.leaves(gradient)
        ]
        dtype = _means.accumulation_dtype(*squares)
        norms.append(jnp.sqrt(sum(square.astype(dtype) for square in squares)))
    return jax.tree.unflatten(structure, norms)


def _power(base: jax.Array, exponent: jax.Array) -> jax.Array:
    """base^exponent for bases of 0 or more and a traced exponent, 0^0 = 1."""
    return jnp.exp(exponent * jnp.log(jnp.maximum(base, _SMALLEST_LOSS)))
