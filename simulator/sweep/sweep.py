"""A sweep from its points to their records, wherever they are simulated."""

import contextlib
import dataclasses
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from simulator.experiment import Experiments, Point, points_of
from simulator.host.signals import Interrupted, StopSignals
from simulator.host.text import plural
from simulator.learning import Cache, Setup
from simulator.progress.live import LiveView
from simulator.progress.profiler import Profile
from simulator.progress.trackers import Tracker, track
from simulator.record import RunRecord, write_summary
from simulator.report.runs import Runs
from simulator.simulation.simulate import TrainerKind
from simulator.sweep.engines import Engine, Local, OnRay
from simulator.sweep.executors.attempt import Pool, simulate_elsewhere
from simulator.sweep.executors.environment import local_environments
from simulator.sweep.executors.processes import ProcessPool
from simulator.sweep.executors.ray import RayPool
from simulator.sweep.folder import PROGRESS_FILE, output_folder
from simulator.sweep.outcomes import Failure, Outcome, PointFinished, PointsFailedError
from simulator.sweep.plan import PlannedRun, Task, planned_runs, tasks_of, where_they_were, write_sweep
from simulator.sweep.progress import PointViews
from simulator.sweep.reuse_plan import groups_of
from simulator.sweep.search import tuned
from simulator.sweep.task import PointStopped, finished, simulate_task


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Points to simulate, and their common settings.

    Attributes:
      points: to simulate.
      cache: in which they were checked.
      folder: for their records.
      engine: where they are simulated.
      trainer: of all; each one's own choice when None.
      reuse: whether points reuse others' training.
      profile: traces the first that is trained, in this process.
      trackers: notified of every point that is simulated: meanwhile in this process, when they are finished elsewhere.
      keep_going: whether the error of an only point is reported like that of one of several; else it is raised.
    """

    points: Sequence[Point]
    cache: Cache
    folder: Path
    engine: Engine = dataclasses.field(default_factory=Local)
    trainer: TrainerKind | None = None
    reuse: bool = True
    profile: Profile | None = None
    trackers: Sequence[Tracker] = ()
    keep_going: bool = False

    def outcomes(self) -> Iterator[Outcome]:
        """Simulates the unfinished points; yields the outcome of each point, those that are finished first.

        Raises:
          ExperimentError: an experiment does not fit its data, or the engine does not fit the machine.
          RecordError: a point's folder holds a record that is damaged, or of another experiment.
          SimulationError: the only point has failed, or processes cannot be started.
          Interrupted: a signal has come; points under way are checkpointed.
          OSError: something cannot be written.
        """
        runs = where_they_were(planned_runs(self.points), self.folder)
        found = {run.index: finished(self.folder / run.folder, run.experiment) for run in runs}
        known: dict[int, RunRecord] = {index: record for index, record in found.items() if record is not None}
        if self.trainer is None:
            write_sweep(self.folder, self.points[0].experiment.name, runs)
        weights = self._weights()
        with contextlib.ExitStack() as opened:
            views = PointViews(opened.enter_context(LiveView(Console(stderr=True), len(runs), sum(weights))), weights)
            opened.enter_context(self.profile or contextlib.nullcontext())
            outcomes = opened.enter_context(contextlib.closing(self._simulated(runs, known, views)))
            for index, record in known.items():
                views.close(runs[index], failed=False)
                yield PointFinished(runs[index], record)
            for outcome in outcomes:
                views.close(outcome.run, failed=isinstance(outcome, Failure))
                yield outcome

    def _weights(self) -> list[float]:
        """Returns the cost of each point: operations, as far as the budget tells."""
        costs = [Setup(point.experiment, self.cache).costs.flops_per_step for point in self.points]
        steps = [point.experiment.budget.local_steps for point in self.points]
        if any(each is None for each in steps):
            return costs
        return [cost * (each or 0) for cost, each in zip(costs, steps, strict=True)]

    def _simulated(
        self, runs: Sequence[PlannedRun], known: Mapping[int, RunRecord], views: PointViews
    ) -> Generator[Outcome, None, None]:
        """Yields the outcomes of the points that are not known."""
        engine = self.engine
        for run in runs:
            (self.folder / run.folder / PROGRESS_FILE).unlink(missing_ok=True)  # of a process that was killed
        here = isinstance(engine, Local) and engine.jobs == 1
        groups = [[run.index for run in runs]] if here else groups_of(runs, self.cache, reuse=self.reuse)
        tasks = tasks_of(runs, groups, known, reuse=self.reuse)
        if isinstance(engine, OnRay):
            yield from self._elsewhere(tasks, RayPool(self.folder, engine), views)
        elif (processes := min(engine.jobs, len(tasks))) > 1:
            yield from self._elsewhere(tasks, ProcessPool(self.folder, local_environments(processes)), views)
        else:
            yield from self._here(tasks, views)

    def _elsewhere(
        self, tasks: Sequence[Task], pool: contextlib.AbstractContextManager[Pool], views: PointViews
    ) -> Iterator[Outcome]:
        with pool as started, StopSignals() as stop:  # behind Ray, which listens to signals itself
            for outcome in simulate_elsewhere(tasks, started, self.folder, views, stop, self.engine.retries):
                if isinstance(outcome, PointFinished):
                    with track(self.trackers, outcome.run.folder, self.points[outcome.run.index]) as tracked:
                        tracked.finished(outcome.record)
                yield outcome

    def _here(self, tasks: Sequence[Task], views: PointViews) -> Iterator[Outcome]:
        with StopSignals() as stop:
            try:
                for task in tasks:
                    yield from simulate_task(
                        task,
                        self.folder,
                        self.cache,
                        stop,
                        observer_of=views.of,
                        trainer=self.trainer,
                        keep_going=self.keep_going or len(self.points) > 1,
                        profile=self.profile,
                        trackers=self.trackers,
                    )
            except PointStopped as stopped:
                assert stop.received is not None
                kept = self.trainer != "null"
                rest = f"go on with --resume --out {self.folder}" if kept else "what is not finished is not kept"
                state = f"{stopped.run.label} stands after {plural(stopped.updates, 'server update')}"
                raise Interrupted(stop.received, f"{state}: {rest}") from stopped

    def run(self) -> tuple[list[RunRecord], list[Failure]]:
        """Simulates the unfinished points, and keeps summary.json up to date meanwhile; searches axes first.

        Returns:
          The records and the failures, each in the order of the points.

        Raises:
          Exception: as `outcomes` and `tuned`.
        """
        if not any(point.searches for point in self.points):
            outcomes = self.in_order()
            records = [each.record for each in outcomes if isinstance(each, PointFinished)]
            return records, [each for each in outcomes if isinstance(each, Failure)]
        settled, hopeless = tuned(self.points, self.folder, self._trials)
        if not settled:
            raise next(iter(hopeless.values()))
        runs = planned_runs(self.points)
        records, failures = dataclasses.replace(self, points=settled).run()
        return records, [*(Failure.of(runs[place], error) for place, error in hopeless.items()), *failures]

    def in_order(self) -> list[Outcome]:
        """Runs points of which nothing is searched, like `run`; returns the outcome of each, in their order."""
        found: dict[int, Outcome] = {}
        for outcome in self.outcomes():
            found[outcome.run.index] = outcome
            if isinstance(outcome, PointFinished):
                ordered = [found[index] for index in sorted(found)]
                summaries = [each.record.summary for each in ordered if isinstance(each, PointFinished)]
                write_summary(self.folder / "summary.json", summaries)
        return [found[index] for index in sorted(found)]

    def _trials(self, points: Sequence[Point], folder: Path) -> list[Outcome]:
        return dataclasses.replace(self, points=points, folder=folder, keep_going=True).in_order()


def run_points(
    points: Experiments,
    folder: str | Path,
    *,
    engine: Engine | None = None,
    jobs: int = 1,
    resume: bool = False,
    reuse: bool = True,
) -> Runs:
    """Simulates points into a folder, as `tardigrad run` does: in local processes, or on a Ray cluster.

    Args:
      points: to simulate, for instance from `load`, or as `simulate_all` takes it. Axes that are searched are searched
        first.
      folder: for the records; empty or absent, unless `resume`.
      engine: where: `Local(jobs)` or `OnRay(address, cpus, gpus, memory)`; this machine when absent.
      jobs: number of local processes; 1 is this one. A script that uses more must call this under
        `if __name__ == "__main__":`, and register its outer optimizers above that.
      resume: whether to resume in the folder; finished points are not simulated again.
      reuse: whether points reuse others' training.

    Returns:
      The records, in the order of the points; they are in the folder too.

    Raises:
      ExperimentError: an experiment does not fit its data, the folder cannot be used, or the engine does not fit.
      PointsFailedError: points have failed; the others are finished, and the error has their records.
      RecordError: the folder's records are of other points.
      SimulationError: the only point has failed, or processes cannot be started.
      ValueError: there are no points, jobs is below 1, or both jobs and an engine are given.
      Interrupted: SIGINT, SIGTERM or SIGHUP has come; points under way are checkpointed.
    """
    given = points_of(points)
    if not given:
        raise ValueError("points is empty: give at least one")
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, not {jobs}")
    if engine is not None and jobs != 1:
        raise ValueError(f"jobs is {jobs} and an engine is given too: leave one of them out")
    with output_folder(Path(folder), given[0].experiment.name, resume=resume) as where:
        sweep = Sweep(given, Cache(), where, engine or Local(jobs), reuse=reuse)
        records, failures = sweep.run()
    if failures:
        raise PointsFailedError(failures, records, where)
    return Runs(records)
