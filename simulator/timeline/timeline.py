"""The simulated cluster in time: SimPy processes for the workers and the server, and the events they cause."""

import dataclasses
import heapq
import math
from collections import deque
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import simpy

from simulator.cluster import ClusterModel, stream
from simulator.timeline.causal import CausalHash
from simulator.timeline.events import Arrival, Dispatched, Evaluation, Event, Finished, Outcome, Round, Update
from simulator.timeline.links import Channel
from simulator.timeline.policies import ServerView, ShardChoice, Synchronization

Process = Generator[simpy.Event, Any, None]


@dataclasses.dataclass(frozen=True)
class TimelineConfig:
    """Everything that decides the order of events; nothing of it is an array of parameters.

    Attributes:
      synchronization: when groups restart.
      shard_choice: which shard a round trains on.
      steps: local steps per round of each worker.
      shards: number of data shards.
      arrivals_per_update: asynchronous arrivals that are averaged into one server update (FedBuff).
      drop_above: arrivals staler than this are dropped; None keeps all.
      budget_local_steps, budget_s, budget_updates: the simulation ends with whichever comes first; None is no limit.
      evaluate_every_steps, evaluate_every_s: when to evaluate, besides at the start and at the end.
      evaluation_s: how long an evaluation keeps the server busy.
    """

    synchronization: Synchronization
    shard_choice: ShardChoice
    steps: list[int]
    shards: int
    arrivals_per_update: int = 1
    drop_above: int | None = None
    budget_local_steps: int | None = None
    budget_s: float | None = None
    budget_updates: int | None = None
    evaluate_every_steps: int | None = None
    evaluate_every_s: float | None = None
    evaluation_s: float = 0.0

    def __post_init__(self) -> None:
        if self.budget_local_steps is None and self.budget_s is None and self.budget_updates is None:
            raise ValueError("a timeline without a budget would never end")
        if self.evaluate_every_s is not None and self.evaluation_s >= self.evaluate_every_s:
            raise ValueError(
                f"an evaluation of {self.evaluation_s} s every {self.evaluate_every_s} s leaves the server no time"
            )


class Timeline:
    """Iterating runs the simulation and yields its events in causal order.

    SimPy orders the events and never sees an array: whoever iterates may train what is dispatched, or nothing at all.
    `causal_hash` fingerprints the order in which versions are pulled, arrivals processed and evaluations made: two
    timelines with the same hash train the same thing.
    """

    def __init__(self, cluster: ClusterModel, config: TimelineConfig):
        if len(config.steps) != cluster.workers:
            raise ValueError(f"steps for {len(config.steps)} workers in a cluster of {cluster.workers}")
        self._cluster = cluster
        self._config = config
        self._env = simpy.Environment(initial_time=0.0)
        self._down = Channel(self._env, cluster.down)
        self._up = Channel(self._env, cluster.up)
        self._events: list[Event] = []
        self._causal = CausalHash()
        self._end_s: float | None = None  # when the budget was used up

        self._version = 0
        self._local_steps = 0
        self._processed_in_buffer = 0
        self._next_round = 0
        self._next_evaluation = config.evaluate_every_steps or 0
        self._evaluated: tuple[float, int, int] | None = None  # time, version and local steps of the last evaluation
        self._assigned = np.zeros(config.shards, np.int64)
        self._shard_random = stream(cluster.seed, "shard choice")

        self._inbox: deque[Arrival] = deque()
        self._tick_due = False
        self._wake = self._env.event()
        self._group: list[Arrival] = []
        self._opened_s = math.inf
        self._outstanding = 0
        self._waiting: set[int] = set()  # processed and not sent off again
        self._expected_s = [math.inf] * cluster.workers  # when each worker's round arrives at the earliest
        self._expected: list[tuple[float, int]] = []  # the same as a heap, with outdated entries

        self._jitter = [cluster.jitter_stream(w) if cluster.jitter else None for w in range(cluster.workers)]
        self._tasks = [self._env.event() for _ in range(cluster.workers)]
        for worker in range(cluster.workers):
            self._env.process(self._work(worker))
        self._env.process(self._serve())
        if config.evaluate_every_s is not None:
            self._env.process(self._tick(config.evaluate_every_s))

    @property
    def causal_hash(self) -> str:
        """Fingerprint of what has happened so far, hexadecimal."""
        return self._causal.hexdigest()

    @property
    def now_s(self) -> float:
        """Simulated time in seconds."""
        return float(self._env.now) if self._end_s is None else self._end_s

    def __iter__(self) -> Iterator[Event]:
        """Runs the simulation to the end of its budget."""
        deadline_s = math.inf if self._config.budget_s is None else self._config.budget_s
        while self._end_s is None:
            if self._env.peek() > deadline_s:
                self._finish(deadline_s)
            else:
                self._env.step()
            if self._events:
                yield from self._events
                self._events.clear()

    def _emit(self, event: Event) -> None:
        self._causal.add(event)
        self._events.append(event)

    # Workers.

    def _work(self, worker: int) -> Process:
        """A worker's life: wait for a round, pull, compute, push."""
        env, up_contended = self._env, self._up.contended
        ready_s = env.now
        while True:
            task: Round
            compute_s: float
            task, compute_s = yield self._tasks[worker]
            pull_start_s = env.now
            yield from self._down.transfer(worker)
            compute_start_s = env.now
            yield env.timeout(compute_s)
            push_start_s = env.now
            if up_contended:  # only now is it known when the link is free
                self._expect(worker, self._up.join(worker))
                self._rouse()
            yield from self._up.transfer(worker)
            self._tasks[worker] = env.event()
            arrival = Arrival(task, ready_s, pull_start_s, compute_start_s, push_start_s, env.now)
            ready_s = env.now
            self._expect(worker, math.inf)
            self._inbox.append(arrival)
            self._rouse()

    def _expect(self, worker: int, arrival_s: float) -> None:
        self._expected_s[worker] = arrival_s
        if arrival_s < math.inf:
            heapq.heappush(self._expected, (arrival_s, worker))

    def _next_arrival_s(self) -> float:
        if self._inbox:
            return self._inbox[0].arrival_s
        while self._expected and self._expected_s[self._expected[0][1]] != self._expected[0][0]:
            heapq.heappop(self._expected)
        return self._expected[0][0] if self._expected else math.inf

    # The server.

    def _rouse(self) -> None:
        if not self._wake.triggered:
            self._wake.succeed()

    def _serve(self) -> Process:
        """The server's life: process what has arrived, restart groups, evaluate."""
        yield from self._evaluate()
        for worker in range(self._cluster.workers):
            self._dispatch(worker)
        while self._end_s is None:
            if self._tick_due:
                self._tick_due = False
                yield from self._evaluate()
            elif self._group and self._config.synchronization.closes(self._view()):
                yield from self._close_group()
            elif self._inbox:
                yield from self._process(self._inbox.popleft())
            else:
                self._wake = self._env.event()
                yield self._wake

    def _view(self) -> ServerView:
        return ServerView(self._env.now, self._opened_s, len(self._group), self._outstanding, self._next_arrival_s())

    def _process(self, arrival: Arrival) -> Process:
        """One arrival joins the group; without a barrier it is also a step of the outer optimizer."""
        self._outstanding -= 1
        self._opened_s = min(self._opened_s, arrival.arrival_s)
        self._group.append(arrival)
        if not self._config.synchronization.averages_group:
            yield from self._update((arrival,))

    def _close_group(self) -> Process:
        """The group restarts from the server's present parameters."""
        group, self._group = self._group, []
        self._opened_s = math.inf
        if self._config.synchronization.averages_group:
            yield from self._update(tuple(group))
        if self._end_s is None:
            for arrival in group:
                self._dispatch(arrival.round.worker)

    def _update(self, arrivals: tuple[Arrival, ...]) -> Process:
        staleness = tuple(self._version - arrival.round.version for arrival in arrivals)
        outcome = self._outcome(max(staleness))
        if outcome == "applied":
            if self._cluster.server_update_s > 0:
                yield self._env.timeout(self._cluster.server_update_s)
            self._version += 1
        self._local_steps += sum(arrival.round.steps for arrival in arrivals)
        self._waiting.update(arrival.round.worker for arrival in arrivals)
        self._emit(Update(self._env.now, arrivals, staleness, outcome, self._version, self._local_steps))
        if self._budget_used():
            self._finish(self._env.now)
        elif self._evaluation_due():
            yield from self._evaluate()

    def _outcome(self, staleness: int) -> Outcome:
        config = self._config
        if config.drop_above is not None and staleness > config.drop_above:
            return "dropped"
        self._processed_in_buffer += 1
        if self._processed_in_buffer < config.arrivals_per_update:
            return "buffered"
        self._processed_in_buffer = 0
        return "applied"

    def _dispatch(self, worker: int) -> None:
        config, cluster = self._config, self._cluster
        steps = config.steps[worker]
        shard = config.shard_choice.choose(worker, self._assigned, self._shard_random)
        task = Round(self._next_round, worker, shard, int(self._assigned[shard]), steps, self._version)
        self._next_round += 1
        self._waiting.discard(worker)
        self._assigned[shard] += steps
        compute_s = cluster.compute_s(worker, steps, self._jitter[worker])
        self._expect(worker, self._up.end_s(worker, self._down.join(worker) + compute_s))
        self._outstanding += 1
        self._emit(Dispatched(self._env.now, task))
        self._tasks[worker].succeed((task, compute_s))

    def _tick(self, every_s: float) -> Process:
        """Asks for an evaluation at every multiple of `every_s`; several while the server is busy give one."""
        count = 1
        while True:
            yield self._env.timeout(max(count * every_s - self._env.now, 0.0))
            count += 1
            self._tick_due = True
            self._rouse()

    def _evaluation_due(self) -> bool:
        """Returns whether the local steps have passed the next multiple at which to evaluate."""
        every = self._config.evaluate_every_steps
        if every is None or self._local_steps < self._next_evaluation:
            return False
        self._next_evaluation = (self._local_steps // every + 1) * every
        return True

    def _evaluate(self) -> Process:
        if self._mark_evaluation(self._env.now) and self._config.evaluation_s > 0:
            yield self._env.timeout(self._config.evaluation_s)

    def _mark_evaluation(self, time_s: float) -> bool:
        """Returns whether there is anything to evaluate: the same state at the same time is evaluated once."""
        state = (time_s, self._version, self._local_steps)
        if state == self._evaluated:
            return False
        self._evaluated = state
        self._emit(Evaluation(*state))
        return True

    def _budget_used(self) -> bool:
        config = self._config
        steps_used = config.budget_local_steps is not None and self._local_steps >= config.budget_local_steps
        return steps_used or (config.budget_updates is not None and self._version >= config.budget_updates)

    def _finish(self, time_s: float) -> None:
        self._end_s = time_s
        self._mark_evaluation(time_s)
        self._emit(Finished(time_s, self._version, self._local_steps, tuple(sorted(self._waiting))))
