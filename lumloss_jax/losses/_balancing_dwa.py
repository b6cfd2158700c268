"""Self-balancing weights: dynamic weight averaging, by how much each loss fell recently.

All functions here are pure functions of pytrees. A pytree of losses holds one scalar per leaf, in
any structure, such as the terms that a composed loss returns.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from lumloss_jax import _checks, _scalar_trees
from lumloss_jax._scalar_trees import Tree

# Losses in a denominator are at least this, so that a loss of exactly 0 gives a finite number.
_SMALLEST_LOSS = 1e-12


class DwaState(NamedTuple):
    """State of dynamic weight averaging: a pytree of scalars.

    Attributes:
      last: losses of the last epoch.
      before_last: losses of the epoch before it.
      epochs: how many epochs have been seen.
    """

    last: Tree
    before_last: Tree
    epochs: jax.Array


def dwa_init(losses: Tree) -> DwaState:
    """State of dynamic weight averaging before the first epoch.

    Args:
      losses: pytree of scalars, one per loss; only structure and dtype are used.

    Returns:
      The state; its weights are 1 until two epochs have been seen.

    Raises:
      ValueError: for a pytree without leaves, or with one that is not a scalar.

    Example:
      >>> state = dwa_init({"l1": 0.0, "ms_ssim": 0.0})
      >>> print(f"{dwa_weights(state)['l1']:.1f}")
      1.0
    """
    _scalar_trees.check_scalars("losses", losses)
    zeros = jax.tree.map(lambda loss: jnp.zeros_like(_scalar_trees.as_float(loss)), losses)
    return DwaState(last=zeros, before_last=zeros, epochs=jnp.zeros((), jnp.int32))


def dwa_update(state: DwaState, losses: Tree) -> DwaState:
    """Adds the losses of one more epoch to the state.

    Args:
      state: state from :func:`dwa_init` or from the previous epoch.
      losses: pytree of scalars of the same structure: the unweighted mean of each loss over the
        epoch. Single steps are too noisy for the ratio. If training has no epochs, use means over a
        few hundred steps.

    Returns:
      The new state. No gradient flows through it.

    Raises:
      ValueError: when traced, for pytrees of different structures or leaves that are not scalars.

    Example:
      >>> state = dwa_update(dwa_init({"l1": 0.0}), {"l1": 0.3})
      >>> print(f"{state.last['l1']:.1f} {state.epochs}")
      0.3 1
    """
    _scalar_trees.check_same("losses", losses, state.last)
    last = jax.tree.map(
        lambda old, new: lax.stop_gradient(jnp.asarray(new)).astype(old.dtype), state.last, losses
    )
    return DwaState(
        last=last, before_last=state.last, epochs=state.epochs + jnp.ones_like(state.epochs)
    )


def dwa_weights(state: DwaState, *, temperature: ArrayLike = 2.0) -> Tree:
    r"""Weights of dynamic weight averaging: losses that fell least in the last epoch count most.

    .. math::
        w_i = K \, \frac{\exp(r_i / T)}{\sum_k \exp(r_k / T)}, \qquad
        r_i = \frac{L_i(t - 1)}{L_i(t - 2)}

    for K losses; all weights are 1 until two epochs have been seen.

    Args:
      state: from :func:`dwa_update`.
      temperature: T, above 0; a large value makes the weights more equal. It may be traced.

    Returns:
      The weights, a pytree of scalars above 0 with the losses' structure; they sum to K.

    Raises:
      ValueError: when traced, for a temperature that is not one number or is concretely 0 or less.

    References:
      Liu, Johns, Davison, "End-to-end multi-task learning with attention", CVPR 2019,
      arXiv:1803.10704.

    Example:
      >>> state = dwa_init({"l1": 0.0, "ms_ssim": 0.0})
      >>> for epoch in ({"l1": 0.2, "ms_ssim": 0.4}, {"l1": 0.1, "ms_ssim": 0.4}):
      ...     state = dwa_update(state, epoch)
      >>> weights = dwa_weights(state)  # l1 halved, ms_ssim did not fall
      >>> print(f"{weights['l1']:.4f} {weights['ms_ssim']:.4f}")
      0.8756 1.1244
    """
    last, before_last = _scalar_trees.stack(state.last), _scalar_trees.stack(state.before_last)
    temperature = _checks.check_scalar("temperature", temperature, last.dtype, minimum=1e-6)
    ratios = jnp.maximum(last, _SMALLEST_LOSS) / jnp.maximum(before_last, _SMALLEST_LOSS)
    ratios = jnp.where(state.epochs >= 2, ratios, jnp.ones_like(ratios))
    return _scalar_trees.unstack(len(ratios) * jax.nn.softmax(ratios / temperature), state.last)
