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

from simulator.host.files import atomic_path
from simulator.record import RunRecord
from simulator.report.arguments import Records, records_of
from simulator.report.group_keys import ReportError
from simulator.report.grouping import run_labels
from simulator.report.spans import ABSENT, SPANS, spans_of
from simulator.report.worker_bins import worker_labels, workers_of

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
        yield from _names(record, ids, f"{label}: " if len(given) > 1 else "")
        yield from _of_workers(record, ids)
        yield from _of_server(record, ids)


@contextlib.contextmanager
def _opened(path: Path, *, compress: bool) -> Iterator[TextIO]:
    """Opens a text file to write; a compressed one holds neither name nor time."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if compress else contextlib.nullcontext(raw) as binary,
        io.TextIOWrapper(binary, encoding="utf-8", newline="\n") as file,
    ):
        yield file


def _names(record: RunRecord, ids: _Ids, of_run: str) -> Iterator[Event]:
    """Yields the events that name and order processes and threads."""
    yield from _name("process", ids.server, ids.server, f"{of_run}server", ids.server)
    yield from _name("thread", ids.server, ids.server, "updates", 0)
    yield from _name("process", ids.workers, ids.thread(0), f"{of_run}workers", ids.workers)
    for worker, name in enumerate(worker_labels(workers_of(record))):
        yield from _name("thread", ids.workers, ids.thread(worker), name, worker)


def _name(what: str, process: int, thread: int, name: str, place: int) -> Iterator[Event]:
    of = {"ph": "M", "pid": process, "tid": thread}
    yield {"name": f"{what}_name", **of, "args": {"name": name}}
    yield {"name": f"{what}_sort_index", **of, "args": {"sort_index": place}}


# The workers.


def _of_workers(record: RunRecord, ids: _Ids) -> Iterator[Event]:
    faults = dict(iter(record.faults.groupby("worker")))
    for worker, slices in enumerate(_slices(record)):
        place = {"pid": ids.workers, "tid": ids.thread(worker)}
        nested = list(_nested(slices))
        instants = [_instant(fault, place) for fault in faults[worker].to_dict("records")] if worker in faults else []
        events = [_complete(each, "worker", place) for each in nested]
        events += _sent(nested, sorted(event["ts"] for event in [*events, *instants]), ids, place)
        events += instants
        yield from sorted(events, key=lambda event: event["ts"])  # stable: slices come before what lies in them


def _slices(record: RunRecord) -> Iterator[list[_Slice]]:
    """Yields each worker's slices: its absences, and its phases in rounds that arrived."""
    spans = spans_of(record)
    spans = spans[spans["what"].isin((*SPANS, ABSENT))]
    columns = [spans[name].to_numpy() for name in ("what", "first_s", "row")]
    columns += [_us(spans[name]) for name in ("first_s", "last_s")]
    bounds = np.searchsorted(spans["worker"], range(record.summary["workers"] + 1))
    rounds = {name: record.rounds[column].to_numpy() for name, column in _OF_ROUND.items()}
    arrived_s, kinds = record.rounds["arrival_s"].to_numpy(), record.faults["fault"].astype(str).tolist()
    for first, last in itertools.pairwise(bounds):
        phases, absences, given = [], [], dict[int, Event]()
        for what, first_s, row, start, end in zip(*(column[first:last].tolist() for column in columns), strict=True):
            if what == ABSENT:
                absences.append(_Slice(start, end, what, {"fault": kinds[row]}))
            elif start < end:
                if row not in given:
                    given[row] = {name: column.item(row) for name, column in rounds.items()}
                    if not math.isfinite(given[row]["loss"]):
                        del given[row]["loss"]
                after = first_s >= arrived_s[row]  # a wait that is not the round's own
                phases.append(_Slice(start, end, what, {} if after else given[row]))
        yield [*_inside(absences, phases), *phases]


def _inside(absences: Iterable[_Slice], phases: Sequence[_Slice]) -> Iterator[_Slice]:
    """Yields a worker's absences, from a microsecond later in a phase that begins with one and outlasts it.

    Such an absence lies inside of the phase. The round's flow then begins at the phase's start, see `_sent`, where
    Perfetto would give it to the absence, the inner slice.
    """
    until = {each.start: each.end for each in phases}
    for each in absences:
        start = each.start + (until.get(each.start, each.start) > each.end)
        if start < each.end:
            yield each._replace(start=start)


def _nested(slices: Iterable[_Slice]) -> Iterator[_Slice]:
    """Yields slices in order of their start, of which none overlaps another one in part: the later one is cut.

    Perfetto drops what is not nested. The rest begins where the earlier slice ends, among those that begin then.
    """
    pending = [(each.start, -each.end, number, each) for number, each in enumerate(slices)]
    heapq.heapify(pending)
    open_until: list[int] = []
    while pending:
        *_, number, each = heapq.heappop(pending)
        while open_until and open_until[-1] <= each.start:
            open_until.pop()
        if open_until and open_until[-1] < each.end:
            rest = each._replace(start=open_until[-1])
            heapq.heappush(pending, (rest.start, -rest.end, number, rest))
        else:
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
    return {"name": name, "cat": "fault", "ph": "i", "s": "t", "ts": int(_us(fault["time_s"])), **place, "args": known}


# The server.


def _of_server(record: RunRecord, ids: _Ids) -> Iterator[Event]:
    place = {"pid": ids.server, "tid": ids.server}
    faults = record.faults[record.faults["worker"] < 0]
    instants = [_instant(fault, place) for fault in faults.to_dict("records")]
    evaluations = [_evaluated(row, place) for row in record.evaluations.to_dict("records")]
    for event in evaluations:
        if "perplexity" in event["args"]:
            yield _counter("perplexity", event["ts"], event["args"]["perplexity"], ids)
    instants = sorted([*instants, *evaluations], key=lambda event: event["ts"])
    yield from heapq.merge(_updates(record, ids, place), instants, key=lambda event: event["ts"])


def _updates(record: RunRecord, ids: _Ids, place: Event) -> Iterator[Event]:
    """Yields the server's updates, the ends of the flows that lead to them, and the counters."""
    takes = int(_us((record.experiment.get("cluster") or {}).get("server_update_time") or 0.0))
    columns = [record.rounds[name].tolist() for name in ("round", "worker", "version", "outcome", "staleness")]
    columns += [_us(record.rounds[name]).tolist() for name in ("pull_start_s", "arrival_s", "update_s")]
    rows = zip(*columns, strict=True)
    busy_until, latest_instant = 0, -1
    for (_, outcome), members in itertools.groupby(enumerate(rows), key=_one_update):
        numbers, workers, versions, _, staleness, pulled, arrived, updated = zip(
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
            for number, first, last in zip(numbers, pulled, arrived, strict=True)
            if first < last  # else no slice of the round has any length, from which a flow could begin
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
    time = int(_us(row["simulated_s"]))
    return {"name": "evaluation", "cat": "server", "ph": "i", "s": "t", "ts": time, **place, "args": finite}


_SERIES = {"staleness": "mean", "version": "number", "perplexity": "validation"}  # Perfetto shows "staleness mean"


def _counter(name: str, time: int, value: float, ids: _Ids) -> Event:
    return {"name": name, "ph": "C", "ts": time, "pid": ids.server, "tid": ids.server, "args": {_SERIES[name]: value}}


def _us(times_s: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Returns whole microseconds."""
    return np.rint(np.asarray(times_s, float) * 1e6).astype(np.int64)
