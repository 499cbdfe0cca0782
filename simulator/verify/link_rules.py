"""Rules of links that messages share: they carry no more than they can."""

import heapq
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from simulator.cluster import SERVER_LINK, ClusterModel, Episodes, Link, Nanoseconds, nanoseconds
from simulator.host.nodes import region_of
from simulator.verify.checked_run import CheckedRun, Violation, in_ns
from simulator.verify.meetings import MessageKind, Transfer


class Leg(NamedTuple):
    """A link that a message takes.

    Attributes:
      link: costs.
      number: its own in there.
      worker: whose link it is; -1 where it has no faults.
    """

    link: Link
    number: int
    worker: int


def way_of(network: ClusterModel, sent: Transfer, kind: MessageKind) -> list[Leg]:
    """Returns the links that a message takes at once; none of what is no message between known nodes.

    Args:
      network: costs.
      sent: the message.
      kind: of it.
    """
    sender, receiver = sent.sender, sent.receiver
    if kind.startswith("region"):
        up, down = network.regional, network.regional_down
        link = up if sender == min(sender, receiver) else down or up
        number = region_of(min(sender, receiver))
        return [] if link is None or number not in range(len(link.latency_s)) else [Leg(link, number, -1)]
    known = range(network.workers)
    if kind == "offer" and receiver >= 0:
        if sender not in known or receiver not in known:
            return []
        if network.ways is None:
            return [Leg(network.up, sender, sender), Leg(network.down, receiver, receiver)]
        number = network.ways.number(sender, receiver)
        return [Leg(network.ways.link, number, sender), Leg(network.ways.link, number, receiver)]
    worker, link = (sender, network.up) if kind == "offer" else (receiver, network.down)
    return [Leg(link, worker, worker)] if worker in known else []


def _links_carry_no_more_than_they_can(run: CheckedRun) -> Iterator[Violation]:
    """Messages over a shared link fit in between begin and end of their transfers, in whatever order."""
    network = run.network
    if network is None:
        return
    server = network.faults.server if network.faults is not None else Episodes([])
    loads: dict[str, list[tuple[Nanoseconds, Nanoseconds, Nanoseconds, int]]] = defaultdict(list)
    for row, (sent, kind, _) in enumerate(run.sent()):
        begin_ns, end_ns, share = in_ns(sent.begin_s), in_ns(sent.end_s), share_of(run, kind, sent.fragment)
        if kind == "none" or not (0 <= begin_ns <= end_ns < math.inf and sent.messages >= 0):
            continue
        for link, number, _ in way_of(network, sent, kind)[:1]:
            crossings = link.crossings(number)
            left_ns = end_ns - _rest_ns(network, link, number, share)
            for crossing in crossings:
                name, first_ns, last_ns = f"uplink {crossing.link}", begin_ns, left_ns
                if crossing.link == SERVER_LINK:  # which works but while the server is down
                    name = f"server's link {'up' if link is network.up else 'down'}"
                    first_ns, last_ns = (server.work_ns(0, time_ns) for time_ns in (begin_ns, left_ns))
                work_ns = sent.messages * nanoseconds(share * crossing.seconds)
                loads[name].append((first_ns, max(last_ns, 0), work_ns, row))
    for name, transfers in loads.items():
        late = _too_late(transfers, 1 + 1e9 * run.eps_s)
        if late is not None:
            message = f"the {name} cannot have carried this message and the others beside it by then"
            yield Violation("transfers", late, "links", message)


def _rest_ns(network: ClusterModel, link: Link, number: int, share: float) -> Nanoseconds:
    """Returns the time of a message behind its last shared link."""
    if network.sharing == "fair":
        return nanoseconds(float(link.latency_s[number]))
    longest_ns = max((nanoseconds(share * each.seconds) for each in link.crossings(number)), default=0)
    return max(nanoseconds(link.transfer_s(number, share)) - longest_ns, 0)


def share_of(run: CheckedRun, kind: MessageKind, fragment: int) -> float:
    """Returns the share of the model's size that a message of a worker has."""
    return run.offered(fragment) if kind == "offer" else run.answered(fragment) if kind == "answer" else 1.0


def _too_late(transfers: Sequence[tuple[Nanoseconds, Nanoseconds, Nanoseconds, int]], eps_ns: float) -> int | None:
    """Returns the number of a transfer that cannot be done in time, None if all can: the most urgent first always can.

    Args:
      transfers: (begin, end, work, number) of each, times and work in nanoseconds.
      eps_ns: by how much one may be late.
    """
    transfers = sorted(transfers)
    open_: list[tuple[Nanoseconds, Nanoseconds, int]] = []  # heap of (end, work left, number)
    now_ns: Nanoseconds = 0
    for begin_ns, end_ns, work_ns, number in [*transfers, (math.inf, math.inf, 0, -1)]:
        while open_ and now_ns < begin_ns:
            until_ns, left_ns, first = heapq.heappop(open_)
            done_ns = min(left_ns, begin_ns - now_ns)
            now_ns += done_ns
            if now_ns > until_ns + eps_ns:
                return first
            if done_ns < left_ns:
                heapq.heappush(open_, (until_ns, left_ns - done_ns, first))
        now_ns = max(now_ns, begin_ns)
        heapq.heappush(open_, (end_ns, work_ns, number))
    return None


ALL = (_links_carry_no_more_than_they_can,)
