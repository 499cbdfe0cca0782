"""Momentum in the states of outer optimizers, of optax and of ours."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from simulator.learning.optimizers.noloco import NoLoCoState


def momentum_of(state: Any, like: optax.Params) -> optax.Updates | None:
    """Returns the momentum in an outer optimizer's state, in the direction of pseudo-gradients; None without.

    Args:
      state: of the optimizer, with whatever is wrapped around it.
      like: parameters, whose structure and shapes a momentum has.
    """
    for each in jax.tree.leaves(state, is_leaf=_is_step):
        if _is_step(each):
            return jax.tree.map(jnp.negative, each.momentum)
    shapes = jax.tree.map(jnp.shape, like)
    for name in ("trace", "momentum", "mu"):
        for _, found in optax.tree_utils.tree_get_all_with_path(state, name):
            if jax.tree.map(jnp.shape, found) == shapes:
                return found
    return None


def _is_step(state: Any) -> bool:
    """Returns whether a state's momentum is the step itself."""
    return isinstance(state, NoLoCoState)
