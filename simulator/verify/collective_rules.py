"""Rules of collectives: who takes part, their time and bytes, one after the other, and what they bring."""

from collections import defaultdict
from collections.abc import Iterator

from simulator.cluster import nanoseconds, seconds
from simulator.verify.checked_run import CheckedRun, Violation
from simulator.verify.meetings import Transfer


def _collectives_are_the_algorithms(run: CheckedRun) -> Iterator[Violation]:
    """The members of a meeting send what the algorithm has them send, all from its beginning to its end."""
    network = run.network
    if network is None or network.collective is None:
        return
    for updates in _meetings(run):
        offers = [run.offers[update] for update in updates]
        size = network.up.size(run.offered(int(offers[0]["fragment"])))
        members = list(dict.fromkeys(int(offer["sender"]) for offer in offers))
        took_s = seconds(nanoseconds(network.collective.seconds(members, size)))
        left = dict(zip(members, network.collective.sent(members, size), strict=True))
        ready_s = max(_ready_s(run, int(offer["round"])) for offer in offers)
        for update, offer in zip(updates, offers, strict=True):
            bytes_, at = left.pop(offer["sender"], 0), run.messages.offers[update]
            sent = run.messages.transfers[at]
            if not abs(sent.end_s - sent.begin_s - took_s) <= run.eps_s:
                message = f"took {sent.end_s - sent.begin_s} s and should take {took_s} s"
                yield Violation("transfers", at, "durations", message)
            if not abs(sent.end_s - offer["update_s"]) <= run.eps_s or sent.begin_s < ready_s - run.eps_s:
                message = f"is from {sent.begin_s} s to {sent.end_s} s, and the last offer was ready at {ready_s} s"
                yield Violation("transfers", at, "collectives", message)
            if sent.messages != 1 or sent.bytes != bytes_:
                yield Violation("transfers", at, "bytes", f"it has {sent.bytes} bytes, and the algorithm {bytes_}")
            row = run.row_of.get(sent.round)
            if row is not None and run.tasks[row]["bytes_up"] != sent.bytes:
                message = f"bytes_up is {run.tasks[row]['bytes_up']}, of its transfer {sent.bytes}"
                yield Violation("rounds", row, "bytes", message)


def _meetings(run: CheckedRun) -> Iterator[list[int]]:
    """Yields the rows of updates of each meeting that messages tell of, in order."""
    rows: dict[int, list[int]] = defaultdict(list)
    for update, number in enumerate(run.meetings.of.tolist()):
        if update in run.messages.offers:
            rows[number].append(update)
    yield from rows.values()


def _ready_s(run: CheckedRun, number: int) -> float:
    row = run.row_of.get(number)
    return 0.0 if row is None else float(run.tasks[row]["push_start_s"])


def _collectives_follow_each_other(run: CheckedRun) -> Iterator[Violation]:
    """One begins when its last offer is ready and the one before it is over, and who was ready first is first."""
    if run.network is None or run.network.collective is None:
        return
    free_s = last_s = 0.0
    for updates in _meetings(run):
        at = run.messages.offers[updates[0]]
        sent = run.messages.transfers[at]
        ready_s = max(_ready_s(run, int(run.offers[update]["round"])) for update in updates)
        right_s = max(ready_s, free_s)
        if sent.begin_s < right_s - run.eps_s or (run.complete and sent.begin_s > right_s + run.eps_s):
            yield Violation(
                "transfers", at, "collectives", f"began at {sent.begin_s} s and should begin at {right_s} s"
            )
        if run.complete and ready_s < last_s - run.eps_s:
            yield Violation("transfers", at, "collectives", f"was ready at {ready_s} s, before the one ahead of it")
        free_s, last_s = sent.end_s, ready_s


def _collectives_bring_their_result(run: CheckedRun) -> Iterator[Violation]:
    """Members have it at the end, by no message of its own; whoever was not in it takes a copy."""
    if run.network is None or run.network.collective is None:
        return
    for row, (sent, kind, update) in enumerate(run.sent()):
        if (
            kind == "answer"
            and run.is_collective(kind, update)
            and (sent.messages or sent.bytes or sent.begin_s != sent.end_s)
        ):
            yield Violation("transfers", row, "collectives", "an all-reduce has no answers of their own")
    size, before = run.network.down.size(1.0), dict[int, Transfer]()
    for row in run.rounds.sort_values("round", kind="stable").index.tolist():
        task = run.tasks[row]
        brought = before.pop(task["worker"], None)
        if run.own[row] in run.messages.offers:
            before[task["worker"]] = run.messages.transfers[run.messages.offers[int(run.own[row])]]
        if task["bytes_down"] not in (0, size):
            yield Violation("rounds", row, "bytes", f"bytes_down is {task['bytes_down']}; a copy has {size}")
        if task["bytes_down"] or run.goes_on:
            continue
        begins = task["pull_start_s"], task["compute_start_s"]
        came = begins[1:] * 2 if brought is None or not task["pulled_version"] else (brought.begin_s, brought.end_s)
        if not max(abs(one - other) for one, other in zip(begins, came, strict=True)) <= run.eps_s:
            message = f"began with what came from {begins[0]} s to {begins[1]} s, and the all-reduce was {came}"
            yield Violation("rounds", row, "collectives", message)


ALL = (_collectives_are_the_algorithms, _collectives_follow_each_other, _collectives_bring_their_result)
