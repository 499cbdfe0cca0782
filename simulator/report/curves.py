"""Validation perplexity over simulated time, local steps, tokens or bytes: one curve per variant."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from simulator.record import RunRecord
from simulator.report.axes import Unit, byte_unit, log_perplexity_axis, plain_ticks, time_unit, token_unit
from simulator.report.format import significant
from simulator.report.grouping import Group, ReportError, group_records
from simulator.report.style import SINGLE_COLUMN_IN, Look, arrange_legend, draw_legend, looks, new_figure, styled

Against = Literal["simulated_s", "local_steps", "tokens", "bytes_sent"]

_GREY = "#555555"
_NOTE: dict[str, Any] = {  # over the grid and under the curves
    "textcoords": "offset points",
    "color": _GREY,
    "zorder": 2.5,
    "bbox": {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.5},
}


@dataclass(frozen=True)
class Curve:
    """The perplexity of one group of runs.

    Attributes:
        label: What the group is called.
        x: Shape (points,), ascending.
        mean: Arithmetic mean of the perplexity over the runs, shape (points,).
        low: Smallest over the runs, shape (points,).
        high: Largest over the runs, shape (points,).
        runs: Number of runs.
        diverged: Number of runs whose perplexity became infinite or NaN; their curve ends before that.
    """

    label: str
    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    runs: int
    diverged: int


def perplexity_curves(
    records: Sequence[RunRecord], *, against: Against = "simulated_s", size: tuple[float, float] | None = None
) -> Figure:
    """Returns the validation perplexity of each variant, on a logarithmic axis.

    Runs that differ by their seed alone make one curve: their mean, in a band from the smallest to the largest. They
    are interpolated, linearly in the loss, only where all of them have values. The lowest perplexity that any model can
    reach is a horizontal line where the records know it. A ring marks the start where all curves share it.

    Args:
        records: Runs that trained something.
        against: The column of the evaluations on the x axis.
        size: Width and height in inches.

    Raises:
        ReportError: If there is no record, one trained nothing, the runs of a variant have no common range,
            or `against` is no such column.
    """
    if against not in get_args(Against):
        raise ReportError(f"against is {against!r}, but must be one of {', '.join(get_args(Against))}")
    curves = [_curve(group, against) for group in group_records(records)]
    largest = max((curve.x[-1] for curve in curves if len(curve.x)), default=0.0)
    unit, label = _x_axis(against, largest)
    labels, title = _legend_words(curves)
    start = _common_start(curves)
    labels += ["common start"] if start else []
    width_in = size[0] if size else SINGLE_COLUMN_IN
    legend = arrange_legend(labels, title, width_in)
    with styled():
        figure, axes = new_figure(size or (width_in, 2.3 + legend.height_in))
        handles = [
            _draw(axes, curve, look, unit, index, len(curves))
            for index, (curve, look) in enumerate(zip(curves, looks(len(curves)), strict=True))
        ]
        if start:
            handles.append(_draw_start(axes, start[0] / unit.size, start[1]))
        best = sorted({math.exp(r.summary["best_loss"]) for r in records if r.summary["best_loss"] is not None})
        _limits(axes, curves, best)
        _best_possible(axes, best)
        axes.set_xlabel(label)
        axes.grid(axis="y")
        axes.margins(x=0.03)
        plain_ticks(axes.xaxis, most=7 if width_in < 4.5 else 9)
        draw_legend(figure, handles, legend)
    return figure


def _legend_words(curves: Sequence[Curve]) -> tuple[list[str], str]:
    """Returns the curves' labels and the legend's title, which says how many runs there are where all agree on it."""
    numbers = {curve.runs for curve in curves}
    labels = []
    for curve in curves:
        notes = [f"n = {curve.runs}"] if len(numbers) > 1 else []
        if curve.diverged:
            notes.append("diverged" if curve.runs == 1 else f"{curve.diverged} of {curve.runs} diverged")
        labels.append(f"{curve.label} ({', '.join(notes)})" if notes else curve.label)
    if numbers == {1}:
        return labels, ""
    return labels, "mean, min to max over n runs" if len(numbers) > 1 else f"mean, min to max, n = {max(numbers)}"


def _curve(group: Group, against: Against) -> Curve:
    runs = [_points(record, group.label, against) for record in group.records]
    x, log_perplexities = _common(group.label, [(x, y) for x, y, _ in runs])
    perplexities = np.exp(log_perplexities)
    return Curve(
        label=group.label,
        x=x,
        mean=perplexities.mean(axis=0),
        low=perplexities.min(axis=0),
        high=perplexities.max(axis=0),
        runs=len(runs),
        diverged=sum(diverged for _, _, diverged in runs),
    )


def _points(record: RunRecord, label: str, against: Against) -> tuple[np.ndarray, np.ndarray, bool]:
    """Returns x, the log perplexity up to where it stops being finite, and whether it did."""
    if record.summary["trainer"] == "null" or record.evaluations.empty:
        raise ReportError(
            f"{label}: a run of it trained nothing or was never evaluated, so it has no perplexity. "
            "Leave it out, or look at its timeline and staleness"
        )
    table = record.evaluations.drop_duplicates(against, keep="last")
    x = table[against].to_numpy(float)
    perplexity = table["perplexity"].to_numpy(float)
    finite = np.isfinite(perplexity) & (perplexity > 0)
    end = len(x) if finite.all() else int(np.argmin(finite))
    return x[:end], np.log(perplexity[:end]), end < len(x)


def _common(label: str, runs: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the x values within the range that all runs cover, and each run's y there, shape (runs, points)."""
    if any(len(x) == 0 for x, _ in runs):
        return np.empty(0), np.empty((len(runs), 0))
    low, high = max(x[0] for x, _ in runs), min(x[-1] for x, _ in runs)
    if low > high:
        raise ReportError(
            f"{label}: its {len(runs)} runs have no range in common (one starts at {low:g}, one ends at {high:g}): "
            "plot fewer of them"
        )
    grid = np.unique(np.concatenate([x for x, _ in runs]))
    grid = grid[(grid >= low) & (grid <= high)]
    return grid, np.stack([np.interp(grid, x, y) for x, y in runs])


def _x_axis(against: Against, largest: float) -> tuple[Unit, str]:
    if against == "simulated_s":
        unit = time_unit(largest)
        return unit, f"simulated time ({unit.unit})"
    if against == "bytes_sent":
        unit = byte_unit(largest)
        return unit, f"data sent ({unit.unit})"
    if against == "tokens":
        unit = token_unit(largest)
        return unit, f"tokens ({unit.unit})" if unit.unit else "tokens"
    return Unit(1.0, ""), "local steps (over all workers)"


def _draw(axes: Axes, curve: Curve, look: Look, unit: Unit, index: int, of: int) -> Line2D:
    x = curve.x / unit.size
    if curve.runs > 1:
        axes.fill_between(x, curve.low, curve.high, color=look.color, alpha=0.22, linewidth=0)
    every = max(1, math.ceil(len(x) / 9))
    # staggered, so that curves on top of each other both show; the end always
    marked = sorted({*range(every * index // of, len(x), every), *range(len(x))[-1:]})
    (line,) = axes.plot(
        x,
        curve.mean,
        color=look.color,
        linestyle=look.linestyle,
        marker=look.marker,
        markevery=marked,
        markeredgecolor="white",
        markeredgewidth=0.4,
        zorder=3,
    )
    return line


def _common_start(curves: Sequence[Curve]) -> tuple[float, float] | None:
    """Returns the first point of the curves where several share it."""
    starts = [(float(curve.x[0]), float(curve.mean[0])) for curve in curves if len(curve.x)]
    if len(starts) < 2 or not np.allclose(starts, starts[0], rtol=1e-6, atol=0):
        return None
    return starts[0]


def _draw_start(axes: Axes, x: float, y: float) -> Line2D:
    ring: dict[str, Any] = {"color": "black", "markerfacecolor": "white", "markersize": 5.5, "markeredgewidth": 1.0}
    (line,) = axes.plot(x, y, "o", linestyle="none", zorder=4, **ring)
    return line


def _limits(axes: Axes, curves: Sequence[Curve], best: Sequence[float]) -> None:
    """Sets y limits with room for every band, and below the best possible line for its label."""
    bounds = [value for curve in curves for band in (curve.low, curve.high) for value in band]
    bounds += best
    low, high = (min(bounds), max(bounds)) if bounds else (1.0, 10.0)
    room = max(math.log(high / low), 0.02)
    log_perplexity_axis(axes, low * math.exp(-(0.14 if best else 0.05) * room), high * math.exp(0.05 * room))


def _best_possible(axes: Axes, best: Sequence[float]) -> None:
    if not best:
        return
    for value in best:
        axes.axhline(value, color=_GREY, linewidth=0.9, linestyle=(0, (2, 2)), zorder=2)
    low, high = significant(best[0], 3), significant(best[-1], 3)
    text = f"best possible: {low}" if low == high else f"best possible: {low} to {high}"
    place: dict[str, Any] = {"xycoords": axes.get_yaxis_transform(), "xytext": (0, -2.5), "ha": "right", "va": "top"}
    axes.annotate(text, (0.99, best[0]), **place, **_NOTE)
