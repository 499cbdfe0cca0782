import math

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from simulator.record import RunRecord, worker_table
from simulator.report import ReportError, timeline
from simulator.report.spans import SPANS
from simulator.report.worker_bins import sample_workers
from tests.record.builders import build_record, round_log, round_row


def _bars(figure, phase, size):
    """The bars of a phase as (row, first, last), times in seconds."""
    (collection,) = [c for c in figure.axes[0].collections if c.get_label() == phase]
    corners = [path.vertices[:4] for path in collection.get_paths()]
    return sorted((float(c[:, 1].mean().round(6)), c[:, 0].min() * size, c[:, 0].max() * size) for c in corners)


def _updates(figure):
    (lines,) = [c for c in figure.axes[0].collections if c.get_label() == "updates"]
    assert isinstance(lines, LineCollection)
    return [segment[0, 0] for segment in lines.get_segments()]


def _record(rows, workers, simulated_s, **changes):
    record = build_record(**changes)
    summary = record.summary | {"workers": workers, "simulated_seconds": simulated_s}
    return RunRecord(
        experiment=record.experiment, summary=summary, rounds=round_log(rows).frame(), evaluations=record.evaluations
    )


@pytest.mark.parametrize(("variant", "unit_s"), [({"barrier": True}, 60.0), ({"dynamic": True}, 60.0)])
def test_bars_are_the_intervals_of_the_rounds(variant, unit_s):
    record = build_record(**variant)
    end_s = record.summary["simulated_seconds"]
    figure = timeline(record, first_s=0.0, last_s=end_s)
    for phase, (first, last) in SPANS.items():
        rounds = record.rounds[record.rounds[last] > record.rounds[first]]
        expected = list(zip(rounds["worker"].astype(float), rounds[first], rounds[last], strict=True))
        if phase == "wait":
            tails = record.rounds.drop_duplicates("worker", keep="last")
            expected += [
                (float(worker), arrival_s, update_s)
                for worker, arrival_s, update_s in zip(
                    tails["worker"], tails["arrival_s"], tails["update_s"], strict=True
                )
                if update_s > arrival_s
            ]
        drawn = _bars(figure, phase, unit_s)
        assert len(drawn) == len(expected)
        if expected:
            np.testing.assert_allclose(drawn, sorted(expected), atol=1e-6)
    assert len(_bars(figure, "compute", unit_s)) == len(record.rounds)
    assert len(_updates(figure)) == record.summary["server_updates"]
    assert (len(_bars(figure, "wait", unit_s)) > 0) == ("barrier" in variant)


def test_by_hand():
    second = round_row(round=1, worker=1, version=2, outcome="dropped", update_s=18.0)
    third = round_row(round=2, worker=1, version=1, outcome="buffered", ready_s=16.0, pull_start_s=20.0, update_s=90.0)
    third |= {"compute_start_s": 21.0, "push_start_s": 31.0, "arrival_s": 32.0}
    figure = timeline(_record([round_row(), second, third], workers=3, simulated_s=100.0), last_s=30.0)
    assert _bars(figure, "pull", 1.0) == [(0, 1, 3), (1, 1, 3), (1, 20, 21)]
    assert _bars(figure, "compute", 1.0) == [(0, 3, 13), (1, 3, 13), (1, 21, 31)]
    assert _bars(figure, "push", 1.0) == [(0, 13, 16), (1, 13, 16)]
    assert _bars(figure, "wait", 1.0) == [(0, 0, 1), (0, 16, 20), (1, 0, 1), (1, 16, 20)]
    assert _updates(figure) == [20.0]  # neither the dropped nor the buffered round made one
    axes = figure.axes[0]
    assert axes.get_xlim() == (0.0, 30.0)
    assert axes.get_xlabel() == "simulated time (s)"
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "worker 0, 2 s/step",
        "worker 1, 2 s/step",
        "worker 2",
        "server updates",
    ]
    assert axes.get_title() == "first 30 s of 1 min 40 s\nblank: a round that never arrived"


def test_phases_differ_without_colour():
    figure = timeline(build_record())
    hatches = {collection.get_hatch() for collection in figure.axes[0].collections if collection.get_label() in SPANS}
    assert len(hatches) == len(SPANS) == 4
    handles = figure.legends[0].get_patches()
    assert {handle.get_hatch() for handle in handles} == hatches
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(SPANS)


def test_default_excerpt_is_three_rounds_of_the_slowest_worker():
    record = build_record("delayed Nesterov", transfer_s=1.0)
    figure = timeline(record)
    assert figure.axes[0].get_xlim()[1] * 60 == pytest.approx(3 * (50 * 3.33 + 2))
    assert figure.get_suptitle() == "delayed Nesterov"
    assert figure.axes[0].get_title() == "first 8 min 26 s of 17 min 46 s"


def test_default_excerpt_keeps_the_fastest_worker_readable():
    record = build_record(step_s=[0.1, 50.0], transfer_s=0.0, local_steps=100_000)
    assert timeline(record).axes[0].get_xlim()[1] * 60 == pytest.approx(40 * 5.0)


def test_excerpt_by_hand_ends_with_the_run():
    record = build_record()
    axes = timeline(record, first_s=120.0, last_s=240.0).axes[0]
    assert axes.get_xlim() == (2.0, 4.0)
    assert axes.get_title().startswith("2 min to 4 min of ")
    whole = timeline(record, last_s=math.inf).axes[0]
    assert whole.get_xlim()[1] * 60 == pytest.approx(record.summary["simulated_seconds"])
    assert whole.get_title().startswith("the whole run, ")


def test_many_workers_are_sampled_and_the_figure_says_so():
    step_s = np.random.default_rng(1).permutation(np.linspace(0.5, 2, 31)).tolist()
    record = build_record(step_s=step_s, local_steps=10_000)
    axes = timeline(record, max_workers=4).axes[0]
    shown = [text.get_text() for text in axes.get_yticklabels()]
    by_speed = np.argsort(step_s)
    assert [int(text.split(",")[0].removeprefix("worker ")) for text in shown[:-1]] == by_speed[
        [0, 10, 20, 30]
    ].tolist()
    assert "4 of 31 workers, evenly spaced from fastest to slowest" in axes.get_title()
    compute = next(c for c in axes.collections if c.get_label() == "compute")
    assert {round(float(path.vertices[:4, 1].mean())) for path in compute.get_paths()} == {0, 1, 2, 3}


def test_workers_are_all_shown_in_order_where_they_fit():
    record = build_record()
    table = worker_table(record.rounds, 4, record.summary["simulated_seconds"])
    assert sample_workers(table.sample(frac=1, random_state=0).sort_values("worker"), 4) == [0, 1, 2, 3]
    assert sample_workers(table, 1) == [0]


def test_update_lines_only_where_few():
    few = {c.get_label() for c in timeline(build_record()).axes[0].collections}
    assert "update lines" in few
    many = timeline(build_record(step_s=[0.2] * 8, local_steps=10_000, transfer_s=0.1), last_s=200.0)
    assert len(_updates(many)) > 60
    assert "update lines" not in {c.get_label() for c in many.axes[0].collections}


def test_updates_are_thinned_where_they_are_more_than_the_figure_shows():
    rows = [round_row(round=i, version=i + 1, update_s=20.0 + 0.01 * i) for i in range(5000)]
    times = np.array(_updates(timeline(_record(rows, workers=1, simulated_s=100.0), first_s=0.0, last_s=100.0)))
    assert 495 <= len(times) <= 501  # updates lie in 20 s to 70 s; a mark for each 0.1 s
    assert times.min() == 20.0
    assert np.diff(times).max() < 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"first_s": 50.0, "last_s": 50.0}, r"the excerpt from 50.0 s to 50.0 s is empty; the run lasts 1\d+"),
        ({"first_s": 1e9}, "the excerpt from 1000000000.0 s to .* is empty"),
        ({"max_workers": 0}, "max_workers is 0, but at least 1"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ReportError, match=message):
        timeline(build_record(), **arguments)


def test_a_run_without_rounds_is_refused():
    with pytest.raises(ReportError, match="async Nesterov: no round arrived"):
        timeline(_record([], workers=1, simulated_s=1.0))
