"""Holdings of the nodes of a simulated cluster: no news travels faster than its message."""

import math

from simulator.cluster import Nanoseconds, seconds
from simulator.experiment import SimulationError
from simulator.host.nodes import region_node, region_of
from simulator.timeline import Accepted, Answered, Arrival, Dispatched, Event, Lost, Offered, RegionOffer, Update


class NewsError(SimulationError):
    """An operation at a node that uses a value which was not made there and which no message has brought."""


class Holdings:
    """Values that messages have brought to the nodes, as the events of a timeline say.

    An event of a process of one's own is held to the same rule as the built-in ones.
    """

    def __init__(self) -> None:
        self._rounds: dict[int, int] = {}  # number of each round whose offer can still come, and its worker
        self._answers: dict[tuple[int, int], tuple[int, Nanoseconds]] = {}  # to node and round: version and time
        self._sent: dict[tuple[int, int, int], Nanoseconds] = {}  # offers on their way: from, to, round; when sent
        self._begun: set[int] = set()  # workers
        self._homes: dict[int, int] = {}  # servers of workers
        self._upper: dict[int, int] = {}  # of regions whose offer was met, the upper server's version

    def follow(self, event: Event) -> None:
        """Follows an event.

        Raises:
          NewsError: it uses a value that its node has not.
        """
        match event:
            case Dispatched(round=round):
                self._begin(event)
                self._rounds[round.id] = round.worker
            case Lost(round=round):
                self._rounds.pop(round.id, None)
            case Update():
                for arrival in event.arrivals:
                    self._meet(event, arrival)
            case Answered():
                self._answers[event.to, event.round] = event.version, event.time_ns
            case Offered():
                self._sent |= {(event.node, to, event.round): event.time_ns for to in event.to}
            case Accepted():
                self._accept(event)

    def _begin(self, event: Dispatched) -> None:
        worker, source = event.round.worker, event.source
        has_it = source in self._begun if source >= 0 else self._homes.setdefault(worker, source) == source
        if not has_it and (source != worker or event.start == "own"):
            raise _refusal(event, f"begins with parameters of node {source}, from which nothing can have come to it")
        self._begun.add(worker)

    def _meet(self, event: Update, arrival: Arrival | RegionOffer) -> None:
        if arrival.arrival_ns > event.time_ns:
            raise _refusal(event, f"meets an offer that arrives at {seconds(arrival.arrival_ns):g} s")
        if isinstance(arrival, RegionOffer):
            if self._sent.pop((region_node(arrival.region), event.node, -1), None) != arrival.sent_ns:
                raise _refusal(event, f"meets an offer that region {arrival.region} has not made")
            self._upper[arrival.region] = event.place_version
            return
        round = arrival.round
        if event.node >= 0 and event.node != round.worker:
            if self._sent.pop((round.worker, event.node, round.id), math.inf) > arrival.arrival_ns:
                raise _refusal(event, f"meets an offer of round {round.id} that was not sent to it")
        elif self._rounds.pop(round.id, None) != round.worker:
            raise _refusal(event, f"meets an offer of round {round.id}, which worker {round.worker} has not made")
        if arrival.push_start_ns > arrival.arrival_ns:
            raise _refusal(event, f"meets the offer of round {round.id}, which arrived before it was sent")

    def _accept(self, event: Accepted) -> None:
        if event.arrival_ns > event.time_ns or event.sent_ns > event.arrival_ns:
            raise _refusal(event, f"accepts an answer that arrives at {seconds(event.arrival_ns):g} s")
        if event.node < 0:
            if self._upper.pop(region_of(event.node), None) != event.version:
                raise _refusal(event, f"accepts version {event.version} of the upper server, which was not sent to it")
        elif event.round >= 0 and self._answers.pop((event.node, event.round), None) != (event.version, event.sent_ns):
            raise _refusal(event, f"accepts an answer to its round {event.round} that was not sent to it")


def _refusal(event: Dispatched | Update | Accepted, what: str) -> NewsError:
    node = event.round.worker if isinstance(event, Dispatched) else event.node
    return NewsError(f"at {seconds(event.time_ns):g} s node {node} {what}: no news travels faster than its message")
