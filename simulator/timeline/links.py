"""Transfers over links: each message has its own, and shares some with others, in a queue or fairly."""

import math
from collections.abc import Generator
from typing import Any, NamedTuple

import simpy

from simulator.cluster import (
    SERVER_LINK,
    ClusterModel,
    Episodes,
    FaultModel,
    Link,
    Nanoseconds,
    SiteWays,
    nanoseconds,
)
from simulator.timeline.fair_sharing import FairSharing
from simulator.timeline.message import Transit

Transfer = Generator[simpy.Event, Any, bool]
"""Waits for a message; returns whether it gets through."""


class _Queue:
    """One direction of a link that messages cross one after the other, first come, first served."""

    def __init__(self, standstills: Episodes | None = None):
        self._free_ns: Nanoseconds = 0  # when the last message in it will have left
        self._standstills = standstills

    def left_ns(self, start_ns: Nanoseconds, work_ns: Nanoseconds) -> Nanoseconds:
        """Returns when a message leaves that comes at a time, if no other comes before."""
        start_ns = max(start_ns, self._free_ns)
        return start_ns + work_ns if self._standstills is None else self._standstills.finished_ns(start_ns, work_ns)

    def join(self, start_ns: Nanoseconds, work_ns: Nanoseconds) -> Nanoseconds:
        """Returns when a message leaves that comes now, after all that came before."""
        self._free_ns = self.left_ns(start_ns, work_ns)
        return self._free_ns


class _Crossing(NamedTuple):
    """A shared link as a message crosses it: its name, the time that it is occupied alone, and bytes per nanosecond."""

    link: object
    work_ns: Nanoseconds
    rate: float


class _Route(NamedTuple):
    """Way of a message.

    Attributes:
      link: of its own, number: of that, share: of the model's size.
      alone_ns: time that it takes if it waits for no other.
      rest_ns: of that, what is left when it has left the last of the shared links.
      latency_ns: of that, what is no work of any link.
      size: bytes.
      cap: bytes per nanosecond of its own link.
      crossings: shared links, in order.
      standstills: times at which it stands still.
    """

    link: Link
    number: int
    share: float
    alone_ns: Nanoseconds
    rest_ns: Nanoseconds
    latency_ns: Nanoseconds
    size: float
    cap: float
    crossings: tuple[_Crossing, ...]
    standstills: tuple[Episodes, ...] = ()

    def landed_ns(self, start_ns: Nanoseconds, work_ns: Nanoseconds) -> Nanoseconds:
        """Returns when work on its own link ends."""
        return self.link.arrival_ns(self.number, start_ns, work_ns, self.share, self.standstills)


def _route(link: Link, number: int, share: float, server: object) -> _Route:
    """Returns the way of a message that is never disturbed.

    Args:
      link: that it takes.
      number: of the worker whose link it is.
      share: of the model's size.
      server: name of the link that the server shares.
    """
    crossed = [each for each in link.crossings(number) if each.seconds > 0]
    crossings = tuple(
        _Crossing(
            server if each.link == SERVER_LINK else each.link,
            nanoseconds(share * each.seconds),
            link.message_bytes / each.seconds / 1e9,
        )
        for each in crossed
    )
    alone_ns = nanoseconds(link.transfer_s(number, share))
    longest_ns = max((each.work_ns for each in crossings), default=0)
    own_s = float(link.transmission_s[number])
    return _Route(
        link,
        number,
        share,
        alone_ns,
        max(alone_ns - longest_ns, 0),
        nanoseconds(float(link.latency_s[number])),
        share * link.message_bytes,
        link.message_bytes / own_s / 1e9 if own_s > 0 else math.inf,
        crossings,
    )


class SharedLinks:
    """Links of a cluster that several messages cross, each direction on its own.

    In a queue a message occupies each for a time, first come, first served; it comes to the next one so early that both
    are through together where neither is busy. Its own slower link and the latency come after that and hold up no one
    else. A message in a queue takes its turn, also if its worker is gone by then, and also if it is going to be lost.
    Shared fairly, all go on at once, see `FairSharing`, none faster than its own link; the latency comes after that.

    While a worker's link or the server is down, its transfer stands still; in a queue for the server's link, only while
    that is down.

    Args:
      env: the clock.
      fair: whether messages share them fairly.
      faults: of the cluster.
    """

    def __init__(self, env: simpy.Environment, *, fair: bool = False, faults: FaultModel | None = None):
        self._env, self.faults = env, faults
        self._fair = FairSharing(env) if fair else None
        self._queues: dict[object, _Queue] = {}

    @classmethod
    def of(cls, env: simpy.Environment, cluster: ClusterModel) -> "SharedLinks":
        """Returns those of a cluster."""
        return cls(env, fair=cluster.sharing == "fair", faults=cluster.faults)

    def add_server(self) -> object:
        """Adds one direction of a server's own link; returns its name."""
        name = object()
        self._queues[name] = _Queue(None if self.faults is None else self.faults.server)
        return name

    def send(self, route: _Route) -> Transit:
        """Sends a message now."""
        now_ns: Nanoseconds = self._env.now
        if not route.crossings:
            return Transit(route.landed_ns(now_ns, route.alone_ns) - now_ns)
        if self._fair is not None:
            return Transit(route.alone_ns, self._env.process(self._share(route, self._fair)))
        first, *others = route.crossings
        left_ns = self._queue(first).join(now_ns, first.work_ns)
        if not others:
            return Transit(route.landed_ns(left_ns, route.rest_ns) - now_ns)
        return Transit(route.alone_ns, self._env.process(self._cross(route, left_ns)))

    def end_ns(self, route: _Route, start_ns: Nanoseconds) -> Nanoseconds:
        """Returns when a message gets through that is sent at a time, if no other comes before it; or no later."""
        if not route.crossings:
            return route.landed_ns(start_ns, route.alone_ns)
        if self._fair is not None or len(route.crossings) > 1:
            return start_ns + route.alone_ns
        [only] = route.crossings
        return route.landed_ns(self._queue(only).left_ns(start_ns, only.work_ns), route.rest_ns)

    def _queue(self, crossing: _Crossing) -> _Queue:
        return self._queues.setdefault(crossing.link, _Queue())

    def _cross(self, route: _Route, left_ns: Nanoseconds) -> Transfer:
        """Waits for a message in one queue after the other; returns whether it gets through."""
        env, before = self._env, route.crossings[0]
        for crossing in route.crossings[1:]:
            if left_ns == math.inf:
                return False
            yield env.timeout(left_ns - min(before.work_ns, crossing.work_ns) - env.now)
            left_ns = max(left_ns, self._queue(crossing).join(env.now, crossing.work_ns))
            before = crossing
        return (yield from self._land(route, left_ns, route.rest_ns))

    def _share(self, route: _Route, fair: FairSharing) -> Transfer:
        """Waits for a message on links that are shared fairly; returns whether it gets through."""
        links = tuple((each.link, each.rate) for each in route.crossings)
        if not (yield fair.begin(route.size, route.cap, links, route.standstills)):
            return False
        return (yield from self._land(route, self._env.now, route.latency_ns))

    def _land(self, route: _Route, left_ns: Nanoseconds, rest_ns: Nanoseconds) -> Transfer:
        end_ns = route.landed_ns(left_ns, rest_ns)
        if end_ns == math.inf:
            return False
        yield self._env.timeout(end_ns - self._env.now)
        return True


class Channel:
    """One direction between workers and their server. A message has a share of the model's size, 1 for all of it.

    Args:
      env: the clock.
      link: of each worker.
      shared: links that several messages cross, with the faults that disturb them; without them there are neither.
      is_disturbed: whether the workers' own links have faults.
    """

    def __init__(
        self, env: simpy.Environment, link: Link, shared: SharedLinks | None = None, *, is_disturbed: bool = True
    ):
        self._link, self._shared = link, shared or SharedLinks(env)
        self._faults = self._shared.faults if is_disturbed else None
        self._server = self._shared.add_server()
        self._routes: dict[tuple[int, float], _Route] = {}

    def send(self, worker: int, share: float = 1.0) -> Transit:
        """Sends a message now, behind all that were sent before it."""
        return self._shared.send(self._route(worker, share))

    def end_ns(self, worker: int, start_ns: Nanoseconds, share: float = 1.0) -> Nanoseconds:
        """Returns when a message gets through that is sent at a time, if no other comes before it; or no later."""
        return self._shared.end_ns(self._route(worker, share), start_ns)

    def through_ns(
        self, worker: int, start_ns: Nanoseconds, share: float, losses: int, retry_ns: Nanoseconds
    ) -> Nanoseconds:
        """Returns when a message gets through that is first sent at a time, and again so long after each loss."""
        end_ns = self.end_ns(worker, start_ns, share)
        for _ in range(losses):
            end_ns = self.end_ns(worker, end_ns + retry_ns, share)
        return end_ns

    def _route(self, worker: int, share: float) -> _Route:
        found = self._routes.get((worker, share))
        if found is None:
            found = _route(self._link, worker, share, self._server)
            if self._faults is not None:
                found = found._replace(standstills=(self._faults.link(worker),))
            self._routes[worker, share] = found
        return found


class PeerWay:
    """The way from one worker to another, as their sites have it, or as slow as the slower of the two workers' links.

    Args:
      up: from workers.
      down: to workers.
      to: the worker that it leads to.
      ways: between sites, None without any.
      shared: links that they share.
    """

    def __init__(self, up: Channel, down: Channel, to: int, ways: SiteWays | None, shared: SharedLinks):
        self._up, self._down, self._to, self._ways, self._shared = up, down, to, ways, shared

    def send(self, worker: int, share: float = 1.0) -> Transit:
        """Sends a message now."""
        if self._ways is None:
            both = self._up.send(worker, share), self._down.send(self._to, share)
            assert all(each.end is None for each in both), "workers' own links are shared fairly with a server alone"
            return Transit(max(each.duration_ns for each in both))
        route = _route(self._ways.link, self._ways.number(worker, self._to), share, None)
        if self._shared.faults is not None:
            standstills = tuple(self._shared.faults.link(each) for each in (worker, self._to))
            route = route._replace(standstills=standstills)
        return self._shared.send(route)
