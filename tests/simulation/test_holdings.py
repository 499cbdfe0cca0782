"""No news travels faster than its message, whoever makes the events."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from simulator.experiment import SimulationError
from simulator.simulation.holdings import Holdings, NewsError
from simulator.timeline import Accepted, Answered, Dispatched, Event, Offered, Update
from tests.simulation.quadratic_cluster import SGD, experiment, timeline_for
from tests.simulation.quadratic_cluster import QuadraticSetup as Setup
from tests.timeline.exchange_worlds import World, worlds

OVERLAP = {"schedule": {"overlap": 2}, "cluster": {"network": {"latency": "1s"}}}
PEERS = {"topology": {"kind": "graph", "edges": "ring"}}
REGIONS = {
    "synchronization": {"kind": "asynchronous"},
    "topology": {"kind": "regions", "regions": 2, "every_versions": 1, "latency": "1s", "outer": SGD},
}


def history(changes: dict[str, Any]) -> list[Event]:
    return list(timeline_for(Setup(experiment([1.0, 1.3], changes))))


def follow(events: list[Event]) -> None:
    holdings = Holdings()
    for event in events:
        holdings.follow(event)


def forged(events: list[Event], kind: type, change: Any, place: int = 1) -> list[Event]:
    """Events of which one is another: the `place`-th of its kind."""
    found = [number for number, event in enumerate(events) if isinstance(event, kind)]
    number = found[place]
    return [*events[:number], change(events[number]), *events[number + 1 :]]


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(worlds())
def test_no_built_in_process_uses_what_it_has_not(world: World):
    holdings = Holdings()
    try:
        for event in world.timeline():
            holdings.follow(event)
    except NewsError:
        raise
    except SimulationError:
        pass  # a cluster in which nobody can make progress


def early(event: Any) -> Any:
    arrival = event.arrivals[0]
    return event._replace(arrivals=(arrival._replace(arrival_ns=event.time_ns + 1), *event.arrivals[1:]))


def strange(event: Any) -> Any:
    arrival = event.arrivals[0]
    other = arrival.round._replace(id=999)
    return event._replace(arrivals=(arrival._replace(round=other), *event.arrivals[1:]))


@pytest.mark.parametrize(
    ("changes", "kind", "change", "message"),
    [
        (OVERLAP, Update, early, "node -1 meets an offer that arrives at"),
        (OVERLAP, Update, strange, "meets an offer of round 999, which worker 0 has not made"),
        (
            OVERLAP,
            Accepted,
            lambda event: event._replace(arrival_ns=event.time_ns + 1),
            "accepts an answer that arrives",
        ),
        (OVERLAP, Accepted, lambda event: event._replace(version=event.version + 1), "that was not sent to it"),
        (OVERLAP, Accepted, lambda event: event._replace(round=event.round + 2), "that was not sent to it"),
        (OVERLAP, Answered, lambda event: event._replace(to=1 - event.to), "that was not sent to it"),
        (REGIONS, Accepted, lambda event: event._replace(version=event.version + 1), "version"),
        (REGIONS, Dispatched, lambda event: event._replace(source=-2), "begins with parameters of node -3"),
        ({}, Dispatched, lambda event: event._replace(source=7), "begins with parameters of node 7"),
        (
            {},
            Dispatched,
            lambda event: event._replace(start="own", source=1),
            "node 1 begins with parameters of node 1",
        ),
        (PEERS, Offered, lambda event: event._replace(to=()), "that was not sent to it"),
        (PEERS, Update, lambda event: event._replace(arrivals=2 * event.arrivals), "which worker 0 has not made"),
    ],
)
def test_a_value_that_was_not_received_is_refused(changes: dict[str, Any], kind: type, change: Any, message: str):
    events = history(changes)
    follow(events)
    with pytest.raises(NewsError, match="no news travels faster than its message") as found:
        follow(forged(events, kind, change))
    assert message in str(found.value)


def test_an_offer_that_met_at_a_server_meets_nowhere_else():
    events = history({})
    updates = [event for event in events if isinstance(event, Update)]
    with pytest.raises(NewsError, match="which worker 0 has not made"):
        follow([*events, updates[0]])
