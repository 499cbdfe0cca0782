"""Outcomes of a sweep's points, and the protocols of executors and watches."""

import dataclasses
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from simulator.experiment import ExperimentError, SimulationError
from simulator.host.text import plural, system_error
from simulator.sweep.folder import ERROR_FILE
from simulator.sweep.plan import PlannedRun, Task

if TYPE_CHECKING:
    from simulator.progress.observer import Observer
    from simulator.record import RunRecord


@dataclasses.dataclass(frozen=True)
class Finished:
    """A point that is finished.

    Attributes:
      run: the point.
      record: of the point, which is in its folder too.
    """

    run: PlannedRun
    record: "RunRecord"


@dataclasses.dataclass(frozen=True)
class Failure:
    """A point that has failed.

    Attributes:
      run: the point.
      kind: name of the error.
      message: what went wrong.
      details: place in the program, of an unexpected error.
    """

    run: PlannedRun
    kind: str
    message: str
    details: str = ""

    @classmethod
    def of(cls, run: PlannedRun, error: Exception) -> "Failure":
        """Returns the failure of a point that an exception means."""
        from simulator.record import RecordError

        expected = isinstance(error, SimulationError | ExperimentError | RecordError | OSError)
        message = system_error(error) if isinstance(error, OSError) else str(error) or "no message"
        details = "".join(traceback.format_exception(error))
        return cls(run, type(error).__name__, message if expected else f"{type(error).__name__}: {message}", details)

    def __str__(self) -> str:
        return f"{self.run.label}: {self.message}"

    def write(self, folder: Path) -> None:
        """Saves the failure in the point's folder; `folder` is that of all.

        Raises:
          OSError: it cannot be written.
        """
        from simulator.host.files import atomic_path
        from simulator.record import to_json

        text = to_json({"error": self.kind, "message": self.message, "details": self.details}, ERROR_FILE)
        with atomic_path(folder / self.run.folder / ERROR_FILE) as temporary:
            temporary.write_text(text, encoding="utf-8")


def read_failure(folder: Path) -> Mapping[str, Any] | None:
    """Returns the failure that is saved in a point's folder, None if there is none.

    Raises:
      RecordError: the file cannot be read.
    """
    from simulator.record import read_json

    remedy = "Remove it: `run --resume` tries again"
    try:
        found: Mapping[str, Any] = read_json(folder / ERROR_FILE, dict[str, str], remedy)
    except FileNotFoundError:
        return None
    return found


Outcome: TypeAlias = Finished | Failure


class PointsFailedError(SimulationError):
    """Failure of some points of a sweep; the others are finished.

    Attributes:
      records: of the points that are finished, in the order of the points, as `Runs`.
      failures: of the others.
    """

    def __init__(self, failures: "Sequence[Failure]", records: "Sequence[RunRecord]", folder: Path | None = None):
        """Makes the error; `folder` is the one that --resume resumes in, if any."""
        from simulator.report.runs import Runs

        self.failures, self.records = tuple(failures), Runs(records)
        number = len(failures) + len(records)
        lines = "".join(f"\n  {failure}" for failure in failures)
        rest = f" (--resume tries those that failed again in {folder})" if folder else ""
        super().__init__(f"{len(failures)} of {plural(number, 'point')} failed{rest}:{lines}")


class Watch(Protocol):
    """Watches the progress of points."""

    def begin(self, run: PlannedRun) -> "Observer":
        """Starts a point; returns its observer."""

    def lost(self, run: PlannedRun) -> None:
        """Follows the loss of a point's process: the point waits again."""


class Executor(Protocol):
    """Simulates the points of tasks, wherever. Use it as a context.

    Tasks may be submitted at any time, also between two outcomes, so that the next ones can follow from the outcomes.
    """

    def __enter__(self) -> "Executor":
        """Starts."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the tasks that are still under way."""

    def submit(self, task: Task) -> None:
        """Adds a task."""

    def next(self) -> Outcome | None:
        """Waits until another point is over and returns its outcome, None if no task is left.

        Raises:
          Interrupted: it was asked to stop; points under way are checkpointed.
        """
