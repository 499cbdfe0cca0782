"""Measured traces as episodes: work takes as long as at the first row, times a factor that each row changes."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from simulator.cluster.episodes import Episode, Episodes, piecewise, product


class PaceTrace:
    """Seconds that a unit of workers' work takes over time: constant from each row on, before the first as from it.

    Args:
      rows: (worker, time in seconds, seconds of a unit), those of a worker in order.
      repeat_every: seconds after which the trace begins anew; None where the last row's pace stays.
    """

    def __init__(self, rows: Iterable[tuple[int, float, float]], repeat_every: float | None = None):
        self._rows: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for worker, time_s, unit_s in rows:
            self._rows[worker].append((time_s, unit_s))
        self._repeat_every = repeat_every

    def __contains__(self, worker: int) -> bool:
        """Returns whether a worker has a row."""
        return worker in self._rows

    def fastest(self, worker: int) -> float:
        """Returns the smallest factor on the time of a worker's work at its first row."""
        rows = self._rows.get(worker, [(0.0, 1.0)])
        return min(unit_s for _, unit_s in rows) / rows[0][1]

    def episodes(self, worker: int) -> Iterator[Episode]:
        """Yields the episodes in which a worker's work takes longer, or less long, than at its first row."""
        rows = self._rows.get(worker, [])
        changes = [(time_s, None if unit_s == rows[0][1] else unit_s / rows[0][1]) for time_s, unit_s in rows]
        if self._repeat_every is None:
            yield from piecewise(changes)
            return
        rounds = 0
        while any(factor is not None for _, factor in changes):
            begin_s, rounds = rounds * self._repeat_every, rounds + 1
            again = [(begin_s + time_s, factor) for time_s, factor in changes]
            yield from piecewise(again, rounds * self._repeat_every)


def pace_of(worker: int, disturbances: Callable[[int], Episodes] | None, trace: PaceTrace | None) -> Episodes | None:
    """Returns the episodes of a worker's work: those of faults and of a trace together, None without either."""
    disturbed = None if disturbances is None else disturbances(worker)
    if trace is None or worker not in trace:
        return disturbed
    measured = trace.episodes(worker)
    return Episodes(measured if disturbed is None else product([iter(disturbed), measured]))
