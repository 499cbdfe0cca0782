import io
import math
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from simulator.report import ReportError, baseline_of, perplexity_curves, target_rich_table, time_to_target
from tests.record.builders import build_record


def _record(perplexities, variant="a", *, seed=0, factor=1.0, **changes):
    """Evaluations at 0, 100, 200 ... seconds times the factor, and 10, 20 ... local steps."""
    record = build_record(variant, seed=seed, local_steps=400, **changes)
    count = np.arange(len(perplexities))
    evaluations = record.evaluations.iloc[[0] * len(perplexities)].assign(
        simulated_s=100.0 * factor * count,
        local_steps=10 * count,
        tokens=1000 * count,
        bytes_sent=10**6 * count,
        perplexity=perplexities,
        loss=np.log(perplexities),
    )
    return replace(record, evaluations=evaluations.reset_index(drop=True))


def _row(records, target, **changes):
    (row,) = time_to_target(records, target, **changes).to_dict("records")
    return row


def test_between_evaluations_the_loss_is_a_line():
    record = _record([16.0, 8.0, 2.0])
    row = _row([record], 4.0)  # halfway from 8 to 2 in the loss
    assert row["simulated_s"] == pytest.approx(150.0)
    assert row["local_steps"] == pytest.approx(15.0)
    assert row["tokens"] == pytest.approx(1500.0)
    assert row["bytes_sent"] == pytest.approx(1.5e6)
    assert (row["target"], row["runs"], row["reached"], row["simulated_s_ratio"]) == (4.0, 1, 1, 1.0)
    assert "money" not in row


@pytest.mark.parametrize(
    ("perplexities", "target", "seconds"),
    [
        ([16.0, 8.0, 2.0], 8.0, 100.0),  # exactly at an evaluation
        ([16.0, 8.0, 2.0], 16.0, 0.0),  # at the start
        ([16.0, 8.0, 2.0], 1.9, math.nan),
        ([16.0, 4.0, 16.0, 2.0], 8.0, 50.0),  # the first time counts
        ([16.0, math.nan, 2.0], 4.0, math.nan),  # as a curve, it ends where it is no number
        ([math.inf, 2.0], 4.0, math.nan),
    ],
)
def test_the_first_time_counts(perplexities, target, seconds):
    assert _row([_record(perplexities)], target)["simulated_s"] == pytest.approx(seconds, nan_ok=True)


def test_it_is_where_the_curve_crosses_the_line_of_the_target():
    record = build_record()
    figure = perplexity_curves([record], targets=[7.0])
    curve = next(line for line in figure.axes[0].lines if line.get_markevery() is not None)
    crossing = np.interp(-math.log(7.0), -np.log(curve.get_ydata()), curve.get_xdata())
    assert _row([record], 7.0)["simulated_s"] == pytest.approx(60 * crossing)


def test_seeds_are_a_mean_and_a_range_and_ratios_are_of_the_same_seed():
    sync = [_record([16.0, 4.0], "sync", seed=seed, factor=factor, barrier=True) for seed, factor in ((0, 1), (1, 2))]
    late = [_record([16.0, 4.0], "late", seed=seed, factor=factor) for seed, factor in ((1, 1), (0, 0.25))]
    table = time_to_target([*late, *sync], 8.0)
    late_row, sync_row = table.to_dict("records")
    assert list(table["group"]) == ["late", "sync"]
    spread = [sync_row[f"simulated_s{end}"] for end in ("", "_low", "_high")]
    assert spread == pytest.approx([75.0, 50.0, 100.0])
    assert sync_row["simulated_s_ratio"] == 1.0  # the synchronous variant is the baseline
    assert late_row["simulated_s_ratio"] == pytest.approx((50 / 100 + 12.5 / 50) / 2)
    assert late_row["local_steps_ratio"] == 1.0
    other = time_to_target([*late, *sync], 8.0, baseline="late").set_index("group")
    assert other.loc["sync", "simulated_s_ratio"] == pytest.approx((100 / 50 + 50 / 12.5) / 2)


def test_a_mean_needs_all_runs():
    records = [_record([16.0, 4.0], seed=0), _record([16.0, 10.0], seed=1)]
    row = _row(records, 8.0)
    assert (row["runs"], row["reached"]) == (2, 1)
    assert math.isnan(row["simulated_s"])
    assert row["simulated_s_low"] == row["simulated_s_high"] == pytest.approx(50.0)
    assert math.isnan(row["simulated_s_ratio"])
    each = time_to_target(records, 8.0, each=True)
    assert list(each["seed"]) == [0, 1]
    assert list(each["reached"]) == [1, 0]
    assert list(each["group"]) == ["a, seed=0", "a, seed=1"]


def test_several_targets_and_keys():
    records = [_record([16.0, 4.0], v, overrides={"inner.local_steps": h}) for v in "ab" for h in (50, 100)]
    table = time_to_target(records, [8.0, 5.0])
    assert list(zip(table["target"], table["variant"], table["inner.local_steps"], strict=True)) == [
        (target, variant, steps) for target in (8.0, 5.0) for variant in "ab" for steps in (50, 100)
    ]
    pooled = time_to_target(records, 8.0, by=["variant"])
    assert list(pooled["runs"]) == [2, 2]
    assert list(pooled["simulated_s_ratio"]) == [1.0, 1.0]


def test_money_is_a_column_where_there_are_prices():
    record = _record([16.0, 4.0])
    priced = replace(record, experiment=record.experiment | {"cluster": {"devices": {"price_per_hour": 9.0}}})
    assert _row([priced], 8.0)["money"] == pytest.approx(50 * 4 * 9 / 3600)
    free = _record([16.0, 4.0], "b")
    table = time_to_target([priced, free], 8.0)
    np.testing.assert_allclose(table["money"], [0.5, math.nan])


def test_what_cannot_be_is_refused():
    record = _record([16.0, 4.0])
    for target in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ReportError, match=r"target is .*, but a perplexity to reach is a number above 0"):
            time_to_target([record], target)
    with pytest.raises(ReportError, match="a: a run of it trained nothing"):
        time_to_target([build_record("a", trainer="null")], 4.0)
    with pytest.raises(ReportError, match="baseline 'c' is not among the variants 'a'"):
        time_to_target([record], 4.0, baseline="c")
    assert baseline_of([build_record("x"), build_record("y")]) == "x"


def test_the_table_for_the_terminal_by_hand():
    records = [_record([16.0, 4.0], "sync", seed=seed, factor=1 + seed, barrier=True) for seed in (0, 1)]
    records += [_record([16.0, 4.0], "some", seed=0), _record([16.0, 9.0], "some", seed=1), _record([16.0], "never")]
    table = target_rich_table(time_to_target(records, 8.0), currency="USD")
    cells = [[getattr(cell, "plain", cell) for cell in column.cells] for column in table.columns]
    assert cells[0] == ["sync\nn = 2", "some\nn = 2", "never"]
    assert cells[1] == ["8.000"] * 3
    times = "\u00d7"
    assert cells[2] == [f"75 s\n± 25 s\n1.00{times}", "50 s\n1 of 2", "never"]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table)
    assert "…" not in console.export_text()
