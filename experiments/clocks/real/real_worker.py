"""Worker of a real run: a process that trains, no faster than its device would, and talks with the server.

    python experiments/clocks/real/real_worker.py TASK WORKER PORT

`processes.run` starts it.
"""

import queue
import socket
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from lone_process import begin_alone

begin_alone()  # before JAX is loaded

import jax  # noqa: E402
import numpy as np  # noqa: E402
from real_task import Task, link_costs  # noqa: E402
from wire import Layout, Link, Message, sleep_until  # noqa: E402

from simulator.cluster import nanoseconds  # noqa: E402
from simulator.learning import Stretch  # noqa: E402
from simulator.timeline import Round  # noqa: E402


class OverError(Exception):
    """The run is over."""


class RealWorker:
    """A worker.

    Its local steps are computed one by one, and each lasts as long as the device that it acts takes for one. Times are
    those of the machine's monotonic clock, which all processes share.

    Args:
      task: of the run.
      index: its number.
    """

    def __init__(self, task: Task, index: int):
        setup, config = task.setup, task.config
        self._task, self._index = task, index
        self._programs, self._data, self._exchange = setup.programs(1), setup.round_data(), setup.exchanges.exchange
        self._layout, self._schedule = Layout(setup.params_like), config.schedule
        self._local_steps = config.steps[index]
        self._step_ns = nanoseconds(float(task.imposed.step_s[index]))
        self._shards = config.shard_choice.new_choices([0] * config.shards, np.random.default_rng(0))
        self._inner: Any = None  # state of the inner optimizer
        self._losses: list[float] = []  # of the round's steps
        self._inbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._over = threading.Event()
        self._key = jax.random.key(0)  # nothing that is built draws
        self._rounds = self._steps = self._late = self._computed_ns = 0
        self._began_s = 0.0  # of the process's time on a core
        self._log: list[list[Any]] = []

    def warm_up(self) -> None:
        """Compiles and loads all that is going to be needed."""
        params = self._layout.unpack(bytes(self._layout.size))
        state = self._programs.recipe.initial_state(params)
        for _ in range(3):
            params, state, _ = self._step(Round(0, self._index, self._index, 0, 1, 0), 0, params, state)
        sent = self._offer_of(params, params)
        if not self._schedule.waits:
            jax.block_until_ready(self._exchange.merge(params, params, sent, params, self._merge_state(params)))
        self._layout.pack(sent.tree)

    def connect(self, port: int) -> None:
        """Connects with the server, which begins when all workers have."""
        stream = socket.create_connection(("127.0.0.1", port))
        costs = link_costs(self._task.imposed.up, self._index)
        self._link = Link(stream, *costs, self._layout.size, self._receive)
        self._link.send({"kind": "ready", "worker": self._index})

    def live(self) -> None:
        """Does rounds until the run is over, and then tells what it has done."""
        try:
            if self._schedule.waits:
                self._wait_for_rounds()
            else:
                self._go_on()
        except OverError:
            counts = {"steps": self._steps, "late_steps": self._late, "computed_s": self._computed_ns / 1e9}
            cpu_s = time.process_time() - self._began_s
            self._link.send({"kind": "bye", "log": self._log, "cpu_s": cpu_s, **counts})
            self._link.finish()

    def _receive(self, message: Message | None) -> None:
        if message is None or message.header["kind"] == "end":
            self._over.set()
        self._inbox.put(message)

    def _next(self) -> Message:
        """Returns the next message, waiting for it.

        Raises:
          OverError: the run is over.
          ConnectionError: the server has gone.
        """
        message = self._inbox.get()
        if message is None:
            raise ConnectionError("the server has gone")
        if message.header["kind"] == "end":
            raise OverError
        return message

    # Rounds.

    def _wait_for_rounds(self) -> None:
        """Does the rounds that it is given, each from a copy of the server's parameters."""
        while True:
            params, round, times = self._given()
            end = self._train(round, params, 0, round.steps)
            self._offer(round, end, params, times)

    def _go_on(self) -> None:
        """Does one round after the other while its offers travel, and accepts each answer as many steps later."""
        params, round, times = self._given()
        self._anchor, self._merge, self._sent = params, self._merge_state(params), deque[Any]()
        while True:
            done, accepts = 0, self._schedule.accepts(self._rounds - 1, 0, self._local_steps)
            for after, _ in accepts:
                if after:
                    params = self._train(round, params, done, after)
                    params, waited_ns = self._accept(params, after, times)
                    times["blocked"] += waited_ns
                    done = after
            params = self._train(round, params, done, round.steps)
            self._offer(round, params, self._anchor, times)
            times = {**times, "ready": times["push_start"], "pulls": 0, "blocked": 0}
            times["pull_start"] = times["compute_start"] = times["ready"]
            for after, _ in self._schedule.accepts(self._rounds, 0, self._local_steps):
                if not after:
                    params, _ = self._accept(params, 0, times)
                    times["pull_start"] = max(times["ready"], times["sent"])
                    times["compute_start"] = times["used"]
            steps = self._schedule.steps(self._rounds, self._local_steps)
            round = self._begin(times["compute_start"], steps, "own", -1)

    def _given(self) -> tuple[Any, Round, dict[str, Any]]:
        """Receives a round; returns its parameters, itself, and its times and versions so far."""
        message = self._next()
        header = message.header
        if not self._rounds:
            self._began_s = time.process_time()
        round = self._begin(header["sent"], header["steps"], "copy", header["version"])
        params = jax.block_until_ready(self._layout.unpack(message.payload))
        times = {"ready": header["ready"], "pull_start": header["sent"], "compute_start": time.monotonic_ns()}
        return params, round, {**times, "pulls": 1, "blocked": 0, "base": header["version"], "answer": None}

    def _begin(self, time_ns: int, steps: int, start: str, version: int) -> Round:
        """Begins a round, on the worker's own shard. Its number is of the run where it is counted per worker here."""
        shard, first_step = self._shards.assign(self._index, steps)
        number = self._rounds * self._task.known.workers + self._index
        self._rounds += 1
        round = Round(number, self._index, shard, first_step, steps, version)
        self._log.append(["begin", time_ns, round[:6], start])
        return round

    def _train(self, round: Round, params: Any, first: int, until: int) -> Any:
        """Does some of a round's local steps; returns the parameters.

        Raises:
          OverError: the run is over.
        """
        if not first:
            self._losses = []
        if self._inner is None:
            self._inner = self._programs.recipe.initial_state(params)
        for step in range(first, until):
            begin_ns = time.monotonic_ns()
            params, self._inner, loss = self._step(round, step, params, self._inner)
            self._losses.append(loss)
            took_ns = time.monotonic_ns() - begin_ns
            self._steps, self._late = self._steps + 1, self._late + (took_ns > self._step_ns)
            self._computed_ns += took_ns
            sleep_until(begin_ns + self._step_ns)
            if self._over.is_set():
                raise OverError
        return params

    def _step(self, round: Round, step: int, params: Any, state: Any) -> tuple[Any, Any, float]:
        """Computes one local step; returns parameters, inner optimizer state and loss."""
        stretch = Stretch(round.id, self._index, round.shard, round.first_step + step, 1, step)
        inputs = self._data.inputs(stretch, params, state)
        [(result, state)] = self._programs.run(self._data.arrays, self._data.key, [inputs])
        return result.params, state, float(result.loss)

    # Offers and answers.

    def _offer(self, round: Round, params: Any, anchor: Any, times: dict[str, Any]) -> None:
        """Sends the offer at the end of a round."""
        times["push_start"] = time.monotonic_ns()
        sent = self._offer_of(params, anchor)
        if not self._schedule.waits:
            self._sent.append(sent)
        loss, finite = sum(self._losses) / len(self._losses), bool(sent.finite)
        header = {"kind": "offer", "round": round[:6], "loss": loss, "finite": finite, **times}
        self._link.send(header, self._layout.pack(sent.tree), times["push_start"])

    def _offer_of(self, params: Any, anchor: Any) -> Any:
        return self._exchange.offer(params, anchor, self._exchange.initial_feedback(anchor), self._key)

    def _merge_state(self, params: Any) -> Any:
        return self._exchange.initial_merge(params)

    def _accept(self, params: Any, after: int, times: dict[str, Any]) -> tuple[Any, int]:
        """Accepts the answer to the oldest offer, waiting until it is there.

        Returns:
          The parameters, and the nanoseconds for which it had to wait.
        """
        began_ns = time.monotonic_ns()
        answer = self._next()
        header = answer.header
        now_ns = max(time.monotonic_ns(), answer.arrival_ns)
        arguments = params, self._anchor, self._sent.popleft(), self._layout.unpack(answer.payload), self._merge
        params, self._anchor, self._merge = self._exchange.merge(*arguments)
        times |= {"base": header["version"], "sent": header["sent"], "used": now_ns}
        times["answer"] = answer.arrival_ns - header["sent"]
        entry = [now_ns, header["round"], after, header["sent"], answer.arrival_ns, header["version"]]
        self._log.append(["accept", *entry])
        return params, now_ns - began_ns if answer.arrival_ns > began_ns else 0


if __name__ == "__main__":
    file, index, port = sys.argv[1:]
    worker = RealWorker(Task.read(Path(file)), int(index))
    worker.warm_up()
    worker.connect(int(port))
    worker.live()
