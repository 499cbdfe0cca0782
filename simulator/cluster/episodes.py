"""Episodes in which work takes longer, or less long, than usual: what faults and measured traces have in common."""

import bisect
import heapq
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from simulator.cluster.clock import Nanoseconds, nanoseconds, seconds
from simulator.experiment import SimulationError

_MOST_EPISODES = 100_000


class Episode(NamedTuple):
    """An interval in which work takes `factor` times as long; infinite at a standstill, below 1 where it is faster."""

    start_ns: Nanoseconds
    end_ns: Nanoseconds
    factor: float = math.inf


class Episodes:
    """Episodes one after the other, made as far as they are iterated."""

    def __init__(self, source: Iterable[Episode]):
        self._source = iter(source)
        self._known: list[Episode] = []
        self._ends_ns: list[Nanoseconds] = []

    def __iter__(self) -> Iterator[Episode]:
        """Yields all of them, which may be endlessly many."""
        return self.since(-math.inf)

    def since(self, time_ns: Nanoseconds) -> Iterator[Episode]:
        """Yields those that end after `time_ns`."""
        index = bisect.bisect_right(self._ends_ns, time_ns)
        while True:
            if index == len(self._known):
                episode = next(self._source, None)
                if episode is None:
                    return
                self._known.append(episode)
                self._ends_ns.append(episode.end_ns)
            if self._known[index].end_ns > time_ns:
                yield self._known[index]
            index += 1

    def finished_ns(self, start_ns: Nanoseconds, work_ns: Nanoseconds) -> Nanoseconds:
        """Returns when work that takes `work_ns` undisturbed is finished if it begins at `start_ns`."""
        if not start_ns + work_ns < math.inf:
            return math.inf
        now_ns, left_ns = start_ns, float(work_ns)
        for count, (start, end, factor) in enumerate(self.since(start_ns)):
            if count > _MOST_EPISODES:
                start_s, work_s = seconds(start_ns), seconds(work_ns)
                raise SimulationError(
                    f"cluster: what begins at {start_s:g} s and takes {work_s:g} s is disturbed more than "
                    f"{_MOST_EPISODES:,} times before it ends: choose longer times between faults, or between rows of "
                    "traces, or shorter rounds"
                )
            undisturbed_ns = now_ns + round(left_ns)
            if undisturbed_ns < start or (undisturbed_ns == start and left_ns > 0):
                break
            left_ns -= max(start - now_ns, 0)
            now_ns = max(now_ns, start)
            if math.isfinite(factor):
                slowed_ns = now_ns + round(left_ns * factor)
                if slowed_ns <= end:
                    return slowed_ns
                left_ns -= (end - now_ns) / factor
            now_ns = end
        return now_ns + round(left_ns)

    def work_ns(self, start_ns: Nanoseconds, end_ns: Nanoseconds) -> Nanoseconds:
        """Returns how much of such work is done between two times."""
        done_ns = float(end_ns - start_ns)
        for start, end, factor in self.since(start_ns):
            if start >= end_ns:
                break
            span_ns = min(end, end_ns) - max(start, start_ns)
            done_ns -= span_ns - span_ns / factor
        return max(round(done_ns), 0)


def piecewise(changes: Iterable[tuple[float, float | None]], end_s: float = math.inf) -> Iterator[Episode]:
    """Yields the episodes of a factor that is constant from each change on.

    Args:
      changes: (time in seconds, factor from then on, None for undisturbed work), in order.
      end_s: of the last one.
    """
    for (start_s, factor), (until_s, _) in itertools.pairwise([*changes, (end_s, None)]):
        if factor is not None:
            yield Episode(nanoseconds(start_s), nanoseconds(until_s), factor)


def merged(sources: Iterable[Iterable[Episode]]) -> Iterator[Episode]:
    """Yields the union of all standstills."""
    spans = heapq.merge(*sources)
    current = next(spans, None)
    while current is not None:
        start_ns, end_ns, _ = current
        current = next(spans, None) if end_ns < math.inf else None
        while current is not None and current.start_ns <= end_ns:
            end_ns = max(end_ns, current.end_ns)
            current = next(spans, None) if end_ns < math.inf else None
        if end_ns > start_ns:
            yield Episode(start_ns, end_ns)


def product(sources: list[Iterator[Episode]]) -> Iterator[Episode]:
    """Yields episodes that do not overlap: the factors of simultaneous ones multiply."""
    heads = [next(source, None) for source in sources]
    now_ns: Nanoseconds = 0
    while True:
        known = [head for head in heads if head is not None]
        if not known:
            return
        factor = math.prod(head.factor for head in known if head.start_ns <= now_ns)
        changes = [head.end_ns if head.start_ns <= now_ns else head.start_ns for head in known]
        next_ns = min(changes)
        if next_ns > now_ns and any(head.start_ns <= now_ns for head in known):
            yield Episode(now_ns, next_ns, factor)
        if next_ns == math.inf:
            return
        now_ns = next_ns
        for index, head in enumerate(heads):
            while head is not None and head.end_ns <= now_ns:
                head = next(sources[index], None)
            heads[index] = head
