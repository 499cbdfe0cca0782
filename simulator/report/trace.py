"""Timelines in the Trace Event format, which Perfetto (https://ui.perfetto.dev) and chrome://tracing open.

The format is that of Google's "Trace Event Format" (2016). A run is two processes: the server, with its updates,
evaluations and counters, and the workers, a thread each. Times are simulated ones, rounded to whole microseconds.
"""

import bisect
import contextlib
import gzip
import heapq
import io
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
import numpy.typing as npt
import pandas as pd

from simulator.host.files import atomic_path
from simulator.host.format import significant
from simulator.record import RunRecord
from simulator.record.absences import absences
from simulator.report.given import Records, records_of
from simulator.report.group_keys import ReportError
from simulator.report.grouping import run_labels
from simulator.report.intervals import SPANS

Event = dict[str, Any]

_OF_ROUND = {  # argument of a slice -> column
    "round": "round",
    "version": "pulled_version",
    "shard": "shard",
    "steps": "local_steps",
    "staleness": "staleness",
    "loss": "train_loss",
}


class _Ids(NamedTuple):
    """Numbers of a run's processes, threads and flows; no two of a trace share one."""

    server: int
    workers: int
    first_thread: int
    first_flow: int

    def thread(self, worker: int) -> int:
        return self.first_thread + worker

    def flow(self, round: int) -> int:
        return self.first_flow + round


class _Slice(NamedTuple):
    """An interval of a thread, in microseconds."""

    start: int
    end: int
    name: str
    arguments: Event


class _Rounds:
    """The rounds of a record, by worker.

    Attributes:
        times: Microseconds by column, shape (rounds,).
        waits_to_end: Whether a worker waited from this round to the end, shape (rounds,).
        some: Whether a round has taken any time, shape (rounds,).
    """

    def __init__(self, record: RunRecord) -> None:
        rounds = record.rounds
        names = dict.fromkeys([name for both in SPANS.values() for name in both] + ["update_s"])
        self.times = {name: np.array(_us(rounds[name]), np.int64) for name in names}
        self.waits_to_end = rounds["waited_to_end"].to_numpy() == 1
        self.some = self.times["pull_start_s"] < self.times["arrival_s"]
        self._columns = [rounds[column].to_numpy() for column in _OF_ROUND.values()]
        self._order = np.argsort(rounds["worker"].to_numpy(), kind="stable")
        workers = np.arange(record.summary["workers"] + 1)
        self._first = np.searchsorted(rounds["worker"].to_numpy()[self._order], workers)

    def of(self, worker: int) -> npt.NDArray[np.int64]:
        """Returns the rows of a worker's rounds, in order of arrival."""
        return self._order[self._first[worker] : self._first[worker + 1]]

    def arguments(self, rows: npt.NDArray[np.int64]) -> list[Event]:
        """Returns the arguments of slices; a loss that is not known, or not finite, is left out."""
        values = zip(*(column[rows].tolist() for column in self._columns), strict=True)
        given = [dict(zip(_OF_ROUND, each, strict=True)) for each in values]
        for each in given:
            if not math.isfinite(each["loss"]):
                del each["loss"]
        return given


def write_trace(records: Records, path: str | Path) -> int:
    """Writes runs as one trace, compressed where the path ends in .gz. Equal records give equal bytes.

    Args:
        records: One or several. Each is a pair of processes of its own, named by its variant, sweep point and seed
            where there are several.
        path: Ends in .json or .json.gz.

    Returns:
        The number of events.

    Raises:
        ReportError: If there is no record, or the path ends in something else.
    """
    records, path = records_of(records), Path(path)
    if not path.name.endswith((".json", ".json.gz")):
        raise ReportError(f"{path}: a trace is written to a file whose name ends in .json or .json.gz")
    others = {"clock": "simulated time", "runs": run_labels(records)}
    count = 0
    with atomic_path(path) as temporary, _opened(temporary, compress=path.name.endswith(".gz")) as file:
        file.write(f'{{"displayTimeUnit": "ms", "otherData": {json.dumps(others)}, "traceEvents": [\n')
        for event in trace_events(records):
            line = json.dumps(event, separators=(",", ":"), allow_nan=False)
            file.write(f",\n{line}" if count else line)
            count += 1
        file.write("\n]}\n")
    return count


def trace_events(records: Records) -> Iterator[Event]:
    """Yields the events of a trace; those of one thread are in order of time.

    A worker's thread has complete events ("X") for wait, pull, compute, push and absent, instants ("i") for what went
    wrong, and a flow ("s") from the last slice of each round that arrived; the server's has complete events for
    updates, to which the flows lead ("f"), and instants for evaluations. Counters ("C") are staleness (mean of an
    update's arrivals), version and perplexity. A slice's arguments are its round, the version that was pulled, shard,
    local steps, staleness and training loss (nats).

    Perfetto takes events of one time in the order of the file, but slices that take time before all others, and an
    instant for the slice that a later flow lies in. So a flow ends before an update that takes no time, or in one that
    does, and it begins at the last moment of its slice only if nothing else begins in there.

    Args:
        records: As `write_trace` takes them.

    Raises:
        ReportError: If there is no record.
    """
    given = records_of(records)
    thread, flow = 2 * len(given) + 1, 0
    for index, (record, label) in enumerate(zip(given, run_labels(given), strict=True)):
        ids = _Ids(2 * index + 1, 2 * index + 2, thread, flow)
        thread += record.summary["workers"]
        flow += int(record.rounds["round"].max()) + 1 if len(record.rounds) else 0
        rounds = _Rounds(record)
        yield from _names(record, ids, f"{label}: " if len(given) > 1 else "")
        yield from _of_workers(record, rounds, ids)
        yield from _of_server(record, rounds, ids)


@contextlib.contextmanager
def _opened(path: Path, *, compress: bool) -> Iterator[TextIO]:
    """Opens a text file to write; a compressed one holds neither name nor time."""
    with contextlib.ExitStack() as stack:
        raw: Any = stack.enter_context(path.open("wb"))
        if compress:
            raw = stack.enter_context(gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0))
        yield stack.enter_context(io.TextIOWrapper(raw, encoding="utf-8", newline="\n"))


def _names(record: RunRecord, ids: _Ids, of_run: str) -> Iterator[Event]:
    """Yields the events that name and order processes and threads."""
    by_worker = record.rounds["worker"]
    computing_s = (record.rounds["push_start_s"] - record.rounds["compute_start_s"]).groupby(by_worker).sum()
    step_s = (computing_s / record.rounds["local_steps"].groupby(by_worker).sum()).to_dict()
    workers = range(record.summary["workers"])
    names = [
        f"worker {worker}" + (f", {significant(step_s[worker])} s/step" if worker in step_s else "")
        for worker in workers
    ]
    yield from _name("process", ids.server, ids.server, f"{of_run}server", ids.server)
    yield from _name("thread", ids.server, ids.server, "updates", 0)
    yield from _name("process", ids.workers, ids.thread(0), f"{of_run}workers", ids.workers)
    for worker in workers:
        yield from _name("thread", ids.workers, ids.thread(worker), names[worker], worker)


def _name(what: str, process: int, thread: int, name: str, place: int) -> Iterator[Event]:
    of = {"ph": "M", "pid": process, "tid": thread}
    yield {"name": f"{what}_name", **of, "args": {"name": name}}
    yield {"name": f"{what}_sort_index", **of, "args": {"sort_index": place}}


# The workers.


def _of_workers(record: RunRecord, rounds: _Rounds, ids: _Ids) -> Iterator[Event]:
    end_s = float(record.summary["simulated_seconds"])
    faults = dict(iter(record.faults.groupby("worker")))
    away = dict(iter(absences(record.faults, end_s).groupby("worker")))
    (end,) = _us([end_s])
    for worker in range(record.summary["workers"]):
        place = {"pid": ids.workers, "tid": ids.thread(worker)}
        rows = rounds.of(worker)
        slices = list(_phases(rounds, rows, end))
        if worker in away:
            slices = [*_absent(away[worker], record.faults, slices), *slices]
        fitted = list(_nested(sorted(slices, key=_in_order)))
        instants = [_instant(fault, place) for fault in faults[worker].to_dict("records")] if worker in faults else []
        events = [_complete(each, "worker", place) for each in fitted]
        events += _sent(fitted, sorted(event["ts"] for event in [*events, *instants]), ids, place)
        events += instants
        yield from sorted(events, key=lambda event: event["ts"])  # stable: slices come before what lies in them


def _phases(rounds: _Rounds, rows: npt.NDArray[np.int64], end: int) -> Iterator[_Slice]:
    """Yields the phases of a worker's rounds that arrived, and its wait after the last of them."""
    arguments = rounds.arguments(rows)
    for name, (first, last) in SPANS.items():
        starts, ends = (rounds.times[column][rows].tolist() for column in (first, last))
        for start, stop, given in zip(starts, ends, arguments, strict=True):
            if start < stop:
                yield _Slice(start, stop, name, given)
    if len(rows):
        arrived, updated = (int(rounds.times[column][rows[-1]]) for column in ("arrival_s", "update_s"))
        stop = end if rounds.waits_to_end[rows[-1]] else updated
        if arrived < stop:
            yield _Slice(arrived, stop, "wait", {})


def _absent(away: pd.DataFrame, faults: pd.DataFrame, phases: Sequence[_Slice]) -> Iterator[_Slice]:
    """Yields a worker's absences, from a microsecond later in a phase that began with one: a flow begins before."""
    kinds = faults["fault"].astype(str)
    until = {each.start: each.end for each in phases}
    for row, first_s, last_s in zip(away.index, away["first_s"], away["last_s"], strict=True):
        start, end = _us([first_s, last_s])
        # An absence that begins with a longer phase lies inside of it. The round's flow then begins at the phase's
        # start, see `_sent`, where Perfetto would give it to the absence, the inner slice: so that begins later.
        start += until.get(start, start) > end
        if start < end:
            yield _Slice(start, end, "absent", {"fault": kinds[row]})


def _in_order(each: _Slice) -> tuple[int, int]:
    return each.start, -each.end


def _nested(slices: Iterable[_Slice]) -> Iterator[_Slice]:
    """Yields slices of which none overlaps another one in part: the later one is cut where it would.

    Args:
        slices: In order of their start, the longer one first.
    """
    open_until: list[int] = []
    cut: list[tuple[tuple[int, int], int, _Slice]] = []
    number = itertools.count()
    merged = iter(slices)
    following = next(merged, None)
    while following is not None or cut:
        if cut and (following is None or cut[0][0] <= _in_order(following)):
            each = heapq.heappop(cut)[2]
        else:
            assert following is not None
            each, following = following, next(merged, None)
        while open_until and open_until[-1] <= each.start:
            open_until.pop()
        if open_until and open_until[-1] < each.end:
            rest = each._replace(start=open_until[-1])
            heapq.heappush(cut, (_in_order(rest), next(number), rest))
            continue
        open_until.append(each.end)
        yield each


def _sent(slices: Sequence[_Slice], begins: Sequence[int], ids: _Ids, place: Event) -> Iterator[Event]:
    """Yields the start of each round's flow: in its last slice, before anything else that begins in there."""
    last = {each.arguments["round"]: each for each in slices if "round" in each.arguments and each.name != "wait"}
    for number, each in last.items():
        # Perfetto gives a flow to the innermost slice that is open then: at `end` this one is closed, so it begins a
        # microsecond before; and at `start` if another event begins inside, to which the flow would go.
        alone = bisect.bisect_left(begins, each.end) - bisect.bisect_left(begins, each.start) == 1
        moment = each.end - 1 if alone else each.start
        yield {"name": "push", "cat": "flow", "ph": "s", "id": ids.flow(number), "ts": moment, **place}


def _complete(each: _Slice, category: str, place: Event) -> Event:
    taken = {"ts": each.start, "dur": each.end - each.start}
    return {"name": each.name, "cat": category, "ph": "X", **taken, **place, "args": each.arguments}


_OF_FAULT = ("round", "shard", "first_step", "local_steps", "computed_steps", "pulled_version")


def _instant(fault: dict[Any, Any], place: Event) -> Event:
    known = {name: fault[name] for name in _OF_FAULT} if fault["round"] >= 0 else {}
    name = {"lost": "round lost", "cut": "round cut off"}.get(fault["fault"], fault["fault"])
    (time,) = _us([fault["time_s"]])
    return {"name": name, "cat": "fault", "ph": "i", "s": "t", "ts": time, **place, "args": known}


# The server.


def _of_server(record: RunRecord, rounds: _Rounds, ids: _Ids) -> Iterator[Event]:
    place = {"pid": ids.server, "tid": ids.server}
    faults = record.faults[record.faults["worker"] < 0]
    instants = [_instant(fault, place) for fault in faults.to_dict("records")]
    instants += [_evaluated(row, place) for row in record.evaluations.to_dict("records")]
    counters = [
        _counter("perplexity", _us([row["simulated_s"]])[0], row["perplexity"], ids)
        for row in record.evaluations.to_dict("records")
        if math.isfinite(row["perplexity"])
    ]
    instants.sort(key=lambda event: event["ts"])
    yield from counters
    yield from heapq.merge(_updates(record, rounds, ids, place), instants, key=lambda event: event["ts"])


def _updates(record: RunRecord, rounds: _Rounds, ids: _Ids, place: Event) -> Iterator[Event]:
    """Yields the server's updates, the ends of the flows that lead to them, and the counters."""
    (takes,) = _us([(record.experiment.get("cluster") or {}).get("server_update_time") or 0.0])
    columns = [record.rounds[name].to_numpy() for name in ("round", "worker", "version", "outcome", "staleness")]
    columns += [rounds.times["arrival_s"], rounds.times["update_s"], rounds.some]
    rows = zip(*(column.tolist() for column in columns), strict=True)
    busy_until, latest_instant = 0, -1
    for (_, outcome), members in itertools.groupby(enumerate(rows), key=_one_update):
        numbers, workers, versions, _, staleness, arrived, updated, some = zip(
            *(row for _, row in members), strict=True
        )
        end, applied = updated[0], outcome == "applied"
        begin = min(end, max(busy_until, *arrived, end - takes if applied else end))
        # An update that takes time would be put before one without, at the same microsecond: it begins one later, so
        # that the arrows of both keep to their own.
        begin += begin == latest_instant < end
        busy_until, latest_instant = end, end if begin == end else latest_instant
        arrows = [
            {"name": "push", "cat": "flow", "ph": "f", "id": ids.flow(number), "ts": begin, **place}
            for number, moved in zip(numbers, some, strict=True)
            if moved
        ]
        mean = sum(staleness) / len(staleness)
        given: Event = {"version": versions[0], "rounds": len(numbers), "staleness": mean, "outcome": outcome}
        if len(numbers) == 1:
            given |= {"round": numbers[0], "worker": workers[0]}
        name = f"update {versions[0]}" if applied else outcome
        update = _complete(_Slice(begin, end, name, given), "server", place)
        yield from [update, *[arrow | {"bp": "e"} for arrow in arrows]] if begin < end else [*arrows, update]
        yield _counter("staleness", begin, mean, ids)
        if applied:
            yield _counter("version", begin, versions[0], ids)


def _one_update(row: tuple[int, Any]) -> tuple[Any, str]:
    """Returns a key that the rounds of one update have in common; a round that is not applied has its own."""
    place, (_, _, version, outcome, *_) = row
    return ("version", version) if outcome == "applied" else ("row", place), outcome


def _evaluated(row: dict[Any, Any], place: Event) -> Event:
    known = {name: row[name] for name in ("local_steps", "tokens", "server_updates", "loss", "perplexity")}
    finite = {name: value for name, value in known.items() if math.isfinite(value)}
    (time,) = _us([row["simulated_s"]])
    return {"name": "evaluation", "cat": "server", "ph": "i", "s": "t", "ts": time, **place, "args": finite}


_SERIES = {"staleness": "mean", "version": "number", "perplexity": "validation"}  # Perfetto shows "staleness mean"


def _counter(name: str, time: int, value: float, ids: _Ids) -> Event:
    return {"name": name, "ph": "C", "ts": time, "pid": ids.server, "tid": ids.server, "args": {_SERIES[name]: value}}


def _us(seconds: "Sequence[float] | pd.Series[float]") -> list[int]:
    """Returns whole microseconds."""
    micros: list[int] = np.rint(np.asarray(seconds, float) * 1e6).astype(np.int64).tolist()
    return micros
