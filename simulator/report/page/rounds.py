"""Timelines, shares of time and staleness of the workers of some runs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from simulator.record import RunRecord
from simulator.report.grouping import Group, only
from simulator.report.page.limits import STALENESS_BARS, TIMELINE_ROUNDS, TIMELINE_WORKERS, WORKERS
from simulator.report.page.numbers import short, shortened
from simulator.report.spans import ABSENT, ROUND_LOST, SPANS, UPDATE, readable_s, spans_of
from simulator.report.staleness import staleness_by_bin
from simulator.report.worker_bins import ALL, DECILES, sample_workers, workers_of

__all__ = ["fault_counts", "shares", "staleness_by_worker", "staleness_counts", "timeline", "workers_of"]

SHARES = ("compute", "pull", "push", "wait", "lost")


def timeline(record: RunRecord, table: pd.DataFrame) -> dict[str, Any]:
    """Returns the phases of the rounds of some workers, from the start for as long as the rounds are few enough.

    Args:
        record: A run in which at least one round arrived.
        table: Of its workers.

    Returns:
        `seed`; `end_s` of the run, `until_s` of the part held, `first_s` of the part shown at first; `workers`, each
        its id and its seconds per local step, and how many there are `of`; `bars`, for each phase the columns row,
        start and length in seconds, and round; `updates`, times of changes of the server's version; `lost`, columns row
        and time; `absent`, columns row, start and length.
    """
    end_s = float(record.summary["simulated_seconds"])
    shown = sample_workers(table, TIMELINE_WORKERS)
    rounds = record.rounds[record.rounds["worker"].isin(shown)].sort_values("ready_s", kind="stable")
    until_s = end_s if len(rounds) <= TIMELINE_ROUNDS else float(rounds["ready_s"].iloc[TIMELINE_ROUNDS])
    if until_s <= 0:  # more workers' first rounds than are held
        until_s = float(rounds["arrival_s"].iloc[:TIMELINE_ROUNDS].max())
    spans = spans_of(record, shown, until_s)
    begun = spans[(spans["first_s"] < until_s) | spans["what"].isin((ROUND_LOST, UPDATE))]
    parts = {what: begun[begun["what"] == what] for what in (*SPANS, ABSENT, ROUND_LOST, UPDATE)}
    row = pd.Series(range(len(shown)), index=shown)

    def columns(what: str) -> list[list[Any]]:
        part = parts[what]
        length_s = np.minimum(part["last_s"], until_s) - part["first_s"]
        return [row.loc[part["worker"]].tolist(), shortened(part["first_s"]), shortened(length_s)]

    round_of, step_s = record.rounds["round"], table.set_index("worker")["seconds_per_step"]
    updates_s, lost = parts[UPDATE]["first_s"], parts[ROUND_LOST]
    lost = lost[lost["first_s"] <= until_s]
    return {
        "seed": record.summary["seed"],
        "end_s": short(end_s),
        "until_s": short(until_s),
        "first_s": short(min(until_s, readable_s(rounds))),
        "workers": [[worker, short(float(step_s[worker]))] for worker in shown],
        "of": len(table),
        "bars": {what: [*columns(what), round_of[parts[what]["row"]].tolist()] for what in SPANS},
        "updates": shortened(updates_s[updates_s <= until_s].head(TIMELINE_ROUNDS)),
        "lost": [row.loc[lost["worker"]].tolist(), shortened(lost["first_s"])],
        "absent": columns(ABSENT),
    }


def shares(table: pd.DataFrame) -> dict[str, Any]:
    """Returns the shares of the time of a run's workers: ids, seconds per step and, for each of SHARES, its share.

    Args:
        table: Of the run's workers.
    """
    shown = table.set_index("worker").loc[sample_workers(table, WORKERS)]
    return {
        "of": len(table),
        "worker": shown.index.tolist(),
        "step_s": shortened(shown["seconds_per_step"]),
        **{name: shortened(shown[name].round(4)) for name in SHARES},
    }


def staleness_counts(group: Group) -> dict[str, Any]:
    """Returns the histogram of the staleness of a group's rounds.

    Returns:
        `rounds` of each staleness, from none, in bars of `width` server updates each; without rounds where none
        arrived.
    """
    parts = [record.rounds["staleness"].to_numpy() for record in group.records]
    stale = np.concatenate(parts)
    if not len(stale):
        return {"width": 1, "rounds": []}
    width = -(-(int(stale.max()) + 1) // STALENESS_BARS)
    return {"width": width, "rounds": np.bincount(stale // width).tolist()}


def staleness_by_worker(group: Group) -> dict[str, Any]:
    """Returns the staleness of each worker's rounds, or, of many workers, of each tenth of them by speed.

    Args:
        group: Runs, in at least one of which a round arrived.

    Returns:
        `labels` of the workers or tenths; `spread`, for each the smallest staleness, the lower quartile, the mean, the
        upper quartile and the largest.
    """
    rows, _ = staleness_by_bin(only([group], lambda record: not record.rounds.empty))
    rows = rows[rows["place"] != ALL]
    labels = [f"{place} of {DECILES}" if place.startswith("tenth") else f"worker {place}" for place in rows["place"]]
    spread = rows[["min", "first_quartile", "mean", "third_quartile", "max"]].to_numpy()
    return {"labels": labels, "spread": [shortened(each) for each in spread]}


def fault_counts(groups: Sequence[Group]) -> pd.DataFrame:
    """Returns the number of faults of each kind, the mean over the runs of each group.

    Returns:
        One row per group, in order; a column for each kind that occurred at all.
    """
    rows = []
    for group in groups:
        counts = [record.faults["fault"].value_counts() for record in group.records]
        rows.append(pd.concat(counts, axis=1).fillna(0).mean(axis=1))
    table = pd.DataFrame(rows).fillna(0).reset_index(drop=True)
    return table.loc[:, table.sum() > 0]
