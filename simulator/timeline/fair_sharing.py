"""Links that transfers share fairly: all go on at once, at rates that are max-min fair (processor sharing)."""

import heapq
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import simpy

from simulator.cluster import Episodes, Nanoseconds
from simulator.timeline.message import Process

_TOLERANCE_NS = 1e-3
"""By which what ends at one time may differ for rounding."""


class _Flows:
    """Transfers that are alike in all but their begin and size, and so go on at one rate.

    How much each of them has been served since the first of them began is one number, so that what is left of a
    transfer is a difference, and two that begin together and are alike end together.

    Attributes:
      cap: bytes per nanosecond of each alone.
      links: that they cross, each with its bytes per nanosecond.
      rate: bytes per nanosecond of each, now.
      served: bytes of each since the first began.
      ends: heap of how much will have been served at a transfer's end, its number, and its event.
    """

    def __init__(self, cap: float, links: Sequence[tuple[Hashable, float]], standstills: Sequence[Episodes]):
        self.cap, self.links, self._standstills = cap, links, standstills
        self.rate = self.served = 0.0
        self.ends: list[tuple[float, int, simpy.Event]] = []
        self.still_until_ns: Nanoseconds = 0

    def ends_in_ns(self) -> float:
        """Returns the time until the next transfer ends at this rate."""
        return (self.ends[0][0] - self.served) / self.rate if self.rate > 0 else math.inf

    def look(self, now_ns: Nanoseconds) -> Nanoseconds:
        """Notes until when the transfers stand still; returns when that changes."""
        begins = [next(iter(each.since(now_ns)), None) for each in self._standstills]
        episodes = [each for each in begins if each is not None]
        self.still_until_ns = max((each.end_ns for each in episodes if each.start_ns <= now_ns), default=0)
        return min((each.end_ns if each.start_ns <= now_ns else each.start_ns for each in episodes), default=math.inf)

    def pop(self) -> Iterable[simpy.Event]:
        """Takes the transfers that have ended."""
        while self.ends and self.ends_in_ns() <= _TOLERANCE_NS:
            yield heapq.heappop(self.ends)[2]


class FairSharing:
    """Transfers over shared links, of which none gets more where it could do with less for one that has less.

    Rates change when a transfer begins or ends, or stands still or goes on again. In between, what was served is
    computed up to the exact time of each end, which is told at the next whole nanosecond: so nothing drifts.

    Args:
      env: the clock.
    """

    def __init__(self, env: simpy.Environment):
        self._env = env
        self._at_ns: Nanoseconds = 0  # up to which what was served is known
        self._flows: dict[Hashable, _Flows] = {}
        self._begun = 0
        self._alarm_ns: Nanoseconds = math.inf
        self._is_settled = True

    def begin(
        self, size: float, cap: float, links: tuple[tuple[Hashable, float], ...], standstills: tuple[Episodes, ...]
    ) -> simpy.Event:
        """Begins a transfer; returns an event that succeeds at its end, with whether there is one.

        Args:
          size: in bytes.
          cap: bytes per nanosecond that it does not exceed.
          links: that it crosses, by name, each with its bytes per nanosecond.
          standstills: times at which it stands still, endlessly from the beginning of one that is endless.
        """
        self._advance()
        key = cap, links, tuple(map(id, standstills))
        flows = self._flows.get(key)
        if flows is None:
            flows = self._flows[key] = _Flows(cap, links, standstills)
        event = self._env.event()
        self._begun += 1
        heapq.heappush(flows.ends, (flows.served + size, self._begun, event))
        self._change()
        return event

    def _change(self) -> None:
        """Has rates computed anew, once for all that happens at this time."""
        if self._is_settled:
            self._is_settled = False
            self._env.process(self._settle())

    def _settle(self) -> Process:
        yield self._env.timeout(0)
        self._is_settled = True
        now_ns = self._env.now
        changes_ns = min((flows.look(now_ns) for flows in self._flows.values()), default=math.inf)
        for key, flows in [*self._flows.items()]:
            if flows.still_until_ns == math.inf:
                for _, _, event in self._flows.pop(key).ends:
                    event.succeed(False)
        self._allot()
        first_ns = min((flows.ends_in_ns() for flows in self._flows.values()), default=math.inf)
        if first_ns < math.inf:
            changes_ns = min(changes_ns, now_ns + max(math.ceil(first_ns - _TOLERANCE_NS), 1))
        if changes_ns < self._alarm_ns:
            self._alarm_ns = changes_ns
            self._env.process(self._alarm(changes_ns))

    def _alarm(self, time_ns: Nanoseconds) -> Process:
        yield self._env.timeout(time_ns - self._env.now)
        if self._alarm_ns == time_ns:
            self._alarm_ns = math.inf
            self._advance()
            self._change()

    def _advance(self) -> None:
        """Serves what was under way up to now; transfers that end on the way leave their part to the others."""
        left_ns, self._at_ns = float(self._env.now - self._at_ns), self._env.now
        while self._flows:
            first_ns = max(min(flows.ends_in_ns() for flows in self._flows.values()), 0.0)
            ends = first_ns <= left_ns + _TOLERANCE_NS
            span_ns = first_ns if ends else left_ns
            for flows in self._flows.values():
                flows.served += flows.rate * span_ns
            left_ns -= span_ns
            if not ends:
                return
            for key, flows in [*self._flows.items()]:
                for event in flows.pop():
                    event.succeed(True)
                if not flows.ends:
                    del self._flows[key]
            self._allot()

    def _allot(self) -> None:
        """Sets the rates: links are filled one after the other, that first which has least for each transfer on it."""
        under_way = []
        for flows in self._flows.values():
            flows.rate = 0.0
            if not flows.still_until_ns:
                under_way.append(flows)
        room, users = dict[Hashable, float](), Counter[Hashable]()
        for flows in under_way:
            room |= flows.links
            users.update(dict.fromkeys((link for link, _ in flows.links), len(flows.ends)))
        while under_way:
            parts = {link: max(room[link], 0.0) / count for link, count in users.items() if count}
            least = min(parts.values(), default=math.inf)
            fixed = [flows for flows in under_way if flows.cap <= least]
            if not fixed:
                full = {link for link, part in parts.items() if part <= least * (1 + 1e-12)}
                fixed = [flows for flows in under_way if any(link in full for link, _ in flows.links)]
            for flows in fixed:
                flows.rate = min(flows.cap, least)
                for link, _ in flows.links:
                    room[link] -= flows.rate * len(flows.ends)
                    users[link] -= len(flows.ends)
            done = set(fixed)
            under_way = [flows for flows in under_way if flows not in done]
