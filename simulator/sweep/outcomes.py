"""Outcomes of a sweep's points."""

import dataclasses
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import pydantic

from simulator.experiment import ExperimentError, SimulationError
from simulator.host.text import plural, system_error
from simulator.record import RecordError, RunRecord, read_json, write_json
from simulator.sweep.folder import ERROR_FILE
from simulator.sweep.plan import PlannedRun


@dataclasses.dataclass(frozen=True)
class PointFinished:
    """A point that is finished.

    Attributes:
      run: the point.
      record: of the point, which is in its folder too.
    """

    run: PlannedRun
    record: RunRecord


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
        content = {"error": self.kind, "message": self.message, "details": self.details}
        write_json(folder / self.run.folder / ERROR_FILE, content)


class _SavedFailure(pydantic.BaseModel):
    error: str
    message: str
    details: str


def read_failure(folder: Path) -> Mapping[str, str] | None:
    """Returns the error, message and details that are saved in a point's folder, None if there are none.

    Raises:
      RecordError: the file cannot be read.
    """
    try:
        found: Mapping[str, str] = read_json(
            folder / ERROR_FILE, _SavedFailure, "Remove it: `run --resume` tries again"
        )
    except FileNotFoundError:
        return None
    return found


Outcome: TypeAlias = PointFinished | Failure


class PointsFailedError(SimulationError):
    """Failure of some points of a sweep; the others are finished.

    Attributes:
      records: of the points that are finished, in the order of the points, as `Runs`.
      failures: of the others.
    """

    def __init__(self, failures: Sequence[Failure], records: Sequence[RunRecord], folder: Path | None = None):
        """Makes the error; `folder` is the one that --resume resumes in, if any."""
        from simulator.report.runs import Runs  # loads matplotlib, as in `simulator.sweep.plan`

        self.failures, self.records = tuple(failures), Runs(records)
        number = len(failures) + len(records)
        lines = "".join(f"\n  {failure}" for failure in failures)
        rest = f" (--resume tries those that failed again in {folder})" if folder else ""
        super().__init__(f"{len(failures)} of {plural(number, 'point')} failed{rest}:{lines}")
