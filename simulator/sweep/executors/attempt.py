"""Tasks that other processes simulate: followed by what these write into the points' folders."""

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from simulator.host.signals import Interrupted, StopSignals
from simulator.host.text import plural
from simulator.record import RecordError, kept_updates
from simulator.sweep.folder import CHECKPOINTS, ERROR_FILE, PROGRESS_FILE
from simulator.sweep.outcomes import Failure, Outcome, PointFinished, read_failure
from simulator.sweep.plan import Task
from simulator.sweep.progress import PointViews, SavedProgress, read_progress
from simulator.sweep.task import finished

_LOOKED_EVERY_S = 0.2


@dataclasses.dataclass(frozen=True)
class LostProcess:
    """Loss of the process of a task.

    Attributes:
      reason: of the loss.
      is_final: whether the task would only be lost again.
    """

    reason: str
    is_final: bool = False


class Attempt:
    """An attempt at a task in another process.

    Args:
      task: the points.
      folder: that of all.
      views: show the progress of the points.

    Attributes:
      task: the same.
    """

    def __init__(self, task: Task, folder: Path, views: PointViews):
        self.task, self._folder, self._views = task, folder, views
        self._left = [run for run in task.runs if run.index not in task.known]
        self._known = set(task.known)
        self._shown: SavedProgress | None = None
        self._former_errors = {run.index: self._error_time(run.folder) for run in self._left}

    @property
    def has_begun(self) -> bool:
        """Returns whether a point has been begun."""
        over = len(self._left) + len(self.task.known) < len(self.task.runs)
        return over or (self._folder / self._left[0].folder / PROGRESS_FILE).exists()

    def outcomes(self) -> Iterator[Outcome]:
        """Shows the progress of the point under way; yields the outcomes of the points that are over by now."""
        while self._left:
            run = self._left[0]
            folder = self._folder / run.folder
            if (record := finished(folder, run.experiment)) is not None:
                self._known.add(run.index)
                outcome: Outcome = PointFinished(run, record)
            elif self._error_time(run.folder) not in (None, self._former_errors[run.index]):
                saved = read_failure(folder)
                assert saved is not None
                outcome = Failure(run, saved["error"], saved["message"], saved["details"])
            else:
                progress = read_progress(folder)
                if progress is not None and progress != self._shown:
                    progress.show(self._views.of(run))
                self._shown = progress
                return
            self._left.pop(0)
            yield outcome

    def describe(self) -> list[str]:
        """Describes the progress of the point under way, as a list of one; empty if none is."""
        for run in self._left[:1]:
            if (self._folder / run.folder / PROGRESS_FILE).exists():
                try:
                    updates = kept_updates(self._folder / run.folder / CHECKPOINTS) or 0
                except RecordError:  # a damaged one is said when the point is resumed
                    updates = 0
                return [f"{run.label} stands after {plural(updates, 'server update')}"]
        return []

    def retry(self, loss: LostProcess | None, retries: int) -> tuple[list[Failure], Task | None]:
        """Divides the points that are left, when the process is gone, into failures and a task to retry.

        Args:
          loss: of the process; None of one that was told to stop, and has saved its state.
          retries: number of times that a task is tried again; after that the point that was under way has failed.

        Returns:
          The failures and the task, if any.
        """
        if not self._left:
            return [], None
        self._views.lost(self._left[0])
        (self._folder / self._left[0].folder / PROGRESS_FILE).unlink(missing_ok=True)
        failures, attempt = [], self.task.attempt + 1
        if loss is not None and loss.is_final:
            failures = [Failure(run, "Lost", loss.reason) for run in self._left]
        elif loss is not None and attempt > retries:
            failures = [Failure(self._left[0], "Lost", f"{loss.reason}, {plural(attempt, 'time')} in all")]
            attempt = 0
        again = {run.index for run in self._left[len(failures) :]}
        if not again:
            return failures, None
        runs = tuple(run for run in self.task.runs if run.index in again | self._known)
        return failures, dataclasses.replace(self.task, runs=runs, attempt=attempt, known=frozenset(self._known))

    def _error_time(self, folder: str) -> int | None:
        try:
            return (self._folder / folder / ERROR_FILE).stat().st_mtime_ns
        except FileNotFoundError:
            return None


class Pool(Protocol):
    """Processes that simulate tasks, wherever they are. Use it as a context, which ends them."""

    def start(self, waiting: deque[Attempt]) -> Attempt | None:
        """Takes an attempt out of those that are waiting and begins it; returns it, None if there is no room."""

    def ended(self, timeout_s: float) -> Iterable[tuple[Attempt, LostProcess | None]]:
        """Waits for ends of attempts; returns those that have ended, with the losses of their processes.

        Raises:
          SimulationError: processes cannot be started.
        """

    def ask_to_stop(self) -> None:
        """Asks for checkpoints of the points under way, and the ends of their attempts."""


def simulate_elsewhere(
    tasks: Sequence[Task], pool: Pool, folder: Path, views: PointViews, stop: StopSignals, retries: int
) -> Iterator[Outcome]:
    """Has tasks simulated by other processes; yields the outcomes of their points.

    Args:
      tasks: to simulate.
      pool: the processes.
      folder: that of all points.
      views: show the progress of the points.
      stop: says when to stop.
      retries: number of times that a task whose process is gone is tried again.

    Raises:
      Interrupted: it was asked to stop; points under way are checkpointed.
      SimulationError: processes cannot be started.
    """
    waiting = deque(Attempt(task, folder, views) for task in tasks)
    under_way: list[Attempt] = []
    stopping, states = False, list[str]()
    while under_way or (waiting and not stopping):
        if not stopping and stop():
            stopping = True
            pool.ask_to_stop()
        while not stopping and waiting and (attempt := pool.start(waiting)) is not None:
            under_way.append(attempt)
        ended = list(pool.ended(_LOOKED_EVERY_S)) if under_way else []
        for attempt in under_way:
            yield from attempt.outcomes()
        for attempt, loss in ended:
            under_way.remove(attempt)
            if stopping:
                states += attempt.describe()
                continue
            failures, again = attempt.retry(loss, retries)
            for failure in failures:
                failure.write(folder)
                yield failure
            if again is not None:
                waiting.appendleft(Attempt(again, folder, views))
    if stopping:
        assert stop.received is not None
        state = "; ".join(states) or "nothing was under way"
        raise Interrupted(stop.received, f"{state}: go on with --resume --out {folder}")
