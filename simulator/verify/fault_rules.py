"""Rules of faults: they are those of the experiment's cluster, and what is lost has a reason."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from simulator.cluster import Episodes, FaultModel, seconds
from simulator.verify.checked_run import CheckedRun, Violation, violations


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


def _only_rounds_lose_anything(run: CheckedRun) -> Iterator[Violation]:
    workers, is_round = run.experiment.cluster.workers, run.faults["fault"].isin(["lost", "cut"]).to_numpy()
    unknown = ~run.faults["worker"].between(np.where(is_round, 0, -1), workers - 1).to_numpy()
    yield from violations("faults", "workers", unknown, lambda row: f"there are only {workers} workers")
    for name, nothing in (
        *((name, -1) for name in ("round", "shard", "first_step", "pulled_version")),
        *((name, 0) for name in ("local_steps", "computed_steps", "bytes_down", "bytes_up")),
    ):
        wrong = (run.faults[name] != nothing).to_numpy() & ~is_round
        yield from violations("faults", "faults", wrong, lambda row, name=name: f"{name} is of lost rounds alone")  # type: ignore[misc]


def _what_is_lost_is_bounded(run: CheckedRun) -> Iterator[Violation]:
    cluster, newest = run.cluster, max(run.meetings.totals, default=0)
    for row, lost in run.lost.iterrows():
        at = int(str(row))
        if not 0 <= lost["computed_steps"] <= lost["local_steps"]:
            yield Violation("faults", at, "faults", f"{lost['computed_steps']} of {lost['local_steps']} steps done")
        if not 0 <= lost["pulled_version"] <= newest:
            yield Violation("faults", at, "versions", f"there was no version {lost['pulled_version']}")
        cost = run.costs.get(lost["round"])
        if cluster is None or cost is None:
            continue
        pushes = (cost.lost_pushes + 1) * (1 + len(run.faults))
        for name, sizes, tries in (
            ("bytes_down", {cluster.down.size(1.0)}, cost.lost_pulls + 1),
            ("bytes_up", {cluster.up.size(share) for share in run.shares.offers}, pushes),
        ):
            if not any(lost[name] in range(0, tries * size + 1, size or 1) for size in sizes):
                yield Violation("faults", at, "bytes", f"{name} is {lost[name]}; a message has {min(sizes)}")


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
    _faults_are_the_clusters,
    _what_is_lost_has_a_reason,
    _only_rounds_lose_anything,
    _what_is_lost_is_bounded,
    _nobody_works_while_absent,
)
