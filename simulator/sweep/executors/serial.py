"""Points simulated one after another in this process."""

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from simulator.host.signals import Interrupted, Stopped, StopSignals
from simulator.host.text import plural
from simulator.sweep.outcomes import Outcome, Watch
from simulator.sweep.plan import Task
from simulator.sweep.task import TaskRunner

if TYPE_CHECKING:
    from simulator.learning import Cache
    from simulator.progress.profiler import Profile
    from simulator.progress.trackers import Tracker
    from simulator.simulation.simulate import TrainerKind


class InProcess:
    """Simulates tasks in this process.

    Args:
      folder: that of all points.
      cache: shares data, compiled programs and pretraining between them.
      watch: notified of their progress.
      stop: says when to stop.
      trainer: of all points; each one's own choice when None.
      keep_going: whether a point that fails is reported; else its error is raised.
      profile: traces the first point that is trained.
      trackers: notified of every point that is simulated.
    """

    def __init__(
        self,
        folder: Path,
        cache: "Cache",
        watch: Watch,
        stop: StopSignals,
        *,
        trainer: "TrainerKind | None" = None,
        keep_going: bool = True,
        profile: "Profile | None" = None,
        trackers: "Sequence[Tracker]" = (),
    ):
        self._folder, self._stop = folder, stop
        self._rest = "what is not finished is not kept" if trainer == "null" else f"go on with --resume --out {folder}"
        self._waiting: deque[Task] = deque()
        self._under_way: Iterator[Outcome] = iter(())

        self._runner = TaskRunner(
            folder,
            cache,
            watch.begin,
            stop,
            trainer=trainer,
            keep_going=keep_going,
            profile=profile,
            trackers=trackers,
        )

    def __enter__(self) -> "InProcess":
        """Does nothing."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Does nothing."""

    def submit(self, task: Task) -> None:
        """Adds a task."""
        self._waiting.append(task)

    def next(self) -> Outcome | None:
        """Simulates the next point and returns its outcome, None if no task is left.

        Raises:
          Interrupted: it was asked to stop; the point is checkpointed.
        """
        try:
            while (outcome := next(self._under_way, None)) is None and self._waiting:
                self._under_way = self._runner.outcomes(self._waiting.popleft())
        except Stopped as stopped:
            assert self._stop.received is not None
            assert self._runner.current is not None
            stands = f"{self._runner.current.label} stands after {plural(stopped.updates, 'server update')}"
            raise Interrupted(self._stop.received, f"{stands}: {self._rest}") from stopped
        return outcome
