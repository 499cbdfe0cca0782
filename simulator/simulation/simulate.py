"""Simulation of one experiment: `simulate`, which joins the clock and training."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from simulator.cluster import MessageShares
from simulator.experiment import Experiment, ExperimentError, Point, Problem, one_point
from simulator.learning import Cache, Setup
from simulator.learning.model import check_trainable, tokens_per_step
from simulator.progress.observer import Observer
from simulator.record import RunRecord
from simulator.simulation.checks import check_device_memory, cluster_of, reported
from simulator.simulation.run import Run
from simulator.simulation.shared_training import SharedTraining
from simulator.simulation.training_learner import TrainingLearner
from simulator.timeline import timeline_of

TrainerKind = Literal["batched", "serial", "null"]


def simulate(
    experiment: Experiment | Point,
    *,
    trainer: TrainerKind | None = None,
    observer: Observer | None = None,
    cache: Cache | None = None,
    overrides: Mapping[str, Any] | None = None,
    tuned: Mapping[str, Any] | None = None,
    checkpoints: Path | None = None,
    share: SharedTraining | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> RunRecord:
    """Simulates one experiment to the end of its budget.

    Args:
      experiment: to simulate; of a point, as `load` returns them, the overrides are noted too.
      trainer: "batched", "serial", or "null" for the timeline alone; the experiment's own choice when None.
      observer: notified of the progress.
      cache: shares data, compiled programs and pretraining with other experiments that were given the same one.
      overrides: what a sweep changed, noted in the record.
      tuned: what a search has found, likewise.
      checkpoints: folder for checkpoints, as often as the experiment says; resumes from the newest one, if any, with
        the same result, bit for bit. A timeline alone is not checkpointed.
      share: training shared with other simulations, from `simulator.sweep.reuse_plan`.
      stop: asked after every event whether to checkpoint and stop.

    Returns:
      The record: rounds, evaluations and a summary.

    Raises:
      ExperimentError: the experiment does not fit its data, model or optimizers, or something else is given.
      RecordError: the checkpoints are those of another experiment, or were made with other versions.
      NoProgressError: nobody in the simulated cluster can make progress any more.
      NeedsTrainingError: the timeline depends on training, and the trainer is "null".
      NonFiniteError: a pseudo-gradient is not finite, and the experiment says that this is fatal.
      Stopped: it was asked to stop.
      OSError: a checkpoint cannot be written.

    Example:
      >>> from simulator import load, simulate
      >>> [point] = load("experiments/quickstart.yaml", variant="sync DiLoCo")
      >>> record = simulate(point, trainer="null")
      >>> record.summary["server_updates"], round(record.summary["simulated_seconds"])
      (20, 3332)
    """
    point = one_point(experiment)
    overrides, tuned = (point.overrides if overrides is None else overrides), tuned or point.tuned
    noted = {"overrides": dict(overrides), **({"tuned": dict(tuned)} if tuned else {})}
    return Simulation(point, trainer=trainer, cache=cache).run(observer, noted, checkpoints, stop, share)


class Simulation:
    """One experiment, ready to run.

    Attributes:
      experiment: to simulate.
      trainer: "batched", "serial" or "null".
      setup: data, model and programs.
      cluster: its cost model.
      timeline: its events.
      learner: its parameters and outer optimizers, once `run` has begun; None if nothing is trained.

    Raises:
      ExperimentError: the experiment does not fit its data or model.
    """

    def __init__(
        self, experiment: Experiment | Point, *, trainer: TrainerKind | None = None, cache: Cache | None = None
    ):
        point = one_point(experiment)
        if point.searches:
            message = "is searched, so it has no value yet: `run_points` searches"
            raise ExperimentError([Problem(f"sweep.{path}", message) for path in point.searches])
        self.experiment = experiment = point.experiment
        self.learner: TrainingLearner | None = None
        self.trainer: TrainerKind = trainer or experiment.compute.trainer
        if self.trainer != "null" and experiment.schedule.layers is not None:
            message = "is for timelines: `tardigrad timeline`, or trainer null; leave it out to train"
            raise ExperimentError([Problem("schedule.layers", message, experiment.schedule.layers)])
        self.setup = Setup(experiment, cache)
        with reported():
            if self.trainer != "null":
                check_trainable(experiment)
            check_device_memory(self.setup)
            self.cluster = cluster_of(experiment, self.setup.costs)
            tokens = tokens_per_step(experiment)
            shares = MessageShares(*map(tuple, self.setup.exchanges.shares))
            self.timeline = timeline_of(experiment, self.cluster, self.setup.shard_sizes, shares, tokens)

    def run(
        self,
        observer: Observer | None = None,
        noted: Mapping[str, Any] | None = None,
        checkpoints: Path | None = None,
        stop: Callable[[], bool] = lambda: False,
        share: SharedTraining | None = None,
    ) -> RunRecord:
        """Runs to the end of the budget and returns the record, with `noted` in its summary. Call it once.

        Raises:
          Exception: as `simulate`.
        """
        run = Run(self.setup, self.timeline, self.trainer, observer, checkpoints, stop, share or SharedTraining())
        self.learner = run.training
        run.follow()
        return run.record(noted or {})
