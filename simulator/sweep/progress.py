"""Progress of a sweep's points: saved in their folders, where whoever waits for them finds it, and shown."""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic

from simulator.progress.live import LiveView, RunView
from simulator.progress.observer import Observer, Progress
from simulator.record import read_json, write_json
from simulator.sweep.folder import PROGRESS_FILE
from simulator.sweep.plan import PlannedRun

_SAVED_EVERY_S = 1.0
_NUMBERS: Mapping[str, Any] = {
    field.name: (float | None, ...) for field in dataclasses.fields(Progress) if field.name != "evaluation"
}
_Simulation = pydantic.create_model("_Simulation", **_NUMBERS)


class _Pretraining(pydantic.BaseModel):
    steps: int
    of: int
    loss: float | None


class _Content(pydantic.BaseModel):
    pretraining: _Pretraining | None = None
    simulation: _Simulation | None = None


@dataclasses.dataclass(frozen=True)
class SavedProgress:
    """Progress of a point under way, as it was last saved; neither is there while the point is prepared.

    Attributes:
      pretraining: arguments of `Observer.pretrained`.
      simulation: the argument of `Observer.advanced`, without its evaluation.
    """

    pretraining: tuple[int, int, float] | None = None
    simulation: Progress | None = None

    def show(self, observer: Observer) -> None:
        """Gives the progress to an observer."""
        if self.simulation is not None:
            observer.advanced(self.simulation)
        elif self.pretraining is not None:
            observer.pretrained(*self.pretraining)


def read_progress(folder: Path) -> SavedProgress | None:
    """Returns the progress that is saved in a point's folder, None if the point is not under way.

    Raises:
      RecordError: the file cannot be read.
    """
    try:
        found = read_json(folder / PROGRESS_FILE, _Content, "Remove it: a run that is under way writes it anew")
    except FileNotFoundError:
        return None
    if numbers := found.get("simulation"):
        known: dict[str, Any] = {name: math.nan if numbers[name] is None else numbers[name] for name in _NUMBERS}
        return SavedProgress(simulation=Progress(**known))
    if steps := found.get("pretraining"):
        loss = math.nan if steps["loss"] is None else steps["loss"]
        return SavedProgress(pretraining=(steps["steps"], steps["of"], loss))
    return SavedProgress()


class ProgressFile:
    """Observer of a point that saves the progress in the point's folder now and then.

    Args:
      folder: the point's.
      observer: notified of everything too.
    """

    def __init__(self, folder: Path, observer: Observer | None = None):
        self._file, self._observer = folder / PROGRESS_FILE, observer
        self._save({})
        self._saved_s = -math.inf

    def pretrained(self, steps: int, of: int, loss: float) -> None:
        """Saves the progress of pretraining."""
        if self._observer is not None:
            self._observer.pretrained(steps, of, loss)
        if self._is_due():
            self._save({"pretraining": {"steps": steps, "of": of, "loss": loss}})

    def advanced(self, progress: Progress) -> None:
        """Saves the progress of the simulation."""
        if self._observer is not None:
            self._observer.advanced(progress)
        if self._is_due():
            self._save({"simulation": {name: getattr(progress, name) for name in _NUMBERS}})

    def _is_due(self) -> bool:
        return time.monotonic() >= self._saved_s + _SAVED_EVERY_S

    def _save(self, content: Mapping[str, Any]) -> None:
        write_json(self._file, content, durable=False)  # the simulation does not wait for the disk
        self._saved_s = time.monotonic()


class PointViews:
    """Lines of a sweep's points in a live view.

    Args:
      view: shows them.
      weights: cost of each point, in proportion to the others.
    """

    def __init__(self, view: LiveView, weights: Sequence[float]):
        self._view, self._weights = view, weights
        self._views: dict[int, RunView] = {}

    def of(self, run: PlannedRun) -> RunView:
        """Returns the line of a point, a new one if it has none."""
        if run.index not in self._views:
            self._views[run.index] = self._view.add_run(run.label, self._weights[run.index])
        return self._views[run.index]

    def close(self, run: PlannedRun, *, failed: bool) -> None:
        """Marks a point as finished, or as failed."""
        view = self.of(run)
        if failed:
            view.failed()
        else:
            view.finished()

    def lost(self, run: PlannedRun) -> None:
        """Removes the line of a point that waits again."""
        if run.index in self._views:
            self._views.pop(run.index).lost()
