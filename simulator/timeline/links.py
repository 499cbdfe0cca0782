"""Transfers between workers and the server, alone or queueing on a link that all of them share."""

import numpy as np
import simpy

from simulator.cluster import FaultModel, Link


class Channel:
    """One direction of the network.

    Where the server has a link of its own, a message occupies it for a time, first come, first served. A worker's
    slower link and the latency come after that and hold up no one else. So it is known when a transfer will end as soon
    as it is requested. What stands in the queue takes its turn, also if its worker is gone by then. While a worker's
    link or the server is down, its transfer stands still.

    Attributes:
      contended: whether a transfer may have to wait for others.
      rest_s: how long a transfer takes beyond the shared link, of each worker, if nothing goes wrong.
    """

    def __init__(self, env: simpy.Environment, link: Link, faults: FaultModel | None = None):
        self._env = env
        self._faults = faults
        self._shared_s = link.shared_s or 0.0
        self._free_s = 0.0  # when the last message in the queue will have left the shared link
        self.contended = self._shared_s > 0
        own_s = link.latency_s + np.maximum(link.transmission_s, self._shared_s)
        self.rest_s: list[float] = np.maximum(own_s - self._shared_s, 0.0).tolist()

    def duration_s(self, worker: int) -> float:
        """Returns how long a transfer takes that is requested now and takes the last place in the queue."""
        if not self.contended and self._faults is None:
            return self.rest_s[worker]
        now_s = float(self._env.now)
        end_s = self.end_s(worker, now_s)
        if self.contended:
            self._free_s = self._left_s(now_s)
        return end_s - now_s

    def end_s(self, worker: int, start_s: float) -> float:
        """Returns when a transfer ends that is requested at `start_s`, if nobody else's is requested before it."""
        left_s = self._left_s(start_s) if self.contended else start_s
        if self._faults is None:
            return left_s + self.rest_s[worker]
        return self._faults.link(worker).finished_s(left_s, self.rest_s[worker])

    def _left_s(self, start_s: float) -> float:
        """Returns when a message that is requested at `start_s` leaves the shared link."""
        start_s = max(start_s, self._free_s)
        if self._faults is None:
            return start_s + self._shared_s
        return self._faults.server.finished_s(start_s, self._shared_s)
