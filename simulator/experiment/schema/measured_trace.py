"""Measured traces: step times of workers and rates of their links over time, from CSV or Parquet files."""

import functools
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, WithJsonSchema, WrapValidator

from simulator.experiment.problems import nearest
from simulator.experiment.schema.section import Conflicts
from simulator.experiment.schema.tables import first_mistake, read_bytes, read_rows
from simulator.experiment.schema.units import Bandwidth, FiniteDuration, NonNegativeInt, PositiveDuration


def _with_unit(rate: Any) -> Any:
    """Returns a rate with the unit that a plain number has."""
    try:
        number = float(rate)
    except (TypeError, ValueError):
        return rate
    if number == 0:
        raise ValueError("a link that is down has no rate: write disconnect and reconnect into cluster.faults.trace")
    return f"{number!r} bit/s"


class StepTime(NamedTuple):
    """One row of a trace of step times.

    Attributes:
      time: from which on, in seconds.
      worker: whose.
      seconds_per_step: of a local step, until the worker's next row.
    """

    time: FiniteDuration
    worker: NonNegativeInt
    seconds_per_step: PositiveDuration


class LinkRate(NamedTuple):
    """One row of a trace of links.

    Attributes:
      time: from which on, in seconds.
      worker: whose link.
      rate: in bytes per second, until the link's next row; written with a unit, or as a number of bit/s.
      direction: of the link.
    """

    time: FiniteDuration
    worker: NonNegativeInt
    rate: Annotated[Bandwidth, Field(allow_inf_nan=False), BeforeValidator(_with_unit)]
    direction: Literal["down", "up", "both"] = "both"

    @property
    def directions(self) -> tuple[str, ...]:
        """Directions that it is about."""
        return ("down", "up") if self.direction == "both" else (self.direction,)


Row = TypeVar("Row", StepTime, LinkRate)


@functools.cache
def _row_type(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _read(trace: Any, kind: type[Row]) -> tuple[Row, ...]:
    """Returns the rows of a trace, from the path of a file or from rows, each checked against those before it.

    Raises:
      ValueError: the file cannot be read, or a row is wrong; the message names it.
    """
    columns = ", ".join(_needed(kind))
    rows: Iterable[tuple[str, Any]]
    if isinstance(trace, str):
        rows = _of_parquet(trace, kind) if trace.endswith(".parquet") else _of_csv(trace, kind)
    elif isinstance(trace, list | tuple):
        rows = _of_list(trace, kind)
    else:
        raise ValueError(f"expected the path of a CSV or Parquet file with columns {columns}, or its rows")
    found: list[Row] = []
    last_s: dict[tuple[int, str], float] = {}
    for where, row in rows:
        found.append(row if isinstance(row, kind) else _row(where, row, kind))
        _check_order(where, found[-1], last_s)
    if not found:
        raise ValueError(f"has no rows: write one with {columns}, at least")
    return tuple(found)


def _needed(kind: Any) -> list[str]:
    return [name for name in kind._fields if name not in kind._field_defaults]


def _of_csv(path: str, kind: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    rows = read_rows(path, "the trace")
    where, header = next(rows, (path, []))
    _check_header(where, header, kind)
    for where, cells in rows:
        yield where, dict(zip(header, cells, strict=True))


def _of_parquet(path: str, kind: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    import pyarrow  # takes long to load, and few experiments have such a trace
    import pyarrow.parquet  # which a trace in CSV does not need

    try:
        table = pyarrow.parquet.read_table(io.BytesIO(read_bytes(path, "the trace")))
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path}: not a Parquet file: {str(error).splitlines()[0]}") from error
    _check_header(path, table.column_names, kind)
    for number, row in enumerate(table.to_pylist()):
        yield f"{path}, row {number}", row


def _of_list(rows: Iterable[Any], kind: Any) -> Iterator[tuple[str, Any]]:
    least = len(_needed(kind))
    for number, row in enumerate(rows):
        if not isinstance(row, list | tuple) or not least <= len(row) <= len(kind._fields):
            raise ValueError(f"row {number}: expected {', '.join(kind._fields[:least])}, not {row!r:.80}")
        yield f"row {number}", row if isinstance(row, kind) else dict(zip(kind._fields, row, strict=False))


def _check_header(where: str, header: list[str], kind: Any) -> None:
    unknown = [name for name in header if name not in kind._fields]
    missing = [name for name in _needed(kind) if name not in header]
    if unknown:
        raise ValueError(f"{where}: no column is called {unknown[0]!r}; {nearest(unknown[0], kind._fields)}")
    if missing or len(set(header)) < len(header):
        wrong = f"has no column {missing[0]!r}" if missing else "a column is there twice"
        raise ValueError(f"{where}: {wrong}; it needs {', '.join(kind._fields)}, and has {', '.join(header) or 'none'}")


def _row(where: str, row: Mapping[str, Any], kind: Any) -> Any:
    given = {name: value for name, value in row.items() if value not in ("", None)}
    try:
        return _row_type(kind).validate_python(dict.fromkeys(_needed(kind)) | given)
    except ValidationError as error:
        [first, *_] = error.errors(include_url=False)
        column = str(first["loc"][0])
        raise ValueError(f"{where}: {column} = {row.get(column)!r:.60}: {first_mistake(error)}") from error


def _check_order(where: str, row: StepTime | LinkRate, last_s: dict[tuple[int, str], float]) -> None:
    for direction in row.directions if isinstance(row, LinkRate) else ("",):
        before_s = last_s.get((row.worker, direction))
        if before_s is not None and row.time <= before_s:
            whose = f"worker {row.worker}'s row above it, {before_s:g} s"
            raise ValueError(f"{where}: time = {row.time:g} s is not after {whose}: sort its rows by time")
        last_s[row.worker, direction] = row.time


def _trace_of(kind: type[Row]) -> tuple[WrapValidator, WithJsonSchema]:
    """Returns how pydantic reads and describes a trace: each row once, since a rate that was read has no unit."""
    read = functools.partial(_read, kind=kind)
    return WrapValidator(lambda trace, again: read(trace)), WithJsonSchema({"type": ["string", "array"]})


StepTimes = Annotated[tuple[StepTime, ...], *_trace_of(StepTime)]
LinkRates = Annotated[tuple[LinkRate, ...], *_trace_of(LinkRate)]


def repeat_conflicts(trace: tuple[StepTime, ...] | tuple[LinkRate, ...], repeat_every: float | None) -> Conflicts:
    """Yields the conflict of a trace with the time in seconds after which it begins anew, if any."""
    last_s = max(row.time for row in trace)
    if repeat_every is not None and repeat_every <= last_s:
        yield "repeat_every", f"must be above the times of all rows, and there is one at {last_s:g} s"
