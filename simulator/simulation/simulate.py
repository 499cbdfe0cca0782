"""Where the simulated clock meets training: the one module that knows SimPy's side and JAX's."""

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import pandas as pd

from simulator.experiment import Experiment, ExperimentError, Point, Problem, one_point
from simulator.host.signals import Stopped
from simulator.learning import Server, Ticket, Workshop, as_used, learner_state
from simulator.learning.model import tokens_per_step
from simulator.learning.phases import phase
from simulator.learning.pretraining import PretrainProgress
from simulator.progress.observer import Observer, Progress
from simulator.record import (
    Checkpoint,
    RecordError,
    RunRecord,
    shard_columns,
    summarize_faults,
    summarize_money,
    summarize_rounds,
)
from simulator.simulation.checkpointer import Keeper
from simulator.simulation.checks import check, cluster_of, reported
from simulator.simulation.provenance import made_with, parameters_hash
from simulator.simulation.recorder import Book, NonFiniteError, Trained, perplexity
from simulator.simulation.replay import Recalled, Taken, to_recall
from simulator.simulation.shared_training import SharedTraining, Trajectory
from simulator.timeline import (
    Dispatched,
    Evaluation,
    Event,
    Fault,
    Finished,
    Lost,
    NoProgressError,
    Round,
    Shortened,
    Update,
    timeline_of,
)

TrainerKind = Literal["batched", "serial", "null"]
__all__ = [
    "NoProgressError",
    "NonFiniteError",
    "Observer",
    "Progress",
    "Simulation",
    "TrainerKind",
    "check",
    "cluster_of",
    "simulate",
    "timeline_of",
]


def simulate(
    experiment: Experiment | Point,
    *,
    trainer: TrainerKind | None = None,
    observer: Observer | None = None,
    workshop: Workshop | None = None,
    overrides: Mapping[str, Any] | None = None,
    tuned: Mapping[str, Any] | None = None,
    checkpoints: Path | None = None,
    share: SharedTraining | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> RunRecord:
    """Simulates one experiment to the end of its budget.

    Args:
      experiment: what to simulate; of a point, as `load` returns them, the overrides are noted too.
      trainer: "batched", "serial", or "null" for the timeline alone; the experiment's own choice when None.
      observer: is told of the progress.
      workshop: shares data, compiled programs and pretraining with other experiments that were given the same one.
      overrides: what a sweep changed, noted in the record.
      tuned: what a search has found, likewise.
      checkpoints: folder to write the state to now and then, as the experiment says, and to go on from where it has
        one; the result is the same, bit for bit. Nothing is written down of a timeline alone.
      share: what need not be trained because another simulation has, from `simulator.sweep.reuse_plan`.
      stop: asked after every event whether to write the state down and stop.

    Returns:
      The record: rounds, evaluations and a summary.

    Raises:
      ExperimentError: the experiment does not fit its data, model or optimizers, or something else is given.
      RecordError: the checkpoints are those of another experiment, or were made with other versions.
      NoProgressError: nobody in the simulated cluster can make progress any more.
      NonFiniteError: a pseudo-gradient is not finite, and the experiment says that this is fatal.
      Stopped: it was asked to stop.
      OSError: a checkpoint cannot be written.
    """
    point = one_point(experiment)
    overrides, tuned = (point.overrides if overrides is None else overrides), tuned or point.tuned
    noted = {"overrides": dict(overrides), **({"tuned": dict(tuned)} if tuned else {})}
    return Simulation(point, trainer=trainer, workshop=workshop).run(observer, noted, checkpoints, stop, share)


class Simulation:
    """One experiment, ready to run.

    Attributes:
      experiment: what is simulated.
      timeline: its events.
      server: the parameters and the outer optimizer, once `run` has begun; None where nothing is trained.
    """

    def __init__(
        self, experiment: Experiment | Point, *, trainer: TrainerKind | None = None, workshop: Workshop | None = None
    ):
        point = one_point(experiment)
        if point.searches:
            message = "is searched, so it has no value yet: `run_points` searches"
            raise ExperimentError([Problem(f"sweep.{path}", message) for path in point.searches])
        self.experiment = experiment = point.experiment
        self.server: Server | None = None
        self._kind: TrainerKind = trainer or experiment.compute.trainer
        self._workshop = workshop or Workshop()
        with reported():
            self._costs = self._workshop.costs(experiment)
            self.cluster = cluster_of(experiment, self._costs)
            self.timeline = timeline_of(experiment, self.cluster, self._workshop.shard_sizes(experiment))

    def run(
        self,
        observer: Observer | None = None,
        noted: Mapping[str, Any] | None = None,
        checkpoints: Path | None = None,
        stop: Callable[[], bool] = lambda: False,
        share: SharedTraining | None = None,
    ) -> RunRecord:
        """Runs to the end of the budget and returns the record, its summary with what is `noted`. Call it once."""
        experiment, share = self.experiment, share or SharedTraining()
        self._taken = Taken()
        self._reused: dict[str, Any] | None = None
        self._known: Trajectory | None = None
        learner: _Learner | Recalled | None = None
        keeper = None
        with reported():
            self._made_with = self._circumstances()
            if share.trajectory and share.trajectory.was_made_with(self._made_with):
                self._known, learner = share.trajectory, Recalled(share.trajectory.arrays)
            elif self._kind != "null":
                if checkpoints is not None:
                    keeper = Keeper(checkpoints, experiment, self._made_with, _warn)
                progress = _stopping(observer.pretrained if observer else None, stop)
                if share.beginning and share.beginning.checkpoint.facts["made_with"] != self._made_with:
                    share.beginning = None
                saved = (keeper.saved if keeper else None) or (share.beginning.checkpoint if share.beginning else None)
                learner = _Learner(experiment, self._kind, self._workshop, progress, saved)
                self.server = learner.server
        self._taken.prepared()
        shards = experiment.shards if experiment.evaluate.per_shard else 0
        fatal = experiment.outer.non_finite == "fatal"
        book = Book(experiment.budget, self.cluster, tokens_per_step(experiment), observer, shards, fatal=fatal)
        with reported():
            self._follow(book, learner, keeper, share, stop)
        return self._record(book, noted or {})

    def _follow(
        self,
        book: Book,
        learner: "_Learner | Recalled | None",
        keeper: Keeper | None,
        share: SharedTraining,
        stop: Callable[[], bool],
    ) -> None:
        events = enumerate(self.timeline, 1)
        if isinstance(learner, _Learner):
            if keeper and keeper.saved:
                self._replay(events, book, learner, keeper.saved, own=True)
                self._taken.add(keeper.saved.facts["taken"])
                self._reused = keeper.saved.facts.get("reused")
            elif share.beginning:
                self._replay(events, book, learner, share.beginning.checkpoint)
                self._reused = self._from(share.beginning.source, book)
        for number, event in events:
            if isinstance(learner, _Learner) and share.takes(number - 1, learner.size):
                share.keep(Checkpoint(number - 1, *self._state(book, learner)))
            self._take(event, book, learner)
            if isinstance(event, Finished):
                break
            stopping = stop()
            if isinstance(learner, _Learner) and keeper and (stopping or keeper.due(book.server_updates)):
                keeper.save(number, book.server_updates, *self._state(book, learner))
            if stopping:
                raise Stopped(book.server_updates)
        if self._known is not None:
            self._reused = self._from(self._known.source, book)

    def _from(self, source: str, book: Book) -> dict[str, Any]:
        """Returns what to say of what another simulation has trained."""
        return {"from": source, "local_steps": book.tokens // tokens_per_step(self.experiment)}

    @staticmethod
    def _take(event: Event, book: Book, learner: "_Learner | Recalled | None") -> None:
        """Has an event learned from, and notes it."""
        match event:
            case Dispatched():
                if learner:
                    learner.dispatch(event.round)
            case Shortened() | Lost() | Fault():
                book.fault(event)
                if learner:
                    learner.fault(event)
            case Update():
                trained = learner.update(event) if learner else None
                with jax.profiler.TraceAnnotation("fetching"):  # of the update before
                    book.update(event, trained)
            case Evaluation():
                book.evaluation(event, *(learner.evaluate() if learner else (None, None)))
            case Finished():
                book.finish(event)

    def _state(self, book: Book, learner: "_Learner") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Returns what it takes to go on from here: arrays, and the rest."""
        arrays, facts = learner.state()
        arrays |= to_recall(*book.reported())
        facts |= {"causal_hash": self.timeline.causal_hash, "taken": self._taken.so_far(), "reused": self._reused}
        facts["made_with"] = self._made_with
        return arrays, facts

    def _replay(
        self,
        events: Iterator[tuple[int, Event]],
        book: Book,
        learner: "_Learner",
        saved: Checkpoint,
        *,
        own: bool = False,
    ) -> None:
        """Goes through what has been simulated, training nothing, and puts back what had been trained."""
        recalled = Recalled(saved.arrays)
        observer, book.observer = book.observer, None
        for _, event in itertools.islice(events, saved.events):
            self._take(event, book, recalled)
        book.observer = observer
        if own and self.timeline.causal_hash != saved.facts["causal_hash"]:
            message = "the simulated events up to the checkpoint are not those that it was made with: "
            raise RecordError(message + "remove the run's folder, and simulate it again")
        learner.resume(recalled.under_way, saved)

    def _record(self, book: Book, noted: Mapping[str, Any]) -> RunRecord:
        taken, reused = self._taken.so_far(), self._reused
        rounds, evaluations, faults = book.rounds.frame(), book.evaluations.frame(), book.faults.frame()
        dataset = self._workshop.dataset(self.experiment) if self._kind != "null" else None
        final_loss = float(evaluations["loss"].iloc[-1]) if dataset else None
        experiment = as_used(self.experiment)
        trained = book.tokens - (reused["local_steps"] * tokens_per_step(self.experiment) if reused else 0)
        summary = {
            "variant": self.experiment.variant or self.experiment.name,
            "seed": self.experiment.seed,
            "overrides": {},
            **noted,
            "final_perplexity": None if final_loss is None else perplexity(final_loss),
            "final_loss": final_loss,
            "best_loss": dataset.best_loss if dataset else None,
            **(self._evaluated() if dataset else {}),
            **self._final_shard_losses(evaluations),
            **summarize_rounds(rounds, self.cluster.workers, self.timeline.now_s),
            **summarize_faults(rounds, faults, self.timeline.now_s),
            **summarize_money(experiment, rounds, faults, self.cluster.workers, self.timeline.now_s),
            "tokens": book.tokens,
            "host_seconds": taken["seconds"],
            "tokens_per_host_second": trained / taken["loop_seconds"] if self.server else None,
            "parameters": self._costs.parameters,
            "parameters_hash": self._parameters_hash(),
            "causal_hash": self.timeline.causal_hash,
            "reused": reused,
            "data": dict(dataset.facts) if dataset else None,
            **self._made_with,
        }
        return RunRecord(experiment, summary, rounds, evaluations, faults)

    def _circumstances(self) -> dict[str, Any]:
        if self._kind == "null":
            return made_with(self._kind, None, None)
        data_hash = self._workshop.dataset(self.experiment).content_hash
        return made_with(self._kind, data_hash, self._workshop.lanes(self.experiment))

    def _parameters_hash(self) -> str | None:
        if self._known is not None:
            return self._known.parameters_hash
        return parameters_hash(self.server.params) if self.server else None

    def _evaluated(self) -> dict[str, Any]:
        """Returns how many windows each loss is the mean of."""
        of_all, of_shards = self._workshop.evaluated_windows(self.experiment)
        return {"evaluated_windows": of_all, **({} if of_shards is None else {"evaluated_shard_windows": of_shards})}

    def _final_shard_losses(self, evaluations: pd.DataFrame) -> dict[str, Any]:
        if not self.experiment.evaluate.per_shard:
            return {}
        last = evaluations[list(shard_columns(self.experiment.shards))].iloc[-1]
        return {"final_shard_losses": [None if np.isnan(loss) else float(loss) for loss in last]}


class _Learner:
    """Follows the events with real training."""

    def __init__(
        self,
        experiment: Experiment,
        kind: TrainerKind,
        workshop: Workshop,
        progress: PretrainProgress | None,
        saved: Checkpoint | None = None,
    ):
        self._trainer = workshop.trainer(experiment, kind)
        self._evaluate = workshop.evaluator(experiment)
        self._evaluate_shards = workshop.shard_evaluator(experiment)
        self._averages = experiment.synchronization.averages_group
        self._tickets: dict[int, Ticket] = {}
        with _fitting():
            params = (
                None if saved is None else learner_state.saved_params(saved.arrays, workshop.params_like(experiment))
            )
        self.server = workshop.server(experiment, progress, params)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Returns what training has made and still needs: arrays, and the rest."""
        return learner_state.take(self.server, self._trainer, self._tickets)

    def size(self) -> int:
        """Returns the bytes of the state's arrays."""
        return learner_state.size(self.server, self._trainer, self._tickets)

    def resume(self, under_way: Mapping[int, Round], saved: Checkpoint) -> None:
        """Puts back what had been trained."""
        with _fitting():
            self._tickets = learner_state.put_back(self.server, self._trainer, under_way, saved.arrays, saved.facts)

    @phase("dispatch")
    def dispatch(self, assignment: Round) -> None:
        self._tickets[assignment.id] = self._trainer.submit(assignment, self.server.params)

    def fault(self, event: Shortened | Lost | Fault) -> None:
        match event:
            case Shortened(round=task):
                self._trainer.shorten(self._tickets[task.id], task)
            case Lost(round=task):
                self._trainer.drop(self._tickets.pop(task.id))
            case Fault(forgets=True):
                self._trainer.forget(event.worker)

    def update(self, event: Update) -> Trained:
        """Applies an update; returns what there is to tell of its rounds without waiting for it."""
        tickets = [self._tickets.pop(arrival.round.id) for arrival in event.arrivals]
        results = [self._trainer.result(ticket) for ticket in tickets]
        finite = [result.finite for result in results]
        together: Any = True
        if not self._averages:
            for ticket, result, staleness in zip(tickets, results, event.staleness, strict=True):
                together = self.server.apply(
                    result.pseudo_gradient,
                    staleness=staleness,
                    worker=ticket.assignment.worker,
                    pulled_params=ticket.params,
                )
        elif event.outcome == "applied":
            together = self.server.apply_mean(results)
        return Trained([result.loss for result in results], finite, together)

    @phase("evaluation")
    def evaluate(self) -> tuple[jax.Array, jax.Array | None]:
        """Returns the loss, and those of the shards where they are asked for, without waiting for them."""
        params = self.server.params
        return self._evaluate(params), self._evaluate_shards(params) if self._evaluate_shards else None


def _stopping(progress: PretrainProgress | None, stop: Callable[[], bool]) -> PretrainProgress:
    """Returns what also stops pretraining where that is asked for."""

    def told(steps: int, of: int, loss: float) -> None:
        if progress is not None:
            progress(steps, of, loss)
        if stop():
            raise Stopped(0)

    return told


@contextlib.contextmanager
def _fitting() -> Iterator[None]:
    """Says so where a checkpoint was made by another state of this program."""
    try:
        yield
    except learner_state.SnapshotError as error:
        message = f"the checkpoint does not fit this program, which has changed since ({error}): "
        raise RecordError(f"{message}remove the run's folder, and simulate it again") from error


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=2)
