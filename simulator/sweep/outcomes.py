"""What becomes of the points of a sweep, and the protocols of who simulates them and who watches."""

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
      run: which.
      record: its, which is in its folder too.
    """

    run: PlannedRun
    record: "RunRecord"


@dataclasses.dataclass(frozen=True)
class Failure:
    """A point that has failed.

    Attributes:
      run: which.
      kind: name of the error.
      message: what went wrong.
      details: where in the program, of an error that is not expected.
    """

    run: PlannedRun
    kind: str
    message: str
    details: str = ""

    @classmethod
    def of(cls, run: PlannedRun, error: Exception) -> "Failure":
        """Returns what an exception means for a point."""
        from simulator.record import RecordError

        expected = isinstance(error, SimulationError | ExperimentError | RecordError | OSError)
        message = system_error(error) if isinstance(error, OSError) else str(error) or "no message"
        details = "".join(traceback.format_exception(error))
        return cls(run, type(error).__name__, message if expected else f"{type(error).__name__}: {message}", details)

    def __str__(self) -> str:
        return f"{self.run.label}: {self.message}"

    def write(self, folder: Path) -> None:
        """Writes down in the point's folder what went wrong; `folder` is that of all.

        Raises:
          OSError: it cannot be written.
        """
        from simulator.record import atomic_path, to_json

        text = to_json({"error": self.kind, "message": self.message, "details": self.details}, ERROR_FILE)
        with atomic_path(folder / self.run.folder / ERROR_FILE) as temporary:
            temporary.write_text(text, encoding="utf-8")


def read_failure(folder: Path) -> Mapping[str, Any] | None:
    """Returns what went wrong with the point of a folder, None where nothing is written down.

    Raises:
      RecordError: what is written down cannot be read.
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
    """Some points of a sweep have failed; the others are finished.

    Attributes:
      records: of the points that are finished, in the order of the points, as `Runs`.
      failures: of the others.
    """

    def __init__(self, failures: "Sequence[Failure]", records: "Sequence[RunRecord]", folder: Path | None = None):
        """Makes the error; `folder` is where --resume goes on, if anywhere."""
        from simulator.report.runs import Runs

        self.failures, self.records = tuple(failures), Runs(records)
        number = len(failures) + len(records)
        lines = "".join(f"\n  {failure}" for failure in failures)
        rest = f" (--resume tries those that failed again in {folder})" if folder else ""
        super().__init__(f"{len(failures)} of {plural(number, 'point')} failed{rest}:{lines}")


class Watch(Protocol):
    """Is told where the points stand."""

    def begin(self, run: PlannedRun) -> "Observer":
        """A point is being simulated; returns what observes it."""

    def lost(self, run: PlannedRun) -> None:
        """The process that simulated a point is gone; the point waits again."""


class Executor(Protocol):
    """Simulates the points of tasks, wherever. Use it as a context.

    Tasks may be submitted at any time, also between two outcomes, so that what is simulated next can follow from what
    has been found.
    """

    def __enter__(self) -> "Executor":
        """Begins."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends what is still under way."""

    def submit(self, task: Task) -> None:
        """Adds a task."""

    def next(self) -> Outcome | None:
        """Waits until another point is over and returns what became of it, None where no task is left.

        Raises:
          Interrupted: it was asked to stop; what was under way is written down.
        """
