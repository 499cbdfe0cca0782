"""Progress of a sweep's points: shown live, and saved now and then for `tardigrad sweep status`."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pydantic

from simulator.progress.live import LiveView, RunView
from simulator.record import atomic_path, read_json, to_json
from simulator.sweep.folder import PROGRESS_FILE
from simulator.sweep.plan import PlannedRun

if TYPE_CHECKING:
    from simulator.progress.observer import Progress

_WRITTEN_EVERY_S = 2.0


class _Preparing(pydantic.BaseModel):
    pretraining: str


class _Stands(pydantic.BaseModel):
    fraction: float
    server_updates: int
    local_steps: int
    perplexity: float | None


_Standings = dict[Annotated[str, pydantic.StringConstraints(pattern=r"^\d+$")], _Preparing | _Stands]


class Board:
    """Keeps the progress of each point.

    Args:
      folder: the sweep's, to save it in; None not to save it.
      view: shows it.
      weights: cost of each point, in proportion to the others.
    """

    def __init__(self, folder: Path | None, view: LiveView, weights: Sequence[float]):
        self._folder, self._view, self._weights = folder, view, weights
        self._running: dict[int, _Watched] = {}
        self._written_s = time.monotonic()

    def begin(self, run: PlannedRun) -> "_Watched":
        """Adds a point that is being simulated, and returns its observer."""
        view = self._view.add_run(run.label, self._weights[run.index])
        self._running[run.index] = _Watched(self, view)
        return self._running[run.index]

    def lost(self, run: PlannedRun) -> None:
        """Marks a point as waiting again."""
        watched = self._running.pop(run.index, None)
        if watched is not None:
            watched.view.lost()

    def over(self, run: PlannedRun, *, failed: bool = False) -> None:
        """Marks a point as finished, or as failed."""
        watched = self._running.pop(run.index, None) or _Watched(
            self, self._view.add_run(run.label, self._weights[run.index])
        )
        if failed:
            watched.view.failed()
        else:
            watched.view.finished()
        self.note(at_once=True)

    def note(self, *, at_once: bool = False) -> None:
        """Saves the progress of the running points, if that was not done a moment ago."""
        now_s = time.monotonic()
        if self._folder is None or not (at_once or now_s >= self._written_s + _WRITTEN_EVERY_S):
            return
        self._written_s = now_s
        points = {str(index): watched.stands() for index, watched in self._running.items()}
        with atomic_path(self._folder / PROGRESS_FILE) as temporary:
            temporary.write_text(to_json(points, PROGRESS_FILE), encoding="utf-8")


class _Watched:
    """Observer of a point."""

    def __init__(self, board: Board, view: RunView):
        self.view = view
        self._board = board
        self._latest: Progress | None = None
        self._pretrained = ""

    def pretrained(self, steps: int, of: int, loss: float) -> None:
        """Passes on the progress of pretraining."""
        self._pretrained = f"{steps:,} of {of:,}"
        self.view.pretrained(steps, of, loss)
        self._board.note()

    def advanced(self, progress: "Progress") -> None:
        """Passes on where the simulation stands."""
        self._latest = progress
        self.view.advanced(progress)
        self._board.note()

    def stands(self) -> dict[str, Any]:
        """Returns the progress to save."""
        if self._latest is None:
            return {"pretraining": self._pretrained}
        return {
            "fraction": self._latest.fraction,
            "server_updates": self._latest.server_updates,
            "local_steps": self._latest.local_steps,
            "perplexity": self._latest.perplexity,
        }


def read_progress(folder: Path) -> Mapping[int, Mapping[str, Any]]:
    """Returns the progress of points that were under way when it was last saved, by their places.

    Raises:
      RecordError: the file cannot be read.
    """
    remedy = "Remove it: a run that is under way writes it anew"
    try:
        found = read_json(folder / PROGRESS_FILE, _Standings, remedy)
    except FileNotFoundError:
        return {}
    return {int(index): stands for index, stands in found.items()}
