"""Tracks of a trace: processes, threads and flows of a run, and the slices on them."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from simulator.host.nodes import SERVER
from simulator.record import RunRecord
from simulator.report.rows import lanes_of, node_names
from simulator.report.spans import MESSAGES, OFFER
from simulator.report.worker_bins import worker_labels, workers_of

Event = dict[str, Any]


class Lane(NamedTuple):
    """Thread of messages of one node, of which none overlap."""

    node: int
    what: str
    number: int


class Slice(NamedTuple):
    """An interval of a thread, in microseconds."""

    start: int
    end: int
    name: str
    arguments: Event


class Tracks:
    """Numbers of a run's processes, threads and flows; no two of a trace share one.

    Attributes:
        server, workers: Processes; the server's number is also its first thread's.
        nodes: Of which something met at a place of theirs, in order; servers first.
        name: Function from a node to its name.
        lanes: Rows of the table of spans, by lane.
        flows: Number of each meeting's flow, by row.
        first_thread, first_flow: Numbers that are still free.
    """

    def __init__(
        self, server: int, first_thread: int, first_flow: int, record: RunRecord, spans: pd.DataFrame, met: pd.DataFrame
    ):
        """Numbers a run's tracks.

        Args:
            server: Number of its first process.
            first_thread: Its first thread's, after that of the server.
            first_flow: Its first flow's.
            record: The run.
            spans: See `spans_of`.
            met: See `meetings_of`.
        """
        self.server, self.workers = server, server + 1
        self._record, self._first = record, first_thread
        self.nodes = sorted({SERVER, *met["node"].tolist()}, key=lambda node: (node != SERVER, node >= 0, abs(node)))
        self.name = node_names(record, self.nodes)
        messages = spans[spans["what"].isin(MESSAGES)]
        keys = zip(messages["worker"].tolist(), messages["what"].tolist(), lanes_of(messages).tolist(), strict=True)
        lanes: dict[Lane, list[int]] = {}
        for index, key in zip(messages.index.tolist(), keys, strict=True):
            lanes.setdefault(Lane(*key), []).append(index)
        self.lanes = dict(sorted(lanes.items(), key=lambda each: (each[0].node, each[0].what != OFFER, each[0].number)))
        further = [*(node for node in self.nodes if node != SERVER), *self.lanes]
        workers = record.summary["workers"]
        self._further: dict[int | Lane, int] = {
            each: first_thread + workers + place for place, each in enumerate(further)
        }
        self.first_thread = first_thread + workers + len(further)
        rounds = int(record.rounds["round"].max()) + 1 if len(record.rounds) else 0
        own = (met["round"] >= 0) & ((met["node"] < 0) | (met["node"] == met["sender"]))
        self.flows = first_flow + met["round"].where(own, rounds + (~own).cumsum() - 1)
        self.first_flow = first_flow + rounds + int((~own).sum())

    def worker(self, worker: int) -> Event:
        """Returns the track of what a worker does."""
        return {"pid": self.workers, "tid": self._first + worker}

    def meetings(self, node: int) -> Event:
        """Returns the track of what happens at the places of a node."""
        return {"pid": self.server, "tid": self.server if node == SERVER else self._further[node]}

    def lane(self, lane: Lane) -> Event:
        """Returns the track of some messages."""
        return {"pid": self.workers if lane.node >= 0 else self.server, "tid": self._further[lane]}

    def names(self, of_run: str) -> Iterator[Event]:
        """Yields the events that name and order processes and threads.

        Args:
            of_run: Before the names of processes.
        """
        process, first = "server", "updates"
        if min(self.nodes) < SERVER:
            process, first = "servers", "upper server"
        elif max(self.nodes) >= 0:
            process, first = "meetings", "evaluations"
        yield from _name("process", {"pid": self.server, "tid": self.server}, f"{of_run}{process}", self.server)
        threads = [(self.meetings(SERVER), first)]
        for node in self.nodes:
            if node != SERVER:
                threads.append((self.meetings(node), self.name(node)))
            threads += self._named_lanes(node) if node < 0 else []
        yield from _threads(threads)
        yield from _name("process", self.worker(0), f"{of_run}workers", self.workers)
        threads = []
        for worker, name in enumerate(worker_labels(workers_of(self._record))):
            threads += [(self.worker(worker), name), *self._named_lanes(worker)]
        yield from _threads(threads)

    def _named_lanes(self, node: int) -> list[tuple[Event, str]]:
        name = self.name(node)
        return [
            (self.lane(lane), f"{name} {lane.what}s" + (f" ({lane.number + 1})" if lane.number else ""))
            for lane in self.lanes
            if lane.node == node
        ]


def _threads(threads: Sequence[tuple[Event, str]]) -> Iterator[Event]:
    for place, (track, name) in enumerate(threads):
        yield from _name("thread", track, name, place)


def _name(what: str, track: Event, name: str, place: int) -> Iterator[Event]:
    yield {"name": f"{what}_name", "ph": "M", **track, "args": {"name": name}}
    yield {"name": f"{what}_sort_index", "ph": "M", **track, "args": {"sort_index": place}}


def complete(each: Slice, category: str, track: Event) -> Event:
    """Returns the event of a slice."""
    taken = {"ts": each.start, "dur": each.end - each.start}
    return {"name": each.name, "cat": category, "ph": "X", **taken, **track, "args": each.arguments}


def flow_start(flow: int, moment: int, track: Event) -> Event:
    """Returns the beginning of an arrow from what is sent to the meeting to which it goes."""
    return {"name": "push", "cat": "flow", "ph": "s", "id": flow, "ts": moment, **track}


_OF_FAULT = ("round", "shard", "first_step", "local_steps", "computed_steps", "pulled_version")


def fault_event(fault: dict[Any, Any], track: Event) -> Event:
    """Returns the instant of a fault, from its row."""
    known = {name: fault[name] for name in _OF_FAULT} if fault["round"] >= 0 else {}
    name = {"lost": "round lost", "cut": "round cut off"}.get(fault["fault"], fault["fault"])
    time = int(microseconds(fault["time_s"]))
    return {"name": name, "cat": "fault", "ph": "i", "s": "t", "ts": time, **track, "args": known}


def microseconds(times_s: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Returns whole microseconds."""
    return np.rint(np.asarray(times_s, float) * 1e6).astype(np.int64)
