"""Observations to which a cluster is fitted: rounds and transfers of workers, from records and logs."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from simulator.calibration.logs import read_log
from simulator.host.mappings import MISSING, lookup
from simulator.record import RecordError, RunRecord, run_folders

_ROUNDS = ("source", "worker", "start_s", "end_s", "seconds", "steps")
_TRANSFERS = ("source", "worker", "direction", "start_s", "seconds", "bytes")


class Observations(NamedTuple):
    """Rounds and transfers of a cluster.

    Attributes:
      sources: what they were read from.
      workers: names, by number.
      rounds: source and worker (numbers), start_s and end_s, seconds (of computing alone) and steps.
      transfers: source, worker, direction (up or down), start_s, seconds and bytes.
      notes: what was not used.
    """

    sources: tuple[str, ...]
    workers: tuple[str, ...]
    rounds: pd.DataFrame
    transfers: pd.DataFrame
    notes: tuple[str, ...] = ()


def observe(paths: Sequence[Path], local_steps: int | None = None) -> Observations:
    """Reads runs and logs, which are all of one cluster.

    Args:
      paths: folders of runs, or that hold some, and logs (CSV, Parquet or JSON lines).
      local_steps: of a round in logs: so many rows of single steps are taken together, and rows of rounds that do not
        say it have so many.

    Raises:
      RecordError: one cannot be read, or has nothing to fit.
    """
    sources: list[str] = []
    rounds, transfers, notes = [], [], []
    for path in paths:
        for source, own_rounds, own_transfers, own_notes in (
            map(_of_run, run_folders(path)) if path.is_dir() else [_of_log(path, local_steps)]
        ):
            rounds.append(own_rounds.assign(source=len(sources)))
            transfers.append(own_transfers.assign(source=len(sources)))
            sources.append(source)
            notes += own_notes
    all_rounds, all_transfers = _joined(rounds), _joined(transfers)
    names = _in_order({*all_rounds["worker"], *all_transfers["worker"]})
    if not names:
        raise RecordError(f"{', '.join(map(str, paths))}: has neither rounds nor transfers")
    number = {name: place for place, name in enumerate(names)}
    silent = set(names) - set(all_rounds["worker"])
    if silent and not all_rounds.empty:
        raise RecordError(f"worker {_in_order(silent)[0]} has transfers and no rounds: also give the log of its steps")
    tables = (table.assign(worker=table["worker"].map(number)) for table in (all_rounds, all_transfers))
    of_rounds, of_transfers = tables
    of_rounds = of_rounds.sort_values(["source", "worker", "start_s"], kind="stable", ignore_index=True)
    return Observations(tuple(sources), tuple(names), of_rounds, of_transfers.reset_index(drop=True), tuple(notes))


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Returns one table of several; empty ones know no types of columns."""
    whole = [table for table in tables if not table.empty] or tables[:1]
    return pd.concat(whole, ignore_index=True)


def _in_order(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))


_Source = tuple[str, pd.DataFrame, pd.DataFrame, list[str]]


def _of_run(folder: Path) -> _Source:
    record = RunRecord.read(folder)
    inner = record.experiment.get("inner", {})
    for key in ("pull", "stages"):
        if isinstance(inner, dict) and inner.get(key) is not None:
            raise RecordError(f"{folder}: its local steps do not all take one time (inner.{key}): give other runs")
    whole = record.rounds[~record.rounds["round"].isin(record.faults.loc[record.faults["fault"] == "cut", "round"])]
    given = lookup(record.experiment, ("inner", "micro_batches", "overhead"))
    overhead = 0.0 if given is MISSING else float(given)
    several = isinstance(inner, dict) and inner.get("micro_batches") is not None  # else a step is of its own batch
    batches = whole.get("micro_batches", 1) if several else 1
    computed_s = whole["push_start_s"] - whole["compute_start_s"] - whole.get("blocked_s", 0.0)
    rounds = pd.DataFrame(
        {
            "worker": whole["worker"].astype(str),
            "start_s": whole["compute_start_s"],
            "end_s": whole["push_start_s"],
            "seconds": computed_s,
            "steps": whole["local_steps"] * (1 + (1 - overhead) * (batches - 1)),
        }
    )
    notes, count = [], len(record.rounds) - len(whole)
    if count:
        notes.append(f"{folder}: {count:,} rounds that were cut off are left out")
    missing = sorted(set(range(record.summary["workers"])) - set(whole["worker"].tolist()))
    if missing:
        raise RecordError(f"{folder}: no whole round of worker {missing[0]} arrived: give a longer run")
    return str(folder), rounds[rounds["seconds"] > 0], _transfers_of(record, folder, notes), notes


def _transfers_of(record: RunRecord, folder: Path, notes: list[str]) -> pd.DataFrame:
    """Returns a run's messages between a worker and a server that were sent once."""
    sent = record.transfers
    up, down = sent["sender"] >= 0, sent["receiver"] >= 0
    collective = pd.Series(lookup(record.experiment, ("topology", "kind")) == "all_reduce", sent.index)
    used = (up != down) & (sent["messages"] == 1) & (sent["bytes"] > 0) & ~collective
    for name, left_out in (
        ("of collectives", collective),
        ("between workers, or between servers,", up == down),
        ("that were lost and sent again", (up != down) & (sent["messages"] != 1)),
    ):
        if left_out.any():
            notes.append(f"{folder}: {int(left_out.sum()):,} messages {name} are left out")
    own = sent[used]
    return pd.DataFrame(
        {
            "worker": np.where(up[used], own["sender"], own["receiver"]).astype(str),
            "direction": np.where(up[used], "up", "down"),
            "start_s": own["begin_s"],
            "seconds": own["end_s"] - own["begin_s"],
            "bytes": own["bytes"].astype(float),
        }
    )


def _of_log(path: Path, local_steps: int | None) -> _Source:
    rows, is_transfers, notes = read_log(path)
    nothing = pd.DataFrame({name: pd.Series(dtype=object) for name in _ROUNDS}).astype({"worker": str})
    if is_transfers:
        return str(path), nothing[["worker", *_ROUNDS[2:]]], rows, notes
    rounds = rows.sort_values(["worker", "start_s"], kind="stable", ignore_index=True)
    if "round" in rounds and "step" in rounds:
        rounds = _together(rounds, rounds["round"])
    elif "round" in rounds and "steps" not in rounds:
        if local_steps is None:
            raise RecordError(f"{path}: has rounds and no column 'steps': add it, or give --local-steps")
        rounds["steps"] = float(local_steps)
    elif "steps" not in rounds:
        count = local_steps or 1
        place = rounds.groupby("worker").cumcount()
        rounds = _together(rounds, place // count)
        whole = rounds["steps"] == count
        if not whole.all():
            notes.append(f"{path}: {int(rounds.loc[~whole, 'steps'].sum()):,} steps at the end are no whole round")
        rounds = rounds[whole]
    transfers = pd.DataFrame({name: pd.Series(dtype=object) for name in _TRANSFERS})
    return str(path), rounds[["worker", "start_s", "end_s", "seconds", "steps"]], transfers, notes


def _together(steps: pd.DataFrame, number: "pd.Series[Any]") -> pd.DataFrame:
    """Returns rounds, whose steps are rows of a worker with the same number."""
    counted = steps.assign(steps=steps.get("steps", 1.0))
    of_round = counted.groupby([counted["worker"], number.rename("number")], sort=False)
    totals: dict[str, Any] = {"start_s": "min", "end_s": "max", "seconds": "sum", "steps": "sum"}
    return of_round.agg(totals).reset_index()
