"""A sweep from its points to their records, wherever they are simulated."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rich.console import Console

from simulator.experiment import SimulationError, points_of
from simulator.host.signals import StopSignals
from simulator.progress.live import LiveView
from simulator.sweep.executors.serial import InProcess
from simulator.sweep.folder import finished
from simulator.sweep.outcomes import Executor, Failure, Finished, Outcome
from simulator.sweep.plan import PlannedRun, Task, groups_of, planned_runs, tasks_of, where_they_were, write_sweep
from simulator.sweep.progress_file import Board

if TYPE_CHECKING:
    from simulator.experiment import Point, Simulated
    from simulator.learning import Cache
    from simulator.progress.profiler import Profile
    from simulator.progress.trackers import Tracker
    from simulator.record import RunRecord
    from simulator.report.runs import Runs
    from simulator.simulation.simulate import TrainerKind

RETRIES = 2


@dataclasses.dataclass(frozen=True)
class Local:
    """Points are simulated on this machine.

    Attributes:
      jobs: number of processes; 1 is this one.
      retries: number of times that a task whose process is gone is tried again.
    """

    jobs: int = 1
    retries: int = RETRIES


@dataclasses.dataclass(frozen=True)
class OnRay:
    """Points are simulated by the machines of a Ray cluster.

    Attributes:
      address: of the cluster; the one that Ray finds when absent.
      cpus: number of CPUs that a task asks for; as many as a process on this machine would use when absent.
      gpus: number of GPUs, or part of one.
      memory: bytes.
      retries: number of times that a task whose machine or process is gone is tried again.
    """

    address: str | None = None
    cpus: float | None = None
    gpus: float = 0.0
    memory: float | None = None
    retries: int = RETRIES


Engine: TypeAlias = Local | OnRay


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

    points: "Sequence[Point]"
    cache: "Cache"
    folder: Path
    engine: Engine = Local()
    trainer: "TrainerKind | None" = None
    reuse: bool = True
    profile: "Profile | None" = None
    trackers: "Sequence[Tracker]" = ()
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
        stop = StopSignals()
        with contextlib.ExitStack() as opened:
            view = opened.enter_context(LiveView(Console(stderr=True), len(runs), sum(weights)))
            board = Board(self.folder if self.trainer is None else None, view, weights)
            tasks, executor = self._tasks_and_executor(runs, known, board, stop)
            opened.enter_context(self.profile or contextlib.nullcontext())
            opened.enter_context(executor)
            opened.enter_context(stop)  # behind the executor, which may listen to signals itself
            for index, record in known.items():
                board.over(runs[index])
                yield Finished(runs[index], record)
            for task in tasks:
                executor.submit(task)
            while (outcome := executor.next()) is not None:
                board.over(outcome.run, failed=isinstance(outcome, Failure))
                if isinstance(outcome, Finished) and not isinstance(executor, InProcess):
                    self._track(outcome)
                yield outcome

    def _track(self, outcome: Finished) -> None:
        """Notifies the trackers of a point that was simulated by another process."""
        from simulator.progress.trackers import track

        with track(self.trackers, outcome.run.folder, self.points[outcome.run.index]) as tracked:
            tracked.finished(outcome.record)

    def _weights(self) -> list[float]:
        """Returns the cost of each point: operations, as far as the budget tells."""
        from simulator.learning import Setup

        costs = [Setup(point.experiment, self.cache).costs.flops_per_step for point in self.points]
        steps = [point.experiment.budget.local_steps for point in self.points]
        if any(each is None for each in steps):
            return costs
        return [cost * (each or 0) for cost, each in zip(costs, steps, strict=True)]

    def _tasks_and_executor(
        self, runs: Sequence[PlannedRun], known: "Mapping[int, RunRecord]", board: Board, stop: StopSignals
    ) -> tuple[list[Task], Executor]:
        engine = self.engine
        if isinstance(engine, Local) and engine.jobs == 1:
            everything = [[run.index for run in runs]]
            return tasks_of(runs, everything, known, reuse=self.reuse), self._in_process(board, stop)
        groups = groups_of(runs, self.cache, reuse=self.reuse)
        tasks = tasks_of(runs, groups, known, reuse=self.reuse)
        if isinstance(engine, OnRay):
            from simulator.sweep.executors.ray import RayExecutor

            return tasks, RayExecutor(self.folder, engine, board, stop)
        processes = min(engine.jobs, len(tasks))
        if processes <= 1:
            return tasks, self._in_process(board, stop)
        from simulator.sweep.executors.environment import local_surroundings
        from simulator.sweep.executors.processes import Processes

        return tasks, Processes(self.folder, local_surroundings(processes), board, stop, engine.retries)

    def _in_process(self, board: Board, stop: StopSignals) -> InProcess:
        return InProcess(
            self.folder,
            self.cache,
            board,
            stop,
            trainer=self.trainer,
            keep_going=self.keep_going or len(self.points) > 1,
            profile=self.profile,
            trackers=self.trackers,
        )

    def run(self) -> "tuple[list[RunRecord], list[Failure]]":
        """Simulates the unfinished points, and keeps summary.json up to date meanwhile; searches axes first.

        Returns:
          The records and the failures, each in the order of the points.

        Raises:
          Exception: as `outcomes` and `tuned`.
        """
        if any(point.searches for point in self.points):
            from simulator.sweep.search import tuned

            return self._run_settled(*tuned(self))
        records, failures = self.by_place()
        return [records[index] for index in sorted(records)], [failures[index] for index in sorted(failures)]

    def _run_settled(
        self, settled: "list[Point]", hopeless: Mapping[int, SimulationError]
    ) -> "tuple[list[RunRecord], list[Failure]]":
        """Runs the points for which a search has found values; the others have failed."""
        if not settled:
            raise next(iter(hopeless.values()))
        runs = planned_runs(self.points)
        records, failures = dataclasses.replace(self, points=settled).run()
        return records, [*(Failure.of(runs[place], error) for place, error in hopeless.items()), *failures]

    def by_place(self) -> "tuple[dict[int, RunRecord], dict[int, Failure]]":
        """Runs points of which nothing is searched, like `run`; returns the outcome of each by its place."""
        from simulator.record import write_summary

        records: dict[int, RunRecord] = {}
        failures: dict[int, Failure] = {}
        for outcome in self.outcomes():
            if isinstance(outcome, Failure):
                failures[outcome.run.index] = outcome
            else:
                records[outcome.run.index] = outcome.record
                summaries = [records[index].summary for index in sorted(records)]
                write_summary(self.folder / "summary.json", summaries)
        return records, failures


def run_points(
    points: "Simulated",
    folder: str | Path,
    *,
    engine: Engine | None = None,
    jobs: int = 1,
    resume: bool = False,
    reuse: bool = True,
) -> "Runs":
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
    from simulator.learning import Cache
    from simulator.report.runs import Runs
    from simulator.sweep.folder import output_folder
    from simulator.sweep.outcomes import PointsFailedError

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
