"""Training learner: follows the events of a simulation by computing what they stand for."""

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simulator.host.nodes import SERVER, region_node, region_of
from simulator.learning import (
    OfferInfo,
    OfferMade,
    Server,
    Setup,
    Training,
    Value,
    Values,
    diagnose,
    learner_state,
    reachable,
)
from simulator.learning.model import tokens_per_step
from simulator.learning.phases import phase
from simulator.learning.pretraining import PretrainProgress
from simulator.learning.round import Params
from simulator.record import Checkpoint, RecordError
from simulator.simulation.learner import Learner
from simulator.simulation.trained import Trained
from simulator.simulation.worker_training import WorkerTraining
from simulator.timeline import (
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
)

Node = tuple[int, int]
"""Number of a node, and a fragment for which it has a place."""


class TrainingLearner(Learner):
    """Trains.

    Args:
      setup: of the experiment to train.
      trainer: "batched" or "serial".
      progress: called with the progress of routers' training, and of pretraining.
      saved: checkpoint with the parameters to begin with, if any; `resume` restores the rest.

    Attributes:
      servers: of each place, its parameters and outer optimizer.
      training: of the workers.
    """

    def __init__(
        self,
        setup: Setup,
        trainer: str,
        progress: PretrainProgress | None,
        saved: Checkpoint | None = None,
    ):
        exchanges, experiment, evaluation = setup.exchanges, setup.experiment, setup.evaluation
        setup.divided(progress)
        self._trainer, self._exchange = setup.trainer(trainer), exchanges.exchange
        self._fragments, self._averages = exchanges.fragments, experiment.synchronization.averages_group
        self._sends_weights, self._mix = experiment.offer.weights, exchanges.mix
        self._evaluate, self._evaluate_shards = evaluation.evaluator, evaluation.shard_evaluator
        self._of_experts = evaluation.of == "experts"
        self._evaluates_workers, self._workers_count = exchanges.evaluates_workers, experiment.cluster.workers
        self._values, self._shapes = Values(), setup.params_like
        self._tokens_per_step = tokens_per_step(experiment)
        self.training = WorkerTraining(
            self._values,
            self._trainer,
            self._exchange,
            self._fragments,
            self._shapes,
            seed=experiment.seed,
            among_peers=not experiment.topology.has_server,
            is_settled=saved is None,
        )
        start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), self._shapes)
        if saved is None:
            start = setup.start(progress)
            self.training.begin(start)
        parts = [self._fragments.take(start, fragment) for fragment in range(self._fragments.count)]
        self.servers: dict[Node, Server] = {
            (node, fragment): exchanges.server(node, parts[fragment])
            for node in exchanges.nodes
            for fragment in range(self._fragments.count)
        }
        self._held = {node: self.training.parts[node[1]] for node in self.servers}  # parameters of each, by now
        self._references = dict(self._held)  # of regions, what was last accepted
        self._regional: dict[int, Value] = {}  # offers of regions on their way
        self._answers: dict[int, deque[Value]] = {}  # to regions

    # Events.

    @phase("dispatch")
    def dispatch(self, event: Dispatched) -> None:
        """Begins a round."""
        round, training = event.round, self.training
        worker = training.worker(round.worker)
        training.end_round(worker)
        if event.start == "copy":
            of = training.workers.get(event.source) if self._evaluates_workers else None
            training.copy(worker, self._copied(event.source), of)
        elif event.start == "answer":
            training.merge(worker, 0, self._view((event.source, 0)), worker.offers[0].popleft())
        worker.round, worker.trainings = round, []
        training.train(worker, 0, round.steps)

    def _copied(self, source: int) -> list[Value]:
        """Returns all fragments that a node holds."""
        if (source, 0) not in self._held:
            return self.training.workers[source].anchors
        if self._evaluates_workers and source == SERVER:
            return self.training.parts  # of a server without parameters: those of the start
        return [self._view((source, fragment)) for fragment in range(self._fragments.count)]

    def fault(self, event: Shortened | Lost | Fault) -> None:
        """Shortens or drops a round, or forgets what a worker has kept."""
        workers = self.training.workers
        match event:
            case Shortened(round=round):
                self.training.shorten(workers[round.worker], round)
            case Lost(round=round):
                self.training.lose(workers[round.worker], round)
            case Fault(forgets=True) if event.worker in workers:
                self.training.forget(workers[event.worker])

    def exchange(self, event: Answered | Offered | Accepted) -> None:
        """Follows an exchange beside the workers' rounds."""
        match event:
            case Answered():
                answer = self._view((event.node, event.fragment))
                self.training.workers[event.to].answers[event.fragment].append(answer)
            case Offered(node=node) if node < 0:
                place = node, 0
                self._regional[region_of(node)] = self._settle(
                    self._values.lazy("part.0", _difference, self._references[place], self._held[place])
                )
            case Accepted(node=node) if node >= 0:
                self.training.accept(self.training.workers[node], event)
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
        made = [self.training.offer_of(arrival) for arrival in arrivals]
        if not self.training.is_settled:
            self._hold(place, self._values.expected(f"part.{event.fragment}"))
            return Trained([], [], True)
        offers: list[OfferMade] = [each.offer.get() for each in made]
        for arrival in arrivals:
            self.training.workers[arrival.round.worker].release()
        infos = [
            OfferInfo(round.worker, staleness, round.steps, round.steps * round.micro_batches * self._tokens_per_step)
            for round, staleness in zip([each.round for each in arrivals], event.staleness, strict=True)
        ]
        together, diagnostics = self._apply(event, place, offers, infos, [each.anchor for each in made])
        losses, finite = [each.loss.get() for each in made], [offer.finite for offer in offers]
        return Trained(losses, finite, together, diagnostics)

    def noise_scale(self, round: Round) -> float:
        """Returns the gradient noise scale at the end of a worker's last round, once that is trained."""
        worker = self.training.workers[round.worker]
        assert worker.round is not None
        assert worker.round.id == round.id, "the worker has begun another round since"
        result, _ = worker.trainings[-1].get()
        return float(result.noise_scale)

    @phase("evaluation")
    def evaluate(self) -> tuple[jax.Array, jax.Array | None]:
        """Returns the losses of the parameters that are evaluated."""
        params = self.params()
        return self._evaluate(params), self._evaluate_shards(params) if self._evaluate_shards else None

    def params(self) -> Params | list[Params]:
        """Returns the parameters that are evaluated: the server's, or the mean of what the workers last accepted.

        Of experts it is a list of what each has.
        """
        count = self._fragments.count
        if not self._evaluates_workers:
            held = [self.servers[SERVER, fragment].params for fragment in range(count)]
            return self._fragments.join(self._shapes, held)
        each = [self.agreed(worker) for worker in range(self._workers_count)]
        return each if self._of_experts else _mean(each)

    def agreed(self, worker: int) -> Params:
        """Returns what a worker last accepted."""
        if (worker, 0) in self.servers:
            return self.servers[worker, 0].params
        return self.training.agreed(worker)

    def _view(self, place: Node) -> Value:
        """Returns what a place hands out now."""
        if self._exchange.hands_out_parameters:
            return self._held[place]
        if not self.training.is_settled:
            return self._values.expected(f"part.{place[1]}")
        server = self.servers[place]
        return self._values.known(f"part.{place[1]}", self._exchange.view(server.params, server.state))

    # Meetings.

    def _apply(
        self,
        event: Update,
        place: Node,
        offers: Sequence[OfferMade],
        infos: Sequence[OfferInfo],
        anchors: Sequence[Value],
    ) -> tuple[Any, list[jax.Array]]:
        server = self.servers[place]
        before = (server.params if server.steps and self._exchange.offers_progress else None), server.state
        together: Any = True
        aggregate: Params | None = None
        if not self._averages:
            for offer, info, anchor in zip(offers, infos, anchors, strict=True):
                together = server.apply(offer.tree, info, anchor.get())
        elif event.outcome == "applied":
            starts = [anchor.get() for anchor in anchors] if self._sends_weights else None
            together, aggregate = server.meet(offers, infos, starts)
        self._hold(place, self._values.known(f"part.{place[1]}", server.params))
        of_each = zip(offers, anchors, strict=True)
        return together, [diagnose(offer.tree, anchor.get(), *before, aggregate) for offer, anchor in of_each]

    def _hold(self, place: Node, value: Value) -> None:
        """Has a place hold other parameters."""
        self._held[place] = value
        if self.training.is_settled:
            self.servers[place].params = value.get()

    def _is_regional(self, event: Update) -> bool:
        return any(isinstance(arrival, RegionOffer) for arrival in event.arrivals)

    def _update_upper(self, event: Update, place: Node) -> Trained:
        """Applies the offers of regions, and answers them."""
        diagnostics = []
        for arrival, staleness in zip(event.arrivals, event.staleness, strict=True):
            assert isinstance(arrival, RegionOffer)
            offer = self._regional.pop(arrival.region)
            if self.training.is_settled:
                server, start = self.servers[place], self._references[region_node(arrival.region), 0]
                params = server.params
                diagnostics.append(diagnose(offer.get(), start.get(), params, server.state, None))
                server.apply(offer.get(), OfferInfo(arrival.region, staleness), params)
                self._hold(place, self._values.known("part.0", server.params))
            else:
                self._hold(place, self._values.expected("part.0"))
            self._answers.setdefault(region_node(arrival.region), deque()).append(self._held[place])
        return Trained([], [], True, diagnostics)

    def _mixed(self, own: Any, answer: Any) -> Any:
        return jax.tree.map(lambda theta, upper: (1 - self._mix) * theta + self._mix * upper, own, answer)

    def _settle(self, value: Value) -> Value:
        """Computes a value that is always computed at once; in a replay it is left to the checkpoint."""
        if self.training.is_settled:
            value.get()
        else:
            value.await_checkpoint()
        return value

    # Checkpoints.

    def _roots(self) -> Iterator[Value]:
        """Yields the values that the future can depend on."""
        if self._evaluates_workers:
            yield from self.training.parts  # which a worker may begin with at any time
        yield from self._held.values()
        yield from self._references.values()
        yield from self._regional.values()
        for queue in self._answers.values():
            yield from queue
        yield from self.training.roots()

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
            learner_state.restore(self.servers, reachable(self._roots()), self.training.like, saved.arrays, saved.facts)
        self.training.is_settled = True
        for place, value in self._held.items():
            self.servers[place].params = value.get()
        trainings = [each for each in reachable(self._roots()) if isinstance(each, Training) and not each.is_known]
        for training in sorted(trainings, key=lambda each: (each.stretch.id, each.stretch.before)):
            self._trainer.submit(training)


@jax.jit
def _difference(start: Any, end: Any) -> Any:
    return jax.tree.map(lambda a, b: a - b, start, end)


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
