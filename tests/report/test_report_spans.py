"""The table of spans: it tiles each worker's time, and says from which row of the record each span follows."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from simulator.host.nodes import SERVER
from simulator.report import timeline, trace_events, utilization_table
from simulator.report.spans import ABSENT, LOST, ROUND_LOST, SPANS, UPDATE, Span, spans_of
from simulator.report.worker_bins import evenly, workers_of
from tests.record.builders import build_record, fault_log

FAULTS = fault_log([(100.0, 1, "lost"), (100.0, 1, "crash"), (150.0, 1, "return"), (400.0, 2, "departure")]).frame()


@pytest.mark.parametrize("changes", [{}, {"barrier": True}, {"dynamic": True}])
def test_the_spans_of_a_worker_cover_its_time_once(changes):
    record = replace(build_record(**changes), faults=FAULTS)
    table = spans_of(record)
    assert tuple(table.columns) == Span._fields
    for worker, own in table[table["what"].isin((*SPANS, LOST))].groupby("worker"):
        assert own["first_s"].iloc[0] == 0.0
        np.testing.assert_array_equal(own["first_s"].iloc[1:], own["last_s"].iloc[:-1])
        assert own["last_s"].iloc[-1] == workers_of(record)["covered_s"][worker]


def test_every_span_names_the_row_that_it_follows_from():
    record = replace(build_record(barrier=True), faults=FAULTS)
    table = spans_of(record)
    computing = table[table["what"] == "compute"]
    assert record.rounds["compute_start_s"][computing["row"]].tolist() == computing["first_s"].tolist()
    assert record.rounds["worker"][computing["row"]].tolist() == computing["worker"].tolist()
    of_faults = table[table["what"].isin((ABSENT, ROUND_LOST))]
    assert of_faults[["worker", "what", "row"]].to_numpy().tolist() == [
        [1, ABSENT, 1],
        [1, ROUND_LOST, 0],
        [2, ABSENT, 3],
    ]
    updates = table[table["worker"] == SERVER]
    assert set(updates["what"]) == {UPDATE}
    assert record.rounds["version"][updates["row"]].tolist() == list(range(1, record.summary["server_updates"] + 1))


def test_a_record_without_the_later_columns_has_the_same_spans():
    record = replace(build_record(barrier=True), faults=FAULTS)
    old = replace(record, rounds=record.rounds.drop(columns=["fragment", "blocked_s", "goes_on"]))
    pd.testing.assert_frame_equal(spans_of(old), spans_of(record))
    assert list(trace_events(old)) == list(trace_events(record))
    assert timeline(old).axes[0].get_xlim() == timeline(record).axes[0].get_xlim()
    pd.testing.assert_frame_equal(utilization_table(old), utilization_table(record))


def test_some_workers_and_an_earlier_end_may_be_asked_for():
    record = replace(build_record(), faults=FAULTS)
    table = spans_of(record, [2], 500.0)
    assert set(table["worker"]) == {SERVER, 2}
    [absent] = table[table["what"] == ABSENT].to_dict("records")
    assert (absent["first_s"], absent["last_s"]) == (400.0, 500.0)


@pytest.mark.parametrize(
    ("count", "most", "places"), [(0, 3, []), (3, 5, [0, 1, 2]), (5, 3, [0, 2, 4]), (100, 2, [0, 99]), (4, 1, [0])]
)
def test_samples_are_evenly_spaced_with_both_ends(count, most, places):
    assert evenly(count, most).tolist() == places
