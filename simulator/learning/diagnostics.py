"""Diagnostics of offers: their length, their direction beside others', and how far their workers have drifted."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from simulator.learning.optimizers.momentum import momentum_of
from simulator.learning.round import Params


class OfferDiagnostics(NamedTuple):
    """Diagnostics of an offer, float32 scalars; NaN where there is nothing to compare with, or it is zero.

    Attributes:
      norm: of the pseudo-gradient as it was decoded, over all parameters of its fragment.
      momentum_cosine: of its angle to the outer optimizer's momentum before the meeting.
      mean_cosine: of its angle to what the meeting's offers were aggregated to.
      drift: distance of the place's parameters before the meeting from those that the worker ended with; not known of
        offers that are compressed, or of one's own.
    """

    norm: Any
    momentum_cosine: Any
    mean_cosine: Any
    drift: Any


@jax.jit
def diagnose(offer: Params, start: Params, params: Params | None, state: Any, aggregate: Params | None) -> jax.Array:
    """Returns the `OfferDiagnostics` of an offer, float32 (4,).

    Args:
      offer: pseudo-gradient, as its receiver decodes it.
      start: parameters that it is compared with: start - offer are the worker's.
      params: of the place, before the meeting; None of a place that has none, or where start - offer is not where the
        worker ended.
      state: of the place's outer optimizer, before the meeting.
      aggregate: of the meeting's offers; None of one that met nobody.
    """
    drift = None
    if params is not None:
        drift = _norm(jax.tree.map(lambda held, begun, g: held - begun + g, params, start, offer))
    known = _norm(offer), _cosine(offer, momentum_of(state, offer)), _cosine(offer, aggregate), drift
    return jnp.stack([jnp.float32(jnp.nan) if each is None else each for each in known])


def _cosine(tree: Params, other: Params | None) -> jax.Array | None:
    return None if other is None else _dot(tree, other) / (_norm(tree) * _norm(other))


def _norm(tree: Params) -> jax.Array:
    return jnp.sqrt(_dot(tree, tree))


def _dot(tree: Params, other: Params) -> jax.Array:
    products = jax.tree.map(lambda a, b: jnp.vdot(a.astype(jnp.float32), b.astype(jnp.float32)), tree, other)
    total: jax.Array = sum(jax.tree.leaves(products), start=jnp.float32(0))
    return total
