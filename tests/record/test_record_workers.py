import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.record import RecordError, failure, summarize_rounds, worker_table
from tests.record.builders import STEP_S, build_record, round_log, round_row


def test_worker_table_by_hand():
    second = round_row(
        round=2,
        local_steps=15,
        pulled_version=1,
        version=3,
        staleness=1,
        ready_s=26.0,  # 10 s after the first arrival: a round was lost in between
        pull_start_s=26.0,
        compute_start_s=27.0,
        push_start_s=57.0,
        arrival_s=58.0,
        update_s=60.0,
    )
    other = round_row(round=1, worker=2, version=2, staleness=1, outcome="dropped", update_s=40.0)
    table = worker_table(round_log([round_row(), other, second]).frame(), workers=3, simulated_s=100.0)
    assert table["worker"].tolist() == [0, 1, 2]
    assert table["rounds"].tolist() == [2, 0, 1]
    assert table["local_steps"].tolist() == [20, 0, 5]
    assert table["covered_s"].tolist() == [60.0, 0.0, 40.0]
    shares = table[["pull", "compute", "push", "wait", "lost"]]
    # worker 0: pull 2 + 1, compute 10 + 30, push 3 + 1, wait 1 + 0 and 2 after the last arrival, lost 26 - 16
    np.testing.assert_allclose(shares.loc[0] * 60.0, [3, 40, 4, 3, 10])
    np.testing.assert_allclose(shares.loc[2] * 40.0, [2, 10, 3, 25, 0])
    assert shares.loc[1].isna().all()
    np.testing.assert_allclose(table["seconds_per_step"], [2.0, math.nan, 2.0])
    np.testing.assert_allclose(table["mean_staleness"], [0.5, math.nan, 1.0])
    np.testing.assert_allclose(table["max_staleness"], [1.0, math.nan, 1.0])


def test_waiting_at_the_end_is_covered():
    log = round_log([round_row(), round_row(round=1, worker=2, version=2), round_row(round=2, worker=1, version=3)])
    log.finish([0, 2])
    frame = log.frame()
    assert frame["waited_to_end"].tolist() == [1, 1, 0]
    table = worker_table(frame, workers=3, simulated_s=100.0)
    assert table["covered_s"].tolist() == [100.0, 20.0, 100.0]
    np.testing.assert_allclose(table["wait"] * table["covered_s"], [85.0, 5.0, 85.0])
    assert summarize_rounds(frame, 3, 100.0)["utilization"] == 30.0 / 220.0


def test_only_the_last_round_of_a_worker_waits_at_the_end():
    log = round_log([round_row(), round_row(round=1, ready_s=16.0, arrival_s=30.0, update_s=30.0)])
    log.finish([0])
    assert log.frame()["waited_to_end"].tolist() == [0, 1]


def test_a_worker_that_goes_on_is_at_work_while_its_offers_overtake_each_other():
    first = {"ready_s": 0.0, "pull_start_s": 1.0, "compute_start_s": 3.0, "push_start_s": 13.0, "arrival_s": 30.0}
    second = {"ready_s": 13.0, "pull_start_s": 13.0, "compute_start_s": 13.0, "push_start_s": 27.0, "arrival_s": 28.0}
    rows = [
        round_row(round=1, update_s=28.0, goes_on=1, blocked_s=4.0, **second),
        round_row(round=0, update_s=30.0, version=2, goes_on=1, **first),
    ]
    log = round_log(rows)
    log.finish([0])
    [worker] = worker_table(log.frame(), workers=1, simulated_s=100.0).to_dict("records")
    assert worker["covered_s"] == 27.0  # whatever becomes of it later is in no round
    # wait 1 and 4, pull 2, compute 10 and 14 - 4; no push, which is in the background
    assert [27.0 * worker[name] for name in ("wait", "pull", "compute", "push", "lost")] == pytest.approx(
        [5.0, 2.0, 20.0, 0.0, 0.0]
    )
    assert summarize_rounds(log.frame(), 1, 100.0)["utilization"] == pytest.approx(20.0 / 27.0)


def test_summary_by_hand():
    rows = [round_row(), round_row(round=1, worker=2, version=2, staleness=3, update_s=40.0)]
    summary = summarize_rounds(round_log(rows).frame(), workers=3, simulated_s=100.0)
    assert summary == {
        "workers": 3,
        "simulated_seconds": 100.0,
        "local_steps": 10,
        "server_updates": 2,
        "mean_staleness": 1.5,
        "max_staleness": 3,
        "utilization": 20.0 / 60.0,
        "bytes_sent": 300,
    }


def test_utilization_of_a_barrier_without_transfers_is_mean_over_slowest():
    summary = build_record(barrier=True, transfer_s=0.0).summary
    assert summary["utilization"] == pytest.approx(np.mean(STEP_S) / max(STEP_S))
    assert summary["max_staleness"] == 0


def test_asynchronous_workers_without_transfers_are_never_idle():
    record = build_record(transfer_s=0.0)
    assert record.summary["utilization"] == pytest.approx(1.0)
    assert record.summary["max_staleness"] > 5


FINE = {
    "final_loss": 2.0,
    "local_steps": 100,
    "simulated_seconds": 50.0,
    "dropped_steps": 0,
    "non_finite": 0,
    "goodput": 2.0,
}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"final_loss": None}, "its last loss is not finite"),
        ({"final_loss": float("inf")}, "its last loss is not finite"),
        ({"non_finite": 2, "goodput": 1.02}, None),
        ({"non_finite": 5, "goodput": 1.0}, "5 rounds were not finite, 50% of its local steps: it diverged"),
        ({"non_finite": 9, "goodput": 0.0}, "9 rounds were not finite, 100% of its local steps: it diverged"),
        ({"non_finite": 1, "goodput": 0.4, "dropped_steps": 60}, None),  # 20 of them, as the method has it
        ({"dropped_steps": 90, "goodput": 0.2}, None),
        ({"dropped_steps": 100, "goodput": 0.0}, "all of its rounds were dropped"),
        ({"local_steps": 0, "goodput": 0.0}, None),
        ({"goodput": None}, None),
    ],
    ids=str,
)
def test_a_run_that_has_diverged_or_learned_nothing_says_nothing_of_its_settings(changes, reason):
    assert failure(FINE | changes) == reason
    old = {key: value for key, value in FINE.items() if key in ("final_loss", "local_steps", "simulated_seconds")}
    assert failure(old) is None


def test_no_rounds():
    summary = summarize_rounds(round_log([]).frame(), workers=2, simulated_s=10.0)
    assert summary["utilization"] is None
    assert summary["mean_staleness"] is None
    assert summary["max_staleness"] is None
    assert summary["server_updates"] == summary["local_steps"] == summary["bytes_sent"] == 0


@settings(max_examples=30)
@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=6), st.floats(0, 5), st.booleans(), st.booleans())
def test_shares_add_up_to_one(step_s, transfer_s, barrier, dynamic):
    record = build_record(
        step_s=step_s, transfer_s=transfer_s, barrier=barrier, dynamic=dynamic and not barrier, local_steps=600
    )
    table = worker_table(record.rounds, len(step_s), record.summary["simulated_seconds"])
    shares = table.loc[table["rounds"] > 0, ["pull", "compute", "push", "wait", "lost"]]
    assert len(shares) > 0
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    assert (shares.to_numpy() > -1e-9).all()


@pytest.mark.parametrize(
    ("workers", "simulated_s", "message"),
    [
        (0, 100.0, "workers is 0, but a cluster has at least 1"),
        (1, 100.0, "column 'worker' holds 1, but 1 workers have the ids 0 to 0"),
        (2, 19.0, r"round 4 was processed at 20.0 s, after the end of the simulation at 19.0 s"),
    ],
)
def test_impossible_tables_are_refused(workers, simulated_s, message):
    rounds = round_log([round_row(round=4, worker=1)]).frame()
    with pytest.raises(RecordError, match=message):
        worker_table(rounds, workers, simulated_s)
    with pytest.raises(RecordError, match=message):
        summarize_rounds(rounds, workers, simulated_s)
