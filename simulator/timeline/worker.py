"""A worker of the simulated cluster: it pulls, computes and pushes, goes away and comes back."""

import dataclasses
import math
from collections.abc import Callable, Generator
from typing import Any, NamedTuple, Protocol

import simpy

from simulator.cluster import Absence, ClusterModel, Nanoseconds, nanoseconds, seconds
from simulator.host.event_kinds import FaultKind
from simulator.timeline.events import Arrival, Event, Fault, Lost, Round, Shortened
from simulator.timeline.links import Channel

Process = Generator[simpy.Event, Any, None]


class Request(NamedTuple):
    """A request for a round, of a worker without one.

    Attributes:
      worker: its number.
      arrival_ns: when.
      rounds: number of rounds it had been given by then.
    """

    worker: int
    arrival_ns: Nanoseconds
    rounds: int


@dataclasses.dataclass(slots=True, eq=False)
class RoundUnderWay:
    """A round and its progress.

    Attributes:
      round: as it was given, or as much as is left of it.
      ready_ns, pull_start_ns, compute_start_ns, push_start_ns: when phases began; None where one has not.
      compute_ns: time of the steps at full speed.
      losses: number of times that the present message, of the pull at first, is still going to be lost.
      lost_pushes: number of times that of the push is.
      message_ns: time that the last message takes.
      pulls, pushes: messages that have been sent.
    """

    round: Round
    ready_ns: Nanoseconds
    pull_start_ns: Nanoseconds
    compute_ns: Nanoseconds
    losses: int = 0
    lost_pushes: int = 0
    message_ns: Nanoseconds = 0
    pulls: int = 0
    pushes: int = 0
    compute_start_ns: Nanoseconds | None = None
    push_start_ns: Nanoseconds | None = None


class SimulatedCluster(Protocol):
    """Clock, network and server as a worker meets them, see `Timeline`."""

    env: simpy.Environment
    cluster: ClusterModel
    down: Channel
    up: Channel
    under_way: int
    stalled: int

    def emit(self, event: Event) -> None:
        """Reports what happens."""

    def receive(self, message: Arrival | Request) -> None:
        """Takes in a message to the server."""

    def forget(self, worker: int) -> None:
        """Stops waiting for a worker."""

    def expect(self, worker: "Worker") -> None:
        """Updates the time at which a worker's round can arrive."""

    def wake(self) -> None:
        """Wakes the server."""

    def until(self, time_ns: Nanoseconds) -> Process:
        """Waits until a time."""


class Worker:
    """A worker as a SimPy process; a second process, of its absences, interrupts it at a notice and when it goes away.

    Attributes:
      index: its number.
      under_way: its round, None without one.
      rounds: number of rounds it has been given.
      absence: why it is away, None while it is there.
      warned: whether it has had notice to leave, and is given no more rounds.
      stalled: whether it waits for something that never ends.
      fated: whether it may still go away or come back.
      expected_ns: when its round will arrive if nobody gets in its way; infinite without one.
    """

    def __init__(self, index: int, timeline: SimulatedCluster):
        env, cluster, faults = timeline.env, timeline.cluster, timeline.cluster.faults
        self.index, self.rounds = index, 0
        self.under_way: RoundUnderWay | None = None
        self.absence: Absence | None = None
        self.warned, self.stalled, self.fated = False, False, faults is not None
        self.expected_ns: Nanoseconds = math.inf
        self._timeline, self._env, self._cluster, self._faults = timeline, env, cluster, faults
        self._jitter = cluster.jitter_stream(index) if cluster.jitter else None
        self._losses = faults.loss_stream(index) if faults and faults.loss else None
        self._retry_ns = nanoseconds(faults.loss.timeout) if faults and faults.loss else 0
        self._attempts = faults.loss.attempts if faults and faults.loss else math.inf
        self._ready_ns: Nanoseconds = 0
        self._given, self._back = env.event(), env.event()
        self._process = env.process(self._live())
        if faults is not None:
            env.process(self._suffer())

    @property
    def there(self) -> bool:
        """Returns whether it can be given a round."""
        return self.absence is None and not self.warned

    @property
    def returns(self) -> bool:
        """Returns whether it is away and will be back."""
        return self.absence is not None and self.absence.end_ns < math.inf

    @property
    def comes(self) -> bool:
        """Returns whether something will come from it, though it is not given a round."""
        works = self.under_way is not None and not self.stalled
        return works or self.warned or (self.stalled and self.fated) or self.returns

    def asks(self, request: Request) -> bool:
        """Returns whether a worker that has asked for a round is there and has not been given one since."""
        return self.there and self.rounds == request.rounds

    def state(self) -> str:
        """Describes a blocked worker for the message of a deadlock."""
        if self.absence is not None:
            return f"worker {self.index} ({self.absence.kind} at {seconds(self.absence.start_ns):g} s, never back)"
        return f"worker {self.index} ({'which can neither send nor receive' if self.stalled else 'idle'})"

    def give(self, round: Round) -> None:
        """Gives it a round. Its pull is sent at once, so that messages queue in the order of dispatch."""
        compute_ns = nanoseconds(self._cluster.compute_s(self.index, round.steps, self._jitter))
        under_way = RoundUnderWay(round, self._ready_ns, self._env.now, compute_ns)
        if self._faults is not None:  # both now: a round takes two numbers, whatever becomes of it
            under_way.losses, under_way.lost_pushes = (self._faults.losses(self._losses) for _ in range(2))
        self.rounds += 1
        self._start_round(under_way)
        self._send_pull(under_way)
        given, self._given = self._given, self._env.event()  # an event succeeds only once
        given.succeed(under_way)

    def _live(self) -> Process:
        """Does one round after the other. The cause of an interrupt is an absence, or None for a notice of one."""
        kept: RoundUnderWay | None = None  # its finished steps are pushed after an absence
        while True:
            # An interrupt can come at any yield below, also in the push of a kept round: so all are in one try.
            try:
                if kept is None:
                    yield from self._round((yield self._given))
                else:
                    yield from self._push(kept)
                kept = None
            except simpy.Interrupt as interrupt:
                if interrupt.cause is not None:
                    kept = yield from self._away(interrupt.cause)
                else:  # at the very moment at which it was given a round
                    self._decline()

    def _round(self, under_way: RoundUnderWay) -> Process:
        """Pulls, computes and pushes. At a notice it pushes the steps that are finished."""
        try:
            if not (yield from self._get_through(under_way, self._send_pull)):
                return
            under_way.compute_start_ns = now_ns = self._env.now
            yield from self._wait(self._computing_ns(now_ns, under_way.compute_ns))
            under_way.push_start_ns = self._env.now
        except simpy.Interrupt as interrupt:
            if interrupt.cause is not None:
                raise  # an absence is for _live, which keeps or loses the round
            if not self._cut(under_way):
                self._decline()
                return
        yield from self._push(under_way)  # outside of the try: no notice comes here, and an absence is for _live

    def _push(self, under_way: RoundUnderWay) -> Process:
        """Sends the finished steps; the worker is then ready for another round."""
        under_way.losses = under_way.lost_pushes
        self._send_push(under_way)
        if not (yield from self._get_through(under_way, self._send_push)):
            return
        self._end_round()
        self._ready_ns = now_ns = self._env.now
        assert under_way.compute_start_ns is not None
        assert under_way.push_start_ns is not None
        self._timeline.receive(
            Arrival(
                under_way.round,
                under_way.ready_ns,
                under_way.pull_start_ns,
                under_way.compute_start_ns,
                under_way.push_start_ns,
                now_ns,
                under_way.pulls,
                under_way.pushes,
            )
        )

    def _get_through(
        self, under_way: RoundUnderWay, send: Callable[[RoundUnderWay], None]
    ) -> Generator[simpy.Event, Any, bool]:
        """Waits for the message that was sent, and sends it again while it is lost; returns whether it gets through."""
        sent = 1
        while under_way.losses:
            yield from self._wait(under_way.message_ns + self._retry_ns)
            if sent == self._attempts:
                self._lose("message")
                self._ready_ns = self._env.now
                if self.warned:
                    self._timeline.forget(self.index)
                else:
                    self._ask()
                return False
            under_way.losses -= 1
            sent += 1
            send(under_way)
        yield from self._wait(under_way.message_ns)
        return True

    def _send_pull(self, under_way: RoundUnderWay) -> None:
        under_way.pulls += 1
        under_way.message_ns = self._timeline.down.duration_ns(self.index)
        pulled_ns = self._through_ns(self._timeline.down, under_way)
        computed_ns = pulled_ns + self._computing_ns(pulled_ns, under_way.compute_ns)
        self._expect(self._sent_through_ns(self._timeline.up, computed_ns, under_way.lost_pushes))

    def _send_push(self, under_way: RoundUnderWay) -> None:
        under_way.pushes += 1
        under_way.message_ns = self._timeline.up.duration_ns(self.index)
        self._expect(self._through_ns(self._timeline.up, under_way))

    def _through_ns(self, link: Channel, under_way: RoundUnderWay) -> Nanoseconds:
        """Returns when the present message, which was just sent, gets through if nobody gets in its way."""
        end_ns: Nanoseconds = self._env.now + under_way.message_ns
        if not under_way.losses:
            return end_ns
        return self._sent_through_ns(link, end_ns + self._retry_ns, under_way.losses - 1)

    def _sent_through_ns(self, link: Channel, start_ns: Nanoseconds, losses: int) -> Nanoseconds:
        """Returns when a message that is first sent at `start_ns` gets through."""
        end_ns = link.end_ns(self.index, start_ns)
        for _ in range(losses):
            end_ns = link.end_ns(self.index, end_ns + self._retry_ns)
        return end_ns

    def _expect(self, arrival_ns: Nanoseconds) -> None:
        if arrival_ns != self.expected_ns:
            self.expected_ns = arrival_ns
            self._timeline.expect(self)

    def _computing_ns(self, start_ns: Nanoseconds, work_ns: Nanoseconds) -> Nanoseconds:
        """Returns the time of steps that take `work_ns` at full speed."""
        if self._faults is None or start_ns == math.inf:
            return work_ns
        return self._faults.slowdowns(self.index).finished_ns(start_ns, work_ns) - start_ns

    def _wait(self, duration_ns: Nanoseconds) -> Process:
        """Lets time pass. An infinite wait can only be interrupted."""
        if duration_ns == math.inf:
            self.stalled = True
            self._timeline.stalled += 1
            self._timeline.wake()  # an idle server then looks for a deadlock
            yield self._env.event()
        elif duration_ns > 0:
            yield self._env.timeout(duration_ns)

    def _start_round(self, under_way: RoundUnderWay) -> None:
        self.under_way = under_way
        self._timeline.under_way += 1

    def _end_round(self) -> None:
        self.under_way = None
        self._timeline.under_way -= 1
        self._end_stall()
        self._expect(math.inf)

    def _end_stall(self) -> None:
        self._timeline.stalled -= self.stalled
        self.stalled = False

    # Going away and coming back.

    def _suffer(self) -> Process:
        """Makes the worker go away and come back."""
        assert self._faults is not None
        timeline, env = self._timeline, self._env
        for absence in self._faults.absences(self.index):
            if absence.notice_ns < absence.start_ns:
                yield from timeline.until(absence.notice_ns)
                self.warned = True
                timeline.emit(Fault(env.now, self.index, "notice"))
                if self.under_way is not None and self.under_way.push_start_ns is None:
                    self._process.interrupt(None)  # a push under way is left alone: there is nothing to cut off
                timeline.wake()
            yield from timeline.until(absence.start_ns)
            self.absence, self._back = absence, env.event()
            self._process.interrupt(absence)
            if absence.end_ns == math.inf:
                break
            yield self._back  # not `end_ns`: a notice at that very time has to come after the return
        self.fated = False
        timeline.wake()

    def _away(self, absence: Absence) -> Generator[simpy.Event, Any, RoundUnderWay | None]:
        """Stays away; returns with the finished steps of its round, or without a round."""
        assert self._faults is not None
        self.warned = False
        under_way, kept = self.under_way, False
        if under_way is not None:
            kept = absence.delivers and self._cut(under_way)
            if kept:
                self._end_round()  # while it is away nothing is under way; the round begins again with its push
            else:
                self._lose(absence.kind)
                if absence.announced:
                    self._timeline.forget(self.index)
        forgets = self._faults.forgets and not absence.delivers
        self._timeline.emit(Fault(self._env.now, self.index, absence.kind, forgets))
        self._timeline.wake()
        if absence.end_ns == math.inf:
            yield self._env.event()
        yield from self._timeline.until(absence.end_ns)
        self.absence, self._ready_ns = None, self._env.now
        self._timeline.emit(Fault(self._env.now, self.index, "return"))
        self._back.succeed()
        if under_way is not None and kept:
            self._start_round(under_way)
            return under_way
        self._ask()
        return None

    def _ask(self) -> None:
        self._timeline.receive(Request(self.index, self._env.now, self.rounds))

    def _decline(self) -> None:
        """Gives up a round of which nothing is finished, after a notice to leave, and notifies the server."""
        self._lose("preemption")
        self._timeline.forget(self.index)

    def _cut(self, under_way: RoundUnderWay) -> bool:
        """Leaves a round only the steps that are finished; returns whether there are any."""
        finished, steps = self._finished(under_way), under_way.round.steps
        if finished and under_way.push_start_ns is None:
            under_way.push_start_ns = self._env.now
            self._end_stall()
            if finished < steps:
                under_way.round = under_way.round._replace(steps=finished)
                self._timeline.emit(Shortened(self._env.now, under_way.round, steps))
        return finished > 0

    def _finished(self, under_way: RoundUnderWay) -> int:
        """Returns the number of steps of a round that have been computed."""
        steps = under_way.round.steps
        if under_way.compute_start_ns is None:
            return 0
        if under_way.push_start_ns is not None:
            return steps
        assert self._faults is not None
        worked_ns = self._faults.slowdowns(self.index).work_ns(under_way.compute_start_ns, self._env.now)
        # In whole numbers, product first: rounding takes away no step that ends at this very time.
        return int(min(worked_ns * steps // under_way.compute_ns, steps))

    def _lose(self, cause: FaultKind) -> None:
        under_way = self.under_way
        assert under_way is not None
        finished = self._finished(under_way)
        self._end_round()
        now_ns = self._env.now
        self._timeline.emit(Lost(now_ns, under_way.round, cause, finished, under_way.pulls, under_way.pushes))
