"""Conflicts of all-reduces and of layers, each with its key."""

from typing import Any

import pytest
from experiment_files import mistakes, tree

ALL_REDUCE = {"topology": {"kind": "all_reduce"}, "synchronization": {"kind": "barrier"}}
SCHEDULE = {"layers": 4, "fragments": 4}


def keys(**changes: Any) -> list[str]:
    outer = {"optimizer": "nesterov", "learning_rate": 0.7, "momentum": 0.9, "weight": 1.0}
    model = {"kind": "transformer", "layers": 4, "width": 16, "heads": 2, "context": 8}
    base: dict[str, Any] = {"outer": outer, "model": model} | ALL_REDUCE
    return [key for key, _ in mistakes(tree(**(base | changes)))]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"synchronization": {"kind": "asynchronous"}}, "synchronization.kind"),
        ({"synchronization": {"kind": "barrier", "sample": 1}}, "synchronization.sample"),
        (
            {"synchronization": {"kind": "barrier", "timeout": "9s"}, "schedule": {"overlap": 1}},
            "synchronization.timeout",
        ),
        (
            {
                "synchronization": {"kind": "quorum", "window": "1s", "adaptive": {}},
                "schedule": {"overlap": 1},
            },
            "synchronization.adaptive",
        ),
        ({"topology": {"kind": "all_reduce", "algorithm": "hierarchical"}}, "topology.groups"),
        ({"topology": {"kind": "all_reduce", "groups": 2}}, "topology.groups"),
        ({"topology": {"kind": "all_reduce", "latency": "1s"}}, "topology.latency"),
        ({"topology": {"kind": "all_reduce", "algorithm": "hierarchical", "groups": [[0], [0]]}}, "topology.groups"),
        ({"topology": {"kind": "all_reduce", "algorithm": "hierarchical", "groups": 99}}, "topology.groups"),
        ({"cluster__server_update_time": "1s"}, "cluster.server_update_time"),
        ({"cluster__server_price_per_hour": 1.0}, "cluster.server_price_per_hour"),
        ({"cluster__network": {"server_link": {"bandwidth": "1Gbit/s"}}}, "cluster.network.server_link"),
        ({"evaluate": {"takes": "1s"}}, "evaluate.takes"),
        ({"cluster__faults": {"message_loss": {"probability": 0.1, "timeout": "1s"}}}, "cluster.faults.message_loss"),
        ({"cluster__faults": {"link_outages": {"time_between": "9s", "duration": "1s"}}}, "cluster.faults"),
        ({"cluster__faults": {"trace": [[0, 1, "disconnect"]]}}, "cluster.faults"),
        ({"cluster__faults": {"server_outages": {"time_between": "9s", "duration": "1s"}}}, "cluster.faults"),
        ({"schedule": {"layers": 4}}, "schedule.layers"),
        ({"schedule": {"layers": 3, "fragments": 3}}, "schedule.layers"),
        ({"schedule": {"layers": 4, "fragments": 5}}, "schedule.fragments"),
        ({"schedule": SCHEDULE | {"composition": "by_size"}}, "schedule.composition"),
        ({"schedule": {"fragments": 2, "phases": 1}}, "schedule.phases"),
        ({"schedule": SCHEDULE | {"phases": 5}}, "schedule.phases"),
        ({"schedule": SCHEDULE | {"phases": 2, "offsets": [0, 0, 1, 1]}}, "schedule.phases"),
        ({"schedule": SCHEDULE | {"offsets": [1, 1, 2, 2]}}, "schedule.offsets"),
        ({"schedule": SCHEDULE | {"seconds": "9s"}}, "schedule.fragments"),
        ({"schedule": SCHEDULE, "cluster__faults": {"departures": {"after": "1h"}}}, "cluster.faults"),
        ({"schedule": SCHEDULE, "inner__pull": {}}, "inner.pull"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], key: str):
    assert key in keys(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"topology": {"kind": "all_reduce", "algorithm": "hierarchical", "groups": 2, "latency": "1s"}},
        {"synchronization": {"kind": "quorum", "offers": 2}},
        {"synchronization": {"kind": "barrier", "timeout": "9s"}},
        {"cluster__faults": {"crashes": {"time_between": "1h", "repair": "1min"}}},
        {"schedule": SCHEDULE | {"phases": 1}, "inner__local_steps": 1},
        {"schedule": SCHEDULE | {"offsets": [1, 0, 1, 0]}},
        {"schedule": SCHEDULE | {"phases": 2, "overlap": 1, "composition": "sequential"}},
    ],
)
def test_what_makes_sense_is_not(changes: dict[str, Any]):
    assert keys(**changes) == []
