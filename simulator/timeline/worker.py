"""A worker of the simulated cluster: it pulls, computes and pushes, goes away and comes back."""

import math
from collections.abc import Callable, Generator
from typing import Any

import simpy

from simulator.cluster import Absence, Nanoseconds, nanoseconds, seconds
from simulator.host.event_kinds import FaultKind
from simulator.timeline.events import Arrival, Fault, Lost, Round, Shortened
from simulator.timeline.links import Channel
from simulator.timeline.message import Process, Transit
from simulator.timeline.place import MeetingPlace
from simulator.timeline.round_under_way import Assignment, HomeServer, Request, RoundUnderWay, SimulatedCluster


class Worker:
    """A worker as a SimPy process; a second process, of its absences, interrupts it at a notice and when it goes away.

    This one waits for its server after each round, and is given the next.

    Attributes:
      index: its number.
      home: its server.
      under_way: its round, None without one.
      rounds: number of rounds it has been given.
      offers: number of its offers that have got through; of one that goes on by itself they are not counted.
      absence: why it is away, None while it is there.
      warned: whether it has had notice to leave, and is given no more rounds.
      stalled: whether it waits for something that never ends, or for an answer.
      fated: whether it may still go away or come back.
      holds_parameters: whether it has begun to compute, and lost nothing since.
      expected_ns: when its round will arrive if nobody gets in its way; infinite without one.
    """

    def __init__(self, index: int, timeline: SimulatedCluster):
        env, cluster, faults = timeline.env, timeline.cluster, timeline.cluster.faults
        self.index, self.rounds, self.offers = index, 0, 0
        self.home: HomeServer
        self.under_way: RoundUnderWay | None = None
        self.absence: Absence | None = None
        self.warned, self.stalled, self.fated, self.holds_parameters = False, False, faults is not None, False
        self.expected_ns: Nanoseconds = math.inf
        self._timeline, self._env, self._cluster, self._faults = timeline, env, cluster, faults
        self._pace = cluster.pace(index)
        self._jitter = cluster.jitter_stream(index) if cluster.jitter else None
        self._losses = faults.loss_stream(index) if faults and faults.loss else None
        self._retry_ns = nanoseconds(faults.loss.timeout) if faults and faults.loss else 0
        self._attempts = faults.loss.attempts if faults and faults.loss else math.inf
        self._ready_ns: Nanoseconds = 0
        self._factor = 1.0  # of its next round's steps
        self._given, self._back = env.event(), env.event()
        self._process = env.process(self._live())
        if faults is not None:
            env.process(self._suffer())

    @property
    def there(self) -> bool:
        """Returns whether it can be given a round."""
        return self.absence is None and not self.warned

    @property
    def is_under_way(self) -> bool:
        """Returns whether it is there and goes from round to round by itself."""
        return False

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
        is_cut_off = self.stalled or self.index in self._timeline.stuck
        return f"worker {self.index} ({'which can neither send nor receive' if is_cut_off else 'idle'})"

    def choose_steps(self, offer: int, most: int) -> int:
        """Draws how long the steps of its next round take, and returns their number.

        Args:
          offer: number of the worker's offer at its end.
          most: of a whole round.
        """
        self._factor = self._cluster.jitter_factor(self._jitter)
        return most

    def give(self, assignment: Assignment) -> None:
        """Gives it a round. Its pull is sent at once, so that messages queue in the order of dispatch."""
        round, _, turn, versions, source, since_ns = assignment
        if since_ns is not None and since_ns < self._ready_ns:
            since_ns = None
        under_way = self._begin(round, self._env.now if since_ns is None else since_ns)
        under_way.base, under_way.turn, under_way.source = versions[round.fragment], turn, source
        if since_ns is None:
            self._send_pull(under_way)
        given, self._given = self._given, self._env.event()  # an event succeeds only once
        given.succeed(under_way)

    def answer(self, place: MeetingPlace, round: int) -> bool:
        """Sends it the answer to the offer of a round while it goes on; returns whether it has use for it."""
        raise NotImplementedError(f"worker {self.index} waits for its rounds, and is not answered meanwhile")

    def _begin(self, round: Round, pull_start_ns: Nanoseconds) -> RoundUnderWay:
        """Begins a round whose steps were chosen."""
        parts, of_step = self._parts_of(round)
        steps = parts / of_step - len(round.pulls)
        fill_ns = nanoseconds(self._cluster.filling_s(self.index, self._factor, is_first=not self.rounds))
        steps_s = self._cluster.compute_s(self.index, steps, self._factor, round.micro_batches)
        compute_ns = fill_ns + nanoseconds(steps_s)
        under_way = RoundUnderWay(round, self._ready_ns, pull_start_ns, compute_ns, parts, fill_ns)
        if self._faults is not None:  # both now: a round takes two numbers, whatever becomes of it
            under_way.losses, under_way.lost_pushes = (self._faults.losses(self._losses) for _ in range(2))
        self.rounds += 1
        self.under_way = under_way
        self._timeline.under_way += 1
        return under_way

    def _parts_of(self, round: Round) -> tuple[int, int]:
        """Returns the parts of steps that a round has, and those of a step."""
        return round.steps, 1

    def _live(self) -> Process:
        """Does one round after the other. The cause of an interrupt is an absence, or None for a notice of one."""
        kept: RoundUnderWay | None = None  # its finished steps are pushed after an absence
        while True:
            # An interrupt can come at any yield below, also in the push of a kept round: so all are in one try.
            try:
                if kept is None:
                    yield from self._rounds((yield self._given))
                else:
                    yield from self._deliver(kept)
                kept = None
            except simpy.Interrupt as interrupt:
                kept = yield from self._interrupted(interrupt.cause)

    def _interrupted(self, cause: Any) -> Generator[simpy.Event, Any, RoundUnderWay | None]:
        """Follows an interrupt; returns with finished steps that are left to push."""
        if cause is not None:
            return (yield from self._away(cause))
        self._decline()  # at the very moment at which it was given a round
        return None

    def _rounds(self, under_way: RoundUnderWay) -> Process:
        """Does the rounds that follow from a given one: it alone."""
        yield from self._round(under_way)

    def _deliver(self, kept: RoundUnderWay) -> Process:
        """Pushes what was finished before an absence."""
        yield from self._push(kept)

    def _round(self, under_way: RoundUnderWay) -> Generator[simpy.Event, Any, bool]:
        """Pulls, computes and pushes; returns whether it did. At a notice it pushes the steps that are finished."""
        try:
            if under_way.pulls and not (yield from self._get_through(under_way, self._send_pull)):
                return False
            under_way.compute_start_ns, self.holds_parameters = self._env.now, True
            yield from self._compute(under_way)
            under_way.push_start_ns = self._env.now
        except simpy.Interrupt as interrupt:
            if interrupt.cause is not None:
                raise  # an absence is for _live, which keeps or loses the round
            if not self._cut(under_way):
                self._decline()
                return False
        yield from self._push(under_way)  # outside of the try: no notice comes here, and an absence is for _live
        return True

    def _compute(self, under_way: RoundUnderWay) -> Process:
        """Computes the local steps."""
        yield from self._stretch(under_way, under_way.parts)

    def _stretch(self, under_way: RoundUnderWay, parts: int) -> Process:
        """Computes up to a number of the round's parts."""
        if parts == under_way.done:
            return
        before_ns, until_ns = under_way.share_ns(under_way.done), under_way.share_ns(parts)
        under_way.stretch_start_ns = now_ns = self._env.now
        yield from self._wait(self._computing_ns(now_ns, until_ns - before_ns))
        under_way.done, under_way.stretch_start_ns = parts, None

    def _push(self, under_way: RoundUnderWay) -> Process:
        """Sends the finished steps; the worker is then ready for another round."""
        under_way.losses = under_way.lost_pushes
        self._send_push(under_way)
        if not (yield from self._get_through(under_way, self._send_push)):
            return
        self.home.receive(self._offer(under_way))

    def _offer(self, under_way: RoundUnderWay) -> Arrival:
        """Ends a round whose offer is where it is to meet others, and returns that."""
        self._end_round()
        self.offers += 1
        self._ready_ns = now_ns = self._env.now
        return under_way.arrival(now_ns)

    def _get_through(
        self, under_way: RoundUnderWay, send: Callable[[RoundUnderWay], None]
    ) -> Generator[simpy.Event, Any, bool]:
        """Waits for the message that was sent, and sends it again while it is lost; returns whether it gets through."""
        sent = 1
        while under_way.losses:
            yield from self._wait_for(under_way.message, self._retry_ns)
            if sent == self._attempts:
                self._lose("message")
                self._ask_anew()
                return False
            under_way.losses -= 1
            sent += 1
            send(under_way)
        yield from self._wait_for(under_way.message)
        return True

    def _ask_anew(self) -> None:
        """Asks for another round in place of one that was lost, unless it has had notice to leave."""
        self._ready_ns = self._env.now
        if self.warned:
            self.home.forget(self.index)
        else:
            self._ask()

    def _send_pull(self, under_way: RoundUnderWay) -> None:
        under_way.pulls += 1
        down = self._timeline.down
        under_way.message = down.send(self.index)
        pulled_ns = self._through_ns(down, under_way, 1.0)
        computed_ns = pulled_ns + self._computing_ns(pulled_ns, under_way.compute_ns)
        offered, lost = self._timeline.shares.offers[under_way.round.fragment], under_way.lost_pushes
        self._expect(self._timeline.up.through_ns(self.index, computed_ns, offered, lost, self._retry_ns))

    def _send_push(self, under_way: RoundUnderWay) -> None:
        under_way.pushes += 1
        up, share = self._timeline.up, self._timeline.shares.offers[under_way.round.fragment]
        under_way.message = up.send(self.index, share)
        self._expect(self._through_ns(up, under_way, share))

    def _through_ns(self, link: Channel, under_way: RoundUnderWay, share: float) -> Nanoseconds:
        """Returns when the present message, which was just sent, gets through if nobody gets in its way."""
        end_ns: Nanoseconds = self._env.now + under_way.message.duration_ns
        again_ns, losses = end_ns + self._retry_ns, under_way.losses - 1
        return end_ns if losses < 0 else link.through_ns(self.index, again_ns, share, losses, self._retry_ns)

    def _expect(self, arrival_ns: Nanoseconds) -> None:
        if arrival_ns != self.expected_ns:
            self.expected_ns = arrival_ns
            self.home.expect(self.index, arrival_ns)

    def _computing_ns(self, start_ns: Nanoseconds, work_ns: Nanoseconds) -> Nanoseconds:
        """Returns the time of steps that take `work_ns` at the worker's own speed."""
        if self._pace is None or start_ns == math.inf:
            return work_ns
        return self._pace.finished_ns(start_ns, work_ns) - start_ns

    def _wait_for(self, message: Transit, and_ns: Nanoseconds = 0) -> Process:
        """Lets time pass until a message is there, and some more."""
        duration_ns, end = message
        if end is not None:
            duration_ns = 0 if (yield end) else math.inf
        yield from self._wait(duration_ns + and_ns)

    def _wait(self, duration_ns: Nanoseconds) -> Process:
        """Lets time pass. An infinite wait can only be interrupted."""
        if duration_ns == math.inf:
            self.stalled = True
            self._timeline.stalled += 1
            self._timeline.wake()  # an idle server then looks for a deadlock
            yield self._env.event()
        elif duration_ns > 0:
            yield self._env.timeout(duration_ns)

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
        self.holds_parameters = False
        if under_way is not None:
            kept = absence.delivers and self._cut(under_way)
            if kept:
                self._end_round()  # while it is away nothing is under way; the round begins again with its push
            else:
                self._lose(absence.kind)
                if absence.announced:
                    self.home.forget(self.index)
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
            self.under_way = under_way
            self._timeline.under_way += 1
            return under_way
        self._ask()
        return None

    def _ask(self) -> None:
        self.home.receive(Request(self.index, self._env.now, self.rounds))

    def _decline(self) -> None:
        """Gives up a round of which nothing is finished, after a notice to leave, and notifies the server."""
        self._lose("preemption")
        self.home.forget(self.index)

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
        if under_way.push_start_ns is not None:
            return steps
        if under_way.stretch_start_ns is None:
            return under_way.done
        assert self._pace is not None
        worked_ns = under_way.share_ns(under_way.done)
        worked_ns += self._pace.work_ns(under_way.stretch_start_ns, self._env.now)
        # In whole numbers, product first: rounding takes away no step that ends at this very time.
        return int(min(max(worked_ns * steps // under_way.compute_ns, under_way.done), steps))

    def _lose(self, cause: FaultKind) -> None:
        under_way = self.under_way
        assert under_way is not None
        finished = self._finished(under_way)
        self._end_round()
        now_ns = self._env.now
        self._timeline.emit(Lost(now_ns, under_way.round, cause, finished, under_way.pulls, under_way.pushes))
