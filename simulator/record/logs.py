"""Builders of the record's tables: one packed row per append, about 100 bytes each, no object per row."""

import struct
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from simulator.record.schema import (
    CATEGORIES,
    EVALUATION_COLUMNS,
    FAULT_COLUMNS,
    OUTCOMES,
    ROUND_COLUMNS,
    Column,
    RecordError,
    shard_columns,
)

_FORMATS = {"integer": "q", "real": "d", "outcome": "b", "fault": "b"}
_FAULT_CODES = {fault: code for code, fault in enumerate(CATEGORIES["fault"])}
_OUTCOME_CODES = {outcome: code for code, outcome in enumerate(OUTCOMES)}


class _Rows:
    """Rows of fixed columns, packed one after another into one growing buffer."""

    def __init__(self, columns: Mapping[str, Column]) -> None:
        formats = [_FORMATS[column.kind] for column in columns.values()]
        self._columns = columns
        self._buffer = bytearray()
        self._pack = struct.Struct("<" + "".join(formats)).pack
        self._dtype = np.dtype([(name, f"<{code}") for name, code in zip(columns, formats, strict=True)])

    def __len__(self) -> int:
        return len(self._buffer) // self._dtype.itemsize

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


class RoundLog(_Rows):
    """Builds the table of rounds, see `ROUND_COLUMNS`; append them in order of arrival."""

    def __init__(self) -> None:
        super().__init__({name: column for name, column in ROUND_COLUMNS.items() if name != "waited_to_end"})
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

    def append(
        self,
        *,
        round: int,
        worker: int,
        shard: int,
        first_step: int,
        local_steps: int,
        pulled_version: int,
        version: int,
        staleness: int,
        outcome: str,
        ready_s: float,
        pull_start_s: float,
        compute_start_s: float,
        push_start_s: float,
        arrival_s: float,
        update_s: float,
        train_loss: float,
        bytes_down: int,
        bytes_up: int,
        non_finite: int = 0,
    ) -> None:
        """Adds one round that arrived.

        Raises:
            RecordError: If the outcome is unknown or a value is not a number of its column's kind.
        """
        code = _OUTCOME_CODES.get(outcome)
        if code is None:
            raise RecordError(f"round {round}: outcome {outcome!r} is not one of {', '.join(OUTCOMES)}")
        try:
            self._buffer += self._pack(
                round,
                worker,
                shard,
                first_step,
                local_steps,
                pulled_version,
                version,
                staleness,
                code,
                ready_s,
                pull_start_s,
                compute_start_s,
                push_start_s,
                arrival_s,
                update_s,
                train_loss,
                bytes_down,
                bytes_up,
                non_finite,
            )
        except struct.error as error:
            raise RecordError(f"round {round} of worker {worker}: {error}; see ROUND_COLUMNS for the kinds") from error


class FaultLog(_Rows):
    """Builds the table of faults, see `FAULT_COLUMNS`; append them in order of simulated time."""

    def __init__(self) -> None:
        super().__init__(FAULT_COLUMNS)

    def append(
        self,
        time_s: float,
        worker: int,
        fault: str,
        *,
        round: int = -1,
        shard: int = -1,
        first_step: int = -1,
        local_steps: int = 0,
        computed_steps: int = 0,
        pulled_version: int = -1,
        bytes_down: int = 0,
        bytes_up: int = 0,
        factor: float = float("nan"),
    ) -> None:
        """Adds one fault.

        Raises:
            RecordError: If the fault is unknown or a value is not a number of its column's kind.
        """
        if fault not in _FAULT_CODES:
            raise RecordError(f"fault {fault!r} is not one of {', '.join(CATEGORIES['fault'])}")
        steps = (first_step, local_steps, computed_steps, pulled_version)
        try:
            self._buffer += self._pack(
                time_s, worker, _FAULT_CODES[fault], round, shard, *steps, bytes_down, bytes_up, factor
            )
        except struct.error as error:
            raise RecordError(f"{fault} of worker {worker}: {error}; see FAULT_COLUMNS for the kinds") from error


class EvaluationLog(_Rows):
    """Builds the table of evaluations, see `EVALUATION_COLUMNS`; append them in order of simulated time.

    Args:
        shards: Number of shards with a loss of their own, in columns `loss_shard_0` and so on.
    """

    def __init__(self, shards: int = 0) -> None:
        super().__init__({**EVALUATION_COLUMNS, **shard_columns(shards)})

    def append(
        self,
        *,
        simulated_s: float,
        local_steps: int,
        tokens: int,
        server_updates: int,
        bytes_sent: int,
        loss: float,
        perplexity: float,
        train_loss: float = float("nan"),
        shard_losses: Sequence[float] = (),
    ) -> None:
        """Adds one evaluation.

        Raises:
            RecordError: If a value is not a number of its column's kind.
        """
        try:
            self._buffer += self._pack(
                simulated_s,
                local_steps,
                tokens,
                server_updates,
                bytes_sent,
                loss,
                perplexity,
                train_loss,
                *shard_losses,
            )
        except struct.error as error:
            raise RecordError(
                f"evaluation at {simulated_s} s: {error}; see EVALUATION_COLUMNS for the kinds"
            ) from error
