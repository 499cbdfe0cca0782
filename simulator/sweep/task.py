"""The simulation of a task's points, one after another: the same in every process, on every machine."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.experiment import SimulationError
from simulator.host.signals import Stopped
from simulator.sweep.folder import CHECKPOINTS, ERROR_FILE, finished
from simulator.sweep.outcomes import Failure, Finished, Outcome
from simulator.sweep.plan import PlannedRun, Task, experiment_of, point_of

if TYPE_CHECKING:
    from simulator.experiment import Point
    from simulator.learning import Cache
    from simulator.progress.observer import Observer
    from simulator.progress.profiler import Profile
    from simulator.progress.trackers import Tracker
    from simulator.record import RunRecord
    from simulator.simulation.shared_training import SharedTraining
    from simulator.simulation.simulate import TrainerKind
    from simulator.sweep.reuse_plan import Reuse


class TaskRunner:
    """Simulates points into their folders.

    Args:
      folder: that of all.
      cache: shares data, compiled programs and pretraining between the points.
      begin: called with every point that is simulated; returns its observer.
      stop: asked after every event whether to checkpoint and stop.
      trainer: of all points; each one's own choice when None.
      keep_going: whether a point that fails is reported; else its error is raised.
      profile: traces the first point that is trained.
      trackers: notified of every point that is simulated.

    Attributes:
      current: the point that is being simulated.
    """

    def __init__(
        self,
        folder: Path,
        cache: "Cache",
        begin: "Callable[[PlannedRun], Observer]",
        stop: Callable[[], bool],
        *,
        trainer: "TrainerKind | None" = None,
        keep_going: bool = True,
        profile: "Profile | None" = None,
        trackers: "Sequence[Tracker]" = (),
    ):
        self._profile, self._trackers = profile, trackers
        self.current: PlannedRun | None = None
        self._folder, self._cache, self._begin, self._stop = folder, cache, begin, stop
        self._trainer, self._keep_going = trainer, keep_going

    def outcomes(self, task: Task) -> Iterator[Outcome]:
        """Simulates the unfinished points of a task; yields the outcome of each that was not known.

        Raises:
          Stopped: it was asked to stop.
          OSError: a failure cannot be saved.
        """
        self.current = task.runs[0]
        try:
            plan = self._plan(task)
        except Stopped:
            raise
        except Exception as error:
            if not self._keep_going:
                raise
            failed = [Failure.of(run, error) for run in task.runs if run.index not in task.known]
            for failure in failed:
                failure.write(self._folder)
            yield from failed
            return
        for position, run in enumerate(task.runs):
            self.current = run
            share = plan.share(position)
            outcome = self._outcome(run, share)
            if isinstance(outcome, Finished):
                plan.done(position, outcome.record, share.kept)
                _clean(self._folder / run.folder)
            else:  # here, what the point had made is free again
                outcome.write(self._folder)
            if run.index not in task.known:
                yield outcome

    def _plan(self, task: Task) -> "Reuse":
        from simulator.sweep.reuse_plan import Reuse, sharing

        if not task.reuse:
            return Reuse()
        labels = [run.label for run in task.runs]
        return sharing([experiment_of(run) for run in task.runs], labels, self._cache, self._stop)

    def _outcome(self, run: PlannedRun, share: "SharedTraining") -> Outcome:
        try:
            record = finished(self._folder / run.folder, run.experiment)
            return Finished(run, self._simulate(run, share) if record is None else record)
        except Stopped:
            raise
        except SimulationError as error:
            if not self._keep_going:
                raise SimulationError(f"{run.label}: {error}") from error
            return Failure.of(run, error)
        except Exception as error:  # whatever it is, it is this point's
            if not self._keep_going:
                raise
            return Failure.of(run, error)

    def _simulate(self, run: PlannedRun, share: "SharedTraining") -> "RunRecord":
        observer = self._begin(run)
        if self._profile is not None and share.trajectory is None:  # else nothing is trained
            observer = self._profile.of(run.label, observer)
        (self._folder / run.folder / ERROR_FILE).unlink(missing_ok=True)
        record = simulate_point(
            point_of(run),
            run.folder,
            observer,
            self._trackers,
            trainer=self._trainer,
            cache=self._cache,
            checkpoints=self._folder / run.folder / CHECKPOINTS,
            share=share,
            stop=self._stop,
        )
        record.write(self._folder / run.folder)
        return record


def simulate_point(
    point: "Point", name: str, observer: "Observer | None", trackers: "Sequence[Tracker]", **how: Any
) -> "RunRecord":
    """Simulates a point, notifying trackers under `name`; `how` is passed on to `simulate`."""
    from simulator.progress.trackers import track
    from simulator.simulation.simulate import simulate

    with track(trackers, name, point, observer) as tracked:
        record = simulate(point.experiment, observer=tracked, overrides=point.overrides, tuned=point.tuned, **how)
        tracked.finished(record)
    return record


def _clean(folder: Path) -> None:
    """Removes files that a finished point needs no more."""
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    (folder / ERROR_FILE).unlink(missing_ok=True)
