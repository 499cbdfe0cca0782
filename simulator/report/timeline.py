"""Gantt chart of the workers of one run."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from simulator.host.format import duration
from simulator.host.nodes import SERVER
from simulator.report.arguments import Records, one_record
from simulator.report.axes import Unit, plain_ticks, unit_of
from simulator.report.message_bars import draw_messages, number_moments, rectangles
from simulator.report.rows import HALF_BAR, Rows, message_numbers, node_names, nodes_of, rows_of
from simulator.report.spans import ABSENT, MEETING, ROUND_LOST, UPDATE, Excerpt, excerpt, phases_of
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

_INK = "#333333"
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

    Where workers go on meanwhile, thin bars below a worker's own are its offers and the answers to them on their way,
    with the numbers of their fragments if there are several. The server of a region has a row below its workers, with
    what it exchanges with the upper server. Without a server, marks on a worker's bar are its meetings, and thin bars
    its offers, with the numbers of their receivers.

    Args:
        record: A run in which at least one round arrived.
        first_s: Start of the excerpt, simulated seconds; the start of the run when None.
        last_s: Its end, no later than the run's; when None, as long as the slowest worker's first three rounds, of each
            fragment if there are several, but no more than 40 rounds of the fastest.
        max_workers: Of more workers, this many are shown, evenly spaced from the fastest to the slowest.
        title: Name of the run; its variant and sweep point when None.
        size: Width and height in inches.

    Raises:
        ReportError: If no round arrived, the excerpt is empty, max_workers is below 1, or several runs are given.
    """
    run = one_record(record)
    part = excerpt(run, first_s, last_s, max_workers)
    nodes = nodes_of(run, part.shown)
    unit, rows = unit_of("time", part.last_s), rows_of(nodes, part.spans)
    label = part.label if title is None else title
    with styled([label]):
        figure, axes = new_axes(size or (WIDE_IN, 1.35 + 0.21 * rows.height))
        phases = phases_of(part.spans)
        for what in phases:
            _draw_bars(axes, what, part.spans, rows, unit)
        losses = _draw_losses(axes, part.spans, rows, unit)
        axes.set_xlim(part.first_s / unit.size, part.last_s / unit.size)
        others = draw_messages(axes, part.spans, rows, unit) | _draw_meetings(axes, part, rows, unit)
        _draw_updates(axes, part, rows, unit)
        _label_rows(axes, rows, part.workers, node_names(run, nodes))
        axes.set_xlabel(f"simulated time ({unit.unit})")
        plain_ticks(axes.xaxis, most=8)
        axes.set_title(_notes(part, lost=ROUND_LOST in losses), fontweight="normal", fontsize=8)
        labels = [*phases, *losses, *others]
        entries = [*(phase_patch(what) for what in phases), *losses.values(), *others.values()]
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
    numbered = message_numbers(part.spans)[1]
    if numbered:
        lines.append(f"thin bars: messages on their way, numbered by {numbered}")
    return "\n".join(lines)


def _title_above_axes(figure: Figure, axes: Axes, label: str) -> None:
    """Writes the label above the axes' own title, in bold, centered on the axes rather than on the figure."""
    title = figure.suptitle(wrapped_title(figure, label), fontweight="bold", fontsize=9)
    figure.draw_without_rendering()  # lays the axes out
    box = axes.get_position()
    title.set_x((box.x0 + box.x1) / 2)


def _draw_bars(axes: Axes, what: str, spans: pd.DataFrame, rows: Rows, unit: Unit) -> None:
    face, edge, hatch = PHASES[what]
    own = spans[spans["what"] == what]
    bars = rectangles(own, rows.place[own["worker"]].to_numpy(), HALF_BAR, unit)
    style: dict[str, Any] = {"facecolor": face, "edgecolor": edge, "linewidth": 0.4, "hatch": hatch, "zorder": 2}
    axes.add_collection(PolyCollection(bars, label=what, **style))


def _draw_losses(axes: Axes, spans: pd.DataFrame, rows: Rows, unit: Unit) -> dict[str, Artist]:
    """Draws absences of workers and losses of rounds; returns the legend's entries."""
    entries: dict[str, Artist] = {}
    if (spans["what"] == ABSENT).any():
        _draw_bars(axes, ABSENT, spans, rows, unit)
        entries[ABSENT] = phase_patch(ABSENT)
    lost = spans[spans["what"] == ROUND_LOST]
    if len(lost):
        x, y = lost["first_s"].to_numpy() / unit.size, rows.place[lost["worker"]].to_numpy()
        entries[ROUND_LOST] = axes.scatter(x, y, marker="x", s=14, linewidths=1.2, color=LOST, zorder=4)
    return entries


def _draw_meetings(axes: Axes, part: Excerpt, rows: Rows, unit: Unit) -> dict[str, Artist]:
    """Marks the meetings at workers on their bars; returns the legend's entry."""
    met = part.spans[part.spans["what"] == MEETING]
    if met.empty:
        return {}
    for worker, own in met.groupby("worker"):
        x, y = _apart(own["first_s"].to_numpy(), part) / unit.size, rows.place[worker]
        axes.vlines(x, y - 0.45, y + 0.45, color=_INK, linewidth=1.3, zorder=3, label="meetings")
    return {
        MEETING: Line2D(
            [], [], color=_INK, linewidth=0, marker="|", markersize=8, markeredgecolor=_INK, markeredgewidth=1.3
        )
    }


def _draw_updates(axes: Axes, part: Excerpt, rows: Rows, unit: Unit) -> None:
    """Marks every new version at a server in its row, and where they are few through the rows of its workers."""
    updates = part.spans[part.spans["what"] == UPDATE]
    several = bool((updates["fragment"] > 0).any())
    nodes, places = rows.place.index.tolist(), rows.place.tolist()
    top = places[0]
    for number, (node, y) in enumerate(zip(nodes, places, strict=True)):
        if node >= 0:
            continue
        own = updates[updates["worker"] == node]
        times = _apart(own["first_s"].to_numpy(), part) / unit.size
        width = 0.7 if len(times) <= 4 * _MOST_LINES else 0.15
        axes.vlines(times, y - HALF_BAR, y + HALF_BAR, color=_INK, linewidth=width, label="updates")
        if len(times) <= _MOST_LINES and top < y:
            axes.vlines(times, top - 0.5, y - 0.5, color="#9a9a9a", linewidth=0.4, zorder=1, label="update lines")
        if several and len(times) == len(own):
            number_moments(axes, times, y, own["fragment"])
        top = places[min(number + 1, len(places) - 1)]


def _apart(times_s: npt.NDArray[np.float64], part: Excerpt) -> npt.NDArray[np.float64]:
    """Returns moments of which no more are left than a figure has dots, one for each of equal parts of the excerpt."""
    if len(times_s) <= _MOST_MARKS:
        return times_s
    share = (times_s - part.first_s) / (part.last_s - part.first_s)
    return times_s[np.unique(np.floor(share * _MOST_MARKS), return_index=True)[1]]


def _label_rows(axes: Axes, rows: Rows, workers: pd.DataFrame, name: Callable[[int], str]) -> None:
    nodes = list(rows.place.index)
    labels = dict(zip(workers["worker"], worker_labels(workers), strict=True))
    single = {SERVER: "server updates"} if min(nodes) == SERVER else {}
    names = [(labels | single).get(node) or name(node) for node in nodes]
    axes.set_yticks(rows.place, names)
    axes.set_ylim(rows.height - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
