"""Timelines in the Trace Event format, which Perfetto (https://ui.perfetto.dev) and chrome://tracing open.

The format is that of Google's "Trace Event Format" (2016). A run is two processes: the server, with its updates,
evaluations and counters, and the workers, a thread each. Servers of regions, meetings at workers, and messages in the
background have threads of their own. Times are simulated ones, rounded to whole microseconds.
"""

import bisect
import contextlib
import gzip
import heapq
import io
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd

from simulator.host.files import atomic_path
from simulator.record import RunRecord
from simulator.report.arguments import Records, records_of
from simulator.report.group_keys import ReportError
from simulator.report.grouping import run_labels
from simulator.report.spans import ABSENT, MESSAGES, SPANS, spans_of
from simulator.report.trace_meetings import meetings_of, of_meetings
from simulator.report.trace_tracks import Event, Slice, Tracks, complete, fault_event, flow_start, microseconds

_OF_ROUND = {  # argument of a slice -> column
    "round": "round",
    "version": "pulled_version",
    "shard": "shard",
    "steps": "local_steps",
    "staleness": "staleness",
    "loss": "train_loss",
}


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

    Messages that nobody waits for have threads of their own, so many that none overlap: a worker's offers and the
    answers to them, those between the servers of regions and the upper one, and those between workers. A flow begins in
    the message that brought the offer, where it has one. The servers of regions have a thread each, and so have, where
    there is no server, the meetings at each worker.

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
        spans, met = spans_of(record), meetings_of(record)
        tracks = Tracks(2 * index + 1, thread, flow, record, spans, met)
        thread, flow = tracks.first_thread, tracks.first_flow
        yield from tracks.names(f"{label}: " if len(given) > 1 else "")
        begun = set[int]()
        of_messages, of_rounds = _flows(spans, met, tracks)
        for event in itertools.chain(
            _of_workers(record, spans, tracks, of_rounds), _of_messages(record, spans, tracks, of_messages)
        ):
            if event["ph"] == "s":
                begun.add(event["id"])
            yield event
        yield from of_meetings(record, tracks, met, begun)


@contextlib.contextmanager
def _opened(path: Path, *, compress: bool) -> Iterator[TextIO]:
    """Opens a text file to write; a compressed one holds neither name nor time."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if compress else contextlib.nullcontext(raw) as binary,
        io.TextIOWrapper(binary, encoding="utf-8", newline="\n") as file,
    ):
        yield file


def _flows(spans: pd.DataFrame, met: pd.DataFrame, tracks: Tracks) -> tuple[dict[int, int], dict[int, int]]:
    """Returns the flows that begin in messages, by row of the table of transfers, and those of rounds without one."""
    messages = spans[spans["what"].isin(MESSAGES)]
    long = messages[microseconds(messages["last_s"]) > microseconds(messages["first_s"])]
    is_message = met["transfer"].isin(long["row"])
    own = ~is_message & (met["round"] >= 0) & ((met["node"] < 0) | (met["node"] == met["sender"]))
    of_messages, of_rounds = (
        dict(zip(met.loc[which, of].tolist(), tracks.flows[which].tolist(), strict=True))
        for which, of in ((is_message, "transfer"), (own, "round"))
    )
    return of_messages, of_rounds


def _of_messages(record: RunRecord, spans: pd.DataFrame, tracks: Tracks, flows: Mapping[int, int]) -> Iterator[Event]:
    names = ("sender", "receiver", "round", "fragment", "messages", "bytes")
    sent = {name: record.transfers[name].tolist() for name in names}
    several = max(sent["fragment"], default=0) > 0
    for lane, index in tracks.lanes.items():
        track, own = tracks.lane(lane), spans.loc[index]
        columns = own["row"].tolist(), *(microseconds(own[name]).tolist() for name in ("first_s", "last_s"))
        for row, start, end in zip(*columns, strict=True):
            if start == end:
                continue
            sender, receiver = (tracks.name(sent[end][row]) for end in ("sender", "receiver"))
            name = f"{lane.what}, fragment {sent['fragment'][row]}" if several else lane.what
            if sent["sender"][row] >= 0 and sent["receiver"][row] >= 0:
                name += f" to {receiver}"
            given = {name: sent[name][row] for name in names[2:]}
            if given["round"] < 0:
                del given["round"]
            yield complete(Slice(start, end, name, {"from": sender, "to": receiver, **given}), "message", track)
            if row in flows:
                yield flow_start(flows[row], end - 1, track)


def _of_workers(record: RunRecord, spans: pd.DataFrame, tracks: Tracks, flows: Mapping[int, int]) -> Iterator[Event]:
    faults = dict(iter(record.faults.groupby("worker")))
    for worker, slices in enumerate(_slices(record, spans)):
        track = tracks.worker(worker)
        nested = list(_nested(slices))
        lost = faults[worker].to_dict("records") if worker in faults else []
        instants = [fault_event(fault, track) for fault in lost]
        events = [complete(each, "worker", track) for each in nested]
        events += _sent(nested, sorted(event["ts"] for event in [*events, *instants]), flows, track)
        events += instants
        yield from sorted(events, key=lambda event: event["ts"])  # stable: slices come before what lies in them


def _slices(record: RunRecord, spans: pd.DataFrame) -> Iterator[list[Slice]]:
    """Yields each worker's slices: its absences, and its phases in rounds that arrived."""
    spans = spans[spans["what"].isin((*SPANS, ABSENT))]
    columns = [spans[name].to_numpy() for name in ("what", "first_s", "row")]
    columns += [microseconds(spans[name]) for name in ("first_s", "last_s")]
    bounds = np.searchsorted(spans["worker"], range(record.summary["workers"] + 1))
    rounds = {name: record.rounds[column].to_numpy() for name, column in _OF_ROUND.items()}
    arrived_s, kinds = record.rounds["arrival_s"].to_numpy(), record.faults["fault"].astype(str).tolist()
    for first, last in itertools.pairwise(bounds):
        phases, absences, given = [], [], dict[int, Event]()
        for what, first_s, row, start, end in zip(*(column[first:last].tolist() for column in columns), strict=True):
            if what == ABSENT:
                absences.append(Slice(start, end, what, {"fault": kinds[row]}))
            elif start < end:
                if row not in given:
                    given[row] = {name: column.item(row) for name, column in rounds.items()}
                    if not math.isfinite(given[row]["loss"]):
                        del given[row]["loss"]
                after = first_s >= arrived_s[row]  # a wait that is not the round's own
                phases.append(Slice(start, end, what, {} if after else given[row]))
        yield [*_inside(absences, phases), *phases]


def _inside(absences: Iterable[Slice], phases: Sequence[Slice]) -> Iterator[Slice]:
    """Yields a worker's absences, from a microsecond later in a phase that begins with one and outlasts it.

    Such an absence lies inside of the phase. The round's flow then begins at the phase's start, see `_sent`, where
    Perfetto would give it to the absence, the inner slice.
    """
    until = {each.start: each.end for each in phases}
    for each in absences:
        start = each.start + (until.get(each.start, each.start) > each.end)
        if start < each.end:
            yield each._replace(start=start)


def _nested(slices: Iterable[Slice]) -> Iterator[Slice]:
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


def _sent(slices: Sequence[Slice], begins: Sequence[int], flows: Mapping[int, int], track: Event) -> Iterator[Event]:
    """Yields the start of each round's flow: in its last slice, before anything else that begins in there."""
    last = {each.arguments["round"]: each for each in slices if "round" in each.arguments and each.name != "wait"}
    for number, each in last.items():
        if number not in flows:
            continue
        # Perfetto gives a flow to the innermost slice that is open then: at `end` this one is closed, so it begins a
        # microsecond before; and at `start` if another event begins inside, to which the flow would go.
        alone = bisect.bisect_left(begins, each.end) - bisect.bisect_left(begins, each.start) == 1
        yield flow_start(flows[number], each.end - 1 if alone else each.start, track)
