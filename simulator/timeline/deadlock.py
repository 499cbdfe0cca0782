"""Detection of deadlock and livelock in the simulated cluster."""

from collections.abc import Iterable, Sequence

from simulator.cluster import Nanoseconds, seconds
from simulator.experiment import SimulationError
from simulator.timeline.worker import Worker

_MOST_FAILURES = 1000  # of a worker, without a round that arrives
_NAMED = 5


class NoProgressError(SimulationError):
    """Deadlock or livelock: nobody in the simulated cluster can make progress; the message says who waits for what."""


class DeadlockDetector:
    """Detects deadlock and livelock from failures and arrivals."""

    def __init__(self, workers: Sequence[Worker]):
        self._workers = workers
        self._failures: dict[int, int] = {}  # since each worker's last round arrived

    def failed(self, worker: int, cause: str, time_ns: Nanoseconds) -> None:
        """Counts a failure: a worker that went away or lost its round.

        Raises:
          NoProgressError: everybody that tries has failed very often in a row.
        """
        self._failures[worker] = failures = self._failures.get(worker, 0) + 1
        if failures % _MOST_FAILURES == 0 and self._hopeless():
            raise NoProgressError(
                f"nobody makes progress: by {seconds(time_ns):g} s worker {worker} has failed {failures:,} times since "
                f"its last round arrived, now by a {cause}, and whoever else tries has no less often: choose fewer "
                "inner.local_steps, or milder cluster.faults"
            )

    def arrived(self, worker: int) -> None:
        """Counts the arrival of a worker's round."""
        self._failures.pop(worker, None)

    def _hopeless(self) -> bool:
        trying = [worker for worker in self._workers if worker.under_way is not None or worker.returns]
        return all(self._failures.get(worker.index, 0) >= _MOST_FAILURES for worker in trying)

    def nothing_comes(self) -> bool:
        """Returns whether nothing will come from any worker that is not given a round."""
        return not any(worker.comes for worker in self._workers)

    def deadlock(
        self, time_ns: Nanoseconds, awaited: Iterable[int], ready: Iterable[int], advice: str
    ) -> NoProgressError:
        """Returns the error of a server to which nothing will ever come again.

        Args:
          time_ns: of the deadlock.
          awaited: workers whose rounds the server waits for.
          ready: workers that wait for the server.
          advice: on the policy, what else could be given.
        """
        whom = _few([self._workers[worker].state() for worker in awaited])
        others = _few([f"worker {worker}" for worker in ready])
        if whom:
            waits = f"the server waits for {whom}" + (f", and {others} for the server" if others else "")
        elif others:
            waits = f"{others} wait to restart"
        else:
            waits = f"there are only {_few([worker.state() for worker in self._workers])}"
        return NoProgressError(
            f"nobody can make progress any more at {seconds(time_ns):g} s: {waits}: "
            f"give {advice}a budget that ends before, or let workers return in cluster.faults"
        )


def _few(names: list[str]) -> str:
    """Returns some of the names."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
