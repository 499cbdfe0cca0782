"""Meetings at the places of a run's nodes, as they stand in a trace: updates, evaluations and counters."""

import heapq
import itertools
import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from simulator.host.nodes import SERVER
from simulator.record import RunRecord
from simulator.record.sites import cluster_section
from simulator.report.trace_tracks import Event, Slice, Tracks, complete, fault_event, microseconds


def meetings_of(record: RunRecord) -> pd.DataFrame:
    """Returns a row for each offer at a place, in order of time.

    Returns:
        Columns of the table of updates, as far as the record has them; arrival_s; and transfer: row of the message that
        brought the offer, -1 if none is known.
    """
    rounds, sent = record.rounds.drop_duplicates("round").set_index("round"), record.transfers
    met = record.updates
    if met.empty:
        met = record.rounds.assign(sender=record.rounds["worker"], node=SERVER, fragment=0)
    key = ["sender", "receiver", "round"]
    met, sent = met.assign(receiver=met["node"]), sent.assign(transfer=sent.index)
    met, sent = (table.assign(number=table.groupby(key).cumcount()) for table in (met, sent))  # of a region's offers
    key.append("number")
    met = met.merge(sent[[*key, "end_s", "transfer"]], how="left", on=key)
    names = ["node", "fragment", "version", "sender", "round", "staleness", "outcome", "update_s"]
    return met[names].assign(
        arrival_s=met["end_s"].fillna(met["round"].map(rounds["arrival_s"])),
        transfer=met["transfer"].fillna(-1).astype("int64"),
    )


def of_meetings(record: RunRecord, tracks: Tracks, met: pd.DataFrame, begun: set[int]) -> Iterator[Event]:
    """Yields what happens at the places of a run's nodes.

    Args:
        record: The run.
        tracks: Its own.
        met: See `meetings_of`.
        begun: Flows that have begun.
    """
    track = tracks.meetings(SERVER)
    faults = record.faults[record.faults["worker"] < 0]
    instants = [fault_event(fault, track) for fault in faults.to_dict("records")]
    evaluations = [_evaluated(row, track) for row in record.evaluations.to_dict("records")]
    for event in evaluations:
        if "perplexity" in event["args"]:
            yield _counter("perplexity", "", event["ts"], event["args"]["perplexity"], track)
    instants = sorted([*instants, *evaluations], key=lambda event: event["ts"])
    for node in tracks.nodes:
        updates = _updates(record, tracks, met[met["node"] == node], begun)
        yield from heapq.merge(updates, instants if node == SERVER else [], key=lambda event: event["ts"])


def _updates(record: RunRecord, tracks: Tracks, met: pd.DataFrame, begun: set[int]) -> Iterator[Event]:
    """Yields the updates of a node's places, the ends of the flows that lead to them, and the counters."""
    takes = int(microseconds(cluster_section(record.experiment).get("server_update_time") or 0.0))
    names = ("node", "fragment", "version", "outcome", "sender", "round", "staleness")
    columns = [met[name].tolist() for name in names] + [tracks.flows[met.index].tolist()]
    columns += [microseconds(met[name]).tolist() for name in ("arrival_s", "update_s")]
    several = "fragment" in record.rounds and bool((record.rounds["fragment"] > 0).any())
    busy_until, latest_instant = 0, -1
    for (_, outcome), members in itertools.groupby(enumerate(zip(*columns, strict=True)), key=_one_update):
        nodes, fragments, versions, _, senders, rounds, staleness, flows, arrived, updated = zip(
            *(row for _, row in members), strict=True
        )
        node, end, applied = nodes[0], updated[0], outcome == "applied"
        track = tracks.meetings(node)
        begin = min(end, max(busy_until, *arrived, end - takes if applied else end))
        # An update that takes time would be put before one without, at the same microsecond: it begins one later, so
        # that the arrows of both keep to their own.
        begin += begin == latest_instant < end
        busy_until, latest_instant = end, end if begin == end else latest_instant
        arrows = [
            {"name": "push", "cat": "flow", "ph": "f", "id": flow, "ts": begin, **track}
            for flow in flows
            if flow in begun
        ]
        mean = sum(staleness) / len(staleness)
        given: Event = {"version": versions[0], "rounds": len(rounds), "staleness": mean, "outcome": outcome}
        if several:
            given["fragment"] = fragments[0]
        if len(rounds) == 1:
            sender = senders[0]
            given |= {"round": rounds[0], "worker": sender} if sender >= 0 else {"from": tracks.name(sender)}
        name = f"{'update' if node < 0 else 'meeting'} {versions[0]}" if applied else outcome
        update = complete(Slice(begin, end, name, given), "server", track)
        yield from [update, *[arrow | {"bp": "e"} for arrow in arrows]] if begin < end else [*arrows, update]
        if node >= 0:
            continue
        of = "" if node == SERVER else f", {tracks.name(node)}"
        of += f", fragment {fragments[0]}" if several else ""
        yield _counter("staleness", of, begin, mean, track)
        if applied:
            yield _counter("version", of, begin, versions[0], track)


def _one_update(row: tuple[int, Any]) -> tuple[Any, str]:
    """Returns a key that the offers of one update have in common; one that is not applied has its own."""
    place, (_, fragment, version, outcome, *_) = row
    return ("version", fragment, version) if outcome == "applied" else ("row", place), outcome


def _evaluated(row: dict[Any, Any], track: Event) -> Event:
    known = {name: row[name] for name in ("local_steps", "tokens", "server_updates", "loss", "perplexity")}
    finite = {name: value for name, value in known.items() if math.isfinite(value)}
    time = int(microseconds(row["simulated_s"]))
    return {"name": "evaluation", "cat": "server", "ph": "i", "s": "t", "ts": time, **track, "args": finite}


_SERIES = {"staleness": "mean", "version": "number", "perplexity": "validation"}  # Perfetto shows "staleness mean"


def _counter(what: str, of: str, time: int, value: float, track: Event) -> Event:
    return {"name": f"{what}{of}", "ph": "C", "ts": time, **track, "args": {_SERIES[what]: value}}
