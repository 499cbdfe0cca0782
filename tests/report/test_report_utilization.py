from dataclasses import replace

import numpy as np
import pytest

from simulator.record import RunRecord
from simulator.report import ReportError, utilization, utilization_table
from tests.record.builders import build_record, fault_log, like, round_log, round_row

SHARES = ["compute", "pull", "push", "wait", "absent", "lost"]
BASE = build_record("a", local_steps=400)


def _bars(axes):
    """The height of each bar of a panel, by what it shows."""
    heights = {}
    for container in axes.containers:
        heights[container.get_label()] = [bar.get_height() for bar in container]
    return heights


def test_shares_by_hand():
    # worker 0: wait 1, pull 2, compute 10, push 3, wait 4; then away from 30 to 40 and at a lost round until 50
    again = {"ready_s": 50.0, "pull_start_s": 50.0, "compute_start_s": 52.0, "push_start_s": 72.0, "arrival_s": 80.0}
    rows = [round_row(), round_row(round=1, update_s=80.0, version=2, **again)]
    rows += [round_row(round=2, worker=1, version=3, update_s=90.0, ready_s=0.0)]
    faults = [(30.0, 0, "lost"), (30.0, 0, "crash"), (40.0, 0, "return"), (95.0, 1, "departure")]
    summary = BASE.summary | {"workers": 3, "simulated_seconds": 100.0}
    record = RunRecord(BASE.experiment, summary, round_log(rows).frame(), BASE.evaluations, fault_log(faults).frame())
    table = utilization_table([record]).set_index("place")
    assert list(table.index) == ["0", "1", "all"]  # nothing arrived from worker 2
    # of 80 s: from 16 to 50 nothing arrived, of which 10 s absent; waits of 1 s before the first round
    np.testing.assert_allclose(table.loc["0", SHARES].to_numpy(float) * 80, [30, 4, 11, 1, 10, 24])
    np.testing.assert_allclose(table.loc["1", SHARES].to_numpy(float) * 90, [10, 2, 3, 75, 0, 0])
    np.testing.assert_allclose(table.loc["all", SHARES].to_numpy(float) * 170, [40, 6, 14, 76, 10, 24])
    assert list(table["covered_s"]) == [80.0, 90.0, 170.0]


@pytest.mark.parametrize("changes", [{"barrier": True}, {"dynamic": True}, {"step_s": list(np.linspace(0.5, 3, 40))}])
def test_shares_add_up_and_compute_is_the_utilization(changes):
    record = build_record(**changes)
    table = utilization_table([record])
    np.testing.assert_allclose(table[SHARES].sum(axis=1), 1.0)
    of_all = table.set_index("place").loc["all"]
    assert of_all["compute"] == pytest.approx(record.summary["utilization"])
    assert len(table) == (11 if "step_s" in changes else 5)


def test_each_group_has_a_panel_with_a_bar_for_each_worker_and_for_all():
    records = [build_record("sync", barrier=True), build_record("async")]
    figure = utilization(records)
    assert [axes.get_title() for axes in figure.axes] == ["sync", "async"]
    table = utilization_table(records)
    for axes, group in zip(figure.axes, ("sync", "async"), strict=True):
        own = table[table["group"] == group]
        for what, heights in _bars(axes).items():
            np.testing.assert_allclose(heights, own[what])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["compute", "pull", "push", "wait"]
    ticks = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert ticks == ["0\n0.58 s", "1\n0.75 s", "2\n1.51 s", "3\n3.33 s", "all"]


def test_many_groups_have_a_bar_each():
    records = [like(BASE, "a", overrides={"inner.local_steps": h}) for h in range(1, 21)]
    figure = utilization(records)
    (axes,) = figure.axes
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert (len(labels), labels[0]) == (20, "a, local_steps=1")
    with pytest.raises(ReportError, match="101 groups in one figure, of which at most 100 fit"):
        utilization([like(BASE, str(number)) for number in range(101)])


def test_without_rounds_nothing_was_used():
    with pytest.raises(ReportError, match="a: no round arrived in a run of it, so nothing was used"):
        utilization([replace(BASE, rounds=BASE.rounds[:0])])


def test_a_worker_that_crashes_while_it_sends_is_absent_and_not_sending():
    faults = [(14.0, 0, "crash"), (15.5, 0, "return"), (18.0, 0, "crash"), (30.0, 0, "return")]
    summary = BASE.summary | {"workers": 1, "simulated_seconds": 100.0}
    rounds, log = round_log([round_row()]).frame(), fault_log(faults).frame()
    row, _ = utilization_table([RunRecord(BASE.experiment, summary, rounds, BASE.evaluations, log)]).to_dict("records")
    # of 20 s: 1.5 of 3 s of the push, and 2 of 4 s of the wait until the server had processed it
    np.testing.assert_allclose([row[name] * 20 for name in SHARES], [10, 2, 1.5, 3, 3.5, 0], atol=1e-9)
