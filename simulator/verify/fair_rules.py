"""Rules of links that are shared fairly: messages end when max-min fair rates have them end, computed anew."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from simulator.cluster import SERVER_LINK, Nanoseconds, nanoseconds
from simulator.host.nodes import SERVER
from simulator.verify.checked_run import CheckedRun, Violation, in_ns
from simulator.verify.link_rules import share_of, way_of

_MOST = 5_000
"""Messages that are computed anew, the first of a run: each of them costs as much as others are under way."""


class _Flow(NamedTuple):
    """A message on links that it shares.

    Attributes:
      row: of the table of transfers.
      begin_ns, end_ns: begin, and end on these links.
      size: bytes.
      cap: most bytes per nanosecond.
      links: bytes per nanosecond of each.
    """

    row: int
    begin_ns: Nanoseconds
    end_ns: Nanoseconds
    size: float
    cap: float
    links: Mapping[str, float]


def _fair_transfers_end_when_they_should(run: CheckedRun) -> Iterator[Violation]:
    """Messages of a run in which nothing goes wrong, up to the time at which one may be missing in the record."""
    network = run.network
    if network is None or network.sharing != "fair" or not run.is_calm or not run.experiment.topology.has_server:
        return
    until_ns, flows = _known_until_ns(run), []
    for row, (sent, kind, _) in enumerate(run.sent()):
        share = share_of(run, kind, sent.fragment)
        for link, number, _ in way_of(network, sent, kind)[:1]:
            direction = "up" if link is network.up else "down"
            crossings = [each for each in link.crossings(number) if each.seconds > 0]
            links = {
                f"{each.link} {direction}" if each.link == SERVER_LINK else each.link: link.message_bytes
                / each.seconds
                / 1e9
                for each in crossings
            }
            own_ns = float(link.transmission_s[number]) * 1e9
            cap = link.message_bytes / own_ns if own_ns > 0 else math.inf
            left_ns = in_ns(sent.end_s) - nanoseconds(float(link.latency_s[number]))
            if links and in_ns(sent.begin_s) < until_ns:
                flows.append(_Flow(row, in_ns(sent.begin_s), left_ns, share * link.message_bytes, cap, links))
    flows = sorted(flows, key=lambda flow: flow.begin_ns)
    if len(flows) > _MOST:
        until_ns, flows = min(until_ns, flows[_MOST].begin_ns), flows[:_MOST]
    for flow, end_ns in zip(flows, _ends_ns(flows), strict=True):
        if end_ns <= until_ns and not abs(flow.end_ns - end_ns) <= 2 + 2e9 * run.eps_s:
            message = f"over links that are shared fairly it ended at {flow.end_ns} ns and should end at {end_ns:.0f}"
            yield Violation("transfers", flow.row, "links", message)


def _known_until_ns(run: CheckedRun) -> Nanoseconds:
    """Returns up to when every message that was sent has come to its end, and so is in the record."""
    last: dict[tuple[int, bool, int], Nanoseconds] = {}
    for sent, kind, _ in run.sent():
        if kind == "copy" and run.goes_on:
            continue  # it begins with one, and with no other
        is_up = sent.sender >= 0 or sent.receiver == SERVER
        node = sent.sender if is_up else sent.receiver
        key = node, is_up, sent.fragment if run.goes_on else 0
        last[key] = max(last.get(key, 0), in_ns(sent.begin_s))
    fragments = range(run.experiment.schedule.fragments if run.goes_on else 1)
    nodes = {*range(len(run.homes)), *(home for home in run.homes if home < SERVER)}
    keys = [(node, is_up, fragment) for node in nodes for is_up in (False, True) for fragment in fragments]
    return min((last.get(key, 0) for key in keys), default=0)


def _ends_ns(flows: Sequence[_Flow]) -> list[float]:
    """Returns when each message has left the links that it shares.

    Args:
      flows: in order of their begin.
    """
    ends, left = [math.inf] * len(flows), dict[int, float]()
    now_ns, coming = 0.0, 0
    while left or coming < len(flows):
        next_ns = flows[coming].begin_ns if coming < len(flows) else math.inf
        rates = _rates({number: flows[number] for number in left})
        first_ns = min((size / rates[number] for number, size in left.items() if rates[number] > 0), default=math.inf)
        span_ns = min(first_ns, max(next_ns - now_ns, 0.0))
        for number in left:
            left[number] -= rates[number] * span_ns
        now_ns += span_ns
        if first_ns <= span_ns:
            for number in [number for number, size in left.items() if size <= rates[number] * 1e-3]:
                ends[number] = now_ns
                del left[number]
            continue
        now_ns = float(next_ns)
        while coming < len(flows) and flows[coming].begin_ns <= now_ns:
            left[coming] = flows[coming].size
            coming += 1
    return ends


def _rates(flows: Mapping[int, _Flow]) -> dict[int, float]:
    """Returns bytes per nanosecond of each message: all are raised alike, until a link or the message has no more."""
    rates, rising = dict.fromkeys(flows, 0.0), dict(flows)
    capacity = {link: rate for flow in flows.values() for link, rate in flow.links.items()}
    room = dict(capacity)
    while rising:
        users = Counter(link for flow in rising.values() for link in flow.links)
        rise = min(
            *(room[link] / count for link, count in users.items()),
            *(flow.cap - rates[number] for number, flow in rising.items()),
        )
        for number, flow in rising.items():
            rates[number] += rise
            for link in flow.links:
                room[link] -= rise
        full = {link for link in users if room[link] <= 1e-12 * capacity[link]}
        rising = {
            number: flow
            for number, flow in rising.items()
            if rates[number] < flow.cap * (1 - 1e-12) and not full & set(flow.links)
        }
    return rates


ALL = (_fair_transfers_end_when_they_should,)
