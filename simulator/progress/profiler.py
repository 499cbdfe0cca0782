"""A trace of what the host and its devices do during a few rounds, made by JAX's profiler."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import jax

from simulator.host.files import refusal
from simulator.progress.observer import Observer, Progress

SKIPPED = 8  # server updates, in which programs are compiled; fewer in a simulation that is over soon
TRACED = 8  # server updates, or more until the model has been evaluated
_MOST_TRACED = 64
_SKIPPED_FRACTION = 0.25  # of the budget


class Profile:
    """Traces some server updates of the first simulation that it is given. Use it as a context.

    The trace has the phases by name: what the host does, in every trace (dispatch, gather, round, outer update,
    evaluation, fetching); what is compiled into a round (gather, forward and backward, optimizer), as the names of the
    operations' scopes, which XProf shows on every device and a timeline on accelerators.

    Args:
      folder: to write the trace to.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._label = ""
        self._observer: Observer | None = None
        self._first: int | None = None  # server updates before the trace, once it has begun
        self._last: int | None = None  # once it is written
        self._latest = 0  # server updates so far
        self._perplexity = math.nan
        self._over = False

    def __enter__(self) -> "Profile":
        """Starts; nothing is traced yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the trace if the simulation was over before."""
        self._end()

    def of(self, label: str, observer: Observer) -> Observer:
        """Returns the observer of a simulation, in place of its own: this for the first, that for any other."""
        if self._label:
            self._end()
            return observer
        self._label, self._observer = label, observer
        return self

    def pretrained(self, steps: int, of: int, loss: float) -> None:
        """Passes on the progress of pretraining."""
        assert self._observer is not None
        self._observer.pretrained(steps, of, loss)

    def advanced(self, progress: Progress) -> None:
        """Begins and ends the trace between two server updates."""
        assert self._observer is not None
        self._observer.advanced(progress)
        self._latest = progress.server_updates
        if self._over:
            return
        if self._first is None:
            if self._latest >= SKIPPED or progress.fraction >= _SKIPPED_FRACTION:
                self._begin(progress)
        elif self._latest - self._first >= (TRACED if self._evaluated(progress) else _MOST_TRACED):
            self._end()

    def report(self) -> str:
        """Returns the trace's folder and how to look at it."""
        if self._first is not None and self._last is None:
            return f"no profile: it could not be written to {self._folder}"
        if self._first is None or self._last is None:
            ended = f"{self._label} was over too soon" if self._label else "nothing was left to simulate"
            return f"no profile: {ended}"
        timelines = sorted(self._folder.glob("plugins/profile/*/*.trace.json.gz"))
        return (
            f"profile of server updates {self._first + 1:,} to {self._last:,} of {self._label}: open {timelines[-1]} "
            f"at https://ui.perfetto.dev, or `xprof --logdir {self._folder}` (or tensorboard with its profile plugin)"
        )

    def _evaluated(self, progress: Progress) -> bool:
        """Returns whether the model was evaluated since the trace began."""
        return not math.isnan(progress.perplexity) and progress.perplexity != self._perplexity

    def _begin(self, progress: Progress) -> None:
        self._first, self._perplexity = self._latest, progress.perplexity
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # every Python call would hide the phases
        with self._written():
            jax.profiler.start_trace(self._folder, profiler_options=options)

    def _end(self) -> None:
        under_way, self._over = self._first is not None and not self._over, True
        if under_way:
            with self._written():
                jax.profiler.stop_trace()  # type: ignore[no-untyped-call]
            self._last = self._latest

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        """Raises the error of the operating system, naming the folder, if the trace cannot be written."""
        try:
            yield
        except jax.errors.JaxRuntimeError as error:
            raise refusal(error, self._folder) from error
