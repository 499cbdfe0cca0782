"""Random clusters with measured traces: a record's durations are recomputed from its rows."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator import Cache, simulate
from simulator.experiment import Experiment, SimulationError
from simulator.experiment.file import merge
from simulator.record import RecordError, RunRecord
from simulator.verify import verify
from tests.experiments import tiny
from tests.faulty import faults
from tests.killed_runs import CLASSIFIER, FAULTS, MEASURED
from tests.verify.test_verify_exchanges import BASE, METHODS

CACHE = Cache()
NAMES = ("overlap", "streaming", "halos", "noloco", "quorum", "seconds")


@st.composite
def rows(draw: st.DrawFn, workers: int, values: list[Any]) -> list[list[Any]]:
    """Rows of workers, each with one at least."""
    found = []
    for worker in range(workers):
        gaps = draw(st.lists(st.sampled_from([0.1, 1, 7.5, 30]), min_size=1, max_size=5))
        times = list(itertools.accumulate([draw(st.sampled_from([0, 2])), *gaps]))[: len(gaps)]
        found += [[time_s, worker, draw(st.sampled_from(values))] for time_s in times]
    return found


@st.composite
def measured(draw: st.DrawFn, workers: int) -> dict[str, Any]:
    """A cluster whose steps, links or both are measured."""
    network: dict[str, Any] = {"latency": draw(st.sampled_from([0, "50ms", "1s"])), "bandwidth": "20kB/s"}
    again = st.sampled_from([None, 200, 1000])
    cluster: dict[str, Any] = {"devices": {"seconds_per_step": [0.25] * workers}, "network": network}
    if draw(st.integers(0, 3)):
        steps = draw(rows(workers, [0.1, 0.25, 0.5, 0.5, 2.0]))
        cluster["devices"] = {"trace": steps, "jitter": draw(st.sampled_from([0, 0.3])), "repeat_every": draw(again)}
    if draw(st.integers(0, 3)):
        rates = draw(rows(draw(st.integers(1, workers)), ["40kbit/s", 8e6, "3kB/s"]))
        network |= {"trace": [[*row, draw(st.sampled_from(["up", "both"]))] for row in rates]}
        network["trace"] = [row for row in network["trace"] if row[0] >= 2 or row[-1] == "both"]
        network |= {"repeat_every": draw(again)} if network["trace"] else {"trace": None}
    return cluster


@st.composite
def worlds(draw: st.DrawFn) -> Experiment:
    workers, name = draw(st.integers(2, 4)), draw(st.sampled_from(["", *NAMES]))
    cluster = draw(measured(workers))
    if draw(st.booleans()):
        cluster["faults"] = draw(faults(workers))
        if name == "noloco":
            nowhere = ("message_loss", "server_outages", "trace")
            cluster["faults"] = {key: value for key, value in cluster["faults"].items() if key not in nowhere}
    changes = merge(
        merge(merge(CLASSIFIER, BASE if name else {}), METHODS.get(name, {})), {"seed": draw(st.integers(0, 9))}
    )
    changes = {key: value for key, value in changes.items() if key != "cluster"}
    return tiny(cluster=cluster, budget={"local_steps": 150, "simulated_time": "5min"}, **changes)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(worlds())
def test_every_rule_holds_of_every_measured_cluster(experiment: Experiment):
    try:
        record = simulate(experiment, trainer="null", cache=CACHE)
    except SimulationError:  # nobody comes back
        return
    assert verify(record) == []


def failing(**changes: Any) -> RunRecord:
    return simulate(tiny(**merge(MEASURED, changes)), trainer="null", cache=CACHE)


@pytest.mark.parametrize("column", ["push_start_s", "arrival_s", "compute_start_s"])
def test_durations_of_another_trace_are_found(column: str):
    record = failing()
    assert verify(record) == []
    rounds = record.rounds.copy()
    rounds.loc[5, column] += 1e-3
    assert "durations" in {violation.rule for violation in verify(dataclasses.replace(record, rounds=rounds))}


@pytest.mark.parametrize(
    ("section", "row", "column", "value"),
    [("devices", 4, 2, 0.75), ("devices", 4, 0, 9.25), ("network", 1, 2, "300 B/s"), ("network", 1, 0, 6.25)],
)
def test_another_trace_is_found(section: str, row: int, column: int, value: float | str):
    record = failing()
    trace = [list(each) for each in record.experiment["cluster"][section]["trace"]]
    trace[row][column] = value
    other = merge(record.experiment, {"cluster": {section: {"trace": trace}}})
    found = verify(dataclasses.replace(record, experiment=other))
    assert "durations" in {violation.rule for violation in found}


def test_what_goes_wrong_beside_a_trace_is_recomputed():
    record = failing(cluster={"faults": FAULTS})
    assert {"cut", "slow", "disconnect"} <= set(record.faults["fault"])
    assert verify(record) == []


@pytest.mark.parametrize("section", ["devices", "network"])
def test_a_record_that_names_a_file_is_refused(section: str):
    record = failing()
    named: Mapping[str, Any] = merge(record.experiment, {"cluster": {section: {"trace": "/etc/passwd"}}})
    with pytest.raises(RecordError, match=f"cluster.{section}.trace names a file instead of having its rows"):
        verify(dataclasses.replace(record, experiment=dict(named)))
