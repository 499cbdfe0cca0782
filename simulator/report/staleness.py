"""How stale the rounds of each worker were, or, of many workers, of each tenth of them by speed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from simulator.record import RunRecord, worker_table
from simulator.report.axes import plain_ticks
from simulator.report.format import UNKNOWN, significant
from simulator.report.grouping import Group, ReportError, group_records
from simulator.report.style import (
    SINGLE_COLUMN_IN,
    WIDE_IN,
    Look,
    arrange_legend,
    draw_legend,
    looks,
    new_figure,
    styled,
)

MOST_WORKERS = 12  # shown one by one
TENTHS = 10


@dataclass(frozen=True)
class _Slots:
    """Where rounds are shown on the x axis.

    Attributes:
        of_round: For each group, the slot of each of its rounds, shape (rounds,).
        staleness: For each group, the staleness of each of its rounds, shape (rounds,).
        labels: One per slot.
        axis_label: What the slots are.
    """

    of_round: list[np.ndarray]
    staleness: list[np.ndarray]
    labels: list[str]
    axis_label: str


def staleness(records: Sequence[RunRecord], *, size: tuple[float, float] | None = None) -> Figure:
    """Returns the distribution of staleness per worker, next to one another for each variant.

    A thin line spans the smallest to the largest staleness, a thick one the middle half of the rounds, the marker is
    the mean. Workers are labelled by their measured seconds per local step. Where a run has more than 12 workers, they
    are ordered by that time and shown in tenths, the rounds of each tenth taken together. Repeats of a variant are
    taken together too.

    Args:
        records: Runs in which at least one round arrived.
        size: Width and height in inches.

    Raises:
        ReportError: If there is no record, or no round arrived in one.
    """
    groups = group_records(records)
    tables = {id(record): _worker_table(record, group.label) for group in groups for record in group.records}
    slots = _slots(groups, tables)
    crowded = len(slots.labels) * len(groups) > 20
    width_in = size[0] if size else WIDE_IN if crowded else SINGLE_COLUMN_IN
    explanation = "marker: mean, thick: middle half, thin: min to max"
    legend = arrange_legend([group.label for group in groups], explanation, width_in)
    with styled():
        figure, axes = new_figure(size or (width_in, 2.3 + legend.height_in))
        handles = [
            _draw(axes, slots.of_round[index], slots.staleness[index], look, index, len(groups))
            for index, look in enumerate(looks(len(groups)))
        ]
        axes.set_xticks(range(len(slots.labels)), slots.labels)
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.5, len(slots.labels) - 0.5)
        for between in range(1, len(slots.labels)):
            axes.axvline(between - 0.5, color="#e8e8e8", linewidth=0.6, zorder=0)
        axes.set_xlabel(slots.axis_label)
        axes.set_ylabel("staleness (server updates)")
        highest = max(max(float(stale.max()) for stale in slots.staleness), 1.0)
        axes.set_ylim(-0.04 * highest, 1.06 * highest)
        plain_ticks(axes.yaxis, integer=True)
        axes.grid(axis="y")
        draw_legend(figure, handles, legend)
    return figure


def _worker_table(record: RunRecord, label: str) -> pd.DataFrame:
    if record.rounds.empty:
        raise ReportError(f"{label}: no round arrived in a run of it, so there is no staleness. Leave it out")
    return worker_table(record.rounds, record.summary["workers"], record.summary["simulated_seconds"])


def _slots(groups: Sequence[Group], tables: dict[int, pd.DataFrame]) -> _Slots:
    sizes = {len(table) for table in tables.values()}
    each = len(sizes) == 1 and max(sizes) <= MOST_WORKERS
    of_round: list[np.ndarray] = []
    stale: list[np.ndarray] = []
    for group in groups:
        parts = [
            record.rounds["worker"].to_numpy() if each else _tenth_of_round(record, tables[id(record)])
            for record in group.records
        ]
        of_round.append(np.concatenate(parts))
        stale.append(np.concatenate([record.rounds["staleness"].to_numpy() for record in group.records]))
    if each:
        labels = _worker_labels(list(tables.values()))
        timed = any("\n" in label for label in labels)
        return _Slots(of_round, stale, labels, "worker, seconds per local step" if timed else "worker")
    labels = ["fastest\ntenth", *(str(tenth) for tenth in range(2, TENTHS)), "slowest\ntenth"]
    low, high = min(sizes), max(sizes)
    workers = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return _Slots(of_round, stale, labels, f"tenths of the {workers} workers, by seconds per local step")


def _tenth_of_round(record: RunRecord, table: pd.DataFrame) -> np.ndarray:
    """Returns for each round the tenth, 0 to 9, of its worker among those from which a round arrived."""
    arrived = table[table["rounds"] > 0].sort_values(["seconds_per_step", "worker"])
    tenth = pd.Series(np.arange(len(arrived)) * TENTHS // len(arrived), index=arrived["worker"])
    return tenth.loc[record.rounds["worker"]].to_numpy()


def _worker_labels(tables: Sequence[pd.DataFrame]) -> list[str]:
    """Returns each worker's id, and its seconds per step where all runs agree on it."""
    times = pd.concat([table.set_index("worker")["seconds_per_step"] for table in tables], axis=1)
    low, high = times.min(axis=1), times.max(axis=1)
    agree = bool((high <= 1.05 * low).where(low.notna(), True).all())
    if not agree:
        return [str(worker) for worker in times.index]
    means = times.mean(axis=1)
    return [
        f"{worker}\n{UNKNOWN if np.isnan(step_s) else significant(step_s) + ' s'}" for worker, step_s in means.items()
    ]


def _draw(axes: Axes, slot: np.ndarray, stale: np.ndarray, look: Look, index: int, of: int) -> Line2D:
    offset = (index - (of - 1) / 2) * 0.8 / of
    for place in np.unique(slot):
        values = stale[slot == place]
        low, first, third, high = np.quantile(values, [0, 0.25, 0.75, 1])
        x = place + offset
        axes.vlines(x, low, high, color=look.color, linewidth=0.9)
        axes.vlines(x, first, third, color=look.color, linewidth=3.2, alpha=0.55)
        axes.plot(
            x, values.mean(), look.marker, color=look.color, markeredgecolor="white", markeredgewidth=0.4, zorder=3
        )
    return Line2D([], [], color=look.color, marker=look.marker, linewidth=0.9, markeredgecolor="white")
