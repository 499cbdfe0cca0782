"""The live view of `tardigrad run`: where each simulation stands while it runs."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from simulator import book
from simulator.report.format import count, decimal, duration, perplexity, short_count


class _TimeLeft(ProgressColumn):
    """Time left at the mean speed since the first update, or the time taken once done."""

    def render(self, task: Task) -> Text:
        if task.finished:
            return Text(f"took {duration(task.finished_time)}")
        left = task.fields["left_s"]
        return Text(f"{duration(left)} left" if left is not None else "")


class LiveView:
    """Shows one line per simulation; silent where the console is not a terminal. Use it as a context.

    Args:
      console: where to draw.
      runs: how many simulations there will be.
    """

    def __init__(self, console: Console, runs: int):
        self._runs = runs
        self._started = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[status]}"),
            _TimeLeft(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            refresh_per_second=4,
        )

    def __enter__(self) -> "LiveView":
        """Begins to draw."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves the last state on the screen."""
        self._progress.stop()

    def begin(self, name: str) -> "RunView":
        """Adds the line of the next simulation and returns its observer."""
        self._started += 1
        title = f"[{self._started}/{self._runs}] {name}".replace("[", "\\[")
        task = self._progress.add_task(title, total=1.0, status="preparing", left_s=None)
        return RunView(self._progress, task)


class RunView:
    """Observer of one simulation that draws its line."""

    def __init__(self, progress: Progress, task: TaskID):
        self._progress = progress
        self._task = task
        self._first: tuple[float, int, float] | None = None  # host time, tokens and fraction at the first update

    def pretrained(self, steps: int, of: int, loss: float) -> None:
        """Shows how far pretraining is."""
        self._progress.update(
            self._task,
            completed=steps / of if steps < of else 0.0,
            status=f"pretraining {count(steps)}/{count(of)} steps, loss {decimal(loss, 3)}",
        )

    def advanced(self, progress: book.Progress) -> None:
        """Shows the clock, the server and the speed."""
        now = time.perf_counter()
        if self._first is None:  # before it lies compilation, which would spoil the speed
            self._first = now, progress.tokens, progress.fraction
        first_s, first_tokens, first_fraction = self._first
        elapsed_s, done = now - first_s, progress.fraction - first_fraction
        speed = (progress.tokens - first_tokens) / elapsed_s if elapsed_s > 0 else None
        self._progress.update(
            self._task,
            completed=progress.fraction,
            left_s=elapsed_s / done * (1 - progress.fraction) if done > 0 else None,
            status=(
                f"clock {duration(progress.simulated_s)} · {count(progress.server_updates)} updates · "
                f"staleness {decimal(progress.staleness, 1)} · loss {decimal(progress.train_loss, 3)} · "
                f"ppl {perplexity(progress.perplexity)} · {short_count(speed)} tokens/s"
            ),
        )

    def finished(self) -> None:
        """Marks the line as done."""
        self._progress.update(self._task, completed=1.0, left_s=None)
