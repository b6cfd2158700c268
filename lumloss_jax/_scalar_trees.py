"""Pytrees with one scalar per leaf, such as a composed loss's terms: checks and conversions."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lumloss_jax import _means

Tree = Any


def as_float(value: ArrayLike) -> jax.Array:
    """A number as a strongly typed array in the accumulation dtype.

    This way a state keeps its types from step to step.
    """
    array = jnp.asarray(value)
    return array.astype(_means.accumulation_dtype(array))


def stack(tree: Tree) -> jax.Array:
    """The leaves as one vector."""
    leaves = [as_float(leaf) for leaf in jax.tree.leaves(tree)]
    dtype = _means.accumulation_dtype(*leaves)
    return jnp.stack([leaf.astype(dtype) for leaf in leaves])


def unstack(values: jax.Array, like: Tree) -> Tree:
    """A vector as a pytree with the structure and dtypes of ``like``."""
    leaves, structure = jax.tree.flatten(like)
    return jax.tree.unflatten(
        structure, [values[i].astype(leaf.dtype) for i, leaf in enumerate(leaves)]
    )


def check_scalars(name: str, tree: Tree) -> None:
    """Checks that there are leaves and that each is one number."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    if not leaves:
        raise ValueError(
            f"{name} are empty, but they must be a pytree with one scalar per loss, such as "
            f"{{'l1': 0.1}}."
        )
    for path, leaf in leaves:
        if jnp.shape(leaf) != ():
            raise ValueError(
                f"{name}{jax.tree_util.keystr(path)} has shape {jnp.shape(leaf)}, but there must "
                "be one scalar per loss."
            )


def check_same(name: str, tree: Tree, like: Tree) -> None:
    """Checks that a pytree of scalars has the structure of another."""
    check_scalars(name, tree)
    got, wanted = str(jax.tree.structure(tree)), str(jax.tree.structure(like))
    if got != wanted:
        raise ValueError(
            f"{name} have structure {got}, not {wanted}: there must be one leaf for each loss, "
            "under the same names."
        )
