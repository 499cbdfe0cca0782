"""Records of every kind of exchange: every rule holds of them, and what was forged is found by table, row and rule."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator import Cache, simulate
from simulator.experiment import SimulationError, registry
from simulator.experiment.file import merge
from simulator.record import RunRecord
from simulator.verify import verify
from tests.experiments import tiny
from tests.faulty import faults
from tests.killed_runs import CLASSIFIER, FAULTS
from tests.verify.test_verify import clusters

CACHE = Cache()
ASYNCHRONOUS = {"synchronization": {"kind": "asynchronous"}}
BASE = {
    "synchronization": {"kind": "barrier"},
    "outer": {"weight": 1.0, "optimizer": "nesterov", "learning_rate": 0.4, "momentum": 0.9},
    "inner": {"local_steps": 6},
    "cluster": {"network": {"bandwidth": "1kB/s", "latency": "100ms"}},
}
STREAMING = {
    "schedule": {"fragments": 3, "overlap": 1, "composition": "by_size"},
    "merge": {"kind": "lerp", "mix": 0.5},
    "compression": {"kind": "fp4"},
}
REGIONS = {"kind": "regions", "regions": 2, "every_versions": 2, "mix": 0.25, "latency": "1s"}
HALOS = ASYNCHRONOUS | {"topology": REGIONS | {"outer": {"optimizer": "sgd", "learning_rate": 1.0}}}
TOWARDS_OTHERS = {"offer": {"weights": True}, "outer": {"optimizer": "noloco", "learning_rate": 0.7, "momentum": 0.5}}
NOLOCO = TOWARDS_OTHERS | {"topology": {"kind": "groups"}}
RING = TOWARDS_OTHERS | {"topology": {"kind": "graph", "edges": "ring"}}
QUORUM = {
    "synchronization": {"kind": "quorum", "offers": 2, "window": "1s"},
    "schedule": {"fragments": 2, "overlap": 2, "composition": "by_size"},
}
ADAPTIVE = merge(QUORUM, {"synchronization": {"offers": 1, "window": "5s", "adaptive": {"share": 0.5}}})
ALL_REDUCE: dict[str, Any] = {"topology": {"kind": "all_reduce"}}
OF_COLLECTIVES = {key: value for key, value in FAULTS.items() if key not in ("message_loss", "link_outages")}
OF_PEERS = {key: value for key, value in FAULTS.items() if key != "message_loss"}

METHODS: Mapping[str, Mapping[str, Any]] = {
    "overlap": {"schedule": {"overlap": 2}},
    "overlap of a round": {"schedule": {"overlap": 6}},
    "streaming": STREAMING,
    "eager": {"schedule": {"overlap": 6}, "merge": {"kind": "eager", "share": "1/workers"}},
    "halos": HALOS,
    "halos, overlap": merge(HALOS, {"schedule": {"overlap": 2}}),
    "noloco": NOLOCO,
    "ring": RING,
    "nobody": {"topology": {"kind": "nobody"}},
    "quorum": QUORUM,
    "adaptive": ADAPTIVE,
    "seconds": {"schedule": {"seconds": "6s"}},
    "sampled": {"synchronization": {"kind": "barrier", "sample": 2}},
    "sampled, halos": merge(HALOS, {"synchronization": {"kind": "barrier", "sample": 1}}),
    "compressed": {"compression": {"kind": "top_k", "width": 2, "feedback": 0.95}},
    "bins": {"compression": {"kind": "statistical", "width": 4, "rows": True, "feedback": 0.95}},
    "all-reduce": ALL_REDUCE,
    "all-reduce, streaming": merge(STREAMING, ALL_REDUCE),
    "all-reduce, groups": {"topology": {"kind": "all_reduce", "algorithm": "hierarchical", "groups": 2}},
    "all-reduce, eager": merge(ALL_REDUCE, {"schedule": {"overlap": 6}, "merge": {"kind": "eager", "share": 0.25}}),
    "all-reduce, quorum": {"synchronization": {"kind": "quorum", "offers": 2}, "topology": {"kind": "all_reduce"}},
    "all-reduce, crashes": merge(ALL_REDUCE, {"cluster": {"faults": OF_COLLECTIVES}}),
    "all-reduce, late": {
        "synchronization": {"kind": "barrier", "timeout": "14s"},
        "topology": {"kind": "all_reduce", "algorithm": "tree"},
        "cluster": {"faults": OF_COLLECTIVES},
    },
    "layers": merge(ALL_REDUCE, {"schedule": {"layers": 4, "fragments": 4, "phases": 1}}),
    "layers, phases": merge(ALL_REDUCE, {"schedule": {"layers": 4, "fragments": 4, "phases": 2, "overlap": 1}}),
    "layers, server": {"schedule": {"layers": 4, "fragments": 2, "composition": "sequential", "overlap": 2}},
    "all-reduce, streaming, crashes": merge(STREAMING, merge(ALL_REDUCE, {"cluster": {"faults": OF_COLLECTIVES}})),
    "streaming, faults": merge(STREAMING, {"cluster": {"faults": FAULTS}}),
    "quorum, faults": merge(QUORUM, {"cluster": {"faults": FAULTS}}),
    "adaptive, faults": merge(ADAPTIVE, {"cluster": {"faults": FAULTS}}),
    "halos, faults": merge(HALOS, {"cluster": {"faults": FAULTS}}),
    "sampled, faults": {
        "synchronization": {"kind": "barrier", "sample": 2, "timeout": "20s"},
        "cluster": {"faults": FAULTS},
    },
    "noloco, faults": merge(NOLOCO, {"cluster": {"faults": OF_PEERS}}),
    "seconds, faults": {"schedule": {"seconds": "6s"}, "cluster": {"faults": FAULTS}},
}


@functools.cache
def record_of(method: str) -> RunRecord:
    changes = merge(merge(CLASSIFIER, BASE), METHODS[method])
    return simulate(tiny(**changes), trainer="null", cache=CACHE)


@pytest.mark.parametrize(
    ("method", "nodes", "fragments", "goes_on", "uses_answers"),
    [
        ("overlap", {-1}, 1, 1, True),
        ("overlap of a round", {-1}, 1, 1, True),
        ("streaming", {-1}, 3, 1, True),
        ("eager", {-1}, 1, 1, True),
        ("halos", {-1, -2, -3}, 1, 0, False),
        ("halos, overlap", {-1, -2, -3}, 1, 1, True),
        ("noloco", {0, 1, 2, 3}, 1, 0, False),
        ("ring", {0, 1, 2, 3}, 1, 0, False),
        ("nobody", {0, 1, 2, 3}, 1, 0, False),
        ("quorum", {-1}, 2, 1, True),
        ("adaptive", {-1}, 2, 1, True),
        ("all-reduce", {-1}, 1, 0, False),
        ("all-reduce, streaming", {-1}, 3, 1, True),
        ("all-reduce, groups", {-1}, 1, 0, False),
        ("all-reduce, eager", {-1}, 1, 1, True),
        ("all-reduce, quorum", {-1}, 1, 0, False),
        ("layers", {-1}, 4, 1, True),
        ("layers, phases", {-1}, 4, 1, True),
        ("layers, server", {-1}, 2, 1, True),
        ("seconds", {-1}, 1, 1, True),
        ("sampled", {-1}, 1, 0, False),
        ("sampled, halos", {-1, -2, -3}, 1, 0, False),
        ("compressed", {-1}, 1, 0, False),
        ("bins", {-1}, 1, 0, False),
    ],
)
def test_every_rule_holds_of_every_method(
    method: str, nodes: set[int], fragments: int, goes_on: int, uses_answers: bool
):
    record = record_of(method)
    assert verify(record) == []
    assert set(record.updates["node"]) == nodes
    assert set(record.rounds["fragment"]) == set(range(fragments))
    assert set(record.rounds["goes_on"]) == {goes_on}
    assert bool(len(answers(record))) == uses_answers


@pytest.mark.parametrize("method", [name for name in METHODS if name.endswith("faults")])
def test_every_rule_holds_when_things_go_wrong(method: str):
    record = record_of(method)
    assert {"lost", "cut", "return", "slow", "disconnect"} <= set(record.faults["fault"])
    assert (record.transfers["messages"] > 1).any() == (method != "noloco, faults")
    assert verify(record) == []


@pytest.mark.parametrize("method", [name for name in METHODS if name.endswith(("crashes", "late"))])
def test_every_rule_holds_of_collectives_when_workers_go_away(method: str):
    record = record_of(method)
    assert {"lost", "return", "slow"} <= set(record.faults["fault"])
    assert ((record.transfers["sender"] < 0) & (record.transfers["bytes"] > 0)).any()  # copies of those that come back
    assert ("dropped" in set(record.rounds["outcome"])) == (method != "all-reduce, crashes")
    assert verify(record) == []


def test_every_rule_holds_of_what_was_trained():
    record = simulate(tiny(**merge(merge(CLASSIFIER, BASE), STREAMING)), cache=CACHE)
    assert verify(record) == []
    assert record.summary["causal_hash"] == record_of("streaming").summary["causal_hash"]


# Forgeries.


def answers(record: RunRecord) -> "pd.Index[int]":
    """Rows of what a server sends to a worker behind the offer of the same round."""
    rows = record.transfers
    return rows.index[(rows["sender"] < 0) & (rows["receiver"] >= 0) & rows["round"].duplicated()]


def changed(record: RunRecord, table: str, row: int, **changes: float) -> RunRecord:
    """Returns the record with other numbers in a row."""
    frame = getattr(record, table).copy()
    for column, change in changes.items():
        frame.loc[row, column] += type(frame[column].iloc[0].item())(change)
    return dataclasses.replace(record, **{table: frame})


def of(table: str, **values: Any) -> Callable[[RunRecord], int]:
    """Returns a function from a record to the third row that has some values in its table."""

    def found(record: RunRecord) -> int:
        rows = getattr(record, table)
        for name, value in values.items():
            rows = rows[rows[name] == value]
        return int(rows.index[2])

    return found


def answer(record: RunRecord) -> int:
    return int(answers(record)[5])


@pytest.mark.parametrize(
    ("method", "table", "row_of", "changes", "rule"),
    [
        ("overlap", "transfers", answer, {"end_s": 3}, "news"),
        ("overlap", "transfers", answer, {"begin_s": -0.5}, "news"),
        ("overlap", "transfers", answer, {"version": 1}, "news"),
        ("overlap", "transfers", answer, {"fragment": 1}, "news"),
        ("overlap", "transfers", answer, {"round": 1000}, "news"),
        ("overlap", "transfers", of("transfers", sender=3), {"begin_s": -0.5}, "news"),
        ("overlap", "transfers", of("transfers", sender=3), {"end_s": -0.5}, "news"),
        ("overlap", "transfers", of("transfers", sender=3), {"version": 1}, "staleness"),
        ("all-reduce", "transfers", of("transfers", sender=3), {"begin_s": -0.5}, "durations"),
        ("all-reduce", "transfers", of("transfers", sender=3), {"begin_s": 0.5, "end_s": 0.5}, "news"),
        ("all-reduce", "transfers", of("transfers", sender=3), {"bytes": 1}, "bytes"),
        ("all-reduce", "rounds", of("rounds", worker=3), {"bytes_up": 1}, "bytes"),
        ("all-reduce", "rounds", of("rounds", worker=3), {"bytes_down": 1}, "bytes"),
        ("all-reduce", "rounds", of("rounds", worker=3), {"pull_start_s": 0.1}, "collectives"),
        ("all-reduce, streaming", "transfers", answer, {"begin_s": -0.5}, "collectives"),
        ("layers", "transfers", answer, {"used_s": 0.2}, "overlap"),
        ("layers", "rounds", of("rounds", worker=1), {"push_start_s": 0.1}, "durations"),
        ("layers, phases", "rounds", of("rounds", worker=1), {"blocked_s": 0.1}, "durations"),
        ("layers, phases", "rounds", of("rounds", worker=1), {"local_steps": 1}, "steps"),
        ("halos", "transfers", of("transfers", receiver=3), {"version": 1}, "versions"),
        ("halos", "transfers", of("transfers", sender=-2), {"begin_s": -0.5}, "news"),
        ("halos", "transfers", of("transfers", sender=-2), {"version": -1}, "staleness"),
        ("halos", "transfers", of("transfers", receiver=-2), {"version": 1}, "news"),
        ("halos", "transfers", of("transfers", receiver=-2), {"end_s": -0.5}, "durations"),
        ("halos", "transfers", of("transfers", receiver=-2), {"round": 1}, "news"),
        ("halos", "updates", of("updates", node=-1), {"round": 1}, "tables"),
        ("ring", "transfers", of("transfers", sender=3), {"end_s": -0.1}, "durations"),
        ("overlap", "transfers", answer, {"end_s": -0.05}, "durations"),
        ("streaming", "transfers", answer, {"bytes": 1}, "bytes"),
        ("streaming", "transfers", of("transfers", sender=2), {"bytes": -1}, "bytes"),
        ("streaming", "transfers", of("transfers", sender=2), {"messages": 1}, "bytes"),
        ("halos", "transfers", of("transfers", sender=-3), {"bytes": 1}, "bytes"),
        ("ring", "rounds", of("rounds", worker=2), {"bytes_up": 1}, "bytes"),
        ("streaming", "transfers", answer, {"used_s": 0.2}, "overlap"),
        ("overlap of a round", "transfers", answer, {"used_s": 0.2}, "overlap"),
        ("overlap", "transfers", answer, {"used_s": 50}, "overlap"),
        ("streaming", "rounds", of("rounds", worker=1), {"fragment": -1}, "overlap"),
        ("seconds", "rounds", of("rounds", worker=1), {"compute_start_s": 0.1}, "overlap"),
        ("seconds", "rounds", of("rounds", worker=1), {"local_steps": 1}, "steps"),
        ("streaming", "rounds", of("rounds", worker=1), {"local_steps": 1}, "steps"),
        ("overlap", "rounds", of("rounds", worker=1), {"blocked_s": 0.1}, "durations"),
        ("overlap", "rounds", of("rounds", worker=1), {"ready_s": -0.1}, "workers"),
        ("overlap", "rounds", of("rounds", worker=1), {"pulled_version": 1}, "versions"),
        ("streaming", "updates", of("updates", fragment=1, sender=2), {"version": 1}, "versions"),
        ("halos", "updates", of("updates", node=-1), {"version": -1}, "versions"),
        ("noloco", "updates", of("updates", node=1), {"version": 1}, "versions"),
        ("streaming", "updates", of("updates", sender=2), {"staleness": 1}, "staleness"),
        ("overlap of a round", "updates", of("updates", sender=2), {"staleness": -1}, "staleness"),
        ("halos", "updates", of("updates", node=-1), {"staleness": 1}, "staleness"),
        ("ring", "updates", of("updates", node=1, sender=2), {"staleness": 1}, "staleness"),
        ("streaming", "rounds", of("rounds", worker=2), {"staleness": 1}, "staleness"),
        ("overlap", "updates", of("updates", sender=2), {"update_s": 0.5}, "meetings"),
        ("overlap", "updates", of("updates", sender=2), {"meeting": 9}, "meetings"),
        ("overlap", "updates", of("updates", sender=2), {"sender": 5}, "meetings"),
        ("overlap", "rounds", of("rounds", worker=2), {"update_s": 0.5}, "tables"),
        ("overlap", "rounds", of("rounds", worker=2), {"goes_on": -1}, "tables"),
        ("overlap", "evaluations", lambda record: 2, {"bytes_sent": 1}, "bytes_sent"),
        ("halos", "evaluations", lambda record: 2, {"server_updates": 20}, "server_updates"),
    ],
)
def test_a_number_that_was_changed_is_found(
    method: str, table: str, row_of: Callable[[RunRecord], int], changes: dict[str, float], rule: str
):
    record = record_of(method)
    row = row_of(record)
    found = verify(changed(record, table, row, **changes))
    assert (table, row, rule) in {(each.table, each.row, each.rule) for each in found}


def without(record: RunRecord, table: str, row: int) -> RunRecord:
    """Returns the record without a row."""
    return dataclasses.replace(record, **{table: getattr(record, table).drop(index=row).reset_index(drop=True)})


def twice(record: RunRecord, table: str, row: int) -> RunRecord:
    """Returns the record with a row that is there again."""
    frame = getattr(record, table)
    parts = [frame.iloc[: row + 1], frame.iloc[row : row + 1], frame.iloc[row + 1 :]]
    return dataclasses.replace(record, **{table: pd.concat(parts, ignore_index=True)})


@pytest.mark.parametrize("method", ["overlap", "streaming", "compressed", "ring", "noloco"])
def test_an_offer_that_is_twice_in_a_meeting_is_found(method: str):
    found = verify(twice(record_of(method), "updates", 9))
    messages = {each.message for each in found if (each.table, each.row, each.rule) == ("updates", 10, "meetings")}
    assert "this offer was at this place before" in messages
    assert "its sender has another offer in this meeting" in messages


@pytest.mark.parametrize(("method", "size"), [("overlap", 4), ("streaming", 4), ("compressed", 4), ("noloco", 2)])
def test_a_barrier_that_lacks_a_member_is_found(method: str, size: int):
    record = record_of(method)
    row = 2 * size + 1  # the second of its meeting
    worker = record.updates["sender"][row]
    found = {(each.table, each.row, each.message) for each in verify(without(record, "updates", row))}
    assert ("updates", row - 1, f"it lacks the offer of worker {worker}") in found


def exchanged(record: RunRecord, one: int, other: int) -> RunRecord:
    """Returns the record with the rounds of two workers as each other's, everywhere."""
    names = {one: other, other: one}
    columns = {"rounds": ["worker"], "updates": ["sender"], "transfers": ["sender", "receiver"]}
    tables = {
        table: getattr(record, table).assign(**{name: getattr(record, table)[name].replace(names) for name in own})
        for table, own in columns.items()
    }
    return dataclasses.replace(record, **tables)


def test_a_member_that_was_not_drawn_is_found():
    """Workers are alike: without the draw it could as well have been the other one."""
    alike = {"cluster": {"devices": {"seconds_per_step": [1.0] * 4}}}
    plain = simulate(tiny(**merge(merge(CLASSIFIER, BASE), alike)), trainer="null", cache=CACHE)
    assert verify(exchanged(plain, 0, 3)) == []
    changes = merge(merge(BASE, METHODS["sampled"]), alike)
    record = simulate(tiny(**merge(CLASSIFIER, changes)), trainer="null", cache=CACHE)
    assert verify(record) == []
    found = verify(exchanged(record, 0, 3))
    assert {each.rule for each in found} == {"meetings"}
    assert ("updates", 1, "0 is no member of it") in {(each.table, each.row, each.message) for each in found}


def test_a_meeting_of_more_than_are_drawn_is_found():
    record = record_of("sampled, faults")
    updates = record.updates
    first = updates.index[updates["meeting"].duplicated()][0]
    joined = changed(record, "updates", int(first) + 1, meeting=-1)
    found = {(each.table, each.row, each.message) for each in verify(joined)}
    assert ("updates", int(first) - 1, "it has 3 offers, and 2 workers were drawn") in found


def test_a_quorum_that_is_not_reached_is_found():
    changes = {"synchronization": {"kind": "quorum", "offers": 3, "window": "1s"}}
    record = simulate(tiny(**merge(merge(CLASSIFIER, BASE), changes)), trainer="null", cache=CACHE)
    assert verify(record) == []
    found = {(each.row, each.message) for each in verify(without(without(record, "updates", 1), "updates", 1))}
    assert (0, "it has 1 offers, fewer than its quorum") in found


def test_a_message_that_is_not_there_is_found():
    record = record_of("overlap")
    sent = of("transfers", sender=3)(record)
    offer = record.updates.index[record.updates["round"] == record.transfers["round"][sent]][0]
    found = {(each.table, each.row, each.message) for each in verify(without(record, "transfers", sent))}
    assert ("updates", offer, "no message has brought this offer") in found
    row = record.rounds.index[record.rounds["worker"] == 3][0]
    copy = record.transfers.index[(record.transfers["round"] == record.rounds["round"][row])][0]
    found = {(each.table, each.row, each.message) for each in verify(without(record, "transfers", copy))}
    assert ("rounds", row, "no message has brought the copy that it begins with") in found


def test_an_answer_that_was_never_accepted_is_found():
    record = record_of("overlap")
    row = answer(record)
    number = record.transfers["round"][row]
    offer = record.rounds.index[record.rounds["round"] == number][0]
    [due] = [each for each in verify(without(record, "transfers", row)) if each.row == offer]
    assert (due.table, due.rule) == ("rounds", "overlap")
    assert due.message.startswith("its answer was due after 2 steps of round ")


def test_a_round_without_its_update_and_an_update_without_its_round_are_found():
    record = record_of("streaming")
    found = {(each.table, each.row, each.message) for each in verify(without(record, "updates", 5))}
    assert ("rounds", 5, "is in no update") in found
    found = {(each.table, each.row, each.message) for each in verify(without(record, "rounds", 5))}
    assert ("updates", 5, "is of no round that arrived") in found


def test_losses_of_answers_are_those_of_their_stream():
    record = record_of("streaming, faults")
    sent = record.transfers
    row = sent.index[(sent["sender"] == -1) & (sent["fragment"] >= 0) & (sent["messages"] == 1)][3]
    size = sent["bytes"][row]
    found = verify(changed(record, "transfers", row, messages=1, bytes=size))
    assert ("transfers", "durations") in {(each.table, each.rule) for each in found}


@pytest.mark.parametrize(
    ("method", "shares"),
    [
        ("compressed", {"offers": [0.125], "answers": [0.9]}),
        ("compressed", {"offers": [0.5], "answers": [1.0]}),
        ("bins", {"offers": [4 / 32 - 0.001], "answers": [1.0]}),
    ],
)
def test_shares_of_messages_are_those_of_the_method(method: str, shares: dict[str, Any]):
    record = record_of(method)
    wrong = dataclasses.replace(record, summary=record.summary | {"message_shares": shares})
    assert "message_shares" in {each.rule for each in verify(wrong)}


def test_a_record_without_shares_is_of_whole_models():
    plain = simulate(tiny(**merge(CLASSIFIER, BASE)), trainer="null", cache=CACHE)
    for record, right in ((plain, True), (record_of("compressed"), False)):
        summary = {name: value for name, value in record.summary.items() if name != "message_shares"}
        assert (verify(dataclasses.replace(record, summary=summary)) == []) == right


# Random worlds.


@st.composite
def exchanging(draw: st.DrawFn) -> dict[str, Any]:
    """Any cluster with any method."""
    cluster, steps = draw(clusters()), draw(st.sampled_from([1, 2, 6]))
    workers = len(cluster["devices"]["seconds_per_step"])
    cluster["network"]["message_size"] = "20kB"
    kind = draw(st.sampled_from(["server", "regions", "groups", "graph", "nobody"]))
    regions = {"regions": draw(st.integers(1, workers)), "every_versions": draw(st.integers(1, 4)), "latency": "1s"}
    settings: Mapping[str, dict[str, Any]] = {
        "regions": regions | {"outer": {"optimizer": "sgd", "learning_rate": 1.0}},
        "groups": {"size": draw(st.integers(1, 3))},
        "graph": {"edges": "ring" if workers > 1 else []},
    }
    most = workers // regions["regions"] if kind == "regions" else workers
    quorum = st.builds(lambda offers: {"kind": "quorum", "offers": offers, "window": "1s"}, st.integers(1, most))
    waiting = st.just({"kind": "barrier"})
    drawing = st.builds(lambda sample: {"kind": "barrier", "timeout": "10s", "sample": sample}, st.integers(1, most))
    synchronization = (
        waiting
        | quorum
        | st.sampled_from([{"kind": "asynchronous", "grace": "0.5s"}, {"kind": "barrier", "timeout": "10s"}])
    )
    has_server = kind in ("server", "regions")
    wrong = draw(st.none() | faults(workers))
    if wrong and not has_server:
        wrong = {name: value for name, value in wrong.items() if name not in ("server_outages", "message_loss")}
        wrong["trace"] = [row for row in wrong.get("trace", ()) if row[0] != "server"]
    if not has_server:
        cluster.pop("server_update_time", None)
        cluster["network"].pop("server_link", None)
    changes = {
        "cluster": cluster | {"faults": wrong},
        "topology": {"kind": kind} | settings.get(kind, {}),
        "synchronization": draw(synchronization if has_server else waiting),
        "inner": {"local_steps": steps},
        "compression": {"kind": draw(st.sampled_from(["none", "fp4"]))},
        "budget": {"local_steps": 30 * workers},
        "outer": BASE["outer"],
    }
    if has_server:
        fragments = draw(st.integers(1, min(steps, 3))) if kind == "server" else 1
        schedule = {"fragments": fragments, "overlap": draw(st.integers(0, steps)), "composition": "by_size"}
        changes["schedule"] = draw(st.sampled_from([schedule, {"seconds": "2.5s"}, {"kind": "growing"}, {}]))
        if changes["schedule"].get("overlap") and changes["synchronization"]["kind"] == "quorum":
            changes["synchronization"] = changes["synchronization"] | draw(st.sampled_from([{}, {"adaptive": {}}]))
        if not changes["schedule"] and draw(st.booleans()):
            changes["synchronization"] = draw(drawing)
        changes["merge"] = {"kind": draw(st.sampled_from(["overwrite", "lerp", "keep_progress"]))}
        if kind == "server" and changes["synchronization"] == {"kind": "barrier"}:
            merged = draw(st.sampled_from(["as it is", "outer", "eager"]))
            if merged != "as it is":
                changes["merge"] = {"kind": merged} | ({"share": "1/workers"} if merged == "eager" else {})
            if merged == "eager":
                changes["schedule"] = {"overlap": steps}
    return changes


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(exchanging())
def test_every_rule_holds_of_every_world(changes: dict[str, Any]):
    with registry.emptied():
        registry.register("schedule", "growing", lambda: lambda offer, local_steps: min(1 + offer, local_steps))
        try:
            record = simulate(tiny(**merge(CLASSIFIER, changes)), trainer="null", cache=CACHE)
        except SimulationError:  # nobody makes progress any more
            assert changes["cluster"]["faults"] is not None
            return
        assert verify(record) == []
