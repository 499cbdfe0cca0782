"""Figures of validation perplexity over simulated time, local steps, tokens, bytes or money: a curve per group."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from simulator.host.format import significant
from simulator.report.arguments import Records
from simulator.report.axes import Against, Unit, axis_of, draw_color_bar, log_perplexity_axis, plain_ticks
from simulator.report.fonts import drawable
from simulator.report.group_styles import GroupStyles, group_styles
from simulator.report.grouping import group_records
from simulator.report.money import currency_of
from simulator.report.perplexity import curves_of, refuse_impossible
from simulator.report.style import SINGLE_COLUMN_IN, WIDE_IN, LineStyle, arrange_legend, draw_legend, new_axes, styled

_GREY = "#555555"
_MOST_BANDS = 12
_MUCH_LONGER = 1.05
_MOST_MARKED = 40
_MOST_NARROW = 12


def perplexity_curves(
    records: Records,
    *,
    against: Against = "simulated_s",
    by: Sequence[str] | None = None,
    targets: Sequence[float] = (),
    size: tuple[float, float] | None = None,
) -> Figure:
    """Returns the validation perplexity of each group of runs, on a logarithmic axis: `perplexity_table` as curves.

    The runs of a group make one curve: their mean, in a band from the smallest to the largest, up to where the shortest
    ends. The lowest perplexity that any model can reach is a horizontal line where the records know it. A ring marks
    the start where all curves share it. More than seven groups that differ in a number are coloured by it, beside a
    scale.

    Args:
        records: Runs that trained something, one or several.
        against: What is on the x axis, see `perplexity_table`.
        by: Dotted keys that tell groups apart, see `group_records`.
        targets: Perplexities to draw horizontal lines at.
        size: Width and height in inches.

    Raises:
        ReportError: As `perplexity_table`, if there are more groups than can be told apart, or a target is not above 0.
    """
    refuse_impossible(targets)
    groups = group_records(records, by)
    table = curves_of(groups, against)
    curves = [table[table["group"] == group.label] for group in groups]
    largest = float(table[against].max()) if table[against].notna().any() else 0.0
    unit, label = axis_of(against, largest, currency_of(groups))
    own = group_styles(groups)
    labels, title = _legend_words(curves, own, against)
    start = _common_start(curves, against)
    labels += ["common start"] if start else []
    width_in = size[0] if size else WIDE_IN if own.scale or len(curves) > _MOST_NARROW else SINGLE_COLUMN_IN
    legend = arrange_legend(labels, title, width_in)
    with styled([*labels, label, *([own.scale.name] if own.scale else [])]):
        figure, axes = new_axes(size or (width_in, 2.3 + legend.height_in))
        for index, (curve, style) in enumerate(zip(curves, own.lines, strict=True)):
            points = curve.dropna(subset=[against])
            _draw(axes, points[against].to_numpy(float) / unit.size, points, style, index, len(curves))
        marked = len(curves) <= _MOST_MARKED
        handles = [
            Line2D([], [], color=style.color, linestyle=style.linestyle, marker=style.marker if marked else "")
            for _, style in own.entries
        ]
        if start:
            handles.append(_draw_start(axes, start[0] / unit.size, start[1]))
        best = sorted({float(value) for side in ("best_low", "best_high") for value in table[side].dropna()})
        _limits(axes, table, best, targets)
        _draw_levels(axes, best, targets)
        axes.set_xlabel(drawable(label))
        axes.grid(axis="y")
        axes.margins(x=0.03)
        plain_ticks(axes.xaxis, most=7 if width_in < 4.5 else 9)
        if own.scale:
            draw_color_bar(figure, own.scale.norm, own.scale.colors, drawable(own.scale.name), Unit(1.0, ""))
        if labels or title:
            draw_legend(figure, handles, legend)
    return figure


def _legend_words(curves: Sequence[pd.DataFrame], own: GroupStyles, against: Against) -> tuple[list[str], str]:
    """Returns the legend's labels and its title, with the number of runs if all agree on it."""
    runs = [int(curve["runs"].iloc[0]) for curve in curves]
    diverged = [int(curve["diverged"].iloc[0]) for curve in curves]
    cut = [is_cut(curve, against) for curve in curves]
    numbers = set(runs)
    title = "" if numbers == {1} else "mean" if len(curves) > _MOST_BANDS else "mean, min to max"
    if title:
        title += " over n runs" if len(numbers) > 1 else f", n = {max(numbers)}"
    if own.scale:
        lost = f"{sum(diverged)} of {sum(runs)} runs diverged" if any(diverged) else ""
        ends = "curves end with the shortest run" if any(cut) else ""
        return [label for label, _ in own.entries], "; ".join(part for part in (title, lost, ends) if part)
    labels = []
    for (label, _), own_runs, own_diverged, own_cut in zip(own.entries, runs, diverged, cut, strict=True):
        notes = [f"n = {own_runs}"] if len(numbers) > 1 else []
        if own_diverged:
            notes.append("diverged" if own_runs == 1 else f"{own_diverged} of {own_runs} diverged")
        if own_cut:
            notes.append("ends with the shortest run")
        labels.append(f"{label} ({', '.join(notes)})" if notes else label)
    return labels, title


def is_cut(curve: pd.DataFrame, against: str) -> bool:
    """Returns whether a run continues so far behind the end of its group's curve that the figure has to say it."""
    first = curve.iloc[0]
    return not first["diverged"] and bool(first["longest"] > _MUCH_LONGER * curve[against].max())


def _draw(axes: Axes, x: np.ndarray, curve: pd.DataFrame, style: LineStyle, index: int, of: int) -> None:
    if of <= _MOST_BANDS and curve["runs"].max() > 1:
        axes.fill_between(x, curve["low"], curve["high"], color=style.color, alpha=0.22, linewidth=0)
    every = max(1, math.ceil(len(x) / 9))
    # staggered, so that curves on top of each other both show; the end always
    marked = sorted({*range(every * index // of, len(x), every), *range(len(x))[-1:]})
    many = of > _MOST_MARKED
    axes.plot(
        x,
        curve["perplexity"],
        color=style.color,
        linestyle=style.linestyle,
        linewidth=0.8 if many else None,
        marker="" if many else style.marker,
        markevery=marked,
        zorder=3,
    )


def _common_start(curves: Sequence[pd.DataFrame], against: Against) -> tuple[float, float] | None:
    """Returns the first point of the curves where several share it."""
    starts = [
        (float(curve[against].iloc[0]), float(curve["perplexity"].iloc[0]))
        for curve in curves
        if curve[against].notna().any()
    ]
    if len(starts) < 2 or not np.allclose(starts, starts[0], rtol=1e-6, atol=0):
        return None
    return starts[0]


def _draw_start(axes: Axes, x: float, y: float) -> Line2D:
    edge: dict[str, Any] = {"markeredgecolor": "black", "markeredgewidth": 1.0}
    (line,) = axes.plot(x, y, "o", linestyle="none", zorder=4, markerfacecolor="white", markersize=5.5, **edge)
    return line


def _limits(axes: Axes, table: pd.DataFrame, best: Sequence[float], targets: Sequence[float]) -> None:
    """Sets y limits with room for every band and target, and below the best possible line for its label."""
    bounds = [*table["low"].dropna(), *table["high"].dropna(), *best, *targets]
    low, high = (min(bounds), max(bounds)) if bounds else (1.0, 10.0)
    room = max(math.log(high / low), 0.02)
    log_perplexity_axis(axes, low * math.exp(-(0.14 if best else 0.05) * room), high * math.exp(0.05 * room))


def _draw_levels(axes: Axes, best: Sequence[float], targets: Sequence[float]) -> None:
    for value in best:
        text = "best possible: " + " to ".join(dict.fromkeys(significant(each, 3) for each in (best[0], best[-1])))
        _draw_level(axes, value, text if value == best[0] else "", below=True)
    for target in targets:
        _draw_level(axes, target, f"target: {significant(target, 3)}", below=False)


def _draw_level(axes: Axes, value: float, text: str, *, below: bool) -> None:
    """Draws a horizontal line, with a note below or above it that lies over the grid and under the curves."""
    style: dict[str, Any] = {"color": "black", "linewidth": 0.8, "linestyle": (0, (6, 2))}
    if below:
        style = {"color": _GREY, "linewidth": 0.9, "linestyle": (0, (2, 2))}
    axes.axhline(value, zorder=2, **style)
    axes.annotate(
        text,
        (0.99, value),
        xycoords=axes.get_yaxis_transform(),
        xytext=(0, -2.5 if below else 2),
        textcoords="offset points",
        ha="right",
        va="top" if below else "bottom",
        color=_GREY,
        zorder=2.5,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.5},
    )
