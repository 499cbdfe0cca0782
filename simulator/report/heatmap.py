"""A result over two axes of a sweep, as a pivot table and as a heat map."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from simulator.host import format as human
from simulator.record import RunRecord
from simulator.report.arguments import Records, records_of
from simulator.report.axes import color_norm, draw_color_bar, unit_of
from simulator.report.fonts import drawable
from simulator.report.group_keys import KeyValue, ReportError, in_order, is_number, key_values
from simulator.report.grouping import Group, group_records, short_names
from simulator.report.money import currency_of
from simulator.report.run_values import format_of, infinite_word, refuse_unlike, run_values, value_words
from simulator.report.style import arrange_legend, draw_legend, new_figure, panels, styled, wrapped_title

_KINDS = {human.short_duration: "time", human.byte_count: "bytes", human.percent: "percent"}  # of units
_CELL_IN = (0.62, 0.34)
_MOST_CELLS = 40  # along an axis, with numbers in them that can be read
_MISSING: dict[str, Any] = {"facecolor": "#f4f4f4", "edgecolor": "#c4c4c4", "hatch": "////", "linewidth": 0.0}
_INFINITE = "#3a3a3a"


def heat_map(
    records: Records,
    x: str,
    y: str,
    *,
    value: str = "final_perplexity",
    target: float | None = None,
    by: Sequence[str] = ("variant",),
    size: tuple[float, float] | None = None,
) -> Figure:
    """Returns a result over two keys: `heat_map_table` as a panel of coloured and numbered cells for each variant.

    All panels share one scale of colours, logarithmic where results differ by more than a factor of ten. A cell without
    a run is hatched; one whose runs diverged or never reached the target is dark.

    Args:
        records: The runs of a sweep.
        x: Key along the x axis, see `group_records`.
        y: Key along the y axis.
        value: What to show, see `heat_map_table`.
        target: Perplexity to reach, where `value` tells of one.
        by: Keys that tell panels apart.
        size: Width and height in inches.

    Raises:
        ReportError: As `heat_map_table`, or there are more than 40 values along an axis.
    """
    given = records_of(records)
    pivot = _pivot(given, x, y, value, target, by)
    if max(len(pivot.x), len(pivot.y)) > _MOST_CELLS:
        long, many = (x, len(pivot.x)) if len(pivot.x) > _MOST_CELLS else (y, len(pivot.y))
        raise ReportError(f"{long} has {many} values, of which at most {_MOST_CELLS} can be read: choose fewer runs")
    count = len(pivot.groups)
    columns = min(count, max(1, round(7.0 / (1.0 + _CELL_IN[0] * len(pivot.x)))))
    width_in = 0.9 + columns * (0.6 + _CELL_IN[0] * max(len(pivot.x), 2))
    height_in = 0.6 + math.ceil(count / columns) * (0.75 + _CELL_IN[1] * max(len(pivot.y), 2))
    words = value_words(value, target, currency_of(given))
    name_x, name_y = (name.replace("_", " ") for name in short_names([x, y]))
    names = [*(group.label for group in pivot.groups), *(each.shown for each in (*pivot.x, *pivot.y))]
    with styled([words, name_x, name_y, *names]):
        figure = new_figure(size or (max(width_in, 3.2), height_in))
        norm, colors, show = color_norm(pivot.cells), mpl.colormaps["viridis"], format_of(value)
        unit = unit_of(_KINDS.get(show, "number"), float(norm.vmax or 1.0))
        drawn = panels(figure, count, columns, drawable(name_x), drawable(name_y))
        for axes, group, cells in zip(drawn, pivot.groups, pivot.cells, strict=True):
            _draw_cells(axes, cells, norm, colors, show)
            _label_cells(axes, pivot)
            if group.keys:
                axes.set_title(wrapped_title(figure, group.label), fontsize=8)
        draw_color_bar(figure, norm, colors, drawable(words), unit)
        _draw_missing(figure, pivot, value)
    return figure


def heat_map_table(
    records: Records,
    x: str,
    y: str,
    *,
    value: str = "final_perplexity",
    target: float | None = None,
    by: Sequence[str] = ("variant",),
) -> pd.DataFrame:
    """Returns a result over two keys as a pivot table, which `heat_map` draws.

    Args:
        records: The runs of a sweep. In one cell they may differ by their seed alone.
        x: Key along the columns: a dotted path of the resolved experiment, the name of a sweep's axis, or a key of the
            summary.
        y: Key along the rows.
        value: A key of the summary that is a number; money, for what the whole run cost; or time_to_target,
            steps_to_target, tokens_to_target, bytes_to_target or money_to_target.
        target: Perplexity to reach, where `value` tells of one.
        by: Further keys along the rows.

    Returns:
        Rows by the keys `by` and `y`, columns by `x`; numbers in ascending order. Each cell is the mean over its runs,
        infinite where one of them diverged or never reached the target, NaN without a run.

    Raises:
        ReportError: If there is no record, a key or the value is unknown, no run has the value, a target is missing or
            of no use, or the runs of one cell differ by more than their seed.
    """
    pivot = _pivot(records_of(records), x, y, value, target, by)
    rows = [(*(key.value for key in group.keys.values()), row.value) for group in pivot.groups for row in pivot.y]
    index = pd.MultiIndex.from_tuples(rows, names=[*pivot.groups[0].keys, y])
    columns = pd.Index([column.value for column in pivot.x], name=x)
    return pd.DataFrame(pivot.cells.reshape(len(rows), -1), index=index, columns=columns)


class _Pivot(NamedTuple):
    """Results over two keys, for each group; cells has the shape (groups, y, x)."""

    x: list[KeyValue]
    y: list[KeyValue]
    groups: list[Group]
    cells: np.ndarray


def _pivot(records: Sequence[RunRecord], x: str, y: str, value: str, target: float | None, by: Sequence[str]) -> _Pivot:
    by = [key for key in by if key not in (x, y)]
    groups = group_records(records, by)
    if x == y:
        raise ReportError(f"both axes are {x!r}: choose two keys")
    panel_of = {id(run): panel for panel, group in enumerate(groups) for run in group.records}
    runs = [record for record in records if id(record) in panel_of]  # repeats count once
    results = run_values(runs, value, target)
    (columns, column_of), (rows, row_of) = (in_order(key_values(runs, key)) for key in (x, y))
    cells = np.full((len(groups), len(rows), len(columns)), math.nan)
    members: dict[tuple[int, int, int], list[int]] = {}
    for number, (run, row, column) in enumerate(zip(runs, row_of, column_of, strict=True)):
        members.setdefault((panel_of[id(run)], row, column), []).append(number)
    for cell, numbers in members.items():
        refuse_unlike([runs[number] for number in numbers], groups[cell[0]].label, "cell")
        cells[cell] = pd.Series([results[number] for number in numbers], dtype=float).mean()
    return _Pivot(columns, rows, groups, cells)


def _draw_cells(
    axes: Axes, cells: np.ndarray, norm: Normalize, colors: Colormap, show: Callable[[float | None], str]
) -> None:
    for (row, column), number in np.ndenumerate(cells):
        style: dict[str, Any] = _MISSING
        if math.isinf(number):
            style = {"facecolor": _INFINITE}
        elif not math.isnan(number):
            style = {"facecolor": colors(norm(number))}
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **style))
        if math.isnan(number):
            continue
        red, green, blue, _ = colors(norm(number)) if math.isfinite(number) else (0.2, 0.2, 0.2, 1.0)
        light = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
        text = show(number) if math.isfinite(number) else "∞"
        axes.text(column, row, text, ha="center", va="center", color="black" if light else "white", fontsize=7)
    axes.set_xlim(-0.5, cells.shape[1] - 0.5)
    axes.set_ylim(-0.5, cells.shape[0] - 0.5)  # numbers grow upwards
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _label_cells(axes: Axes, pivot: _Pivot) -> None:
    """Writes the keys' values along the axes, slanted where they are too long to stand side by side."""
    axes.set_xticks(range(len(pivot.x)), [drawable(each.shown) for each in pivot.x])
    axes.set_yticks(range(len(pivot.y)), [drawable(each.shown) for each in pivot.y])
    if not all(is_number(each.value) for each in pivot.y):
        axes.invert_yaxis()  # names are read from the top
    if max(len(each.shown) for each in pivot.x) > 9:
        for label in axes.get_xticklabels():
            label.set(rotation=35, ha="right", rotation_mode="anchor")


def _draw_missing(figure: Figure, pivot: _Pivot, value: str) -> None:
    """Draws the legend of cells without a number, if any."""
    entries: list[tuple[str, Patch]] = []
    if np.isnan(pivot.cells).any():
        entries.append(("no run", Patch(**{**_MISSING, "linewidth": 0.4})))
    if np.isinf(pivot.cells).any():
        entries.append((infinite_word(value), Patch(facecolor=_INFINITE)))
    if entries:
        text = arrange_legend([label for label, _ in entries], "", figure.get_figwidth())
        draw_legend(figure, [patch for _, patch in entries], text, below=True)
