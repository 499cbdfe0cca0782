import json
import math
from dataclasses import replace
from typing import get_args

import pandas as pd
import pytest

from simulator.host.event_kinds import FaultKind
from simulator.record import (
    FAULT_COLUMNS,
    FAULTS,
    OF_FAULTS,
    SUMMARY_KEYS,
    FaultLog,
    RecordError,
    RunRecord,
    summarize_faults,
)
from simulator.report import read_runs
from tests.record.builders import build_record, fault_log, round_log, round_row

BASE = build_record(local_steps=400)
LOST = {
    "round": 7,
    "shard": 1,
    "first_step": 40,
    "local_steps": 20,
    "computed_steps": 12,
    "pulled_version": 3,
    "bytes_down": 200,
    "bytes_up": 50,
}
ROWS = [(0.0, 2, "late"), (1.5, 1, "lost", LOST), (1.5, 1, "crash"), (2.0, -1, "server down"), (9.0, 1, "return")]


def _record(rows=ROWS):
    return replace(BASE, faults=fault_log(rows).frame())


def _forget_faults(folder):
    """Makes of a record one from before there were faults."""
    (folder / "faults.parquet").unlink()
    sums = json.loads((folder / "checksums.json").read_text())
    del sums["faults.parquet"]
    (folder / "checksums.json").write_text(json.dumps(sums))


# The log and the schema.


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_can_be_noted_and_has_no_round_unless_one_is_given(fault):
    (row,) = fault_log([(1.5, 3, fault)]).frame().to_dict("records")
    none = dict.fromkeys(("round", "shard", "first_step", "pulled_version"), -1)
    zero = dict.fromkeys(("local_steps", "computed_steps", "bytes_down", "bytes_up"), 0)
    assert math.isnan(row.pop("factor"))
    assert row == {"time_s": 1.5, "worker": 3, "fault": fault} | none | zero


def test_faults_are_those_that_the_timeline_tells_of():
    # the loss of a message is no fault of its own in the table: either the round arrives later or it is lost
    assert set(FAULTS) == set(get_args(FaultKind)) - {"message"} | {"lost", "cut"}


# The summary.


def test_summary_of_faults_by_hand():
    rounds = [
        round_row(local_steps=5),
        round_row(round=1, local_steps=7, outcome="buffered"),
        round_row(round=2, local_steps=11, outcome="dropped"),
        round_row(round=3, local_steps=13, non_finite=1),
        round_row(round=4, local_steps=17, outcome="dropped", non_finite=1),
    ]
    other = {"round": 8, "local_steps": 9, "computed_steps": 1, "bytes_down": 100}
    cut = {"round": 9, "local_steps": 30, "first_step": 5, "pulled_version": 1}
    faults = [*ROWS, (3.0, 0, "cut", cut), (4.0, 0, "lost", other)]
    assert summarize_faults(round_log(rounds).frame(), fault_log(faults).frame(), 24.0) == {
        "lost_rounds": 2,
        "lost_steps": 13,
        "dropped_steps": 28,
        "non_finite": 2,
        "goodput": 0.5,  # 5 + 7 steps in 24 s
        "lost_bytes": 350,
    }


def test_only_lost_rounds_count_as_lost():
    faults = fault_log([(1.0, 0, fault, LOST) for fault in FAULTS if fault != "lost"]).frame()
    summary = summarize_faults(round_log([]).frame(), faults, 10.0)
    assert [summary[key] for key in ("lost_rounds", "lost_steps", "lost_bytes")] == [0, 0, 0]


def test_older_rounds_are_all_finite():
    rows = [round_row(local_steps=5), round_row(round=1, local_steps=7, outcome="dropped")]
    rounds = round_log(rows).frame()
    older = rounds.drop(columns="non_finite")
    summary = summarize_faults(older, FaultLog().frame(), 10.0)
    assert summary == summarize_faults(rounds, FaultLog().frame(), 10.0)
    assert (summary["non_finite"], summary["goodput"], summary["dropped_steps"]) == (0, 0.5, 7)


def test_without_rounds_and_faults_nothing_was_lost():
    summary = summarize_faults(round_log([]).frame(), FaultLog().frame(), 10.0)
    assert summary == dict.fromkeys(OF_FAULTS, 0)


def test_there_is_no_goodput_where_no_time_passed():
    summary = summarize_faults(round_log([round_row()]).frame(), fault_log([(0.0, 1, "lost", LOST)]).frame(), 0.0)
    assert summary["goodput"] is None
    assert (summary["lost_rounds"], summary["lost_steps"], summary["lost_bytes"]) == (1, 12, 250)


def test_the_summary_of_faults_has_the_declared_keys_and_plain_numbers():
    rounds = round_log([round_row(outcome="dropped")]).frame()
    summary = summarize_faults(rounds, fault_log(ROWS).frame(), 10.0)
    assert list(summary) == list(OF_FAULTS)
    assert {type(value) for value in summary.values()} == {int, float}
    assert not OF_FAULTS.keys() & SUMMARY_KEYS.keys()


# The record.


@pytest.mark.parametrize("rows", [ROWS, []])
def test_faults_are_read_as_they_were_written(tmp_path, rows):
    _record(rows).write(tmp_path)
    back = RunRecord.read(tmp_path)
    pd.testing.assert_frame_equal(back.faults, fault_log(rows).frame(), check_exact=True, check_categorical=True)
    assert list(pd.read_parquet(tmp_path / "faults.parquet").columns) == list(FAULT_COLUMNS)
    assert "faults.parquet" in json.loads((tmp_path / "checksums.json").read_text())


def test_the_summary_of_faults_is_kept(tmp_path):
    record = _record()
    losses = summarize_faults(record.rounds, record.faults, record.summary["simulated_seconds"])
    replace(record, summary=record.summary | losses).write(tmp_path)
    back = RunRecord.read(tmp_path)
    assert back.summary == record.summary | losses
    assert summarize_faults(back.rounds, back.faults, back.summary["simulated_seconds"]) == losses


def test_a_record_that_is_told_of_no_faults_has_an_empty_table():
    pd.testing.assert_frame_equal(BASE.faults, FaultLog().frame(), check_exact=True, check_categorical=True)


def test_the_table_of_faults_is_brought_into_its_dtypes():
    faults = fault_log(ROWS).frame()
    loose = faults.astype({"worker": "int32", "fault": "str", "time_s": "float32"}).assign(note="x")
    conformed = replace(_record(), faults=loose[loose.columns[::-1]][1:]).faults
    assert conformed["note"].eq("x").all()
    expected = faults[1:].reset_index(drop=True)
    pd.testing.assert_frame_equal(conformed.drop(columns="note"), expected, check_exact=True, check_categorical=True)


@pytest.mark.parametrize("with_checksums", [True, False])
def test_an_older_record_has_no_faults(tmp_path, with_checksums):
    older = replace(_record(), rounds=_record().rounds.drop(columns="non_finite"))
    older.write(tmp_path)
    _forget_faults(tmp_path)
    if not with_checksums:
        (tmp_path / "checksums.json").unlink()
    (back,) = read_runs([tmp_path])
    pd.testing.assert_frame_equal(back.faults, FaultLog().frame(), check_exact=True, check_categorical=True)
    pd.testing.assert_frame_equal(back.rounds, older.rounds, check_exact=True, check_categorical=True)
    assert summarize_faults(back.rounds, back.faults, 10.0)["lost_rounds"] == 0


def test_a_table_of_faults_that_is_gone_is_named(tmp_path):
    _record().write(tmp_path)
    (tmp_path / "faults.parquet").unlink()
    with pytest.raises(RecordError, match=rf"^{tmp_path}/faults.parquet: no such file"):
        RunRecord.read(tmp_path)


@pytest.mark.parametrize("known", [True, False])
def test_a_table_of_faults_that_is_not_as_it_was_written_is_named(tmp_path, known):
    _record().write(tmp_path)
    if not known:  # put into the folder of an older record
        _forget_faults(tmp_path)
    fault_log(ROWS[1:]).frame().to_parquet(tmp_path / "faults.parquet", index=False)
    with pytest.raises(RecordError, match=rf"^{tmp_path}/faults.parquet: is not as it was written"):
        RunRecord.read(tmp_path)
    (tmp_path / "checksums.json").unlink()
    assert len(RunRecord.read(tmp_path).faults) == len(ROWS) - 1


def test_what_is_wrong_with_the_table_of_faults_is_named(tmp_path):
    record = _record()
    record.write(tmp_path)
    (tmp_path / "checksums.json").unlink()
    record.faults.drop(columns=["shard", "bytes_up"]).to_parquet(tmp_path / "faults.parquet")
    with pytest.raises(RecordError, match=rf"^{tmp_path}/faults.parquet: missing columns shard, bytes_up; it has time"):
        RunRecord.read(tmp_path)
    record.faults.astype({"fault": "str"}).replace("crash", "flood").to_parquet(tmp_path / "faults.parquet")
    with pytest.raises(RecordError, match=rf"^{tmp_path}/faults.parquet: column 'fault' holds 'flood', but a fault is"):
        RunRecord.read(tmp_path)


@pytest.mark.parametrize("fault", ["flood", "message", "Crash", ""])
def test_an_unknown_fault_is_refused_by_name(fault):
    message = rf"^faults: column 'fault' holds '{fault}', but a fault is one of crash, preemption, .*, lost, cut$"
    for values in ([fault], pd.Categorical([fault])):
        unknown = fault_log([(1.0, 0, "crash")]).frame().assign(fault=values)
        with pytest.raises(RecordError, match=message):
            replace(_record(), faults=unknown)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fault": 0}, "column 'fault' has dtype int64, but its values must be of kind fault"),
        ({"fault": None}, "column 'fault' holds"),
        ({"worker": 0.5}, "column 'worker' has dtype float64, but its values must be of kind integer"),
        ({"time_s": "now"}, "column 'time_s' has dtype (str|object), but its values must be of kind real"),
    ],
)
def test_faults_of_another_kind_are_refused(change, message):
    with pytest.raises(RecordError, match=f"^faults: {message}"):
        replace(_record(), faults=fault_log(ROWS).frame().assign(**change))
