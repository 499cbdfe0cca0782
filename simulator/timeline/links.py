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
        self._link = link
        self._queue = simpy.Resource(env, capacity=1) if link.shared_s else None
        self._free_s = 0.0  # when the last message in the queue will have left the shared link

    @property
    def contended(self) -> bool:
        """Whether a transfer may have to wait for others."""
        return self._queue is not None

    def end_s(self, worker: int, start_s: float) -> float:
        """Returns when a transfer ends that is requested at `start_s`, if nobody else's is requested before it."""
        if self._queue is None:
            return start_s + self._link.transfer_s(worker)
        shared_s = self._link.shared_s or 0.0
        return max(start_s, self._free_s) + shared_s + self._rest_s(worker)

    def transfer(self, worker: int) -> Process:
        """SimPy process of one transfer."""
        if self._queue is None:
            duration_s = self._link.transfer_s(worker)
            if duration_s > 0:
                yield self._env.timeout(duration_s)
            return
        shared_s = self._link.shared_s or 0.0
        self._free_s = max(self._env.now, self._free_s) + shared_s
        with self._queue.request() as turn:
            yield turn
            yield self._env.timeout(shared_s)
        rest_s = self._rest_s(worker)
        if rest_s > 0:
            yield self._env.timeout(rest_s)

    def _rest_s(self, worker: int) -> float:
        return max(self._link.transfer_s(worker) - (self._link.shared_s or 0.0), 0.0)
