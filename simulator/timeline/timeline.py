"""The simulated cluster in time: SimPy processes for the server and the workers, and the events they cause."""

import heapq
import math
from collections import deque
from collections.abc import Iterable, Iterator

import simpy

from simulator.cluster import ClusterModel, Episodes, Nanoseconds, nanoseconds, seconds
from simulator.host.event_kinds import ABSENCES, FaultKind, Outcome
from simulator.host.random_streams import numpy_stream
from simulator.timeline.causal_hash import CausalHash
from simulator.timeline.config import TimelineConfig
from simulator.timeline.deadlock import DeadlockDetector, NoProgressError
from simulator.timeline.events import (
    Arrival,
    Dispatched,
    Evaluation,
    Event,
    Fault,
    Finished,
    Lost,
    Round,
    Update,
)
from simulator.timeline.links import Channel
from simulator.timeline.policies.synchronization import ServerView
from simulator.timeline.worker import Process, Request, Worker


class Timeline:
    """Timeline of a simulation: iterating runs it and yields its events in causal order.

    SimPy orders the events and never sees an array: the iterating code may train the dispatched rounds, or nothing at
    all. `causal_hash` fingerprints the order in which versions are pulled, arrivals processed and evaluations made: two
    timelines with the same hash train the same thing. Time is counted in whole nanoseconds.

    Attributes:
      env: the clock.
      cluster: durations of everything.
      down, up: the network.
      under_way: number of rounds that workers are at.
      stalled: number of workers that wait for something that never ends.

    Raises:
      NoProgressError: while iterating, nobody can make progress any more.
    """

    def __init__(self, cluster: ClusterModel, config: TimelineConfig):
        if len(config.steps) != cluster.workers:
            raise ValueError(f"steps for {len(config.steps)} workers in a cluster of {cluster.workers}")
        self.env = env = simpy.Environment()
        self.cluster, self._config = cluster, config
        self.down, self.up = (Channel(env, link, cluster.faults) for link in (cluster.down, cluster.up))
        self.under_way = self.stalled = 0
        self._events: list[Event] = []
        self._causal = CausalHash()
        self._end_ns: Nanoseconds | None = None  # when the budget was used up

        self._version = self._local_steps = self._next_round = 0
        self._processed_in_buffer = 0
        self._last_local_step = math.inf if config.budget_local_steps is None else config.budget_local_steps
        self._last_version = math.inf if config.budget_updates is None else config.budget_updates
        self._next_evaluation = config.evaluate_every_steps or math.inf  # in local steps
        self._evaluated: tuple[Nanoseconds, int, int] | None = None  # time, version and local steps of the last one
        self._shards = config.shard_choice.new_choices([0] * config.shards, numpy_stream(cluster.seed, "shard choice"))
        self._measured = None if config.measured is None else config.measured.new_choices()

        self._inbox: deque[Arrival | Request] = deque()
        self._news = env.event()  # something that the server waits for may have changed
        self._tick_due = False
        self._group: dict[int, None] = {}  # workers that wait to restart, in order
        self._arrived: list[Arrival] = []  # rounds that wait to be averaged
        self._opened_ns: Nanoseconds = math.inf
        self._started_ns: Nanoseconds = 0
        self._timeout_ns = nanoseconds(config.synchronization.timeout_s)
        self._alarm_is_on = False
        self._awaited: dict[int, Round] = {}  # worker -> its round
        self._waiting: set[int] = set()  # processed and not given a round since
        self._expected: list[tuple[Nanoseconds, int]] = []  # heap of arrivals and workers, some of them outdated
        self._averages = config.synchronization.averages_group
        self._looks_ahead = config.synchronization.looks_ahead

        self._workers = [Worker(index, self) for index in range(cluster.workers)]
        if cluster.faults is not None:
            env.process(self._tell(-1, cluster.faults.server, "server down", "server up"))
            for index in range(cluster.workers):
                env.process(self._tell(index, cluster.faults.slowdowns(index), "slow", "normal"))
                env.process(self._tell(index, cluster.faults.own_link(index), "disconnect", "reconnect"))
        self._deadlock = DeadlockDetector(self._workers)
        env.process(self._serve())
        if config.evaluate_every_s is not None:
            env.process(self._tick(nanoseconds(config.evaluate_every_s)))

    @property
    def causal_hash(self) -> str:
        """Fingerprint of the events so far, hexadecimal."""
        return self._causal.hexdigest()

    @property
    def now_s(self) -> float:
        """Simulated time in seconds."""
        return seconds(self.env.now if self._end_ns is None else self._end_ns)

    def __iter__(self) -> Iterator[Event]:
        """Runs the simulation to the end of its budget."""
        deadline_ns = math.inf if self._config.budget_s is None else nanoseconds(self._config.budget_s)
        env, events = self.env, self._events
        while self._end_ns is None:
            if env.peek() > deadline_ns:
                self._finish(deadline_ns)
            else:
                env.step()
            if events:  # after each step, so that whoever iterates acts on an event before time goes by
                self._causal.add(events)
                yield from events
                events.clear()

    # Messages of workers to the server.

    def emit(self, event: Event) -> None:
        """Queues an event to be yielded, and counts failures."""
        if isinstance(event, Lost):
            self._waiting.discard(event.round.worker)
            if event.cause == "message":  # else the absence is a fault of its own, which counts
                self._deadlock.failed(event.round.worker, event.cause, event.time_ns)
        elif isinstance(event, Fault) and event.kind in ABSENCES:
            self._waiting.discard(event.worker)
            self._deadlock.failed(event.worker, event.kind, event.time_ns)
        self._events.append(event)

    def receive(self, message: Arrival | Request) -> None:
        """Takes in a pseudo-gradient or a request that has arrived, and wakes the server."""
        self._inbox.append(message)
        self.wake()

    def forget(self, worker: int) -> None:
        """Stops waiting for a worker that has announced that its round will not come."""
        self._awaited.pop(worker, None)
        self.wake()

    def expect(self, worker: Worker) -> None:
        """Updates the time at which a worker's round can arrive."""
        if self._looks_ahead and worker.expected_ns < math.inf:
            heapq.heappush(self._expected, (worker.expected_ns, worker.index))
        self.wake()

    def wake(self) -> None:
        """Wakes the server: the condition that it waits for may have changed."""
        if not self._news.triggered:
            self._news.succeed()

    def until(self, time_ns: Nanoseconds) -> Process:
        """Waits until a time, if it is yet to come."""
        if time_ns > self.env.now:
            yield self.env.timeout(time_ns - self.env.now)

    # The server.

    def _serve(self) -> Process:
        """Processes arrivals, restarts groups, evaluates."""
        yield self.env.event().succeed()  # after what befalls workers at the start
        yield from self._evaluate()
        self._restart(range(self.cluster.workers))
        while self._end_ns is None:
            yield from self._work(0)  # if it is down, until it is up
            # One thing at a time, since each takes time in which messages come. The order decides ties: an evaluation
            # that is due comes first; then messages that arrived before the timeout, which belong to the round that it
            # ends; then a group that its policy closes restarts, before any message is processed that would join it.
            if self._tick_due:
                self._tick_due = False
                yield from self._evaluate()
            elif self._inbox and self._in_time():
                yield from self._process(self._inbox.popleft())
            elif self._group and self._closes(self.env.now):
                yield from self._close_group()
            elif self._inbox:
                yield from self._process(self._inbox.popleft())
            else:
                self._check_progress()
                self._news = self.env.event()  # made only when idle: wake() has no effect on a server at work
                yield self._news

    def _in_time(self) -> bool:
        """Returns whether a message was there before the round's timeout, even if the server only comes to it now."""
        timeout_ns = self._timeout_ns
        return timeout_ns < math.inf and self._inbox[0].arrival_ns <= self._started_ns + timeout_ns

    def _work(self, work_ns: Nanoseconds) -> Process:
        """Works for some time, not counting outages of the server."""
        if self.cluster.faults is not None:
            now_ns = self.env.now
            work_ns = self.cluster.faults.server.finished_ns(now_ns, work_ns) - now_ns
            if work_ns == math.inf:
                down_s = seconds(now_ns)
                raise NoProgressError(f"nobody can make progress: the server went down before {down_s:g} s for good")
        if work_ns > 0:
            yield self.env.timeout(work_ns)

    def _closes(self, now_ns: Nanoseconds) -> bool:
        """Returns whether the group restarts, at the present time or, with nothing else having happened, at another."""
        return self._config.synchronization.closes(
            ServerView(
                now_ns=now_ns,
                opened_ns=self._opened_ns,
                group=len(self._group),
                outstanding=len(self._awaited),
                next_arrival_ns=self._inbox[0].arrival_ns if self._inbox else self._next_arrival_ns(),
                started_ns=self._started_ns,
                arrived=len(self._arrived),
                workers=self.cluster.workers,
            )
        )

    def _next_arrival_ns(self) -> Nanoseconds:
        """Returns when the next round can arrive, at the earliest."""
        expected = self._expected
        # Entries are not removed when a worker's time changes, which a heap cannot do cheaply, but here, at the top.
        while expected and self._workers[expected[0][1]].expected_ns != expected[0][0]:
            heapq.heappop(expected)
        return expected[0][0] if expected else math.inf

    def _process(self, message: Arrival | Request) -> Process:
        """Takes a worker into the group, with its finished round, if any; without a barrier that is an outer step."""
        if isinstance(message, Request):
            self._admit(message)
            return
        worker = message.round.worker
        self._deadlock.arrived(worker)
        round = self._awaited.pop(worker, None)
        if self._measured is not None and round is not None and round.steps == message.round.steps:  # not cut off
            computing_s = seconds(message.push_start_ns - message.compute_start_ns)
            self._measured.observe(worker, computing_s / round.steps)
        self._join(worker, message.arrival_ns)
        if self._averages and round is not None:
            self._arrived.append(message)
        else:
            yield from self._update((message,), late=self._averages)

    def _admit(self, request: Request) -> None:
        """Admits a worker without a round: behind a barrier, one that has lost its round does it again."""
        if not self._workers[request.worker].asks(request):
            return  # its group restarted before the server came to this, or it is gone again
        lost = self._awaited.pop(request.worker, None)
        if lost is not None and self._averages:
            self._dispatch(request.worker)
        else:
            self._join(request.worker, request.arrival_ns)

    def _join(self, worker: int, arrival_ns: Nanoseconds) -> None:
        self._opened_ns = min(self._opened_ns, arrival_ns)
        self._group[worker] = None

    def _close_group(self) -> Process:
        """Restarts the group from the server's present parameters."""
        group, self._group = self._group, {}
        arrived, self._arrived = self._arrived, []
        self._opened_ns = math.inf
        if arrived:
            yield from self._update(tuple(arrived))
        if self._end_ns is None:
            self._restart(group)

    def _restart(self, workers: Iterable[int]) -> None:
        """Gives rounds to the workers that are there; behind a barrier the server stops waiting for others."""
        if self._averages:
            self._awaited.clear()
        self._started_ns = self.env.now
        for worker in workers:
            if self._workers[worker].there:
                self._dispatch(worker)
        if self._timeout_ns < math.inf and not self._alarm_is_on:
            self._alarm_is_on = True
            self.env.process(self._await_timeout())

    def _await_timeout(self) -> Process:
        """Wakes the server at the timeout of the present round, after what arrives just in time."""
        while (left_ns := self._started_ns + self._timeout_ns - self.env.now) > 0:
            yield self.env.timeout(left_ns)
            if self._started_ns + self._timeout_ns <= self.env.now:
                yield self.env.timeout(0)  # behind the arrivals of this very time, which are in the queue already
        self._alarm_is_on = False
        self.wake()

    def _update(self, arrivals: tuple[Arrival, ...], *, late: bool = False) -> Process:
        staleness = tuple([self._version - arrival.round.version for arrival in arrivals])
        outcome = "dropped" if late else self._outcome(max(staleness))
        if outcome == "applied":
            yield from self._work(nanoseconds(self.cluster.server_update_s))
            self._version += 1
        for arrival in arrivals:
            self._local_steps += arrival.round.steps
            self._waiting.add(arrival.round.worker)
        self.emit(Update(self.env.now, arrivals, staleness, outcome, self._version, self._local_steps))
        if self._local_steps >= self._last_local_step or self._version >= self._last_version:
            self._finish(self.env.now)
        elif self._local_steps >= self._next_evaluation:
            every = self._config.evaluate_every_steps
            assert every is not None
            self._next_evaluation = (self._local_steps // every + 1) * every
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
        steps = self._config.steps[worker] if self._measured is None else self._measured.steps(worker)
        shard, first_step = self._shards.assign(worker, steps)
        round = Round(self._next_round, worker, shard, first_step, steps, self._version)
        self._next_round += 1
        self._waiting.discard(worker)
        self._awaited[worker] = round
        self.emit(Dispatched(self.env.now, round))
        self._workers[worker].give(round)

    def _tick(self, every_ns: Nanoseconds) -> Process:
        """Asks for an evaluation at every multiple of `every_ns`; several while the server is busy give one."""
        while True:
            yield self.env.timeout(every_ns)
            self._tick_due = True
            self.wake()

    def _evaluate(self) -> Process:
        if self._mark_evaluation(self.env.now):
            yield from self._work(nanoseconds(self._config.evaluation_s))

    def _mark_evaluation(self, time_ns: Nanoseconds) -> bool:
        """Returns whether there is anything to evaluate: the same state at the same time is evaluated once."""
        state = (time_ns, self._version, self._local_steps)
        if state == self._evaluated:
            return False
        self._evaluated = state
        self.emit(Evaluation(*state))
        return True

    def _finish(self, time_ns: Nanoseconds) -> None:
        self._end_ns = time_ns
        self._mark_evaluation(time_ns)
        self.emit(Finished(time_ns, self._version, self._local_steps, tuple(sorted(self._waiting))))

    def _tell(self, worker: int, episodes: Episodes, begins: FaultKind, ends: FaultKind) -> Process:
        """Emits the beginnings and ends of episodes, which only make things slower."""
        for episode in episodes:
            yield from self.until(episode.start_ns)
            self.emit(Fault(self.env.now, worker, begins, factor=episode.factor if begins == "slow" else math.nan))
            if episode.end_ns == math.inf:
                return
            yield from self.until(episode.end_ns)
            self.emit(Fault(self.env.now, worker, ends))

    def _check_progress(self) -> None:
        """Checks that the server can still receive something that it waits for.

        Raises:
          NoProgressError: nothing can.
        """
        if self.under_way > self.stalled or not self._deadlock.nothing_comes():
            return
        if self._group and self._closes(math.inf):
            return  # time alone will close it, such as a timeout
        advice = "a synchronization.timeout and a quorum that can be reached, or " if self._averages else ""
        raise self._deadlock.deadlock(self.env.now, self._awaited, self._group, advice)
