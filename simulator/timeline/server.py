"""Server of the simulated cluster: it takes in offers, holds meetings at its places, and answers."""

import math
from collections import deque
from collections.abc import Iterable, Sequence

from simulator.cluster import Nanoseconds, nanoseconds, seconds
from simulator.host.event_kinds import Outcome
from simulator.timeline.deadlock import NoProgressError
from simulator.timeline.events import Answered, Arrival, Dispatched, RegionOffer, Update
from simulator.timeline.gate import Gate
from simulator.timeline.message import Process
from simulator.timeline.place import MeetingPlace
from simulator.timeline.policies.synchronization import SynchronizationPolicy
from simulator.timeline.round_under_way import Assignment, Incoming, Request
from simulator.timeline.schedule import next_offer
from simulator.timeline.world import World


class ServerProcess:
    """A server as a SimPy process.

    One thing at a time, since each takes time in which messages come. The order decides ties: a due evaluation comes
    first; then messages from before a timeout, which belong to the round that it ends; then a group that its policy
    closes, before any message is processed that would join it.

    Attributes:
      node: its number.
      places: one for each fragment.
      idle: whether it waits for messages, and none is there.
      evaluation_is_due: whether it is to evaluate, and has not come to it.
    """

    def __init__(self, world: World, node: int, members: Iterable[int], policy: SynchronizationPolicy):
        self.node, self.idle, self.evaluation_is_due = node, False, False
        self.places = [MeetingPlace(node, fragment) for fragment in range(world.config.schedule.fragments)]
        self._world, self._env, self._config = world, world.env, world.config
        self._members, self._policy = tuple(members), policy
        self._averages, self._waits = policy.averages_group, world.config.schedule.waits
        self._keeps_order = policy.averages_group and not policy.keeps_late
        self._arrivals_per_update, self._drop_above = world.config.arrivals_per_update, world.config.drop_above
        self._inbox: deque[Incoming] = deque()
        of = len(self._members), self._inbox, world.workers, self.wake
        self._gate = Gate(self._env, policy, *of, foresees=self._waits, cluster=world.cluster)
        self._news = self._env.event()  # something that it waits for may have changed

    # Messages of workers.

    def receive(self, message: Incoming) -> None:
        """Takes in an offer or a request that has arrived, and wakes the server."""
        self._inbox.append(message)
        self.wake()

    def forget(self, worker: int) -> None:
        """Stops waiting for a worker that has announced that its offers will not come."""
        for place in self.places:
            place.awaited.pop(worker, None)
        self.wake()

    def expect(self, worker: int, arrival_ns: Nanoseconds) -> None:
        """Updates the time at which a worker's round can arrive."""
        self._gate.expect(worker, arrival_ns)
        self.wake()

    def wake(self) -> None:
        """Wakes the server: the condition that it waits for may have changed."""
        self.idle = False
        if not self._news.triggered:
            self._news.succeed()

    # Its process.

    def serve(self) -> Process:
        """Processes offers, closes groups, evaluates."""
        yield self._env.event().succeed()  # after what befalls workers at the start
        yield from self._evaluate()
        self._begin()
        while not self._world.is_over:
            yield from self._work(0)  # if it is down, until it is up
            if self.evaluation_is_due:
                self.evaluation_is_due = False
                yield from self._evaluate()
            elif self._inbox and self._in_time(self._inbox[0]):
                yield from self._process(self._inbox.popleft())
            elif (place := self._closing()) is not None:
                yield from self._close(place)
            elif self._inbox:
                yield from self._process(self._inbox.popleft())
            else:
                self._news = self._env.event()  # made only when idle: wake() has no effect on a server at work
                self.idle = True
                self._check_progress()
                yield self._news

    def _begin(self) -> None:
        """Gives every worker that is there, and drawn, its first round."""
        drawn: Sequence[int] = [worker for worker in self._members if self._world.workers[worker].there]
        for place in self.places:
            drawn = self._gate.draw(place, drawn, {}, place.turn)
            place.awaited = dict.fromkeys(drawn)
            self._open(place)
        for worker in drawn:
            self._dispatch(worker)

    def _evaluate(self) -> Process:
        if self._world.mark_evaluation():
            yield from self._work(nanoseconds(self._config.evaluation_s))

    def _in_time(self, message: Incoming) -> bool:
        """Returns whether a message was there before its round's timeout, even if the server only comes to it now."""
        if self._gate.timeout_ns == math.inf:
            return False
        place = self.places[message.round.fragment if isinstance(message, Arrival) else 0]
        return message.arrival_ns <= place.started_ns + self._gate.timeout_ns

    def _work(self, work_ns: Nanoseconds) -> Process:
        """Works for some time, not counting outages of the server."""
        faults = self._world.cluster.faults
        if faults is not None:
            now_ns = self._env.now
            work_ns = faults.server.finished_ns(now_ns, work_ns) - now_ns
            if work_ns == math.inf:
                down_s = seconds(now_ns)
                raise NoProgressError(f"nobody can make progress: the server went down before {down_s:g} s for good")
        if work_ns > 0:
            yield self._env.timeout(work_ns)

    # Groups.

    def _closing(self) -> MeetingPlace | None:
        """Returns the first place whose group its policy closes now."""
        for place in self.places:
            if place.group and (place.relents or self._gate.closes(place, self._env.now)):
                return place
            if place.early and self._is_deserted(place):
                self._open(place, self._there())
                return self._closing()
        return None

    def _is_deserted(self, place: MeetingPlace) -> bool:
        """Returns whether nobody comes to the meeting that is open: all that it waited for are gone."""
        return not (place.awaited or place.arrived or place.group)

    def _process(self, message: Incoming) -> Process:
        """Takes a worker into the group, with its offer, if any; without a barrier that is an outer step."""
        if isinstance(message, Request):
            self._admit(message)
            return
        assert isinstance(message, Arrival)
        round = message.round
        worker, place = round.worker, self.places[round.fragment]
        if self._keeps_order and message.turn > place.turn:
            place.early.append(message)
            return
        world = self._world
        world.deadlock.arrived(worker)
        is_awaited = worker in place.awaited and (not self._keeps_order or message.turn == place.turn)
        given = place.awaited.pop(worker) if is_awaited else None
        if world.measured is not None and given == round.steps:  # not cut off
            computing_s = seconds(message.push_start_ns - message.compute_start_ns)
            world.measured.observe(worker, computing_s / round.steps)
        if self._averages and (is_awaited or self._policy.keeps_late):
            self._gate.admit(place, message)
            return
        late = self._averages
        if self._waits or not late:
            place.join(worker, message.arrival_ns, round.id)
            self._gate.ring(place)
        yield from self._update(place, (message,), late=late)
        if late and not self._waits and not world.is_over:
            self._answer(place, worker, round.id)

    def _admit(self, request: Request) -> None:
        """Admits a worker without a round: behind a barrier, one that has lost its round does it again."""
        worker = request.worker
        if not self._world.workers[worker].asks(request):
            return  # its group restarted before the server came to this, or it is gone again
        if not self._waits:
            self._dispatch(worker)
            return
        [place] = self.places
        lost = worker in place.awaited
        place.awaited.pop(worker, None)
        if lost and self._averages:
            self._dispatch(worker)
        else:
            place.join(worker, request.arrival_ns)
            place.group[worker] = []  # whatever it offered before, it has lost since
            self._gate.ring(place)

    def _close(self, place: MeetingPlace) -> Process:
        """Answers a group with what the place holds then; the next meeting begins."""
        group, arrived = place.take()
        if arrived:
            yield from self._meet(place, tuple(arrived))
        if self._world.is_over:
            return
        there = [worker for worker in group if self._world.workers[worker].there]
        if not self._config.has_copy:
            there.sort(key=lambda worker: not group[worker])  # whose copies others take accept their answers first
        drawn = self._gate.draw(place, there, group, place.turn + 1)
        members = drawn if self._waits else self._there()
        self._open(place, members if self._keeps_order else None)
        for worker in drawn:
            if self._waits:
                self._dispatch(worker, answers=bool(group[worker]))
                continue
            for round in group[worker]:
                self._answer(place, worker, round)

    def _there(self) -> list[int]:
        """Returns the workers that offer without being given rounds."""
        return [worker for worker in self._members if self._world.workers[worker].is_under_way]

    def _open(self, place: MeetingPlace, members: Iterable[int] | None = None) -> None:
        """Begins a meeting; with members given it waits for them, and no more for others."""
        if members is not None:
            place.awaited = dict.fromkeys(members)
            place.turn += 1
        place.started_ns = self._env.now
        self._gate.ring(place)
        self._inbox.extendleft(reversed(place.early))
        place.early = []

    # Meetings and answers.

    def _meet(self, place: MeetingPlace, arrivals: tuple[Arrival, ...]) -> Process:
        """Holds a meeting of a group."""
        yield from self._update(place, arrivals)

    def _update(
        self,
        place: MeetingPlace,
        arrivals: tuple[Arrival | RegionOffer, ...],
        *,
        late: bool = False,
        since_ns: Nanoseconds | None = None,
    ) -> Process:
        staleness = tuple([self._staleness(place, arrival) for arrival in arrivals])
        outcome = "dropped" if late else self._outcome(place, max(staleness))
        world = self._world
        if outcome == "applied":
            yield from self._work(nanoseconds(world.cluster.server_update_s))
            place.version += 1
            world.updates += 1
        owned = [each.round for each in arrivals if isinstance(each, Arrival) and self._owns(each)]
        evaluates = world.count(owned)
        world.emit(
            Update(
                self._env.now,
                arrivals,
                staleness,
                outcome,
                world.updates,
                world.local_steps,
                self.node,
                place.fragment,
                place.version,
                since_ns,
            )
        )
        world.end_if_spent()
        if not world.is_over:
            if outcome == "applied":
                self._changed(place)
            if evaluates:
                yield from self._evaluate()

    def _owns(self, arrival: Arrival) -> bool:
        """Returns whether this server counts the steps of an offer's round."""
        return True

    def _staleness(self, place: MeetingPlace, arrival: Arrival | RegionOffer) -> int:
        """Returns the updates of a place between what an offer's worker had last accepted from it and now."""
        return place.version - arrival.base

    def _changed(self, place: MeetingPlace) -> None:
        """Follows an update of a place."""

    def _outcome(self, place: MeetingPlace, staleness: int) -> Outcome:
        if self._drop_above is not None and staleness > self._drop_above:
            return "dropped"
        place.buffered += 1
        if place.buffered < self._arrivals_per_update:
            return "buffered"
        place.buffered = 0
        return "applied"

    def _dispatch(self, worker: int, *, answers: bool = False) -> None:
        """Gives a worker a round, which begins with a copy of all that the server holds, or with its answer."""
        world, config = self._world, self._config
        turns = [self._join_meeting(place, worker) for place in self.places]
        offer = world.workers[worker].offers if self._waits else next_offer(turns)
        fragment = offer % len(turns)
        most = config.steps[worker] if world.measured is None else world.measured.steps(worker)
        if config.interval is not None:
            most = config.interval(offer, most)
        round = world.assign(worker, world.workers[worker].choose_steps(offer, most), fragment)
        for place in (each for each in self.places if worker in each.awaited):
            place.awaited[worker] = round.steps
        merges = answers and config.merges
        source = self.node if merges else world.copied(worker, self.node)
        world.emit(Dispatched(self._env.now, round, "answer" if merges else "copy", source))
        versions = [place.version for place in self.places]
        since_ns = self._had_since(worker, answers)
        world.workers[worker].give(Assignment(round, offer, turns[fragment], versions, source, since_ns))

    def _had_since(self, worker: int, answers: bool) -> Nanoseconds | None:
        """Returns since when what a worker begins its round with has come to it; None where it is to be sent."""
        return None

    def _join_meeting(self, place: MeetingPlace, worker: int) -> int:
        """Returns the number of the first meeting to which a worker comes that begins now."""
        if not self._keeps_order:
            place.awaited[worker] = None
            return 0
        joins = self._is_deserted(place) and not place.early
        if worker in place.awaited or joins or self._waits:
            place.awaited[worker] = None
            return place.turn
        return place.turn + 1

    def _answer(self, place: MeetingPlace, worker: int, round: int) -> None:
        """Sends a worker that goes on meanwhile what the place holds, in answer to the offer of a round."""
        if self._world.workers[worker].answer(place, round):
            if not self._keeps_order:
                place.awaited[worker] = None
            self._world.emit(Answered(self._env.now, self.node, worker, round, place.fragment, place.version))

    # Deadlocks.

    def relent(self) -> bool:
        """Closes groups of workers that wait for each other at different places; returns whether there was any."""
        if self._waits:
            return any(self._gate.redraws(place) for place in self.places)
        if self._keeps_order and self._gate.timeout_ns == math.inf:
            return False
        waiting = [place for place in self.places if place.group or place.early]
        for place in waiting:
            if place.group:
                place.relents = True
            else:
                self._open(place, self._there())
        if waiting:
            self.wake()
        return bool(waiting)

    def _check_progress(self) -> None:
        """Checks that the server can still receive something that it waits for.

        Raises:
          NoProgressError: nothing can.
        """
        if not self._world.is_still():
            return
        if any(place.group and self._gate.closes(place, math.inf) for place in self.places):
            return  # time alone will close it, such as a timeout
        if self._world.relent():
            return
        advice = "a synchronization.timeout and a quorum that can be reached, or " if self._averages else ""
        places = self._world.places
        awaited = {worker: None for place in places for worker in place.awaited}
        ready = {worker: None for place in places for worker in place.group}
        raise self._world.deadlock.deadlock(self._env.now, awaited, ready, advice)
