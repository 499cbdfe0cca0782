"""Corrections of a pseudo-gradient for the server's updates while it was computed, as optax transforms.

Each takes the keyword arguments `staleness` (int32 scalar: server updates between the worker's pull and its push) or
`pulled_params` (the parameters that the worker started from) in its `update`.
"""

from collections.abc import Callable
from typing import Any

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


def gate(decay: float, cutoff: int) -> StalenessWeight:
    """Exp(-decay s) (1 + cos(pi s / cutoff)) / 2 of a staleness s below the cutoff, else 0: CGAD, arXiv 2605.09126.

    The published parts name a smooth cosine gate and an exponential; this form of the gate is ours.

    Raises:
      ValueError: `decay` is negative, or `cutoff` below 1.
    """
    if not decay >= 0 or cutoff < 1:
        raise ValueError(f"decay must be at least 0 and cutoff at least 1, not {decay} and {cutoff}")

    def weight(staleness: jax.Array) -> jax.Array:
        share = jnp.minimum(staleness.astype(jnp.float32) / cutoff, 1)
        return jnp.exp(-decay * staleness.astype(jnp.float32)) * (1 + jnp.cos(jnp.pi * share)) / 2

    return weight


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

    def is_fresh(step: Any, *, staleness: Any, **extra: Any) -> jax.Array:
        del step, extra
        return jnp.asarray(staleness, jnp.int32) <= above

    return optax.conditionally_mask(inner, is_fresh, forward_extra_args=True)


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
