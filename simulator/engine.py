"""Where the simulated clock meets training: the one module that knows SimPy's side and JAX's."""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol

import jax
import numpy as np

from simulator.cluster import ClusterError, ClusterModel, build_cluster
from simulator.data import DataError
from simulator.experiment import Experiment, ExperimentError, Problem
from simulator.experiment.schema import AsynchronousSynchronization, BarrierSynchronization
from simulator.learning import ModelCosts, ModelError, OptimizerError, Server, Ticket, Workshop, build_outer
from simulator.learning.workshop import PretrainProgress, context_of
from simulator.record import EvaluationLog, RoundLog, RunRecord, summarize_rounds
from simulator.timeline import (
    Arrival,
    Asynchronous,
    Barrier,
    Dispatched,
    Evaluation,
    Finished,
    LeastVisited,
    OwnShard,
    Proportional,
    Round,
    ShardChoice,
    Synchronization,
    Timeline,
    TimelineConfig,
    Update,
    dynamic_steps,
    fixed_steps,
)

TrainerKind = Literal["batched", "serial", "null"]
PACKAGES = ("tardigrad", "jax", "jaxlib", "flax", "optax", "simpy", "numpy")


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a simulation stands.

    Attributes:
      simulated_s: the clock.
      local_steps: over all workers, as processed.
      tokens: trained on in those.
      server_updates: the server's version.
      staleness: mean over the last update's arrivals.
      train_loss: of the last round whose loss is known, in nats; NaN before.
      perplexity: of the last evaluation that is known; NaN before.
      fraction: of the budget, from 0 to 1.
    """

    simulated_s: float
    local_steps: int
    tokens: int
    server_updates: int
    staleness: float
    train_loss: float
    perplexity: float
    fraction: float


class Observer(Protocol):
    """Watches a simulation; what it does has no influence on it."""

    def pretrained(self, steps: int, of: int, loss: float) -> None:
        """Pretraining has come this far."""

    def advanced(self, progress: Progress) -> None:
        """The server has processed an update."""


def simulate(
    experiment: Experiment,
    *,
    trainer: TrainerKind | None = None,
    observer: Observer | None = None,
    workshop: Workshop | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> RunRecord:
    """Simulates one experiment to the end of its budget.

    Args:
      experiment: what to simulate.
      trainer: "batched", "serial", or "null" for the timeline alone; the experiment's own choice when None.
      observer: is told of the progress.
      workshop: shares data, compiled programs and pretraining with other experiments that were given the same one.
      overrides: what a sweep changed, noted in the record.

    Returns:
      The record: rounds, evaluations and a summary.

    Raises:
      ExperimentError: the experiment does not fit its data, model or optimizers.
    """
    simulation = Simulation(experiment, trainer=trainer, workshop=workshop)
    return simulation.run(observer, overrides)


class Simulation:
    """One experiment, ready to run.

    Attributes:
      experiment: what is simulated.
      timeline: its events.
      server: the parameters and the outer optimizer, once `run` has begun; None with the null trainer.
    """

    def __init__(self, experiment: Experiment, *, trainer: TrainerKind | None = None, workshop: Workshop | None = None):
        self.experiment = experiment
        self.server: Server | None = None
        self._kind: TrainerKind = trainer or experiment.compute.trainer
        self._workshop = workshop or Workshop()
        with _reported():
            self._costs = self._workshop.costs(experiment)
            sizes = [len(shard) for shard in self._workshop.dataset(experiment).shard_examples]
            self.cluster = cluster_of(experiment, self._costs)
        self.timeline = timeline_of(experiment, self.cluster, sizes)

    def run(self, observer: Observer | None = None, overrides: Mapping[str, Any] | None = None) -> RunRecord:
        """Runs to the end of the budget and returns the record. Call it once."""
        experiment, workshop = self.experiment, self._workshop
        started = time.perf_counter()
        learner: _Learner | None = None
        if self._kind != "null":
            with _reported():
                learner = _Learner(experiment, self._kind, workshop, observer.pretrained if observer else None)
            self.server = learner.server
        started_loop = time.perf_counter()
        book = _Book(experiment, self.cluster, observer)
        for event in self.timeline:
            match event:
                case Dispatched():
                    if learner:
                        learner.dispatch(event.round)
                case Update():
                    book.update(event, learner.update(event) if learner else None)
                case Evaluation():
                    book.evaluation(event, learner.evaluate() if learner else None)
                case Finished():
                    book.settle()
        ended = time.perf_counter()
        return self._record(book, overrides or {}, ended - started, ended - started_loop)

    def _record(
        self, book: "_Book", overrides: Mapping[str, Any], host_seconds: float, loop_seconds: float
    ) -> RunRecord:
        rounds, evaluations = book.rounds.frame(), book.evaluations.frame()
        dataset = self._workshop.dataset(self.experiment)
        final_loss = float(evaluations["loss"].iloc[-1]) if self.server else None
        summary = {
            "variant": self.experiment.variant or self.experiment.name,
            "seed": self.experiment.seed,
            "overrides": dict(overrides),
            "final_perplexity": None if final_loss is None else perplexity(final_loss),
            "final_loss": final_loss,
            "best_loss": dataset.best_loss,
            **summarize_rounds(rounds, self.cluster.workers, self.timeline.now_s),
            "tokens": book.tokens,
            "host_seconds": host_seconds,
            "tokens_per_host_second": book.tokens / loop_seconds if self.server else None,
            "parameters": self._costs.parameters,
            "parameters_hash": parameters_hash(self.server.params) if self.server else None,
            "causal_hash": self.timeline.causal_hash,
            "data_hash": dataset.content_hash,
            "data": dict(dataset.facts),
            "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
            "backend": jax.default_backend(),
            "trainer": self._kind,
        }
        return RunRecord(self.experiment.model_dump(mode="json"), summary, rounds, evaluations)


class _Learner:
    """Follows the events with real training."""

    def __init__(
        self, experiment: Experiment, kind: TrainerKind, workshop: Workshop, progress: PretrainProgress | None
    ):
        self._trainer = workshop.trainer(experiment, kind)
        self._evaluate = workshop.evaluator(experiment)
        self._barrier = experiment.synchronization.kind == "barrier"
        self._tickets: dict[int, Ticket] = {}
        self.server = workshop.server(experiment, progress)

    def dispatch(self, assignment: Round) -> None:
        self._tickets[assignment.id] = self._trainer.submit(assignment, self.server.params)

    def update(self, event: Update) -> list[jax.Array]:
        """Applies an update; returns the rounds' training losses without waiting for them."""
        tickets = [self._tickets.pop(arrival.round.id) for arrival in event.arrivals]
        results = [self._trainer.result(ticket) for ticket in tickets]
        if self._barrier:
            self.server.apply_mean([result.pseudo_gradient for result in results])
        else:
            for ticket, result, staleness in zip(tickets, results, event.staleness, strict=True):
                self.server.apply(
                    result.pseudo_gradient,
                    staleness=staleness,
                    worker=ticket.assignment.worker,
                    pulled_params=ticket.params,
                )
        return [result.loss for result in results]

    def evaluate(self) -> jax.Array:
        return self._evaluate(self.server.params)


class _Book:
    """Keeps the record. What training reports is fetched one event late, so that the loop never waits for it."""

    def __init__(self, experiment: Experiment, cluster: ClusterModel, observer: Observer | None):
        self.rounds, self.evaluations = RoundLog(), EvaluationLog()
        self._budget = experiment.budget
        self._bytes = cluster.down.message_bytes, cluster.up.message_bytes
        self._tokens_per_step = tokens_per_step(experiment)
        self._observer = observer
        self._late_update: tuple[Update, list[jax.Array] | None] | None = None
        self._late_evaluation: tuple[dict[str, Any], jax.Array | None] | None = None
        self._arrived = 0
        self._train_loss = self._perplexity = math.nan
        self.tokens = 0

    def update(self, event: Update, losses: list[jax.Array] | None) -> None:
        self._settle_update()
        self._late_update = event, losses
        self._arrived += len(event.arrivals)
        self.tokens = event.local_steps * self._tokens_per_step
        if self._observer is not None:
            self._observer.advanced(self._progress(event))

    def evaluation(self, event: Evaluation, loss: jax.Array | None) -> None:
        self._settle_evaluation()
        row = {
            "simulated_s": event.time_s,
            "local_steps": event.local_steps,
            "tokens": event.local_steps * self._tokens_per_step,
            "server_updates": event.version,
            "bytes_sent": self._arrived * sum(self._bytes),
        }
        self._late_evaluation = row, loss

    def settle(self) -> None:
        """Fetches what is still on its way."""
        self._settle_update()
        self._settle_evaluation()

    def _settle_update(self) -> None:
        if self._late_update is None:
            return
        event, losses = self._late_update
        fetched = [math.nan] * len(event.arrivals) if losses is None else [float(loss) for loss in losses]
        for arrival, staleness, train_loss in zip(event.arrivals, event.staleness, fetched, strict=True):
            self._append(event, arrival, staleness, train_loss)
        self._train_loss = float(np.mean(fetched))
        self._late_update = None

    def _append(self, event: Update, arrival: Arrival, staleness: int, train_loss: float) -> None:
        self.rounds.append(
            round=arrival.round.id,
            worker=arrival.round.worker,
            shard=arrival.round.shard,
            first_step=arrival.round.first_step,
            local_steps=arrival.round.steps,
            pulled_version=arrival.round.version,
            version=event.version,
            staleness=staleness,
            outcome=event.outcome,
            ready_s=arrival.ready_s,
            pull_start_s=arrival.pull_start_s,
            compute_start_s=arrival.compute_start_s,
            push_start_s=arrival.push_start_s,
            arrival_s=arrival.arrival_s,
            update_s=event.time_s,
            train_loss=train_loss,
            bytes_down=self._bytes[0],
            bytes_up=self._bytes[1],
        )

    def _settle_evaluation(self) -> None:
        if self._late_evaluation is None:
            return
        row, loss = self._late_evaluation
        value = math.nan if loss is None else float(loss)
        self._perplexity = perplexity(value)
        self.evaluations.append(**row, loss=value, perplexity=self._perplexity, train_loss=self._train_loss)
        self._late_evaluation = None

    def _progress(self, event: Update) -> Progress:
        done = (
            (event.local_steps, self._budget.local_steps),
            (event.time_s, self._budget.simulated_time),
            (event.version, self._budget.server_updates),
        )
        return Progress(
            simulated_s=event.time_s,
            local_steps=event.local_steps,
            tokens=self.tokens,
            server_updates=event.version,
            staleness=sum(event.staleness) / len(event.staleness),
            train_loss=self._train_loss,
            perplexity=self._perplexity,
            fraction=min(1.0, max(value / limit for value, limit in done if limit)),
        )


def cluster_of(experiment: Experiment, costs: ModelCosts) -> ClusterModel:
    """Returns the cost model of the experiment's cluster.

    Raises:
      ClusterError: a device is described by a name that is not known.
    """
    return build_cluster(
        experiment.cluster,
        parameters=costs.parameters,
        flops_per_step=costs.flops_per_step,
        seed=experiment.seed,
    )


def timeline_of(experiment: Experiment, cluster: ClusterModel, shard_sizes: list[int]) -> Timeline:
    """Returns the experiment's events, not yet run."""
    inner, outer, budget, evaluate = experiment.inner, experiment.outer, experiment.budget, experiment.evaluate
    choices: dict[str, ShardChoice] = {
        "proportional": Proportional(np.array(shard_sizes, np.int64)),
        "least_visited": LeastVisited(),
        "fixed": OwnShard(),
    }
    match experiment.synchronization:
        case BarrierSynchronization():
            policy: Synchronization = Barrier()
        case AsynchronousSynchronization(grace=grace_s):
            policy = Asynchronous(grace_s)
    dynamic = experiment.local_steps.kind == "dynamic"
    steps = (
        dynamic_steps(cluster.step_s, inner.local_steps) if dynamic else fixed_steps(cluster.workers, inner.local_steps)
    )
    buffers = outer.buffer if outer.buffer is not None and outer.optimizer != "delayed_nesterov" else 1
    config = TimelineConfig(
        synchronization=policy,
        shard_choice=choices[experiment.shard_choice.kind],
        steps=steps,
        shards=len(shard_sizes),
        arrivals_per_update=buffers,
        drop_above=getattr(outer.staleness, "drop_above", None),
        budget_local_steps=budget.local_steps,
        budget_s=budget.simulated_time,
        budget_updates=budget.server_updates,
        evaluate_every_steps=evaluate.every_local_steps,
        evaluate_every_s=evaluate.every_simulated,
        evaluation_s=evaluate.takes,
    )
    return Timeline(cluster, config)


def check(experiment: Experiment, workshop: Workshop | None = None) -> list[Problem]:
    """Returns what is wrong with an experiment beyond its file: data, model sizes, optimizers, devices."""
    workshop = workshop or Workshop()
    problems: list[Problem] = []

    def attempt(step: Any) -> Any:
        try:
            return step()
        except _REPORTED as error:
            problems.append(_problem(error))
            return None

    costs = attempt(lambda: workshop.costs(experiment))
    attempt(lambda: cluster_of(experiment, costs or ModelCosts(1, 1.0)))
    if costs is not None:
        attempt(lambda: workshop.recipe(experiment))
    attempt(lambda: build_outer(experiment.outer))
    return problems


def tokens_per_step(experiment: Experiment) -> int:
    """Returns how many tokens (of a classifier, examples) one local step trains on."""
    context = context_of(experiment)
    return experiment.inner.batch_size * (context or 1)


def perplexity(loss: float) -> float:
    """Returns exp(loss), infinite where that is beyond float64."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def parameters_hash(params: Any) -> str:
    """Returns a fingerprint of parameters: equal hashes, equal bits."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


_REPORTED = (ClusterError, DataError, ModelError, OptimizerError)


def _problem(error: Any) -> Problem:
    return Problem(error.key, getattr(error, "message", None) or error.args[0], error.value)


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    """Turns what the parts say of their own settings into an `ExperimentError`."""
    try:
        yield
    except _REPORTED as error:
        raise ExperimentError([_problem(error)]) from error
