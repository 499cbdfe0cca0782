"""Hand-made runs of the methods in which messages are on their way while nobody waits for them."""

from collections.abc import Sequence
from typing import Any

from simulator.record import RunRecord, TransferLog, UpdateLog, summarize_rounds
from tests.record.builders import build_record, round_log, round_row


def overlapping_run() -> RunRecord:
    """A worker that goes on while its offers of two fragments are on their way, with steps of 2 s, until 50 s.

    It pulls until 2 s. The answer to its first offer, sent at 12 s, comes at 20 s, 4 s later than it needs it after two
    steps of its second round. It waits for that to its second offer, sent at 26 s, before its third round begins.
    """
    rows = [
        _row(0, 0, times_s=(0.0, 0.0, 2.0, 12.0, 15.0, 16.0)),
        _row(1, 0, times_s=(12.0, 12.0, 12.0, 26.0, 29.0, 31.0), fragment=1, version=2, blocked_s=4.0),
        _row(2, 0, times_s=(26.0, 31.0, 33.0, 43.0, 44.0, 45.0), version=3),
    ]
    updates = [(16.0, -1, 0, 1, 0, 0), (31.0, -1, 1, 1, 0, 1), (45.0, -1, 0, 2, 0, 2)]
    transfers = [
        (-1, 0, -1, 0, 0.0, 2.0, 2.0),  # the copy that it begins with
        (0, -1, 0, 0, 12.0, 15.0, 16.0),
        (-1, 0, 0, 0, 16.0, 20.0, 20.0),
        (0, -1, 1, 1, 26.0, 29.0, 31.0),
        (-1, 0, 1, 1, 31.0, 33.0, 33.0),
        (0, -1, 0, 2, 43.0, 44.0, 45.0),
    ]
    return _record("overlap", [row | {"goes_on": 1} for row in rows], updates, transfers, workers=1)


def regional_run() -> RunRecord:
    """Two regions of one worker each, until 50 s: the first exchanges with the upper server, the second does not."""
    rows = [
        _row(0, 0, times_s=(0.0, 1.0, 3.0, 13.0, 16.0, 16.0)),
        _row(1, 1, times_s=(0.0, 0.0, 3.0, 23.0, 26.0, 26.0), version=3),
    ]
    updates = [(16.0, -2, 0, 1, 0, 0), (22.0, -1, 0, 1, -2, -1), (26.0, -3, 0, 1, 1, 1)]
    transfers = [
        (-2, 0, 0, 0, 1.0, 3.0, 3.0),
        (0, -2, 0, 0, 13.0, 16.0, 16.0),
        (-2, -1, 0, -1, 16.0, 21.0, 22.0),
        (-1, -2, 0, -1, 22.0, 28.0, 28.0),
        (-3, 1, 0, 1, 0.0, 3.0, 3.0),
        (1, -3, 0, 1, 23.0, 26.0, 26.0),
    ]
    return _record("regions", rows, updates, transfers, workers=2)


def peers_run() -> RunRecord:
    """Two workers that meet each other, until 50 s: one has its round ready at 10 s and the other at 20 s."""
    rows = [
        _row(1, 1, times_s=(0.0, 0.0, 0.0, 20.0, 20.0, 20.0)),
        _row(0, 0, times_s=(0.0, 0.0, 0.0, 10.0, 10.0, 24.0), version=2),
    ]
    updates = [(20.0, 1, 0, 1, 0, 0), (20.0, 1, 0, 1, 1, 1), (24.0, 0, 0, 1, 0, 0), (24.0, 0, 0, 1, 1, 1)]
    transfers = [(0, 1, 0, 0, 10.0, 14.0, 20.0), (1, 0, 0, 1, 20.0, 24.0, 24.0)]
    return _record("peers", rows, updates, transfers, workers=2)


def _row(number: int, worker: int, *, times_s: Sequence[float], **further: Any) -> dict[str, Any]:
    names = ("ready_s", "pull_start_s", "compute_start_s", "push_start_s", "arrival_s", "update_s")
    return round_row(round=number, worker=worker, **dict(zip(names, times_s, strict=True)), **further)


def _record(
    variant: str, rows: list[dict[str, Any]], updates: list[Any], transfers: list[Any], *, workers: int
) -> RunRecord:
    base, rounds = build_record(variant, local_steps=400), round_log(rows).frame()
    updated, sent, meetings = UpdateLog(), TransferLog(), dict[Any, int]()
    for time_s, *place, sender, number in updates:
        of = dict(zip(("node", "fragment", "version"), place, strict=True))
        of["meeting"] = meetings.setdefault(tuple(place), len(meetings))
        updated.append(update_s=time_s, **of, sender=sender, round=number, staleness=0, outcome="applied")
    for sender, receiver, fragment, number, begin_s, end_s, used_s in transfers:
        ends = {"sender": sender, "receiver": receiver, "fragment": fragment, "round": number}
        times = {"begin_s": begin_s, "end_s": end_s, "used_s": used_s}
        sent.append(**ends, **times, version=0, messages=1, bytes=100)
    summary = base.summary | summarize_rounds(rounds, workers, 50.0)
    return RunRecord(base.experiment, summary, rounds, base.evaluations[:1], base.faults, updated.frame(), sent.frame())
