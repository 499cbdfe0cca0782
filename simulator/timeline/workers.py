"""The workers' side of the simulated cluster: SimPy processes that pull, compute and push, and what befalls them."""

import dataclasses
import heapq
import math
from collections.abc import Generator, Mapping
from typing import Any, NamedTuple, Protocol

import simpy

from simulator.cluster import Absence, ClusterModel, Episodes
from simulator.timeline.events import Arrival, Event, Fault, FaultKind, Lost, Round, Shortened
from simulator.timeline.links import Channel

Process = Generator[simpy.Event, Any, Any]
_ROUNDING = 1e-9  # of a step


class Request(NamedTuple):
    """A worker that has nothing to do asks for a round.

    Attributes:
      worker: who.
      arrival_s: when.
      rounds: how many rounds it had been given by then.
    """

    worker: int
    arrival_s: float
    rounds: int


class Server(Protocol):
    """What workers need of the server."""

    def emit(self, event: Event) -> None:
        """Something has happened."""

    def receive(self, message: Arrival | Request) -> None:
        """A pseudo-gradient or a request has arrived."""

    def told(self, worker: int) -> None:
        """A worker has said that its round will not come."""

    def rouse(self) -> None:
        """What the server waits for may have changed."""


@dataclasses.dataclass(slots=True)
class _Flight:
    """A round under way.

    Attributes:
      task: what is to be done.
      ready_s, pull_start_s, compute_start_s, push_start_s: when phases began; None where one has not.
      pull_s: how long the pull takes, None where it is not known before its message gets through.
      compute_s: how long the steps take at full speed.
      lost_pulls, lost_pushes: how many times the message is lost.
      pushes: how many messages have been sent with what was computed.
    """

    task: Round
    ready_s: float
    pull_start_s: float
    pull_s: float | None
    compute_s: float
    lost_pulls: int
    lost_pushes: int
    compute_start_s: float | None = None
    push_start_s: float | None = None
    pushes: int = 0

    def arrived(self, time_s: float) -> Arrival:
        """Returns the round as it arrives."""
        assert self.compute_start_s is not None
        assert self.push_start_s is not None
        times_s = self.ready_s, self.pull_start_s, self.compute_start_s, self.push_start_s, time_s
        return Arrival(self.task, *times_s, self.lost_pulls + 1, self.pushes)


class Workers:
    """All workers.

    A worker that goes away leaves its process to end unheeded, and has another one when it is back.
    """

    def __init__(self, env: simpy.Environment, cluster: ClusterModel, server: Server):
        count, faults = cluster.workers, cluster.faults
        self._env, self._cluster, self._server, self._faults = env, cluster, server, faults
        self._down = Channel(env, cluster.down, faults)
        self._up = Channel(env, cluster.up, faults)
        self._jitter = [cluster.jitter_stream(w) if cluster.jitter else None for w in range(count)]
        self._loss = [faults.loss_stream(w) if faults and faults.loss else None for w in range(count)]
        self._expected_s = [math.inf] * count  # when each worker's round arrives at the earliest
        self._expected: list[tuple[float, int]] = []  # the same as a heap, with outdated entries
        self._tasks = [env.event() for _ in range(count)]
        self._flights: list[_Flight | None] = [None] * count
        self._ready_s = [0.0] * count
        self._rounds = [0] * count  # how many a worker has been given
        self._lives = [0] * count  # how many processes a worker has left behind
        self._fated = set(range(count)) if faults is not None else set()  # who may go away or come back
        self._absent: dict[int, Absence] = {}
        self._warned: set[int] = set()  # there, but not for long
        self._stalled: set[int] = set()  # at something that never ends
        self._under_way = 0
        for worker in range(count):
            env.process(self._live(worker))
        if faults is not None:
            env.process(self._tell(-1, faults.server, "server down", "server up"))
            for worker in range(count):
                env.process(self._suffer(worker))
                env.process(self._tell(worker, faults.slowdowns(worker), "slow", "normal"))
                env.process(self._tell(worker, faults.own_link(worker), "disconnect", "reconnect"))

    # What the server asks and says.

    def there(self, worker: int) -> bool:
        """Returns whether a worker can be given a round."""
        return worker not in self._absent and worker not in self._warned

    def asks(self, request: Request) -> bool:
        """Returns whether a worker that has asked for a round is there and has not been given one since."""
        return self.there(request.worker) and self._rounds[request.worker] == request.rounds

    def hopeless(self, failures: Mapping[int, int], limit: int) -> bool:
        """Returns whether everybody that has a round, or will be back, has failed more often than `limit`."""
        trying = [worker for worker, flight in enumerate(self._flights) if flight is not None]
        trying += [worker for worker, absence in self._absent.items() if absence.end_s < math.inf]
        return all(failures.get(worker, 0) > limit for worker in trying)

    @property
    def stuck(self) -> bool:
        """Whether nothing will come from any worker that is not given a round."""
        some_go_on = self._under_way > len(self._stalled) or self._warned or self._stalled & self._fated
        return not some_go_on and all(absence.end_s == math.inf for absence in self._absent.values())

    def state(self, worker: int) -> str:
        """Returns who that is and why nothing comes from it."""
        if worker in self._absent:
            absence = self._absent[worker]
            return f"worker {worker} ({absence.kind} at {absence.start_s:g} s, never back)"
        return f"worker {worker} ({'which can neither send nor receive' if worker in self._stalled else 'idle'})"

    def next_arrival_s(self) -> float:
        """Returns when the next round can arrive, at the earliest."""
        while self._expected and self._expected_s[self._expected[0][1]] != self._expected[0][0]:
            heapq.heappop(self._expected)
        return self._expected[0][0] if self._expected else math.inf

    def give(self, task: Round) -> None:
        """Sends a worker that is there off with a round."""
        worker, now_s = task.worker, float(self._env.now)
        compute_s = self._cluster.compute_s(worker, task.steps, self._jitter[worker])
        pulls = pushes = 0
        if self._faults is not None:
            pulls, pushes = (self._faults.losses(self._loss[worker]) for _ in range(2))
        pulled_s = self._down.end_s(worker, now_s + self._retrying_s(pulls))
        pull_s = None if pulls else self._down.duration_s(worker)
        flight = _Flight(task, self._ready_s[worker], now_s, pull_s, compute_s, pulls, pushes)
        self._rounds[worker] += 1
        self._take_off(worker, flight)
        self._predict(worker, flight, pulled_s)
        self._tasks[worker].succeed(flight)

    # A worker's life.

    def _live(self, worker: int, sending: _Flight | None = None) -> Process:
        """Waits for a round, pulls, computes, pushes, and again; at first it may have something to send."""
        env, life = self._env, self._lives[worker]
        if sending is not None:
            yield from self._push(worker, life, sending)
        while self._lives[worker] == life:
            flight: _Flight = yield self._tasks[worker]
            if self._lives[worker] != life:
                return
            if flight.pull_s is None:
                if (yield from self._given_up(worker, life, flight.lost_pulls)):
                    continue
                flight.pull_s = self._down.duration_s(worker)
                self._predict(worker, flight, env.now + flight.pull_s)
                self._server.rouse()
            if flight.pull_s > 0:
                yield self._after(worker, flight.pull_s)
                if self._lives[worker] != life:
                    return
            flight.compute_start_s = env.now
            yield self._after(worker, self._computing_s(worker, env.now, flight.compute_s))
            if self._lives[worker] != life:
                return
            flight.push_start_s = env.now
            yield from self._push(worker, life, flight)

    def _push(self, worker: int, life: int, flight: _Flight) -> Process:
        """Sends what was computed; then the worker is ready for another round."""
        flight.pushes += flight.lost_pushes
        if flight.lost_pushes and (yield from self._given_up(worker, life, flight.lost_pushes)):
            return
        flight.pushes += 1
        push_s = self._up.duration_s(worker)
        if self._up.contended:  # only now is it known when the link is free
            self._expect(worker, self._env.now + push_s)
            self._server.rouse()
        if push_s > 0:
            yield self._after(worker, push_s)
            if self._lives[worker] != life:
                return
        self._land(worker)
        self._make_ready(worker)
        self._server.receive(flight.arrived(self._env.now))

    def _given_up(self, worker: int, life: int, lost: int) -> Process:
        """Loses a message so many times; returns whether the worker has given up or is not there any more."""
        assert self._faults is not None
        assert self._faults.loss is not None
        yield self._env.timeout(self._retrying_s(lost))
        if self._lives[worker] != life:
            return True
        if lost < self._faults.loss.attempts:
            return False
        self._lose(worker, "message")
        self._make_ready(worker)
        if worker in self._warned:
            self._server.told(worker)
        else:
            self._server.receive(Request(worker, self._env.now, self._rounds[worker]))
        return True

    def _after(self, worker: int, duration_s: float) -> simpy.Event:
        if duration_s < math.inf:
            return self._env.timeout(duration_s)
        self._stalled.add(worker)
        self._server.rouse()
        return self._env.event()

    def _computing_s(self, worker: int, start_s: float, work_s: float) -> float:
        if self._faults is None:
            return work_s
        end_s = self._faults.slowdowns(worker).finished_s(start_s, work_s)
        return end_s - start_s if end_s < math.inf else math.inf

    def _retrying_s(self, lost: int) -> float:
        return lost * self._faults.loss.timeout if self._faults and self._faults.loss else 0.0

    def _predict(self, worker: int, flight: _Flight, pulled_s: float) -> None:
        """Expects a round whose pull ends at `pulled_s` when it will arrive if nobody is in its way."""
        computed_s = pulled_s + self._computing_s(worker, pulled_s, flight.compute_s)
        self._expect(worker, self._up.end_s(worker, computed_s + self._retrying_s(flight.lost_pushes)))

    def _expect(self, worker: int, arrival_s: float) -> None:
        self._expected_s[worker] = arrival_s
        if arrival_s < math.inf:
            heapq.heappush(self._expected, (arrival_s, worker))

    def _make_ready(self, worker: int) -> None:
        """Has a worker wait for another round from now on."""
        self._tasks[worker] = self._env.event()
        self._ready_s[worker] = self._env.now

    def _take_off(self, worker: int, flight: _Flight) -> None:
        self._flights[worker] = flight
        self._under_way += 1

    def _land(self, worker: int) -> None:
        self._flights[worker] = None
        self._under_way -= 1
        self._stalled.discard(worker)
        self._expect(worker, math.inf)

    # What befalls a worker.

    def _suffer(self, worker: int) -> Process:
        """Has a worker go away and come back."""
        assert self._faults is not None
        for absence in self._faults.absences(worker):
            if absence.notice_s < absence.start_s:
                yield from self._until(absence.notice_s)
                self._warn(worker)
            yield from self._until(absence.start_s)
            kept = self._vanish(worker, absence)
            if absence.end_s == math.inf:
                break
            yield from self._until(absence.end_s)
            self._return(worker, kept)
        self._fated.discard(worker)
        self._server.rouse()

    def _tell(self, worker: int, episodes: Episodes, begins: FaultKind, ends: FaultKind) -> Process:
        """Tells of what only makes things slower."""
        for episode in episodes:
            yield from self._until(episode.start_s)
            self._server.emit(Fault(self._env.now, worker, begins))
            if episode.end_s == math.inf:
                return
            yield from self._until(episode.end_s)
            self._server.emit(Fault(self._env.now, worker, ends))

    def _until(self, time_s: float) -> Process:
        if time_s > self._env.now:
            yield self._env.timeout(time_s - self._env.now)

    def _warn(self, worker: int) -> None:
        """A worker sends what it has finished, and is given no more."""
        self._warned.add(worker)
        self._server.emit(Fault(self._env.now, worker, "notice"))
        flight = self._flights[worker]
        if flight is not None and flight.push_start_s is None:
            self._end_life(worker)
            if self._cut(worker, flight):
                self._send(worker, flight)
            else:
                self._lose(worker, "preemption")
                self._server.told(worker)
                self._env.process(self._live(worker))
        self._server.rouse()

    def _vanish(self, worker: int, absence: Absence) -> _Flight | None:
        """A worker is gone; returns the round of which it has kept the finished steps, if there is one."""
        assert self._faults is not None
        self._end_life(worker)
        self._warned.discard(worker)
        self._absent[worker] = absence
        flight = self._flights[worker]
        kept = flight if flight is not None and absence.delivers and self._cut(worker, flight) else None
        if kept is not None:
            self._land(worker)
        elif flight is not None:
            self._lose(worker, absence.kind)
            if absence.announced:
                self._server.told(worker)
        forgets = self._faults.forgets and not absence.delivers
        self._server.emit(Fault(self._env.now, worker, absence.kind, forgets))
        self._server.rouse()
        return kept

    def _return(self, worker: int, kept: _Flight | None) -> None:
        """A worker is there again: it sends what it has kept, or asks for a round."""
        del self._absent[worker]
        self._ready_s[worker] = self._env.now
        self._server.emit(Fault(self._env.now, worker, "return"))
        if kept is not None:
            self._take_off(worker, kept)
            self._send(worker, kept)
        else:
            self._env.process(self._live(worker))
            self._server.receive(Request(worker, self._env.now, self._rounds[worker]))

    def _end_life(self, worker: int) -> None:
        self._lives[worker] += 1
        self._tasks[worker] = self._env.event()

    def _send(self, worker: int, flight: _Flight) -> None:
        """Begins a life with a push."""
        self._stalled.discard(worker)
        self._expect(worker, self._up.end_s(worker, self._env.now + self._retrying_s(flight.lost_pushes)))
        self._env.process(self._live(worker, flight))
        self._server.rouse()

    def _cut(self, worker: int, flight: _Flight) -> bool:
        """Leaves a round only the steps that are finished; returns whether there are any."""
        finished = self._finished(worker, flight)
        if finished and flight.push_start_s is None:
            flight.push_start_s = self._env.now
            if finished < flight.task.steps:
                given, flight.task = flight.task.steps, flight.task._replace(steps=finished)
                self._server.emit(Shortened(self._env.now, flight.task, given))
        return finished > 0

    def _finished(self, worker: int, flight: _Flight) -> int:
        """Returns how many steps of a round have been computed."""
        if flight.compute_start_s is None or flight.push_start_s is not None:
            return 0 if flight.compute_start_s is None else flight.task.steps
        assert self._faults is not None
        worked_s = self._faults.slowdowns(worker).work_s(flight.compute_start_s, self._env.now)
        steps = flight.task.steps
        return min(math.floor(worked_s / flight.compute_s * steps + _ROUNDING), steps)

    def _lose(self, worker: int, cause: FaultKind) -> None:
        flight = self._flights[worker]
        assert flight is not None
        finished = self._finished(worker, flight)
        self._land(worker)
        pulls = flight.lost_pulls + (flight.pull_s is not None)
        self._server.emit(Lost(self._env.now, flight.task, cause, finished, pulls, flight.pushes))
