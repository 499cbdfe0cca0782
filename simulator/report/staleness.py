"""Staleness of each worker's rounds, or, of many workers, of each tenth of them by speed."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from simulator.report.arguments import Records
from simulator.report.axes import plain_ticks
from simulator.report.grouping import Group, group_records, with_keys
from simulator.report.style import (
    COLORS,
    SINGLE_COLUMN_IN,
    WIDE_IN,
    LineStyle,
    arrange_legend,
    draw_legend,
    line_styles,
    new_axes,
    rows_figure,
    styled,
)
from simulator.report.worker_bins import ALL, MOST_IN_FULL, WorkerBins, refuse_many, worker_bins

_EXPLANATION = "marker: mean, thick: middle half, thin: min to max"
_STALENESS = "staleness (server updates)"


def staleness(records: Records, *, by: Sequence[str] | None = None, size: tuple[float, float] | None = None) -> Figure:
    """Returns the distribution of staleness per worker, next to one another for each group: `staleness_table` drawn.

    A thin line spans the smallest to the largest staleness, a thick one the middle half of the rounds, the marker is
    the mean. Workers are labelled by their measured seconds per local step. More than twelve groups have a row each,
    for all of their workers.

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
    table, bins = staleness_by_bin(groups)
    with styled(group.label for group in groups):
        if len(groups) > MOST_IN_FULL:
            return _one_row_each(table[table["place"] == ALL], size)
        return _side_by_side(table, groups, bins, size)


def staleness_table(records: Records, *, by: Sequence[str] | None = None) -> pd.DataFrame:
    """Returns the distribution of staleness per worker, which `staleness` draws.

    Where a run has more than 12 workers, or runs have different numbers of them, workers are ordered by their measured
    seconds per local step and taken together in tenths. So are the rounds of all runs of a group.

    Args:
        records: Runs in which at least one round arrived, one or several.
        by: Dotted keys that tell groups apart, see `group_records`.

    Returns:
        One row per group and worker, or tenth, from which a round arrived, and one for all. Columns group; the groups'
        keys; place (a worker's id, "tenth 1", the fastest, to "tenth 10", or "all"); rounds; and of their staleness, in
        server updates, min, first_quartile, mean, third_quartile and max.

    Raises:
        ReportError: If there is no record, no round arrived in one, or a key is unknown.
    """
    groups = group_records(records, by)
    return with_keys(staleness_by_bin(groups)[0], groups)


def staleness_by_bin(groups: Sequence[Group]) -> tuple[pd.DataFrame, WorkerBins]:
    """Returns `staleness_table` of these groups without their keys, and the bins that are its places.

    Raises:
        ReportError: If no round arrived in a run.
    """
    bins = worker_bins(groups, "there is no staleness")
    rows = []
    for group in groups:
        places = np.concatenate(
            [bins.of_workers[id(record)][record.rounds["worker"].to_numpy()] for record in group.records]
        )
        stale = np.concatenate([record.rounds["staleness"].to_numpy() for record in group.records])
        parts = {bins.names[place]: stale[places == place] for place in np.unique(places)}
        for name, values in [*parts.items(), (ALL, stale)]:
            low, first, third, high = np.quantile(values, [0, 0.25, 0.75, 1])
            row = {"group": group.label, "place": name, "rounds": len(values)}
            spread = {"min": low, "first_quartile": first, "mean": values.mean(), "third_quartile": third, "max": high}
            rows.append(row | spread)
    return pd.DataFrame(rows), bins


def _side_by_side(
    table: pd.DataFrame, groups: Sequence[Group], bins: WorkerBins, size: tuple[float, float] | None
) -> Figure:
    crowded = len(bins.labels) * len(groups) > 20
    width_in = size[0] if size else WIDE_IN if crowded else SINGLE_COLUMN_IN
    legend = arrange_legend([group.label for group in groups], _EXPLANATION, width_in)
    figure, axes = new_axes(size or (width_in, 2.3 + legend.height_in))
    table = table[table["place"] != ALL]
    handles = [
        _draw(axes, table[table["group"] == group.label], bins.names, style, index, len(groups))
        for index, (group, style) in enumerate(zip(groups, line_styles(len(groups)), strict=True))
    ]
    axes.set_xticks(range(len(bins.labels)), bins.labels)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.5, len(bins.labels) - 0.5)
    for between in range(1, len(bins.labels)):
        axes.axvline(between - 0.5, color="#e8e8e8", linewidth=0.6, zorder=0)
    axes.set_xlabel(bins.axis_label)
    axes.set_ylabel(_STALENESS)
    highest = max(float(table["max"].max()), 1.0)
    axes.set_ylim(-0.04 * highest, 1.06 * highest)
    plain_ticks(axes.yaxis, integer=True)
    axes.grid(axis="y")
    draw_legend(figure, handles, legend)
    return figure


def _one_row_each(table: pd.DataFrame, size: tuple[float, float] | None) -> Figure:
    figure, axes = rows_figure(list(table["group"]), size)
    places = range(len(table))
    axes.hlines(places, table["min"], table["max"], color=COLORS[0], linewidth=0.9)
    axes.hlines(places, table["first_quartile"], table["third_quartile"], color=COLORS[0], linewidth=3.2, alpha=0.55)
    axes.plot(table["mean"], places, "o", color=COLORS[0], zorder=3)
    axes.set_title(_EXPLANATION, fontweight="normal", fontsize=8)
    axes.set_xlabel(f"{_STALENESS}, all workers")
    plain_ticks(axes.xaxis, integer=True)
    axes.grid(axis="x")
    return figure


def _draw(axes: Axes, table: pd.DataFrame, places: Sequence[str], style: LineStyle, index: int, of: int) -> Line2D:
    offset = (index - (of - 1) / 2) * 0.8 / of
    for row in table.to_dict("records"):
        x = places.index(row["place"]) + offset
        axes.vlines(x, row["min"], row["max"], color=style.color, linewidth=0.9)
        axes.vlines(x, row["first_quartile"], row["third_quartile"], color=style.color, linewidth=3.2, alpha=0.55)
        axes.plot(x, row["mean"], style.marker, color=style.color, zorder=3)
    return Line2D([], [], color=style.color, marker=style.marker, linewidth=0.9)
