"""The simulated cluster in time: SimPy processes for the workers and the server, and the events they cause."""

import dataclasses
import math
from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
import simpy

from simulator.cluster import ClusterModel, stream
from simulator.timeline.causal import CausalHash
from simulator.timeline.events import (
    ABSENCES,
    Arrival,
    Dispatched,
    Evaluation,
    Event,
    Fault,
    Finished,
    Lost,
    Outcome,
    Round,
    Update,
)
from simulator.timeline.policies import MeasuredSpeed, ServerView, ShardChoice, Synchronization
from simulator.timeline.sentinel import NoProgressError, Sentinel
from simulator.timeline.workers import Process, Request, Workers


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
      measured: chooses steps anew for each round, by the speed at which the worker's last one was computed; None leaves
        them as they are.
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
    measured: MeasuredSpeed | None = None

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

    Raises:
      NoProgressError: while iterating, nobody can make progress any more.
    """

    def __init__(self, cluster: ClusterModel, config: TimelineConfig):
        if len(config.steps) != cluster.workers:
            raise ValueError(f"steps for {len(config.steps)} workers in a cluster of {cluster.workers}")
        self._cluster = cluster
        self._config = config
        self._env = simpy.Environment(initial_time=0.0)
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
        self._measured = None if config.measured is None else config.measured.begin()

        self._inbox: deque[Arrival | Request] = deque()
        self._tick_due = False
        self._wake = self._env.event()
        self._group: dict[int, None] = {}  # workers that wait to restart, in order
        self._arrived: list[Arrival] = []  # rounds that wait to be averaged
        self._opened_s = math.inf
        self._started_s = 0.0
        self._awaited: dict[int, Round] = {}  # worker -> its round
        self._waiting: set[int] = set()  # processed and not sent off again
        self._alarm_is_on = False

        self._workers = Workers(self._env, cluster, self)
        self._sentinel = Sentinel(self._workers, cluster.workers)
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

    # What workers tell the server.

    def emit(self, event: Event) -> None:
        """Something has happened."""
        if isinstance(event, Lost):
            self._waiting.discard(event.round.worker)
            if event.cause == "message":  # else the worker's going away is told too
                self._sentinel.failed(event.round.worker, event.cause, event.time_s)
        elif isinstance(event, Fault) and event.kind in ABSENCES:
            self._waiting.discard(event.worker)
            self._sentinel.failed(event.worker, event.kind, event.time_s)
        self._causal.add(event)
        self._events.append(event)

    def receive(self, message: Arrival | Request) -> None:
        """A pseudo-gradient or a request has arrived."""
        self._inbox.append(message)
        self.rouse()

    def told(self, worker: int) -> None:
        """A worker has said that its round will not come."""
        self._awaited.pop(worker, None)
        self.rouse()

    def rouse(self) -> None:
        """What the server waits for may have changed."""
        if not self._wake.triggered:
            self._wake.succeed()

    # The server.

    def _serve(self) -> Process:
        """The server's life: process what has arrived, restart groups, evaluate."""
        yield from self._evaluate()
        self._restart(range(self._cluster.workers))
        while self._end_s is None:
            yield from self._busy(0.0)  # if it is down, until it is up
            if self._tick_due:
                self._tick_due = False
                yield from self._evaluate()
            elif self._in_time():
                yield from self._process(self._inbox.popleft())
            elif self._group and self._config.synchronization.closes(self._view()):
                yield from self._close_group()
            elif self._inbox:
                yield from self._process(self._inbox.popleft())
            else:
                self._check_progress()
                self._wake = self._env.event()
                yield self._wake

    def _in_time(self) -> bool:
        """Returns whether a message was there before the round's timeout, even if the server only comes to it now."""
        timeout_s = self._config.synchronization.timeout_s
        return timeout_s < math.inf and bool(self._inbox) and self._inbox[0].arrival_s <= self._started_s + timeout_s

    def _busy(self, work_s: float) -> Process:
        """Works for some time, not counting that in which the server is down."""
        if self._cluster.faults is not None:
            work_s = self._cluster.faults.server.finished_s(self._env.now, work_s) - self._env.now
        if work_s == math.inf:
            raise NoProgressError(f"nobody can make progress: the server went down before {self._env.now:g} s for good")
        if work_s > 0:
            yield self._env.timeout(work_s)

    def _view(self) -> ServerView:
        next_s = self._inbox[0].arrival_s if self._inbox else self._workers.next_arrival_s()
        group, arrived = len(self._group), len(self._arrived)
        return ServerView(self._env.now, self._opened_s, group, len(self._awaited), next_s, self._started_s, arrived)

    def _process(self, message: Arrival | Request) -> Process:
        """A worker joins the group, with what it has computed if it has; without a barrier that is an outer step."""
        if isinstance(message, Request):
            self._admit(message)
            return
        worker, averages = message.round.worker, self._config.synchronization.averages_group
        self._sentinel.arrived(worker, self._env.now)
        task = self._awaited.pop(worker, None)
        if self._measured is not None and task is not None and task.steps == message.round.steps:  # it was not cut off
            self._measured.observe(worker, (message.push_start_s - message.compute_start_s) / task.steps)
        late = task is None
        self._join(worker, message.arrival_s)
        if averages and not late:
            self._arrived.append(message)
        else:
            yield from self._update((message,), late=averages)

    def _admit(self, request: Request) -> None:
        """Takes up a worker without a round: behind a barrier, one that has lost its round does it again."""
        if not self._workers.asks(request):
            return  # its group restarted before the server came to this, or it is gone again
        lost = self._awaited.pop(request.worker, None)
        if lost is not None and self._config.synchronization.averages_group:
            self._dispatch(request.worker)
        else:
            self._join(request.worker, request.arrival_s)

    def _join(self, worker: int, arrival_s: float) -> None:
        self._opened_s = min(self._opened_s, arrival_s)
        self._group[worker] = None

    def _close_group(self) -> Process:
        """The group restarts from the server's present parameters."""
        group, self._group = self._group, {}
        arrived, self._arrived = self._arrived, []
        self._opened_s = math.inf
        if arrived:
            yield from self._update(tuple(arrived))
        if self._end_s is None:
            self._restart(group)

    def _restart(self, workers: Iterable[int]) -> None:
        """Sends off who is there; behind a barrier nobody else is waited for any more."""
        synchronization = self._config.synchronization
        if synchronization.averages_group:
            self._awaited.clear()
        self._started_s = self._env.now
        for worker in workers:
            if self._workers.there(worker):
                self._dispatch(worker)
        if synchronization.timeout_s < math.inf and not self._alarm_is_on:
            self._alarm_is_on = True
            self._env.process(self._alarm(synchronization.timeout_s))

    def _alarm(self, timeout_s: float) -> Process:
        """Wakes the server at the timeout of the present round, after what arrives just in time."""
        while (left_s := self._started_s + timeout_s - self._env.now) > 0:
            yield self._env.timeout(left_s)
        yield self._env.timeout(0.0)
        self._alarm_is_on = False
        self.rouse()

    def _update(self, arrivals: tuple[Arrival, ...], *, late: bool = False) -> Process:
        staleness = tuple(self._version - arrival.round.version for arrival in arrivals)
        outcome = "dropped" if late else self._outcome(max(staleness))
        if outcome == "applied":
            yield from self._busy(self._cluster.server_update_s)
            self._version += 1
        self._local_steps += sum(arrival.round.steps for arrival in arrivals)
        self._waiting.update(arrival.round.worker for arrival in arrivals)
        self.emit(Update(self._env.now, arrivals, staleness, outcome, self._version, self._local_steps))
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
        config = self._config
        steps = config.steps[worker] if self._measured is None else self._measured.steps(worker)
        shard = config.shard_choice.choose(worker, self._assigned, self._shard_random)
        task = Round(self._next_round, worker, shard, int(self._assigned[shard]), steps, self._version)
        self._next_round += 1
        self._waiting.discard(worker)
        self._assigned[shard] += steps
        self._awaited[worker] = task
        self.emit(Dispatched(self._env.now, task))
        self._workers.give(task)

    def _check_progress(self) -> None:
        """Checks that something can still come that the server waits for."""
        if not self._workers.stuck:
            return
        synchronization = self._config.synchronization
        if self._group and synchronization.closes(self._view()._replace(now_s=math.inf)):
            return
        advice = (
            "a synchronization.timeout and a quorum that can be reached, or " if synchronization.averages_group else ""
        )
        raise self._sentinel.stuck(self._env.now, self._awaited, self._group, advice)

    def _tick(self, every_s: float) -> Process:
        """Asks for an evaluation at every multiple of `every_s`; several while the server is busy give one."""
        count = 1
        while True:
            yield self._env.timeout(max(count * every_s - self._env.now, 0.0))
            count += 1
            self._tick_due = True
            self.rouse()

    def _evaluation_due(self) -> bool:
        """Returns whether the local steps have passed the next multiple at which to evaluate."""
        every = self._config.evaluate_every_steps
        if every is None or self._local_steps < self._next_evaluation:
            return False
        self._next_evaluation = (self._local_steps // every + 1) * every
        return True

    def _evaluate(self) -> Process:
        if self._mark_evaluation(self._env.now) and self._config.evaluation_s > 0:
            yield from self._busy(self._config.evaluation_s)

    def _mark_evaluation(self, time_s: float) -> bool:
        """Returns whether there is anything to evaluate: the same state at the same time is evaluated once."""
        state = (time_s, self._version, self._local_steps)
        if state == self._evaluated:
            return False
        self._evaluated = state
        self.emit(Evaluation(*state))
        return True

    def _budget_used(self) -> bool:
        config = self._config
        steps_used = config.budget_local_steps is not None and self._local_steps >= config.budget_local_steps
        return steps_used or (config.budget_updates is not None and self._version >= config.budget_updates)

    def _finish(self, time_s: float) -> None:
        self._end_s = time_s
        self._mark_evaluation(time_s)
        self.emit(Finished(time_s, self._version, self._local_steps, tuple(sorted(self._waiting))))
