import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import Cache, simulate
from simulator.experiment import Experiment
from simulator.experiment.file import merge
from simulator.record import RecordError, RunRecord
from simulator.verify import verify
from tests.experiments import tiny
from tests.killed_runs import CLASSIFIER

CACHE = Cache()
BARRIER = {"kind": "barrier"}
EQUAL = {"weight": 1.0, "optimizer": "sgd", "learning_rate": 1.0}


def timeline(**changes: Any) -> RunRecord:
    return simulate(tiny(**changes), trainer="null", cache=CACHE)


@st.composite
def clusters(draw: st.DrawFn) -> dict[str, Any]:
    workers = draw(st.integers(1, 5))
    speeds = st.sampled_from([0.1, 0.25, 0.5, 0.5, 1.0, 3.33])
    network = {
        "latency": draw(st.sampled_from([0, "50ms", "1s"])),
        "bandwidth": draw(st.sampled_from(["1Gbit/s", "100kB/s", "5kB/s"])),
    }
    if draw(st.booleans()):
        network["server_link"] = {"bandwidth": draw(st.sampled_from(["1Gbit/s", "20kB/s"]))}
    return {
        "devices": {
            "seconds_per_step": draw(st.lists(speeds, min_size=workers, max_size=workers)),
            "jitter": draw(st.sampled_from([0.0, 0.0, 0.3])),
        },
        "network": network,
        "server_update_time": draw(st.sampled_from([0, "10ms", "2s"])),
    }


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    changes: dict[str, Any] = {
        "local_steps": {"kind": draw(st.sampled_from(["fixed", "dynamic"]))},
        "shard_choice": {"kind": draw(st.sampled_from(["proportional", "least_visited", "fixed"]))},
        "data": {"shards": draw(st.integers(1, 6))},
        "seed": draw(st.integers(0, 9)),
        "budget": {"local_steps": draw(st.sampled_from([1, 60, 200]))},
    }
    if draw(st.booleans()):
        return changes | {"synchronization": BARRIER, "outer": EQUAL}
    changes["synchronization"] = {"grace": draw(st.sampled_from([0, "0.5s", "5s", "infinite"]))}
    changes["outer"] = {"arrivals_per_update": draw(st.integers(1, 3))}
    if draw(st.booleans()):
        changes["outer"]["staleness"] = {"kind": "threshold", "drop_above": draw(st.integers(0, 3))}
    if draw(st.booleans()):
        changes["evaluate"] = {"every_local_steps": None, "every_simulated": "2s", "takes": "0.5s"}
    return changes


@settings(max_examples=20)  # with faults there are more, in test_faults
@given(clusters(), policies())
def test_every_rule_holds_of_every_timeline(cluster: dict[str, Any], changes: dict[str, Any]):
    assert verify(timeline(cluster=cluster, **changes)) == []


def test_every_rule_holds_of_what_was_trained(mixed_dtypes: None):
    record = simulate(tiny(**CLASSIFIER, evaluate={"per_shard": True}), cache=CACHE)
    assert verify(record) == []
    wrong = record.summary | {"final_shard_losses": [1.0, *record.summary["final_shard_losses"][1:]]}
    [violation] = verify(dataclasses.replace(record, summary=wrong))
    assert violation.rule == "final_shard_losses[0]"
    for key in ("final_loss", "final_perplexity", "tokens", "mean_staleness", "utilization"):
        [violation] = verify(dataclasses.replace(record, summary=record.summary | {key: 0.25}))
        assert str(violation).startswith(f"summary: {key}: is 0.25 and should be ")


def test_devices_by_their_speed_take_one_time_for_every_step():
    devices = {"accelerators": [{"name": "slow", "peak": "1MFLOP/s", "count": 2}]}
    record = timeline(cluster={"devices": devices})
    assert verify(record) == []
    rounds = record.rounds.copy()
    rounds.loc[3, "push_start_s"] -= 0.5
    assert {violation.rule for violation in verify(dataclasses.replace(record, rounds=rounds))} >= {"durations"}


@pytest.mark.parametrize(
    ("column", "row", "change", "rule", "at"),
    [
        ("update_s", 4, 1e6, "time", 4),
        ("ready_s", 8, -0.1, "workers", 8),
        ("worker", 5, 40, "workers", 5),
        ("round", 5, -1, "workers", None),
        ("push_start_s", 6, 0.01, "durations", 6),
        ("compute_start_s", 6, 0.01, "durations", 6),
        ("version", 7, 1, "versions", 7),
        ("pulled_version", 7, 1, "staleness", 7),
        ("pulled_version", 9, 40, "versions", 9),
        ("staleness", 7, 2, "staleness", 7),
        ("first_step", 9, -5, "steps", None),
        ("shard", 9, 40, "steps", 9),
        ("local_steps", 3, 1, "steps", 3),
        ("bytes_up", 3, 1, "bytes", 3),
    ],
)
def test_what_was_changed_in_the_rounds_is_found(column: str, row: int, change: float, rule: str, at: int | None):
    record = timeline()
    rounds = record.rounds.copy()
    rounds[column] = rounds[column].astype(rounds[column].dtype)
    rounds.loc[row, column] += type(rounds[column].iloc[0].item())(change)
    found = verify(dataclasses.replace(record, rounds=rounds))
    assert rule in {violation.rule for violation in found}
    if at is not None:
        assert at in {violation.row for violation in found if violation.rule == rule}


@pytest.mark.parametrize("column", ["local_steps", "server_updates", "bytes_sent"])
def test_what_was_changed_in_the_evaluations_is_found(column: str):
    record = timeline()
    evaluations = record.evaluations.copy()
    evaluations.loc[2, column] += 1
    found = verify(dataclasses.replace(record, evaluations=evaluations))
    assert [(violation.table, violation.row) for violation in found] == [("evaluations", 2)]


def test_a_perplexity_is_that_of_its_loss():
    record = timeline()
    evaluations = record.evaluations.assign(loss=1.0, perplexity=2.0)
    assert {violation.rule for violation in verify(dataclasses.replace(record, evaluations=evaluations))} == {
        "perplexity"
    }


def test_rounds_that_were_lost_or_invented_are_found():
    record = timeline(synchronization=BARRIER, outer=EQUAL)
    for rounds, message in (
        (record.rounds.drop(index=5), "is of no round that arrived"),
        (pd.concat([record.rounds, record.rounds.iloc[-1:]]), "this round has arrived before"),
    ):
        assert message in {violation.message for violation in verify(dataclasses.replace(record, rounds=rounds))}


FAULTS = {
    "crashes": {"time_between": "20s", "repair": "5s"},
    "preemption": {"time_between": "30s", "absence": "5s", "notice": "2s"},
    "message_loss": {"probability": 0.2, "timeout": "1s", "attempts": 3},
    "slowdowns": {"time_between": "20s", "duration": "5s", "factor": 2},
}


def failing() -> RunRecord:
    record = timeline(cluster={"faults": FAULTS})
    assert verify(record) == []
    return record


@pytest.mark.parametrize(
    ("fault", "column", "change", "rule"),
    [
        ("crash", "time_s", 0.5, "faults"),
        ("crash", "worker", 1, "faults"),
        ("notice", "time_s", -0.5, "faults"),
        ("slow", "time_s", 0.25, "faults"),
        ("lost", "time_s", 0.5, "faults"),
        ("lost", "round", 1000, "workers"),
        ("lost", "first_step", -3, "steps"),
        ("lost", "computed_steps", 1, "lost_steps"),
        ("lost", "bytes_down", 64, "lost_bytes"),
        ("lost", "worker", 4, "workers"),
        ("slow", "local_steps", 1, "faults"),
        ("crash", "round", 3, "faults"),
        ("cut", "local_steps", 1, "steps"),
        ("cut", "round", 1, "durations"),
    ],
)
def test_what_was_changed_in_the_faults_is_found(fault: str, column: str, change: float, rule: str):
    record = failing()
    faults = record.faults.copy()
    row = faults.index[faults["fault"] == fault][0]
    faults.loc[row, column] += type(faults[column].iloc[0].item())(change)
    if (fault, column) == ("lost", "time_s"):
        record = dataclasses.replace(record, experiment=without_message_loss(record))
    assert rule in {violation.rule for violation in verify(dataclasses.replace(record, faults=faults))}


def without_message_loss(record: RunRecord) -> dict[str, Any]:
    return merge(record.experiment, {"cluster": {"faults": {"message_loss": None}}})


def test_faults_that_are_left_out_or_of_another_cluster_are_found():
    record = failing()
    for faults in (record.faults[record.faults["fault"] != "slow"], record.faults[record.faults["fault"] != "lost"]):
        assert verify(dataclasses.replace(record, faults=faults))
    elsewhere = timeline()
    [*found] = verify(dataclasses.replace(elsewhere, faults=record.faults))
    assert "nothing can go wrong here" in {violation.message for violation in found}


def test_a_round_that_was_not_lost_and_its_retries_are_recomputed():
    record = failing()
    again = record.rounds["bytes_up"] > record.rounds["bytes_up"].min()
    assert again.any()
    rounds = record.rounds.copy()
    rounds.loc[rounds.index[again][0], "bytes_up"] = rounds["bytes_up"].min()
    assert "bytes" in {violation.rule for violation in verify(dataclasses.replace(record, rounds=rounds))}


def test_the_files_that_a_record_names_are_not_read():
    record = timeline()
    named = merge(record.experiment, {"cluster": {"faults": {"trace": "/etc/passwd"}}})
    with pytest.raises(RecordError, match=r"cluster\.faults\.trace names a file"):
        verify(dataclasses.replace(record, experiment=named))


def test_a_record_whose_experiment_is_none_is_refused():
    record = timeline()
    with pytest.raises(RecordError, match="the record's experiment is not valid"):
        verify(dataclasses.replace(record, experiment={"name": "a", "variant": "b", "seed": 0}))


def test_the_command_names_rows_and_rules(tardigrad: Any, tmp_path: Path):
    record = timeline()
    record.write(tmp_path / "runs/good")
    code, out, err = tardigrad("verify", "runs")
    assert (code, err) == (0, "")
    assert out == "runs/good: 40 rounds, 5 evaluations: every rule holds\n"
    rounds = record.rounds.assign(staleness=record.rounds["staleness"] + 1)
    dataclasses.replace(record, rounds=rounds).write(tmp_path / "runs/wrong")
    code, out, err = tardigrad("verify", "runs")
    assert (code, err) == (1, "tardigrad: 1 run broke a rule\n")
    assert "rounds, row 0: staleness: staleness is 1 and should be 0\n" in out
    assert "\n  and 22 more\n" in out


def test_a_round_that_spans_an_absence_is_found():
    record = timeline(synchronization={"grace": 0})
    at_s = float(record.rounds["push_start_s"].iloc[4])
    worker = int(record.rounds["worker"].iloc[4])
    trace = [[worker, at_s - 0.01, "crash"], [worker, at_s + 100, "join"]]
    crashed = merge(record.experiment, {"cluster": {"faults": {"trace": trace}}})
    messages = {violation.message for violation in verify(dataclasses.replace(record, experiment=crashed))}
    assert f"worker {worker} went away before this round could arrive" in messages


@pytest.mark.parametrize(
    ("fault", "column", "value", "rule"),
    [
        ("lost", "computed_steps", 1000, "faults"),
        ("lost", "bytes_up", 50 * 64 * 2**20, "bytes"),
        ("lost", "pulled_version", 1000, "versions"),
        ("lost", "pulled_version", -1, "versions"),
    ],
)
def test_a_lost_round_with_impossible_numbers_is_found(fault: str, column: str, value: int, rule: str):
    record = failing()
    faults = record.faults.copy()
    row = faults.index[faults["fault"] == fault][0]
    faults.loc[row, column] = value
    found = verify(dataclasses.replace(record, faults=faults))
    assert (rule, row) in {(violation.rule, violation.row) for violation in found}


def test_faults_out_of_order_are_found():
    record = failing()
    found = verify(dataclasses.replace(record, faults=record.faults.iloc[::-1].reset_index(drop=True)))
    assert ("time", "happens before the row above it") in {(each.rule, each.message) for each in found}


def test_a_flag_of_non_finite_rounds_is_0_or_1():
    record = timeline()
    rounds = record.rounds.copy()
    rounds.loc[6, "non_finite"] = 7
    assert ("non_finite", 6) in {(each.rule, each.row) for each in verify(dataclasses.replace(record, rounds=rounds))}


def test_a_barrier_applies_what_is_fresh_and_nothing_else():
    record = timeline(synchronization=BARRIER, outer=EQUAL)
    rounds = record.rounds.copy()
    rounds.loc[7, ["pulled_version", "staleness"]] += [-1, 1]
    message = "a barrier applies what is fresh and drops the rest"
    found = verify(dataclasses.replace(record, rounds=rounds))
    assert (7, message) in {(each.row, each.message) for each in found}


def test_more_bytes_than_a_shared_link_carries_are_found():
    loss = {"probability": 0.5, "timeout": "100ms", "attempts": 50}
    network = {"message_size": "1MB", "server_link": {"bandwidth": "2MB/s"}}
    devices = {"seconds_per_step": 0.1, "workers": 40}
    settings = tiny().model_dump(exclude={"cluster"}) | {"cluster": {"devices": devices, "network": network}}
    settings["cluster"]["faults"] = {"message_loss": loss}
    record = simulate(Experiment.model_validate(settings), trainer="null", cache=CACHE)
    assert record.rounds[["bytes_down", "bytes_up"]].sum().max() / record.summary["simulated_seconds"] <= 2e6
    assert verify(record) == []
    slower = merge(record.experiment, {"cluster": {"network": {"server_link": {"bandwidth": "1.9MB/s"}}}})
    assert "links" in {violation.rule for violation in verify(dataclasses.replace(record, experiment=slower))}
