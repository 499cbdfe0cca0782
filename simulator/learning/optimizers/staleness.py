"""Corrections of a pseudo-gradient for the server's updates while it was computed, as optax transforms.

Each takes the keyword arguments `staleness` (int32 scalar: server updates between the worker's pull and its push) or
`pulled_params` (the parameters that the worker started from) in its `update`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

StalenessWeight = Callable[[jax.Array], jax.Array]


def polynomial(power: float = 0.5) -> StalenessWeight:
    """(1 + staleness)^-power, called Poly in the paper, after Xie et al. (arXiv 1903.03934).

    Raises:
      ValueError: `power` is negative.
    """
    if not power >= 0:
        raise ValueError(f"power must be at least 0, not {power}")
    return lambda staleness: (1.0 + staleness.astype(jnp.float32)) ** -power


def scale_by_staleness(weight: StalenessWeight) -> optax.GradientTransformationExtraArgs:
    """Multiplies each pseudo-gradient by `weight(staleness)`, one number.

    Raises:
      ValueError: when it is first used, `weight` returns something else.
    """

    def update(
        updates: optax.Updates, state: optax.EmptyState, params: Any = None, *, staleness: Any, **extra: Any
    ) -> tuple[optax.Updates, optax.EmptyState]:
        del params, extra
        factor = jnp.asarray(weight(jnp.asarray(staleness, jnp.int32)))
        if factor.shape:
            raise ValueError(f"a weight of staleness must be one number, not of shape {factor.shape}")
        return jax.tree.map(lambda g: factor.astype(g.dtype) * g, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


class DropStaleState(NamedTuple):
    """State of `drop_stale`: that of the transform behind it."""

    inner: Any


def drop_stale(inner: optax.GradientTransformation, above: int) -> optax.GradientTransformationExtraArgs:
    """Keeps pseudo-gradients of staleness over `above` from `inner`: parameters and `inner`'s state stay as they are.

    The threshold of PolyThres in the paper, which uses 10.

    Args:
      inner: what receives the pseudo-gradients that are fresh enough.
      above: the largest staleness that is still let through.

    Raises:
      ValueError: `above` is negative.
    """
    if above < 0:
        raise ValueError(f"above must be at least 0, not {above}")
    inner = optax.with_extra_args_support(inner)

    def update(
        updates: optax.Updates, state: DropStaleState, params: Any = None, *, staleness: Any, **extra: Any
    ) -> tuple[optax.Updates, DropStaleState]:
        def use() -> tuple[optax.Updates, Any]:
            steps, inner_state = inner.update(updates, state.inner, params, staleness=staleness, **extra)
            return steps, inner_state

        def drop() -> tuple[optax.Updates, Any]:
            return jax.tree.map(jnp.zeros_like, updates), state.inner

        fresh = jnp.asarray(staleness, jnp.int32) <= above
        new_updates, new_inner = jax.lax.cond(fresh, use, drop)
        return new_updates, DropStaleState(new_inner)

    return optax.GradientTransformationExtraArgs(lambda params: DropStaleState(inner.init(params)), update)


def delay_compensation(strength: float) -> optax.GradientTransformationExtraArgs:
    """G + lambda * g * g * (theta - theta_pulled): a first-order guess of the gradient at today's parameters.

    DC-ASGD, Zheng et al. (arXiv 1609.08326), as the paper applies it to pseudo-gradients.

    Args:
      strength: lambda. The paper does not state its value; 0.04 is common for DC-ASGD.

    Raises:
      ValueError: `strength` is negative.
    """
    if not strength >= 0:
        raise ValueError(f"strength must be at least 0, not {strength}")

    def update(
        updates: optax.Updates, state: optax.EmptyState, params: Any = None, *, pulled_params: Any, **extra: Any
    ) -> tuple[optax.Updates, optax.EmptyState]:
        del extra
        if params is None:
            raise ValueError("delay compensation needs the present parameters: pass params to update")
        compensated = jax.tree.map(
            lambda g, now, pulled: g + strength * g * g * (now - pulled), updates, params, pulled_params
        )
        return compensated, state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
