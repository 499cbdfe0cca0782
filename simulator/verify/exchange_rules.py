"""Rules of exchanges: meetings of places, who comes to them, their versions, and the staleness of offers."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator

import numpy as np

from simulator.experiment.registry import build
from simulator.experiment.schema.exchanges import GraphTopology, GroupsTopology, NamedTopology, RegionsTopology
from simulator.experiment.schema.policies import BarrierSynchronization, QuorumSynchronization
from simulator.host.nodes import SERVER, region_of
from simulator.host.random_streams import numpy_stream
from simulator.verify.checked_run import CheckedRun, Violation, violations


def _tables_agree(run: CheckedRun) -> Iterator[Violation]:
    """Rounds are the offers at their workers' own places, in the same order."""
    yield from violations("rounds", "tables", run.own < 0, lambda row: "is in no update")
    known = run.own >= 0
    for name in ("update_s", "outcome", "fragment"):
        there, here = run.updates[name].tolist(), run.rounds[name].tolist()
        for row in np.flatnonzero(known).tolist():
            if there[run.own[row]] != here[row]:
                message = f"{name} is {here[row]}, and in its update {there[run.own[row]]}"
                yield Violation("rounds", row, "tables", message)
    back = np.append(False, np.diff(run.own[known]) < 0)[: known.sum()]
    for row in np.flatnonzero(known)[back].tolist():
        yield Violation("rounds", row, "tables", "its update is before that of the row above it")
    arrived = set(run.own.tolist())
    for row, offer in enumerate(run.offers):
        sender = offer["sender"]
        if sender >= 0 and offer["node"] == run.home(sender) and row not in arrived:
            yield Violation("updates", row, "tables", "is of no round that arrived")
        if sender < 0 and offer["round"] != -1:
            yield Violation("updates", row, "tables", "is of a round, and was made by a server")
    right = (run.column("goes_on") == run.goes_on) & (run.goes_on | (run.column("blocked_s") == 0))
    right &= run.rounds["fragment"].between(0, run.experiment.schedule.fragments - 1).to_numpy()
    yield from violations("rounds", "tables", ~right, lambda row: "is of another schedule")


def _meetings_are_in_order(run: CheckedRun) -> Iterator[Violation]:
    updates = run.updates
    number, time_s = updates["meeting"].to_numpy(), updates["update_s"].to_numpy()
    wrong = ~np.isin(np.diff(number, prepend=-1), [0, 1] if run.averages else [1])
    wrong[:1] = number[:1] != 0
    yield from violations("updates", "meetings", wrong, lambda row: f"is of meeting {number[row]}, out of order")
    back = np.append(False, np.diff(time_s) < 0)[: len(time_s)]
    yield from violations("updates", "time", back, lambda row: "is processed before the row above it")
    for name in ("node", "fragment", "update_s", "outcome"):
        values = updates[name].tolist()
        first = {meeting: values[row] for row, meeting in reversed(list(enumerate(number.tolist())))}
        for row, meeting in enumerate(number.tolist()):
            if values[row] != first[meeting]:
                yield Violation("updates", row, "meetings", f"{name} is {values[row]}, of others {first[meeting]}")


def _offers_meet_once(run: CheckedRun) -> Iterator[Violation]:
    """A worker makes one offer at the end of a round, and a meeting for which it waits has one of each worker."""
    updates = run.updates
    again = updates[["node", "sender", "round"]].duplicated() & (updates["sender"] >= 0)
    yield from violations("updates", "meetings", again.to_numpy(), lambda row: "this offer was at this place before")
    if isinstance(run.experiment.synchronization, BarrierSynchronization) or not run.goes_on:
        twice = updates[["meeting", "sender"]].duplicated().to_numpy()
        yield from violations("updates", "meetings", twice, lambda row: "its sender has another offer in this meeting")
    order = updates[updates["sender"] >= 0].groupby(["node", "fragment", "sender"])["round"].diff()
    if run.complete:
        for row in order.index[order < 0].tolist():
            yield Violation("updates", row, "meetings", "a later offer of its sender had its turn before")


def _members_meet(run: CheckedRun) -> Iterator[Violation]:
    """Nobody else comes to a meeting, and behind a barrier where nothing goes wrong nobody is missing."""
    synchronization = run.experiment.synchronization
    most = getattr(synchronization, "sample", None)
    counts = isinstance(synchronization, QuorumSynchronization) and run.is_calm and not run.goes_on
    members_of, turns, meetings = _members(run), Counter[tuple[int, int]](), run.meetings
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, number in enumerate(meetings.of.tolist()):
        rows_of[number].append(row)
    for number, rows in rows_of.items():
        senders = [run.offers[row]["sender"] for row in rows]
        node, fragment = int(meetings.nodes[number]), int(meetings.fragments[number])
        members = members_of(node, turns[node, fragment])
        turns[node, fragment] += 1
        for row, sender in zip(rows, senders, strict=True):
            if sender not in members:
                yield Violation("updates", row, "meetings", f"{sender} is no member of it")
        if most is not None and node in run.homes and len(rows) > most:
            yield Violation("updates", rows[0], "meetings", f"it has {len(rows)} offers, and {most} workers were drawn")
        missing = sorted(set(members) - set(senders))
        if run.complete and node in run.homes and missing:
            yield Violation("updates", rows[0], "meetings", f"it lacks the offer of worker {missing[0]}")
        if counts and node in run.homes and len(rows) < min(synchronization.offers, len(members)):  # type: ignore[union-attr]
            yield Violation("updates", rows[0], "meetings", f"it has {len(rows)} offers, fewer than its quorum")


def _members(run: CheckedRun) -> Callable[[int, int], Collection[int]]:
    """Returns a function of a node and the number of a meeting at one of its places to who may meet there."""
    topology, workers = run.experiment.topology, run.experiment.cluster.workers
    if isinstance(topology, RegionsTopology):
        regions = topology.members(run.experiment.cluster)
        upper = range(SERVER - len(regions), SERVER)
        sampled = _sampled(run)
        return lambda node, turn: (
            sampled(regions[region_of(node)], turn) if node in upper else upper if node == SERVER else ()
        )
    if topology.has_server:
        sampled = _sampled(run)
        return lambda node, turn: sampled(range(workers), turn) if node == SERVER else ()
    if isinstance(topology, GraphTopology):
        near: dict[int, set[int]] = {worker: {worker} for worker in range(workers)}
        for one, other in topology.pairs(workers):
            near[one].add(other)
            near[other].add(one)
        return lambda node, turn: near.get(node, ())
    if isinstance(topology, NamedTopology):
        registered: Callable[[int, int], Collection[int]] | None = None
        if topology.is_registered:
            registered = build(topology, workers=workers)
        return registered if registered is not None and run.is_calm else lambda node, turn: range(workers)
    size = topology.size if isinstance(topology, GroupsTopology) else 1

    def drawn(node: int, turn: int) -> Collection[int]:
        stream = numpy_stream(run.experiment.seed, "groups of workers", turn)
        order: list[int] = stream.permutation(workers).tolist()
        at = order.index(node) // size * size if node in order else workers
        return order[at : at + size]

    anybody = range(workers)  # workers that were away have missed meetings, and others' numbers are not known
    return drawn if run.is_calm or size == 1 else lambda node, turn: anybody


def _sampled(run: CheckedRun) -> Callable[[Collection[int], int], Collection[int]]:
    """Returns a function of a server's workers and the number of a meeting to those that it draws.

    Where workers may be away, or come too late, all can be drawn.
    """
    sample, workers = getattr(run.experiment.synchronization, "sample", None), run.experiment.cluster.workers
    if sample is None or not run.complete:
        return lambda members, turn: members

    def drawn(members: Collection[int], turn: int) -> Collection[int]:
        order: list[int] = numpy_stream(run.experiment.seed, "sampled workers", turn).permutation(workers).tolist()
        return [worker for worker in order if worker in members][:sample]

    return drawn


def _versions_count_updates(run: CheckedRun) -> Iterator[Violation]:
    given, right = run.updates["version"].to_numpy(), run.meetings.versions[run.meetings.of]
    yield from violations(
        "updates", "versions", given != right, lambda row: f"version is {given[row]} and should be {right[row]}"
    )
    stale = run.updates["staleness"].to_numpy()
    wrong = (stale != run.staleness) & ~np.isnan(run.staleness)
    yield from violations(
        "updates", "staleness", wrong, lambda row: f"staleness is {stale[row]} and should be {run.staleness[row]:g}"
    )


ALL = (
    _tables_agree,
    _meetings_are_in_order,
    _offers_meet_once,
    _members_meet,
    _versions_count_updates,
)
