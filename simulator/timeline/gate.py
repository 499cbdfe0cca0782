"""Gate of a server's meetings: whom a policy draws for one, when it closes, and when it asks to be asked again."""

import heapq
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import simpy

from simulator.cluster import ClusterModel, Nanoseconds, nanoseconds
from simulator.timeline.events import Arrival
from simulator.timeline.message import Process
from simulator.timeline.place import MeetingPlace
from simulator.timeline.policies.sampling import sampled
from simulator.timeline.policies.synchronization import Barrier, Quorum, ServerView, SynchronizationPolicy
from simulator.timeline.round_under_way import Incoming
from simulator.timeline.worker import Worker


class Gate:
    """Gate of a server's meetings.

    Args:
      env: the clock.
      policy: decides when a group restarts.
      members: number of workers of the server.
      inbox: messages that it has not come to.
      workers: of the cluster, by number.
      wake: called when an alarm has rung.
      foresees: whether it is known when each worker's round can arrive.
      cluster: its costs.

    Attributes:
      timeout_ns: time from the beginning of a meeting after which the policy is asked again; infinite for never.
    """

    def __init__(
        self,
        env: simpy.Environment,
        policy: SynchronizationPolicy,
        members: int,
        inbox: deque[Incoming],
        workers: Sequence[Worker],
        wake: Callable[[], None],
        *,
        foresees: bool,
        cluster: ClusterModel,
    ):
        self.timeout_ns, self._window_ns = nanoseconds(policy.timeout_s), nanoseconds(policy.window_s)
        self._env, self._policy, self._members, self._inbox = env, policy, members, inbox
        self._workers, self._wake, self._foresees = workers, wake, foresees and policy.looks_ahead
        self._sample, self._seed = policy.sample if isinstance(policy, Barrier) else None, cluster.seed
        self._may_be_late = not cluster.foresees_ends
        adaptive = policy.adaptive if isinstance(policy, Quorum) else None
        self._averages = None if adaptive is None else adaptive.new_averages()
        self._expected: list[tuple[Nanoseconds, int]] = []  # heap of arrivals and workers, some of them outdated

    def expect(self, worker: int, arrival_ns: Nanoseconds) -> None:
        """Notes when a worker's round can arrive."""
        if self._foresees and arrival_ns < math.inf:
            heapq.heappush(self._expected, (arrival_ns, worker))

    def draw(
        self, place: MeetingPlace, ready: Sequence[int], offered: Mapping[int, list[int]], turn: int
    ) -> Sequence[int]:
        """Returns the workers that a meeting draws of those that are ready; the others wait in its group.

        Args:
          place: of the meeting, with an empty group.
          ready: workers, in order.
          offered: rounds whose offers each of them has made, and which are not answered.
          turn: number of the meeting.
        """
        if self._sample is None or len(ready) <= self._sample:
            return ready
        drawn = sampled(ready, self._sample, len(self._workers), self._seed, turn)
        place.group = {worker: offered.get(worker, []) for worker in ready if worker not in drawn}
        place.opened_ns = self._env.now
        return [worker for worker in ready if worker in drawn]

    def redraws(self, place: MeetingPlace) -> bool:
        """Closes a meeting at its timeout if all that were drawn are gone for good; returns whether it will.

        Args:
          place: of a meeting to which nothing comes any more.
        """
        if self._sample is None or self.timeout_ns == math.inf or place.arrived or not place.group:
            return False
        place.relents = self._env.now >= place.started_ns + self.timeout_ns
        if place.relents:
            self._wake()
        return True

    def closes(self, place: MeetingPlace, now_ns: Nanoseconds) -> bool:
        """Returns whether a group closes, at the present time or, with nothing else having happened, at another."""
        return self._policy.closes(
            ServerView(
                now_ns=now_ns,
                opened_ns=place.opened_ns,
                group=len(place.group),
                outstanding=len(place.awaited),
                next_arrival_ns=self._next_arrival_ns(place, now_ns),
                started_ns=place.started_ns,
                arrived=len(place.arrived),
                workers=self._members,
                window_over=self._is_window_over(place, now_ns),
            )
        )

    def _is_window_over(self, place: MeetingPlace, now_ns: Nanoseconds) -> bool:
        """Returns whether the policy's window is over at a time, and what came in it was processed."""
        ends_ns = self._window_ends_ns(place)
        return ends_ns <= place.rung_ns or ends_ns < now_ns == math.inf

    def _next_arrival_ns(self, place: MeetingPlace, now_ns: Nanoseconds) -> Nanoseconds:
        """Returns when the next offer can arrive, at the earliest."""
        if not self._policy.looks_ahead:
            return math.inf
        if self._inbox:
            return self._inbox[0].arrival_ns
        if not self._foresees:  # anything can come until the window is over
            return math.inf if self._is_window_over(place, now_ns) else place.opened_ns
        expected, workers = self._expected, self._workers
        # Entries are not removed when a worker's time changes, which a heap cannot do cheaply, but here, at the top.
        while expected and workers[expected[0][1]].expected_ns != expected[0][0]:
            heapq.heappop(expected)
        if self._may_be_late and self._is_window_over(place, now_ns):
            return math.inf  # what has not come by then comes later
        return expected[0][0] if expected else math.inf

    def _window_ends_ns(self, place: MeetingPlace) -> Nanoseconds:
        """Returns when the policy's window ends; infinite while it has not begun."""
        needed, since_ns = self._policy.quorum, place.opened_ns
        if needed:
            since_ns = place.arrived[needed - 1].arrival_ns if len(place.arrived) >= needed else math.inf
        return since_ns + (self._window_ns if place.window_ns is None else place.window_ns)

    def admit(self, place: MeetingPlace, offer: Arrival) -> None:
        """Takes in an offer that is averaged with others of its group."""
        place.join(offer.round.worker, offer.arrival_ns, offer.round.id)
        place.arrived.append(offer)
        if self._averages is not None:
            self._averages.arrived(offer)
            if len(place.arrived) == self._policy.quorum:
                place.window_ns = self._averages.window_ns(place.arrived, self._window_ns)
        self.ring(place)

    def ring(self, place: MeetingPlace) -> None:
        """Sets an alarm for the next time at which the policy asks to be asked again, though nothing has happened."""
        ends_ns = place.started_ns + self.timeout_ns, self._window_ends_ns(place)
        time_ns = min((each_ns for each_ns in ends_ns if each_ns > place.rung_ns), default=math.inf)
        if time_ns < place.alarm_ns:
            place.alarm_ns = time_ns
            self._env.process(self._alarm(place, time_ns))

    def _alarm(self, place: MeetingPlace, time_ns: Nanoseconds) -> Process:
        if time_ns > self._env.now:
            yield self._env.timeout(time_ns - self._env.now)
        yield self._env.timeout(0)  # behind the arrivals of this very time, which are in the queue already
        if place.alarm_ns == time_ns:
            place.alarm_ns = math.inf
        place.rung_ns = time_ns
        self.ring(place)
        self._wake()
