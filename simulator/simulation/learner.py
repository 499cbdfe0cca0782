"""Learners follow the events of a simulation: by training, by replaying earlier training, or by nothing."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, SupportsFloat

import jax
import numpy as np

from simulator.learning import Setup, Ticket, learner_state
from simulator.learning.phases import phase
from simulator.learning.pretraining import PretrainProgress
from simulator.record import Checkpoint, RecordError
from simulator.simulation.recorder import Trained
from simulator.timeline import Fault, Lost, Round, Shortened, Update

Losses = tuple[SupportsFloat | None, Iterable[SupportsFloat] | None]
"""Losses of an evaluation in nats, over all windows and of every shard's own; None if not known or not asked for."""


class Learner:
    """Follows the events of a simulation; this one trains nothing, so that the timeline is left alone.

    Reports of others may still be on their way: a learner waits for nothing.
    """

    def dispatch(self, round: Round) -> None:
        """Begins a round from the server's parameters as they are."""

    def fault(self, event: Shortened | Lost | Fault) -> None:
        """Follows a fault."""

    def update(self, event: Update) -> Trained | None:
        """Applies an update and returns the report on its rounds, None if nothing is trained."""
        return None

    def evaluate(self) -> Losses:
        """Returns the losses of the server's parameters."""
        return None, None


class TrainingLearner(Learner):
    """Trains.

    Args:
      setup: of the experiment to train.
      trainer: "batched" or "serial".
      progress: called with the progress of pretraining.
      saved: checkpoint with the parameters to begin with, if any; `resume` restores the rest.

    Attributes:
      server: the parameters and the outer optimizer.
    """

    def __init__(
        self,
        setup: Setup,
        trainer: str,
        progress: PretrainProgress | None,
        saved: Checkpoint | None = None,
    ):
        self._trainer = setup.trainer(trainer)
        self._evaluate, self._evaluate_shards = setup.evaluator, setup.shard_evaluator
        self._averages = setup.experiment.synchronization.averages_group
        self._tickets: dict[int, Ticket] = {}
        with _fitting():
            params = None if saved is None else learner_state.saved_params(saved.arrays, setup.params_like)
        self.server = setup.server(progress, params)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Returns the state to checkpoint: arrays and JSON facts."""
        return learner_state.save(self.server, self._trainer, self._tickets)

    def size(self) -> int:
        """Returns the bytes of the state's arrays."""
        return learner_state.size(self.server, self._trainer, self._tickets)

    def resume(self, under_way: Mapping[int, Round], saved: Checkpoint) -> None:
        """Restores the state of a checkpoint, whose rounds under way are given."""
        with _fitting():
            self._tickets = learner_state.restore(self.server, self._trainer, under_way, saved.arrays, saved.facts)

    @phase("dispatch")
    def dispatch(self, round: Round) -> None:
        """Submits a round, with the server's parameters as they are."""
        self._tickets[round.id] = self._trainer.submit(round, self.server.params)

    def fault(self, event: Shortened | Lost | Fault) -> None:
        """Shortens or drops a round, or forgets a worker's optimizer state."""
        match event:
            case Shortened(round=round):
                self._trainer.shorten(self._tickets[round.id], round)
            case Lost(round=round):
                self._trainer.drop(self._tickets.pop(round.id))
            case Fault(forgets=True):
                self._trainer.forget(event.worker)

    def update(self, event: Update) -> Trained:
        """Applies an update."""
        tickets = [self._tickets.pop(arrival.round.id) for arrival in event.arrivals]
        results = [self._trainer.result(ticket) for ticket in tickets]
        finite = [result.finite for result in results]
        together: Any = True
        if not self._averages:
            for ticket, result, staleness in zip(tickets, results, event.staleness, strict=True):
                together = self.server.apply(
                    result.pseudo_gradient,
                    staleness=staleness,
                    worker=ticket.round.worker,
                    pulled_params=ticket.params,
                )
        elif event.outcome == "applied":
            together = self.server.apply_mean(results)
        return Trained([result.loss for result in results], finite, together)

    @phase("evaluation")
    def evaluate(self) -> tuple[jax.Array, jax.Array | None]:
        """Returns the losses of the server's parameters."""
        params = self.server.params
        return self._evaluate(params), self._evaluate_shards(params) if self._evaluate_shards else None


@contextlib.contextmanager
def _fitting() -> Iterator[None]:
    """Raises RecordError if a checkpoint does not fit this version of the program."""
    try:
        yield
    except learner_state.SnapshotError as error:
        message = f"the checkpoint does not fit this program, which has changed since ({error}): "
        raise RecordError(f"{message}remove the run's folder, and simulate it again") from error
