"""Live views: progress of preparing data, and of each simulation while it runs."""

import math
import threading
import time
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from simulator.host.format import byte_count, count, decimal, duration, perplexity, short_count
from simulator.progress.notebook import NotebookView
from simulator.progress.observer import Progress

_OTHERS = 26  # columns beside the name and the bar: percentage, time
_SHORTEST_NAME, _SHORTEST_BAR, _LONGEST_BAR = 8, 4, 20
_LINE_EVERY_S = 30


class _Time(ProgressColumn):
    """Time left, as the task's field `left_s` has it or else at the mean speed; or the time taken once done."""

    def render(self, task: Task) -> Text:
        if task.fields.get("failed"):
            return Text("failed", style="red")
        if task.finished:
            return Text(f"took {duration(task.finished_time)}")
        left_s = task.fields.get("left_s", task.time_remaining)
        return Text("" if left_s is None else f"{duration(left_s)} left")


class PreparationView:
    """Shows the progress of preparing data, once there is something to prepare. Use it as a context.

    Args:
      console: where to draw; where it is not a terminal, a line is written now and then.
    """

    def __init__(self, console: Console):
        self._console = console
        self._step = ""
        self._written_s = time.monotonic()
        self._progress = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[done]}"),
            _Time(),
            console=console,
            transient=True,
            get_time=time.monotonic,
            speed_estimate_period=math.inf,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> "PreparationView":
        """Starts the view; nothing is drawn yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Takes the bar away."""
        if self._task is not None:
            self._progress.stop()

    def __rich__(self) -> RenderableType:
        """Returns the drawing."""
        return self._progress.get_renderable()

    def __call__(self, step: str, done: int, total: int | None, unit: str) -> None:
        """Shows that `done` of `total` units of a step are done."""
        amount, now_s = _amount(done, total, unit), time.monotonic()
        if self._console.is_terminal:
            if step != self._step or self._task is None:
                self._task = self._added(step)
            self._progress.update(self._task, total=total, done=amount)
            # the mean speed starts at the first amount: what a stopped preparation has kept was quick
            self._progress.advance(self._task, done - self._progress.tasks[0].completed)
        elif now_s - self._written_s >= _LINE_EVERY_S:
            self._written_s = now_s
            self._console.print(f"data: {step} {amount}".rstrip(), soft_wrap=True)
        self._step = step

    def _added(self, step: str) -> TaskID:
        if self._task is None:
            self._progress.start()
        else:
            self._progress.remove_task(self._task)
        return self._progress.add_task(f"data: {step}", total=None, done="")


def _amount(done: int, total: int | None, unit: str) -> str:
    if not done and not total:
        return ""
    shown = [byte_count(each) if unit == "bytes" else count(each) for each in (done, total) if each is not None]
    return " of ".join(shown) + ("" if unit == "bytes" else f" {unit}")


class _Lines:
    """Writes a line now and then on how far a view's simulations are, from a thread of its own.

    So there are lines too while a program is compiled, or an update takes long.
    """

    def __init__(self, view: "LiveView", console: Console):
        self._view, self._console = view, console
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write, name="progress", daemon=True)

    def start(self) -> None:
        """Begins to write."""
        self._thread.start()

    def stop(self) -> None:
        """Writes no more."""
        self._over.set()
        self._thread.join()

    def _write(self) -> None:
        while not self._over.wait(_LINE_EVERY_S):
            self._console.print(f"{time.strftime('%H:%M:%S')} {self._view.line()}", soft_wrap=True, markup=False)
            self._console.file.flush()


class LiveView:
    """Shows a bar per simulation, the clock and the server of the running one, and all together. Use it as a context.

    Args:
      console: where to draw; where it is neither a terminal nor a notebook, a line is written now and then.
      runs: number of simulations.
      weight: cost of all of them, in the unit of each one's own; their number when absent.

    Attributes:
      detail: the line below the bars.
    """

    def __init__(self, console: Console, runs: int, weight: float | None = None):
        self._runs = runs
        self._weight = float(runs) if weight is None else weight
        self._over: list[RunView] = []
        self._shown: list[RunView] = []  # of those that are over
        self._failed = 0
        self._running: list[RunView] = []
        self._began_s: float | None = None  # when the first simulation advanced
        self._most_bars = max(2, console.height - 8)
        bar = min(_LONGEST_BAR, max(_SHORTEST_BAR, console.width - _OTHERS - _SHORTEST_NAME))
        name = max(_SHORTEST_NAME, console.width - _OTHERS - bar)
        self._progress = Bars(
            TextColumn(
                "{task.description}",
                table_column=Column(no_wrap=True, overflow="ellipsis", max_width=name),
            ),
            BarColumn(bar_width=bar),
            TextColumn("{task.percentage:>3.0f} %", table_column=Column(no_wrap=True)),
            _Time(table_column=Column(no_wrap=True)),
            console=console,
        )
        self.detail = ""
        self._live: Live | NotebookView | _Lines
        if console.is_jupyter:
            self._live = NotebookView(self, console.width)
        elif not console.is_terminal:
            self._live = _Lines(self, console)
        else:
            self._live = Live(get_renderable=self.__rich__, console=console, refresh_per_second=4)

    def __enter__(self) -> "LiveView":
        """Begins to draw."""
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves the last state on the screen."""
        self._running.clear()
        self.detail = ""
        self._live.stop()

    def add_run(self, name: str, weight: float = 1.0) -> "RunView":
        """Adds the line of the next simulation and returns its observer."""
        number = len(self._over) + len(self._running) + 1
        title = f"[{number}/{self._runs}] {name}".replace("[", "\\[")
        self.detail = "preparing"
        task = self._progress.add_task(title, total=1.0, left_s=None, failed=False)
        self._running.append(RunView(self, self._progress, task, weight, f"[{number}/{self._runs}] {name}"))
        return self._running[-1]

    def ended(self, run: "RunView", *, failed: bool = False) -> None:
        """Marks a simulation as over; of many lines the oldest are removed."""
        if run in self._running:
            self._running.remove(run)
            self._over.append(run)
            self._failed += failed
            self._shown.append(run)
        while self._shown and len(self._progress.tasks) > self._most_bars:
            self._shown.pop(0).hide()

    def lost(self, run: "RunView") -> None:
        """Removes the line of a simulation that starts again."""
        self._running.remove(run)
        run.hide()

    def changed(self, *, advanced: bool = False) -> None:
        """Redraws the view in a notebook, as terminals are by themselves; time counts since a simulation advanced."""
        if advanced:
            self._began_s = self._began_s or time.perf_counter()
        if isinstance(self._live, NotebookView):
            self._live.changed()

    def __rich__(self) -> Group:
        """Returns the drawing."""
        for run in self._running:
            run.refresh()
        lines = [self._progress.get_renderable()]
        if self.detail and len(self._running) <= 1:
            lines.append(Text(f"  {self.detail}", style="dim"))
        if self._runs > 1:
            lines.append(Text(f"  {self.overall()}"))
        return Group(*lines)

    def line(self) -> str:
        """Returns in a line what is running and how far it is."""
        running = list(self._running)
        for run in running:
            run.refresh()
        each = [f"{run.name} {100 * run.fraction:.0f} %" for run in running]
        detail = [self.detail] if self.detail and len(running) == 1 else []
        return " · ".join([*each, *detail, self.overall()])

    def overall(self) -> str:
        """Returns the number of simulations done, running and waiting, their speed and the time left for all."""
        done, running = len(self._over) - self._failed, len(self._running)
        waiting = self._runs - len(self._over) - running
        parts = [f"{done} of {self._runs} done"]
        parts += [f"{count_} {what}" for count_, what in ((running, "running"), (waiting, "waiting")) if count_]
        parts += [f"{self._failed} failed"] if self._failed else []
        speeds = [speed for run in self._running if (speed := run.tokens_per_s) is not None]
        parts += [f"{short_count(sum(speeds))} tokens/s"] if len(self._running) > 1 and speeds else []
        left_s = self._left_s()
        return " · ".join([*parts, *([] if left_s is None else [f"{duration(left_s)} left"])])

    def _left_s(self) -> float | None:
        """Returns the time left at the mean speed so far: work done before does not count."""
        gained = sum(run.gained() for run in (*self._over, *self._running))
        if self._began_s is None or gained <= 0 or len(self._over) == self._runs:
            return None
        done = sum(run.weight for run in self._over) + sum(run.weight * run.fraction for run in self._running)
        return (time.perf_counter() - self._began_s) * max(0.0, self._weight - done) / gained


class RunView:
    """Observer of one simulation that draws its line.

    Attributes:
      weight: cost of the simulation, in proportion to others.
      name: of the simulation, with its number.
      fraction: of its budget, from 0 to 1.
      tokens_per_s: its speed, None before it is known.
    """

    def __init__(self, view: LiveView, progress: Bars, task: TaskID, weight: float, name: str):
        self.weight, self.name = weight, name
        self.fraction = 0.0
        self.tokens_per_s: float | None = None
        self._view = view
        self._progress = progress
        self._task: TaskID | None = task
        self._first: tuple[float, Progress] | None = None  # with the host's time; before it lies compilation
        self._latest: tuple[float, Progress] | None = None

    def pretrained(self, steps: int, of: int, loss: float) -> None:
        """Shows the progress of pretraining."""
        self._update(completed=steps / of if steps < of else 0.0)
        self._view.detail = f"pretraining: {count(steps)} of {count(of)} steps · loss {decimal(loss, 3)}"
        self._view.changed()

    def advanced(self, progress: Progress) -> None:
        """Stores the progress; drawing it is left to the next refresh."""
        self._latest = time.perf_counter(), progress
        self._first = self._first or self._latest
        self.fraction = progress.fraction
        self._view.changed(advanced=True)

    def gained(self) -> float:
        """Returns the part of its weight that was simulated here, since its first update."""
        return 0.0 if self._first is None else self.weight * (self.fraction - self._first[1].fraction)

    def refresh(self) -> None:
        """Shows the clock, the server and the speed."""
        if self._first is None or self._latest is None:
            return
        (first_s, first), (now_s, latest) = self._first, self._latest
        elapsed_s, done = now_s - first_s, latest.fraction - first.fraction
        self.tokens_per_s = (latest.tokens - first.tokens) / elapsed_s if elapsed_s > 0 else None
        left_s = elapsed_s / done * (1 - latest.fraction) if done > 0 else None
        self._update(completed=latest.fraction, left_s=left_s)
        self._view.detail = (
            f"clock {duration(latest.simulated_s)} · {count(latest.server_updates)} updates · "
            f"staleness {decimal(latest.staleness, 1)} · loss {decimal(latest.train_loss, 3)} · "
            f"perplexity {perplexity(latest.perplexity)} · {short_count(self.tokens_per_s)} tokens/s"
        )

    def finished(self) -> None:
        """Marks the line as done."""
        self.fraction = 1.0
        self._latest = None
        self._update(completed=1.0, left_s=None)
        self._view.ended(self)

    def failed(self) -> None:
        """Marks the line as failed."""
        self._latest = None
        self._update(left_s=None, failed=True)
        self._view.ended(self, failed=True)

    def lost(self) -> None:
        """Removes the line: the simulation starts again."""
        self._view.lost(self)

    def hide(self) -> None:
        """Removes the line."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None

    def _update(self, **values: Any) -> None:
        if self._task is not None:
            self._progress.update(self._task, **values)
