"""Rules of messages: no news travels faster than the message that brings it, and each has its bytes."""

import math
from collections.abc import Iterator

import numpy as np

from simulator.cluster import ClusterModel
from simulator.experiment.schema.exchanges import NamedCompression, RegionsTopology, StatisticalCompression
from simulator.verify.checked_run import CheckedRun, Violation
from simulator.verify.meetings import MessageKind, Transfer

_Mistakes = Iterator[tuple[str, str]]  # of a transfer: names of rules, and messages


def _news_has_a_message(run: CheckedRun) -> Iterator[Violation]:
    """An offer is brought to a place that another node has, and a copy to the worker that begins with it."""
    for row, offer in enumerate(run.offers):
        unsent = run.collects and offer["outcome"] == "dropped"  # too late for its collective
        if offer["sender"] != offer["node"] and row not in run.messages.offers and not unsent:
            yield Violation("updates", row, "news", "no message has brought this offer")
    for row, task in enumerate(run.tasks):
        if task["bytes_down"] > 0 and run.own[row] >= 0 and task["round"] not in run.messages.copies:
            yield Violation("rounds", row, "news", "no message has brought the copy that it begins with")


def _messages_bring_news_in_time(run: CheckedRun) -> Iterator[Violation]:
    for row, (sent, kind, update) in enumerate(run.sent()):
        mistakes = [
            *_times(sent),
            *(() if kind == "none" else _belongs(run, sent, kind, update)),
            *_CHECKS[kind](run, sent, update),
        ]
        for rule, message in mistakes:
            yield Violation("transfers", row, rule, message)


def _times(sent: Transfer) -> _Mistakes:
    if not sent.begin_s <= sent.end_s <= sent.used_s:
        yield "news", f"it was sent at {sent.begin_s} s, was there at {sent.end_s} s and was used at {sent.used_s} s"


def _belongs(run: CheckedRun, sent: Transfer, kind: MessageKind, update: int) -> _Mistakes:
    offer = run.offers[update]
    fragment = -1 if kind == "copy" and run.experiment.schedule.fragments > 1 else offer["fragment"]
    for name, there, right in (("fragment", sent.fragment, fragment), ("round", sent.round, offer["round"])):
        if there != right:
            yield "news", f"{name} is {there} and should be {right}"


def _at(run: CheckedRun, sent: Transfer, **right_s: float) -> _Mistakes:
    """Yields the times of a transfer that are not those of what it belongs to."""
    for name, time_s in right_s.items():
        if not abs(getattr(sent, name) - time_s) <= run.eps_s:
            yield "news", f"{name} is {getattr(sent, name)} and should be {time_s}"


def _unknown(run: CheckedRun, sent: Transfer, update: int) -> _Mistakes:
    yield "news", "there is no offer, no answer and no copy that it can be"


def _copy(run: CheckedRun, sent: Transfer, update: int) -> _Mistakes:
    """A copy begins its round, and has the version that this was given out with."""
    row = run.row_of.get(sent.round)
    if row is None:
        return
    task = run.tasks[row]
    there_s = task["compute_start_s"]
    if sent.sender >= 0 and not run.experiment.merge.has_outer:
        yield "news", f"worker {sent.sender} has sent it, and its server has parameters"
    yield from _at(run, sent, begin_s=task["pull_start_s"], end_s=there_s, used_s=there_s)
    if sent.version != task["pulled_version"]:
        yield "versions", f"version is {sent.version}, and its round has pulled version {task['pulled_version']}"


def _offer(run: CheckedRun, sent: Transfer, update: int) -> _Mistakes:
    """An offer is made at the end of its round, from a version that its sender has accepted."""
    yield from _at(run, sent, used_s=run.offers[update]["update_s"])
    row = run.row_of.get(sent.round)
    if row is None or run.own[row] < 0:
        return
    task, own = run.tasks[row], run.own[row]
    if not run.collects:
        yield from _at(run, sent, begin_s=task["push_start_s"])
    if own == update and not run.collects:
        yield from _at(run, sent, end_s=task["arrival_s"])
    home, before, stale = run.home(sent.sender), run.meetings.before[own], run.staleness[own]
    newest = run.meetings.versions_at(home, task["fragment"], sent.begin_s, run.eps_s)[1]
    if sent.version > newest:
        yield "news", f"its sender had accepted version {sent.version}, and the newest one was {newest}"
    if not np.isnan(stale) and sent.version != before - stale:
        yield "staleness", f"its sender had accepted version {before - stale:g}, not {sent.version}"


def _answer(run: CheckedRun, sent: Transfer, update: int) -> _Mistakes:
    """An answer is sent behind the update of its offer, and has the version of its place at that time."""
    offer = run.offers[update]
    if sent.begin_s < offer["update_s"] - run.eps_s:
        yield "news", f"it was sent at {sent.begin_s} s, before its offer's update at {offer['update_s']} s"
    oldest, newest = run.meetings.versions_at(offer["node"], offer["fragment"], sent.begin_s, run.eps_s)
    oldest = max(oldest, int(run.meetings.versions[run.meetings.of[update]]))
    if not oldest <= sent.version <= newest:
        yield "news", f"it has version {sent.version}, and was sent when its place was at {newest}"


def _regions_offer(run: CheckedRun, sent: Transfer, update: int) -> _Mistakes:
    yield from _at(run, sent, used_s=run.offers[update]["update_s"])
    right = run.meetings.before[update] - run.staleness[update]
    if sent.version != right:
        yield "staleness", f"its sender had accepted version {right:g}, not {sent.version}"


def _regions_answer(run: CheckedRun, sent: Transfer, update: int) -> _Mistakes:
    """A region is answered at once, and accepts at once."""
    yield from _at(run, sent, begin_s=run.offers[update]["update_s"], used_s=sent.end_s)
    right = run.meetings.versions[run.meetings.of[update]]
    if sent.version != right:
        yield "news", f"it has version {sent.version}, and was sent when its place was at {right}"


_CHECKS = {
    "none": _unknown,
    "copy": _copy,
    "offer": _offer,
    "answer": _answer,
    "region's offer": _regions_offer,
    "region's answer": _regions_answer,
}


def _regions_offer_in_turn(run: CheckedRun) -> Iterator[Violation]:
    """A region offers at the first update that is so many behind the last one that it has accepted."""
    topology = run.experiment.topology
    if not isinstance(topology, RegionsTopology):
        return
    merged: dict[int, tuple[int, int]] = {}  # versions that each region can have had when it last accepted
    for row, (sent, kind, _) in enumerate(run.sent()):
        match kind:
            case "region's answer":
                merged[sent.receiver] = run.meetings.versions_at(sent.receiver, 0, sent.used_s, run.eps_s)
            case "region's offer":
                oldest, newest = merged.get(sent.sender, (0, 0))
                due = [version + topology.every_versions for version in range(oldest, newest + 1)]
                times_s = [run.meetings.made_s(sent.sender, 0, version) for version in due]
                if not any(abs(sent.begin_s - time_s) <= run.eps_s for time_s in times_s):
                    message = (
                        f"it was sent at {sent.begin_s} s, and its region was at version {due[0]} at {times_s[0]} s"
                    )
                    yield Violation("transfers", row, "news", message)


def _bytes_are_of_messages(run: CheckedRun) -> Iterator[Violation]:
    """A transfer has the bytes of its messages, and its round has those of its transfers."""
    network = run.network
    if network is None:
        return
    for row, (sent, kind, update) in enumerate(run.sent()):
        if kind == "none" or run.is_collective(kind, update):
            continue
        size = _size(run, network, kind, int(run.offers[update]["fragment"]))
        most = 1 if run.is_calm or kind.startswith("region") else sent.messages
        if sent.bytes != sent.messages * size or not 1 <= sent.messages <= most:
            message = f"{sent.bytes} are not those of {sent.messages} messages of {size} each"
            yield Violation("transfers", row, "bytes", message)
        task = run.row_of.get(sent.round) if kind in ("copy", "offer") else None
        if task is not None and run.own[task] == update:
            name = "bytes_down" if kind == "copy" else "bytes_up"
            if run.tasks[task][name] != sent.bytes:
                yield Violation(
                    "rounds", task, "bytes", f"{name} is {run.tasks[task][name]}, of its transfer {sent.bytes}"
                )
    yield from _bytes_to_peers(run, network)


def _bytes_to_peers(run: CheckedRun, network: ClusterModel) -> Iterator[Violation]:
    """A worker without a server sends its offer to all others that it meets, and pulls nothing."""
    if run.experiment.topology.has_server:
        return
    size, met = network.up.size(run.shares.offers[0]), np.bincount(run.meetings.of)
    for row, task in enumerate(run.tasks):
        if run.own[row] < 0:
            continue
        others = met[run.meetings.of[run.own[row]]] - 1
        sent = task["bytes_up"]
        right = sent == others * size if run.is_calm else sent in range(0, len(run.homes) * size, size or 1)
        if not right or task["bytes_down"] != 0:
            message = f"bytes_up is {sent}, of {others} messages of {size} each, and bytes_down {task['bytes_down']}"
            yield Violation("rounds", row, "bytes", message)


def _size(run: CheckedRun, network: ClusterModel, kind: MessageKind, fragment: int) -> int:
    match kind:
        case "offer":
            return network.up.size(run.offered(fragment))
        case "answer":
            return network.down.size(run.answered(fragment))
        case "copy":
            return network.down.size(1.0)
    return 0 if network.regional is None else network.regional.size(1.0)


def _shares_are_the_methods(run: CheckedRun) -> Iterator[Violation]:
    """Fragments make up the model, and offers have the bits of their compression."""
    experiment, answers = run.experiment, run.shares.answers
    if "message_shares" not in run.summary:
        return
    if not math.isclose(sum(answers), 1):
        yield Violation("summary", None, "message_shares", f"answers add up to {sum(answers)} models")
    if isinstance(experiment.compression, NamedCompression):
        return
    full = 8 * (experiment.cluster.network.direction("up").bytes_per_parameter or 4.0)
    sent = experiment.compression.bits(full) / full + experiment.offer.weights
    for fragment, (offer, answer) in enumerate(zip(run.shares.offers, answers, strict=True)):
        has_tables = isinstance(experiment.compression, StatisticalCompression) and offer > sent * answer
        if not (has_tables or math.isclose(offer, sent * answer)):
            message = f"an offer of fragment {fragment} is {offer} and should be {sent * answer}"
            yield Violation("summary", None, "message_shares", message)


ALL = (
    _news_has_a_message,
    _messages_bring_news_in_time,
    _regions_offer_in_turn,
    _bytes_are_of_messages,
    _shares_are_the_methods,
)
