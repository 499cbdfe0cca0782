"""Transfers between workers and their server, alone or queueing on a link that all of them share."""

import simpy

from simulator.cluster import FaultModel, Link, Nanoseconds, nanoseconds


class Channel:
    """One direction of the network. A message has a share of the model's size, 1 for all of it.

    Where the server has a link of its own, a message occupies it for a time, first come, first served. A worker's
    slower link and the latency come after that and hold up no one else. So it is known when a transfer will end as soon
    as it is requested. A message in the queue takes its turn, also if its worker is gone by then, and also if it is
    going to be lost. While a worker's link or the server is down, its transfer stands still; where rates of the link
    were measured, it is transmitted at them.
    """

    def __init__(self, env: simpy.Environment, link: Link, faults: FaultModel | None = None):
        self._env, self._link, self._faults = env, link, faults
        self._is_shared = link.shared_s is not None
        self._free_ns: Nanoseconds = 0  # when the last message in the queue will have left the shared link
        self._costs: dict[float, tuple[Nanoseconds, list[Nanoseconds]]] = {}

    def duration_ns(self, worker: int, share: float = 1.0) -> Nanoseconds:
        """Returns how long a transfer takes that is requested now and takes the last place in the queue."""
        if not self._is_shared and self._faults is None and self._link.rates(worker) is None:
            return self._costs_of(share)[1][worker]
        now_ns: int = self._env.now
        end_ns = self.end_ns(worker, now_ns, share)
        if self._is_shared:
            self._free_ns = self._left_ns(now_ns, self._costs_of(share)[0])
        return end_ns - now_ns

    def end_ns(self, worker: int, start_ns: Nanoseconds, share: float = 1.0) -> Nanoseconds:
        """Returns when a transfer ends that is requested at `start_ns`, if nobody else's is requested before it."""
        shared_ns, rest_ns = self._costs_of(share)
        left_ns = self._left_ns(start_ns, shared_ns) if self._is_shared else start_ns
        return self._link.arrival_ns(worker, left_ns, rest_ns[worker], share, self._faults)

    def _costs_of(self, share: float) -> tuple[Nanoseconds, list[Nanoseconds]]:
        """Returns the time on the shared link, and each worker's beyond it."""
        found = self._costs.get(share)
        if found is None:
            link = self._link
            shared_ns = nanoseconds(share * (link.shared_s or 0.0))
            alone_ns = [nanoseconds(link.transfer_s(worker, share)) for worker in range(len(link.latency_s))]
            found = self._costs[share] = shared_ns, [max(each_ns - shared_ns, 0) for each_ns in alone_ns]
        return found

    def _left_ns(self, start_ns: Nanoseconds, shared_ns: Nanoseconds) -> Nanoseconds:
        """Returns when a message that is requested at `start_ns` leaves the shared link."""
        start_ns = max(start_ns, self._free_ns)
        if self._faults is None:
            return start_ns + shared_ns
        return self._faults.server.finished_ns(start_ns, shared_ns)
