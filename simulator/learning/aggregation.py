"""Aggregations that need more than a weighted mean: what becomes of all offers of a meeting at once.

Each is an `Aggregation`, a pair of pure functions. Offers that are not finite count nothing in any of them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from simulator.experiment.schema.aggregation import (
    DirectionAggregation,
    EDiTAggregation,
    SendersAggregation,
    VoteAggregation,
)
from simulator.learning.round import Params
from simulator.learning.server import Aggregation, Offers

_TINY = 1e-12


def aggregation_of(section: Any, workers: int) -> Aggregation:
    """Returns the aggregation of a section whose kind is none of the server's own.

    Args:
      section: of `aggregation`.
      workers: number of workers, of which some keep facts of each.
    """
    match section:
        case SendersAggregation():
            return Senders()
        case VoteAggregation():
            return Vote()
        case DirectionAggregation():
            return DirectionAndNorm()
        case EDiTAggregation():
            return EDiT(workers, section)
    raise TypeError(f"an aggregation that is not built: {section!r}")


class _Stateless:
    def init(self, params: Params) -> Any:
        """Returns nothing: it keeps no state."""
        return ()


class Senders(_Stateless):
    """The mean of each element over the offers that have it: a sparse one has few (SparseLoCo's code)."""

    def update(self, offers: Offers, state: Any) -> tuple[Params, Any]:
        """Returns the mean over senders; zero where nobody sends."""

        def mean(leaves_M: jax.Array) -> jax.Array:
            count = (leaves_M != 0).sum(axis=0)
            return leaves_M.sum(axis=0) / jnp.maximum(count, 1).astype(leaves_M.dtype)

        return jax.tree.map(mean, _stacked(offers)), state


class Vote(_Stateless):
    """The sign of most offers' signs; zero where they are even (Distributed Lion)."""

    def update(self, offers: Offers, state: Any) -> tuple[Params, Any]:
        """Returns the vote."""
        return jax.tree.map(lambda leaves_M: jnp.sign(jnp.sign(leaves_M).sum(axis=0)), _stacked(offers)), state


class DirectionAndNorm(_Stateless):
    r"""Direction and norm apart, array by array (Decoupled DiLoCo).

    With weights w, tokens squared over steps, and directions :math:`\phi(v) = v / |v|`:

    .. math::
      g = \frac{\sum_m w_m |g_m|}{\sum_m w_m} \, \phi\big(\sum_m w_m \phi(g_m)\big)

    Arrays of embeddings have the weighted mean, and so have those whose directions cancel out.
    """

    def update(self, offers: Offers, state: Any) -> tuple[Params, Any]:
        """Returns the aggregate."""
        tokens = jnp.where(offers.finite, offers.tokens, 0)
        weights_M = tokens**2 / jnp.maximum(offers.steps, 1).astype(jnp.float32)
        shares_M = weights_M / jnp.maximum(weights_M.sum(), _TINY)

        def aggregate(path: Any, leaves_M: jax.Array) -> jax.Array:
            shares = _beside(shares_M, leaves_M)
            mean = (shares * leaves_M).sum(axis=0)
            norms_M = _norms(leaves_M)
            directions = leaves_M / _beside(jnp.maximum(norms_M, _TINY), leaves_M)
            direction = (shares * directions).sum(axis=0)
            length = jnp.sqrt(jnp.sum(jnp.square(direction)))
            apart = (shares_M * norms_M).sum().astype(mean.dtype) * direction / jnp.maximum(length, _TINY)
            is_mean = (length < 1e-6) | ("embed" in jax.tree_util.keystr(path).lower())
            return jnp.where(is_mean, mean, apart)

        return jax.tree_util.tree_map_with_path(aggregate, _stacked(offers)), state


class DetectorState(NamedTuple):
    """State of EDiT's detector: moments of the norm of each worker's arrays, (workers, arrays).

    Attributes:
      mean, variance: exponential moments.
      scores: the last deviations, in standard deviations, (workers, arrays, window).
      seen: number of offers so far.
    """

    mean: jax.Array
    variance: jax.Array
    scores: jax.Array
    seen: jax.Array


class EDiT:
    """Weights by norm, array by array, without outliers, and clipped as a whole (EDiT's code, its DDP variant)."""

    def __init__(self, workers: int, section: EDiTAggregation):
        self._workers, self._section = workers, section

    def init(self, params: Params) -> DetectorState:
        """Returns the state of a detector that has seen nothing."""
        shape = self._workers, len(jax.tree.leaves(params))
        zeros = jnp.zeros(shape)
        return DetectorState(zeros, zeros, jnp.zeros((*shape, self._section.window)), jnp.zeros(shape, jnp.int32))

    def update(self, offers: Offers, state: DetectorState) -> tuple[Params, DetectorState]:
        """Returns the aggregate, zero of arrays of which all offers are outliers."""
        section = self._section
        leaves, structure = jax.tree.flatten(_stacked(offers))
        norms_MxA = jnp.stack([_norms(leaf) for leaf in leaves], axis=1)
        own = jax.tree.map(lambda each: each[offers.worker], state)
        deviation = (norms_MxA - own.mean) / jnp.sqrt(jnp.maximum(own.variance, _TINY))
        score = jnp.where(own.seen < section.window, 0.0, deviation)
        is_outlier = score > section.threshold * jnp.maximum(1.0, own.scores.std(axis=-1))
        is_outlier |= ~offers.finite[:, None]
        state = self._seen(offers, state, own, norms_MxA, score, ~is_outlier)
        weights = jax.nn.softmax(-(norms_MxA + jnp.where(is_outlier, 1e6, 0.0)) / section.temperature, axis=0)
        weights = jnp.where(is_outlier, 0, weights)
        sums = [(_beside(weights[:, place], leaf) * leaf).sum(axis=0) for place, leaf in enumerate(leaves)]
        length = jnp.sqrt(sum(jnp.sum(jnp.square(each.astype(jnp.float32))) for each in sums))
        factor = jnp.minimum(1.0, section.clip_norm / (length + 1e-6))
        return jax.tree.unflatten(structure, [factor.astype(each.dtype) * each for each in sums]), state

    def _seen(
        self,
        offers: Offers,
        state: DetectorState,
        own: DetectorState,
        norms: jax.Array,
        score: jax.Array,
        counts: jax.Array,
    ) -> DetectorState:
        """Returns the state after offers; outliers leave it as it was."""
        decay = self._section.decay
        mean = own.mean + decay * (norms - own.mean)
        variance = (1 - decay) * (own.variance + decay * (norms - own.mean) * (norms - mean))
        scores = jnp.concatenate([own.scores[..., 1:], score[..., None]], axis=-1)
        new = DetectorState(mean, variance, scores, own.seen + 1)

        def put(table: jax.Array, value: jax.Array, before: jax.Array) -> jax.Array:
            kept = counts.reshape(*counts.shape, *[1] * (value.ndim - 2))
            return table.at[offers.worker].set(jnp.where(kept, value, before))

        after: DetectorState = jax.tree.map(put, state, new, own)
        return after


def _stacked(offers: Offers) -> Params:
    """Returns the offers with a leading axis, zeros of those that are not finite."""

    def stacked(*leaves: jax.Array) -> jax.Array:
        together = jnp.stack(leaves)
        finite = offers.finite.reshape(-1, *[1] * (together.ndim - 1))
        return jnp.where(finite, together, 0)

    return jax.tree.map(stacked, *offers.trees)


def _norms(leaves_M: jax.Array) -> jax.Array:
    """Returns the norm of each of some arrays, float32 (M,)."""
    return jnp.sqrt(jnp.square(leaves_M.astype(jnp.float32)).reshape(len(leaves_M), -1).sum(axis=1))


def _beside(values_M: jax.Array, leaves_M: jax.Array) -> jax.Array:
    """Returns a value of each of some arrays, in their dtype, with as many axes as they have."""
    return values_M.reshape(-1, *[1] * (leaves_M.ndim - 1)).astype(leaves_M.dtype)
