"""The workers' side of the simulated cluster: they pull, compute and push, and what befalls them."""

import dataclasses
import functools
import heapq
import math
from collections.abc import Callable, Generator, Mapping
from typing import Any

import simpy

from simulator.cluster import Absence, ClusterModel, Episodes
from simulator.timeline.agenda import Agenda
from simulator.timeline.events import Arrival, Fault, FaultKind, Lost, Round, Shortened, arrival_of
from simulator.timeline.flights import Flight, Request, Server, course_of
from simulator.timeline.links import Channel

Process = Generator[simpy.Event, Any, Any]
Leaving = tuple[float, Callable[[simpy.Event | None], None]]  # seconds, and what is done after them
_ROUNDING = 1e-9  # of a step


class Workers:
    """All workers.

    Each phase of a round is one SimPy timeout, whose callback begins the next. What a worker leaves behind when it goes
    away ends unheeded: the round is not the one that it is at any more.
    """

    def __init__(self, env: simpy.Environment, agenda: Agenda, cluster: ClusterModel, server: Server, foresight: bool):
        """Has everybody wait for a round.

        Args:
          env: the clock.
          agenda: of what takes no time.
          cluster: what everything costs.
          server: is told of what happens.
          foresight: whether it will be asked when the next round can arrive.
        """
        count, faults = cluster.workers, cluster.faults
        self._timeout = env.timeout
        self._env, self._agenda, self._cluster, self._server, self._faults = env, agenda, cluster, server, faults
        self._down = Channel(env, cluster.down, faults)
        self._up = Channel(env, cluster.up, faults)
        self._jitter = [cluster.jitter_stream(w) if cluster.jitter else None for w in range(count)]
        self._loss = [faults.loss_stream(w) if faults and faults.loss else None for w in range(count)]
        self._foresight = foresight
        self._expected_s = [math.inf] * count  # when each worker's round arrives at the earliest
        self._expected: list[tuple[float, int]] = []  # the same as a heap, with outdated entries
        self._flights: list[Flight | None] = [None] * count
        self._disturbed = faults is not None or self._down.contended or self._up.contended
        self._step_s = [float(own_s) for own_s in cluster.step_s]
        self._leaving: list[Leaving] = []  # rounds that were given at this very time
        self._ready_s = [0.0] * count
        self._rounds = [0] * count  # how many a worker has been given
        self._fated = set(range(count)) if faults is not None else set()  # who may go away or come back
        self._absent: dict[int, Absence] = {}
        self._warned: set[int] = set()  # there, but not for long
        self._stalled: set[int] = set()  # at something that never ends
        self._under_way = 0
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

    def give(self, task: Round, now_s: float) -> None:
        """Sends a worker that is there off with a round, at the present time."""
        if not self._leaving:
            self._agenda.put(self._leave)
        _, worker, _, _, steps, _ = task
        jitter = self._jitter[worker]
        compute_s = steps * self._step_s[worker] if jitter is None else self._cluster.compute_s(worker, steps, jitter)
        pull_s, push_s = self._down.rest_s[worker], self._up.rest_s[worker]
        compute_start_s = now_s + pull_s
        push_start_s = compute_start_s + compute_s
        arrival_s = push_start_s + push_s
        if self._disturbed or arrival_s == math.inf:
            flight = self._flight(task, now_s, compute_s)
            self._leaving.append((0.0, functools.partial(self._if_at_it, self._begin, flight)))
            return
        self._under_way += 1
        self._expected_s[worker] = arrival_s
        if self._foresight:
            heapq.heappush(self._expected, (arrival_s, worker))
        arrival = arrival_of((task, self._ready_s[worker], now_s, compute_start_s, push_start_s, arrival_s, 1, 1))
        course = course_of((self._timeout, self._landed, arrival, compute_s, push_s))
        self._leaving.append((pull_s, course.compute))

    def _leave(self) -> None:
        """Begins the rounds that were given at this time."""
        leaving, self._leaving = self._leaving, []
        timeout = self._timeout
        for pull_s, then in leaving:
            if pull_s > 0:
                timeout(pull_s).callbacks.append(then)
            else:
                then(None)

    def _landed(self, arrival: Arrival) -> None:
        """A round that nothing has disturbed arrives."""
        worker = arrival.round.worker
        self._under_way -= 1
        self._expected_s[worker] = math.inf
        self._ready_s[worker] = arrival.arrival_s
        self._server.receive(arrival)

    # Rounds that faults, or others in the queue, may disturb.

    def _flight(self, task: Round, now_s: float, compute_s: float) -> Flight:
        """Returns a round that may be disturbed."""
        worker, pulls, pushes = task.worker, 0, 0
        if self._faults is not None:
            pulls, pushes = (self._faults.losses(self._loss[worker]) for _ in range(2))
        pulled_s = self._down.end_s(worker, now_s + self._retrying_s(pulls))
        pull_s = None if pulls else self._down.duration_s(worker)
        flight = Flight(task, self._ready_s[worker], now_s, pull_s, compute_s, pulls, pushes)
        self._rounds[worker] += 1
        self._take_off(worker, flight)
        self._predict(worker, flight, pulled_s)
        return flight

    def _if_at_it(self, then: Callable[[Flight], None], flight: Flight, _: simpy.Event | None = None) -> None:
        """Does something with a round if its worker is still at it."""
        if self._flights[flight.task.worker] is flight:
            then(flight)

    def _after(self, duration_s: float, flight: Flight, then: Callable[[Flight], None]) -> None:
        """Has something done with a round after some time, if its worker is still at it."""
        if duration_s < math.inf:
            self._timeout(duration_s).callbacks.append(functools.partial(self._if_at_it, then, flight))
        else:
            self._stalled.add(flight.task.worker)
            self._server.rouse()

    def _begin(self, flight: Flight) -> None:
        if flight.pull_s is None:
            self._after(self._retrying_s(flight.lost_pulls), flight, self._retried_pull)
        elif flight.pull_s > 0:
            self._after(flight.pull_s, flight, self._compute)
        else:
            self._compute(flight)

    def _retried_pull(self, flight: Flight) -> None:
        worker = flight.task.worker
        if self._given_up(flight, flight.lost_pulls):
            return
        flight.pull_s = self._down.duration_s(worker)
        self._predict(worker, flight, self._env.now + flight.pull_s)
        self._server.rouse()
        self._begin(flight)

    def _compute(self, flight: Flight) -> None:
        flight.compute_start_s = now_s = self._env.now
        self._after(self._computing_s(flight.task.worker, now_s, flight.compute_s), flight, self._computed)

    def _computed(self, flight: Flight) -> None:
        flight.push_start_s = self._env.now
        self._push(flight)

    def _push(self, flight: Flight) -> None:
        """Sends what was computed, once those of its messages that are lost have been."""
        flight.pushes += flight.lost_pushes
        if flight.lost_pushes:
            self._after(self._retrying_s(flight.lost_pushes), flight, self._retried_push)
        else:
            self._transmit(flight)

    def _retried_push(self, flight: Flight) -> None:
        if not self._given_up(flight, flight.lost_pushes):
            self._transmit(flight)

    def _transmit(self, flight: Flight) -> None:
        worker = flight.task.worker
        flight.pushes += 1
        push_s = self._up.duration_s(worker)
        if self._up.contended:  # only now is it known when the link is free
            self._expect(worker, self._env.now + push_s)
            self._server.rouse()
        if push_s > 0:
            self._after(push_s, flight, self._arrive)
        else:
            self._arrive(flight)

    def _arrive(self, flight: Flight) -> None:
        """The worker is ready for another round."""
        worker = flight.task.worker
        self._land(worker)
        self._ready_s[worker] = now_s = self._env.now
        self._server.receive(flight.arrived(now_s))

    def _given_up(self, flight: Flight, lost: int) -> bool:
        """Returns whether a worker has lost a message so many times that it gives up."""
        assert self._faults is not None
        assert self._faults.loss is not None
        if lost < self._faults.loss.attempts:
            return False
        worker = flight.task.worker
        self._lose(worker, "message")
        self._ready_s[worker] = self._env.now
        if worker in self._warned:
            self._server.told(worker)
        else:
            self._server.receive(Request(worker, self._env.now, self._rounds[worker]))
        return True

    def _computing_s(self, worker: int, start_s: float, work_s: float) -> float:
        if self._faults is None:
            return work_s
        end_s = self._faults.slowdowns(worker).finished_s(start_s, work_s)
        return end_s - start_s if end_s < math.inf else math.inf

    def _retrying_s(self, lost: int) -> float:
        return lost * self._faults.loss.timeout if self._faults and self._faults.loss else 0.0

    def _predict(self, worker: int, flight: Flight, pulled_s: float) -> None:
        """Expects a round whose pull ends at `pulled_s` when it will arrive if nobody is in its way."""
        computed_s = pulled_s + self._computing_s(worker, pulled_s, flight.compute_s)
        self._expect(worker, self._up.end_s(worker, computed_s + self._retrying_s(flight.lost_pushes)))

    def _expect(self, worker: int, arrival_s: float) -> None:
        self._expected_s[worker] = arrival_s
        if arrival_s < math.inf and self._foresight:
            heapq.heappush(self._expected, (arrival_s, worker))

    def _take_off(self, worker: int, flight: Flight) -> None:
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
            if self._cut(worker, flight):
                self._send(worker, flight)
            else:
                self._lose(worker, "preemption")
                self._server.told(worker)
        self._server.rouse()

    def _vanish(self, worker: int, absence: Absence) -> Flight | None:
        """A worker is gone; returns the round of which it has kept the finished steps, if there is one."""
        assert self._faults is not None
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

    def _return(self, worker: int, kept: Flight | None) -> None:
        """A worker is there again: it sends what it has kept, or asks for a round."""
        del self._absent[worker]
        self._ready_s[worker] = self._env.now
        self._server.emit(Fault(self._env.now, worker, "return"))
        if kept is not None:
            self._take_off(worker, kept)
            self._send(worker, kept)
        else:
            self._server.receive(Request(worker, self._env.now, self._rounds[worker]))

    def _send(self, worker: int, flight: Flight) -> None:
        """Pushes what there is of a round; whatever it was waiting for comes to nothing."""
        self._stalled.discard(worker)
        self._flights[worker] = flight = dataclasses.replace(flight)
        self._expect(worker, self._up.end_s(worker, self._env.now + self._retrying_s(flight.lost_pushes)))
        self._agenda.put_first(functools.partial(self._push, flight))
        self._server.rouse()

    def _cut(self, worker: int, flight: Flight) -> bool:
        """Leaves a round only the steps that are finished; returns whether there are any."""
        finished = self._finished(worker, flight)
        if finished and flight.push_start_s is None:
            flight.push_start_s = self._env.now
            if finished < flight.task.steps:
                given, flight.task = flight.task.steps, flight.task._replace(steps=finished)
                self._server.emit(Shortened(self._env.now, flight.task, given))
        return finished > 0

    def _finished(self, worker: int, flight: Flight) -> int:
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
