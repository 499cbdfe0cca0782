"""Traces of faults: a CSV file with columns worker, time and event."""

import csv
import functools
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from simulator.experiment.units import FiniteDuration, Int, Positive

MOST_BYTES = 64 * 2**20

WorkerEvent = Literal["crash", "notice", "preempt", "leave", "join", "slow", "normal", "disconnect", "reconnect"]
WORKER_EVENTS: dict[str, str] = {
    "crash": "fails without a warning",
    "notice": "is told that it will be preempted, sends what it has finished and is given no more",
    "preempt": "is taken away",
    "leave": "leaves and says so",
    "join": "is there (again)",
    "slow": "computes slower from now on: slow 2.5 takes 2.5 times as long",
    "normal": "computes at its usual speed again",
    "disconnect": "loses its link; transfers wait",
    "reconnect": "has its link back",
}
SERVER_EVENTS = {"down": "neither sends, receives nor processes", "up": "goes on"}


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
    event: WorkerEvent | Literal["down", "up"]
    factor: Positive | None = None


@functools.cache
def _row_type() -> TypeAdapter[TraceEvent]:
    """Returns what checks a row; made when there is one, since making it takes as long as reading a small file."""
    return TypeAdapter(TraceEvent)


def read_trace(trace: Any) -> Any:
    """Returns the rows of a trace, from the path of a CSV file or from rows, each checked against those before it.

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
        raise ValueError("expected the path of a CSV file with columns worker, time and event, or its rows")
    events = [(where, _event(where, row)) for where, row in rows]
    _check_order(events)
    return tuple(event for _, event in events)


def _of_file(path: str) -> Iterable[tuple[str, Any]]:
    """Yields where each row stands, and the row."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # a null byte in the path is a ValueError
        raise ValueError(f"the trace cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > MOST_BYTES:
        raise ValueError(f"the trace is larger than {MOST_BYTES >> 20} MiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"the trace is not UTF-8 text: {error}") from error
    try:
        reader = csv.reader(io.StringIO(text), strict=True)
        header = [name.strip() for name in next(reader, [])]
        if header != ["worker", "time", "event"]:
            raise ValueError(f"{path}:1: expected the columns worker,time,event; it has {','.join(header)!r}")
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells) and not cells[0].startswith("#"):
                if len(cells) != len(header):
                    raise ValueError(f"{path}:{reader.line_num}: expected worker, time and event, not {cells!r:.80}")
                yield f"{path}:{reader.line_num}", cells
    except csv.Error as error:
        raise ValueError(f"{path}: not a CSV file: {error}") from error


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
        said = str(first["msg"]).removeprefix("Value error, ")
        raise ValueError(f"{where}: {column} = {first['input']!r:.60}: {said[0].lower()}{said[1:]}") from error


def _number(where: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{where}: 'slow {text}': expected a number, as in 'slow 2.5'") from None


_STATES = {  # event -> states in which it can come, and the one after it; a worker has one state of each kind
    "crash": ("presence", ("there", "warned"), "gone"),
    "notice": ("presence", ("there",), "warned"),
    "preempt": ("presence", ("there", "warned"), "gone"),
    "leave": ("presence", ("there", "warned"), "gone"),
    "join": ("presence", ("gone",), "there"),
    "slow": ("speed", ("normal", "slow"), "slow"),
    "normal": ("speed", ("slow",), "normal"),
    "disconnect": ("link", ("up",), "down"),
    "reconnect": ("link", ("down",), "up"),
    "down": ("server", ("up",), "down"),
    "up": ("server", ("down",), "up"),
}
_FIRST = {"presence": "there", "speed": "normal", "link": "up", "server": "up"}


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
