"""Points simulated by the machines of a Ray cluster, without a disk that they share.

A mailbox, an actor beside this process, receives the messages of tasks: progress, checkpoints as they are written,
finished records. A task whose machine is lost is submitted again with the files received of it, and resumes from there.
"""

import dataclasses
import os
import pickle
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from simulator.experiment import ExperimentError, Problem
from simulator.host.signals import Interrupted, StopSignals
from simulator.host.text import visible
from simulator.sweep.executors.attempt import Ledger
from simulator.sweep.executors.environment import local_cores, node_surroundings
from simulator.sweep.executors.messages import Message, Piece
from simulator.sweep.executors.ray_node import Inbox, files_of, program
from simulator.sweep.folder import finished
from simulator.sweep.outcomes import Failure, Outcome, Watch
from simulator.sweep.plan import PlannedRun, Task

if TYPE_CHECKING:
    from simulator.sweep.sweep import OnRay

_HEARD_EVERY_S = 0.2
_ANSWERS_WITHIN_S = 5.0
_SAID_AFTER_S = 5.0
_MOST_BYTES = 2**28  # in the mailbox; who sends more waits


@dataclasses.dataclass
class _Attempt:
    """A task that was submitted.

    Attributes:
      ledger: of its messages.
      inboxes: of its points' files.
      cancelled: whether it was taken back before it began.
    """

    ledger: Ledger
    inboxes: dict[int, Inbox]
    cancelled: bool = False


class RayExecutor:
    """Simulates tasks on a Ray cluster. Use it as a context.

    Args:
      folder: that of all points, on this machine alone.
      options: the cluster, and the resources of a task.
      watch: notified of the progress of points.
      stop: says when to stop.

    Raises:
      ExperimentError: Ray is not installed.
    """

    def __init__(self, folder: Path, options: "OnRay", watch: Watch, stop: StopSignals):
        self._ray = _ray()
        self._folder, self._options, self._watch, self._stop = folder, options, watch, stop
        self._attempts: dict[Any, _Attempt] = {}  # by what Ray calls them
        self._numbers: dict[int, Any] = {}
        self._outcomes: deque[Outcome] = deque()
        self._program = program()
        self._surroundings = node_surroundings(options.cpus, options.gpus, options.memory)
        self._stopping = False
        self._stood: list[str] = []
        self._connected = False

    def __enter__(self) -> "RayExecutor":
        """Connects to the cluster.

        Raises:
          ExperimentError: there is none.
        """
        ray = self._ray
        if not ray.is_initialized():
            self._connect()
            self._connected = True
        options = {"num_cpus": 0, "max_concurrency": 1000, "scheduling_strategy": self._here()}
        self._mailbox = ray.remote(_mailbox_class()).options(**options).remote(_MOST_BYTES)
        cpus = local_cores() if self._options.cpus is None else self._options.cpus
        asked = {"num_cpus": cpus, "num_gpus": self._options.gpus, "max_retries": 0}
        if self._options.memory is not None:
            asked["memory"] = self._options.memory
        self._remote = ray.remote(_task_function()).options(**asked)
        self._warn_of_what_no_machine_has(asked)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the tasks that are under way, and leaves the cluster."""
        for reference in self._attempts:
            self._ray.cancel(reference, force=True)
        self._ray.kill(self._mailbox)
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

    def submit(self, task: Task) -> None:
        """Adds a task, with the existing files of its points."""
        number = len(self._numbers)
        files = [
            (index, what, path, [self._ray.put(content) for content in pieces])
            for run in task.runs
            for index, what, path, pieces in files_of(run.index, self._folder / run.folder)
        ]
        sent = pickle.dumps((task, self._surroundings))
        reference = self._remote.remote(self._program, sent, files, self._mailbox, number)
        inboxes = {run.index: self._inbox(run) for run in task.runs if run.index not in task.known}
        self._attempts[reference] = _Attempt(Ledger(task, self._watch), inboxes)
        self._numbers[number] = reference

    def next(self) -> Outcome | None:
        """Waits until another point is over and returns its outcome, None if no task is left.

        Raises:
          Interrupted: it was asked to stop; points under way are checkpointed.
        """
        while not self._outcomes:
            self._ask_to_stop()
            if not self._attempts:
                if self._stopping:
                    self._interrupt()
                return None
            ended, _ = self._ray.wait(list(self._attempts), num_returns=len(self._attempts), timeout=0)
            wait_s = 0.0 if ended else _HEARD_EVERY_S
            for number, message in self._ray.get(self._mailbox.take.remote(wait_s)):
                self._hear(self._attempts.get(self._numbers[number]), pickle.loads(message))
            for reference in ended:  # after all of their messages
                self._ended(reference)
        return self._outcomes.popleft()

    def _here(self) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(self._ray.get_runtime_context().get_node_id(), soft=False)

    def _inbox(self, run: PlannedRun) -> Inbox:
        return Inbox(self._folder / run.folder, int(run.experiment["checkpoint"]["keep"]))

    def _ask_to_stop(self) -> None:
        if self._stopping or not self._stop():
            return
        self._stopping = True
        self._ray.get(self._mailbox.stop.remote())
        for reference, attempt in self._attempts.items():
            if not attempt.ledger.begun:
                attempt.cancelled = True
                self._ray.cancel(reference)

    def _interrupt(self) -> None:
        assert self._stop.received is not None
        stand = "; ".join(self._stood) or "nothing was under way"
        raise Interrupted(self._stop.received, f"{stand}: go on with --resume --out {self._folder}")

    def _hear(self, attempt: _Attempt | None, message: Message) -> None:
        if attempt is None:  # of a machine that was given up
            return
        if isinstance(message, Piece):
            attempt.inboxes[message.index].add(message)
            return
        outcome = attempt.ledger.hear(message, lambda run: finished(self._folder / run.folder, run.experiment))
        if isinstance(outcome, Failure):
            outcome.write(self._folder)
        if outcome is not None:
            self._outcomes.append(outcome)

    def _ended(self, reference: Any) -> None:
        """Follows the end of a task; one whose machine is lost is submitted again."""
        errors = self._ray.exceptions
        attempt = self._attempts.pop(reference)
        why, retries, hopeless = "the process that simulated it ended without a word", 0, True
        try:
            self._ray.get(reference)
        except errors.RayTaskError as error:  # of the program, which would only come again
            why = str(error.cause)
        except (errors.RuntimeEnvSetupError, errors.TaskUnschedulableError) as error:
            why = f"the cluster cannot run it: {error}"
        except errors.RayError as error:
            first = (str(error).strip().splitlines() or [""])[0]
            why = f"its machine or process was lost ({type(error).__name__}: {first})"
            retries, hopeless = self._options.retries, False
        if self._stopping:
            self._stood += attempt.ledger.stands()
            return
        failure, again = attempt.ledger.lost(why, retries)
        while failure is not None:
            failure.write(self._folder)
            self._outcomes.append(failure)
            if again is None or not hopeless:
                break
            failure, again = Ledger(again, self._watch).lost(why, 0)  # the others of the task are no better off
        if again is not None:
            self.submit(again)

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
    except ImportError as error:
        message = "Ray is not installed: pip install 'tardigrad[ray]', here and on the cluster's machines"
        raise ExperimentError([Problem("--engine", message, "ray")]) from error
    return ray


def _mailbox_class() -> type:
    """Returns the actor's class. Ray sends it by value, so that the actor's process needs nothing of this program."""

    class Mailbox:
        """Takes messages until they are fetched; answers senders whether to stop."""

        def __init__(self, most_bytes: int) -> None:
            import asyncio

            self._most_bytes, self._bytes = most_bytes, 0
            self._messages: list[tuple[int, bytes]] = []
            self._changed = asyncio.Condition()
            self._stopping = False

        async def put(self, number: int, message: bytes) -> bool:
            async with self._changed:
                await self._changed.wait_for(lambda: self._bytes < self._most_bytes)
                self._messages.append((number, message))
                self._bytes += len(message)
                self._changed.notify_all()
            return self._stopping

        async def take(self, wait_s: float) -> list[tuple[int, bytes]]:
            import asyncio

            async with self._changed:
                if not self._messages and wait_s:
                    try:
                        await asyncio.wait_for(self._changed.wait_for(lambda: bool(self._messages)), wait_s)
                    except TimeoutError:
                        return []
                taken, self._messages, self._bytes = self._messages, [], 0
                self._changed.notify_all()
            return taken

        async def stop(self) -> None:
            self._stopping = True

    return Mailbox


def _task_function() -> Any:
    """Returns the function that Ray runs on a machine, sent by value, so that it can say what is missing there."""

    def simulate_points(program: dict[str, str], sent: bytes, files: Any, mailbox: Any, number: int) -> None:
        import pickle
        import platform

        import ray

        try:
            from simulator.sweep.executors import ray_node
        except ImportError as error:
            message = f"machine {platform.node()} lacks this program ({error}): install tardigrad there, as it is here"
            raise RuntimeError(message) from error
        ray_node.check_program(program)
        task, surroundings = pickle.loads(sent)

        def fetched(references: Any) -> Any:
            return (ray.get(reference) for reference in references)

        def send(message: bytes) -> bool:
            return bool(ray.get(mailbox.put.remote(number, message)))

        given = ((index, what, path, fetched(references)) for index, what, path, references in files)
        ray_node.carry_out(task, surroundings, given, send)

    return simulate_points
