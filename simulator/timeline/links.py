"""Transfers between workers and the server, alone or queueing on a link that all of them share."""

from collections.abc import Generator
from typing import Any

import simpy

from simulator.cluster import Link

Process = Generator[simpy.Event, Any, None]


class Channel:
    """One direction of the network.

    Where the server has a link of its own, a message occupies it for `shared_s`, first come, first served. A worker's
    slower link and the latency come after that and hold up no one else.
    """

    def __init__(self, env: simpy.Environment, link: Link):
        self._env = env
        self._queue = simpy.Resource(env, capacity=1) if link.shared_s else None
        self._shared_s = link.shared_s or 0.0
        self._free_s = 0.0  # when the last message in the queue will have left the shared link
        transfer_s = [link.transfer_s(worker) for worker in range(len(link.latency_s))]
        self._rest_s = [max(own_s - self._shared_s, 0.0) for own_s in transfer_s]  # beyond the shared link

    @property
    def contended(self) -> bool:
        """Whether a transfer may have to wait for others."""
        return self._queue is not None

    def end_s(self, worker: int, start_s: float) -> float:
        """Returns when a transfer ends that is requested at `start_s`, if nobody else's is requested before it."""
        if self._queue is None:
            return start_s + self._rest_s[worker]
        return max(start_s, self._free_s) + self._shared_s + self._rest_s[worker]

    def join(self, worker: int) -> float:
        """Takes the last place in the queue for a transfer that is requested now; returns when it will end."""
        now_s = self._env.now
        end_s = self.end_s(worker, now_s)
        self._free_s = max(now_s, self._free_s) + self._shared_s
        return end_s

    def transfer(self, worker: int) -> Process:
        """SimPy process of one transfer that, on a shared link, has joined the queue just before."""
        if self._queue is not None:
            with self._queue.request() as turn:
                yield turn
                yield self._env.timeout(self._shared_s)
        if self._rest_s[worker] > 0:
            yield self._env.timeout(self._rest_s[worker])
