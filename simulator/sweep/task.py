"""The simulation of a task's points, one after another: the same in every process, on every machine."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from simulator.experiment import Experiment, Point, SimulationError
from simulator.host.signals import Stopped
from simulator.learning import Cache, as_used
from simulator.progress.observer import Observer
from simulator.progress.profiler import Profile
from simulator.progress.trackers import Tracker, track
from simulator.record import SUMMARY_FILE, RunRecord
from simulator.simulation.checkpointer import check_same_simulation, result_settings
from simulator.simulation.shared_training import SharedTraining
from simulator.simulation.simulate import TrainerKind, simulate
from simulator.sweep.folder import CHECKPOINTS, ERROR_FILE, PROGRESS_FILE, remove_interim_files
from simulator.sweep.outcomes import Failure, Outcome, PointFinished
from simulator.sweep.plan import PlannedRun, Task, experiment_of, point_of
from simulator.sweep.progress import ProgressFile
from simulator.sweep.reuse_plan import Reuse, sharing


class PointStopped(Stopped):
    """A point was asked to stop.

    Attributes:
      run: the point.
    """

    def __init__(self, run: PlannedRun, updates: int):
        super().__init__(updates)
        self.run = run


def simulate_task(
    task: Task,
    folder: Path,
    cache: Cache,
    stop: Callable[[], bool],
    *,
    observer_of: Callable[[PlannedRun], Observer | None] = lambda _: None,
    trainer: TrainerKind | None = None,
    keep_going: bool = True,
    profile: Profile | None = None,
    trackers: Sequence[Tracker] = (),
) -> Iterator[Outcome]:
    """Simulates the unfinished points of a task into their folders; yields the outcome of each that was not known.

    Args:
      task: the points.
      folder: that of all.
      cache: shares data, compiled programs and pretraining between the points.
      stop: asked after every event whether to checkpoint and stop.
      observer_of: called with every point that is simulated; returns its observer.
      trainer: of all points; each one's own choice when None.
      keep_going: whether a point that fails is reported; else its error is raised.
      profile: traces the first point that is trained.
      trackers: notified of every point that is simulated.

    Raises:
      PointStopped: it was asked to stop.
      OSError: a failure cannot be saved.
    """

    def record_of(position: int, share: SharedTraining) -> RunRecord:
        run = task.runs[position]
        home = folder / run.folder
        record = finished(home, run.experiment)
        if record is not None:
            return record
        (home / ERROR_FILE).unlink(missing_ok=True)
        observer = observer_of(run)
        if trainer is None:  # a timeline alone has no status
            observer = ProgressFile(home, observer)
        if profile is not None and observer is not None and share.trajectory is None:  # else nothing is trained
            observer = profile.of(run.label, observer)
        settings = {"trainer": trainer, "cache": cache, "share": share, "stop": stop}
        record = simulate_point(
            point_of(run), run.folder, observer, trackers, checkpoints=home / CHECKPOINTS, **settings
        )
        record.write(home)
        return record

    try:
        plan = _plan(task, cache, stop)
    except Stopped as stopped:
        raise PointStopped(task.runs[0], stopped.updates) from stopped
    for position, result in plan.simulated(len(task.runs), record_of):
        run = task.runs[position]
        outcome = _outcome(run, result, folder, keep_going=keep_going)
        if run.index not in task.known:
            yield outcome


def _outcome(run: PlannedRun, result: RunRecord | Exception, folder: Path, *, keep_going: bool) -> Outcome:
    if isinstance(result, Stopped):
        raise PointStopped(run, result.updates) from result
    (folder / run.folder / PROGRESS_FILE).unlink(missing_ok=True)
    if isinstance(result, RunRecord):
        remove_interim_files(folder / run.folder)
        return PointFinished(run, result)
    if keep_going:  # whatever it is, it is this point's
        failure = Failure.of(run, result)
        failure.write(folder)
        return failure
    if isinstance(result, SimulationError):
        raise SimulationError(f"{run.label}: {result}") from result
    raise result


def _plan(task: Task, cache: Cache, stop: Callable[[], bool]) -> Reuse:
    if not task.reuse:
        return Reuse()
    try:
        experiments = [experiment_of(run) for run in task.runs]
    except SimulationError:  # its point fails with it
        return Reuse()
    return sharing(experiments, [run.label for run in task.runs], cache, stop)


def simulate_point(
    point: Point, name: str, observer: Observer | None, trackers: Sequence[Tracker], **how: Any
) -> RunRecord:
    """Simulates a point, notifying trackers under `name`; `how` is passed on to `simulate`."""
    with track(trackers, name, point, observer) as tracked:
        record = simulate(point.experiment, observer=tracked, overrides=point.overrides, tuned=point.tuned, **how)
        tracked.finished(record)
    return record


def finished(folder: Path, experiment: Mapping[str, Any]) -> RunRecord | None:
    """Returns the record of a run that has finished, None if there is none.

    Args:
      folder: the run's.
      experiment: the resolved experiment.

    Raises:
      RecordError: the record is damaged, or of another experiment.
    """
    if not (folder / SUMMARY_FILE).exists():
        return None
    record = RunRecord.read(folder)
    used = as_used(Experiment.model_validate(experiment))
    settings = [{"experiment": result_settings(each)} for each in (record.experiment, used)]
    check_same_simulation(str(folder), *settings)
    return record
