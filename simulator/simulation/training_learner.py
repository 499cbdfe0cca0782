"""Training learner: follows the events of a simulation by computing what they stand for."""

import contextlib
import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simulator.learning import (
    OfferInfo,
    OfferMade,
    RoundResult,
    Server,
    Setup,
    Stretch,
    Training,
    Value,
    Values,
    learner_state,
    reachable,
)
from simulator.learning.phases import phase
from simulator.learning.pretraining import PretrainProgress
from simulator.learning.round import Params
from simulator.record import Checkpoint, RecordError
from simulator.simulation.learner import Learner
from simulator.simulation.recorder import Trained
from simulator.timeline import (
    SERVER,
    Accepted,
    Answered,
    Arrival,
    Dispatched,
    Event,
    Fault,
    Lost,
    Offered,
    RegionOffer,
    Round,
    Shortened,
    Update,
    region_node,
)

Place = tuple[int, int]
"""Node and fragment of a place."""
_KEPT_OF_PEERS = 3  # offers of each worker: neighbors are no more than one meeting behind


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


class TrainingLearner(Learner):
    """Trains.

    Args:
      setup: of the experiment to train.
      trainer: "batched" or "serial".
      progress: called with the progress of pretraining.
      saved: checkpoint with the parameters to begin with, if any; `resume` restores the rest.

    Attributes:
      servers: of each place, its parameters and outer optimizer.
    """

    def __init__(
        self,
        setup: Setup,
        trainer: str,
        progress: PretrainProgress | None,
        saved: Checkpoint | None = None,
    ):
        exchanges, experiment = setup.exchanges, setup.experiment
        self._trainer, self._exchange = setup.trainer(trainer), exchanges.exchange
        self._fragments, self._averages = exchanges.fragments, experiment.synchronization.averages_group
        self._sends_weights, self._mix = experiment.offer.weights, exchanges.mix
        self._evaluate, self._evaluate_shards = setup.evaluator, setup.shard_evaluator
        self._evaluates_workers, self._workers_count = exchanges.evaluates_workers, experiment.cluster.workers
        self._values, self._settled = Values(), saved is None
        self._shapes = setup.params_like
        self._start, self._parts = self._values.expected("params"), list[Value]()
        for fragment in range(self._fragments.count):
            self._parts.append(self._values.expected(f"part.{fragment}"))
        start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), self._shapes)
        if saved is None:
            start = setup.start(progress)
            self._start.set(start)
            for fragment, part in enumerate(self._parts):
                part.set(self._fragments.take(start, fragment))
        parts = [self._fragments.take(start, fragment) for fragment in range(self._fragments.count)]
        self.servers: dict[Place, Server] = {
            (node, fragment): exchanges.server(node, parts[fragment])
            for node in exchanges.nodes
            for fragment in range(self._fragments.count)
        }
        self._held = {place: self._parts[place[1]] for place in self.servers}  # parameters of each place, by now
        self._references = dict(self._held)  # of regions, what was last accepted
        self._workers: dict[int, WorkerState] = {}
        self._made: dict[int, MadeOffer] = {}  # offers that have not met at their home, by round
        self._among_peers = not experiment.topology.has_server
        self._peers_offers: dict[int, deque[tuple[int, MadeOffer]]] = {}  # the last ones of each, which meet elsewhere
        self._regional: dict[int, Value] = {}  # offers of regions on their way
        self._answers: dict[int, deque[Value]] = {}  # to regions
        self._key = jax.random.key(experiment.seed)

    # Events.

    @phase("dispatch")
    def dispatch(self, event: Dispatched) -> None:
        """Begins a round."""
        round = event.round
        worker = self._worker(round.worker)
        self._end_round(worker)
        if event.start == "copy":
            self._copy(worker, event.source)
        elif event.start == "answer":
            self._merge(worker, 0, self._view((event.source, 0)), worker.offers[0].popleft())
        worker.round, worker.trainings = round, []
        self._train(worker, 0, round.steps)

    def fault(self, event: Shortened | Lost | Fault) -> None:
        """Shortens or drops a round, or forgets what a worker has kept."""
        match event:
            case Shortened(round=round):
                self._shorten(self._workers[round.worker], round)
            case Lost(round=round):
                self._lose(self._workers[round.worker], round)
            case Fault(forgets=True) if event.worker in self._workers:
                worker = self._workers[event.worker]
                self._end_round(worker)
                worker.inner = None
                worker.feedback = [None] * self._fragments.count

    def exchange(self, event: Answered | Offered | Accepted) -> None:
        """Follows an exchange beside the workers' rounds."""
        match event:
            case Answered():
                answer = self._view((event.node, event.fragment))
                self._workers[event.to].answers[event.fragment].append(answer)
            case Offered(region=region):
                place = region_node(region), 0
                self._regional[region] = self._settle(
                    self._values.lazy("part.0", _difference, self._references[place], self._held[place])
                )
            case Accepted(node=node) if node >= 0:
                self._accept(self._workers[node], event)
            case Accepted(node=node):
                place, answer = (node, 0), self._answers[node].popleft()
                mixed = self._values.lazy("part.0", self._mixed, self._held[place], answer)
                self._hold(place, self._settle(mixed))
                self._references[place] = self._held[place]

    def update(self, event: Update) -> Trained:
        """Applies an update."""
        place = event.node, event.fragment
        if self._is_regional(event):
            return self._update_upper(event, place)
        arrivals = [arrival for arrival in event.arrivals if isinstance(arrival, Arrival)]
        made = [self._offer_of(arrival.round) for arrival in arrivals]
        if not self._settled:
            self._hold(place, self._values.expected(f"part.{event.fragment}"))
            return Trained([], [], True)
        offers: list[OfferMade] = [each.offer.get() for each in made]
        for arrival in arrivals:
            self._workers[arrival.round.worker].release()
        infos = [
            OfferInfo(arrival.round.worker, staleness, arrival.round.steps)
            for arrival, staleness in zip(arrivals, event.staleness, strict=True)
        ]
        together = self._apply(event, place, offers, infos, [each.anchor for each in made])
        return Trained([each.loss.get() for each in made], [offer.finite for offer in offers], together)

    @phase("evaluation")
    def evaluate(self) -> tuple[jax.Array, jax.Array | None]:
        """Returns the losses of the server's parameters, or of the workers' mean."""
        params = self.params()
        return self._evaluate(params), self._evaluate_shards(params) if self._evaluate_shards else None

    def params(self) -> Params:
        """Returns the parameters that are evaluated: the server's, or the mean of what the workers last accepted."""
        count = self._fragments.count
        if not self._evaluates_workers:
            held = [self.servers[SERVER, fragment].params for fragment in range(count)]
            return self._fragments.join(self._shapes, held)
        each = [self._agreed(worker) for worker in range(self._workers_count)]
        return _mean(each)

    def _agreed(self, worker: int) -> Params:
        """Returns what a worker last accepted."""
        if (worker, 0) in self.servers:
            return self.servers[worker, 0].params
        state = self._workers.get(worker)
        anchors = self._parts if state is None else state.anchors
        return self._fragments.join(self._shapes, [anchor.get() for anchor in anchors])

    # Rounds.

    def _worker(self, number: int) -> WorkerState:
        if number not in self._workers:
            count = self._fragments.count
            self._workers[number] = WorkerState(
                self._start,
                list(self._parts),
                feedback=[None] * count,
                merge=[None] * count,
                answers=[deque() for _ in range(count)],
                offers=[deque() for _ in range(count)],
            )
        return self._workers[number]

    def _copy(self, worker: WorkerState, source: int) -> None:
        """Has a worker begin with a copy of all that a node holds."""
        count = self._fragments.count
        if (source, 0) in self._held:
            parts = [self._view((source, fragment)) for fragment in range(count)]
            if self._evaluates_workers and source == SERVER:
                parts = list(self._parts)  # of a server without parameters: those of the start
        else:
            parts = list(self._workers[source].anchors)
        worker.anchors, worker.merge = parts, [None] * count
        for queue in (*worker.answers, *worker.offers):
            queue.clear()
        worker.params = parts[0] if count == 1 else self._values.lazy("params", self._joined, *parts)

    def _train(self, worker: WorkerState, first: int, steps: int) -> None:
        """Begins local steps of a worker's round, in no longer trainings than programs have."""
        round = worker.round
        assert round is not None
        while first < steps:
            length = min(steps - first, self._trainer.longest)
            stretch = Stretch(round.id, round.worker, round.shard, round.first_step + first, length, first)
            training = self._trainer.training(self._values, stretch, worker.params, worker.inner)
            worker.trainings.append(training)
            worker.params = self._values.lazy("params", _params_of, training)
            worker.inner = self._values.lazy("inner", _inner_of, training)
            if self._settled:
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
            if self._settled:
                for dropped in worker.trainings[len(kept) :]:
                    self._trainer.drop(dropped)
            worker.params, worker.inner, worker.trainings = training.start, training.inner, kept
            if left > 0:
                self._train(worker, stretch.before, stretch.before + left)
            return

    def _shorten(self, worker: WorkerState, round: Round) -> None:
        self._cut(worker, round.steps)
        worker.round = round

    def _lose(self, worker: WorkerState, round: Round) -> None:
        """Drops a round under way, or an offer on its way; the inner state is that before the round."""
        self._made.pop(round.id, None)
        if worker.round is None or worker.round.id != round.id:
            return
        for training in worker.trainings:
            if self._settled:
                self._trainer.drop(training)
        first = worker.trainings[0]
        worker.params, worker.inner = first.start, first.inner
        worker.round, worker.trainings = None, []

    def _end_round(self, worker: WorkerState) -> None:
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
            worker.feedback[fragment] = self._values.lazy(f"feedback.{fragment}", _feedback_of, offer)
        else:
            offer = self._values.lazy(f"offer.{fragment}", self._offered, *inputs)
        steps = [training.stretch.steps for training in trainings]
        loss = self._values.lazy("loss", lambda *results: _mean_loss(results, steps), *trainings)
        self._made[round.id] = MadeOffer(offer, anchor, loss)
        if not self._exchange.is_overwriting:
            worker.offers[fragment].append(offer)
        worker.round, worker.trainings = None, []

    def _offer_of(self, round: Round) -> MadeOffer:
        """Returns the offer at the end of a round."""
        worker = self._workers[round.worker]
        if worker.round is not None and worker.round.id == round.id:
            self._end_round(worker)
        if not self._among_peers:
            return self._made.pop(round.id)
        kept = self._peers_offers.setdefault(round.worker, deque(maxlen=_KEPT_OF_PEERS))
        if round.id in self._made:
            kept.append((round.id, self._made.pop(round.id)))
        return next(made for number, made in kept if number == round.id)

    def _offered(self, local: Any, anchor: Any, *more: Any) -> OfferMade:
        """Computes an offer from parameters, and, where they are, a key and the error before."""
        key = more[0] if self._exchange.draws else self._key
        rest = more[1:] if self._exchange.draws else more
        feedback = rest[0] if rest else self._exchange.initial_feedback(anchor)
        offer: OfferMade = self._exchange.offer(local, anchor, feedback, key)
        return offer

    # Answers.

    def _view(self, place: Place) -> Value:
        """Returns what a place hands out now."""
        if self._exchange.hands_out_parameters:
            return self._held[place]
        if not self._settled:
            return self._values.expected(f"part.{place[1]}")
        server = self.servers[place]
        return self._values.known(f"part.{place[1]}", self._exchange.view(server.params, server.state))

    def _accept(self, worker: WorkerState, event: Accepted) -> None:
        fragment = event.fragment
        if event.after:
            self._cut(worker, event.after)  # the rest of its steps is to follow
        else:
            self._end_round(worker)
        if event.round < 0:  # before anything was answered
            nothing = self._parts[fragment]
            answer = self._values.lazy(f"part.{fragment}", _zeros, nothing)
            offer = self._values.lazy(f"offer.{fragment}", self._offered_nothing, nothing)
        else:
            answer = worker.answers[fragment].popleft()
            offer = worker.offers[fragment].popleft() if worker.offers[fragment] else answer
        self._merge(worker, fragment, answer, offer)
        if event.after:
            assert worker.round is not None
            self._train(worker, event.after, worker.round.steps)

    def _merge(self, worker: WorkerState, fragment: int, answer: Value, offer: Value) -> None:
        """Has a worker merge an answer to an offer."""
        if self._exchange.is_overwriting:
            merged = answer
            worker.anchors[fragment] = answer
        else:
            before = worker.merge[fragment]
            local, anchor = self._part(worker.params, fragment), worker.anchors[fragment]
            inputs = [local, anchor, offer, answer, *([before] if before else [])]
            outcome = self._values.lazy(f"merged.{fragment}", self._merged, *inputs)
            merged = self._values.lazy(f"part.{fragment}", _first, outcome)
            worker.anchors[fragment] = self._values.lazy(f"part.{fragment}", _second, outcome)
            worker.merge[fragment] = self._values.lazy(f"merge.{fragment}", _third, outcome)
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

    # Meetings.

    def _apply(
        self,
        event: Update,
        place: Place,
        offers: Sequence[OfferMade],
        infos: Sequence[OfferInfo],
        anchors: Sequence[Value],
    ) -> Any:
        server = self.servers[place]
        together: Any = True
        if not self._averages:
            for offer, info, anchor in zip(offers, infos, anchors, strict=True):
                together = server.apply(
                    offer.tree, staleness=info.staleness, worker=info.worker, pulled_params=anchor.get()
                )
        elif event.outcome == "applied":
            starts = [anchor.get() for anchor in anchors] if self._sends_weights else None
            together = server.meet(offers, infos, starts)
        self._hold(place, self._values.known(f"part.{place[1]}", server.params))
        return together

    def _hold(self, place: Place, value: Value) -> None:
        """Has a place hold other parameters."""
        self._held[place] = value
        if self._settled:
            self.servers[place].params = value.get()

    def _is_regional(self, event: Update) -> bool:
        return any(isinstance(arrival, RegionOffer) for arrival in event.arrivals)

    def _update_upper(self, event: Update, place: Place) -> Trained:
        """Applies the offers of regions, and answers them."""
        for arrival, staleness in zip(event.arrivals, event.staleness, strict=True):
            assert isinstance(arrival, RegionOffer)
            offer = self._regional.pop(arrival.region)
            if self._settled:
                server = self.servers[place]
                params = server.params
                server.apply(offer.get(), staleness=staleness, worker=arrival.region, pulled_params=params)
                self._hold(place, self._values.known("part.0", server.params))
            else:
                self._hold(place, self._values.expected("part.0"))
            self._answers.setdefault(region_node(arrival.region), deque()).append(self._held[place])
        return Trained([], [], True)

    def _mixed(self, own: Any, answer: Any) -> Any:
        return jax.tree.map(lambda theta, upper: (1 - self._mix) * theta + self._mix * upper, own, answer)

    def _part(self, params: Value, fragment: int) -> Value:
        if self._fragments.count == 1:
            return params
        return self._values.lazy(f"part.{fragment}", lambda whole: self._fragments.take(whole, fragment), params)

    def _joined(self, *parts: Any) -> Any:
        return self._fragments.join(self._shapes, parts)

    def _settle(self, value: Value) -> Value:
        """Computes a value that is always computed at once; in a replay it is left to the checkpoint."""
        if self._settled:
            value.get()
        else:
            value.await_checkpoint()
        return value

    # Checkpoints.

    def _roots(self) -> Iterator[Value]:
        """Yields the values that the future can depend on."""
        if self._evaluates_workers:
            yield from self._parts  # which a worker may begin with at any time
        yield from self._held.values()
        yield from self._references.values()
        yield from self._regional.values()
        for queue in self._answers.values():
            yield from queue
        for made in self._made.values():
            yield from made
        for last in self._peers_offers.values():
            for _, made in last:
                yield from made
        for worker in self._workers.values():
            kept = (worker.params, worker.inner, *worker.anchors, *worker.feedback, *worker.merge, *worker.trainings)
            begun = [each for training in worker.trainings for each in (training.start, training.inner)]
            yield from (each for each in (*kept, *begun) if each is not None)  # a round may be lost, or cut off
            for waiting in (*worker.answers, *worker.offers):
                yield from waiting

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Returns the state to checkpoint: arrays and JSON facts."""
        return learner_state.save(self.servers, self._known())

    def size(self) -> int:
        """Returns the bytes of the state's arrays."""
        return learner_state.size(self.servers, self._known())

    def _known(self) -> list[Value]:
        return [value for value in reachable(self._roots()) if value.is_known]

    def follow(self, event: Event) -> None:
        """Follows an event before a checkpoint: nothing is computed, and values are left to be restored."""
        match event:
            case Dispatched():
                self.dispatch(event)
            case Shortened() | Lost() | Fault():
                self.fault(event)
            case Update():
                self.update(event)
            case Answered() | Offered() | Accepted():
                self.exchange(event)

    def resume(self, saved: Checkpoint) -> None:
        """Restores the state of a checkpoint, up to which all events were followed."""
        with _fitting():
            learner_state.restore(self.servers, reachable(self._roots()), self._like, saved.arrays, saved.facts)
        self._settled = True
        for place, value in self._held.items():
            self.servers[place].params = value.get()
        trainings = [each for each in reachable(self._roots()) if isinstance(each, Training) and not each.is_known]
        for training in sorted(trainings, key=lambda each: (each.stretch.id, each.stretch.before)):
            self._trainer.submit(training)

    def _like(self, kind: str) -> Any:
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
                return _result_like(params), jax.eval_shape(self._trainer.initial_state, params)
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

    def _offered_like(self, part: Any) -> OfferMade:
        offer: OfferMade = self._exchange.offer(part, part, self._exchange.initial_feedback(part), self._key)
        return offer


def _result_like(params: Any) -> Any:
    return RoundResult(params, jnp.zeros((), jnp.float32), jnp.zeros((), bool))


def _params_of(trained: Any) -> Params:
    return trained[0].params


def _inner_of(trained: Any) -> Any:
    return trained[1]


def _feedback_of(offer: OfferMade) -> Any:
    return offer.feedback


def _first(outcome: Any) -> Any:
    return outcome[0]


def _second(outcome: Any) -> Any:
    return outcome[1]


def _third(outcome: Any) -> Any:
    return outcome[2]


def _mean_loss(results: Iterable[Any], steps: Sequence[int]) -> Any:
    """Returns the mean loss over local steps, from those over parts of them."""
    losses = [result.loss for result, _ in results]
    if len(losses) == 1:
        return losses[0]
    total = sum(loss * count for loss, count in zip(losses, steps, strict=True))
    return total / sum(steps)


@jax.jit
def _difference(start: Any, end: Any) -> Any:
    return jax.tree.map(lambda a, b: a - b, start, end)


@jax.jit
def _zeros(like: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, like)


@jax.jit
def _mean(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *trees)


@contextlib.contextmanager
def _fitting() -> Iterator[None]:
    """Raises RecordError if a checkpoint does not fit this version of the program."""
    try:
        yield
    except learner_state.SnapshotError as error:
        message = f"the checkpoint does not fit this program, which has changed since ({error}): "
        raise RecordError(f"{message}remove the run's folder, and simulate it again") from error
