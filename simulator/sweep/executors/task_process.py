"""Work of a process that simulates tasks for another one.

What uses JAX is imported when a task is there, and the environment that it came with is set.
"""

import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.host.compile_cache import keep_compiled_programs
from simulator.host.signals import HANG_UP, Stopped, StopSignals
from simulator.sweep.executors.environment import ProcessEnvironment
from simulator.sweep.plan import Task

if TYPE_CHECKING:
    from simulator.learning import Cache


def simulate(task: Task, folder: Path, environment: ProcessEnvironment, stop: Callable[[], bool]) -> bool:
    """Simulates the points of a task into their folders, where their outcomes and their progress are found.

    Args:
      task: the points.
      folder: that of all.
      environment: of this process.
      stop: asked after every event whether to checkpoint and stop.

    Returns:
      Whether it has come to the end: it was not asked to stop.

    Raises:
      ExperimentError: a plugin cannot be run.
      RuntimeError: this process computes with JAX already, with other settings.
      OSError: a failure cannot be saved.
    """
    environment.enter()
    from simulator.sweep.task import simulate_task

    keep_compiled_programs()
    try:
        for _ in simulate_task(task, folder, _cache_of(environment.memory), stop):
            pass
    except Stopped:
        return False
    return True


@functools.cache
def _cache_of(memory: float) -> "Cache":
    """Returns what all tasks of this process share."""
    from simulator.learning import Cache

    return Cache(memory=memory)


def simulate_until_terminated(task: Task, folder: Path, environment: ProcessEnvironment) -> bool:
    """Simulates like `simulate`, until this process gets a SIGTERM."""
    with StopSignals([signal.SIGTERM]) as stop:
        return simulate(task, folder, environment, stop)


def depend_on_parent() -> None:
    """Leaves signals of a terminal to the process that has started this one, and makes this one end with it."""
    ignore_terminal()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # another process may go on in the folder


def ignore_terminal() -> dict[int, Any]:
    """Ignores Ctrl-C and hang-ups; returns the previous handlers."""
    return {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, HANG_UP) if number is not None}
