"""A fingerprint of the causal order of a simulation, independent of its durations."""

import hashlib
import struct
from collections.abc import Iterable
from typing import get_args

from simulator.host.event_kinds import Outcome
from simulator.host.nodes import SERVER, region_of
from simulator.timeline.events import (
    Accepted,
    Answered,
    Arrival,
    Dispatched,
    Evaluation,
    Event,
    Fault,
    Finished,
    Lost,
    Offered,
    Shortened,
    Start,
    Update,
)

_ROUND = struct.Struct("<cqqqqq")
_MARK = struct.Struct("<cqq")
_STARTS = {start: start.encode() for start in get_args(Start)}
_OUTCOMES = {outcome: outcome.encode() for outcome in get_args(Outcome)}
_ID = struct.Struct("<q")
_BLOCK = 200  # events that are hashed at once


class CausalHash:
    """Running hash of who pulled which version, trained what, arrived in which order, and when was evaluated.

    Times do not enter: two clusters whose events come in the same order have the same hash.
    """

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._pending: list[Event] = []

    def add(self, events: Iterable[Event]) -> None:
        """Takes the next events into account."""
        self._pending.extend(events)
        if len(self._pending) > _BLOCK:
            self._settle()

    def hexdigest(self) -> str:
        """Returns the fingerprint of everything added so far."""
        return self.digest().hex()

    def digest(self) -> bytes:
        """Returns the same as 16 bytes."""
        self._settle()
        return self._hash.digest()

    def _settle(self) -> None:
        records = []
        for event in self._pending:
            if type(event) is Dispatched:
                _, round, start, source = event
                _, worker, shard, first_step, steps, version, fragment, _, micro_batches, _ = round
                records.append(_ROUND.pack(b"d", worker, shard, first_step, steps, version))
                if start != "copy" or source != SERVER or fragment:
                    records += _STARTS[start], _MARK.pack(b"b", source, fragment)
                if micro_batches != 1:
                    records.append(_MARK.pack(b"n", micro_batches, 0))
            elif type(event) is Update:
                _, arrivals, _, outcome, version, _, node, fragment, *_ = event
                records += _MARK.pack(b"u", version, len(arrivals)), _OUTCOMES[outcome]
                if node != SERVER or fragment:
                    records.append(_MARK.pack(b"p", node, fragment))
                for arrival in arrivals:
                    records.append(_ID.pack(arrival.round.id if isinstance(arrival, Arrival) else arrival.region))
            else:
                records.append(_record(event))
        self._hash.update(b"".join(records))
        self._pending.clear()


def _record(event: Event) -> bytes:
    """Returns the hashed part of one of the rarer events."""
    match event:
        case Shortened(round=round):
            return _MARK.pack(b"s", round.id, round.steps)
        case Lost(round=round):
            return _MARK.pack(b"l", round.id, round.steps)
        case Fault():
            return _MARK.pack(b"g", event.worker, 0) if event.forgets else b""
        case Evaluation():
            return _MARK.pack(b"e", event.version, event.local_steps)
        case Answered():
            return _ROUND.pack(b"a", event.node, event.to, event.round, event.fragment, event.version)
        case Offered():  # one of a peer shows where it meets
            return _MARK.pack(b"o", region_of(event.node), event.version) if event.node < 0 else b""
        case Accepted():
            return _ROUND.pack(b"m", event.node, event.round, event.fragment, event.after, event.version)
        case Finished():
            return _MARK.pack(b"f", event.version, event.local_steps)
    raise TypeError(f"an event that has no record: {event!r}")
