"""Restarts of an outer optimizer, which forget its momentum now and then."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class RestartState(NamedTuple):
    """State of `restarted`.

    Attributes:
      steps: since the last restart, int32 scalar.
      inner: state of what is restarted.
    """

    steps: jax.Array
    inner: Any


def restarted(inner: optax.GradientTransformationExtraArgs, every: int) -> optax.GradientTransformationExtraArgs:
    """Returns an optimizer that begins anew after so many steps (arXiv 2605.28585).

    Args:
      inner: to restart.
      every: steps between restarts; with 1 it never remembers anything.

    Raises:
      ValueError: `every` is below 1.
    """
    if every < 1:
        raise ValueError(f"every must be at least 1, not {every}")

    def init(params: optax.Params) -> RestartState:
        return RestartState(jnp.zeros((), jnp.int32), inner.init(params))

    def update(
        updates: optax.Updates, state: RestartState, params: Any = None, **extra: Any
    ) -> tuple[optax.Updates, RestartState]:
        step, after = inner.update(updates, state.inner, params, **extra)
        is_over = state.steps + 1 == every
        fresh = inner.init(updates if params is None else params)
        after = jax.tree.map(lambda new, kept: jnp.where(is_over, new, kept), fresh, after)
        return step, RestartState(jnp.where(is_over, 0, state.steps + 1), after)

    return optax.GradientTransformationExtraArgs(init, update)
