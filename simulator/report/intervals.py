"""Intervals of the phases of one run's workers, as a table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from simulator.record import RunRecord, worker_table
from simulator.record.absences import absences
from simulator.report.given import Records, one_record
from simulator.report.group_keys import ReportError
from simulator.report.grouping import run_labels

SERVER = -1
SPANS = {  # of a round: its first and its last moment
    "wait": ("ready_s", "pull_start_s"),
    "pull": ("pull_start_s", "compute_start_s"),
    "compute": ("compute_start_s", "push_start_s"),
    "push": ("push_start_s", "arrival_s"),
}
ROUND_LOST, UPDATE = "round lost", "server update"
_EXCERPT_ROUNDS = 3  # of the slowest worker
_EXCERPT_BARS = 40  # at most, of the fastest worker


@dataclass(frozen=True)
class Excerpt:
    """A part of a run.

    Attributes:
        label: Name of the run.
        first_s: Its start, simulated seconds.
        last_s: Its end.
        end_s: Length of the run.
        workers: The run's `worker_table`.
        shown: Ids of the workers that are in it.
        spans: See `timeline_table`.
    """

    label: str
    first_s: float
    last_s: float
    end_s: float
    workers: pd.DataFrame
    shown: list[int]
    spans: pd.DataFrame


def timeline_table(
    record: Records, *, first_s: float | None = None, last_s: float | None = None, max_workers: int = 16
) -> pd.DataFrame:
    """Returns the intervals of the phases of one run's workers, which `timeline` draws.

    Args:
        record: A run in which at least one round arrived.
        first_s: Start of the excerpt, simulated seconds; the start of the run when None.
        last_s: Its end, no later than the run's; when None, as long as the slowest worker's first three rounds, but
            no more than 40 rounds of the fastest.
        max_workers: Of more workers, this many are shown, evenly spaced from the fastest to the slowest.

    Returns:
        One row for whatever touches the excerpt, by worker and time. Columns worker (-1 is the server); what (wait,
        pull, compute, push or absent; and, of moments, "round lost" and "server update"); first_s and last_s (simulated
        seconds; the same of moments), which may lie outside of the excerpt.

    Raises:
        ReportError: If no round arrived, the excerpt is empty, max_workers is below 1, or several runs are given.
    """
    return excerpt(one_record(record), first_s, last_s, max_workers).spans


def excerpt(record: RunRecord, first_s: float | None, last_s: float | None, max_workers: int) -> Excerpt:
    """Returns a part of a run; the arguments are those of `timeline_table`.

    Raises:
        ReportError: As `timeline_table`.
    """
    label = run_labels(record)[0]
    if record.rounds.empty:
        raise ReportError(f"{label}: no round arrived, so there is nothing to draw")
    if max_workers < 1:
        raise ReportError(f"max_workers is {max_workers}, but at least 1 worker must be shown")
    end_s = float(record.summary["simulated_seconds"])
    start_s = 0.0 if first_s is None else first_s
    stop_s = min(start_s + _excerpt_s(record.rounds), end_s) if last_s is None else min(last_s, end_s)
    if not start_s < stop_s:
        raise ReportError(f"{label}: the excerpt from {start_s} s to {stop_s} s is empty; the run lasts {end_s} s")
    workers = worker_table(record.rounds, record.summary["workers"], end_s)
    shown = sample_workers(workers, max_workers)
    return Excerpt(label, start_s, stop_s, end_s, workers, shown, _spans(record, shown, start_s, stop_s))


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
    """Returns the length of a readable excerpt, seconds."""
    cycle_s = (rounds["arrival_s"] - rounds["ready_s"]).groupby(rounds["worker"]).median()
    return float(min(_EXCERPT_ROUNDS * cycle_s.max(), _EXCERPT_BARS * cycle_s.min()))


def _spans(record: RunRecord, shown: Sequence[int], start_s: float, stop_s: float) -> pd.DataFrame:
    rounds = record.rounds[record.rounds["worker"].isin(shown)]
    parts = []
    for what, (first, last) in SPANS.items():
        parts.append(_part(what, rounds["worker"], rounds[first], rounds[last]))
    # after its last arrival a worker waits at least until the server has processed it
    tail = rounds.drop_duplicates("worker", keep="last")
    until_s = tail["update_s"].mask(tail["waited_to_end"] == 1, stop_s)
    parts.append(_part("wait", tail["worker"], tail["arrival_s"], until_s))
    faults = record.faults[record.faults["worker"].isin(shown)]
    away = absences(faults, stop_s)
    parts.append(_part("absent", away["worker"], away["first_s"], away["last_s"]))
    spans = pd.concat(parts)
    spans = spans[(spans["last_s"] > spans["first_s"]) & (spans["first_s"] < stop_s) & (spans["last_s"] > start_s)]
    lost = faults[(faults["fault"] == "lost") & faults["time_s"].between(start_s, stop_s)]
    applied = record.rounds[record.rounds["outcome"] == "applied"].drop_duplicates("version")["update_s"]
    applied = applied[applied.between(start_s, stop_s)]
    moments = [
        _part(ROUND_LOST, lost["worker"], lost["time_s"], lost["time_s"]),
        _part(UPDATE, pd.Series(SERVER, index=applied.index), applied, applied),
    ]
    return pd.concat([spans, *moments]).sort_values(["worker", "first_s"], kind="stable", ignore_index=True)


def _part(what: str, worker: "pd.Series[int]", first_s: "pd.Series[float]", last_s: "pd.Series[float]") -> pd.DataFrame:
    columns = {"worker": worker, "what": what, "first_s": first_s, "last_s": last_s}
    return pd.DataFrame(columns).astype({"worker": "int64", "what": "str", "first_s": "float64", "last_s": "float64"})
