"""Training of the workers of a simulation: their local steps, offers and merges, as values."""

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from simulator.learning import (
    Exchange,
    Fragments,
    OfferMade,
    RoundResult,
    Stretch,
    Trainer,
    Training,
    Value,
    Values,
)
from simulator.learning.round import Params
from simulator.timeline import Accepted, Arrival, Round


class MadeOffer(NamedTuple):
    """An offer of a worker.

    Attributes:
      offer: an `OfferMade`.
      anchor: parameters of the fragment that it is compared with.
      loss: mean over the round's local steps.
    """

    offer: Value
    anchor: Value
    loss: Value


@dataclasses.dataclass
class WorkerState:
    """State of a worker.

    Attributes:
      params: its parameters, after all that has begun.
      anchors: of each fragment, what it last accepted.
      inner: inner optimizer state, None of one that has not trained.
      feedback, merge: of each fragment, the error that it keeps, and the state of its merge; None before the first.
      round: that is under way, None without one.
      trainings: of that round, in order.
      answers: of each fragment, those on their way or there, in order.
      offers: of each fragment, those that are not answered, in order.
    """

    params: Value
    anchors: list[Value]
    inner: Value | None = None
    feedback: list[Value | None] = dataclasses.field(default_factory=list)
    merge: list[Value | None] = dataclasses.field(default_factory=list)
    round: Round | None = None
    trainings: list[Training] = dataclasses.field(default_factory=list)
    answers: list[deque[Value]] = dataclasses.field(default_factory=list)
    offers: list[deque[Value]] = dataclasses.field(default_factory=list)

    def release(self) -> None:
        """Lets go of what its last training began with, if that is computed."""
        if self.inner is not None and all(each.is_known for each in self.inner.inputs):
            self.inner.get()


class WorkerTraining:
    """Local steps, offers and merges of all workers.

    Args:
      values: maker of values.
      trainer: of the local steps.
      exchange: compiled functions of offers and answers.
      fragments: of the model.
      shapes: and dtypes of the parameters.
      seed: of what compression draws.
      among_peers: whether offers meet at several workers.

    Attributes:
      start, parts: parameters that everybody begins with, whole and of each fragment.
      workers: states of those that have begun, by number.
      is_settled: whether values are computed; else they are left to be restored from a checkpoint.
    """

    def __init__(
        self,
        values: Values,
        trainer: Trainer,
        exchange: Exchange,
        fragments: Fragments,
        shapes: Params,
        *,
        seed: int,
        among_peers: bool,
        is_settled: bool,
    ):
        self.start, self.is_settled = values.expected("params"), is_settled
        self.parts = [values.expected(f"part.{fragment}") for fragment in range(fragments.count)]
        self.workers: dict[int, WorkerState] = {}
        self._values, self._trainer, self._exchange = values, trainer, exchange
        self._fragments, self._shapes, self._among_peers = fragments, shapes, among_peers
        self._made: dict[int, MadeOffer] = {}  # offers that have not met everywhere, by round
        self._meetings: dict[int, int] = {}  # that each offer has yet to come to, of those that have come to one
        self._key = jax.random.key(seed)

    def begin(self, params: Params) -> None:
        """Sets the parameters that everybody begins with."""
        self.start.set(params)
        for fragment, part in enumerate(self.parts):
            part.set(self._fragments.take(params, fragment))

    def copy(self, worker: WorkerState, parts: list[Value], of: WorkerState | None = None) -> None:
        """Has a worker begin with a copy of every fragment, and with its merge's state if it is another worker's."""
        worker.anchors, worker.merge = list(parts), [None] * len(parts) if of is None else list(of.merge)
        for queue in (*worker.answers, *worker.offers):
            queue.clear()
        worker.params = parts[0] if len(parts) == 1 else self._values.lazy("params", self._joined, *parts)

    def forget(self, worker: WorkerState) -> None:
        """Has a worker lose its inner optimizer state, and the errors that it keeps of what it has sent."""
        self.end_round(worker)
        worker.inner, worker.feedback = None, [None] * self._fragments.count

    def agreed(self, worker: int) -> Params:
        """Returns what a worker last accepted."""
        state = self.workers.get(worker)
        anchors = self.parts if state is None else state.anchors
        return self._fragments.join(self._shapes, [anchor.get() for anchor in anchors])

    def worker(self, number: int) -> WorkerState:
        """Returns the state of a worker, which begins with everybody's parameters."""
        if number not in self.workers:
            count = self._fragments.count
            self.workers[number] = WorkerState(
                self.start,
                list(self.parts),
                feedback=[None] * count,
                merge=[None] * count,
                answers=[deque() for _ in range(count)],
                offers=[deque() for _ in range(count)],
            )
        return self.workers[number]

    def train(self, worker: WorkerState, first: int, steps: int) -> None:
        """Begins local steps of a worker's round, in no longer trainings than programs have."""
        round = worker.round
        assert round is not None
        while first < steps:
            length = min(steps - first, self._trainer.longest)
            pulls = tuple(each - first for each in round.pulls if first <= each < first + length)
            step, count = round.first_step + first, round.micro_batches
            batch = round.first_batch + first * count
            stretch = Stretch(round.id, round.worker, round.shard, step, length, first, pulls, count, batch)
            training = self._trainer.training(self._values, stretch, worker.params, worker.inner)
            worker.trainings.append(training)
            worker.params = self._values.lazy("params", _params_of, training)
            worker.inner = self._values.lazy("inner", itemgetter(1), training)
            if self.is_settled:
                self._trainer.submit(training)
            first += length

    def _cut(self, worker: WorkerState, steps: int) -> None:
        """Leaves a worker's round only its first local steps."""
        kept: list[Training] = []
        for training in worker.trainings:
            stretch = training.stretch
            left = min(steps - stretch.before, stretch.steps)
            if left == stretch.steps:
                kept.append(training)
                continue
            if self.is_settled:
                for dropped in worker.trainings[len(kept) :]:
                    self._trainer.drop(dropped)
            worker.params, worker.inner, worker.trainings = training.start, training.inner, kept
            if left > 0:
                self.train(worker, stretch.before, stretch.before + left)
            return

    def shorten(self, worker: WorkerState, round: Round) -> None:
        """Leaves a round only its first local steps."""
        self._cut(worker, round.steps)
        worker.round = round

    def lose(self, worker: WorkerState, round: Round) -> None:
        """Drops a round under way, or an offer on its way; the inner state is that before the round."""
        self._made.pop(round.id, None)
        if worker.round is None or worker.round.id != round.id:
            return
        for training in worker.trainings:
            if self.is_settled:
                self._trainer.drop(training)
        first = worker.trainings[0]
        worker.params, worker.inner = first.start, first.inner
        worker.round, worker.trainings = None, []

    def end_round(self, worker: WorkerState) -> None:
        """Makes the offer at the end of a worker's round, if one is under way."""
        round = worker.round
        if round is None:
            return
        fragment, trainings = round.fragment, worker.trainings
        anchor, local = worker.anchors[fragment], self._part(worker.params, fragment)
        key = self._values.known("key", jax.random.fold_in(self._key, round.id)) if self._exchange.draws else None
        inputs = [local, anchor, *([] if key is None else [key])]
        if self._exchange.has_feedback:
            before = worker.feedback[fragment]
            offer = self._values.lazy(f"offer.{fragment}", self._offered, *inputs, *([before] if before else []))
            worker.feedback[fragment] = self._values.lazy(f"feedback.{fragment}", attrgetter("feedback"), offer)
        else:
            offer = self._values.lazy(f"offer.{fragment}", self._offered, *inputs)
        steps = [training.stretch.steps for training in trainings]
        loss = self._values.lazy("loss", lambda *results: _mean_loss(results, steps), *trainings)
        self._made[round.id] = MadeOffer(offer, anchor, loss)
        if not self._exchange.is_overwriting:
            worker.offers[fragment].append(offer)
        worker.round, worker.trainings = None, []

    def offer_of(self, arrival: Arrival) -> MadeOffer:
        """Returns an offer that has come to a meeting; it is kept until it has come to all of its meetings."""
        number, worker = arrival.round.id, self.workers[arrival.round.worker]
        if worker.round is not None and worker.round.id == number:
            self.end_round(worker)
        meetings = self._meetings.pop(number, 1 + arrival.pushes * self._among_peers) - 1
        if not meetings:
            return self._made.pop(number)
        self._meetings[number] = meetings
        return self._made[number]

    def _offered(self, local: Any, anchor: Any, *more: Any) -> OfferMade:
        """Computes an offer from parameters, and, where they are, a key and the error before."""
        key = more[0] if self._exchange.draws else self._key
        rest = more[1:] if self._exchange.draws else more
        feedback = rest[0] if rest else self._exchange.initial_feedback(anchor)
        offer: OfferMade = self._exchange.offer(local, anchor, feedback, key)
        return offer

    def accept(self, worker: WorkerState, event: Accepted) -> None:
        """Has a worker accept the oldest answer of a fragment, between two of its steps or two of its rounds."""
        fragment = event.fragment
        if event.after:
            self._cut(worker, event.after)  # the rest of its steps is to follow
        else:
            self.end_round(worker)
        if event.round < 0:  # before anything was answered
            nothing = self.parts[fragment]
            answer = self._values.lazy(f"part.{fragment}", _zeros, nothing)
            offer = self._values.lazy(f"offer.{fragment}", self._offered_nothing, nothing)
        else:
            answer = worker.answers[fragment].popleft()
            offer = worker.offers[fragment].popleft() if worker.offers[fragment] else answer
        self.merge(worker, fragment, answer, offer)
        if event.after:
            assert worker.round is not None
            self.train(worker, event.after, worker.round.steps)

    def merge(self, worker: WorkerState, fragment: int, answer: Value, offer: Value) -> None:
        """Has a worker merge an answer to an offer."""
        if self._exchange.is_overwriting:
            merged = answer
            worker.anchors[fragment] = answer
        else:
            before = worker.merge[fragment]
            local, anchor = self._part(worker.params, fragment), worker.anchors[fragment]
            inputs = [local, anchor, offer, answer, *([before] if before else [])]
            outcome = self._values.lazy(f"merged.{fragment}", self._merged, *inputs)
            merged = self._values.lazy(f"part.{fragment}", itemgetter(0), outcome)
            worker.anchors[fragment] = self._values.lazy(f"part.{fragment}", itemgetter(1), outcome)
            worker.merge[fragment] = self._values.lazy(f"merge.{fragment}", itemgetter(2), outcome)
        if self._fragments.count == 1:
            worker.params = merged
        else:
            put = lambda params, part: self._fragments.put(params, fragment, part)  # noqa: E731
            worker.params = self._values.lazy("params", put, worker.params, merged)

    def _merged(self, local: Any, anchor: Any, offer: OfferMade, answer: Any, *state: Any) -> tuple[Any, Any, Any]:
        before = state[0] if state else self._exchange.initial_merge(anchor)
        merged: tuple[Any, Any, Any] = self._exchange.merge(local, anchor, offer, answer, before)
        return merged

    def _offered_nothing(self, like: Any) -> OfferMade:
        return OfferMade(_zeros(like), jnp.bool_(True), (), like if self._exchange.needs_local else ())

    def _part(self, params: Value, fragment: int) -> Value:
        if self._fragments.count == 1:
            return params
        return self._values.lazy(f"part.{fragment}", lambda whole: self._fragments.take(whole, fragment), params)

    def _joined(self, *parts: Any) -> Any:
        return self._fragments.join(self._shapes, parts)

    def _offered_like(self, part: Any) -> OfferMade:
        offer: OfferMade = self._exchange.offer(part, part, self._exchange.initial_feedback(part), self._key)
        return offer

    def roots(self) -> Iterator[Value]:
        """Yields the values that the future can depend on."""
        for made in self._made.values():
            yield from made
        for worker in self.workers.values():
            kept = (worker.params, worker.inner, *worker.anchors, *worker.feedback, *worker.merge, *worker.trainings)
            begun = [each for training in worker.trainings for each in (training.start, training.inner)]
            yield from (each for each in (*kept, *begun) if each is not None)  # a round may be lost, or cut off
            for waiting in (*worker.answers, *worker.offers):
                yield from waiting

    def like(self, kind: str) -> Any:
        """Returns the shapes and dtypes of a kind of value."""
        what, _, number = kind.partition(".")
        params = self._shapes
        part = self._fragments.take(params, int(number)) if number else params
        match what:
            case "params" | "part":
                return part
            case "inner":
                return jax.eval_shape(self._trainer.initial_state, params)
            case "trained":
                noise_scale = jnp.zeros((), jnp.float32) if self._trainer.has_micro_batches else ()
                return _result_like(params, noise_scale), jax.eval_shape(self._trainer.initial_state, params)
            case "offer":
                return jax.eval_shape(self._offered_like, part)
            case "feedback":
                return jax.eval_shape(self._exchange.initial_feedback, part)
            case "merge":
                return jax.eval_shape(self._exchange.initial_merge, part)
            case "merged":
                return part, part, jax.eval_shape(self._exchange.initial_merge, part)
            case "loss":
                return jnp.zeros((), jnp.float32)
            case "key":
                return self._key
        raise AssertionError(f"a value of a kind that is not known: {kind}")


def _result_like(params: Any, noise_scale: Any) -> Any:
    return RoundResult(params, jnp.zeros((), jnp.float32), jnp.zeros((), bool), noise_scale)


def _params_of(trained: Any) -> Params:
    return trained[0].params


def _mean_loss(results: Iterable[Any], steps: Sequence[int]) -> Any:
    """Returns the mean loss over local steps, from those over parts of them."""
    losses = [result.loss for result, _ in results]
    if len(losses) == 1:
        return losses[0]
    total = sum(loss * count for loss, count in zip(losses, steps, strict=True))
    return total / sum(steps)


@jax.jit
def _zeros(like: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, like)
