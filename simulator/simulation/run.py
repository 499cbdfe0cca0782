"""One run of a simulation: its events, followed by a learner and a recorder, and checkpointed now and then."""

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from simulator.host.signals import Stopped
from simulator.learning import Setup, as_used
from simulator.learning.model import tokens_per_step
from simulator.learning.pretraining import PretrainProgress
from simulator.progress.observer import Observer
from simulator.record import (
    Checkpoint,
    RecordError,
    RunRecord,
    perplexity_of,
    shard_columns,
    summarize_faults,
    summarize_money,
    summarize_rounds,
)
from simulator.simulation.checkpointer import Checkpointer
from simulator.simulation.checks import reported
from simulator.simulation.holdings import Holdings
from simulator.simulation.host_timer import HostTimer
from simulator.simulation.learner import Learner
from simulator.simulation.measured import Measured
from simulator.simulation.provenance import made_with, parameters_hash
from simulator.simulation.recorder import Recorder
from simulator.simulation.replay import ReplayLearner, training_log
from simulator.simulation.shared_training import SharedTraining
from simulator.simulation.training_learner import TrainingLearner
from simulator.timeline import (
    Accepted,
    Answered,
    Dispatched,
    Evaluation,
    Event,
    Fault,
    Finished,
    Lost,
    Offered,
    Shortened,
    Timeline,
    Update,
)


class Run:
    """One run of a simulation, from the start or the last checkpoint to the end of its budget.

    Args:
      setup: of the experiment.
      timeline: its events.
      trainer: "batched", "serial" or "null".
      observer: notified of the progress.
      checkpoints: folder of its checkpoints, if any.
      stop: asked after every event whether to checkpoint and stop.
      share: training shared with other simulations.

    Attributes:
      training: the learner if this run trains, None if it replays another's training or nothing is trained.

    Raises:
      ExperimentError: the experiment does not fit its data, model or optimizers.
      RecordError: the checkpoints are those of another experiment, or were made with other versions.
      Stopped: it was asked to stop while pretraining.
    """

    def __init__(
        self,
        setup: Setup,
        timeline: Timeline,
        trainer: str,
        observer: Observer | None,
        checkpoints: Path | None,
        stop: Callable[[], bool],
        share: SharedTraining,
    ):
        self._timer = HostTimer()
        self._experiment = experiment = setup.experiment
        self._setup, self._timeline, self._trainer = setup, timeline, trainer
        self._stop, self._share = stop, share
        self._reused: dict[str, Any] | None = None  # whose training was reused, and how much of it
        self._checkpointer: Checkpointer | None = None
        self._learner: Learner = Learner()
        self._holdings = Holdings()
        self.training: TrainingLearner | None = None
        self._measured: Measured | None = None
        with reported():
            self._made_with = self._circumstances()
            trajectory, beginning = share.trajectory, share.beginning
            self._trajectory = trajectory if trajectory and trajectory.was_made_with(self._made_with) else None
            fits = beginning and beginning.checkpoint.facts["made_with"] == self._made_with
            self._beginning = beginning if fits else None
            if self._trajectory:
                self._learner = ReplayLearner(self._trajectory.arrays)
            elif trainer != "null":
                if checkpoints is not None:
                    self._checkpointer = Checkpointer(checkpoints, experiment, self._made_with, _warn)
                progress = _stopping(observer.pretrained if observer else None, stop)
                self.training = TrainingLearner(setup, trainer, progress, self._own or self._others)
                self._learner = self.training
                self._measured = Measured(self.training, self._own.arrays if self._own else {})
                timeline.measurements = self._measured
        self._timer.prepared()
        shards = experiment.shards if experiment.evaluate.per_shard else 0
        fatal = experiment.outer.non_finite == "fatal"
        self._recorder = Recorder(
            experiment.budget,
            timeline.cluster,
            tokens_per_step(experiment),
            observer,
            shards,
            fatal=fatal,
            shares=timeline.shares,
            waits=timeline.config.schedule.waits,
            noise_scales=self._measured.noise_scales if self._measured else None,
        )

    @property
    def _own(self) -> Checkpoint | None:
        """The run's own checkpoint to resume from, if any."""
        return self._checkpointer.saved if self._checkpointer else None

    @property
    def _others(self) -> Checkpoint | None:
        """The checkpoint of another simulation to begin from, if any."""
        return self._beginning.checkpoint if self._beginning else None

    def follow(self) -> None:
        """Follows the events to the end of the budget.

        Raises:
          NoProgressError: nobody in the simulated cluster can make progress any more.
          NeedsTrainingError: the timeline depends on training, and nothing is trained.
          NonFiniteError: a pseudo-gradient is not finite, and the experiment says that this is fatal.
          NewsError: an event uses a value that its node has not received.
          Stopped: it was asked to stop.
          OSError: a checkpoint cannot be written.
        """
        with reported():
            events = enumerate(self._timeline, 1)
            if self.training:
                self._resume(events, self.training)
            for number, event in events:
                if self.training and self._share.takes(number - 1, self.training.size):
                    self._share.keep(Checkpoint(number - 1, *self._state(self.training)))
                self._apply(event, self._learner)
                if isinstance(event, Finished):
                    break
                self._checkpoint(number)
            if self._trajectory:
                self._reused = self._from(self._trajectory.source)

    def _checkpoint(self, number: int) -> None:
        """Writes a checkpoint behind an event if one is due, or before stopping."""
        stopping, updates = self._stop(), self._recorder.server_updates
        if self.training and self._checkpointer and (stopping or self._checkpointer.due(updates)):
            self._checkpointer.save(number, updates, *self._state(self.training))
        if stopping:
            raise Stopped(updates)

    def _apply(self, event: Event, learner: Learner) -> None:
        """Applies one event to a learner and to the recorder.

        Raises:
          NewsError: the event uses a value that its node has not received.
        """
        recorder = self._recorder
        self._holdings.follow(event)
        match event:
            case Dispatched():
                learner.dispatch(event)
            case Shortened() | Lost() | Fault():
                recorder.fault(event)
                learner.fault(event)
            case Update():
                trained = learner.update(event)
                with jax.profiler.TraceAnnotation("fetching"):  # of the update before
                    recorder.update(event, trained)
            case Answered() | Offered() | Accepted():
                recorder.exchange(event)
                learner.exchange(event)
            case Evaluation():
                recorder.evaluation(event, *learner.evaluate())
            case Finished():
                recorder.finish(event)

    def _resume(self, events: Iterator[tuple[int, Event]], training: TrainingLearner) -> None:
        """Replays the events up to the run's own checkpoint, or another's that it begins from, and restores its state.

        Raises:
          RecordError: the events are not those with which the own checkpoint was made.
        """
        saved = self._own or self._others
        if saved is None:
            return
        replayed = ReplayLearner(saved.arrays)
        observer, self._recorder.observer = self._recorder.observer, None
        for _, event in itertools.islice(events, saved.events):
            self._apply(event, replayed)
            training.follow(event)
        self._recorder.observer = observer
        if self._own:
            if self._timeline.causal_hash != saved.facts["causal_hash"]:
                message = "the simulated events up to the checkpoint are not those that it was made with: "
                raise RecordError(message + "remove the run's folder, and simulate it again")
            self._timer.add(saved.facts["taken"])
            self._reused = saved.facts.get("reused")
        elif self._beginning:
            self._reused = self._from(self._beginning.source)
        training.resume(saved)

    def _from(self, source: str) -> dict[str, Any]:
        """Returns the entry of the summary on reused training."""
        return {"from": source, "local_steps": self._recorder.local_steps}

    def _state(self, training: TrainingLearner) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Returns the checkpoint: arrays and JSON facts."""
        arrays, facts = training.state()
        arrays |= training_log(*self._recorder.reported()) | (self._measured.arrays() if self._measured else {})
        facts |= {"causal_hash": self._timeline.causal_hash, "taken": self._timer.so_far(), "reused": self._reused}
        facts["made_with"] = self._made_with
        return arrays, facts

    def record(self, noted: Mapping[str, Any]) -> RunRecord:
        """Returns the record, with `noted` in its summary; call `follow` first."""
        experiment, recorder, reused = self._experiment, self._recorder, self._reused
        taken = self._timer.so_far()
        rounds, evaluations, faults = recorder.rounds.frame(), recorder.evaluations.frame(), recorder.faults.frame()
        updates, transfers = recorder.updates.frame(), recorder.transfers.frame()
        dataset = self._setup.dataset if self._trainer != "null" else None
        final_loss = float(evaluations["loss"].iloc[-1]) if dataset else None
        resolved, workers, end_s = as_used(experiment), self._timeline.cluster.workers, self._timeline.now_s
        own_steps = recorder.local_steps - (reused["local_steps"] if reused else 0)
        trained = recorder.tokens * own_steps / max(recorder.local_steps, 1)  # all steps alike where some are reused
        shares = self._timeline.shares
        summary = {
            "variant": experiment.variant or experiment.name,
            "seed": experiment.seed,
            "overrides": {},
            **noted,
            "final_perplexity": None if final_loss is None else perplexity_of(final_loss),
            "final_loss": final_loss,
            "best_loss": dataset.best_loss if dataset else None,
            **(self._evaluated() if dataset else {}),
            **self._final_shard_losses(evaluations),
            **summarize_rounds(rounds, workers, end_s),
            "server_updates": recorder.server_updates,
            "bytes_sent": int(transfers["bytes"].sum()),
            **summarize_faults(rounds, faults, end_s),
            **summarize_money(resolved, rounds, transfers, faults, workers, end_s),
            "tokens": recorder.tokens,
            "host_seconds": taken["seconds"],
            "tokens_per_host_second": trained / taken["loop_seconds"] if self.training else None,
            "parameters": self._setup.costs.parameters,
            "message_shares": {"offers": list(shares.offers), "answers": list(shares.answers)},
            "parameters_hash": self._parameters_hash(),
            "causal_hash": self._timeline.causal_hash,
            "reused": reused,
            "data": dict(dataset.facts) if dataset else None,
            **self._made_with,
        }
        return RunRecord(resolved, summary, rounds, evaluations, faults, updates, transfers)

    def _circumstances(self) -> dict[str, Any]:
        if self._trainer == "null":
            return made_with(self._trainer, None, None)
        return made_with(self._trainer, self._setup.loaded.content_hash, self._setup.lanes)

    def _parameters_hash(self) -> str | None:
        if self._trajectory:
            return self._trajectory.parameters_hash
        return parameters_hash(self.training.params()) if self.training else None

    def _evaluated(self) -> dict[str, Any]:
        """Returns whose parameters were evaluated, and the number of windows that each loss is the mean of."""
        evaluation = self._setup.evaluation
        of_shards = evaluation.shard_windows
        found = {"evaluated": evaluation.of, "evaluated_windows": evaluation.windows}
        return found | ({} if of_shards is None else {"evaluated_shard_windows": of_shards})

    def _final_shard_losses(self, evaluations: pd.DataFrame) -> dict[str, Any]:
        if not self._experiment.evaluate.per_shard:
            return {}
        last = evaluations[list(shard_columns(self._experiment.shards))].iloc[-1]
        return {"final_shard_losses": [None if np.isnan(loss) else float(loss) for loss in last]}


def _stopping(progress: PretrainProgress | None, stop: Callable[[], bool]) -> PretrainProgress:
    """Returns a callback of pretraining that also stops it, if asked to."""

    def advanced(steps: int, of: int, loss: float) -> None:
        if progress is not None:
            progress(steps, of, loss)
        if stop():
            raise Stopped(0)

    return advanced


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=2)
