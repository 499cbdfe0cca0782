"""Links of a cluster: what transfers take on each worker's link, and which links they share with others."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from simulator.cluster.clock import Nanoseconds, nanoseconds
from simulator.cluster.collectives import Collective, LinkCost
from simulator.cluster.episodes import Episodes
from simulator.cluster.faults import FaultModel
from simulator.cluster.traces import PaceTrace, pace_of
from simulator.experiment.schema.cluster import Cluster
from simulator.experiment.schema.collectives import AllReduceTopology
from simulator.experiment.schema.efficiency import reached
from simulator.experiment.schema.exchanges import RegionsTopology, Topology
from simulator.experiment.schema.sites import site_link
from simulator.experiment.schema.worker_groups import members_of

SERVER_LINK = "server"
"""Name of the link that all transfers of a direction share at the server."""


class Crossing(NamedTuple):
    """A link that messages share, as one of them crosses it.

    Attributes:
      link: its name, of each direction another.
      seconds: that a message of the model's size occupies it.
    """

    link: str
    seconds: float


def no_rates(worker: int) -> None:
    """Returns the episodes of a link without measured rates: there are none."""


@dataclasses.dataclass(frozen=True)
class Link:
    """One direction between every worker and the server, for a message of the model's size.

    Attributes:
      message_bytes: size of one message.
      latency_s: per worker, float64 of shape (workers,), in seconds.
      transmission_s: per worker, message bytes over the worker's effective bandwidth, in seconds.
      shared_s: seconds that one message occupies the server's own link; None if not modelled.
      uplinks: per worker, links of sites that its messages cross, in order; empty without any.
      server_first: whether they cross the server's own link before these.
      rates: worker to the episodes in which its link transmits at another rate, or not at all; None where a worker's
        link has no measured rates.
    """

    message_bytes: int
    latency_s: np.ndarray
    transmission_s: np.ndarray
    shared_s: float | None
    uplinks: tuple[tuple[Crossing, ...], ...] = ()
    server_first: bool = False
    rates: Callable[[int], Episodes | None] = no_rates

    def crossings(self, worker: int) -> tuple[Crossing, ...]:
        """Returns the links that a worker's messages share with others, in order."""
        uplinks = self.uplinks[worker] if self.uplinks else ()
        server = () if self.shared_s is None else (Crossing(SERVER_LINK, self.shared_s),)
        return (*server, *uplinks) if self.server_first else (*uplinks, *server)

    def transfer_s(self, worker: int, share: float = 1.0) -> float:
        """Returns the time of a transfer that waits for no other, of a message of a share of the model's size."""
        slowest_s = max(self.transmission_s[worker], *(each.seconds for each in self.crossings(worker)), 0.0)
        return float(self.latency_s[worker] + share * slowest_s)

    def arrival_ns(
        self, worker: int, start_ns: Nanoseconds, work_ns: Nanoseconds, share: float, standstills: Sequence[Episodes]
    ) -> Nanoseconds:
        """Returns when a message gets through that is on a worker's own link from a time on.

        Args:
          worker: its number.
          start_ns: when it begins.
          work_ns: how long it takes if nothing disturbs it; where rates were measured, at the first of them.
          share: of the model's size.
          standstills: times at which it stands still.
        """
        rates = self.rates(worker)
        if rates is not None:  # which are of the transmission alone, and not of the latency after it
            start_ns = rates.finished_ns(start_ns, nanoseconds(share * float(self.transmission_s[worker])))
            work_ns = nanoseconds(float(self.latency_s[worker]))
            if work_ns == 0:
                return start_ns
        if not standstills:
            return start_ns + work_ns
        return max(each.finished_ns(start_ns, work_ns) for each in standstills)

    @property
    def costs(self) -> tuple[LinkCost, ...]:
        """Costs of transfers of any size that wait for no other, by worker."""
        own_s = [
            max(float(alone_s), *(crossing.seconds for crossing in self.crossings(worker)), 0.0)
            for worker, alone_s in enumerate(self.transmission_s)
        ]
        size = max(self.message_bytes, 1)
        return tuple(LinkCost(float(each), own / size) for each, own in zip(self.latency_s, own_s, strict=True))

    def size(self, share: float) -> int:
        """Returns the bytes of a message of a share of the model's size."""
        return round(share * self.message_bytes)


@dataclasses.dataclass(frozen=True)
class SiteWays:
    """Ways between workers that meet without a server, by their sites.

    Attributes:
      link: of each pair of sites, those of the first sender first.
      of: number of each worker's site.
      sites: number of sites.
    """

    link: Link
    of: tuple[int, ...]
    sites: int

    def number(self, sender: int, receiver: int) -> int:
        """Returns the number of the pair of two workers' sites."""
        return self.of[sender] * self.sites + self.of[receiver]

    @property
    def slowest(self) -> LinkCost:
        """Cost of a transfer from a site to another that is the slowest in latency and rate, uplinks included."""
        costs, apart = self.link.costs, [pair for pair in range(self.sites**2) if pair % (self.sites + 1)]
        return LinkCost(
            max((costs[pair].latency_s for pair in apart), default=0.0),
            max((costs[pair].byte_s for pair in apart), default=0.0),
        )


class NetworkCosts:
    """Costs of a cluster's network.

    Args:
      cluster: its section.
      parameters: of the model, all of which a message carries unless the file gives a message size.
      topology: of the workers; one server when absent.
      faults: of the cluster, if any.
    """

    def __init__(self, cluster: Cluster, parameters: int, topology: Topology | None, faults: FaultModel | None):
        self._faults = faults
        self._cluster, self._network, self._topology = cluster, cluster.network, topology
        self._parameters = parameters
        self._sites = cluster.devices.worker_sites if cluster.network.sites else None
        self._server = cluster.network.site_of_server or ""

    def link(self, which: Literal["down", "up"]) -> Link:
        """Returns the links of a direction between workers and the server, or what meets them at their own site."""
        network, message_bytes = self._network, self._message_bytes(which)
        shared = network.server_link
        shared_s = None if shared is None else message_bytes / reached(shared.efficiency, shared.bandwidth)
        if self._sites is not None:
            at_home = isinstance(self._topology, RegionsTopology | AllReduceTopology)
            ends = [(site, site if at_home else self._server) for site in self._sites]
            link = self._between(which, ends if which == "up" else [(there, here) for here, there in ends])
            return dataclasses.replace(link, shared_s=shared_s, server_first=which == "down")
        direction, workers = network.direction(which), self._cluster.workers
        bandwidth = np.broadcast_to(np.asarray(direction.bandwidth, float), (workers,)).copy()
        efficiency = direction.efficiency
        assert efficiency is not None
        rows = [row for row in network.trace or () if which in row.directions]
        for row in reversed(rows):
            bandwidth[row.worker] = row.rate  # the first row's in the end
        paces = ((row.worker, row.time, 1 / reached(efficiency, row.rate)) for row in rows)
        trace = PaceTrace(paces, network.repeat_every)
        disturbed = None if self._faults is None else self._faults.link

        def rates(worker: int) -> Episodes | None:
            return pace_of(worker, disturbed, trace) if worker in trace else None

        return Link(
            message_bytes=message_bytes,
            latency_s=np.broadcast_to(np.asarray(direction.latency, float), (workers,)).copy(),
            transmission_s=message_bytes / np.array([reached(efficiency, rate) for rate in bandwidth]),
            shared_s=shared_s,
            rates=functools.cache(rates) if rows else no_rates,
        )

    def regional(self, which: Literal["down", "up"]) -> Link | None:
        """Returns the links of a direction between the servers of regions and the upper one, None without regions."""
        if not isinstance(self._topology, RegionsTopology):
            return None
        regions = self._topology.members(self._cluster)
        if self._sites is not None:
            here = [self._sites[members[0]] for members in regions]
            ends = [(site, self._server) if which == "up" else (self._server, site) for site in here]
            return self._between("up", ends)
        message_bytes, count = self._message_bytes("up"), len(regions)
        return Link(
            message_bytes=message_bytes,
            latency_s=np.full(count, self._topology.latency),
            transmission_s=np.full(count, message_bytes / self._topology.bandwidth),
            shared_s=None,
        )

    def collective(self) -> Collective | None:
        """Returns the all-reduce in which offers meet, None where messages bring them to a place."""
        topology = self._topology
        if not isinstance(topology, AllReduceTopology):
            return None
        up, down = self.link("up").costs, self.link("down").costs
        ways = self.ways()
        if ways is not None:
            return Collective(topology.algorithm, up, down, ways.of, ways.slowest)
        groups = members_of(1 if topology.groups is None else topology.groups, self._cluster)
        of = {worker: group for group, members in enumerate(groups) for worker in members}
        between = LinkCost(topology.latency, 1 / topology.bandwidth)
        return Collective(topology.algorithm, up, down, tuple(of[worker] for worker in range(len(of))), between)

    def ways(self) -> SiteWays | None:
        """Returns the ways between workers without a server, None without sites."""
        if self._sites is None:
            return None
        names = list(dict.fromkeys(self._sites))
        pairs = [(sender, receiver) for sender in names for receiver in names]
        return SiteWays(self._between("up", pairs), tuple(names.index(site) for site in self._sites), len(names))

    def _message_bytes(self, which: Literal["down", "up"]) -> int:
        direction = self._network.direction(which)
        assert direction.bytes_per_parameter is not None
        return round(direction.message_size or self._parameters * direction.bytes_per_parameter)

    def _between(self, which: Literal["down", "up"], ends: list[tuple[str, str]]) -> Link:
        """Returns the link of each pair of a sender's and a receiver's site; what its direction says goes before."""
        network, message_bytes, own = self._network, self._message_bytes(which), getattr(self._network, which)
        found = functools.cache(functools.partial(site_link, network))
        latency_s, rates = [], []
        for pair in ends:
            given = found(*pair)._asdict()
            given |= {name: getattr(own, name) for name in given if getattr(own, name) is not None}
            latency_s.append(given["latency"])
            rates.append(reached(given["efficiency"], given["bandwidth"]))
        crossed = functools.cache(functools.partial(self._uplinks, message_bytes))
        uplinks = tuple(crossed(*pair) for pair in ends)
        return Link(
            message_bytes=message_bytes,
            latency_s=np.array(latency_s, float),
            transmission_s=message_bytes / np.array(rates, float),
            shared_s=None,
            uplinks=uplinks if any(uplinks) else (),
        )

    def _uplinks(self, message_bytes: int, sender: str, receiver: str) -> tuple[Crossing, ...]:
        """Returns the uplinks that a message crosses, none inside of a site."""
        sites, found = self._network.sites or {}, []
        for site, other, end in ((sender, receiver, "out"), (receiver, sender, "in")):
            uplink = sites[site].uplink
            if site != other and uplink is not None:
                seconds = message_bytes / reached(uplink.efficiency, uplink.bandwidth)
                found.append(Crossing(f"{site} {end}", seconds))
        return tuple(found)
