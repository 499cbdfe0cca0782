"""Timelines, shares of time and staleness of the workers of some runs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from simulator.record import RunRecord, worker_table
from simulator.record.absences import absences
from simulator.report.grouping import Group
from simulator.report.intervals import SPANS, sample_workers
from simulator.report.page.limits import STALENESS_BARS, TIMELINE_ROUNDS, TIMELINE_WORKERS, WORKERS
from simulator.report.page.numbers import short, shortened
from simulator.report.worker_bins import MOST_WORKERS, TENTHS

SHARES = ("compute", "pull", "push", "wait", "lost")
_FIRST_ROUNDS = 3  # of the slowest worker shown, at first sight
_FIRST_BARS = 40  # at most, of the fastest


def workers_of(record: RunRecord) -> pd.DataFrame:
    """Returns the argument `table` of the other functions: one row per worker, see `worker_table`."""
    return worker_table(record.rounds, record.summary["workers"], record.summary["simulated_seconds"])


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
    cycle_s = (rounds["arrival_s"] - rounds["ready_s"]).groupby(rounds["worker"]).median()
    row = pd.Series(range(len(shown)), index=shown)
    applied = record.rounds[record.rounds["outcome"] == "applied"].drop_duplicates("version")["update_s"]
    faults = record.faults[record.faults["worker"].isin(shown) & (record.faults["time_s"] <= until_s)]
    lost = faults[faults["fault"] == "lost"]
    step_s = table.set_index("worker")["seconds_per_step"]
    return {
        "seed": record.summary["seed"],
        "end_s": short(end_s),
        "until_s": short(until_s),
        "first_s": short(min(until_s, _FIRST_ROUNDS * float(cycle_s.max()), _FIRST_BARS * float(cycle_s.min()))),
        "workers": [[worker, short(float(step_s[worker]))] for worker in shown],
        "of": len(table),
        "bars": {phase: _bars(rounds, row, phase, until_s, end_s) for phase in SPANS},
        "updates": shortened(applied[applied <= until_s].head(TIMELINE_ROUNDS)),
        "lost": [row.loc[lost["worker"]].tolist(), shortened(lost["time_s"])],
        "absent": _absences(record.faults[record.faults["worker"].isin(shown)], row, until_s, end_s),
    }


def _bars(rounds: pd.DataFrame, row: "pd.Series[int]", phase: str, until_s: float, end_s: float) -> list[list[Any]]:
    """Returns the columns row, start, length and round of one phase's bars, those without a length left out."""
    first, last = SPANS[phase]
    bars = rounds[["worker", first, last, "round"]].set_axis(["worker", "first_s", "last_s", "round"], axis=1)
    if phase == "wait":  # after its last arrival a worker waits at least until the server has processed it
        tail = rounds.drop_duplicates("worker", keep="last")
        until = tail["update_s"].mask(tail["waited_to_end"] == 1, end_s)
        after = pd.DataFrame(
            {"worker": tail["worker"], "first_s": tail["arrival_s"], "last_s": until, "round": tail["round"]}
        )
        bars = pd.concat([bars, after])
    bars = bars[(bars["last_s"] > bars["first_s"]) & (bars["first_s"] < until_s)]
    length = np.minimum(bars["last_s"], until_s) - bars["first_s"]
    return [
        row.loc[bars["worker"]].tolist(),
        shortened(bars["first_s"]),
        shortened(length),
        bars["round"].tolist(),
    ]


def _absences(faults: pd.DataFrame, row: "pd.Series[int]", until_s: float, end_s: float) -> list[list[Any]]:
    """Returns the columns row, start and length of the times in which workers were not there."""
    away = absences(faults, end_s)
    away = away[(away["first_s"] < until_s) & (away["last_s"] > away["first_s"])]
    length = np.minimum(away["last_s"], until_s) - away["first_s"]
    return [row.loc[away["worker"]].tolist(), shortened(away["first_s"]), shortened(length)]


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
    records = [record for record in group.records if not record.rounds.empty]
    each = max(record.summary["workers"] for record in records) <= MOST_WORKERS
    places = [record.rounds["worker"] if each else _tenths(record) for record in records]
    table = pd.DataFrame(
        {
            "place": np.concatenate([place.to_numpy() for place in places]),
            "staleness": np.concatenate([record.rounds["staleness"].to_numpy() for record in records]),
        }
    )
    spread = {}
    for slot, values in table.groupby("place")["staleness"]:
        place = int(str(slot))
        low, first, third, high = np.quantile(values, [0, 0.25, 0.75, 1])
        spread[place] = shortened([low, first, float(values.mean()), third, high])
    labels = [f"worker {place}" if each else f"tenth {place + 1} of {TENTHS}" for place in spread]
    return {"labels": labels, "spread": list(spread.values())}


def _tenths(record: RunRecord) -> "pd.Series[int]":
    """Returns for each round the tenth, 0 to 9, of its worker by speed."""
    table = workers_of(record)
    arrived = table[table["rounds"] > 0].sort_values(["seconds_per_step", "worker"])
    tenth = pd.Series(np.arange(len(arrived)) * TENTHS // len(arrived), index=arrived["worker"])
    return tenth.loc[record.rounds["worker"]]


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
