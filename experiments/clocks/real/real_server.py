"""Server of a real run: a process that takes in offers, holds meetings, answers, and writes the record of it all.

    python experiments/clocks/real/real_server.py TASK SOCKET

SOCKET is the number of a file that is open: the socket on which it listens. `processes.run` starts it.
"""

import math
import queue
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lone_process import begin_alone

begin_alone()  # before JAX is loaded

import jax  # noqa: E402
import machine_load  # noqa: E402
import numpy as np  # noqa: E402
from real_history import History  # noqa: E402
from real_task import Task, link_costs  # noqa: E402
from wire import Layout, Link, Message, WireError, read  # noqa: E402

from simulator.cluster import nanoseconds, seconds  # noqa: E402
from simulator.host.nodes import SERVER  # noqa: E402
from simulator.learning import OfferInfo, OfferMade, Server  # noqa: E402
from simulator.learning.model import tokens_per_step  # noqa: E402
from simulator.timeline import Answered, Arrival, Evaluation, Event, Finished, Round, ServerView, Update  # noqa: E402

_LONGEST_READY_S = 5.0  # between a connection and what it is


class _Offer(NamedTuple):
    arrival: Arrival
    made: OfferMade


class RealServer:
    """A server.

    One thread serves, as in the simulation; a link's threads only carry bytes. Times are those of the machine's
    monotonic clock, which all processes share.

    Args:
      task: of the run.
    """

    def __init__(self, task: Task):
        setup, config = task.setup, task.config
        self._task, self._config, self._layout = task, config, Layout(setup.params_like)
        self._policy, self._workers = config.synchronization, range(task.known.workers)
        self._averages, self._waits = config.synchronization.averages_group, config.schedule.waits
        self._window_ns = nanoseconds(config.synchronization.window_s)
        self._measured = None if config.measured is None else config.measured.new_choices()
        self._server = setup.exchanges.server(SERVER, jax.device_put(setup.start()))
        self._version = self._local_steps = 0
        self._next_evaluation = config.evaluate_every_steps or math.inf
        self._inbox: queue.SimpleQueue[tuple[int, Message | None]] = queue.SimpleQueue()
        self._waiting: deque[tuple[int, Message]] = deque()
        self._group: dict[int, list[int]] = {}  # workers to be answered, and the rounds whose offers they have made
        self._arrived: list[_Offer] = []  # to be averaged
        self._early: list[tuple[int, Message]] = []  # of workers that have an offer in the group
        self._opened_ns = math.inf
        self._given: list[dict[int, Any]] = [{} for _ in self._workers]  # parameters that each was sent, by version
        self._ready_ns = [0 for _ in self._workers]
        self._expected_ns = [math.inf for _ in self._workers]
        self._events: list[Event] = []
        self._evaluated: list[Any] = []  # parameters
        self._losses: dict[int, tuple[float, bool]] = {}  # of rounds, and whether their offers were finite
        self._packed: tuple[int, bytes] = -1, b""
        self._is_over = False

    def warm_up(self) -> None:
        """Compiles all that is going to be needed."""
        zeros = self._layout.unpack(bytes(self._layout.size))
        spare = self._task.setup.exchanges.server(SERVER, self._server.params)
        rounds = [Round(0, worker, 0, 0, 1, 0) for worker in self._workers]
        offers = [OfferMade(zeros, np.True_, (), ()) for _ in rounds]
        for _ in range(2):  # the second on what the first has made
            self._apply(spare, offers, rounds, [0 for _ in rounds], [zeros for _ in rounds])
        self._layout.pack(spare.params)

    def connect(self, listener: socket.socket) -> None:
        """Waits for all workers."""
        self._links: dict[int, Link] = {}
        while len(self._links) < len(self._workers):
            stream, _ = listener.accept()
            stream.settimeout(_LONGEST_READY_S)
            with stream.makefile("rb", buffering=0) as file:
                message = read(file, 0)
            worker = None if message is None else message.header.get("worker")
            if worker not in self._workers or worker in self._links:
                raise WireError(f"worker {worker!r} is none that is awaited")
            stream.settimeout(None)
            costs = link_costs(self._task.imposed.down, worker)

            def receive(message: Message | None, worker: int = worker) -> None:
                self._inbox.put((worker, message))

            self._links[worker] = Link(stream, *costs, self._layout.size, receive)
        listener.close()

    def serve(self) -> History:
        """Serves until the budget is used up; returns what has happened."""
        zero_ns, before = time.monotonic_ns(), machine_load.used()
        self._evaluate(zero_ns)
        for worker in self._workers:
            self._ready_ns[worker] = zero_ns
            self._dispatch(worker)
        while not self._is_over:
            if self._group and self._policy.closes(self._view()):
                self._close()
            elif self._waiting:
                self._process(*self._waiting.popleft())
            else:
                self._await()
        used = machine_load.between(before, machine_load.used())
        for link in self._links.values():
            link.send({"kind": "end"})
        return History(
            zero_ns, self._events, self._farewells(), self._losses, self._evaluated, self._server.params, used
        )

    # Messages.

    def _await(self) -> None:
        """Waits for messages, or until the window is over."""
        timeout_s = None
        if self._group and self._opened_ns + self._window_ns < math.inf:
            timeout_s = max(self._opened_ns + self._window_ns - time.monotonic_ns(), 0) / 1e9 + 1e-5
        try:
            worker, message = self._inbox.get(timeout=timeout_s)
        except queue.Empty:
            return
        while True:
            if message is None:
                raise ConnectionError(f"worker {worker} has gone")
            self._waiting.append((worker, message))
            if self._inbox.empty():
                return
            worker, message = self._inbox.get()

    def _farewells(self) -> dict[int, dict[str, Any]]:
        """Waits for what workers tell at the end; offers that still come are dropped."""
        found: dict[int, dict[str, Any]] = {}
        while len(found) < len(self._workers):
            worker, message = self._inbox.get()
            if message is not None and message.header["kind"] == "bye":
                found[worker] = message.header
            elif message is None and worker not in found:
                raise ConnectionError(f"worker {worker} has gone")
        return found

    def _process(self, worker: int, message: Message) -> None:
        """Takes in an offer."""
        header = message.header
        round = Round(*header["round"])
        if self._averages and worker in self._group:
            self._early.append((worker, message))
            return
        phases = (header[name] for name in ("ready", "pull_start", "compute_start", "push_start"))
        turn = round.id // len(self._workers) if self._averages and not self._waits else 0
        counts = header["pulls"], 1, header["base"], header["blocked"], turn, SERVER, header["answer"]
        arrival = Arrival(round, *phases, message.arrival_ns, *counts)
        self._losses[round.id] = header["loss"], header["finite"]
        self._ready_ns[worker], self._expected_ns[worker] = message.arrival_ns, math.inf
        if self._measured is not None:
            self._measured.observe(worker, seconds(header["push_start"] - header["compute_start"]) / round.steps)
        self._group.setdefault(worker, []).append(round.id)
        self._opened_ns = min(self._opened_ns, message.arrival_ns)
        offer = _Offer(arrival, OfferMade(self._layout.unpack(message.payload), np.bool_(header["finite"]), (), ()))
        if self._averages:
            self._arrived.append(offer)
        else:
            self._update([offer])

    # Groups.

    def _view(self) -> ServerView:
        """Returns what the policy may look at. Of workers that wait it is known when their offers can arrive."""
        now_ns = time.monotonic_ns()
        is_over = now_ns >= self._opened_ns + self._window_ns
        if self._waiting:
            next_ns = float(self._waiting[0][1].arrival_ns)
        elif self._waits:
            next_ns = max(min(self._expected_ns), now_ns)
        else:
            next_ns = math.inf if is_over else self._opened_ns
        outstanding = len(self._workers) - len(self._group)
        return ServerView(now_ns, self._opened_ns, len(self._group), outstanding, next_ns, window_over=is_over)

    def _close(self) -> None:
        """Answers the group."""
        group, arrived = self._group, self._arrived
        self._group, self._arrived, self._opened_ns = {}, [], math.inf
        if arrived:
            self._update(arrived)
        if self._is_over:
            return
        for worker, rounds in group.items():
            if self._waits:
                self._dispatch(worker)
            else:
                for round in rounds:
                    self._answer(worker, round)
        self._waiting.extendleft(reversed(self._early))
        self._early = []

    def _dispatch(self, worker: int) -> None:
        """Gives a worker a round, and a copy of the parameters."""
        known, now_ns = self._task.known, time.monotonic_ns()
        steps = self._config.steps[worker] if self._measured is None else self._measured.steps(worker)
        lasts_s = known.down.transfer_s(worker) + known.compute_s(worker, steps) + known.up.transfer_s(worker)
        self._expected_ns[worker] = now_ns + nanoseconds(lasts_s)
        self._send(worker, now_ns, {"kind": "round", "steps": steps, "ready": self._ready_ns[worker]})

    def _answer(self, worker: int, round: int) -> None:
        """Answers the offer of a round with the parameters."""
        now_ns = time.monotonic_ns()
        self._events.append(Answered(now_ns, SERVER, worker, round, 0, self._version))
        self._send(worker, now_ns, {"kind": "answer", "round": round})

    def _send(self, worker: int, now_ns: int, header: dict[str, Any]) -> None:
        if self._packed[0] != self._version:
            self._packed = self._version, self._layout.pack(self._server.params)
        self._given[worker][self._version] = self._server.params
        self._links[worker].send({**header, "sent": now_ns, "version": self._version}, self._packed[1], now_ns)

    # Updates.

    def _update(self, offers: Sequence[_Offer]) -> None:
        """Applies offers, ends the run if its budget is used up, and notes what is to be evaluated."""
        anchors = []
        for arrival, _ in offers:
            given = self._given[arrival.round.worker]
            anchors.append(given[arrival.base])
            for version in [each for each in given if each < arrival.base]:
                del given[version]
        staleness = [self._version - arrival.base for arrival, _ in offers]
        rounds = [arrival.round for arrival, _ in offers]
        self._apply(self._server, [made for _, made in offers], rounds, staleness, anchors)
        self._version += 1
        self._local_steps += sum(round.steps for round in rounds)
        now_ns, arrivals = time.monotonic_ns(), tuple(arrival for arrival, _ in offers)
        done = self._version, self._local_steps
        self._events.append(Update(now_ns, arrivals, tuple(staleness), "applied", *done, SERVER, 0, self._version))
        budgets = self._config.budget_updates or math.inf, self._config.budget_local_steps or math.inf
        self._is_over = any(there >= most for there, most in zip(done, budgets, strict=True))
        every = self._config.evaluate_every_steps
        if every is not None and self._local_steps >= self._next_evaluation:
            self._next_evaluation = (self._local_steps // every + 1) * every
            self._evaluate(now_ns)
        elif self._is_over:
            self._evaluate(now_ns)
        if self._is_over:
            self._events.append(Finished(now_ns, *done))

    def _apply(
        self,
        server: Server,
        made: Sequence[OfferMade],
        rounds: Sequence[Round],
        staleness: Sequence[int],
        anchors: Sequence[Any],
    ) -> None:
        """Applies offers at the end of rounds to a server's parameters, and waits for the result."""
        tokens = tokens_per_step(self._task.experiment)
        facts = zip(rounds, staleness, strict=True)
        infos = [OfferInfo(round.worker, stale, round.steps, round.steps * tokens) for round, stale in facts]
        if self._averages:
            server.meet(made, infos, None)
        else:
            for each, info, anchor in zip(made, infos, anchors, strict=True):
                server.apply(each.tree, info, anchor)
        jax.block_until_ready((server.params, server.state))

    def _evaluate(self, now_ns: int) -> None:
        """Notes the parameters, which are evaluated after the run: that keeps nobody waiting."""
        self._events.append(Evaluation(now_ns, self._version, self._local_steps))
        self._evaluated.append(self._server.params)


if __name__ == "__main__":
    file, number = sys.argv[1:]
    task = Task.read(Path(file))
    server = RealServer(task)
    server.warm_up()
    server.connect(socket.socket(fileno=int(number)))
    print("all workers are ready", flush=True)  # into the log of the process
    server.serve().write(task)
