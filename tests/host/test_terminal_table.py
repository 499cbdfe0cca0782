"""Tables at every width: no number and no unit is ever cut, and nothing is lost."""

import io
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from simulator.cli.catalogue import accelerators_table, presets_table, profiles_table
from simulator.host.terminal_table import TerminalTable
from simulator.report import (
    comparison,
    comparison_table,
    losses_table,
    results_table,
    target_rich_table,
    time_to_target,
    worker_rich_table,
)
from simulator.sweep.estimate import PointCost, SweepCost, estimate_table
from simulator.sweep.plan import PlannedRun
from simulator.sweep.status import PointStatus, status_table
from tests.record.builders import build_record

PRICES = {"cluster": {"devices": {"price_per_hour": 12.5}, "currency": "EUR"}}
LOST = {
    "lost_rounds": 1234,
    "lost_steps": 56_789,
    "dropped_steps": 12,
    "goodput": 12.3,
    "lost_bytes": 10**9,
    "non_finite": 3,
}


def _runs():
    found = []
    for variant in ("sync DiLoCo", "delayed Nesterov + DyLU"):
        for seed in (0, 1):
            overrides = {"seed": seed, "cluster.devices.profile": "very", "inner.learning_rate": 0.00125}
            record = build_record(variant, seed=seed, barrier=variant[0] == "s", overrides=overrides)
            lost = record.summary | LOST | {"tokens_per_host_second": 817.25 * (1 + seed)}
            found.append(replace(record, experiment=record.experiment | PRICES, summary=lost))
    return found


RUNS = _runs()
REFERENCE = {
    "source": "a table",
    "metric": "final_perplexity",
    "baseline": "sync DiLoCo",
    "results": [{"at": {}, "values": {"sync DiLoCo": 41.35}}],
}
POINTS = [PlannedRun(index, f"sync, inner.learning_rate={rate}", "", {}, {}) for index, rate in enumerate((0.1, 0.25))]
TABLES = {
    "results": lambda: results_table(RUNS, title="a title, longer than some of the widths at which it is shown"),
    "losses": lambda: losses_table(RUNS),
    "workers": lambda: worker_rich_table(RUNS[0]),
    "targets": lambda: target_rich_table(time_to_target(RUNS, [7.0, 6.5]), currency="EUR"),
    "comparison": lambda: comparison_table(comparison(RUNS, REFERENCE), REFERENCE),
    "status": lambda: status_table([PointStatus(p.label, "finished", "perplexity 1,234.5678") for p in POINTS]),
    "estimate": lambda: estimate_table(
        SweepCost(
            [PointCost(p, "a part of 17", 1_234_567, 10**10, 9876.5, 0.0, 3.21e9, 1e15) for p in POINTS], 1e12, ""
        )
    ),
    "profiles": profiles_table,
    "accelerators": accelerators_table,
    "presets": presets_table,
}


def _shown(table, width):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def _texts(table):
    """The lines of all cells, of columns of numbers and of words."""
    numbers, words = [], []
    for column in table.columns:
        cells = [cell.plain if isinstance(cell, Text) else str(cell) for cell in (column.header, *column.cells)]
        lines = [line for cell in cells for line in cell.split("\n") if line]
        (numbers if column.no_wrap else words).extend(lines)
    return numbers, words


@pytest.mark.parametrize("name", TABLES)
def test_every_table_is_whole_at_every_width(name):
    table = TABLES[name]()
    numbers, words = _texts(table)
    assert numbers + words
    for width in (*range(40, 100), 150, 300):
        text = _shown(table, width)
        lines = text.splitlines()
        assert max(map(len, lines)) <= width
        assert "…" not in text
        assert [line for line in numbers if not any(re.search(rf"(^| ){re.escape(line)}( |$)", x) for x in lines)] == []
        joined = "".join(text.split())
        for piece in re.findall(r"(?:[^\s=_/.]|\.(?![A-Za-z]))+", " ".join(words)):  # where words may be broken
            assert piece in text or piece.replace(" ", "") in joined


def test_where_there_is_room_it_is_one_table_and_else_its_names_stand_in_all_parts():
    table = TABLES["results"]()
    wide, narrow = _shown(table, 150), _shown(table, 60)
    assert wide.count("sync DiLoCo") == 1
    assert narrow.count("sync DiLoCo") == narrow.count("variant") == 2
    assert narrow.count("a title") == narrow.count("relative to the baseline") == 1
    assert "learning_rate=0.00125" in narrow


def test_words_are_folded_where_it_reads_best():
    table = TerminalTable("title", None)
    table.add_words("point")
    table.add_numbers("number")
    table.add_row(Text("delayed, learning_rate=0.001, x.yy.zzzzzz=1.5, aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), "1" * 20)
    lines = [line[:13].strip() for line in _shown(table, 34).splitlines()[3:]]
    assert lines[:6] == ["delayed,", "learning_", "rate=0.001,", "x.yy.zzzzzz=", "1.5,", "a" * 13]


CELLS = st.lists(st.text("0123456789.% kB", min_size=1, max_size=14).filter(str.strip), min_size=3, max_size=3)


@given(st.lists(CELLS, min_size=1, max_size=4), st.integers(40, 120), st.integers(1, 2))
def test_any_numbers_are_whole(rows, width, keys):
    table = TerminalTable(keys=keys)
    for number in range(keys):
        table.add_words(f"name {number}")
    for number in range(3 - keys + 1):
        table.add_numbers(f"n{number}")
    for cells in rows:
        table.add_row(
            *(Text("a name of many words " * 3) for _ in range(keys)), *(Text(c.strip()) for c in cells[keys - 1 :])
        )
    lines = _shown(table, width).splitlines()
    assert max(map(len, lines)) <= width
    for cells in rows:
        for cell in cells[keys - 1 :]:
            assert any(cell.strip() in line for line in lines)
