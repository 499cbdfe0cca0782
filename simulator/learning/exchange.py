"""Exchange: the compiled functions of offers and answers, for a method's slots."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from simulator.experiment import registry
from simulator.experiment.schema.exchanges import (
    Compression,
    EagerMerge,
    KeepProgressMerge,
    LerpMerge,
    LookAheadView,
    Merge,
    NamedCompression,
    NamedMerge,
    NamedOffer,
    NamedView,
    Offer,
    OuterMerge,
    OverwriteMerge,
    ParametersView,
    RandomCompression,
    View,
)
from simulator.learning.compression import codec_of, send
from simulator.learning.optimizers.momentum import momentum_of
from simulator.learning.optimizers.nonfinite import all_finite
from simulator.learning.optimizers.protocol import OptimizerError
from simulator.learning.round import pseudo_gradient

Content = Callable[[Any, Any], Any]
"""From what a worker last accepted, and its own parameters, to what it offers."""
MergeFunction = Callable[[Any, Any, Any, Any, Any], tuple[Any, Any, Any]]
"""From (own parameters, those that were last accepted, what was offered, the answer, state) to the first two and the
state anew."""


class OfferMade(NamedTuple):
    """An offer.

    Attributes:
      tree: as its receiver decodes it.
      finite: whether all of it is, and was before it was coded, bool scalar.
      feedback: error that its sender keeps, as it was if the offer is not finite; () without error feedback.
      local: parameters of the sender when it offered; () where no merge needs them.
    """

    tree: Any
    finite: jax.Array
    feedback: Any
    local: Any


class Exchange:
    """Compiled functions of exchanges. Trees are those of a fragment, the whole model where there is only one.

    Attributes:
      content: see `Content`.
      offer: (own parameters, last accepted, feedback, key) to an `OfferMade`.
      merge: see `MergeFunction`.
      view: (parameters, outer state) to what a place hands out.
      is_overwriting: whether a worker takes the answer in place of its own parameters.
      hands_out_parameters: whether a place hands out its parameters as they are.
      draws: whether an offer depends on its random key.
      needs_local: whether the merge needs the parameters of the time of the offer.
      has_feedback: whether senders keep errors.
      offers_progress: whether an offer is decoded as start - end, so that it tells where its worker ended.
    """

    def __init__(
        self,
        compression: Compression,
        merge: Merge,
        view: View,
        outer: optax.GradientTransformationExtraArgs,
        ahead: float | None = None,
        offer: Offer | None = None,
    ):
        """Compiles what is called.

        Args:
          compression: of offers.
          merge: of answers.
          view: of places.
          outer: outer optimizer, for merges that step.
          ahead: learning rate times momentum of the outer optimizer, for views that look ahead; None without momentum.
          offer: its content; the pseudo-gradient when absent.

        Raises:
          OptimizerError: a view looks ahead, and the outer optimizer has no momentum.
          PolicyError: something is not registered in this process, or refuses its settings.
        """
        self.is_overwriting = isinstance(merge, OverwriteMerge)
        self.hands_out_parameters = isinstance(view, ParametersView)
        self.draws = isinstance(compression, RandomCompression | NamedCompression)
        self.needs_local = isinstance(merge, KeepProgressMerge | NamedMerge)
        self.has_feedback = compression.feedback is not None
        self._outer, self._merge = outer, merge
        codec, decay, needs_local = codec_of(compression), compression.feedback, self.needs_local
        is_coded, is_own = compression.kind != "none", isinstance(offer, NamedOffer)
        self.offers_progress = not (is_coded or is_own)
        self.content: Content = registry.build(offer) if isinstance(offer, NamedOffer) else pseudo_gradient

        def make_offer(local: Any, anchor: Any, feedback: Any, key: jax.Array) -> OfferMade:
            tree, left = self.content(anchor, local), feedback
            finite = all_finite(tree)
            if is_own:
                finite &= all_finite(pseudo_gradient(anchor, local))
            if is_coded:
                tree, left = send(codec, decay, tree, feedback, key)
                finite &= all_finite(tree)
            if is_coded or is_own:  # whatever of it is left out
                tree = jax.tree.map(lambda leaf: jnp.where(finite, leaf, jnp.nan), tree)
                feedback = jax.tree.map(functools.partial(jnp.where, finite), left, feedback)
            return OfferMade(tree, finite, feedback, local if needs_local else ())

        self.offer = jax.jit(make_offer)
        self.merge = jax.jit(self._merging())
        self.view = jax.jit(_viewing(view, ahead))

    def initial_feedback(self, params: Any) -> Any:
        """Returns the error of a sender that has not sent."""
        return jax.tree.map(jnp.zeros_like, params) if self.has_feedback else ()

    def initial_merge(self, params: Any) -> Any:
        """Returns the state of the merge of a worker that has accepted nothing, but for a copy of `params`."""
        match self._merge:
            case OuterMerge() | EagerMerge():
                return self._outer.init(params)
            case NamedMerge() as named:
                return registry.build(named).init(params)
        return ()

    def _merging(self) -> MergeFunction:
        match self._merge:
            case LerpMerge(mix=mix):
                return functools.partial(_lerp, mix)
            case KeepProgressMerge():
                return _keep_progress
            case OuterMerge():
                return functools.partial(_step, self._outer, self.content, None)
            case EagerMerge(share=share):
                return functools.partial(_step, self._outer, self.content, share)
            case NamedMerge() as named:
                update: MergeFunction = registry.build(named).update
                return update
        return lambda local, anchor, sent, answer, state: (answer, answer, state)


def _lerp(mix: float, local: Any, anchor: Any, sent: OfferMade, answer: Any, state: Any) -> tuple[Any, Any, Any]:
    def mixed(own: jax.Array, new: jax.Array) -> jax.Array:
        return jnp.where(jnp.isfinite(own), mix * own + (1 - mix) * new, new)  # else a worker would be lost for good

    return jax.tree.map(mixed, local, answer), answer, state


def _keep_progress(local: Any, anchor: Any, sent: OfferMade, answer: Any, state: Any) -> tuple[Any, Any, Any]:
    progress = jax.tree.map(jnp.subtract, local, sent.local)
    return jax.tree.map(lambda new, each: new + _finite(each), answer, progress), answer, state


def _finite(leaf: jax.Array) -> jax.Array:
    """Returns a worker's own share of what it merges: zero where that is not finite, which would lose it for good."""
    return jnp.where(jnp.isfinite(leaf), leaf, 0)


def _step(
    outer: optax.GradientTransformationExtraArgs,
    content: Content,
    share: float | None,
    local: Any,
    anchor: Any,
    sent: OfferMade,
    answer: Any,
    state: Any,
) -> tuple[Any, Any, Any]:
    """Takes an outer step at the worker, on the answer, with its own share in it renewed where there is one."""
    if share is not None:
        fresh = content(anchor, local)
        answer = jax.tree.map(lambda mean, new, old: mean + share * _finite(new - old), answer, fresh, sent.tree)
    updates, state = outer.update(
        answer, state, anchor, staleness=0, worker=-1, steps=0, tokens=0.0, pulled_params=anchor
    )
    params = optax.apply_updates(anchor, updates)
    return params, params, state


def _viewing(view: View, ahead: float | None) -> Callable[[Any, Any], Any]:
    match view:
        case LookAheadView():
            if ahead is None:
                message = "needs an outer optimizer with momentum, such as nesterov"
                raise OptimizerError("view.kind", "look_ahead", message)
            return functools.partial(_look_ahead, ahead)
        case NamedView() as named:
            function: Callable[[Any, Any], Any] = registry.build(named)
            return function
    return lambda params, state: params


def _look_ahead(ahead: float, params: Any, state: Any) -> Any:
    return jax.tree.map(lambda theta, m: theta - ahead * m, params, momentum_of(state, params))
