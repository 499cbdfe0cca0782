"""Attempts at a task in another process, and its remainder when that process is lost."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from simulator.host.text import plural
from simulator.sweep.executors.messages import Advanced, Begun, Message, Over, Pretrained, Stood
from simulator.sweep.outcomes import Failure, Finished, Outcome, Watch
from simulator.sweep.plan import PlannedRun, Task

if TYPE_CHECKING:
    from simulator.progress.observer import Observer
    from simulator.record import RunRecord


class Ledger:
    """Ledger of a task, from the messages of its process.

    Args:
      task: of the process.
      watch: notified of the progress of points.

    Attributes:
      task: the same.
      stood: whether the process was stopped, and has saved its state.
    """

    def __init__(self, task: Task, watch: Watch):
        self.task = task
        self.stood = False
        self._watch = watch
        self._runs = {run.index: run for run in task.runs}
        self._observers: dict[int, Observer] = {}
        self._current: PlannedRun | None = None
        self._updates = 0
        self._over = set(task.known)
        self._failed: set[int] = set()

    @property
    def begun(self) -> bool:
        """Returns whether a point has been begun."""
        return self._current is not None

    def hear(self, message: Message, record_of: "Callable[[PlannedRun], RunRecord]") -> Outcome | None:
        """Follows a message; returns the outcome of a point that is over.

        Args:
          message: of the process.
          record_of: returns the record of a point that is finished.
        """
        match message:
            case Begun(index=index):
                self._current, self._updates = self._runs[index], 0
                self._observers[index] = self._watch.begin(self._current)
            case Pretrained(index=index):
                self._observers[index].pretrained(message.steps, message.of, message.loss)
            case Advanced(index=index):
                self._updates = message.progress.server_updates
                self._observers[index].advanced(message.progress)
            case Stood():
                self.stood, self._updates = True, message.updates
            case Over(index=index):
                self._over.add(index)
                return Finished(self._runs[index], record_of(self._runs[index]))
            case Failure():
                self._over.add(message.run.index)
                self._failed.add(message.run.index)
                return message
        return None

    def stands(self) -> list[str]:
        """Describes the progress of the point under way, as a list of one; empty if none is."""
        if self._current is None or self._current.index in self._over:
            return []
        return [f"{self._current.label} stands after {plural(self._updates, 'server update')}"]

    def lost(self, why: str, retries: int) -> tuple[Failure | None, Task | None]:
        """Divides the points that are not over, when the process is lost, into a failure and a task to retry.

        Args:
          why: reason of the loss.
          retries: number of times that a task is tried again; after that the point that was under way has failed.

        Returns:
          The failure and the task, if any.
        """
        left = [run for run in self.task.runs if run.index not in self._over]
        if not left:
            return None, None
        known = self._over - self._failed
        current = next((run for run in left if run is self._current), left[0])
        if current.index in self._observers:
            self._watch.lost(current)
        failure, attempt = None, self.task.attempt + 1
        if attempt > retries and not self.stood:
            failure = Failure(current, "Lost", f"{why}, {plural(attempt, 'time')} in all")
            left.remove(current)
            attempt = 0
        if not left:
            return failure, None
        again = {run.index for run in left} | known
        runs = tuple(run for run in self.task.runs if run.index in again)
        return failure, dataclasses.replace(self.task, runs=runs, attempt=attempt, known=frozenset(known))
