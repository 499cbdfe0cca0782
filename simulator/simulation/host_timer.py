"""Timer of the host's time."""

import time
from collections.abc import Mapping


class HostTimer:
    """Seconds that a simulation takes on the host, over all the processes that it takes."""

    def __init__(self) -> None:
        self._started = self._prepared = time.perf_counter()
        self._before = {"seconds": 0.0, "loop_seconds": 0.0}

    def prepared(self) -> None:
        """Marks the end of preparation: the events begin."""
        self._prepared = time.perf_counter()

    def add(self, before: Mapping[str, float]) -> None:
        """Adds the seconds of an earlier process."""
        self._before = dict(before)

    def so_far(self) -> dict[str, float]:
        """Returns "seconds", of all, and "loop_seconds", without preparation."""
        now, before = time.perf_counter(), self._before
        return {
            "seconds": before["seconds"] + now - self._started,
            "loop_seconds": before["loop_seconds"] + now - self._prepared,
        }
