"""Traces of faults: a CSV file with columns worker, time and event, or the `faults.parquet` of a run."""

import functools
import io
from collections.abc import Iterable
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from simulator.experiment.schema.tables import first_mistake, read_bytes, read_rows
from simulator.experiment.schema.units import FiniteDuration, Int, Positive

_STATES = {  # event -> states in which it can come, and the one after it; a worker has one state of each kind
    "crash": ("presence", ("there", "warned"), "gone"),  # without a warning
    "notice": ("presence", ("there",), "warned"),  # that it will be preempted: it sends what it has, gets nothing more
    "preempt": ("presence", ("there", "warned"), "gone"),
    "leave": ("presence", ("there", "warned"), "gone"),  # and says so
    "join": ("presence", ("gone",), "there"),
    "slow": ("speed", ("normal", "slow"), "slow"),  # slow 2.5: from now on steps take 2.5 times as long
    "normal": ("speed", ("slow",), "normal"),
    "disconnect": ("link", ("up",), "down"),  # transfers wait
    "reconnect": ("link", ("down",), "up"),
    "down": ("server", ("up",), "down"),  # it neither sends, receives nor processes
    "up": ("server", ("down",), "up"),
}
_FIRST = {"presence": "there", "speed": "normal", "link": "up", "server": "up"}
WORKER_EVENTS = tuple(event for event, (kind, *_) in _STATES.items() if kind != "server")
SERVER_EVENTS = tuple(event for event, (kind, *_) in _STATES.items() if kind == "server")
_NAMES = {  # of a record's faults
    **{fault: fault for fault in ("crash", "notice", "slow", "normal", "disconnect", "reconnect")},
    **{"preemption": "preempt", "departure": "leave", "return": "join", "server down": "down", "server up": "up"},
}
_GONE = ("crash", "preemption", "departure")


class TraceEvent(NamedTuple):
    """One row of a trace.

    Attributes:
      worker: who, or "server".
      time: when, in seconds.
      event: one of `WORKER_EVENTS` or `SERVER_EVENTS`.
      factor: on the time of a step, of "slow".
    """

    worker: Annotated[Int, Field(ge=0)] | Literal["server"]
    time: FiniteDuration
    event: Literal[
        "crash", "notice", "preempt", "leave", "join", "slow", "normal", "disconnect", "reconnect", "down", "up"
    ]
    factor: Positive | None = None


@functools.cache
def _row_type() -> TypeAdapter[TraceEvent]:
    """Returns the validator of a row; made on first use, since making it takes as long as reading a small file."""
    return TypeAdapter(TraceEvent)


def read_trace(trace: Any) -> Any:
    """Returns the rows of a trace, from the path of a file or from rows, each checked against those before it.

    Raises:
      ValueError: the file cannot be read, or a row is wrong; the message names it.
    """
    if trace is None:
        return None
    if isinstance(trace, str):
        rows = list(_of_file(trace))
    elif isinstance(trace, list | tuple):
        rows = [(f"row {number}", row) for number, row in enumerate(trace)]
    else:
        raise ValueError(
            "expected the path of a CSV file with columns worker, time and event, or of a run's faults.parquet, or rows"
        )
    events = [(where, _event(where, row)) for where, row in rows]
    _check_order(events)
    return tuple(event for _, event in events)


def _of_file(path: str) -> Iterable[tuple[str, Any]]:
    if path.endswith(".parquet"):
        yield from _of_record(path)
        return
    rows = read_rows(path, "the trace")
    where, header = next(rows, (f"{path}:1", []))
    if header != ["worker", "time", "event"]:
        raise ValueError(f"{where}: expected the columns worker,time,event; it has {','.join(header)!r}")
    yield from rows


def _of_record(path: str) -> Iterable[tuple[str, Any]]:
    """Yields the rows of a run's `faults.parquet`; an absence that lasts until its end lasts forever."""
    import pyarrow  # takes long to load, and few experiments have such a trace
    import pyarrow.parquet  # which a trace in YAML does not need

    content = io.BytesIO(read_bytes(path, "the trace"))
    try:
        table = pyarrow.parquet.read_table(content, columns=["worker", "time_s", "fault", "factor"]).to_pylist()
    except (pyarrow.ArrowException, KeyError) as error:
        raise ValueError(f"{path}: not the faults.parquet of a run: {str(error).splitlines()[0]}") from error
    returns = {row["worker"] for row in table if row["fault"] == "return"}
    last = {(row["worker"], row["fault"]): number for number, row in enumerate(table)}
    gone = {row["worker"]: number for number, row in enumerate(table) if row["fault"] in _GONE}
    for number, row in enumerate(table):
        worker, fault = row["worker"], row["fault"]
        unanswered = fault == "notice" and gone.get(worker, -1) < number == last[worker, fault]
        name = "leave" if fault == "late" and worker not in returns else _NAMES.get(fault)
        if name is None or unanswered:  # what follows from faults, or what the run's end came before
            continue
        event = f"slow {row['factor']!r}" if name == "slow" else name
        yield f"{path}, row {number}", ["server" if worker < 0 else worker, row["time_s"], event]


def _event(where: str, row: Any) -> TraceEvent:
    if isinstance(row, TraceEvent):
        return row
    if not isinstance(row, list | tuple) or not 3 <= len(row) <= 4:
        raise ValueError(f"{where}: expected worker, time and event, not {row!r:.80}")
    worker, time, event, factor = (*row, None)[:4]
    if isinstance(worker, str) and worker.isascii() and worker.isdecimal() and len(worker) < 19:
        worker = int(worker)
    name, _, number = event.partition(" ") if isinstance(event, str) else (str(event), "", "")
    allowed = SERVER_EVENTS if worker == "server" else WORKER_EVENTS
    if name not in allowed:
        whose = "the server" if worker == "server" else "a worker"
        raise ValueError(f"{where}: {event!r} is no event of {whose}; valid: {', '.join(allowed)}")
    if (name == "slow") != (factor is not None or bool(number)) or (factor is not None and number):
        raise ValueError(f"{where}: {event!r}: only slow takes a factor, as in 'slow 2.5', and it needs one")
    if number:
        factor = _number(where, number)
    try:
        return _row_type().validate_python((worker, time, name, factor))
    except ValidationError as error:
        [first, *_] = error.errors(include_url=False)
        column = TraceEvent._fields[int(first["loc"][0])]
        raise ValueError(f"{where}: {column} = {first['input']!r:.60}: {first_mistake(error)}") from error


def _number(where: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{where}: 'slow {text}': expected a number, as in 'slow 2.5'") from None


def _check_order(events: Iterable[tuple[str, TraceEvent]]) -> None:
    """Checks that each worker's events can follow each other. One whose first is `join` is not there before it."""
    last_s: dict[Any, float] = {}
    warned: dict[Any, str] = {}
    states: dict[tuple[Any, str], str] = {}
    for where, event in events:
        worker, time_s = event.worker, event.time
        if time_s < last_s.get(worker, 0.0):
            raise ValueError(f"{where}: {time_s:g} s is before the event above it: sort a worker's events by time")
        last_s[worker] = time_s
        kind, before, after = _STATES[event.event]
        state = states.get((worker, kind), "gone" if event.event == "join" else _FIRST[kind])
        if state not in before:
            raise ValueError(f"{where}: {event.event!r} cannot follow here: worker {worker} is {state} already")
        states[worker, kind] = after
        if kind == "presence":
            warned.pop(worker, None)
            if after == "warned":
                warned[worker] = where
    for worker, where in warned.items():
        raise ValueError(f"{where}: after a notice worker {worker} must go: add preempt, leave or crash")
