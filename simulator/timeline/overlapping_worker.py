"""A worker that goes from round to round by itself, while its offers and their answers are on their way."""

import math
from collections.abc import Generator
from typing import Any

import simpy

from simulator.cluster import Absence, Nanoseconds
from simulator.timeline.events import Accepted, Dispatched, Lost, Round
from simulator.timeline.exchanges import Exchanges, OpenOffer
from simulator.timeline.message import Message, Process
from simulator.timeline.place import MeetingPlace
from simulator.timeline.round_under_way import Assignment, RoundUnderWay, SimulatedCluster
from simulator.timeline.schedule import Schedule
from simulator.timeline.worker import Worker

_BEGIN_AGAIN = "begin again"  # cause of an interrupt: a message was lost for good, and its worker asks for a copy


class OverlappingWorker(Worker):
    """A worker as a SimPy process that offers without waiting, and accepts each answer when its schedule says so.

    It is given its first round, with a copy of everything, and asks for another copy when it has lost something.

    Args:
      index: its number.
      timeline: clock and network.
      schedule: of its offers.
      local_steps: H.
      is_eager: whether it accepts for the first time before anything is answered.
    """

    def __init__(
        self, index: int, timeline: SimulatedCluster, schedule: Schedule, local_steps: int, *, is_eager: bool = False
    ):
        self._is_eager = is_eager
        self._schedule, self._local_steps = schedule, local_steps
        self._exchanges = Exchanges(timeline.env)
        self._is_at_work = False
        self._awaited: OpenOffer | None = None  # whose answer it waits for
        self._answer_losses = (
            timeline.cluster.faults.answer_loss_stream(index)
            if timeline.cluster.faults is not None and timeline.cluster.faults.loss
            else None
        )
        super().__init__(index, timeline)

    @property
    def is_under_way(self) -> bool:
        """Returns whether it is there and goes from round to round by itself."""
        return self._is_at_work and self.there

    @property
    def comes(self) -> bool:
        """Returns whether something will come from it, though it is not given a round."""
        is_answered = self._awaited is not None and self._awaited.answer is not None
        return super().comes or self._exchanges.is_sending() or is_answered

    def state(self) -> str:
        """Describes a blocked worker for the message of a deadlock."""
        if self.absence is None and self._awaited is not None and self.index not in self._timeline.stuck:
            return f"worker {self.index} (which waits for an answer)"
        return super().state()

    def choose_steps(self, offer: int, most: int) -> int:
        """Returns the steps of its next round: as scheduled, or as many as take the scheduled time if begun now."""
        super().choose_steps(offer, most)
        work_s = self._schedule.seconds
        if work_s is None:
            return self._schedule.steps(offer, most)
        if self._pace is not None:
            now_ns, length_ns = self._env.now, round(1e9 * work_s)
            work_s = self._pace.work_ns(now_ns, now_ns + length_ns) / 1e9
        step_s = self._cluster.compute_s(self.index, 1, self._factor)
        return max(math.ceil(work_s / step_s - 1e-9), 1)  # a number of steps that is whole but for rounding is whole

    def give(self, assignment: Assignment) -> None:
        """Gives it the round with which it begins, and a copy of everything."""
        self._exchanges.reset(assignment.offer, assignment.versions, is_eager=self._is_eager)
        self._is_at_work = True
        super().give(assignment)

    def answer(self, place: MeetingPlace, round: int) -> bool:
        """Sends it the answer to the offer of a round while it goes on; returns whether it has use for it."""
        offer = self._exchanges.offer_of(place.fragment, round)
        if offer is None:
            return False  # it has begun again since
        offer.version, offer.next_turn = place.version, place.turn
        self._bring(offer, place.fragment)
        return True

    def _bring(self, offer: OpenOffer, fragment: int) -> None:
        """Sends it the answer to an offer."""
        offer.answer = Message(
            self._timeline,
            self._timeline.down,
            self.index,
            self._timeline.shares.answers[fragment],
            losses=0 if self._faults is None else self._faults.losses(self._answer_losses),
            attempts=self._attempts,
            retry_ns=self._retry_ns,
            done=lambda message, through: offer.received.succeed() if through else self._begin_again(),
        )

    def _rounds(self, under_way: RoundUnderWay) -> Process:
        """Does one round after the other, from a given one on."""
        while (yield from self._round(under_way)) and not self.warned:
            answered_ns: Nanoseconds = self._env.now
            for after, fragment in self._accepts():
                if not after:
                    answered_ns = max(answered_ns, (yield from self._accept(fragment, after)))
            if self.warned:
                return
            under_way = self._next(answered_ns)

    def _next(self, pull_start_ns: Nanoseconds) -> RoundUnderWay:
        """Begins the next round."""
        offer = self._exchanges.offer
        steps, fragment = self.choose_steps(offer, self._local_steps), self._schedule.fragment(offer)
        round = self._timeline.assign(self.index, steps, fragment)
        self._timeline.emit(Dispatched(self._env.now, round, "own", self.index))
        return self._begin(round, pull_start_ns)

    def _parts_of(self, round: Round) -> tuple[int, int]:
        schedule, offer = self._schedule, self._exchanges.offer
        if schedule.layers is None:
            return super()._parts_of(round)
        begin, end = (schedule.offered_at(each, self._local_steps) for each in (offer - 1, offer))
        return end - begin, schedule.parts

    def _accepts(self) -> list[tuple[int, int]]:
        return self._schedule.accepts(self._exchanges.offer, self._exchanges.first, self._local_steps)

    def _compute(self, under_way: RoundUnderWay) -> Process:
        """Computes the local steps, and accepts between them what is due."""
        for after, fragment in self._accepts():
            if after:
                yield from self._stretch(under_way, after)
                began_ns = self._env.now
                try:
                    yield from self._accept(fragment, after)
                finally:
                    under_way.blocked_ns += self._env.now - began_ns
        yield from self._stretch(under_way, under_way.parts)

    def _accept(self, fragment: int, after: int) -> Generator[simpy.Event, Any, Nanoseconds]:
        """Accepts the oldest answer of a fragment, waiting until it is there; returns when it was sent."""
        oldest = self._exchanges.open[fragment][0]
        if not oldest.received.triggered:
            if self.under_way is not None:  # else it is not counted among those that work
                self.stalled = True
                self._timeline.stalled += 1
                self._timeline.wake()
            self._awaited = oldest
            try:
                yield oldest.received
            finally:
                self._awaited = None
            self._end_stall()
        self._exchanges.accept(fragment)
        answer = oldest.answer
        sent_ns: Nanoseconds = self._env.now if answer is None else answer.sent_ns
        self._timeline.emit(
            Accepted(
                self._env.now,
                self.index,
                oldest.round,
                fragment,
                self._schedule.steps_before(self._exchanges.offer, after, self._local_steps),
                sent_ns,
                self._env.now if answer is None else answer.arrival_ns,
                0 if answer is None else answer.sent,
                oldest.version,
            )
        )
        return sent_ns

    def _push(self, under_way: RoundUnderWay) -> Process:
        """Sends the finished steps, and does not wait for their arrival."""
        fragment = under_way.round.fragment
        under_way.base, under_way.turn = self._exchanges.versions[fragment], self._exchanges.turn
        under_way.answer_ns = self._exchanges.answer_ns
        self._end_round()
        self._ready_ns = self._env.now
        self._exchanges.add(fragment, under_way.round.id)
        self._post(under_way)
        return
        yield  # a generator, as what it overrides

    def _post(self, under_way: RoundUnderWay) -> None:
        """Sends the offer of a round."""

        def done(message: Message, through: bool) -> None:
            self._exchanges.ended(message)
            under_way.pushes = message.sent
            if through:
                self.home.receive(under_way.arrival(self._env.now))
                return
            self._lose_offer(under_way, "message", message)
            self._begin_again()

        message = Message(
            self._timeline,
            self._timeline.up,
            self.index,
            self._timeline.shares.offers[under_way.round.fragment],
            losses=under_way.lost_pushes,
            attempts=self._attempts,
            retry_ns=self._retry_ns,
            done=done,
        )
        self._exchanges.posted(message, lambda cause: self._lose_offer(under_way, cause, message))

    def _lose_offer(self, under_way: RoundUnderWay, cause: Any, message: Message) -> None:
        round = under_way.round
        self._timeline.emit(Lost(self._env.now, round, cause, round.steps, under_way.pulls, message.sent))

    def _deliver(self, kept: RoundUnderWay) -> Process:
        """Pushes what was finished before an absence, and begins again."""
        yield from self._push(kept)
        self._is_at_work = False
        self._ask()

    def _begin_again(self) -> None:
        """Has the worker give up what it has, and ask for a copy of everything."""
        if self.absence is None and self._is_at_work:
            self._is_at_work = self.holds_parameters = False
            self._process.interrupt(_BEGIN_AGAIN)

    def _interrupted(self, cause: Any) -> Generator[simpy.Event, Any, RoundUnderWay | None]:
        """Follows an interrupt; returns with finished steps that are left to push."""
        if cause != _BEGIN_AGAIN:
            return (yield from super()._interrupted(cause))
        self._is_at_work = False
        self._exchanges.drop("message")
        if self.under_way is not None:
            self._lose("message")
        self._ask_anew()
        return None

    def _away(self, absence: Absence) -> Generator[simpy.Event, Any, RoundUnderWay | None]:
        """Stays away; answers on their way to it are dropped, and offers too, unless they are delivered."""
        self._is_at_work = False
        self._exchanges.drop(None if absence.delivers else absence.kind)
        if absence.announced:
            self.home.forget(self.index)
        return (yield from super()._away(absence))
