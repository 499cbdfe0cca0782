"""Processes of this machine that simulate tasks."""

import concurrent.futures
import contextlib
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any

from simulator.experiment import SimulationError
from simulator.sweep.executors.attempt import Attempt, LostProcess
from simulator.sweep.executors.environment import ProcessEnvironment
from simulator.sweep.executors.task_process import depend_on_parent, ignore_terminal, simulate_until_terminated


class ProcessPool:
    """Processes that share nothing but the folder; one that is gone is replaced. Use it as a context.

    Args:
      folder: that of all points.
      environments: of each process; there are as many.
    """

    def __init__(self, folder: Path, environments: Sequence[ProcessEnvironment]):
        self._folder, self._free = folder, list(environments)
        self._idle: list[_Process] = []
        self._busy: dict[Future[bool], tuple[_Process, Attempt]] = {}

    def __enter__(self) -> "ProcessPool":
        """Starts nothing yet: processes come with the tasks."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kills the processes; the checkpoints of those that are at work are kept."""
        for process in [*self._idle, *(process for process, _ in self._busy.values())]:
            process.kill()

    def start(self, waiting: deque[Attempt]) -> Attempt | None:
        """Gives an attempt to an idle process, if possible to one that has made the same start."""
        if not self._idle and self._free:
            self._idle.append(_Process(self._free.pop(0)))
        if not self._idle:
            return None
        made = ((each, process) for process in self._idle for each in waiting if each.task.start in process.starts)
        attempt, process = next(made, (waiting[0], self._idle[0]))
        waiting.remove(attempt)
        self._idle.remove(process)
        self._busy[process.simulate(attempt, self._folder)] = process, attempt
        return attempt

    def ended(self, timeout_s: float) -> Iterator[tuple[Attempt, LostProcess | None]]:
        """Yields the attempts that have ended.

        Raises:
          SimulationError: processes cannot be started.
          Exception: of a process, where it is none of a point's.
        """
        done, _ = concurrent.futures.wait(self._busy, timeout_s, concurrent.futures.FIRST_COMPLETED)
        for future in done:
            process, attempt = self._busy.pop(future)
            error = future.exception()
            if isinstance(error, BrokenProcessPool):
                self._free.append(process.environment)
                yield attempt, LostProcess(f"the process that simulated it {process.end()}")
                continue
            self._idle.append(process)
            if isinstance(error, OSError):  # such as a disk on which a point's error cannot be written
                yield attempt, LostProcess(str(error), is_final=True)
                continue
            if error is not None:
                raise error
            if not future.result():  # somebody has told it to end
                self._idle.remove(process)
                process.kill()
                self._free.append(process.environment)
            yield attempt, None

    def ask_to_stop(self) -> None:
        """Makes busy processes write their states down and end their tasks."""
        for process, _ in self._busy.values():
            process.terminate()


class _Context(SpawnContext):  # spawned, since JAX has threads, which a fork would not have
    """Context that gives away the process that a pool starts in it."""

    process: SpawnProcess

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802
        """Makes a process."""
        self.process = SpawnProcess(*args, **kwargs)
        return self.process


class _Process:
    """A pool of one process: so each has its own environment, and one that is gone takes no other's task with it.

    Attributes:
      environment: of the process.
      starts: those of the tasks that it has had.
    """

    def __init__(self, environment: ProcessEnvironment):
        self.environment = environment
        self.starts: set[str] = set()
        self._context = _Context()
        self._pool = ProcessPoolExecutor(1, self._context, depend_on_parent)
        with _terminal_ignored():
            self._started = self._pool.submit(os.getpid)

    def simulate(self, attempt: Attempt, folder: Path) -> Future[bool]:
        self.starts.add(attempt.task.start)
        try:
            return self._pool.submit(simulate_until_terminated, attempt.task, folder, self.environment)
        except BrokenProcessPool as error:  # it went while it was idle
            future: Future[bool] = Future()
            future.set_exception(error)
            return future

    def terminate(self) -> None:
        self._context.process.terminate()

    def kill(self) -> None:
        self._context.process.kill()  # which an idle one does not mind; JAX's threads could not be ended otherwise
        self._pool.shutdown()

    def end(self) -> str:
        """Returns how the process ended, which is gone.

        Raises:
          SimulationError: it has never worked.
        """
        self._pool.shutdown()
        code = self._context.process.exitcode
        text = f"ended with exit code {code}"
        if code is not None and code < 0:
            killed = " (out of memory?)" if -code == signal.SIGKILL else ""
            text = f"was ended by {signal.Signals(-code).name}{killed}"
        elif self._started.exception() is not None:
            raise SimulationError(
                f"a process for --jobs cannot be started (it {text} at once): see its message above; "
                "a script that starts processes has to do so under `if __name__ == '__main__':`"
            )
        return text


@contextlib.contextmanager
def _terminal_ignored() -> Iterator[None]:
    """Makes processes that are started ignore a terminal's signals to all: this process forwards them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = ignore_terminal()
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
