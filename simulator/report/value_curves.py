"""A result over a key that is a number: its table, its curves, and the power laws through its points."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter
from rich.table import Table
from rich.text import Text

from simulator.host import format as human
from simulator.host.terminal_table import TerminalTable
from simulator.report.arguments import Records, records_of
from simulator.report.axes import Unit, draw_color_bar, log_axis, plain_ticks
from simulator.report.fonts import drawable
from simulator.report.group_keys import ReportError, is_number, key_values
from simulator.report.group_styles import group_styles
from simulator.report.grouping import Group, group_records, short_names, with_keys
from simulator.report.money import currency_of
from simulator.report.power_law import CONFIDENCE, Fit, PowerLaw, power_law
from simulator.report.run_values import format_of, infinite_word, refuse_unlike, run_values, value_words
from simulator.report.seeds import Format
from simulator.report.style import SINGLE_COLUMN_IN, WIDE_IN, LineStyle, arrange_legend, draw_legend, new_axes, styled

_LOGARITHMIC = 10.0  # times the smallest number: an axis that goes further is logarithmic
_LAW_POINTS = 100  # of a line and its band
_INTERVAL = f"{CONFIDENCE:.0%}".replace("%", " %")


class _Points(NamedTuple):
    """A point for each run of a group: x, and its result y, which is infinite or NaN where there is no number."""

    group: Group
    x: np.ndarray
    y: np.ndarray


def value_curves(
    records: Records,
    x: str,
    *,
    value: str = "final_perplexity",
    target: float | None = None,
    by: Sequence[str] = ("variant",),
    fit: Fit | None = None,
    size: tuple[float, float] | None = None,
) -> Figure:
    """Returns a result over a key: `value_table` as a curve for each group, with the range over its seeds as bars.

    With a fit both axes are logarithmic, and each group's law is a line in the band of its interval, in place of a line
    through its means. Without one, an axis is logarithmic if its numbers differ by more than a factor of ten.

    Args:
        records: The runs of a sweep.
        x: Key along the x axis, see `value_table`.
        value: Result along the y axis, see `value_table`.
        target: Perplexity to reach, where `value` tells of one.
        by: Keys that tell curves apart.
        fit: Law to draw, see `power_law_table`.
        size: Width and height in inches.

    Raises:
        ReportError: As `value_table`, or if there are more groups than can be told apart.
    """
    points = _points(records, x, value, target, by)
    laws = _laws(points, x, value, fit)
    groups = [each.group for each in points]
    own = group_styles(groups)
    table = _table(points, laws)
    curves = [table[table["group"] == group.label] for group in groups]
    words, name_x = value_words(value, target, currency_of(groups)), short_names([x])[0].replace("_", " ")
    labels = [label for label, _ in own.entries]
    if own.scale is None:
        labels = [_entry(each, law, value) for each, law in zip(points, laws, strict=True)]
    width_in = size[0] if size else WIDE_IN if own.scale or fit else SINGLE_COLUMN_IN
    title = _title(table, fit)
    legend = arrange_legend(labels, title, width_in)
    with styled([*labels, words, name_x, *([own.scale.name] if own.scale else [])]):
        figure, axes = new_axes(size or (width_in, 2.3 + legend.height_in))
        for curve, law, style in zip(curves, laws, own.lines, strict=True):
            _draw(axes, curve, law, style)
        _arrange(axes.xaxis, table["x"].to_numpy(float), None, logarithmic=fit is not None)
        results = table.drop(columns=["group", "x", "runs"]).to_numpy(float)
        _arrange(axes.yaxis, results, format_of(value), logarithmic=fit is not None)
        axes.set_xlabel(drawable(name_x))
        axes.set_ylabel(drawable(words))
        axes.grid(axis="y")
        if own.scale:
            draw_color_bar(figure, own.scale.norm, own.scale.colors, drawable(own.scale.name), Unit(1.0, ""))
        handles = [
            Line2D([], [], color=style.color, linestyle=style.linestyle, marker=style.marker)
            for _, style in own.entries
        ]
        if labels or title:
            draw_legend(figure, handles, legend)
    return figure


def value_table(
    records: Records,
    x: str,
    *,
    value: str = "final_perplexity",
    target: float | None = None,
    by: Sequence[str] = ("variant",),
    fit: Fit | None = None,
) -> pd.DataFrame:
    """Returns a result over a key, which `value_curves` draws.

    Args:
        records: The runs of a sweep. Those of a group that have one x may differ by their seed alone.
        x: A key that is a number: a dotted path of the resolved experiment, the name of a sweep's axis, or a key of the
            summary, such as parameters.
        value: A key of the summary that is a number; money, for what the whole run cost; or time_to_target,
            steps_to_target, tokens_to_target, bytes_to_target or money_to_target.
        target: Perplexity to reach, where `value` tells of one.
        by: Keys that tell groups apart.
        fit: Law through the points of each group, see `power_law_table`.

    Returns:
        One row per group and x, in ascending order. Columns group; the groups' keys; x, under its key; the value, under
        its name (mean over the runs, infinite where one of them diverged or never reached the target, NaN where it is
        not known); low and high (the smallest and the largest); runs; and with a fit law, law_low and law_high (the law
        at x, and its interval).

    Raises:
        ReportError: If there is no record, a key or the value is unknown, no run has the value, a target is missing or
            of no use, x is not a finite number, runs of one point differ by more than their seed, or there is no such
            law, see `power_law_table`.
    """
    points = _points(records, x, value, target, by)
    table = _table(points, _laws(points, x, value, fit)).rename(columns={"x": x, "y": value})
    return with_keys(table, [each.group for each in points])


def power_law_table(
    records: Records,
    x: str,
    *,
    value: str = "final_perplexity",
    target: float | None = None,
    by: Sequence[str] = ("variant",),
) -> pd.DataFrame:
    """Returns the power law value = coefficient * x^exponent through the points of each group.

    Least squares of the logarithms, over the points of all runs, of every seed. Intervals are Student's of the
    regression, of 95 %, with as many degrees of freedom as there are points, less two: they tell of how the runs
    scatter around a power law, not of how far it holds.

    Args:
        records: The runs of a sweep, see `value_table`.
        x: A key that is a number.
        value: Result, see `value_table`.
        target: Perplexity to reach, where `value` tells of one.
        by: Keys that tell groups apart.

    Returns:
        One row per group. Columns group; the groups' keys; coefficient, exponent, and their intervals coefficient_low,
        coefficient_high, exponent_low and exponent_high; scatter (standard deviation of the logarithms around the law);
        points (values of x), runs, first and last (the smallest and the largest x).

    Raises:
        ReportError: As `value_table`, or if a group has fewer than three values of x, or a number that is not finite
            or not above 0.
    """
    points = _points(records, x, value, target, by)
    rows = []
    for (group, own_x, _), law in zip(points, _laws(points, x, value, "power"), strict=True):
        assert law is not None
        low, high = law.band(np.ones(1))
        rows.append(
            {
                "group": group.label,
                "coefficient": law.coefficient,
                "coefficient_low": float(low[0]),
                "coefficient_high": float(high[0]),
                "exponent": law.exponent,
                "exponent_low": law.exponent_low,
                "exponent_high": law.exponent_high,
                "scatter": law.scatter,
                "points": len(np.unique(own_x)),
                "runs": len(own_x),
                "first": float(own_x.min()),
                "last": float(own_x.max()),
            }
        )
    return with_keys(pd.DataFrame(rows), [each.group for each in points])


def power_law_rich_table(rows: pd.DataFrame, x: str, value: str, *, title: str | None = None) -> Table:
    """Returns the rows of `power_law_table` for the terminal.

    Args:
        rows: As `power_law_table` returns them.
        x: Its key.
        value: Its result.
        title: Above the table.
    """
    caption = (
        f"{value} = coefficient × {x}^exponent: least squares of logarithms over all runs; "  # noqa: RUF001 - times
        f"Student's interval of the regression, {_INTERVAL}; scatter: standard deviation around the law"
    )
    numbers = [
        "coeffi-\ncient",
        "exponent",
        f"{_INTERVAL}\ninterval",
        "scatter",
        f"values\nof {x.split('.')[-1]}",
        "runs",
    ]
    table = TerminalTable(title, caption, words=["variant"], numbers=numbers, leading=1)
    for row in rows.to_dict("records"):
        cells = (
            human.significant(row["coefficient"], 4),
            _signed(row["exponent"]),
            f"{_signed(row['exponent_low'])} to {_signed(row['exponent_high'])}",
            human.percent(row["scatter"]),
            str(row["points"]),
            str(row["runs"]),
        )
        table.add_row(Text(str(row["group"])), *cells)
    return table


def _points(records: Records, x: str, value: str, target: float | None, by: Sequence[str]) -> list[_Points]:
    """Returns the points of each group; repeats of runs count once."""
    groups = group_records(records_of(records), [key for key in by if key != x])
    runs = [(run, group.label) for group in groups for run in group.records]
    numbers = {}
    for (run, label), key in zip(runs, key_values([run for run, _ in runs], x), strict=True):
        if not is_number(key.value) or math.isinf(key.value):
            raise ReportError(
                f"{label}: {x} of a run is {key.shown}, and an axis has finite numbers: choose another key, such as "
                "parameters or inner.local_steps, or fewer runs"
            )
        numbers[id(run)] = float(key.value)
    results = {
        id(run): result
        for (run, _), result in zip(runs, run_values([run for run, _ in runs], value, target), strict=True)
    }
    found = []
    for group in groups:
        own_x = np.array([numbers[id(run)] for run in group.records])
        own_y = np.array([results[id(run)] for run in group.records], dtype=float)
        for place in np.unique(own_x):
            at = [run for run in group.records if numbers[id(run)] == place]
            refuse_unlike(at, f"{group.label}, {x} = {place:g}", "point")
        found.append(_Points(group, own_x, own_y))
    return found


def _laws(points: Sequence[_Points], x: str, value: str, fit: Fit | None) -> list[PowerLaw | None]:
    """Returns the law of each group, None where none is asked for."""
    laws: list[PowerLaw | None] = []
    for each in points:
        try:
            laws.append(None if fit is None else power_law(each.x, each.y, names=(x, value)))
        except ReportError as error:
            raise ReportError(f"{each.group.label}: {error}") from None
    return laws


def _table(points: Sequence[_Points], laws: Sequence[PowerLaw | None]) -> pd.DataFrame:
    """Returns `value_table` with the columns group, x, y, low, high, runs and, with laws, law, law_low, law_high."""
    tables = []
    for each, law in zip(points, laws, strict=True):
        runs = pd.DataFrame({"x": each.x, "y": each.y}).groupby("x")["y"]
        table = runs.agg(y="mean", low="min", high="max", runs="size").reset_index()
        table.insert(0, "group", each.group.label)
        if law is not None:
            at = table["x"].to_numpy(float)
            table["law"], (table["law_low"], table["law_high"]) = law.at(at), law.band(at)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _entry(points: _Points, law: PowerLaw | None, value: str) -> str:
    """Returns the legend's entry of a group: its label, its exponent, and how many of its runs are not drawn."""
    lost = int(np.isinf(points.y).sum())
    notes = [f"{lost} of {len(points.y)} {infinite_word(value)}"] if lost else []
    if law is not None:
        notes.append(f"exponent {_signed(law.exponent)}, {_signed(law.exponent_low)} to {_signed(law.exponent_high)}")
    return f"{points.group.label} ({'; '.join(notes)})" if notes else points.group.label


def _signed(exponent: float) -> str:
    return human.significant(exponent, 3).replace("-", "\N{MINUS SIGN}")


def _title(table: pd.DataFrame, fit: Fit | None) -> str:
    """Returns the legend's title: the meaning of bars and bands."""
    numbers = set(table["runs"])
    repeated = "" if numbers == {1} else "mean, min to max" + (f", n = {max(numbers)}" if len(numbers) == 1 else "")
    law = f"power laws with {_INTERVAL} intervals" if fit else ""
    return "; ".join(filter(None, (repeated, law)))


def _draw(axes: Axes, curve: pd.DataFrame, law: PowerLaw | None, style: LineStyle) -> None:
    """Draws a group's means, their ranges, and its law, or else a line through the means."""
    finite = curve[np.isfinite(curve["y"])]
    axes.vlines(finite["x"], finite["low"], finite["high"], color=style.color, linewidth=1.0)
    line = style.linestyle if law is None else "none"
    axes.plot(finite["x"], finite["y"], color=style.color, linestyle=line, marker=style.marker, zorder=3)
    if law is not None:
        at = np.geomspace(curve["x"].min(), curve["x"].max(), _LAW_POINTS)
        axes.fill_between(at, *law.band(at), color=style.color, alpha=0.18, linewidth=0)
        axes.plot(at, law.at(at), color=style.color, linestyle=style.linestyle)


def _arrange(axis: Axis, numbers: np.ndarray, show: Format | None, *, logarithmic: bool) -> None:
    """Sets the scale and the ticks of an axis, with some room around all numbers that are finite."""
    values = numbers[np.isfinite(numbers)]
    low, high = (float(values.min()), float(values.max())) if values.size else (1.0, 10.0)
    if logarithmic or 0 < _LOGARITHMIC * low < high:
        room = math.exp(0.06 * max(math.log(high / low), 0.02))
        log_axis(axis, low / room, high * room, show or human.significant)
        return
    plain_ticks(axis)
    if show is not None:
        axis.set_major_formatter(FuncFormatter(lambda number, _: show(number)))
