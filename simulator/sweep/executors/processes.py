"""Points simulated by several processes of this machine."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any

from simulator.experiment import SimulationError
from simulator.host.signals import HANG_UP, Interrupted, StopSignals
from simulator.sweep.executors.attempt import Ledger
from simulator.sweep.executors.environment import Surroundings
from simulator.sweep.executors.messages import Message, Ready, TaskDone
from simulator.sweep.folder import finished
from simulator.sweep.outcomes import Outcome, Watch
from simulator.sweep.plan import Task

_HEARD_EVERY_S = 0.2
_LEAVES_WITHIN_S = 10.0


class Processes:
    """Simulates tasks in processes of their own, which share nothing but the folder.

    A process that is killed is replaced, and its point resumes from its checkpoint.

    Args:
      folder: that of all points.
      surroundings: of each process; there are as many.
      watch: notified of the progress of points.
      stop: says when to stop.
      retries: number of times that a task whose process is gone is tried again.
    """

    def __init__(
        self, folder: Path, surroundings: Sequence[Surroundings], watch: Watch, stop: StopSignals, retries: int
    ):
        self._folder, self._surroundings, self._watch, self._stop = folder, surroundings, watch, stop
        self._retries = retries
        self._waiting: deque[Task] = deque()
        self._outcomes: deque[Outcome] = deque()
        self._workers: list[_Worker] = []
        self._stopping = False
        self._stood: list[str] = []

    def __enter__(self) -> "Processes":
        """Starts nothing yet: processes come with the tasks."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the processes; those that are at work are killed, and their checkpoints are kept."""
        for worker in self._workers:
            worker.leave()
        for worker in self._workers:
            worker.process.join(_LEAVES_WITHIN_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.connection.close()
        self._workers.clear()

    def submit(self, task: Task) -> None:
        """Adds a task."""
        self._waiting.append(task)

    def next(self) -> Outcome | None:
        """Waits until another point is over and returns its outcome, None if no task is left.

        Raises:
          Interrupted: it was asked to stop; points under way are checkpointed.
          SimulationError: processes cannot be started.
        """
        while not self._outcomes:
            self._ask_to_stop()
            self._give_out()
            busy = [worker for worker in self._workers if worker.ledger is not None]
            if not busy:
                if self._stopping:
                    self._interrupt()
                return None
            for connection in wait([worker.connection for worker in busy], timeout=_HEARD_EVERY_S):
                self._hear(next(worker for worker in busy if worker.connection is connection))
        return self._outcomes.popleft()

    def _ask_to_stop(self) -> None:
        if self._stopping or not self._stop():
            return
        self._stopping = True
        for worker in self._workers:
            if worker.ledger is not None:
                worker.process.terminate()  # it writes the state down and leaves

    def _interrupt(self) -> None:
        assert self._stop.received is not None
        stand = "; ".join(self._stood) or "nothing was under way"
        raise Interrupted(self._stop.received, f"{stand}: go on with --resume --out {self._folder}")

    def _give_out(self) -> None:
        """Gives waiting tasks to idle processes, if possible to one that has made the same start."""
        while self._waiting and not self._stopping:
            idle = [worker for worker in self._workers if worker.ledger is None]
            if not idle and len(self._workers) < len(self._surroundings):
                taken = {worker.place for worker in self._workers}
                place = next(place for place in range(len(self._surroundings)) if place not in taken)
                idle = [_Worker(self._folder, self._surroundings[place], place)]
                self._workers += idle
            if not idle:
                return
            made = ((task, worker) for worker in idle for task in self._waiting if task.start in worker.starts)
            task, worker = next(made, (self._waiting[0], idle[0]))
            self._waiting.remove(task)
            worker.begin(task, Ledger(task, self._watch))

    def _hear(self, worker: "_Worker") -> None:
        assert worker.ledger is not None
        try:
            message: Message = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            self._lost(worker)
            return
        if isinstance(message, Ready):
            worker.ready = True
        elif isinstance(message, TaskDone):
            worker.ledger = None
        else:
            self._note(worker.ledger, message)

    def _note(self, ledger: Ledger, message: Message) -> None:
        outcome = ledger.hear(message, lambda run: finished(self._folder / run.folder, run.experiment))
        if outcome is not None:
            self._outcomes.append(outcome)

    def _lost(self, worker: "_Worker") -> None:
        """Replaces a process that is gone, and retries its task."""
        self._workers.remove(worker)
        worker.process.join()
        worker.connection.close()
        ledger = worker.ledger
        assert ledger is not None
        if self._stopping:
            self._stood += ledger.stands()
            return
        if not worker.ready and (worker.process.exitcode or 0) > 0:
            raise SimulationError(
                f"a process for --jobs cannot be started (it {_ended(worker.process.exitcode)} at once): see its "
                "message above; a script that starts processes has to do so under `if __name__ == '__main__':`"
            )
        failure, again = ledger.lost(f"the process that simulated it {_ended(worker.process.exitcode)}", self._retries)
        if failure is not None:
            failure.write(self._folder)
            self._outcomes.append(failure)
        if again is not None:
            self._waiting.appendleft(again)


class _Worker:
    """A process, as its parent sees it.

    Attributes:
      process: it.
      connection: to it.
      place: index among the processes.
      ready: whether it has started.
      ledger: of its task, None where it has none.
      starts: those of the tasks that it has had.
    """

    def __init__(self, folder: Path, surroundings: Surroundings, place: int):
        context = multiprocessing.get_context("spawn")  # JAX has threads, which a fork would not have
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(theirs, folder, surroundings), daemon=True)
        with _terminal_ignored():
            self.process.start()
        theirs.close()
        self.place = place
        self.ready = False
        self.ledger: Ledger | None = None
        self.starts: set[str] = set()

    def begin(self, task: Task, ledger: Ledger) -> None:
        """Sends a task."""
        self.ledger = ledger
        self.starts.add(task.start)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it is gone, as will be heard
            self.connection.send(task)

    def leave(self) -> None:
        """Ends the process, at once if it is at work."""
        if self.ledger is not None:
            self.process.kill()
            return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(None)


def _ignore_terminal() -> dict[int, Any]:
    """Ignores Ctrl-C and hang-ups; returns the previous handlers."""
    return {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, HANG_UP) if number is not None}


@contextlib.contextmanager
def _terminal_ignored() -> Iterator[None]:
    """Makes processes that are started ignore a terminal's signals to all: this process forwards them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = _ignore_terminal()
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _ended(code: int | None) -> str:
    if code is not None and code < 0:
        killed = " (out of memory?)" if -code == signal.SIGKILL else ""
        return f"was ended by {signal.Signals(-code).name}{killed}"
    return f"ended with exit code {code}"


def _work(connection: Connection, folder: Path, surroundings: Surroundings) -> None:
    """Main function of such a process: simulates the tasks that it is given, until there are no more."""
    _ignore_terminal()
    surroundings.enter()
    from simulator.host.compile_cache import keep_compiled_programs
    from simulator.host.signals import Stopped
    from simulator.learning import Cache
    from simulator.sweep.executors.messages import Over, Stood, Teller
    from simulator.sweep.outcomes import Finished
    from simulator.sweep.task import TaskRunner

    keep_compiled_programs()
    parent = os.getppid()
    try:
        with StopSignals([signal.SIGTERM]) as stop:

            def stopping() -> bool:
                if os.getppid() != parent:  # killed: another one may go on in the folder
                    os._exit(1)
                return stop()

            begin = lambda run: Teller(run, connection.send)  # noqa: E731
            runner = TaskRunner(folder, Cache(memory=surroundings.memory), begin, stopping)
            connection.send(Ready())
            while (task := connection.recv()) is not None:
                try:
                    for outcome in runner.outcomes(task):
                        connection.send(Over(outcome.run.index) if isinstance(outcome, Finished) else outcome)
                except Stopped as stopped:
                    assert runner.current is not None
                    connection.send(Stood(runner.current.index, stopped.updates))
                    break
                connection.send(TaskDone())
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(1)  # nobody listens
    connection.close()
    os._exit(0)  # the interpreter cannot be torn down safely while JAX's threads still compute
