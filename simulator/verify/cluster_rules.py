"""Rules of durations, messages and faults: they are those of the experiment's cluster."""

import bisect
import heapq
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from simulator.cluster import ClusterModel, Episodes, FaultModel, Link, Nanoseconds, nanoseconds, seconds
from simulator.verify.checked_run import CheckedRun, Cost, Violation, in_ns, violations


def _durations_are_the_clusters(run: CheckedRun) -> Iterator[Violation]:
    cluster, expected = run.cluster, run.costs
    if cluster is None:  # by FLOP/s: then every step of a worker takes as long as any other
        yield from _steps_take_one_time(run)
        return
    crashes = _times(run, "crash")
    for row, task in enumerate(run.rounds.to_dict("records")):
        if task["round"] not in expected:
            continue
        cost = expected[task["round"]]
        resent = _between(crashes.get(task["worker"], ()), task["push_start_s"], task["arrival_s"])
        for message in (
            _computing(task, cost, cluster, run.eps_s),
            _sending("pull", cluster.down, task, cost.lost_pulls, run, cluster, again=False),
            _sending("push", cluster.up, task, cost.lost_pushes, run, cluster, again=resent > 0),
        ):
            if message:
                yield Violation("rounds", row, "durations", message)
        yield from _messages(row, task, cost, cluster, resent)


def _steps_take_one_time(run: CheckedRun) -> Iterator[Violation]:
    faults = run.experiment.cluster.faults
    if run.experiment.cluster.devices.jitter > 0 or (faults and (faults.slowdowns or faults.trace)):
        return
    whole = ~run.rounds["round"].isin(run.cut["round"])
    rounds = run.rounds[whole]
    compute_s = rounds["push_start_s"] - rounds["compute_start_s"]
    step_s = compute_s / rounds["local_steps"]
    typical = step_s.groupby(rounds["worker"]).transform("median")
    wrong = (step_s - typical).abs() * rounds["local_steps"] > run.eps_s
    for row in rounds.index[wrong].tolist():
        yield Violation("rounds", row, "durations", "its steps took another time")


def _computing(task: Mapping[Any, Any], cost: Cost, cluster: ClusterModel, eps_s: float) -> str | None:
    """Returns the mistake in the time that a round computed, if any."""
    start_s, end_s, worker = task["compute_start_s"], task["push_start_s"], task["worker"]
    should_ns = cost.compute_ns
    if cluster.faults is not None:
        slowdowns = cluster.faults.slowdowns(worker)
        if task["local_steps"] < cost.steps:  # cut off
            done = slowdowns.work_ns(in_ns(start_s), in_ns(end_s)) / cost.compute_ns * cost.steps
            fits = task["local_steps"] in (math.floor(done - 1e-6), math.floor(done + 1e-6))
            return None if fits else f"{done:g} steps were done when the round was cut off"
        should_ns = slowdowns.finished_ns(in_ns(start_s), cost.compute_ns) - in_ns(start_s)
    if not abs(end_s - start_s - seconds(should_ns)) <= eps_s:
        return f"compute took {end_s - start_s} s and should take {seconds(should_ns)} s"
    return None


def _sending(
    name: str,
    link: Link,
    task: Mapping[Any, Any],
    lost: int,
    run: CheckedRun,
    cluster: ClusterModel,
    *,
    again: bool,
) -> str | None:
    """Returns the mistake in the time of a transfer, if any. It may wait for others, or be sent again after a crash."""
    first, last = ("pull_start_s", "compute_start_s") if name == "pull" else ("push_start_s", "arrival_s")
    start_s, took_s = task[first], task[last] - task[first]
    exact = link.shared_s is None and not again
    alone_s = seconds(_alone_ns(link, task["worker"], in_ns(start_s), lost, cluster, outages=exact))
    if not exact:
        return None if took_s >= alone_s - run.eps_s else f"the {name} took less than it takes alone"
    right = abs(took_s - alone_s) <= run.eps_s
    return None if right else f"{name} took {took_s} s and should take {alone_s} s"


def _alone_ns(
    link: Link, worker: int, start_ns: Nanoseconds, lost: int, cluster: ClusterModel, *, outages: bool
) -> Nanoseconds:
    """Returns how long a transfer takes that waits for no other and whose first `lost` messages are lost."""
    transfer_ns, faults = nanoseconds(link.transfer_s(worker)), cluster.faults
    retry_ns = nanoseconds(faults.loss.timeout) if faults and faults.loss else 0
    if faults is None or not outages:
        return transfer_ns + lost * (retry_ns + transfer_ns)
    end_ns = faults.link(worker).finished_ns(start_ns, transfer_ns)
    for _ in range(lost):
        end_ns = faults.link(worker).finished_ns(end_ns + retry_ns, transfer_ns)
    return end_ns - start_ns


def _links_carry_no_more_than_they_can(run: CheckedRun) -> Iterator[Violation]:
    """Messages over a shared link fit in between their rounds' begin and end of the transfer, one after the other."""
    cluster = run.cluster
    if cluster is None:
        return
    server = cluster.faults.server if cluster.faults is not None else Episodes([])
    for name, link, begin, end, sent in (
        ("down", cluster.down, "pull_start_s", "compute_start_s", "bytes_down"),
        ("up", cluster.up, "push_start_s", "arrival_s", "bytes_up"),
    ):
        if link.shared_s is None:
            continue
        shared_ns = nanoseconds(link.shared_s)
        transfers = []
        for row, task in enumerate(run.rounds.to_dict("records")):
            begin_ns, end_ns = in_ns(task[begin]), in_ns(task[end])
            if 0 <= begin_ns <= end_ns < math.inf and task["worker"] in range(cluster.workers):
                rest_ns = max(nanoseconds(link.transfer_s(task["worker"])) - shared_ns, 0)
                left_ns = max(server.work_ns(0, end_ns - rest_ns), 0)  # of the time in which the link works
                work_ns = task[sent] // link.message_bytes * shared_ns
                transfers.append((server.work_ns(0, begin_ns), left_ns, work_ns, row))
        late = _too_late(transfers, 1 + 1e9 * run.eps_s)
        if late is not None:
            message = f"the server's link {name} cannot have carried this message and the others beside it by then"
            yield Violation("rounds", late, "links", message)


def _too_late(transfers: list[tuple[Nanoseconds, Nanoseconds, Nanoseconds, int]], eps_ns: float) -> int | None:
    """Returns the number of a transfer that cannot be done in time, None if all can: the most urgent first always can.

    Args:
      transfers: (begin, end, work, number) of each, times and work in nanoseconds.
      eps_ns: by how much one may be late.
    """
    transfers = sorted(transfers)
    open_: list[tuple[Nanoseconds, Nanoseconds, int]] = []  # heap of (end, work left, number)
    now_ns: Nanoseconds = 0
    for begin_ns, end_ns, work_ns, number in [*transfers, (math.inf, math.inf, 0, -1)]:
        while open_ and now_ns < begin_ns:
            until_ns, left_ns, first = heapq.heappop(open_)
            done_ns = min(left_ns, begin_ns - now_ns)
            now_ns += done_ns
            if now_ns > until_ns + eps_ns:
                return first
            if done_ns < left_ns:
                heapq.heappush(open_, (until_ns, left_ns - done_ns, first))
        now_ns = max(now_ns, begin_ns)
        heapq.heappush(open_, (end_ns, work_ns, number))
    return None


def _times(run: CheckedRun, fault: str) -> dict[int, list[float]]:
    rows = run.faults[run.faults["fault"] == fault]
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


def _faults_are_the_clusters(run: CheckedRun) -> Iterator[Violation]:
    moments = run.faults[~run.faults["fault"].isin(["lost", "cut"])]
    model, workers = run.fault_model, run.experiment.cluster.workers
    if model is None:
        yield from violations(
            "faults", "faults", np.ones(len(run.faults), bool), lambda row: "nothing can go wrong here"
        )
        return
    end_s = run.length_s - run.eps_s  # what happens at the end may come after it
    should: dict[tuple[int, str], list[float]] = {}
    for time_s, worker, fault in _happening(model, workers, end_s):
        should.setdefault((worker, fault), []).append(time_s)
    there = moments[moments["time_s"] < end_s].astype({"fault": str})
    for key in sorted(set(zip(there["worker"].tolist(), there["fault"].tolist(), strict=True))):
        own = there[(there["worker"] == key[0]) & (there["fault"] == key[1])]
        times_s = should.pop(key, [])
        rows: list[Any] = own.index.tolist()
        for row, time_s, right_s in itertools.zip_longest(rows, own["time_s"].tolist(), times_s):
            if row is None or right_s is None or abs(time_s - right_s) > run.eps_s:
                message = f"{key[1]} of worker {key[0]} at {time_s} s should be at {right_s} s"
                yield Violation("faults", row, "faults", message)
                break
    for key, missing_s in should.items():
        yield Violation("faults", None, "faults", f"{key[1]} of worker {key[0]} at {missing_s[0]} s is missing")


def _happening(model: FaultModel, workers: int, end_s: float) -> Iterator[tuple[float, int, str]]:
    yield from _episodes(model.server, -1, "server down", "server up", end_s)
    for worker in range(workers):
        yield from _episodes(model.slowdowns(worker), worker, "slow", "normal", end_s)
        yield from _episodes(model.own_link(worker), worker, "disconnect", "reconnect", end_s)
        for absence in model.absences(worker):
            start_s, back_s, notice_s = map(seconds, (absence.start_ns, absence.end_ns, absence.notice_ns))
            if notice_s < min(start_s, end_s):
                yield notice_s, worker, "notice"
            if start_s < end_s:
                yield start_s, worker, absence.kind
            if back_s < end_s:
                yield back_s, worker, "return"
            if back_s >= end_s or start_s >= end_s:
                break


def _episodes(
    episodes: Episodes, worker: int, begins: str, ends: str, end_s: float
) -> Iterator[tuple[float, int, str]]:
    for episode in episodes:
        if seconds(episode.start_ns) >= end_s:
            return
        yield seconds(episode.start_ns), worker, begins
        if seconds(episode.end_ns) < end_s:
            yield seconds(episode.end_ns), worker, ends


def _what_is_lost_has_a_reason(run: CheckedRun) -> Iterator[Violation]:
    """A round is lost when its worker goes away or has notice to, or when its messages are lost."""
    faults = run.experiment.cluster.faults
    reasons = run.faults[run.faults["fault"].isin(["crash", "preemption", "departure", "notice"])]
    known = set(zip(reasons["worker"].tolist(), reasons["time_s"].tolist(), strict=True))
    by_message = faults is not None and faults.message_loss is not None
    for row, worker, time_s, fault in run.faults[["worker", "time_s", "fault"]].itertuples():
        if fault in ("lost", "cut") and (worker, time_s) not in known and not (by_message and fault == "lost"):
            yield Violation("faults", row, "faults", f"nothing befell worker {worker} at {time_s} s")
    arrived = set(run.rounds["round"].tolist())
    for row, number in run.lost["round"].items():
        if number in arrived:
            yield Violation("faults", int(str(row)), "faults", f"round {number} was lost and arrived")
    times_s = run.faults["time_s"].to_numpy()
    back = np.append(False, np.diff(times_s) < 0)[: len(times_s)]
    yield from violations("faults", "time", back, lambda row: "happens before the row above it")


def _what_is_lost_is_bounded(run: CheckedRun) -> Iterator[Violation]:
    cluster, version = run.cluster, np.append(0, run.column("version"))
    for row, lost in run.lost.iterrows():
        at = int(str(row))
        if not 0 <= lost["computed_steps"] <= lost["local_steps"]:
            yield Violation("faults", at, "faults", f"{lost['computed_steps']} of {lost['local_steps']} steps done")
        if not 0 <= lost["pulled_version"] <= version.max():
            yield Violation("faults", at, "versions", f"there was no version {lost['pulled_version']}")
        cost = run.costs.get(lost["round"])
        if cluster is None or cost is None:
            continue
        for name, link, tries in (
            ("bytes_down", cluster.down, cost.lost_pulls + 1),
            ("bytes_up", cluster.up, (cost.lost_pushes + 1) * (1 + len(run.faults))),
        ):
            if not 0 <= lost[name] <= tries * link.message_bytes or lost[name] % link.message_bytes:
                yield Violation("faults", at, "bytes", f"{name} is {lost[name]}; a message has {link.message_bytes}")


def _nobody_works_while_absent(run: CheckedRun) -> Iterator[Violation]:
    """A round that arrived did not span an absence, unless its finished steps were sent after a crash."""
    model = run.fault_model
    if model is None:
        return
    for worker, own in run.rounds.groupby("worker"):
        starts_s = []
        for absence in model.absences(int(str(worker))):
            if seconds(absence.start_ns) > run.length_s:
                break
            if not absence.delivers:
                starts_s.append(seconds(absence.start_ns))
        first = np.searchsorted(starts_s, own["pull_start_s"].to_numpy() + run.eps_s)
        last = np.searchsorted(starts_s, own["arrival_s"].to_numpy() - run.eps_s)
        for row in own.index[first < last].tolist():
            yield Violation("rounds", row, "faults", f"worker {worker} went away before this round could arrive")


ALL = (
    _durations_are_the_clusters,
    _links_carry_no_more_than_they_can,
    _faults_are_the_clusters,
    _what_is_lost_has_a_reason,
    _what_is_lost_is_bounded,
    _nobody_works_while_absent,
)
