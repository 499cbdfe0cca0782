"""Shares of the workers' time: computing, transfers, waiting, absence and rounds that never arrived."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from simulator.record import RunRecord
from simulator.report.arguments import Records
from simulator.report.grouping import Group, group_records, with_keys
from simulator.report.spans import ABSENT, LOST, SPANS, spans_of
from simulator.report.style import (
    PHASES,
    SINGLE_COLUMN_IN,
    WIDE_IN,
    arrange_legend,
    draw_legend,
    new_figure,
    panels,
    phase_patch,
    rows_figure,
    styled,
    wrapped_title,
)
from simulator.report.worker_bins import ALL, MOST_IN_FULL, WorkerBins, refuse_many, worker_bins


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
    refuse_many(groups)
    table, bins = _table(groups)
    shown = [name for name in PHASES if (table[name] > 0).any()]
    with styled(group.label for group in groups):
        if len(groups) > MOST_IN_FULL:
            figure = _one_bar_each(table[table["place"] == ALL], shown, size)
        else:
            figure = _panels(table, groups, bins, shown, size)
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


def _table(groups: Sequence[Group]) -> tuple[pd.DataFrame, WorkerBins]:
    bins = worker_bins(groups, "nothing was used")
    tables = []
    for group in groups:
        times_s = pd.concat([_spent_s(record, bins) for record in group.records]).groupby("bin").sum()
        times_s.loc[len(bins.names)] = times_s.sum()
        covered_s = times_s.sum(axis=1)
        shares = times_s.div(covered_s, axis=0).assign(covered_s=covered_s)
        shares.insert(0, "group", group.label)
        shares.insert(1, "place", [[*bins.names, ALL][int(place)] for place in times_s.index])
        tables.append(shares)
    return pd.concat(tables, ignore_index=True), bins


def _spent_s(record: RunRecord, bins: WorkerBins) -> pd.DataFrame:
    """Returns the seconds that were spent on each of `PHASES`, one row per worker, indexed by its bin.

    A worker that crashes before it has sent what it has finished is absent while its push takes longer.
    """
    table = spans_of(record)
    spans = table[table["what"].isin((*SPANS, LOST))]
    own = dict(iter(spans.groupby("worker")))
    absent_s = pd.Series(0.0, index=spans.index)
    for worker, away in table[(table["what"] == ABSENT) & table["worker"].isin(own)].groupby("worker"):
        edges_s = away[["first_s", "last_s"]].to_numpy().ravel()
        by_then_s = np.append(0.0, np.cumsum(np.diff(edges_s)[::2])).repeat(2)[1:-1]
        first_s, last_s = (np.interp(own[worker][edge], edges_s, by_then_s) for edge in ("first_s", "last_s"))
        absent_s[own[worker].index] = last_s - first_s
    parts = [
        spans.assign(s=(spans["last_s"] - spans["first_s"] - absent_s).clip(lower=0.0)),
        spans.assign(s=absent_s, what=ABSENT),
    ]
    spent_s = pd.concat(parts).pivot_table(index="worker", columns="what", values="s", aggfunc="sum", fill_value=0.0)
    spent_s = spent_s.rename_axis(columns=None).reindex(columns=list(PHASES), fill_value=0.0)
    return spent_s.set_axis(pd.Index(bins.of_workers[id(record)][spent_s.index], name="bin"))


def _panels(
    table: pd.DataFrame,
    groups: Sequence[Group],
    bins: WorkerBins,
    shown: Sequence[str],
    size: tuple[float, float] | None,
) -> Figure:
    columns = 1 if len(groups) == 1 else 2
    width_in = SINGLE_COLUMN_IN if columns == 1 else 2 * WIDE_IN / 1.6
    figure = new_figure(size or (width_in, 0.6 + 1.75 * math.ceil(len(groups) / columns)))
    places = [*bins.names, ALL]
    drawn = panels(figure, len(groups), columns, bins.short_axis_label, "share of the time")
    for group, axes in zip(groups, drawn, strict=True):
        own = table[table["group"] == group.label]
        x = np.array([places.index(place) for place in own["place"]], float)
        x[x == len(places) - 1] += 0.4  # apart from the others
        _stack(axes, x, own, shown, upright=True)
        axes.set_xticks([*range(len(bins.names)), len(bins.names) + 0.4], [*bins.short_labels, ALL])
        axes.set_xlim(-0.6, len(bins.names) + 1.0)
        axes.tick_params(axis="x", length=0)
        if len(groups) > 1:
            axes.set_title(wrapped_title(figure, group.label), fontsize=8)
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
        style: dict[str, Any] = {"color": color, "hatch": hatch, "edgecolor": edge, "linewidth": 0.4, "label": name}
        style["bottom" if upright else "left"] = before
        draw(place, table[name].to_numpy(float), 0.8, **style)
        before = before + table[name].to_numpy(float)
    axis = axes.yaxis if upright else axes.xaxis
    axis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    (axes.set_ylim if upright else axes.set_xlim)(0, 1)
