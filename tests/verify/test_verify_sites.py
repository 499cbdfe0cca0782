"""Records of clusters with sites: every rule holds of them, and what was forged is found."""

import dataclasses
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator import Cache, simulate
from simulator.experiment import SimulationError
from simulator.experiment.file import merge
from simulator.record import RunRecord
from simulator.verify import verify
from tests.experiments import tiny
from tests.faulty import faults
from tests.killed_runs import CLASSIFIER

CACHE = Cache()
BARRIER = {"kind": "barrier"}
SGD = {"optimizer": "sgd", "learning_rate": 1.0}
PEERS = {"synchronization": BARRIER, "topology": {"kind": "groups"}, "outer": SGD}
TOPOLOGIES: dict[str, dict[str, Any]] = {
    "server": {"synchronization": BARRIER, "outer": {"weight": 1.0, **SGD}},
    "grace": {"synchronization": {"kind": "asynchronous", "grace": "1s"}},
    "overlap": {
        "synchronization": BARRIER,
        "outer": {"weight": 1.0, **SGD},
        "schedule": {"fragments": 2, "overlap": 2},
    },
    "quorum": {
        "synchronization": {"kind": "quorum", "offers": 2, "window": "1s"},
        "outer": {"weight": 1.0, **SGD},
        "schedule": {"overlap": 2},
    },
    "regions": {
        "synchronization": {"kind": "asynchronous", "grace": "0.5s"},
        "topology": {"kind": "regions", "regions": "sites", "every_versions": 2, "outer": SGD},
    },
    "groups": PEERS,
    "ring": PEERS | {"topology": {"kind": "graph", "edges": "ring"}},
}
SITES = {"a": {"bandwidth": "20kB/s"}, "b": {"latency": "100ms"}, "c": {}}


def network(uplink: str = "2kB/s", **changes: Any) -> dict[str, Any]:
    sites = {name: site | ({"uplink": {"bandwidth": uplink}} if uplink else {}) for name, site in SITES.items()}
    pairs = [{"sites": ["b", "c"], "latency": "1s", "price_per_gigabyte": 7.0}]
    between = {"latency": "200ms", "bandwidth": "3kB/s", "price_per_gigabyte": 2.0, "pairs": pairs}
    return {"bandwidth": "50kB/s", "price_per_gigabyte": 0.5, "sites": sites, "between": between} | changes


def record_of(kind: str, places: list[str], of: dict[str, Any], **changes: Any) -> RunRecord:
    devices = {"seconds_per_step": [0.5, 0.75, 0.5, 1.0, 0.5][: len(places)], "sites": places, "price_per_hour": 1.0}
    settings = TOPOLOGIES[kind] | {
        "cluster": {"devices": devices, "network": of, **changes},
        "inner": {"local_steps": 4},
        "budget": {"local_steps": 40 * len(places)},
    }
    return simulate(tiny(**merge(CLASSIFIER, settings)), trainer="null", cache=CACHE)


@pytest.mark.parametrize("sharing", ["queue", "fair"])
@pytest.mark.parametrize("kind", TOPOLOGIES)
def test_every_rule_holds_of_every_topology(kind: str, sharing: str):
    record = record_of(kind, ["a", "b", "c", "b", "a"], network(sharing=sharing))
    assert verify(record) == []
    assert len(record.transfers)


@pytest.mark.parametrize("sharing", ["queue", "fair"])
def test_a_faster_uplink_than_there_is_is_found(sharing: str):
    record = record_of("server", ["a", "b", "b", "b", "b"], network(sharing=sharing))
    assert verify(record) == []
    slower = merge(record.experiment, {"cluster": {"network": {"sites": {"b": {"uplink": {"bandwidth": "1.9kB/s"}}}}}})
    found = {violation.message for violation in verify(dataclasses.replace(record, experiment=slower))}
    assert any("uplink b" in message for message in found), found


def test_transfers_that_do_not_end_when_fair_rates_have_them_end_are_found():
    places = ["a", "b", "b", "b", "b"]
    record, queued = (record_of("server", places, network(sharing=sharing)) for sharing in ("fair", "queue"))
    found = verify(dataclasses.replace(queued, experiment=record.experiment))
    assert any("over links that are shared fairly it ended at" in violation.message for violation in found)
    transfers = record.transfers.copy()
    transfers.loc[transfers.index[transfers["sender"] == 1][1], "end_s"] += 1e-7  # less than a link would show
    found = verify(dataclasses.replace(record, transfers=transfers))
    assert any("over links that are shared fairly it ended at" in violation.message for violation in found)


@pytest.mark.parametrize(("sharing", "ends_s"), [("queue", [10.2, 20.2, 30.2, 40.2]), ("fair", [40.2] * 4)])
def test_copies_that_leave_a_site_together(sharing: str, ends_s: list[float]):
    # 20 kB over the uplinks of a and of b, 2 kB/s each, and 200 ms; the first copies of b's workers are sent at once.
    record = record_of("server", ["a", "b", "b", "b", "b"], network(sharing=sharing, message_size="20kB"))
    sent = record.transfers
    first = sent[(sent["receiver"] > 0) & (sent["begin_s"] == 0)]
    assert sorted(first["end_s"].tolist()) == pytest.approx(ends_s)


@st.composite
def changes_of(draw: st.DrawFn) -> tuple[str, list[str], dict[str, Any], dict[str, Any]]:
    kind = draw(st.sampled_from(sorted(TOPOLOGIES)))
    places = draw(st.lists(st.sampled_from("abc"), min_size=2, max_size=5))
    of = network(draw(st.sampled_from(["", "2kB/s", "30kB/s"])), sharing=draw(st.sampled_from(["queue", "fair"])))
    has_server = kind not in ("groups", "ring")
    if has_server:
        of["server_site"] = draw(st.sampled_from("abc"))
    if has_server and kind != "regions" and draw(st.booleans()):
        of["server_link"] = {"bandwidth": draw(st.sampled_from(["2kB/s", "100kB/s"]))}
    wrong = draw(st.none() | faults(len(places)))
    if wrong and not has_server:
        wrong = {name: value for name, value in wrong.items() if name not in ("server_outages", "message_loss")}
        wrong["trace"] = [row for row in wrong.get("trace", ()) if row[0] != "server"]
    return kind, places, of, {"faults": wrong}


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(changes_of())
def test_every_rule_holds_of_every_world(drawn: tuple[str, list[str], dict[str, Any], dict[str, Any]]):
    kind, places, of, wrong = drawn
    try:
        record = record_of(kind, places, of, **wrong)
    except SimulationError:  # nobody makes progress any more
        assert wrong["faults"] is not None
        return
    assert verify(record) == []
