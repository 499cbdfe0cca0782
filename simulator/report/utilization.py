"""Shares of the workers' time: computing, transfers, waiting, absence and rounds that never arrived."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from simulator.record import RunRecord
from simulator.record.absences import absences
from simulator.report.given import Records
from simulator.report.group_keys import ReportError
from simulator.report.grouping import Group, group_records, with_keys
from simulator.report.intervals import SPANS
from simulator.report.style import (
    PHASES,
    SINGLE_COLUMN_IN,
    WIDE_IN,
    arrange_legend,
    draw_legend,
    phase_patch,
    rows_figure,
    styled,
    wrapped_title,
)
from simulator.report.worker_bins import ALL, MOST_IN_FULL, MOST_ROWS, Slots, slots_of


def utilization(
    records: Records, *, by: Sequence[str] | None = None, size: tuple[float, float] | None = None
) -> Figure:
    """Returns the shares of the workers' time, stacked to 100 %: `utilization_table` drawn.

    Up to twelve groups have a panel each, with a bar for each worker, or tenth of them, and one for all. More groups
    have one bar each, for all of their workers.

    Args:
        records: Runs in which at least one round arrived, one or several.
        by: Dotted keys that tell groups apart, see `group_records`.
        size: Width and height in inches.

    Raises:
        ReportError: If there is no record, no round arrived in one, a key is unknown, or there are more than 100
            groups.
    """
    groups = group_records(records, by)
    if len(groups) > MOST_ROWS:
        raise ReportError(f"{len(groups)} groups in one figure, of which at most {MOST_ROWS} fit: choose fewer runs")
    table, slots = _table(groups)
    shown = [name for name in PHASES if (table[name] > 0).any()]
    with styled(group.label for group in groups):
        if len(groups) > MOST_IN_FULL:
            figure = _one_bar_each(table[table["place"] == ALL], shown, size)
        else:
            figure = _panels(table, groups, slots, shown, size)
        handles = [phase_patch(name) for name in shown]
        draw_legend(figure, handles, arrange_legend(shown, "", figure.get_figwidth()))
    return figure


def utilization_table(records: Records, *, by: Sequence[str] | None = None) -> pd.DataFrame:
    """Returns the shares of the workers' time, which `utilization` draws.

    A worker's time is the part that the record covers, see `worker_table`: later time, in which a round was on its way
    when the run ended, is in no share. The times of all runs of a group are added up. Where a run has more than 12
    workers, or runs have different numbers of them, workers are ordered by their measured seconds per local step and
    taken together in tenths.

    Args:
        records: Runs in which at least one round arrived, one or several.
        by: Dotted keys that tell groups apart, see `group_records`.

    Returns:
        One row per group and worker, or tenth, from which a round arrived, and one for all. Columns group; the groups'
        keys; place (a worker's id, "tenth 1", the fastest, to "tenth 10", or "all"); the shares compute, pull, push,
        wait, absent (crashed, preempted, gone or not yet there) and lost (at rounds that never arrived), which add up
        to 1; and covered_s, the time that they are shares of, seconds. The share compute of all is a run's utilization.

    Raises:
        ReportError: If there is no record, no round arrived in one, or a key is unknown.
    """
    groups = group_records(records, by)
    return with_keys(_table(groups)[0], groups)


def _table(groups: Sequence[Group]) -> tuple[pd.DataFrame, Slots]:
    for group in groups:
        if any(record.rounds.empty for record in group.records):
            raise ReportError(f"{group.label}: no round arrived in a run of it, so nothing was used. Leave it out")
    slots = slots_of(groups)
    tables = []
    for group in groups:
        spent = pd.concat([_spent(record, slots) for record in group.records])
        spent = spent[spent["covered_s"] > 0]
        times = spent.groupby("place").sum()
        times.loc[len(slots.names)] = times.sum()
        shares = times[list(PHASES)].div(times["covered_s"], axis=0)
        shares.insert(0, "group", group.label)
        shares.insert(1, "place", [[*slots.names, ALL][int(place)] for place in times.index])
        tables.append(shares.assign(covered_s=times["covered_s"]))
    return pd.concat(tables, ignore_index=True), slots


def _spent(record: RunRecord, slots: Slots) -> pd.DataFrame:
    """Returns the seconds that each worker spent on each purpose, with its place."""
    table = slots.tables[id(record)]
    absent = _absent_s(record, table["covered_s"].to_numpy(float))
    spent = table[list(absent.columns)].mul(table["covered_s"], axis=0)
    spent = (spent - absent).clip(lower=0.0)
    return spent.assign(absent=absent.sum(axis=1), covered_s=table["covered_s"], place=slots.of_workers[id(record)])


def _absent_s(record: RunRecord, covered_s: np.ndarray) -> pd.DataFrame:
    """Returns the seconds of each of its phases in which a worker was absent: one row per worker.

    A worker that crashes before it has sent what it has finished is absent while its push takes longer.
    """
    place = {name: number for number, name in enumerate([*SPANS, "lost"])}
    absent_s = np.zeros((len(place), len(covered_s)))
    away = absences(record.faults, float(record.summary["simulated_seconds"]))
    for worker, own in away.groupby("worker"):
        rounds = record.rounds[record.rounds["worker"] == worker]
        if rounds.empty:
            continue
        times_s = own[["first_s", "last_s"]].to_numpy(float).ravel()
        by_then_s = np.append(0.0, np.cumsum(np.diff(times_s)[::2])).repeat(2)[1:-1]
        spans = {name: (rounds[first], rounds[last]) for name, (first, last) in SPANS.items()}
        spans["lost"] = (rounds["arrival_s"].shift(fill_value=0.0), rounds["ready_s"])
        for name, (first_s, last_s) in spans.items():
            within_s = np.interp(last_s, times_s, by_then_s) - np.interp(first_s, times_s, by_then_s)
            absent_s[place[name], int(str(worker))] = float(within_s.sum())
        tail_s = (float(rounds["arrival_s"].iloc[-1]), float(covered_s[int(str(worker))]))
        absent_s[place["wait"], int(str(worker))] += float(np.diff(np.interp(tail_s, times_s, by_then_s))[0])
    return pd.DataFrame(absent_s.T, columns=list(place))


def _panels(
    table: pd.DataFrame,
    groups: Sequence[Group],
    slots: Slots,
    shown: Sequence[str],
    size: tuple[float, float] | None,
) -> Figure:
    columns = 1 if len(groups) == 1 else 2
    rows = math.ceil(len(groups) / columns)
    figure = Figure(figsize=size or (SINGLE_COLUMN_IN if columns == 1 else 2 * WIDE_IN / 1.6, 0.6 + 1.75 * rows))
    figure.set_layout_engine("constrained")
    FigureCanvasAgg(figure)
    places = [*slots.names, ALL]
    for number, group in enumerate(groups, start=1):
        axes = figure.add_subplot(rows, columns, number)
        own = table[table["group"] == group.label]
        x = np.array([places.index(place) for place in own["place"]], float)
        x[x == len(places) - 1] += 0.4  # apart from the others
        _stack(axes, x, own, shown, upright=True)
        axes.set_xticks([*range(len(slots.names)), len(slots.names) + 0.4], [*slots.short_labels, ALL])
        axes.set_xlim(-0.6, len(slots.names) + 1.0)
        axes.tick_params(axis="x", length=0)
        if len(groups) > 1:
            axes.set_title(wrapped_title(figure, group.label), fontsize=8)
        if number > len(groups) - columns:
            axes.set_xlabel(slots.short_axis_label)
        if (number - 1) % columns == 0:
            axes.set_ylabel("share of the time")
    return figure


def _one_bar_each(table: pd.DataFrame, shown: Sequence[str], size: tuple[float, float] | None) -> Figure:
    figure, axes = rows_figure(list(table["group"]), size)
    _stack(axes, np.arange(len(table), dtype=float), table, shown, upright=False)
    axes.set_xlabel("share of all workers' time")
    return figure


def _stack(axes: Axes, place: np.ndarray, table: pd.DataFrame, shown: Sequence[str], *, upright: bool) -> None:
    """Draws a bar of shares, one on top of the other, at each place."""
    draw = axes.bar if upright else axes.barh
    before = np.zeros(len(table))
    for name in shown:
        color, edge, hatch = PHASES[name]
        look: dict[str, Any] = {"color": color, "hatch": hatch, "edgecolor": edge, "linewidth": 0.4, "label": name}
        look["bottom" if upright else "left"] = before
        draw(place, table[name].to_numpy(float), 0.8, **look)
        before = before + table[name].to_numpy(float)
    axis = axes.yaxis if upright else axes.xaxis
    axis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    (axes.set_ylim if upright else axes.set_xlim)(0, 1)
