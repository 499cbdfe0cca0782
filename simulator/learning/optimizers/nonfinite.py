"""Keeps pseudo-gradients that are not finite out of the server's state, as optax transforms."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


def all_finite(tree: Any) -> jax.Array:
    """Returns whether no number of a tree is infinite or NaN, bool scalar."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all() if leaves else jnp.ones((), bool)


class GuardState(NamedTuple):
    """State of `guard`.

    Attributes:
      finite: whether the last pseudo-gradient was, bool scalar.
      before, inner: of the transforms.
    """

    finite: jax.Array
    before: Any
    inner: Any


def guard(
    before: optax.GradientTransformation, inner: optax.GradientTransformation, *, endures: bool = False
) -> optax.GradientTransformationExtraArgs:
    """Passes the result of `before` for each pseudo-gradient to `inner` unless it is not finite.

    The result of `before` is checked, because delay compensation may overflow, and then that of `inner`. If one is not
    finite, parameters and `inner`'s state stay as they are.

    Args:
      before: stateless corrections.
      inner: the outer optimizer, or a buffer in front of it.
      endures: whether `inner` gets all of them.
    """
    before, inner = optax.with_extra_args_support(before), optax.with_extra_args_support(inner)

    def update(
        updates: optax.Updates, state: GuardState, params: Any = None, **extra: Any
    ) -> tuple[optax.Updates, GuardState]:
        corrected, before_state = before.update(updates, state.before, params, **extra)
        finite = all_finite(corrected)

        def use() -> tuple[optax.Updates, Any]:
            steps, inner_state = inner.update(corrected, state.inner, params, **extra)
            return steps, inner_state

        def leave() -> tuple[optax.Updates, Any]:
            return jax.tree.map(jnp.zeros_like, updates), state.inner

        if endures:
            steps, inner_state = use()
        else:
            steps, inner_state = jax.lax.cond(finite, use, leave)
            finite &= all_finite((steps, inner_state))  # squares, for instance, may overflow
            steps, inner_state = jax.lax.cond(finite, lambda: (steps, inner_state), leave)
        return steps, GuardState(finite, before_state, inner_state)

    def init(params: Any) -> GuardState:
        return GuardState(jnp.ones((), bool), before.init(params), inner.init(params))

    return optax.GradientTransformationExtraArgs(init, update)
