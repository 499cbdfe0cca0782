"""Holdings of the nodes of a simulated cluster: no news travels faster than its message."""

from simulator.cluster import Nanoseconds, seconds
from simulator.experiment import SimulationError
from simulator.host.nodes import region_of
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
        self._offered: dict[int, Nanoseconds] = {}  # of regions whose offer is on its way, when it was sent
        self._upper: dict[int, int] = {}  # of regions whose offer was met, the upper server's version

    def follow(self, event: Event) -> None:
        """Follows an event.

        Raises:
          NewsError: it uses a value that its node has not.
        """
        match event:
            case Dispatched(round=round):
                self._rounds[round.id] = round.worker
            case Lost(round=round):
                self._rounds.pop(round.id, None)
            case Update():
                for arrival in event.arrivals:
                    self._meet(event, arrival)
            case Answered():
                self._answers[event.to, event.round] = event.version, event.time_ns
            case Offered():
                self._offered[event.region] = event.time_ns
            case Accepted():
                self._accept(event)

    def _meet(self, event: Update, arrival: Arrival | RegionOffer) -> None:
        if arrival.arrival_ns > event.time_ns:
            raise _refusal(event, f"meets an offer that arrives at {seconds(arrival.arrival_ns):g} s")
        if isinstance(arrival, RegionOffer):
            if self._offered.pop(arrival.region, None) != arrival.sent_ns:
                raise _refusal(event, f"meets an offer that region {arrival.region} has not made")
            self._upper[arrival.region] = event.place_version
            return
        round = arrival.round
        if self._rounds.get(round.id) != round.worker:
            raise _refusal(event, f"meets an offer of round {round.id}, which worker {round.worker} has not made")
        if arrival.push_start_ns > arrival.arrival_ns:
            raise _refusal(event, f"meets the offer of round {round.id}, which arrived before it was sent")
        if event.node < 0:
            del self._rounds[round.id]  # it meets nowhere else

    def _accept(self, event: Accepted) -> None:
        if event.arrival_ns > event.time_ns or event.sent_ns > event.arrival_ns:
            raise _refusal(event, f"accepts an answer that arrives at {seconds(event.arrival_ns):g} s")
        if event.node < 0:
            if self._upper.pop(region_of(event.node), None) != event.version:
                raise _refusal(event, f"accepts version {event.version} of the upper server, which was not sent to it")
        elif event.round >= 0 and self._answers.pop((event.node, event.round), None) != (event.version, event.sent_ns):
            raise _refusal(event, f"accepts an answer to its round {event.round} that was not sent to it")


def _refusal(event: Update | Accepted, what: str) -> NewsError:
    return NewsError(
        f"at {seconds(event.time_ns):g} s node {event.node} {what}: no news travels faster than its message"
    )
