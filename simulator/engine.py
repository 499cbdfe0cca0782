"""Where the simulated clock meets training: the one module that knows SimPy's side and JAX's."""

import contextlib
import hashlib
import importlib.metadata
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
import pandas as pd

from simulator.book import Book, Observer, Progress, perplexity
from simulator.cluster import ClusterError, ClusterModel, build_cluster
from simulator.data import DataError
from simulator.experiment import Experiment, ExperimentError, Problem
from simulator.experiment.schema import AsynchronousSynchronization, BarrierSynchronization
from simulator.learning import (
    ModelCosts,
    ModelError,
    OptimizerError,
    Server,
    Ticket,
    Workshop,
    build_inner,
    build_outer,
)
from simulator.learning.modeling import context_of
from simulator.learning.pretraining import PretrainProgress, pretrain_inner
from simulator.record import RunRecord, shard_columns, summarize_rounds
from simulator.timeline import (
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
__all__ = ["Observer", "Progress", "Simulation", "TrainerKind", "check", "cluster_of", "simulate", "timeline_of"]

PACKAGES = ("tardigrad", "jax", "jaxlib", "flax", "optax", "simpy", "numpy")


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
            self.cluster = cluster_of(experiment, self._costs)
            self.timeline = timeline_of(experiment, self.cluster, self._workshop.shard_sizes(experiment))

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
        shards = experiment.shards if experiment.evaluate.per_shard else 0
        book = Book(experiment.budget, self.cluster, tokens_per_step(experiment), observer, shards)
        with _reported():
            self._follow(book, learner)
        ended = time.perf_counter()
        return self._record(book, overrides or {}, ended - started, ended - started_loop)

    def _follow(self, book: Book, learner: "_Learner | None") -> None:
        for event in self.timeline:
            match event:
                case Dispatched():
                    if learner:
                        learner.dispatch(event.round)
                case Update():
                    book.update(event, learner.update(event) if learner else None)
                case Evaluation():
                    book.evaluation(event, *(learner.evaluate() if learner else (None, None)))
                case Finished():
                    book.finish(event)

    def _record(self, book: Book, overrides: Mapping[str, Any], host_seconds: float, loop_seconds: float) -> RunRecord:
        rounds, evaluations = book.rounds.frame(), book.evaluations.frame()
        dataset = self._workshop.dataset(self.experiment) if self.server else None
        final_loss = float(evaluations["loss"].iloc[-1]) if self.server else None
        summary = {
            "variant": self.experiment.variant or self.experiment.name,
            "seed": self.experiment.seed,
            "overrides": dict(overrides),
            "final_perplexity": None if final_loss is None else perplexity(final_loss),
            "final_loss": final_loss,
            "best_loss": dataset.best_loss if dataset else None,
            **self._final_shard_losses(evaluations),
            **summarize_rounds(rounds, self.cluster.workers, self.timeline.now_s),
            "tokens": book.tokens,
            "host_seconds": host_seconds,
            "tokens_per_host_second": book.tokens / loop_seconds if self.server else None,
            "parameters": self._costs.parameters,
            "parameters_hash": parameters_hash(self.server.params) if self.server else None,
            "causal_hash": self.timeline.causal_hash,
            "data_hash": dataset.content_hash if dataset else None,
            "data": dict(dataset.facts) if dataset else None,
            "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
            "backend": jax.default_backend(),
            "trainer": self._kind,
        }
        return RunRecord(self.experiment.model_dump(mode="json"), summary, rounds, evaluations)

    def _final_shard_losses(self, evaluations: pd.DataFrame) -> dict[str, Any]:
        if not self.experiment.evaluate.per_shard:
            return {}
        last = evaluations[list(shard_columns(self.experiment.shards))].iloc[-1]
        return {"final_shard_losses": [None if np.isnan(loss) else float(loss) for loss in last]}


class _Learner:
    """Follows the events with real training."""

    def __init__(
        self, experiment: Experiment, kind: TrainerKind, workshop: Workshop, progress: PretrainProgress | None
    ):
        self._trainer = workshop.trainer(experiment, kind)
        self._evaluate = workshop.evaluator(experiment)
        self._evaluate_shards = workshop.shard_evaluator(experiment)
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

    def evaluate(self) -> tuple[jax.Array, jax.Array | None]:
        """Returns the loss, and those of the shards where they are asked for, without waiting for them."""
        params = self.server.params
        return self._evaluate(params), self._evaluate_shards(params) if self._evaluate_shards else None


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


def timeline_of(experiment: Experiment, cluster: ClusterModel, shard_sizes: Sequence[int] | None = None) -> Timeline:
    """Returns the experiment's events, not yet run. They depend on the data only where shards are of different sizes.

    Args:
      experiment: whose events.
      cluster: what they cost.
      shard_sizes: relative sizes of the shards; all equal when absent.
    """
    inner, outer, budget, evaluate = experiment.inner, experiment.outer, experiment.budget, experiment.evaluate
    choices: dict[str, ShardChoice] = {
        "proportional": Proportional(np.array(shard_sizes or [1] * experiment.shards, np.int64)),
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
    config = TimelineConfig(
        synchronization=policy,
        shard_choice=choices[experiment.shard_choice.kind],
        steps=steps,
        shards=experiment.shards,
        arrivals_per_update=outer.arrivals_per_update,
        drop_above=getattr(outer.staleness, "drop_above", None),
        budget_local_steps=budget.local_steps,
        budget_s=budget.simulated_time,
        budget_updates=budget.server_updates,
        evaluate_every_steps=evaluate.every_local_steps,
        evaluate_every_s=evaluate.every_simulated,
        evaluation_s=evaluate.takes,
    )
    return Timeline(cluster, config)


def check(experiment: Experiment, workshop: Workshop | None = None, *, data: bool = True) -> list[Problem]:
    """Returns what is wrong with an experiment beyond its file: data (if asked), model sizes, optimizers, devices.

    Of an experiment that lacks sections, as `expand` gives of a file with mistakes, those that it has are checked.
    """
    workshop = workshop or Workshop()
    problems: list[Problem] = []

    def attempt(step: Any, *sections: str) -> Any:
        if not all(hasattr(experiment, section) for section in sections):
            return None
        try:
            return step()
        except (*_REPORTED, *_OUT_OF_MEMORY) as error:
            problems.append(_problem(error))
            return None

    costs = attempt(lambda: workshop.costs(experiment), "model", "data", "cluster", "inner")
    if data:
        attempt(lambda: workshop.dataset(experiment), "model", "data", "cluster")
    attempt(lambda: cluster_of(experiment, costs or ModelCosts(1, 1.0)), "cluster")
    attempt(lambda: build_inner(experiment.inner), "inner")
    if experiment.pretrain.optimizer is not None:
        attempt(lambda: build_inner(pretrain_inner(experiment), "pretrain"), "inner")
    attempt(lambda: build_outer(experiment.outer), "outer")
    return problems


def tokens_per_step(experiment: Experiment) -> int:
    """Returns how many tokens (of a classifier, examples) one local step trains on."""
    context = context_of(experiment)
    return experiment.inner.batch_size * (context or 1)


def parameters_hash(params: Any) -> str:
    """Returns a fingerprint of parameters: equal hashes, equal bits."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


_REPORTED = (ClusterError, DataError, ModelError, OptimizerError)
_OUT_OF_MEMORY = (MemoryError, jax.errors.JaxRuntimeError)


def _problem(error: Any) -> Problem:
    """Returns what an error says of the experiment; an error of JAX's that is not about memory is raised again."""
    if isinstance(error, _OUT_OF_MEMORY):
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise error
        what = (str(error).splitlines() or ["the host has no more"])[0]
        remedy = "use fewer compute.lanes, a smaller batch, model or data set, or a larger device"
        return Problem("", f"out of memory: {what}; {remedy}")
    return Problem(error.key, getattr(error, "message", None) or error.args[0], error.value)


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    """Turns what the parts say of their own settings, and a lack of memory, into an `ExperimentError`."""
    try:
        yield
    except (*_REPORTED, *_OUT_OF_MEMORY) as error:
        raise ExperimentError([_problem(error)]) from error
