"""Traces keep the rules of the Trace Event format, and say what the record says."""

import dataclasses
import gzip
import json
import math
from collections import Counter, defaultdict
from typing import Any

import pytest

from simulator import Cache, simulate
from simulator.record import RunRecord
from simulator.report import ReportError, trace_events, write_trace
from tests.experiments import tiny
from tests.record.builders import build_record, fault_log, round_log, round_row

REQUIRED = {
    "M": {"name", "pid", "tid", "args"},
    "X": {"name", "cat", "ts", "dur", "pid", "tid", "args"},
    "i": {"name", "cat", "ts", "pid", "tid", "s", "args"},
    "s": {"name", "cat", "id", "ts", "pid", "tid"},
    "f": {"name", "cat", "id", "ts", "pid", "tid"},
    "C": {"name", "ts", "pid", "tid", "args"},
}
METADATA = {"process_name", "process_sort_index", "thread_name", "thread_sort_index"}
FAULTS = {
    "crashes": {"time_between": "30s", "repair": "5s", "in_flight": "delivered"},
    "preemption": {"time_between": "60s", "absence": "10s", "notice": "2s"},
    "joins": [0, 0, 0, 20],
    "slowdowns": {"time_between": "1min", "duration": "10s", "factor": 2.5},
    "message_loss": {"probability": 0.05, "timeout": "1s"},
    "link_outages": {"time_between": "2min", "duration": "5s"},
    "server_outages": {"time_between": "2min", "duration": "5s"},
}
NETWORK = {"latency": "200ms", "bandwidth": "50kB/s", "server_link": {"bandwidth": "100kB/s"}}


def check_format(events: list[dict[str, Any]]) -> None:
    """Asserts the rules of the format, whatever the trace is of."""
    named: dict[str, set[Any]] = defaultdict(set)
    latest: dict[Any, int] = defaultdict(int)
    slices: dict[Any, list[tuple[int, int]]] = defaultdict(list)
    starts: dict[int, tuple[Any, int]] = {}
    ends: dict[int, tuple[Any, int]] = {}
    for event in events:
        phase, track = event["ph"], (event["pid"], event["tid"])
        assert set(event) - {"ph", "bp"} == REQUIRED[phase], event
        assert "bp" not in event or (phase, event["bp"]) == ("f", "e")
        assert type(event["pid"]) is type(event["tid"]) is int
        if phase == "M":
            assert event["name"] in METADATA
            kind, what = event["name"].split("_", 1)
            of = event["pid"] if kind == "process" else track
            assert of not in named[event["name"]], "named twice"
            named[event["name"]].add(of)
            assert type(event["args"]["name" if what == "name" else "sort_index"]) is (str if what == "name" else int)
            continue
        assert event["pid"] in named["process_name"]
        assert track in named["thread_name"]
        assert type(event["ts"]) is int
        assert event["ts"] >= 0
        if phase == "C":
            assert event["args"]
            assert all(type(value) in (int, float) and math.isfinite(value) for value in event["args"].values())
            track = (*track, event["name"])
        assert event["ts"] >= latest[track], "back in time"
        latest[track] = event["ts"]
        if phase == "i":
            assert event["s"] in ("g", "p", "t")
        elif phase == "X":
            assert type(event["dur"]) is int
            assert event["dur"] >= 0
            slices[track].append((event["ts"], event["ts"] + event["dur"]))
        elif phase in "sf":
            flows = starts if phase == "s" else ends
            assert event["id"] not in flows, "a flow begins and ends once"
            flows[event["id"]] = track, event["ts"]
    check_nesting(slices)
    check_flows(starts, ends, slices)


def check_nesting(slices: dict[Any, list[tuple[int, int]]]) -> None:
    for spans in slices.values():
        around: list[int] = []
        for start, end in spans:
            while around and around[-1] <= start:
                around.pop()
            assert not around or end <= around[-1], "slices overlap in part"
            around.append(end)


def check_flows(starts: dict[int, Any], ends: dict[int, Any], slices: dict[Any, list[tuple[int, int]]]) -> None:
    """A flow begins inside a slice, and ends where a slice of its thread begins."""
    assert starts.keys() == ends.keys()
    for number, (track, moment) in starts.items():
        assert any(start <= moment < end for start, end in slices[track])
        server, arrival = ends[number]
        assert moment <= arrival
        assert any(start == arrival for start, _ in slices[server])


def is_over(event: dict[str, Any], now: int, takes: int) -> bool:
    """Whether a slice is over when another begins."""
    end = event["ts"] + event.get("dur", 0)
    return end < now or (end == now and bool(takes or event.get("dur", 0)))


def as_perfetto_imports(events: list[dict[str, Any]]) -> dict[int, tuple[Any, Any]]:
    """Returns, by flow, the slices that it connects, by the rules of Perfetto's importer.

    Events are sorted by time, where times are equal longer slices first and then in the order of the file. Instants are
    slices of no time. A slice is taken off its thread's stack when another begins at its end or later (of two that take
    no time both stay). A flow begins, and with "bp": "e" ends, in the slice on top; else it ends in the next to begin.
    """
    order = sorted(
        (event for event in events if event["ph"] in "Xisf"), key=lambda event: (event["ts"], -event.get("dur", 0))
    )
    stacks: dict[Any, list[Any]] = defaultdict(list)
    pending: dict[Any, list[int]] = defaultdict(list)
    begun: dict[int, Any] = {}
    flows: dict[int, tuple[Any, Any]] = {}
    for event in order:
        track = event["pid"], event["tid"]
        stack = stacks[track]
        if event["ph"] in "Xi":
            now, takes = event["ts"], event.get("dur", 0)
            while stack and is_over(stack[-1], now, takes):
                stack.pop()
            stack.append(event)
            flows |= {flow: (begun[flow], event) for flow in pending.pop(track, [])}
        elif event["ph"] == "s":
            begun[event["id"]] = stack[-1]
        elif "bp" in event:
            flows[event["id"]] = begun[event["id"]], stack[-1]
        else:
            pending[track].append(event["id"])
    assert not any(pending.values())
    return flows


def check_arrows(events: list[dict[str, Any]], record: RunRecord) -> None:
    """Every arrow that Perfetto draws leads from a round to the update that it went into."""
    rounds = {round.round: round for round in record.rounds.itertuples()}
    flows = as_perfetto_imports(events).values()
    for source, target in flows:
        of = rounds[source["args"]["round"]]
        assert source["name"] != "wait"
        assert source["tid"] != target["tid"]
        assert target["name"] == (f"update {of.version}" if of.outcome == "applied" else of.outcome)
        assert target["args"].get("round", of.round) == of.round
    assert len(flows) == sum(event["ph"] == "s" for event in events)


def timeline(**changes: Any) -> RunRecord:
    return simulate(tiny(**changes), trainer="null", cache=Cache())


CASES: dict[str, dict[str, Any]] = {
    "asynchronous": {},
    "barrier": {"synchronization": {"kind": "barrier"}, "outer": {"weight": 1.0}},
    "network": {"cluster": {"network": NETWORK, "server_update_time": "300ms"}},
    "buffered and dropped": {"outer": {"arrivals_per_update": 3, "staleness": {"kind": "threshold", "drop_above": 1}}},
    "dropped while the server is busy": {
        "cluster": {"server_update_time": "700ms"},
        "outer": {"staleness": {"kind": "threshold", "drop_above": 1}},
    },
    "ties": {"cluster": {"devices": {"seconds_per_step": [1.0, 1.0, 1.0, 1.0]}}},
    "ties, dropped while the server is busy": {
        "cluster": {"devices": {"seconds_per_step": [1.0, 1.0, 1.0, 1.0]}, "server_update_time": "1s"},
        "outer": {"staleness": {"kind": "threshold", "drop_above": 1}},
    },
    "no time at all": {
        "cluster": {"devices": {"seconds_per_step": [1e-9, 1e-9, 1.0, 2.0]}},
        "budget": {"local_steps": 30},
    },
    "faults": {"cluster": {"faults": FAULTS}, "budget": {"local_steps": 600}},
    "faults and a network": {"cluster": {"faults": FAULTS, "network": NETWORK}, "budget": {"local_steps": 600}},
    "faults and a barrier": {
        "cluster": {"faults": FAULTS},
        "synchronization": {"kind": "barrier", "timeout": "30s", "quorum": 2},
        "outer": {"weight": 1.0},
    },
}


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_every_trace_keeps_the_rules_of_the_format(changes: dict[str, Any]):
    record = timeline(**changes)
    events = list(trace_events([record]))
    check_format(events)
    json.dumps(events, allow_nan=False)
    check_arrows(events, record)
    arrived = len(record.rounds)
    flows = sum(event["ph"] == "s" for event in events)
    assert flows == arrived or (flows < arrived and changes is CASES["no time at all"])
    assert sum(event["name"] == "version" for event in events) == record.summary["server_updates"]
    computing = sum(event["dur"] for event in events if event["name"] == "compute") / 1e6
    expected = (record.rounds["push_start_s"] - record.rounds["compute_start_s"]).sum()
    assert computing == pytest.approx(expected, abs=1e-6 * arrived)


def test_one_round_is_what_the_record_says():
    record = hand_made([round_row()])
    [wait, pull, compute, push, again] = [event for event in trace_events([record]) if event.get("cat") == "worker"]
    assert [(each["name"], each["ts"], each["dur"]) for each in (wait, pull, compute, push, again)] == [
        ("wait", 0, 1_000_000),
        ("pull", 1_000_000, 2_000_000),
        ("compute", 3_000_000, 10_000_000),
        ("push", 13_000_000, 3_000_000),
        ("wait", 16_000_000, 4_000_000),
    ]
    assert push["args"] == {"round": 0, "version": 0, "shard": 0, "steps": 5, "staleness": 0, "loss": 2.5}
    [update] = [event for event in trace_events([record]) if event["name"] == "update 1"]
    assert (update["ts"], update["dur"]) == (20_000_000, 0)
    assert update["args"]["worker"] == 0


def test_an_update_takes_as_long_as_the_experiment_says():
    record = hand_made([round_row()])
    record.experiment["cluster"] = {"server_update_time": 1.5}
    [update] = [event for event in trace_events([record]) if event["name"] == "update 1"]
    assert (update["ts"], update["dur"]) == (18_500_000, 1_500_000)
    [arrow] = [event for event in trace_events([record]) if event["ph"] == "f"]
    assert arrow["ts"] == 18_500_000


def test_absences_and_what_was_lost_are_shown():
    faults = [(22.0, 0, "crash"), (22.0, 0, "lost", {"round": 1, "local_steps": 5}), (30.0, 0, "return")]
    record = hand_made([round_row()], faults)
    events = list(trace_events([record]))
    check_format(events)
    [absent] = [event for event in events if event["name"] == "absent"]
    assert (absent["ts"], absent["dur"], absent["args"]) == (22_000_000, 8_000_000, {"fault": "crash"})
    instants = [(event["ts"], event["name"]) for event in events if event["ph"] == "i" and event["cat"] == "fault"]
    assert instants == [(22_000_000, "crash"), (22_000_000, "round lost"), (30_000_000, "return")]


def test_what_would_overlap_in_part_is_cut():
    record = hand_made([round_row()], [(18.0, 0, "crash"), (25.0, 0, "return")])  # the last wait ends at 20 s
    events = list(trace_events([record]))
    check_format(events)
    [absent] = [event for event in events if event["name"] == "absent"]
    assert (absent["ts"], absent["dur"]) == (20_000_000, 5_000_000)


def hand_made(rows: list[dict[str, Any]], faults: Any = ()) -> RunRecord:
    base = build_record(step_s=(0.5,))
    summary = base.summary | {"simulated_seconds": 40.0, "workers": 1}
    rounds = round_log(rows).frame()
    return dataclasses.replace(base, summary=summary, rounds=rounds, faults=fault_log(faults).frame())


def test_counters_are_the_tables_own():
    record = build_record()
    events = list(trace_events([record]))
    perplexities = [(event["ts"], event["args"]["validation"]) for event in events if event["name"] == "perplexity"]
    table = record.evaluations
    assert perplexities == [
        (round(time_s * 1e6), value) for time_s, value in zip(table["simulated_s"], table["perplexity"], strict=True)
    ]
    stale = [event["args"]["mean"] for event in events if event["name"] == "staleness"]
    assert stale == record.rounds["staleness"].tolist()


def test_an_update_of_several_rounds_has_an_arrow_from_each():
    record = build_record(barrier=True)
    events = list(trace_events([record]))
    check_format(events)
    arrows = Counter(event["ts"] for event in events if event["ph"] == "f")
    updates = [event["ts"] for event in events if event["name"].startswith("update ")]
    assert arrows == dict.fromkeys(updates, 4)


def test_several_runs_are_processes_of_their_own(tmp_path):
    records = [build_record("a"), build_record("b", step_s=(1.0, 2.0)), build_record("b", seed=1)]
    check_format(list(trace_events(records)))
    names = [event["args"]["name"] for event in trace_events(records) if event["name"] == "process_name"]
    labels = ["a", "b, seed=0", "b, seed=1"]
    assert names == [f"{label}: {part}" for label in labels for part in ("server", "workers")]
    count = write_trace(records, tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))
    assert len(trace["traceEvents"]) == count
    assert trace["otherData"] == {"clock": "simulated time", "runs": labels}


def test_files_are_compressed_by_their_suffix_and_equal_for_equal_records(tmp_path):
    for name in ("one.json", "one.json.gz", "two.json.gz"):
        write_trace([build_record()], tmp_path / name)
    assert (tmp_path / "one.json.gz").read_bytes() == (tmp_path / "two.json.gz").read_bytes()
    assert gzip.decompress((tmp_path / "one.json.gz").read_bytes()) == (tmp_path / "one.json").read_bytes()
    assert json.loads((tmp_path / "one.json").read_text())["displayTimeUnit"] == "ms"


def test_other_suffixes_and_no_records_are_refused(tmp_path):
    with pytest.raises(ReportError, match=r"trace\.txt: .* ends in \.json or \.json\.gz"):
        write_trace([build_record()], tmp_path / "trace.txt")
    with pytest.raises(ReportError, match="no records given"):
        write_trace([], tmp_path / "trace.json")
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_a_trace(tardigrad, tmp_path):
    build_record("sync", barrier=True).write(tmp_path / "runs/1-sync")
    code, out, _ = tardigrad("trace", "runs", "-o", "trace.json.gz")
    assert code == 0
    count = int(out.split()[0].replace(",", ""))
    trace = json.loads(gzip.decompress((tmp_path / "trace.json.gz").read_bytes()))
    assert len(trace["traceEvents"]) == count > 100
    check_format(trace["traceEvents"])
    code, out, _ = tardigrad("trace", "runs/1-sync")
    assert "runs/1-sync/trace.json.gz" in out
    code, _, error = tardigrad("trace", "nowhere")
    assert (code, error) == (
        2,
        "tardigrad: nowhere: no such folder. Give the folder of a run, or the --out folder of several\n",
    )
