"""Logs of a training run with wall-clock columns, as tables of rounds and transfers."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from simulator.experiment.problems import nearest
from simulator.host.nearest import alike
from simulator.record import RecordError

ROUND_COLUMNS: Mapping[str, str] = {
    "worker": "name or number",
    "step": "number of a local step, where a row is one",
    "round": "number of a round, where a row is one",
    "steps": "local steps in the row; 1 where a row is a step",
    "start": "when they began: seconds, or dates with times",
    "end": "when they were done",
    "seconds": "how long they took; where it is absent, end - start",
}
TRANSFER_COLUMNS: Mapping[str, str] = {
    "worker": "name or number",
    "direction": "up (from the worker) or down",
    "bytes": "that were sent",
    "start": "when it was sent",
    "end": "when it had arrived",
    "seconds": "how long it took; where it is absent, end - start",
}
_READERS: Mapping[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": lambda path: pd.read_csv(path, comment="#", skipinitialspace=True),
    ".parquet": pd.read_parquet,
    ".jsonl": lambda path: pd.read_json(path, lines=True),
}


def read_log(path: Path) -> tuple[pd.DataFrame, bool, list[str]]:
    """Reads a log: of transfers, if it has a column `bytes` or `direction`, else of rounds.

    Returns:
      Its rows, with `worker` as text, `start_s`, `end_s` and `seconds`; of rounds `step`, `round` and `steps` where it
      has them, of transfers `direction` and `bytes`. Then whether it is of transfers, and notes on what is not used.

    Raises:
      RecordError: the file cannot be read, lacks a column, or a value is wrong; the message names it.
    """
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise RecordError(f"{path}: expected the folder of a run, or a log that ends in {', '.join(_READERS)}")
    try:
        table = reader(path)
    except OSError:
        raise
    except Exception as error:  # of pandas and pyarrow there are many
        raise RecordError(f"{path}: cannot be read: {(str(error).splitlines() or [''])[0]}") from error
    is_transfers = bool({"bytes", "direction"} & set(table.columns))
    known = TRANSFER_COLUMNS if is_transfers else ROUND_COLUMNS
    notes = [_unused(path, str(name), known) for name in table.columns if name not in known]
    needed = ("worker", "direction", "bytes") if is_transfers else ("worker",)
    _require(path, table, needed)
    if table.empty:
        raise RecordError(f"{path}: has no rows")
    rows = pd.DataFrame({"worker": table["worker"].map(_name)})
    for name in ("step", "round", "steps", "bytes"):
        if name in known and name in table:
            rows[name] = _numbers(path, table, name, least=1 if name in ("steps", "bytes") else 0)
    if is_transfers:
        rows["direction"] = _directions(path, table)
    return rows.assign(**_times(path, table, rows["worker"])), is_transfers, notes


def _name(worker: Any) -> str:
    return str(int(worker)) if isinstance(worker, float) and worker.is_integer() else str(worker).strip()


def _unused(path: Path, name: str, known: Mapping[str, str]) -> str:
    close = alike(name, known)
    return f"{path}: column {name!r} is not used" + (f"; did you mean {close[0]!r}?" if close else "")


def _require(path: Path, table: pd.DataFrame, names: tuple[str, ...]) -> None:
    there = [str(name) for name in table.columns]
    for name in names:
        if name not in there:
            message = f"{path}: has no column {name!r}; it has {', '.join(there) or 'none'}"
            raise RecordError(f"{message} ({nearest(name, there)})" if alike(name, there) else message)


def _times(path: Path, table: pd.DataFrame, worker: "pd.Series[str]") -> dict[str, Any]:
    """Returns start, end and length of each row, in seconds."""
    if "seconds" not in table:
        _require(path, table, ("start", "end"))
    start_s, end_s = (_clock(path, table, name) for name in ("start", "end"))
    if "seconds" in table:
        seconds = _numbers(path, table, "seconds", least=0)
    else:
        assert start_s is not None
        assert end_s is not None
        seconds = end_s - start_s
    bad = ~(seconds > 0)
    if bad.any():
        row, name = int(np.flatnonzero(bad)[0]), "seconds" if "seconds" in table else "end"
        raise RecordError(f"{_place(path, table, name, row)}: must be after its start")
    if start_s is None and end_s is None:  # one after the other, without a break
        end_s = seconds.groupby(worker).cumsum()
    if start_s is None:
        assert end_s is not None
        start_s = end_s - seconds
    return {"start_s": start_s, "end_s": start_s + seconds if end_s is None else end_s, "seconds": seconds}


def _clock(path: Path, table: pd.DataFrame, name: str) -> "pd.Series[float] | None":
    if name not in table:
        return None
    column = table[name]
    if column.dtype.kind in "iuf":
        return _numbers(path, table, name, least=-np.inf)
    try:
        dates = pd.to_datetime(column, utc=True, format=None if column.dtype.kind == "M" else "ISO8601")
    except (ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise RecordError(f"{path}: column {name!r} is neither seconds nor dates with times: {reason}") from error
    return (dates - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)


def _numbers(path: Path, table: pd.DataFrame, name: str, *, least: float) -> "pd.Series[float]":
    values = pd.to_numeric(table[name], errors="coerce").astype(float)
    bad = ~(np.isfinite(values) & (values >= least))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        expected = "a number" if least == -np.inf else f"a number, {least:g} or more"
        raise RecordError(f"{_place(path, table, name, row)}: expected {expected}")
    return values


def _directions(path: Path, table: pd.DataFrame) -> "pd.Series[str]":
    bad = ~table["direction"].isin(["up", "down"])
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise RecordError(f"{_place(path, table, 'direction', row)}: expected up or down")
    return table["direction"].astype(str)


def _place(path: Path, table: pd.DataFrame, name: str, row: int) -> str:
    return f"{path}, row {row}: {name} = {table[name].tolist()[row]!r}"
