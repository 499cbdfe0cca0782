"""Notices when nobody in the simulated cluster gets anywhere any more, and says why."""

from collections.abc import Iterable

from simulator.experiment import SimulationError
from simulator.timeline.workers import Workers

_MOST_FAILURES = 1000  # of a worker, without a round that arrives
_MOST_AT_ONCE = 1_000_000  # of each worker's rounds, without any time between them
_NAMED = 5


class NoProgressError(SimulationError):
    """Nobody in the simulated cluster can make progress; the message says who waits for what."""


class Sentinel:
    """Counts what comes to nothing."""

    def __init__(self, workers: Workers, count: int):
        self._workers, self._count = workers, count
        self._failures: dict[int, int] = {}  # since each worker's last round arrived
        self._still = (0.0, 0)  # a time, and how many rounds have arrived since it last advanced

    def failed(self, worker: int, cause: str, time_s: float) -> None:
        """Notes that a worker went away or lost its round.

        Raises:
          NoProgressError: everybody that tries has failed very often in a row.
        """
        self._failures[worker] = failures = self._failures.get(worker, 0) + 1
        if failures % _MOST_FAILURES == 0 and self._workers.hopeless(self._failures, _MOST_FAILURES - 1):
            raise NoProgressError(
                f"nobody makes progress: by {time_s:g} s worker {worker} has failed {failures:,} times since its last "
                f"round arrived, now by a {cause}, and whoever else tries has no less often: choose fewer "
                "inner.local_steps, or milder cluster.faults"
            )

    def arrived(self, worker: int, time_s: float) -> None:
        """Notes that a worker's round has arrived.

        Raises:
          NoProgressError: time does not advance.
        """
        self._failures.pop(worker, None)
        before_s, count = self._still
        self._still = (before_s, count + 1) if time_s == before_s else (time_s, 0)
        if count > _MOST_AT_ONCE * self._count:
            raise NoProgressError(
                f"time stands still: {count:,} rounds have arrived at {time_s!r} s, to which the next ones add "
                "nothing: give cluster.devices or network.latency longer times"
            )

    def stuck(self, time_s: float, awaited: Iterable[int], ready: Iterable[int], advice: str) -> NoProgressError:
        """Returns what to say where nothing will ever come again.

        Args:
          time_s: when.
          awaited: workers whose rounds the server waits for.
          ready: workers that wait for the server.
          advice: on the policy, what else could be given.
        """
        whom = _few([self._workers.state(worker) for worker in awaited])
        others = _few([f"worker {worker}" for worker in ready])
        if whom:
            waits = f"the server waits for {whom}" + (f", and {others} for the server" if others else "")
        elif others:
            waits = f"{others} wait to restart"
        else:
            waits = f"there are only {_few([self._workers.state(worker) for worker in range(self._count)])}"
        return NoProgressError(
            f"nobody can make progress any more at {time_s:g} s: {waits}: "
            f"give {advice}a budget that ends before, or let workers return in cluster.faults"
        )


def _few(names: list[str]) -> str:
    """Returns some of the names."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
