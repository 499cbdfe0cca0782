"""Gantt chart of the workers of one run."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from simulator.host.format import duration
from simulator.report.arguments import Records, one_record
from simulator.report.axes import Unit, plain_ticks, unit_of
from simulator.report.spans import ABSENT, ROUND_LOST, SPANS, UPDATE, Excerpt, excerpt
from simulator.report.style import (
    LOST,
    PHASES,
    WIDE_IN,
    arrange_legend,
    draw_legend,
    new_axes,
    phase_patch,
    styled,
    wrapped_title,
)
from simulator.report.worker_bins import worker_labels

_HEIGHT = 0.72  # of a bar; a row is 1
_MOST_MARKS = 1000  # of server updates
_MOST_LINES = 60  # server updates drawn through all rows


def timeline(
    record: Records,
    *,
    first_s: float | None = None,
    last_s: float | None = None,
    max_workers: int = 16,
    title: str | None = None,
    size: tuple[float, float] | None = None,
) -> Figure:
    """Returns a row per worker with bars for wait, pull, compute and push, and marks for the server's updates.

    Draws `timeline_table`. Bars mark absences of workers, and crosses mark when rounds were lost. Rounds still on their
    way when the simulation ended are not in a record, so a row may end before the run does.

    Args:
        record: A run in which at least one round arrived.
        first_s: Start of the excerpt, simulated seconds; the start of the run when None.
        last_s: Its end, no later than the run's; when None, as long as the slowest worker's first three rounds, but
            no more than 40 rounds of the fastest.
        max_workers: Of more workers, this many are shown, evenly spaced from the fastest to the slowest.
        title: Name of the run; its variant and sweep point when None.
        size: Width and height in inches.

    Raises:
        ReportError: If no round arrived, the excerpt is empty, max_workers is below 1, or several runs are given.
    """
    part = excerpt(one_record(record), first_s, last_s, max_workers)
    unit = unit_of("time", part.last_s)
    row = pd.Series(range(len(part.shown)), index=part.shown)
    label = part.label if title is None else title
    with styled([label]):
        figure, axes = new_axes(size or (WIDE_IN, 1.35 + 0.21 * (len(part.shown) + 1)))
        for what in SPANS:
            _draw_bars(axes, what, part.spans, row, unit)
        losses = _draw_losses(axes, part.spans, row, unit)
        _draw_updates(axes, part, unit)
        _label_rows(axes, part.workers.set_index("worker", drop=False).loc[part.shown])
        axes.set_xlim(part.first_s / unit.size, part.last_s / unit.size)
        axes.set_xlabel(f"simulated time ({unit.unit})")
        plain_ticks(axes.xaxis, most=8)
        axes.set_title(_notes(part, lost=ROUND_LOST in losses), fontweight="normal", fontsize=8)
        labels = [*SPANS, *losses]
        entries = [*(phase_patch(what) for what in SPANS), *losses.values()]
        draw_legend(figure, entries, arrange_legend(labels, "", figure.get_figwidth()), below=True)
        _title_above_axes(figure, axes, label)
    return figure


def _notes(part: Excerpt, *, lost: bool) -> str:
    """Returns notes on the part of the run and of the cluster that is shown, and on blank space, if any."""
    start_s, stop_s, end_s = part.first_s, part.last_s, part.end_s
    if start_s <= 0 and stop_s >= end_s:
        lines = [f"the whole run, {duration(end_s)}"]
    elif start_s <= 0:
        lines = [f"first {duration(stop_s)} of {duration(end_s)}"]
    else:
        lines = [f"{duration(start_s)} to {duration(stop_s)} of {duration(end_s)}"]
    if len(part.shown) < len(part.workers):
        lines.append(f"{len(part.shown):,} of {len(part.workers):,} workers, evenly spaced from fastest to slowest")
    visible = part.workers.set_index("worker").loc[part.shown]
    if bool((visible["covered_s"] < min(stop_s, end_s)).any()) or lost:
        lines.append("blank: a round that never arrived")
    return "\n".join(lines)


def _title_above_axes(figure: Figure, axes: Axes, label: str) -> None:
    """Writes the label above the axes' own title, in bold, centered on the axes rather than on the figure."""
    title = figure.suptitle(wrapped_title(figure, label), fontweight="bold", fontsize=9)
    figure.draw_without_rendering()  # lays the axes out
    box = axes.get_position()
    title.set_x((box.x0 + box.x1) / 2)


def _draw_bars(axes: Axes, what: str, spans: pd.DataFrame, row: "pd.Series[int]", unit: Unit) -> None:
    face, edge, hatch = PHASES[what]
    bars = _rectangles(spans[spans["what"] == what], row, unit)
    style: dict[str, Any] = {"facecolor": face, "edgecolor": edge, "linewidth": 0.4, "hatch": hatch, "zorder": 2}
    axes.add_collection(PolyCollection(bars, label=what, **style))


def _draw_losses(axes: Axes, spans: pd.DataFrame, row: "pd.Series[int]", unit: Unit) -> dict[str, Artist]:
    """Draws absences of workers and losses of rounds; returns the legend's entries."""
    entries: dict[str, Artist] = {}
    if (spans["what"] == ABSENT).any():
        _draw_bars(axes, ABSENT, spans, row, unit)
        entries[ABSENT] = phase_patch(ABSENT)
    lost = spans[spans["what"] == ROUND_LOST]
    if len(lost):
        x, y = lost["first_s"].to_numpy() / unit.size, row.loc[lost["worker"]].to_numpy()
        entries[ROUND_LOST] = axes.scatter(x, y, marker="x", s=14, linewidths=1.2, color=LOST, zorder=4)
    return entries


def _rectangles(bars: pd.DataFrame, row: "pd.Series[int]", unit: Unit) -> list[np.ndarray]:
    """Returns the four corners of each bar, in the units of the axes, shape (4, 2)."""
    left, right = bars["first_s"].to_numpy() / unit.size, bars["last_s"].to_numpy() / unit.size
    low = row.loc[bars["worker"]].to_numpy() - _HEIGHT / 2
    high = low + _HEIGHT
    x = np.stack([left, left, right, right], axis=-1)
    y = np.stack([low, high, high, low], axis=-1)
    return list(np.stack([x, y], axis=-1))


def _draw_updates(axes: Axes, part: Excerpt, unit: Unit) -> None:
    """Marks every change of the server's version in a row of its own, and through all rows where they are few."""
    rows = len(part.shown)
    times = part.spans.loc[part.spans["what"] == UPDATE, "first_s"].to_numpy() / unit.size
    if len(times) > _MOST_MARKS:  # more than the figure has dots: one for each of as many equal parts of the excerpt
        share = (times - part.first_s / unit.size) / ((part.last_s - part.first_s) / unit.size)
        times = times[np.unique(np.floor(share * _MOST_MARKS), return_index=True)[1]]
    width = 0.7 if len(times) <= 4 * _MOST_LINES else 0.15
    axes.vlines(times, rows - _HEIGHT / 2, rows + _HEIGHT / 2, color="#333333", linewidth=width, label="updates")
    if len(times) <= _MOST_LINES:
        axes.vlines(times, -0.5, rows - 0.5, color="#9a9a9a", linewidth=0.4, zorder=1, label="update lines")


def _label_rows(axes: Axes, workers: pd.DataFrame) -> None:
    axes.set_yticks(range(len(workers) + 1), [*worker_labels(workers), "server updates"])
    axes.set_ylim(len(workers) + 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
