"""What must be true of durations, messages and faults: they are those of the experiment's cluster."""

import bisect
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from simulator.cluster import ClusterModel, Episodes, FaultModel, Link
from simulator.verify.found import Cost, Found, Violation, each


def _durations_are_the_clusters(found: Found) -> Iterator[Violation]:
    cluster, expected = found.cluster, found.costs
    if cluster is None:  # by FLOP/s: then every step of a worker takes as long as any other
        yield from _steps_take_one_time(found)
        return
    crashes = _times(found, "crash")
    timeout_s = cluster.faults.loss.timeout if cluster.faults and cluster.faults.loss else 0.0
    for row, task in enumerate(found.rounds.to_dict("records")):
        if task["round"] not in expected:
            continue
        cost = expected[task["round"]]
        resent = _between(crashes.get(task["worker"], ()), task["push_start_s"], task["arrival_s"])
        pulling_s, pushing_s = cost.lost_pulls * timeout_s, cost.lost_pushes * timeout_s
        for message in (
            _computing(task, cost, cluster, found.eps_s),
            _sending("pull", cluster.down, task, pulling_s, found, cluster, again=False),
            _sending("push", cluster.up, task, pushing_s, found, cluster, again=resent > 0),
        ):
            if message:
                yield Violation("rounds", row, "durations", message)
        yield from _messages(row, task, cost, cluster, resent)


def _steps_take_one_time(found: Found) -> Iterator[Violation]:
    faults = found.experiment.cluster.faults
    if found.experiment.cluster.devices.jitter > 0 or (faults and (faults.slowdowns or faults.trace)):
        return
    whole = ~found.rounds["round"].isin(found.cut["round"])
    rounds = found.rounds[whole]
    compute_s = rounds["push_start_s"] - rounds["compute_start_s"]
    step_s = compute_s / rounds["local_steps"]
    typical = step_s.groupby(rounds["worker"]).transform("median")
    wrong = (step_s - typical).abs() * rounds["local_steps"] > found.eps_s
    for row in rounds.index[wrong].tolist():
        yield Violation("rounds", row, "durations", "its steps took another time")


def _computing(task: Mapping[Any, Any], cost: Cost, cluster: ClusterModel, eps_s: float) -> str | None:
    """Returns what is wrong with the time that a round computed."""
    start_s, end_s, worker = task["compute_start_s"], task["push_start_s"], task["worker"]
    if cluster.faults is None:
        should_s = cost.compute_s
    else:
        slowdowns = cluster.faults.slowdowns(worker)
        if task["local_steps"] < cost.steps:  # cut off
            done = slowdowns.work_s(start_s, end_s) / cost.compute_s * cost.steps
            fits = task["local_steps"] in (math.floor(done - 1e-6), math.floor(done + 1e-6))
            return None if fits else f"{done:g} steps were done when the round was cut off"
        should_s = slowdowns.finished_s(start_s, cost.compute_s) - start_s
    if abs(end_s - start_s - should_s) > eps_s:
        return f"compute took {end_s - start_s} s and should take {should_s} s"
    return None


def _sending(
    name: str,
    link: Link,
    task: Mapping[Any, Any],
    retrying_s: float,
    found: Found,
    cluster: ClusterModel,
    *,
    again: bool,
) -> str | None:
    """Returns what is wrong with the time of a transfer. It may wait for others, or be sent again after a crash."""
    first, last = ("pull_start_s", "compute_start_s") if name == "pull" else ("push_start_s", "arrival_s")
    start_s, worker = task[first], task["worker"]
    took_s, alone_s = task[last] - start_s, link.transfer_s(worker)
    if cluster.faults is not None:
        alone_s = cluster.faults.link(worker).finished_s(start_s + retrying_s, alone_s) - start_s
    if link.shared_s is not None or again:
        return f"the {name} took less than it takes alone" if took_s < link.transfer_s(worker) - found.eps_s else None
    wrong = abs(took_s - alone_s) > found.eps_s
    return f"{name} took {took_s} s and should take {alone_s} s" if wrong else None


def _times(found: Found, fault: str) -> dict[int, list[float]]:
    """Returns when something happened to each worker, in order."""
    rows = found.faults[found.faults["fault"] == fault]
    return {int(str(worker)): sorted(own.tolist()) for worker, own in rows.groupby("worker")["time_s"]}


def _between(times_s: Sequence[float], first_s: float, last_s: float) -> int:
    return bisect.bisect_right(times_s, last_s) - bisect.bisect_left(times_s, first_s)


def _messages(row: int, task: Mapping[Any, Any], cost: Cost, cluster: ClusterModel, resent: int) -> Iterator[Violation]:
    for name, link, lost, again in (
        ("bytes_down", cluster.down, cost.lost_pulls, 0),
        ("bytes_up", cluster.up, cost.lost_pushes, resent),  # what a crash interrupts is sent again
    ):
        sent, size = task[name], link.message_bytes
        if not (lost + 1) * size <= sent <= (lost + 1) * (again + 1) * size or sent % size:
            yield Violation("rounds", row, "bytes", f"{name} is {sent}; a message has {link.message_bytes}")


def _faults_are_the_clusters(found: Found) -> Iterator[Violation]:
    told = found.faults[~found.faults["fault"].isin(["lost", "cut"])]
    model, workers = found.fault_model, found.experiment.cluster.workers
    if model is None:
        yield from each("faults", "faults", np.ones(len(found.faults), bool), lambda row: "nothing can go wrong here")
        return
    end_s = found.length_s - found.eps_s  # what happens at the end may come after it
    should: dict[tuple[int, str], list[float]] = {}
    for time_s, worker, fault in _happening(model, workers, end_s):
        should.setdefault((worker, fault), []).append(time_s)
    there = told[told["time_s"] < end_s].astype({"fault": str})
    for key in sorted(set(zip(there["worker"].tolist(), there["fault"].tolist(), strict=True))):
        own = there[(there["worker"] == key[0]) & (there["fault"] == key[1])]
        times_s = should.pop(key, [])
        rows: list[Any] = own.index.tolist()
        for row, time_s, right_s in itertools.zip_longest(rows, own["time_s"].tolist(), times_s):
            if row is None or right_s is None or abs(time_s - right_s) > found.eps_s:
                message = f"{key[1]} of worker {key[0]} at {time_s} s should be at {right_s} s"
                yield Violation("faults", row, "faults", message)
                break
    for key, missing_s in should.items():
        yield Violation("faults", None, "faults", f"{key[1]} of worker {key[0]} at {missing_s[0]} s is missing")


def _happening(model: FaultModel, workers: int, end_s: float) -> Iterator[tuple[float, int, str]]:
    """Yields what goes wrong before the end."""
    yield from _episodes(model.server, -1, "server down", "server up", end_s)
    for worker in range(workers):
        yield from _episodes(model.slowdowns(worker), worker, "slow", "normal", end_s)
        yield from _episodes(model.own_link(worker), worker, "disconnect", "reconnect", end_s)
        for absence in model.absences(worker):
            if absence.notice_s < min(absence.start_s, end_s):
                yield max(absence.notice_s, 0.0), worker, "notice"
            if absence.start_s < end_s:
                yield absence.start_s, worker, absence.kind
            if absence.end_s < end_s:
                yield absence.end_s, worker, "return"
            if absence.end_s >= end_s or absence.start_s >= end_s:
                break


def _episodes(
    episodes: Episodes, worker: int, begins: str, ends: str, end_s: float
) -> Iterator[tuple[float, int, str]]:
    for episode in episodes:
        if episode.start_s >= end_s:
            return
        yield episode.start_s, worker, begins
        if episode.end_s < end_s:
            yield episode.end_s, worker, ends


def _what_is_lost_has_a_reason(found: Found) -> Iterator[Violation]:
    """A round is lost when its worker goes away or is told that it will, or when its messages are."""
    faults = found.experiment.cluster.faults
    reasons = found.faults[found.faults["fault"].isin(["crash", "preemption", "departure", "notice"])]
    known = set(zip(reasons["worker"].tolist(), reasons["time_s"].tolist(), strict=True))
    by_message = faults is not None and faults.message_loss is not None
    for row, worker, time_s, fault in found.faults[["worker", "time_s", "fault"]].itertuples():
        if fault in ("lost", "cut") and (worker, time_s) not in known and not (by_message and fault == "lost"):
            yield Violation("faults", row, "faults", f"nothing befell worker {worker} at {time_s} s")
    arrived = set(found.rounds["round"].tolist())
    for row, number in found.lost["round"].items():
        if number in arrived:
            yield Violation("faults", int(str(row)), "faults", f"round {number} was lost and arrived")
    times_s = found.faults["time_s"].to_numpy()
    back = np.append(False, np.diff(times_s) < 0)[: len(times_s)]
    yield from each("faults", "time", back, lambda row: "happens before the row above it")


def _what_is_lost_is_bounded(found: Found) -> Iterator[Violation]:
    cluster, version = found.cluster, np.append(0, found.column("version"))
    for row, lost in found.lost.iterrows():
        at = int(str(row))
        if not 0 <= lost["computed_steps"] <= lost["local_steps"]:
            yield Violation("faults", at, "faults", f"{lost['computed_steps']} of {lost['local_steps']} steps done")
        if not 0 <= lost["pulled_version"] <= version.max():
            yield Violation("faults", at, "versions", f"there was no version {lost['pulled_version']}")
        cost = found.costs.get(lost["round"])
        if cluster is None or cost is None:
            continue
        for name, link, tries in (
            ("bytes_down", cluster.down, cost.lost_pulls + 1),
            ("bytes_up", cluster.up, (cost.lost_pushes + 1) * (1 + len(found.faults))),
        ):
            if not 0 <= lost[name] <= tries * link.message_bytes or lost[name] % link.message_bytes:
                yield Violation("faults", at, "bytes", f"{name} is {lost[name]}; a message has {link.message_bytes}")


def _nobody_works_while_absent(found: Found) -> Iterator[Violation]:
    """A round that arrived did not span an absence, unless what was finished was sent after a crash."""
    model = found.fault_model
    if model is None:
        return
    for worker, own in found.rounds.groupby("worker"):
        starts_s = []
        for absence in model.absences(int(str(worker))):
            if absence.start_s > found.length_s:
                break
            if not absence.delivers:
                starts_s.append(absence.start_s)
        first = np.searchsorted(starts_s, own["pull_start_s"].to_numpy() + found.eps_s)
        last = np.searchsorted(starts_s, own["arrival_s"].to_numpy() - found.eps_s)
        for row in own.index[first < last].tolist():
            yield Violation("rounds", row, "faults", f"worker {worker} went away before this round could arrive")


ALL = (
    _durations_are_the_clusters,
    _faults_are_the_clusters,
    _what_is_lost_has_a_reason,
    _what_is_lost_is_bounded,
    _nobody_works_while_absent,
)
