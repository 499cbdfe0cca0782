"""What the workers were doing when: a Gantt chart of one run."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from simulator.record import RunRecord, worker_table
from simulator.report.axes import Unit, plain_ticks, time_unit
from simulator.report.format import duration, significant
from simulator.report.grouping import ReportError, group_records
from simulator.report.style import WIDE_IN, arrange_legend, draw_legend, new_figure, styled, wrapped_title

# phase -> (its first and last moment, face colour, hatch): no two share a hatch, so they differ without colour too
PHASES = {
    "wait": ("ready_s", "pull_start_s", "#f2f2f2", "...."),
    "pull": ("pull_start_s", "compute_start_s", "#56B4E9", "/////"),
    "compute": ("compute_start_s", "push_start_s", "#0072B2", ""),
    "push": ("push_start_s", "arrival_s", "#E69F00", "\\\\\\\\\\"),
}
_HEIGHT = 0.72  # of a bar; a row is 1
_EXCERPT_ROUNDS = 3  # of the slowest worker
_EXCERPT_BARS = 40  # at most, of the fastest worker
_MOST_MARKS = 1000  # of server updates
_MOST_LINES = 60  # server updates drawn through all rows


def timeline(
    record: RunRecord,
    *,
    first_s: float | None = None,
    last_s: float | None = None,
    max_workers: int = 16,
    size: tuple[float, float] | None = None,
) -> Figure:
    """Returns a row per worker with bars for wait, pull, compute and push, and marks for the server's updates.

    Where workers were not there, bars say so, and crosses mark when rounds were lost. Rounds still on their way when
    the simulation ended are not in a record, so a row may end before the run does.

    Args:
        record: A run in which at least one round arrived.
        first_s: Start of the excerpt, simulated seconds; the start of the run when None.
        last_s: Its end, no later than the run's; when None, as long as the slowest worker's first three rounds, but
            no more than 40 rounds of the fastest.
        max_workers: Of more workers, this many are shown, evenly spaced from the fastest to the slowest.
        size: Width and height in inches.

    Raises:
        ReportError: If no round arrived, the excerpt is empty, or max_workers is below 1.
    """
    label = group_records([record])[0].label
    if record.rounds.empty:
        raise ReportError(f"{label}: no round arrived, so there is nothing to draw")
    if max_workers < 1:
        raise ReportError(f"max_workers is {max_workers}, but at least 1 worker must be shown")
    end_s = float(record.summary["simulated_seconds"])
    start_s = 0.0 if first_s is None else first_s
    stop_s = min(start_s + _excerpt_s(record.rounds), end_s) if last_s is None else min(last_s, end_s)
    if not start_s < stop_s:
        raise ReportError(f"{label}: the excerpt from {start_s} s to {stop_s} s is empty; the run lasts {end_s} s")
    table = worker_table(record.rounds, record.summary["workers"], end_s)
    shown = sample_workers(table, max_workers)
    unit = time_unit(stop_s)
    with styled():
        figure, axes = new_figure(size or (WIDE_IN, 1.35 + 0.21 * (len(shown) + 1)))
        handles = _draw_bars(axes, record.rounds, shown, (start_s, stop_s), unit)
        losses = _draw_losses(axes, record.faults, shown, (start_s, stop_s), unit)
        _draw_updates(axes, record.rounds, start_s, stop_s, unit, len(shown))
        _label_rows(axes, table, shown)
        axes.set_xlim(start_s / unit.size, stop_s / unit.size)
        axes.set_xlabel(f"simulated time ({unit.unit})")
        plain_ticks(axes.xaxis, most=8)
        notes = _notes(table, shown, start_s, stop_s, end_s, lost="round lost" in losses)
        axes.set_title(notes, fontweight="normal", fontsize=8)
        labels = [*PHASES, *losses]
        entries = [*handles, *losses.values()]
        draw_legend(figure, entries, arrange_legend(labels, "", figure.get_figwidth()), below=True)
        _title_above_axes(figure, axes, label)
    return figure


def sample_workers(table: pd.DataFrame, most: int) -> list[int]:
    """Returns all workers' ids in order, or `most` of them, evenly spaced from the fastest to the slowest.

    Args:
        table: As `worker_table` returns it. Workers from which nothing arrived count as the slowest.
        most: How many to return at most.
    """
    if len(table) <= most:
        return [int(worker) for worker in table["worker"]]
    by_speed = table.sort_values(["seconds_per_step", "worker"])["worker"].to_numpy()
    places = np.unique(np.linspace(0, len(by_speed) - 1, most).round().astype(int))
    return [int(worker) for worker in by_speed[places]]


def _excerpt_s(rounds: pd.DataFrame) -> float:
    """Returns how long a readable excerpt is, seconds."""
    cycle_s = (rounds["arrival_s"] - rounds["ready_s"]).groupby(rounds["worker"]).median()
    return float(min(_EXCERPT_ROUNDS * cycle_s.max(), _EXCERPT_BARS * cycle_s.min()))


def _notes(
    table: pd.DataFrame, shown: Sequence[int], start_s: float, stop_s: float, end_s: float, *, lost: bool
) -> str:
    """Returns which part of the run and of the cluster is shown, and what blank space means where there is some."""
    if start_s <= 0 and stop_s >= end_s:
        lines = [f"the whole run, {duration(end_s)}"]
    elif start_s <= 0:
        lines = [f"first {duration(stop_s)} of {duration(end_s)}"]
    else:
        lines = [f"{duration(start_s)} to {duration(stop_s)} of {duration(end_s)}"]
    if len(shown) < len(table):
        lines.append(f"{len(shown):,} of {len(table):,} workers, evenly spaced from fastest to slowest")
    visible = table.set_index("worker").loc[list(shown)]
    if bool((visible["covered_s"] < min(stop_s, end_s)).any()) or lost:
        lines.append("blank: a round that never arrived")
    return "\n".join(lines)


def _title_above_axes(figure: Figure, axes: Axes, label: str) -> None:
    """Writes the label above the axes' own title, in bold, centered on the axes rather than on the figure."""
    title = figure.suptitle(wrapped_title(figure, label), fontweight="bold", fontsize=9)
    figure.draw_without_rendering()  # lays the axes out
    box = axes.get_position()
    title.set_x((box.x0 + box.x1) / 2)


def _draw_bars(
    axes: Axes, rounds: pd.DataFrame, shown: Sequence[int], window_s: tuple[float, float], unit: Unit
) -> list[Patch]:
    row = pd.Series(range(len(shown)), index=list(shown))
    rounds = rounds[rounds["worker"].isin(row.index)]
    handles = []
    for phase, (first, last, color, hatch) in PHASES.items():
        bars = rounds[["worker", first, last]].set_axis(["worker", "first_s", "last_s"], axis=1)
        if phase == "wait":  # after its last arrival a worker waits at least until the server has processed it
            tail = rounds.drop_duplicates("worker", keep="last")[["worker", "arrival_s", "update_s", "waited_to_end"]]
            tail["update_s"] = tail["update_s"].mask(tail.pop("waited_to_end") == 1, window_s[1])
            bars = pd.concat([bars, tail.set_axis(bars.columns, axis=1)])
        bars = bars[
            (bars["last_s"] > bars["first_s"]) & (bars["first_s"] < window_s[1]) & (bars["last_s"] > window_s[0])
        ]
        edge = "white" if phase == "compute" else "#444444"
        axes.add_collection(
            PolyCollection(
                _rectangles(bars, row, unit),
                facecolor=color,
                edgecolor=edge,
                linewidth=0.4,
                hatch=hatch,
                label=phase,
                zorder=2,
            )
        )
        handles.append(Patch(facecolor=color, edgecolor="#444444", linewidth=0.4, hatch=hatch))
    return handles


def _draw_losses(
    axes: Axes, faults: pd.DataFrame, shown: Sequence[int], window_s: tuple[float, float], unit: Unit
) -> dict[str, Artist]:
    """Draws when workers were not there and when rounds were lost; returns the legend's entries."""
    row = pd.Series(range(len(shown)), index=list(shown))
    faults = faults[faults["worker"].isin(row.index)]
    entries: dict[str, Artist] = {}
    away = absences(faults, window_s[1])
    away = away[(away["last_s"] > window_s[0]) & (away["last_s"] > away["first_s"])]
    if len(away):
        look: dict[str, Any] = {"facecolor": "white", "edgecolor": "#b22222", "linewidth": 0.4, "hatch": "xxxx"}
        axes.add_collection(PolyCollection(_rectangles(away, row, unit), label="absent", zorder=2, **look))
        entries["absent"] = Patch(**look)
    lost = faults[(faults["fault"] == "lost") & faults["time_s"].between(*window_s)]
    if len(lost):
        x, y = lost["time_s"].to_numpy() / unit.size, row.loc[lost["worker"]].to_numpy()
        entries["round lost"] = axes.scatter(x, y, marker="x", s=14, linewidths=1.2, color="#b22222", zorder=4)
    return entries


def absences(faults: pd.DataFrame, end_s: float) -> pd.DataFrame:
    """Returns columns worker, first_s and last_s of the times in which workers were not there before `end_s`."""
    kinds = ("crash", "preemption", "departure", "late")
    changes = faults[faults["fault"].isin([*kinds, "return"]) & (faults["time_s"] < end_s)]
    after_s = changes.groupby("worker")["time_s"].shift(-1).fillna(end_s)
    begins = changes["fault"].isin(kinds)
    return pd.DataFrame({"worker": changes["worker"], "first_s": changes["time_s"], "last_s": after_s})[begins]


def _rectangles(bars: pd.DataFrame, row: "pd.Series[int]", unit: Unit) -> list[np.ndarray]:
    """Returns the four corners of each bar, in the units of the axes, shape (4, 2)."""
    left, right = bars["first_s"].to_numpy() / unit.size, bars["last_s"].to_numpy() / unit.size
    low = row.loc[bars["worker"]].to_numpy() - _HEIGHT / 2
    high = low + _HEIGHT
    x = np.stack([left, left, right, right], axis=-1)
    y = np.stack([low, high, high, low], axis=-1)
    return list(np.stack([x, y], axis=-1))


def _draw_updates(axes: Axes, rounds: pd.DataFrame, start_s: float, stop_s: float, unit: Unit, rows: int) -> None:
    """Marks every change of the server's version in a row of its own, and through all rows where they are few."""
    applied = rounds[rounds["outcome"] == "applied"].drop_duplicates("version")["update_s"]
    times = applied[applied.between(start_s, stop_s)].to_numpy() / unit.size
    if len(times) > _MOST_MARKS:  # more than the figure has dots: one for each of as many equal parts of the excerpt
        part = np.floor((times - start_s / unit.size) / ((stop_s - start_s) / unit.size) * _MOST_MARKS)
        times = times[np.unique(part, return_index=True)[1]]
    width = 0.7 if len(times) <= 4 * _MOST_LINES else 0.15
    axes.vlines(times, rows - _HEIGHT / 2, rows + _HEIGHT / 2, color="#333333", linewidth=width, label="updates")
    if len(times) <= _MOST_LINES:
        axes.vlines(times, -0.5, rows - 0.5, color="#9a9a9a", linewidth=0.4, zorder=1, label="update lines")


def _label_rows(axes: Axes, table: pd.DataFrame, shown: Sequence[int]) -> None:
    step_s = table.set_index("worker")["seconds_per_step"]
    labels = [
        f"worker {worker}" + ("" if np.isnan(step_s[worker]) else f", {significant(step_s[worker])} s/step")
        for worker in shown
    ]
    axes.set_yticks(range(len(shown) + 1), [*labels, "server updates"])
    axes.set_ylim(len(shown) + 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
