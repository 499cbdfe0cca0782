"""Machines of a Ray cluster that simulate tasks, without a disk that they share.

The files that come into a task's folder there go through a queue, beside this process, into the points' folders here. A
task whose machine is lost is submitted again with the files received of it, and resumes from there. Neither is left to
Ray's generators: when one is cancelled, its checkpoint would not arrive any more, and Ray Client has none.
"""

import itertools
import os
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from simulator.experiment import ExperimentError, Problem
from simulator.host.text import visible
from simulator.sweep.engines import OnRay
from simulator.sweep.executors.attempt import Attempt, LostProcess
from simulator.sweep.executors.environment import local_cores, node_environment
from simulator.sweep.executors.ray_node import FileReceiver, files_of, pieces_of, program

_ANSWERS_WITHIN_S = 5.0
_SAID_AFTER_S = 5.0
_MOST_PIECES = 16  # in the queue; who sends more waits


class RayPool:
    """Machines of a Ray cluster. Use it as a context.

    Args:
      folder: that of all points, on this machine alone.
      options: the cluster, and the resources of a task.

    Raises:
      ExperimentError: Ray is not installed.
    """

    def __init__(self, folder: Path, options: OnRay):
        self._ray = _ray()
        self._folder, self._options = folder, options
        self._attempts: dict[Any, tuple[int, Attempt]] = {}  # by what Ray calls them, with their numbers
        self._receivers: dict[int, dict[str, FileReceiver]] = {}  # by attempt, by its points' folders
        self._numbers = itertools.count()
        self._program = program()
        self._environment = node_environment(options.cpus, options.gpus, options.memory)
        self._connected = False

    def __enter__(self) -> "RayPool":
        """Connects to the cluster.

        Raises:
          ExperimentError: there is none.
        """
        ray = self._ray
        if not ray.is_initialized():
            self._connect()
            self._connected = True
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        options = {"num_cpus": 0, "scheduling_strategy": here}
        self._pieces = ray.util.queue.Queue(_MOST_PIECES, options | {"max_concurrency": 1000})
        self._stop = ray.util.queue.Queue(1, options)
        cpus = local_cores() if self._options.cpus is None else self._options.cpus
        asked = {"num_cpus": cpus, "num_gpus": self._options.gpus, "max_retries": 0}
        if self._options.memory is not None:
            asked["memory"] = self._options.memory
        self._remote = ray.remote(_task_function()).options(**asked)
        self._warn_of_what_no_machine_has(asked)
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the tasks that are under way, and leaves the cluster."""
        for reference in self._attempts:
            self._ray.cancel(reference, force=True)
        for queue in (self._pieces, self._stop):
            queue.shutdown(force=True)
        if self._connected:
            self._ray.shutdown()

    def _connect(self) -> None:
        setting, address = "--address", self._options.address
        if address is None and os.environ.get("RAY_ADDRESS"):
            setting, address = "RAY_ADDRESS", os.environ["RAY_ADDRESS"]
        where = f" at {address}" if address else ""
        note = visible(f"tardigrad: waiting for the Ray cluster{where} to answer, up to three minutes\n")
        waiting = threading.Timer(_SAID_AFTER_S, sys.stderr.write, [note])
        waiting.daemon = True
        try:
            if address:
                _check_answer(address, self._ray.util.get_node_ip_address)
            waiting.start()
            init = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
            self._ray.init(address=address or "auto", **init)
        except (OSError, ValueError, RuntimeError) as error:
            message = f"no Ray cluster can be reached ({error}): start one with `ray start --head`, or give its address"
            raise ExperimentError([Problem(setting, message, address)]) from error
        finally:
            waiting.cancel()

    def start(self, waiting: deque[Attempt]) -> Attempt:
        """Submits an attempt, with the existing files of its points; the cluster finds room for it, or lets it wait."""
        attempt, number = waiting.popleft(), next(self._numbers)
        task = attempt.task
        files = [
            (path.relative_to(self._folder).as_posix(), [self._ray.put(piece) for piece in pieces_of(path)])
            for run in task.runs
            for path in files_of(self._folder / run.folder)
        ]
        sent = self._ray.put((task, self._environment))
        reference = self._remote.remote(self._program, [sent], files, number, self._pieces, self._stop)
        self._attempts[reference] = number, attempt
        self._receivers[number] = {
            run.folder: FileReceiver(self._folder / run.folder, int(run.experiment["checkpoint"]["keep"]))
            for run in task.runs
            if run.index not in task.known
        }
        return attempt

    def ended(self, timeout_s: float) -> Iterator[tuple[Attempt, LostProcess | None]]:
        """Takes the files that have come; yields the attempts that have ended, after all of their files."""
        ended, _ = self._ray.wait(list(self._attempts), timeout=timeout_s)
        while pieces := self._pieces.get_nowait_batch(self._pieces.qsize()):
            for number, point, path, content in pieces:
                if number in self._receivers:  # else of a machine that was given up
                    self._receivers[number][point].add(path, content)
        for reference in ended:
            number, attempt = self._attempts.pop(reference)
            del self._receivers[number]
            yield attempt, self._loss(reference)

    def ask_to_stop(self) -> None:
        """Asks the machines to stop, and takes tasks back that have not begun."""
        self._stop.put(True)
        for reference, (_, attempt) in self._attempts.items():
            if not attempt.has_begun:
                self._ray.cancel(reference)

    def _loss(self, reference: Any) -> LostProcess | None:
        errors = self._ray.exceptions
        try:
            self._ray.get(reference)
        except errors.RayTaskError as error:  # of the program
            return LostProcess(str(error.cause), is_final=True)
        except (errors.RuntimeEnvSetupError, errors.TaskUnschedulableError) as error:
            return LostProcess(f"the cluster cannot run it: {error}", is_final=True)
        except errors.RayError as error:
            first = (str(error).strip().splitlines() or [""])[0]
            return LostProcess(f"its machine or process was lost ({type(error).__name__}: {first})")
        return None

    def _warn_of_what_no_machine_has(self, asked: dict[str, Any]) -> None:
        """Warns if a task asks for more than any machine has: it waits for one that may join."""
        wanted = {"CPU": asked["num_cpus"], "GPU": asked["num_gpus"], "memory": asked.get("memory", 0)}
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if any(all(has.get(name, 0) >= amount for name, amount in wanted.items()) for has in machines):
            return
        text = ", ".join(f"{amount:g} {name}" for name, amount in wanted.items() if amount)
        sys.stderr.write(visible(f"tardigrad: no machine of the cluster has {text}: points wait until one joins\n"))


def _check_answer(address: str, own_host: Callable[[], str]) -> None:
    """Asks whether anybody answers at an address, for which Ray itself waits for minutes.

    Args:
      address: as Ray takes it; one without a port is left to Ray.
      own_host: returns Ray's name of this machine, for an address that lacks it.

    Raises:
      OSError: nobody does.
    """
    host, _, port = address.removeprefix("ray://").partition("/")[0].rpartition(":")
    if not host or not port.isdecimal():
        return
    host = host.strip("[]")
    hosts = [host, own_host()] if host in ("localhost", "127.0.0.1", "::1") else [host]
    for each in hosts:
        try:
            socket.create_connection((each, int(port)), _ANSWERS_WITHIN_S).close()
        except (OSError, OverflowError) as error:
            refused = error
        else:
            return
    raise OSError(f"nobody answers at {address}: {refused}") from refused


def _ray() -> Any:
    try:
        import ray
        import ray.exceptions
        import ray.util.queue
        import ray.util.scheduling_strategies
    except ImportError as error:
        message = "Ray is not installed: pip install 'tardigrad[ray]', here and on the cluster's machines"
        raise ExperimentError([Problem("--engine", message, "ray")]) from error
    return ray


def _task_function() -> Any:
    """Returns the function that Ray runs on a machine, sent by value, so that it can say what is missing there."""

    def simulate_points(
        program: dict[str, str], sent: list[Any], files: Any, number: int, pieces: Any, stop: Any
    ) -> None:
        import platform

        import ray

        try:
            from simulator.sweep.executors import ray_node
        except ImportError as error:
            message = f"machine {platform.node()} lacks this program ({error}): install tardigrad there, as it is here"
            raise RuntimeError(message) from error
        ray_node.check_program(program)
        task, environment = ray.get(sent[0])
        existing = ((path, map(ray.get, references)) for path, references in files)

        def send(point: str, path: str, content: bytes | None) -> None:
            pieces.put((number, point, path, content))

        ray_node.carry_out(task, environment, existing, send, lambda: stop.qsize() > 0)

    return simulate_points
