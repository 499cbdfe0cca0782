"""Logs of the record's tables: one packed row per append, less than 200 bytes each, no object per row."""

import struct
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from simulator.record.schema import (
    CATEGORIES,
    EVALUATION_COLUMNS,
    FAULT_COLUMNS,
    ROUND_COLUMNS,
    TRANSFER_COLUMNS,
    UPDATE_COLUMNS,
    Column,
    RecordError,
    shard_columns,
)

_FORMATS = {"integer": "q", "real": "d", "outcome": "b", "fault": "b"}
_CODES = {kind: {name: code for code, name in enumerate(names)} for kind, names in CATEGORIES.items()}


class TableLog:
    """Rows of declared columns, packed one after another into one growing buffer.

    Args:
        columns: What a row has, by name.
        named: Name of the columns, for messages.
    """

    def __init__(self, columns: Mapping[str, Column], named: str) -> None:
        formats = [_FORMATS[column.kind] for column in columns.values()]
        self._columns, self._named = columns, named
        self._defaults = {name: column.default for name, column in columns.items()}
        self._codes = [(name, _CODES[column.kind]) for name, column in columns.items() if column.kind in _CODES]
        self._buffer = bytearray()
        self._pack = struct.Struct("<" + "".join(formats)).pack
        self._dtype = np.dtype([(name, f"<{code}") for name, code in zip(columns, formats, strict=True)])

    def __len__(self) -> int:
        return len(self._buffer) // self._dtype.itemsize

    def append(self, **row: Any) -> None:
        """Adds a row; columns that are left out have their default.

        Raises:
            RecordError: If a column is unknown or has no value, or a value is of another kind than its column.
        """
        values = self._defaults | row
        for name, codes in self._codes:
            if (code := codes.get(values[name])) is None:
                raise self._refused(row, f"{name} {values[name]!r} is not one of {', '.join(codes)}")
            values[name] = code
        try:
            self._buffer += self._pack(*values.values())
        except struct.error as error:
            raise self._refused(row, str(error)) from error

    def _refused(self, row: Mapping[str, Any], reason: str) -> RecordError:
        shown = ", ".join(f"{name} {value}" for name, value in row.items())
        return RecordError(f"{shown}: {reason}; see {self._named} for the columns and their kinds")

    def frame(self) -> pd.DataFrame:
        """Returns a copy of the rows so far, one column per declared column, in order of append."""
        rows = np.frombuffer(bytes(self._buffer), self._dtype)
        series: dict[str, np.ndarray | pd.Categorical] = {}
        for name, column in self._columns.items():
            values = rows[name].copy()
            if column.kind in CATEGORIES:
                categories = pd.Index(CATEGORIES[column.kind], dtype="str")
                series[name] = pd.Categorical.from_codes(values, categories=categories)
            else:
                series[name] = values
        return pd.DataFrame(series)


class RoundLog(TableLog):
    """Log of rounds, see `ROUND_COLUMNS`; append them in order of arrival."""

    def __init__(self) -> None:
        columns = {name: column for name, column in ROUND_COLUMNS.items() if name != "waited_to_end"}
        super().__init__(columns, "ROUND_COLUMNS")
        self._waiting: list[int] = []

    def finish(self, waiting: Iterable[int]) -> None:
        """Marks the workers that were still waiting for their next round when the simulation ended."""
        self._waiting = list(waiting)

    def frame(self) -> pd.DataFrame:
        """Returns a copy of the rows so far, one column per declared column, in order of append."""
        frame = super().frame()
        last = ~frame["worker"].duplicated(keep="last")
        frame["waited_to_end"] = (last & frame["worker"].isin(self._waiting)).astype("int64")
        return frame


class UpdateLog(TableLog):
    """Log of the offers of meetings, see `UPDATE_COLUMNS`; append them in order of simulated time."""

    def __init__(self) -> None:
        super().__init__(UPDATE_COLUMNS, "UPDATE_COLUMNS")


class TransferLog(TableLog):
    """Log of messages that got through, see `TRANSFER_COLUMNS`; append them when their effect is known."""

    def __init__(self) -> None:
        super().__init__(TRANSFER_COLUMNS, "TRANSFER_COLUMNS")


class FaultLog(TableLog):
    """Log of faults, see `FAULT_COLUMNS`; append them in order of simulated time."""

    def __init__(self) -> None:
        super().__init__(FAULT_COLUMNS, "FAULT_COLUMNS")


class EvaluationLog(TableLog):
    """Log of evaluations, see `EVALUATION_COLUMNS`; append them in order of simulated time.

    Args:
        shards: Number of shards with a loss of their own, in columns `loss_shard_0` and so on.
    """

    def __init__(self, shards: int = 0) -> None:
        super().__init__({**EVALUATION_COLUMNS, **shard_columns(shards)}, "EVALUATION_COLUMNS")
