"""Meetings by collectives: workers that have no server, and all of a meeting's members have its result at once."""

from collections.abc import Iterable

from simulator.cluster import Nanoseconds, nanoseconds
from simulator.timeline.events import Arrival
from simulator.timeline.exchanges import OpenOffer
from simulator.timeline.message import Brought, Process
from simulator.timeline.overlapping_worker import OverlappingWorker
from simulator.timeline.place import MeetingPlace
from simulator.timeline.policies.synchronization import SynchronizationPolicy
from simulator.timeline.round_under_way import RoundUnderWay
from simulator.timeline.server import ServerProcess
from simulator.timeline.worker import Worker
from simulator.timeline.world import World


class CollectiveWorker(Worker):
    """A worker as a SimPy process whose offers wait where it is for the collective, and then take part in any case."""

    def _push(self, under_way: RoundUnderWay) -> Process:
        self.home.receive(self._offer(under_way))
        return
        yield  # a generator, as what it overrides


class OverlappingCollectiveWorker(OverlappingWorker):
    """The same of one that goes on while the collective takes place. Too late for one, it is answered by a message."""

    home: "CollectiveServer"

    def _post(self, under_way: RoundUnderWay) -> None:
        self.home.receive(under_way.arrival(self._env.now))

    def _bring(self, offer: OpenOffer, fragment: int) -> None:
        """Notes the answer to an offer, which is there if that was in the collective."""
        if offer.round not in self.home.met:
            super()._bring(offer, fragment)
            return
        offer.answer = Brought(self._env.now, self._env.now)
        offer.received.succeed()


class CollectiveServer(ServerProcess):
    """Meetings of all workers by collectives, one after the other: they share one network.

    A collective begins when its meeting closes, or when the one that is going on then is over; who was first closes
    first. What a worker cannot have from the last one, since it was not in it, it takes as a copy over its link.

    Attributes:
      met: rounds whose offers were in the last one.
    """

    def __init__(self, world: World, node: int, members: Iterable[int], policy: SynchronizationPolicy):
        super().__init__(world, node, members, policy)
        self._brought: dict[int, Nanoseconds] = {}  # when the last one began, by member that has not gone on since
        self._has_met = False
        self.met: frozenset[int] = frozenset()

    def _meet(self, place: MeetingPlace, arrivals: tuple[Arrival, ...]) -> Process:
        cluster, since_ns = self._world.cluster, self._env.now
        assert cluster.collective is not None
        present = list(dict.fromkeys(arrival.round.worker for arrival in arrivals))
        size = cluster.up.size(self._config.shares.offers[place.fragment])
        yield from self._work(nanoseconds(cluster.collective.seconds(present, size)))
        self._brought, self._has_met = dict.fromkeys(present, since_ns), True
        self.met = frozenset(arrival.round.id for arrival in arrivals)
        yield from self._update(place, arrivals, since_ns=since_ns)

    def _had_since(self, worker: int, answers: bool) -> Nanoseconds | None:
        since_ns = self._brought.pop(worker, None)
        if not self._has_met:
            now_ns: Nanoseconds = self._env.now
            return now_ns  # all begin with the same
        return since_ns if answers else None
