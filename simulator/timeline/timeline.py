"""The simulated cluster in time: SimPy processes for the workers and the server, and the events they cause."""

import dataclasses
import math
from collections import deque
from collections.abc import Generator, Iterable, Iterator

import simpy

from simulator.cluster import ClusterModel, stream
from simulator.timeline.agenda import Agenda
from simulator.timeline.causal import CausalHash
from simulator.timeline.events import (
    ABSENCES,
    Arrival,
    Evaluation,
    Event,
    Fault,
    Finished,
    Lost,
    Outcome,
    Round,
    dispatched_of,
    round_of,
    update_of,
)
from simulator.timeline.flights import Request
from simulator.timeline.policies import StepsChoice, Synchronization, view_of
from simulator.timeline.sentinel import NoProgressError, Sentinel
from simulator.timeline.shards import ShardChoice
from simulator.timeline.workers import Process, Workers

Work = Generator[simpy.Event | None, None, None]  # of the server; None waits for news


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
      measured: chooses steps anew for each round, by the speed at which workers' last ones were computed; None leaves
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
    measured: StepsChoice | None = None

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
        self._last_local_step = math.inf if config.budget_local_steps is None else config.budget_local_steps
        self._last_version = math.inf if config.budget_updates is None else config.budget_updates
        self._next_evaluation = config.evaluate_every_steps or math.inf  # in local steps
        self._evaluated: tuple[float, int, int] | None = None  # time, version and local steps of the last evaluation
        self._shards = config.shard_choice.begin([0] * config.shards, stream(cluster.seed, "shard choice"))
        self._measured = None if config.measured is None else config.measured.begin()

        self._inbox: deque[Arrival | Request] = deque()
        self._tick_due = False
        self._agenda = Agenda(self._env)
        self._idle = False  # whether the server waits for news
        self._time_s = 0.0  # at which the server acts
        self._group: dict[int, None] = {}  # workers that wait to restart, in order
        self._arrived: list[Arrival] = []  # rounds that wait to be averaged
        self._opened_s = math.inf
        self._started_s = 0.0
        self._awaited: dict[int, Round] = {}  # worker -> its round
        self._waiting: set[int] = set()  # processed and not sent off again
        self._alarm_is_on = False
        self._averages = config.synchronization.averages_group
        self._looks_ahead = config.synchronization.looks_ahead
        self._update_takes_time = cluster.server_update_s > 0 or cluster.faults is not None

        self._workers = Workers(self._env, self._agenda, cluster, self, self._looks_ahead)
        self._sentinel = Sentinel(self._workers, cluster.workers)
        self._server = self._serve()
        self._env.process(self._open())
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
        due, step, events = self._agenda.due, self._env.step, self._events
        while self._end_s is None:
            if due:
                due.popleft()()
            elif deadline_s < math.inf and self._env.peek() > deadline_s:
                self._finish(deadline_s)
            else:
                step()
            if events:
                self._causal.add(events)
                yield from events
                events.clear()

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
        if self._idle:
            self._idle = False
            self._agenda.put(self._go_on)

    # The server.

    def _open(self) -> Process:
        """Begins the server's life, after those of everybody else."""
        self._go_on()
        yield from ()

    def _go_on(self, _: simpy.Event | None = None) -> None:
        """Has the server act until it has to wait. It is a process, but one that can be resumed without an event."""
        self._time_s = self._env.now
        try:
            awaited = next(self._server)
        except StopIteration:
            return
        except Exception as error:
            self._env.event().fail(error)  # which SimPy raises in its turn
            return
        if awaited is not None:
            awaited.callbacks.append(self._go_on)

    def _serve(self) -> Work:
        """The server's life: process what has arrived, restart groups, evaluate."""
        inbox, failing = self._inbox, self._cluster.faults is not None
        limited = self._config.synchronization.timeout_s < math.inf
        yield from self._evaluate()
        self._restart(range(self._cluster.workers))
        while self._end_s is None:
            if failing:
                yield from self._busy(0.0)  # if it is down, until it is up
            if self._tick_due:
                self._tick_due = False
                yield from self._evaluate()
            elif limited and inbox and self._in_time():
                yield from self._process(inbox.popleft())
            elif self._group and self._closes(self._time_s):
                yield from self._close_group()
            elif inbox:
                yield from self._process(inbox.popleft())
            else:
                if self._workers.stuck:
                    self._check_progress()
                self._idle = True
                yield None

    def _in_time(self) -> bool:
        """Returns whether a message was there before the round's timeout, even if the server only comes to it now."""
        return self._inbox[0].arrival_s <= self._started_s + self._config.synchronization.timeout_s

    def _busy(self, work_s: float) -> Work:
        """Works for some time, not counting that in which the server is down."""
        if self._cluster.faults is not None:
            work_s = self._cluster.faults.server.finished_s(self._time_s, work_s) - self._time_s
        if work_s == math.inf:
            raise NoProgressError(f"nobody can make progress: the server went down before {self._time_s:g} s for good")
        if work_s > 0:
            yield self._env.timeout(work_s)

    def _closes(self, now_s: float) -> bool:
        """Returns whether the group restarts, at the present time or, with nothing else having happened, at another."""
        next_s = math.inf
        if self._looks_ahead:
            next_s = self._inbox[0].arrival_s if self._inbox else self._workers.next_arrival_s()
        group, awaited, arrived = len(self._group), len(self._awaited), len(self._arrived)
        workers = self._cluster.workers
        view = view_of((now_s, self._opened_s, group, awaited, next_s, self._started_s, arrived, workers))
        return self._config.synchronization.closes(view)

    def _process(self, message: Arrival | Request) -> Work:
        """A worker joins the group, with what it has computed if it has; without a barrier that is an outer step."""
        if isinstance(message, Request):
            self._admit(message)
            return
        worker = message.round.worker
        self._sentinel.arrived(worker, self._time_s)
        task = self._awaited.pop(worker, None)
        if self._measured is not None and task is not None and task.steps == message.round.steps:  # it was not cut off
            self._measured.observe(worker, (message.push_start_s - message.compute_start_s) / task.steps)
        self._join(worker, message.arrival_s)
        if self._averages and task is not None:
            self._arrived.append(message)
        else:
            yield from self._update((message,), late=self._averages)

    def _admit(self, request: Request) -> None:
        """Takes up a worker without a round: behind a barrier, one that has lost its round does it again."""
        if not self._workers.asks(request):
            return  # its group restarted before the server came to this, or it is gone again
        lost = self._awaited.pop(request.worker, None)
        if lost is not None and self._averages:
            self._dispatch(request.worker, self._time_s)
        else:
            self._join(request.worker, request.arrival_s)

    def _join(self, worker: int, arrival_s: float) -> None:
        if arrival_s < self._opened_s:
            self._opened_s = arrival_s
        self._group[worker] = None

    def _close_group(self) -> Work:
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
        synchronization, failing = self._config.synchronization, self._cluster.faults is not None
        if self._averages:
            self._awaited.clear()
        self._started_s = now_s = self._time_s
        for worker in workers:
            if not failing or self._workers.there(worker):
                self._dispatch(worker, now_s)
        if synchronization.timeout_s < math.inf and not self._alarm_is_on:
            self._alarm_is_on = True
            self._await_timeout()

    def _await_timeout(self, _: simpy.Event | None = None) -> None:
        """Wakes the server at the timeout of the present round, after what arrives just in time."""
        left_s = self._started_s + self._config.synchronization.timeout_s - self._env.now
        if left_s > 0:
            self._env.timeout(left_s).callbacks.append(self._await_timeout)
        else:
            self._env.timeout(0.0).callbacks.append(self._time_out)

    def _time_out(self, _: simpy.Event) -> None:
        if self._started_s + self._config.synchronization.timeout_s > self._env.now:  # another round has begun by now
            self._await_timeout()
            return
        self._alarm_is_on = False
        self.rouse()

    def _update(self, arrivals: tuple[Arrival, ...], *, late: bool = False) -> Work:
        if len(arrivals) == 1:
            staleness: tuple[int, ...] = (self._version - arrivals[0].round.version,)
        else:
            staleness = tuple([self._version - arrival.round.version for arrival in arrivals])
        outcome = "dropped" if late else self._outcome(max(staleness))
        if outcome == "applied":
            if self._update_takes_time:
                yield from self._busy(self._cluster.server_update_s)
            self._version += 1
        for arrival in arrivals:
            self._local_steps += arrival.round.steps
            self._waiting.add(arrival.round.worker)
        local_steps, now_s = self._local_steps, self._time_s
        self._events.append(update_of((now_s, arrivals, staleness, outcome, self._version, local_steps)))
        if local_steps >= self._last_local_step or self._version >= self._last_version:
            self._finish(now_s)
        elif local_steps >= self._next_evaluation:
            every = self._config.evaluate_every_steps
            assert every is not None
            self._next_evaluation = (local_steps // every + 1) * every
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

    def _dispatch(self, worker: int, now_s: float) -> None:
        steps = self._config.steps[worker] if self._measured is None else self._measured.steps(worker)
        shard, first_step = self._shards.next(worker, steps)
        task = round_of((self._next_round, worker, shard, first_step, steps, self._version))
        self._next_round += 1
        self._waiting.discard(worker)
        self._awaited[worker] = task
        self._events.append(dispatched_of((now_s, task)))
        self._workers.give(task, now_s)

    def _check_progress(self) -> None:
        """Checks that something can still come that the server waits for, if not from workers."""
        if self._group and self._closes(math.inf):
            return
        advice = "a synchronization.timeout and a quorum that can be reached, or " if self._averages else ""
        raise self._sentinel.stuck(self._time_s, self._awaited, self._group, advice)

    def _tick(self, every_s: float) -> Process:
        """Asks for an evaluation at every multiple of `every_s`; several while the server is busy give one."""
        count = 1
        while True:
            yield self._env.timeout(max(count * every_s - self._env.now, 0.0))
            count += 1
            self._tick_due = True
            self.rouse()

    def _evaluate(self) -> Work:
        if self._mark_evaluation(self._time_s) and self._config.evaluation_s > 0:
            yield from self._busy(self._config.evaluation_s)

    def _mark_evaluation(self, time_s: float) -> bool:
        """Returns whether there is anything to evaluate: the same state at the same time is evaluated once."""
        state = (time_s, self._version, self._local_steps)
        if state == self._evaluated:
            return False
        self._evaluated = state
        self.emit(Evaluation(*state))
        return True

    def _finish(self, time_s: float) -> None:
        self._end_s = time_s
        self._mark_evaluation(time_s)
        self.emit(Finished(time_s, self._version, self._local_steps, tuple(sorted(self._waiting))))
