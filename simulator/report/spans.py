"""Spans of what the workers of one run did, as one table: timelines, traces and shares of time are drawn from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from simulator.record import RunRecord
from simulator.record.absences import absences
from simulator.report.arguments import Records, one_record
from simulator.report.group_keys import ReportError
from simulator.report.grouping import run_labels
from simulator.report.worker_bins import sample_workers, workers_of

SERVER = -1
SPANS = {  # of a round: its first and its last moment
    "wait": ("ready_s", "pull_start_s"),
    "pull": ("pull_start_s", "compute_start_s"),
    "compute": ("compute_start_s", "push_start_s"),
    "push": ("push_start_s", "arrival_s"),
}
ABSENT, LOST = "absent", "lost"
ROUND_LOST, UPDATE = "round lost", "server update"
_EXCERPT_ROUNDS = 3  # of the slowest worker
_EXCERPT_BARS = 40  # at most, of the fastest worker


class Span(NamedTuple):
    """Row of a table of spans.

    Attributes:
        worker: Its id; `SERVER` of the server.
        what: One of `SPANS`; `LOST`, up to a round that arrived, from the arrival of the one before; `ABSENT`, which
            lies over the others; or a moment: `ROUND_LOST` or `UPDATE`.
        first_s: Start, simulated seconds.
        last_s: End; of a moment the same.
        row: Of the record's table from which it follows: of faults if it is `ABSENT` or `ROUND_LOST`, else of rounds.
    """

    worker: int
    what: str
    first_s: float
    last_s: float
    row: int


def spans_of(record: RunRecord, workers: Sequence[int] | None = None, until_s: float | None = None) -> pd.DataFrame:
    """Returns the spans of a run, by worker and time; those without any length are left out.

    Args:
        record: The run.
        workers: Only those of these workers, and of the server.
        until_s: End of what goes on until the simulation ends; the end of the simulation when None.

    Returns:
        Columns as `Span`. The spans of a worker but the absences cover its time up to where the server had processed
        its last arrival, or up to the end if it was given no further round.
    """
    until_s = float(record.summary["simulated_seconds"]) if until_s is None else until_s
    rounds, faults = record.rounds, record.faults[record.faults["worker"] >= 0]
    applied = rounds[rounds["outcome"] == "applied"].drop_duplicates("version")
    if workers is not None:
        rounds, faults = (table[table["worker"].isin(workers)] for table in (rounds, faults))
    before_s = rounds.groupby("worker")["arrival_s"].shift(fill_value=0.0)
    tail = rounds.drop_duplicates("worker", keep="last")  # then a worker waits until the server has processed it
    tail_s = tail["update_s"].mask(tail["waited_to_end"] == 1, until_s)
    away, lost = absences(faults, until_s), faults[faults["fault"] == "lost"]
    table = pd.concat(
        [
            *(_part(rounds["worker"], what, rounds[first], rounds[last]) for what, (first, last) in SPANS.items()),
            _part(rounds["worker"], LOST, before_s, rounds["ready_s"]),
            _part(tail["worker"], "wait", tail["arrival_s"], tail_s),
            _part(away["worker"], ABSENT, away["first_s"], away["last_s"]),
        ]
    )
    moments = (
        _part(lost["worker"], ROUND_LOST, lost["time_s"], lost["time_s"]),
        _part(pd.Series(SERVER, index=applied.index), UPDATE, applied["update_s"], applied["update_s"]),
    )
    table = pd.concat([table[table["last_s"] > table["first_s"]], *moments])
    return table.sort_values(["worker", "first_s"], kind="stable", ignore_index=True)


def _part(worker: "pd.Series[int]", what: str, first_s: "pd.Series[float]", last_s: "pd.Series[float]") -> pd.DataFrame:
    columns = dict(zip(Span._fields, (worker, what, first_s, last_s, worker.index), strict=True))
    kinds = dict(zip(Span._fields, ("int64", "str", "float64", "float64", "int64"), strict=True))
    return pd.DataFrame(columns).astype(kinds)


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
    """Returns the spans of the phases of one run's workers, which `timeline` draws.

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
    stop_s = min(start_s + readable_s(record.rounds), end_s) if last_s is None else min(last_s, end_s)
    if not start_s < stop_s:
        raise ReportError(f"{label}: the excerpt from {start_s} s to {stop_s} s is empty; the run lasts {end_s} s")
    workers = workers_of(record)
    shown = sample_workers(workers, max_workers)
    table = spans_of(record, shown, stop_s).drop(columns="row")
    touching = (table["first_s"] < stop_s) & (table["last_s"] > start_s) & (table["what"] != LOST)
    moments = table["what"].isin((ROUND_LOST, UPDATE)) & table["first_s"].between(start_s, stop_s)
    table = table[touching | moments].reset_index(drop=True)
    return Excerpt(label, start_s, stop_s, end_s, workers, shown, table)


def readable_s(rounds: pd.DataFrame) -> float:
    """Returns the length of an excerpt in which the bars of these rounds can be told apart, seconds."""
    cycle_s = (rounds["arrival_s"] - rounds["ready_s"]).groupby(rounds["worker"]).median()
    return float(min(_EXCERPT_ROUNDS * cycle_s.max(), _EXCERPT_BARS * cycle_s.min()))
