"""A fingerprint of the causal order of a simulation, independent of its durations."""

import hashlib
import struct

from simulator.timeline.events import Dispatched, Evaluation, Event, Fault, Finished, Lost, Shortened, Update

_ROUND = struct.Struct("<cqqqqq")
_MARK = struct.Struct("<cqq")


class CausalHash:
    """Running hash of who pulled which version, trained what, arrived in which order, and when was evaluated.

    Times do not enter: two clusters whose events come in the same order have the same hash.
    """

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, event: Event) -> None:
        """Takes the next event into account."""
        match event:
            case Dispatched(round=task):
                record = _ROUND.pack(b"d", task.worker, task.shard, task.first_step, task.steps, task.version)
            case Shortened(round=task):
                record = _MARK.pack(b"s", task.id, task.steps)
            case Lost(round=task):
                record = _MARK.pack(b"l", task.id, task.steps)
            case Fault():
                record = _MARK.pack(b"g", event.worker, 0) if event.forgets else b""
            case Update():
                record = _MARK.pack(b"u", event.version, len(event.arrivals)) + event.outcome.encode()
                record += b"".join(struct.pack("<q", arrival.round.id) for arrival in event.arrivals)
            case Evaluation():
                record = _MARK.pack(b"e", event.version, event.local_steps)
            case Finished():
                record = _MARK.pack(b"f", event.version, event.local_steps)
        self._hash.update(record)

    def hexdigest(self) -> str:
        """Returns the fingerprint of everything added so far."""
        return self._hash.hexdigest()

    def digest(self) -> bytes:
        """Returns the same as 16 bytes."""
        return self._hash.digest()
