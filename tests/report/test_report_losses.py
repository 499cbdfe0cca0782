import io
import math
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import same_color
from rich.console import Console

from simulator.record import OF_FAULTS, RunRecord
from simulator.report import losses_table, results_table, results_tables, timeline
from simulator.report.spans import SPANS
from simulator.report.style import PHASES
from tests.record.builders import build_record, fault_log, round_log, round_row

BASE = build_record("a", local_steps=400)
HEADERS = "useful steps/s|work lost or dropped|steps lost|rounds lost|steps dropped|rounds not finite|data sent in vain"
NOTHING = dict.fromkeys(OF_FAULTS, 0) | {"goodput": 4.0}
SOME = {"lost_rounds": 12, "lost_steps": 1000, "dropped_steps": 500, "non_finite": 3}
SOME |= {"goodput": 2.345, "lost_bytes": 64_000_000}


def _older(variant="a", **changes):
    """A summary from before there were faults."""
    return BASE.summary | {"variant": variant, "local_steps": 4000} | changes


def _summary(variant="a", **changes):
    return _older(variant) | NOTHING | changes


def _cells(table):
    """The table's rows as plain text, one list of cells per row."""
    columns = [[getattr(cell, "plain", cell) for cell in column.cells] for column in table.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def _printed(*what, width=80):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(*what)
    return console.export_text()


# The table of losses.


def test_without_losses_there_is_no_table():
    assert losses_table([]) is None
    assert losses_table([_older(), _older("b")]) is None
    assert losses_table([_summary(), _older("b"), _summary("c", goodput=None)]) is None


@pytest.mark.parametrize("key", ["lost_rounds", "dropped_steps", "non_finite"])
def test_one_loss_of_one_run_is_enough_for_a_table(key):
    table = losses_table([_summary(), _summary("b", **{key: 1})])
    assert [row[0] for row in _cells(table)] == ["a", "b"]


def test_losses_by_hand():
    table = losses_table([_summary("sync"), _summary("async", **SOME)])
    assert [str(column.header).replace("\n", " ") for column in table.columns] == ["variant", *HEADERS.split("|")]
    assert str(table.title) == "what was lost"
    assert _cells(table) == [
        ["sync", "4", "0.0 %", "0", "0", "0", "0", "0 B"],
        ["async", "2.35", "30.0 %", "1 k", "12", "500", "3", "64 MB"],  # 1000 + 500 of 4000 + 1000 steps
    ]


def test_losses_of_seeds_are_means():
    first = _summary(seed=0, goodput=1.0, lost_steps=1000, lost_rounds=1, non_finite=1, lost_bytes=1000)
    second = _summary(seed=1, goodput=2.0, lost_rounds=4, dropped_steps=400, lost_bytes=2000)
    # shares: 1000 of 5000 and 400 of 4000
    expected = ["a\nn = 2", "1.5", "15.0 %", "500", "2.5", "200", "0.5", "1.5 kB"]
    assert _cells(losses_table([first, second])) == [expected]


def test_each_sweep_point_has_its_own_losses():
    summaries = [
        _summary(variant, seed=seed, overrides={"seed": seed, "faults.crashes.repair": repair}, lost_rounds=rounds)
        for repair, variant, seed, rounds in [
            ("1min", "async", 0, 2),
            ("1min", "async", 1, 4),
            ("1h", "async", 0, 5),
            ("1min", "sync", 0, 6),
        ]
    ]
    rows = _cells(losses_table(summaries))
    assert [(row[0], row[4]) for row in rows] == [
        ("async\nrepair=1min\nn = 2", "3"),
        ("sync\nrepair=1min", "6"),
        ("async\nrepair=1h", "5"),
    ]
    assert [row[0] for row in rows] == [row[0] for row in _cells(results_table(summaries))]


def test_older_summaries_have_empty_cells():
    rows = _cells(losses_table([_older("old"), _summary("new", lost_rounds=2)]))
    assert rows == [["old"] + [""] * 7, ["new", "4", "0.0 %", "0", "2", "0", "0", "0 B"]]


def test_older_seeds_are_in_no_mean():
    rows = _cells(losses_table([_older(seed=0), _summary(seed=1, **SOME), _older(seed=2)]))
    assert rows == [["a\nn = 3", "2.35", "30.0 %", "1 k", "12", "500", "3", "64 MB"]]


def test_results_are_shown_with_losses_only_where_there_are_some():
    without = _printed(results_tables([_summary(), _summary("b")], title="an experiment"))
    assert without == _printed(results_table([_summary(), _summary("b")], title="an experiment"))
    summaries = [_summary(), _summary("b", **SOME)]
    alone = _printed(results_table(summaries, title="an experiment"), "") + _printed(losses_table(summaries))
    assert _printed(results_tables(summaries, title="an experiment")) == alone


def test_markup_in_names_is_shown_as_it_is_and_losses_fit_80_columns():
    large = dict.fromkeys(SOME, 999_499_999) | {"goodput": 123_456.78, "lost_bytes": 123_400_000_000}
    summaries = [_summary("[red]delayed Nesterov[/red]", **large), _older(""), _summary("a very long name " * 9)]
    text = _printed(results_tables(summaries))
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    lines = text.partition("what was lost")[2].splitlines()
    assert "(unnamed)" in [line.strip() for line in lines]
    (row,) = [line for line in lines if "[red]" in line]
    assert " ".join(row.split()[1:]) == "123,457 200.0 % 999 M 999 M 999 M 999 M 123 GB"


# Losses in the timeline.


def _record(faults, step_s=(2.0, 2.0, 2.0), end_s=100.0):
    """Workers whose first round arrives soon, and these faults."""
    rounds = [
        round_row(round=w, worker=w, version=w + 1, push_start_s=3 + 5 * s, arrival_s=6 + 5 * s, update_s=10 + 5 * s)
        for w, s in enumerate(step_s)
    ]
    summary = BASE.summary | {"workers": len(step_s), "simulated_seconds": end_s}
    frame = round_log(rounds).frame()
    return RunRecord(BASE.experiment, summary, frame, BASE.evaluations, fault_log(faults).frame())


def _absent(figure, unit_s=1.0):
    """The bars of absences as (row, first, last), times in seconds."""
    paths = [p for c in figure.axes[0].collections if c.get_label() == "absent" for p in c.get_paths()]
    corners = [path.vertices[:4] * [unit_s, 1] for path in paths]
    return sorted((each[:, 1].mean().round(6), each[:, 0].min(), each[:, 0].max()) for each in corners)


def _lost(figure, unit_s=1.0):
    """The crosses of lost rounds as (row, time in seconds)."""
    drawn = [c for c in figure.axes[0].collections if isinstance(c, PathCollection)]
    return sorted((float(y), float(x) * unit_s) for c in drawn for x, y in c.get_offsets())


def _entries(figure):
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[:4] == list(SPANS)
    return texts[4:]


CRASHED = [(40.0, 0, "lost"), (40.0, 0, "crash"), (55.0, 0, "return")]
TAKEN = [(50.0, 1, "notice"), (60.0, 1, "lost"), (60.0, 1, "preemption"), (70.0, 1, "return"), (80.0, 1, "departure")]
JOINED = [(0.0, 2, "late"), (30.0, 2, "return"), (75.0, 2, "lost")]
ABSENCES = sorted(CRASHED + TAKEN + JOINED, key=lambda fault: fault[0])


def test_absences_are_bars_and_lost_rounds_crosses():
    figure = timeline(_record(ABSENCES), last_s=100.0)
    assert _absent(figure) == [(0, 40, 55), (1, 60, 70), (1, 80, 100), (2, 0, 30)]
    assert _lost(figure) == [(0, 40), (1, 60), (2, 75)]
    assert _entries(figure) == ["absent", "round lost"]


def test_losses_are_in_the_unit_of_the_axis():
    faults = [(1200.0, 1, "lost"), (1200.0, 1, "crash"), (3000.0, 1, "return")]
    figure = timeline(_record(faults, end_s=3600.0), last_s=math.inf)
    assert figure.axes[0].get_xlabel() == "simulated time (min)"
    assert _absent(figure, 60.0) == [(1, 1200, 3000)]
    assert _lost(figure, 60.0) == [(1, 1200)]


@pytest.mark.parametrize(
    ("faults", "entries"),
    [
        ([], []),
        ([(5.0, 0, "crash"), (6.0, 0, "return")], ["absent"]),
        ([(5.0, 0, "lost")], ["round lost"]),
        ([(5.0, 0, "crash"), (6.0, 0, "return"), (50.0, 0, "lost")], ["absent"]),
        ([(5.0, 1, "lost"), (50.0, 0, "departure")], ["round lost"]),
        ([(5.0, 0, kind) for kind in ("notice", "slow", "normal", "disconnect", "reconnect", "cut", "return")], []),
    ],
)
def test_the_legend_tells_only_of_what_is_there(faults, entries):
    figure = timeline(_record(faults), last_s=40.0)
    assert _entries(figure) == entries
    assert [bool(_absent(figure)), bool(_lost(figure))] == [name in entries for name in ("absent", "round lost")]


@pytest.mark.parametrize("returns", [[], [(90.0, 1, "return")], [(50.0, 1, "return")]])
def test_an_absence_that_goes_on_is_drawn_to_the_end_of_the_excerpt(returns):
    figure = timeline(_record([(20.0, 1, "preemption"), *returns]), first_s=10.0, last_s=50.0)
    assert _absent(figure) == [(1, 20, 50)]
    assert figure.axes[0].get_xlim() == (10.0, 50.0)


def test_only_what_lies_in_the_excerpt_is_drawn():
    before = [(5.0, 0, "lost"), (5.0, 0, "crash"), (25.0, 0, "return"), (40.0, 0, "crash"), (60.0, 0, "return")]
    after = [(70.0, 2, "lost"), (90.0, 1, "lost"), (90.0, 1, "departure")]
    figure = timeline(_record(before + after), first_s=30.0, last_s=80.0)
    assert _absent(figure) == [(0, 40, 60)]
    assert _lost(figure) == [(2, 70)]
    through = timeline(_record(before + after), first_s=10.0, last_s=20.0)
    assert _absent(through)[0][2] == 20.0
    assert _absent(through)[0][1] <= 10.0
    assert _lost(through) == []


def test_workers_that_are_not_shown_are_left_out():
    faults = [(20.0, worker, kind) for worker in range(3) for kind in ("lost", "crash")]
    figure = timeline(_record(faults, step_s=(1.0, 2.0, 4.0)), last_s=100.0, max_workers=2)
    assert [text.get_text()[:8] for text in figure.axes[0].get_yticklabels()][:2] == ["worker 0", "worker 2"]
    assert _absent(figure) == [(0, 20, 100), (1, 20, 100)]
    assert _lost(figure) == [(0, 20), (1, 20)]
    hidden = timeline(_record(faults[2:4], step_s=(1.0, 2.0, 4.0)), last_s=100.0, max_workers=2)
    assert (_absent(hidden), _lost(hidden), _entries(hidden)) == ([], [], [])


def test_faults_of_the_server_are_ignored():
    server = [(10.0, -1, kind) for kind in ("server down", "server up", "crash", "lost")]
    alone = timeline(_record(server), last_s=100.0)
    assert (_absent(alone), _lost(alone), _entries(alone)) == ([], [], [])
    figure = timeline(_record([*server, (20.0, 2, "crash"), (25.0, -1, "server up"), (30.0, 2, "return")]), last_s=50.0)
    assert _absent(figure) == [(2, 20, 30)]


def test_a_worker_from_which_nothing_ever_arrived_is_absent():
    record = _record([(0.0, 3, "late")])
    figure = timeline(replace(record, summary=record.summary | {"workers": 4}), last_s=60.0)
    assert _absent(figure) == [(3, 0, 60)]


def test_absences_look_unlike_any_phase():
    figure = timeline(_record(ABSENCES), last_s=100.0)
    absent, crosses = figure.legends[0].legend_handles[4:]
    (bars,) = [c for c in figure.axes[0].collections if c.get_label() == "absent"]
    assert bars.get_hatch() == absent.get_hatch()
    assert absent.get_hatch() not in {hatch for name, (_, _, hatch) in PHASES.items() if name != "absent"}
    assert same_color(bars.get_edgecolor()[0], absent.get_edgecolor())
    (drawn,) = [c for c in figure.axes[0].collections if isinstance(c, PathCollection)]
    np.testing.assert_array_equal(crosses.get_paths()[0].vertices, drawn.get_paths()[0].vertices)
    assert drawn.get_zorder() > bars.get_zorder()  # crosses are not hidden by what is drawn at the same time
