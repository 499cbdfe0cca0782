"""Spans of what the nodes of one run did, as one table: timelines, traces and shares of time are drawn from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from simulator.host.nodes import SERVER
from simulator.record import RunRecord
from simulator.record.absences import absences
from simulator.record.workers import blocked_s, covered_until_s, free_again_s, goes_on, in_order_of_dispatch
from simulator.report.arguments import Records, one_record
from simulator.report.group_keys import ReportError
from simulator.report.grouping import run_labels
from simulator.report.worker_bins import sample_workers, workers_of

SPANS = {  # of a round of a worker that waits for what it sends: its first and its last moment
    "wait": ("ready_s", "pull_start_s"),
    "pull": ("pull_start_s", "compute_start_s"),
    "compute": ("compute_start_s", "push_start_s"),
    "push": ("push_start_s", "arrival_s"),
}
ABSENT, LOST = "absent", "lost"
OFFER, ANSWER = "offer", "answer"
MESSAGES = (OFFER, ANSWER)
ROUND_LOST, UPDATE, MEETING = "round lost", "server update", "meeting"
MOMENTS = (ROUND_LOST, UPDATE, MEETING)
_EXCERPT_ROUNDS = 3  # of the slowest worker
_EXCERPT_BARS = 40  # at most, of the fastest worker
_NS = 1e-9  # the clock's unit, in seconds


class Span(NamedTuple):
    """Row of a table of spans.

    Attributes:
        worker: Its id; `SERVER` of the server, or of the one above those of regions, which are -2 and below.
        what: One of `SPANS`; `LOST`, up to a round that arrived, from the end of the one before; one of `MESSAGES`, and
            `ABSENT`, which lie over the others; or one of `MOMENTS`.
        first_s: Start, simulated seconds.
        last_s: End; of a moment the same.
        row: Of the record's table from which it follows: of faults if it is `ABSENT` or `ROUND_LOST`, of transfers if
            it is a message, of updates (of rounds if there are none) if it is `UPDATE` or `MEETING`, else of rounds.
        fragment: Of a message, or of the place that was updated; else missing.
        sender: Node that sent a message; else missing.
        receiver: Node that got it; else missing.
    """

    worker: int
    what: str
    first_s: float
    last_s: float
    row: int
    fragment: int | None = None
    sender: int | None = None
    receiver: int | None = None


_KINDS = dict(
    zip(Span._fields, ("int64", "str", "float64", "float64", "int64", "Int64", "Int64", "Int64"), strict=True)
)


def spans_of(record: RunRecord, workers: Sequence[int] | None = None, until_s: float | None = None) -> pd.DataFrame:
    """Returns the spans of a run, by worker and time; those without any length are left out.

    Messages are those that nobody waits for from their beginning to their end, so that no pull and no push tells of
    them: offers and answers of workers that go on meanwhile, those between the servers of regions and the one above,
    and those between workers where there is no server. An answer is the receiver's span, any other the sender's; but
    between servers both are of the region's.

    Args:
        record: The run.
        workers: Only those of these workers, and of the servers.
        until_s: End of what goes on until the simulation ends; the end of the simulation when None.

    Returns:
        Columns as `Span`. The spans of a worker but absences, messages and moments cover its time up to where the
        server had processed its last arrival, or up to the end if it was given no further round; that of a worker that
        goes on up to where it had computed its last round.
    """
    until_s = float(record.summary["simulated_seconds"]) if until_s is None else until_s
    rounds, faults = in_order_of_dispatch(record.rounds), record.faults[record.faults["worker"] >= 0]
    messages, updates = _messages(record), _updates(record)
    if workers is not None:
        rounds, faults, messages, updates = (
            table[table["worker"].isin(workers) | (table["worker"] < 0)]
            for table in (rounds, faults, messages, updates)
        )
    free_s, blocked = free_again_s(rounds), _blocked(rounds, record.transfers)
    before_s = free_s.groupby(rounds["worker"]).shift(fill_value=0.0)
    tail = rounds.drop_duplicates("worker", keep="last")  # then a worker waits until the server has processed it
    away, lost = absences(faults, until_s), faults[faults["fault"] == "lost"]
    worker, computed_s = rounds["worker"], rounds["push_start_s"]
    parts = [
        _part(worker, "wait", rounds["ready_s"], rounds["pull_start_s"]),
        _part(worker, "pull", rounds["pull_start_s"], rounds["compute_start_s"]),
        _part(worker, "compute", rounds["compute_start_s"], blocked["first_s"]),
        _part(worker, "wait", blocked["first_s"], blocked["last_s"]),
        _part(worker, "compute", blocked["last_s"], computed_s),
        _part(worker, "push", computed_s, free_s),
        _part(worker, LOST, before_s, rounds["ready_s"]),
        _part(tail["worker"], "wait", free_s[tail.index], covered_until_s(tail, until_s)),
        _part(away["worker"], ABSENT, away["first_s"], away["last_s"]),
        messages,
    ]
    table = pd.concat([part[part["last_s"] > part["first_s"]] for part in parts])
    table = pd.concat([table, _part(lost["worker"], ROUND_LOST, lost["time_s"], lost["time_s"]), updates])
    return table.sort_values(["worker", "first_s"], kind="stable", ignore_index=True)


def _part(
    worker: "pd.Series[int]", what: Any, first_s: "pd.Series[float]", last_s: "pd.Series[float]", **further: Any
) -> pd.DataFrame:
    columns = dict(zip(Span._fields, (worker, what, first_s, last_s, worker.index), strict=False))
    return pd.DataFrame(Span._field_defaults | columns | further, columns=Span._fields).astype(_KINDS)


def _messages(record: RunRecord) -> pd.DataFrame:
    """Returns spans of the messages that no round tells of."""
    sent, rounds = record.transfers, record.rounds.drop_duplicates("round").set_index("round")
    of_round = sent["round"]
    in_background = of_round.map(goes_on(rounds)).fillna(value=False).astype(bool)
    copies = sent["end_s"] <= of_round.map(rounds["compute_start_s"])  # which the round began with
    sent = sent[(in_background & ~copies) | ((sent["sender"] < 0) == (sent["receiver"] < 0))]
    answers = (sent["sender"] < 0) & (sent["receiver"] != SERVER)
    return _part(
        sent["sender"].mask(answers, sent["receiver"]),
        np.where(answers, ANSWER, OFFER),
        sent["begin_s"],
        sent["end_s"],
        **{name: sent[name] for name in ("fragment", "sender", "receiver")},
    )


def _updates(record: RunRecord) -> pd.DataFrame:
    """Returns a moment for every new version of a place."""
    done = record.updates if len(record.updates) else record.rounds.assign(node=SERVER, fragment=0)
    done = done[done["outcome"] == "applied"].drop_duplicates(["node", "fragment", "version"])
    what = np.where(done["node"] < 0, UPDATE, MEETING)
    return _part(done["node"], what, done["update_s"], done["update_s"], fragment=done["fragment"])


def _blocked(rounds: pd.DataFrame, sent: pd.DataFrame) -> pd.DataFrame:
    """Returns when the worker of each round waited between its steps, as columns first_s and last_s.

    A record says for how long. It was until an answer came, which was merged at once: the first that leaves it so much
    time since its first step. Where it waited more than once in a round, that is drawn as one.
    """
    length_s, begin_s, end_s = blocked_s(rounds), rounds["compute_start_s"], rounds["push_start_s"]
    waits = pd.DataFrame({"row": rounds.index, "worker": rounds["worker"], "time_s": begin_s + length_s - _NS})
    sent = sent[(sent["sender"] < 0) & (sent["used_s"] <= sent["end_s"] + _NS)]
    found = pd.merge_asof(
        waits[length_s > 0].sort_values("time_s"),
        sent[["receiver", "end_s"]].sort_values("end_s"),
        left_on="time_s",
        right_on="end_s",
        left_by="worker",
        right_by="receiver",
        direction="forward",
    )
    last_s = found.set_index("row")["end_s"].reindex(rounds.index).fillna(math.inf).clip(upper=end_s)
    return pd.DataFrame({"first_s": (last_s - length_s).clip(lower=begin_s), "last_s": last_s})


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
    """Returns the spans of one run's workers and servers, which `timeline` draws.

    Args:
        record: A run in which at least one round arrived.
        first_s: Start of the excerpt, simulated seconds; the start of the run when None.
        last_s: Its end, no later than the run's; when None, as long as the slowest worker's first three rounds, of each
            fragment if there are several, but no more than 40 rounds of the fastest.
        max_workers: Of more workers, this many are shown, evenly spaced from the fastest to the slowest.

    Returns:
        One row for whatever touches the excerpt, by worker and time. Columns worker (-1 is the server, or the upper one
        where those of regions are -2 and below); what (wait, pull, compute, push or absent; "offer" and "answer", of
        messages in the background; and, of moments, "round lost", "server update" and, without a server, "meeting");
        first_s and last_s (simulated seconds; the same of moments), which may lie outside of the excerpt; and of
        messages fragment, sender and receiver.

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
    moments = table["what"].isin(MOMENTS) & table["first_s"].between(start_s, stop_s)
    table = table[touching | moments].reset_index(drop=True)
    return Excerpt(label, start_s, stop_s, end_s, workers, shown, table)


def phases_of(spans: pd.DataFrame) -> list[str]:
    """Returns the phases that a legend names: those that are there, and all where workers wait for what they send."""
    there = set(spans["what"])
    return [what for what in SPANS if what in there or not there & {*MESSAGES, MEETING}]


def readable_s(rounds: pd.DataFrame) -> float:
    """Returns the length of an excerpt in which the bars of these rounds can be told apart, seconds."""
    offers = 1 + rounds["fragment"].max() if "fragment" in rounds else 1  # in which the whole model is
    cycle_s = (free_again_s(rounds) - rounds["ready_s"]).groupby(rounds["worker"]).median()
    return float(min(_EXCERPT_ROUNDS * offers * cycle_s.max(), _EXCERPT_BARS * cycle_s.min()))
