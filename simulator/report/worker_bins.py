"""Bins of workers in figures: each of its own, or, if there are many, deciles by speed; and samples of workers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from simulator.host.format import UNKNOWN, known, significant
from simulator.record import RunRecord, labels_of, worker_table
from simulator.report.group_keys import ReportError
from simulator.report.grouping import Group

MOST_WORKERS = 12  # shown one by one
DECILES = 10
NO_BIN = -1
ALL = "all"  # workers together
MOST_IN_FULL = 12  # groups whose workers are shown; of more, all workers together
MOST_ROWS = 100


@dataclass(frozen=True)
class WorkerBins:
    """Bins of workers, along an axis.

    Attributes:
        of_workers: For each record, by its id, the bin of each of its workers, int64 of shape (workers,); -1 of those
            from which nothing arrived, where bins are deciles.
        names: Of each bin: a worker's id, or its decile.
        full_names: The same by itself: a worker's label, where all runs agree on it.
        labels: The same for an axis, with the seconds per local step where all runs agree on them.
        axis_label: Of all bins.
        short_labels: The labels where there is less room.
        short_axis_label: The label of their axis.
    """

    of_workers: Mapping[int, npt.NDArray[np.int64]]
    names: list[str]
    full_names: list[str]
    labels: list[str]
    axis_label: str
    short_labels: list[str]
    short_axis_label: str


def worker_bins(groups: Sequence[Group], consequence: str) -> WorkerBins:
    """Returns the bins of the workers of all groups: of at most 12 one each, else of each decile, fastest first.

    Where runs have different numbers of workers, bins are deciles too.

    Args:
        groups: Of runs in which at least one round arrived.
        consequence: What follows for a run in which none did, to be said in the error.

    Raises:
        ReportError: If no round arrived in a run.
    """
    for group in groups:
        if any(record.rounds.empty for record in group.records):
            raise ReportError(f"{group.label}: no round arrived in a run of it, so {consequence}. Leave it out")
    tables = {id(record): workers_of(record) for group in groups for record in group.records}
    sizes = {len(table) for table in tables.values()}
    low, high = min(sizes), max(sizes)
    if low == high <= MOST_WORKERS:
        full_names = _called(list(tables.values()))
        called = [each.removeprefix("worker ").replace(" in ", "\nin ") for each in full_names]
        labels = _labels(list(tables.values()), called)
        axis_label = "worker, seconds per local step" if labels != called else "worker"
        names, of_workers = [str(worker) for worker in range(high)], {key: np.arange(high) for key in tables}
        return WorkerBins(of_workers, names, full_names, labels, axis_label, labels, axis_label)
    workers = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    numbers = [str(decile) for decile in range(1, DECILES + 1)]
    return WorkerBins(
        of_workers={key: _deciles(table) for key, table in tables.items()},
        names=[f"tenth {number}" for number in numbers],
        full_names=[f"tenth {number} of {DECILES}" for number in numbers],
        labels=["fastest\ntenth", *numbers[1:-1], "slowest\ntenth"],
        axis_label=f"tenths of the {workers} workers, by seconds per local step",
        short_labels=numbers,
        short_axis_label="tenths of the workers, fastest first",
    )


def refuse_many(groups: Sequence[Group]) -> None:
    """Refuses more groups than there are rows in a figure.

    Raises:
        ReportError: If there are more than 100.
    """
    if len(groups) > MOST_ROWS:
        raise ReportError(f"{len(groups)} groups in one figure, of which at most {MOST_ROWS} fit: choose fewer runs")


def workers_of(record: RunRecord) -> pd.DataFrame:
    """Returns one row per worker of a run, see `worker_table`, with its label."""
    workers = record.summary["workers"]
    table = worker_table(record.rounds, workers, float(record.summary["simulated_seconds"]))
    return table.assign(label=labels_of(record.experiment, workers))


def evenly(count: int, most: int) -> npt.NDArray[np.int64]:
    """Returns the places of `count` things, or of `most` of them, evenly spaced with both ends."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def sample_workers(table: pd.DataFrame, most: int) -> list[int]:
    """Returns all workers' ids in order, or `most` of them, evenly spaced from the fastest to the slowest.

    Args:
        table: As `worker_table` returns it. Workers from which nothing arrived count as the slowest.
        most: How many to return at most.
    """
    if len(table) > most:
        table = table.sort_values(["seconds_per_step", "worker"]).iloc[evenly(len(table), most)]
    return [int(worker) for worker in table["worker"]]


def worker_labels(table: pd.DataFrame) -> list[str]:
    """Returns the name of each worker with its measured speed, if any.

    Args:
        table: Rows of `workers_of`.
    """
    return [
        label + (f", {significant(step_s)} s/step" if known(step_s) else "")
        for label, step_s in zip(table["label"], table["seconds_per_step"], strict=True)
    ]


def _deciles(table: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Returns for each worker the decile, 0 to 9, among those from which a round arrived."""
    arrived = table[table["rounds"] > 0].sort_values(["seconds_per_step", "worker"])
    deciles = np.full(len(table), NO_BIN)
    deciles[arrived["worker"].to_numpy()] = np.arange(len(arrived)) * DECILES // max(len(arrived), 1)
    return deciles


def _called(tables: Sequence[pd.DataFrame]) -> list[str]:
    """Returns each worker's label, or its number where runs do not agree on it."""
    first, *others = (table["label"].tolist() for table in tables)
    return first if all(other == first for other in others) else [f"worker {worker}" for worker in range(len(first))]


def _labels(tables: Sequence[pd.DataFrame], called: Sequence[str]) -> list[str]:
    """Returns what each worker is called, and its seconds per step where all runs agree on it."""
    times = pd.concat([table.set_index("worker")["seconds_per_step"] for table in tables], axis=1)
    low, high = times.min(axis=1), times.max(axis=1)
    if not bool((high <= 1.05 * low).where(low.notna(), True).all()):
        return list(called)
    means = times.mean(axis=1)
    return [
        f"{label}\n{significant(step_s) + ' s' if known(step_s) else UNKNOWN}"
        for label, step_s in zip(called, means, strict=True)
    ]
