"""Regions: servers of their own for groups of workers, which exchange with an upper server now and then (HALoS)."""

import math
from collections.abc import Iterable

from simulator.cluster import Nanoseconds
from simulator.host.nodes import SERVER, region_node
from simulator.timeline.events import Accepted, Offered, RegionOffer
from simulator.timeline.links import Channel
from simulator.timeline.message import Message, Process
from simulator.timeline.place import MeetingPlace
from simulator.timeline.policies.synchronization import Asynchronous, SynchronizationPolicy
from simulator.timeline.round_under_way import Incoming
from simulator.timeline.server import ServerProcess
from simulator.timeline.world import World


class UpperServer(ServerProcess):
    """The server above the regions: every offer of a region is an update, and is answered at once.

    Args:
      world: clock and counts.

    Attributes:
      regions: servers below it, by region.
    """

    def __init__(self, world: World):
        super().__init__(world, SERVER, (), Asynchronous(0.0))
        up, down = world.cluster.regional, world.cluster.regional_down
        assert up is not None
        self.down, self.up = (Channel(world.env, link, world.links, is_disturbed=False) for link in (down or up, up))
        self.regions: list[RegionServer] = []
        regions = world.config.regions
        assert regions is not None
        self._arrivals_per_update, self._drop_above = regions.arrivals_per_update, regions.drop_above

    def _process(self, message: Incoming) -> Process:
        assert isinstance(message, RegionOffer)
        [place] = self.places
        yield from self._update(place, (message,))
        if not self._world.is_over:
            self.regions[message.region].answered(place.version)

    def _check_progress(self) -> None:
        """Leaves that to the regions: it stands still where they do."""


class RegionServer(ServerProcess):
    """The server of a region, which offers its progress to the upper one after some updates, one offer at a time.

    Progress that it makes while an offer is on its way is in its parameters, and in no offer.

    Args:
      world: clock and counts.
      region: its number.
      members: its workers.
      policy: decides when they restart.
      upper: server above it.
      every_versions: updates between what it last accepted and its next offer.
    """

    def __init__(
        self,
        world: World,
        region: int,
        members: Iterable[int],
        policy: SynchronizationPolicy,
        upper: UpperServer,
        every_versions: int,
    ):
        super().__init__(world, region_node(region), members, policy)
        self._region, self._upper, self._every_versions = region, upper, every_versions
        self._merged = self._base = 0  # own version, and the upper server's, at the last acceptance
        self._has_offered = False
        upper.regions.append(self)

    def _changed(self, place: MeetingPlace) -> None:
        if self._has_offered or place.version < self._merged + self._every_versions:
            return
        self._has_offered = True
        self._world.emit(Offered(self._env.now, self.node, -1, (SERVER,), place.version))
        offer = RegionOffer(self._region, self._base, place.version, self._env.now, math.inf)

        def done(message: Message, through: bool) -> None:
            assert through, "messages between servers are not lost"
            self._upper.receive(offer._replace(arrival_ns=message.arrival_ns))

        Message(self._world, self._upper.up, self._region, 1.0, done=done)

    def answered(self, version: int) -> None:
        """Is sent the upper server's parameters of a version."""

        def done(message: Message, through: bool) -> None:
            assert through, "messages between servers are not lost"
            self._accept(message.sent_ns, message.arrival_ns, version)

        Message(self._world, self._upper.down, self._region, 1.0, done=done)

    def _accept(self, sent_ns: Nanoseconds, arrival_ns: Nanoseconds, version: int) -> None:
        [place] = self.places
        self._merged, self._base, self._has_offered = place.version, version, False
        self._world.emit(Accepted(self._env.now, self.node, -1, 0, 0, sent_ns, arrival_ns, 1, version))
        self.wake()
