"""Places of workers in figures: one of its own each, or, if there are many, tenths by speed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from simulator.host.format import UNKNOWN, significant
from simulator.record import RunRecord, worker_table
from simulator.report.grouping import Group

MOST_WORKERS = 12  # shown one by one
TENTHS = 10
NOWHERE = -1
ALL = "all"  # workers together
MOST_IN_FULL = 12  # groups whose workers are shown; of more, all workers together
MOST_ROWS = 100


@dataclass(frozen=True)
class Slots:
    """Places for workers on an axis.

    Attributes:
        of_workers: For each record, by its id, the place of each of its workers, int64 of shape (workers,); -1 of those
            from which nothing arrived, where places are tenths.
        tables: For each record, by its id, its `worker_table`.
        names: Of each place: a worker's id, or its tenth.
        labels: The same for an axis, with the seconds per local step where all runs agree on them.
        axis_label: Of all places.
    """

    of_workers: Mapping[int, np.ndarray]
    tables: Mapping[int, pd.DataFrame]
    names: list[str]
    labels: list[str]
    axis_label: str

    @property
    def _tenths(self) -> bool:
        return self.names[0].startswith("tenth")

    @property
    def short_labels(self) -> list[str]:
        """The labels, of tenths their numbers alone."""
        return [name.removeprefix("tenth ") for name in self.names] if self._tenths else self.labels

    @property
    def short_axis_label(self) -> str:
        """Label of an axis with short labels."""
        return "tenths of the workers, fastest first" if self._tenths else self.axis_label


def slots_of(groups: Sequence[Group]) -> Slots:
    """Returns places for the workers of all groups: of at most 12 one each, else of each tenth, fastest first.

    Where runs have different numbers of workers, places are tenths too.
    """
    records = [record for group in groups for record in group.records]
    tables = {id(record): _table(record) for record in records}
    sizes = {len(table) for table in tables.values()}
    low, high = min(sizes), max(sizes)
    if low == high <= MOST_WORKERS:
        labels = _worker_labels(list(tables.values()))
        timed = any("\n" in label for label in labels)
        return Slots(
            of_workers={key: np.arange(high) for key in tables},
            tables=tables,
            names=[str(worker) for worker in range(high)],
            labels=labels,
            axis_label="worker, seconds per local step" if timed else "worker",
        )
    workers = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return Slots(
        of_workers={key: _tenths(table) for key, table in tables.items()},
        tables=tables,
        names=[f"tenth {tenth}" for tenth in range(1, TENTHS + 1)],
        labels=["fastest\ntenth", *(str(tenth) for tenth in range(2, TENTHS)), "slowest\ntenth"],
        axis_label=f"tenths of the {workers} workers, by seconds per local step",
    )


def _table(record: RunRecord) -> pd.DataFrame:
    return worker_table(record.rounds, record.summary["workers"], record.summary["simulated_seconds"])


def _tenths(table: pd.DataFrame) -> np.ndarray:
    """Returns for each worker the tenth, 0 to 9, among those from which a round arrived."""
    arrived = table[table["rounds"] > 0].sort_values(["seconds_per_step", "worker"])
    tenths = np.full(len(table), NOWHERE)
    tenths[arrived["worker"].to_numpy()] = np.arange(len(arrived)) * TENTHS // max(len(arrived), 1)
    return tenths


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
