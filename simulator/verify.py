"""Recomputes from a record alone what must be true of it; knows the cluster's costs and nothing of the engine."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic

from simulator.cluster import ClusterError, ClusterModel, build_cluster
from simulator.experiment import Experiment
from simulator.record import RecordError, RunRecord, shard_columns, summarize_rounds

_PHASES = ("ready_s", "pull_start_s", "compute_start_s", "push_start_s", "arrival_s", "update_s")
_ROUNDING = 1e-9  # of the run's length


@dataclass(frozen=True)
class Violation:
    """A rule that does not hold.

    Attributes:
      table: "rounds", "evaluations" or "summary".
      row: which one of the table, counted from 0; None in the summary.
      rule: its name.
      message: what there is, and what there should be.
    """

    table: str
    row: int | None
    rule: str
    message: str

    def __str__(self) -> str:
        """Returns one line."""
        place = self.table if self.row is None else f"{self.table}, row {self.row}"
        return f"{place}: {self.rule}: {self.message}"


def verify(record: RunRecord) -> list[Violation]:
    """Returns every violation: time, durations, versions, staleness, steps, bytes, evaluations and the final numbers.

    Raises:
      RecordError: the record's experiment is none.
    """
    try:
        experiment = Experiment.model_validate(record.experiment)
    except pydantic.ValidationError as error:
        raise RecordError(f"the record's experiment is not valid: {error.errors()[0]['msg']}") from error
    found = _Found(record, experiment)
    rules: tuple[Callable[[_Found], Iterator[Violation]], ...] = (
        _time_goes_on,
        _workers_do_one_thing_at_a_time,
        _durations_are_the_clusters,
        _versions_and_staleness,
        _pulls_are_of_the_present,
        _steps_are_conserved,
        _evaluations_follow,
        _summary_follows,
    )
    return [violation for rule in rules for violation in rule(found)]


class _Found:
    """A record and what follows from its experiment."""

    def __init__(self, record: RunRecord, experiment: Experiment):
        self.rounds, self.evaluations, self.summary = record.rounds, record.evaluations, record.summary
        self.experiment = experiment
        self.barrier = experiment.synchronization.kind == "barrier"
        self.length_s = float(record.summary["simulated_seconds"])
        self.eps_s = _ROUNDING * max(self.length_s, 1.0)
        # Updates: one a row, or, behind a barrier, one for all workers' rows.
        size = experiment.cluster.workers if self.barrier else 1
        self.update = np.arange(len(self.rounds)) // size
        self.update_size = size

    def column(self, name: str) -> npt.NDArray[Any]:
        return self.rounds[name].to_numpy()

    def cluster(self) -> ClusterModel | None:
        """Returns the cluster's costs, None where devices are described by FLOP/s, which the record does not have."""
        try:
            parameters = int(self.summary["parameters"])
            seed = self.experiment.seed
            model = build_cluster(self.experiment.cluster, parameters=parameters, flops_per_step=math.nan, seed=seed)
        except ClusterError:
            return None
        return model if np.isfinite(model.step_s).all() else None


def _each(table: str, rule: str, wrong: npt.NDArray[Any], message: Callable[[int], str]) -> Iterator[Violation]:
    for row in np.flatnonzero(wrong).tolist():
        yield Violation(table, row, rule, message(row))


def _time_goes_on(found: _Found) -> Iterator[Violation]:
    for earlier, later in itertools.pairwise(_PHASES):
        first, second = found.column(earlier), found.column(later)
        text = f"{later} is before {earlier}"
        yield from _each("rounds", "time", ~(first <= second), lambda row, text=text: text)  # type: ignore[misc]
    update_s, evaluated_s = found.column("update_s"), found.evaluations["simulated_s"].to_numpy()
    for table, times in (("rounds", update_s), ("evaluations", evaluated_s)):
        back = np.append(False, np.diff(times) < 0)
        yield from _each(table, "time", back, lambda row: "is processed before the row above it")
        late = times > found.length_s + found.eps_s
        yield from _each(table, "time", late, lambda row: f"is after the end at {found.length_s} s")


def _workers_do_one_thing_at_a_time(found: _Found) -> Iterator[Violation]:
    workers = found.experiment.cluster.workers
    unknown = ~found.rounds["worker"].between(0, workers - 1).to_numpy()
    yield from _each("rounds", "workers", unknown, lambda row: f"there are only {workers} workers")
    before = found.rounds.groupby("worker")["arrival_s"].shift(fill_value=0.0).to_numpy()
    ready = found.column("ready_s")
    apart = np.abs(ready - before) > found.eps_s
    yield from _each(
        "rounds", "workers", apart, lambda row: f"ready_s is {ready[row]}, its last round arrived at {before[row]}"
    )
    twice = found.rounds["round"].duplicated().to_numpy()
    yield from _each("rounds", "workers", twice, lambda row: "this round has arrived before")
    missing = 0 if found.rounds.empty else int(found.rounds["round"].max()) + 1 - len(found.rounds)
    if not 0 <= missing <= workers:
        yield Violation("rounds", None, "workers", f"{missing} rounds never arrived, of {workers} workers")


def _durations_are_the_clusters(found: _Found) -> Iterator[Violation]:
    cluster = found.cluster()
    compute_s = found.column("push_start_s") - found.column("compute_start_s")
    if cluster is None:  # by FLOP/s: then every step of a worker takes as long as any other
        if found.experiment.cluster.devices.jitter == 0:
            step_s = pd.Series(compute_s / found.column("local_steps"))
            typical = step_s.groupby(found.rounds["worker"]).transform("median").to_numpy()
            wrong = np.abs(step_s - typical) * found.column("local_steps") > found.eps_s
            yield from _each("rounds", "durations", wrong.to_numpy(), lambda row: "its steps took another time")
        return
    streams = {w: cluster.jitter_stream(w) if cluster.jitter else None for w in range(cluster.workers)}
    workers, steps = found.column("worker").tolist(), found.column("local_steps").tolist()
    order = np.argsort(found.column("round"), kind="stable").tolist()
    expected = np.full(len(workers), np.nan)
    for row in order:
        if workers[row] in streams:
            expected[row] = cluster.compute_s(workers[row], steps[row], streams[workers[row]])
    yield from _different("compute", compute_s, expected, found)
    for name, link, first, last in (
        ("pull", cluster.down, "pull_start_s", "compute_start_s"),
        ("push", cluster.up, "push_start_s", "arrival_s"),
    ):
        took_s = found.column(last) - found.column(first)
        alone_s = np.array([link.transfer_s(w) if w in streams else np.nan for w in workers])
        if link.shared_s is None:
            yield from _different(name, took_s, alone_s, found)
        else:  # others may be on the server's link
            fast = took_s < alone_s - found.eps_s
            text = f"the {name} took less than it takes alone"
            yield from _each("rounds", "durations", fast, lambda row, text=text: text)  # type: ignore[misc]
        for_message = found.column(f"bytes_{'down' if name == 'pull' else 'up'}")
        wrong = for_message != link.message_bytes
        yield from _each("rounds", "bytes", wrong, lambda row, link=link: f"a message has {link.message_bytes}")  # type: ignore[misc]


def _different(name: str, took_s: npt.NDArray[Any], expected_s: npt.NDArray[Any], found: _Found) -> Iterator[Violation]:
    wrong = np.abs(took_s - expected_s) > found.eps_s
    yield from _each(
        "rounds", "durations", wrong, lambda row: f"{name} took {took_s[row]} s and should take {expected_s[row]} s"
    )


def _versions_and_staleness(found: _Found) -> Iterator[Violation]:
    applied = (found.rounds["outcome"] == "applied").to_numpy()
    last = np.append(found.update[1:] != found.update[:-1], True) if len(applied) else np.array([], bool)
    after = (applied & last).cumsum()
    version = after + (applied & ~last)  # rows of one update have its version
    before = version - applied
    given = found.column("version")
    yield from _each(
        "rounds", "versions", given != version, lambda row: f"version is {given[row]} and should be {version[row]}"
    )
    stale = found.column("staleness")
    right = before - found.column("pulled_version")
    yield from _each(
        "rounds", "staleness", stale != right, lambda row: f"staleness is {stale[row]} and should be {right[row]}"
    )
    if found.barrier:
        incomplete = len(found.rounds) % found.update_size
        groups = found.rounds.groupby(found.update)["worker"].nunique().to_numpy()
        if incomplete or (groups != found.update_size).any():
            yield Violation("rounds", None, "versions", "a synchronous update lacks a worker's round")


def _pulls_are_of_the_present(found: _Found) -> Iterator[Violation]:
    update_s, version = found.column("update_s"), np.append(0, found.column("version"))
    pull_s, pulled = found.column("pull_start_s"), found.column("pulled_version")
    oldest = version[update_s.searchsorted(pull_s - found.eps_s, side="left")]
    newest = version[update_s.searchsorted(pull_s + found.eps_s, side="right")]
    wrong = (pulled < oldest) | (pulled > newest)
    yield from _each(
        "rounds", "versions", wrong, lambda row: f"pulled version {pulled[row]} when the server was at {newest[row]}"
    )


def _steps_are_conserved(found: _Found) -> Iterator[Violation]:
    for _, own in found.rounds.sort_values("first_step").groupby("shard"):
        ends = (own["first_step"] + own["local_steps"]).to_numpy()
        overlap = own["first_step"].to_numpy()[1:] < ends[:-1]
        for row in own.index[1:][overlap].tolist():
            yield Violation("rounds", row, "steps", "the shard had given some of these steps to another round")
    shards = ~found.rounds["shard"].between(0, found.experiment.shards - 1).to_numpy()
    yield from _each("rounds", "steps", shards, lambda row: f"there are only {found.experiment.shards} shards")
    if found.experiment.local_steps.kind == "fixed":
        steps, chosen = found.column("local_steps"), found.experiment.inner.local_steps
        yield from _each("rounds", "steps", steps != chosen, lambda row: f"a round has {chosen} local steps")


def _evaluations_follow(found: _Found) -> Iterator[Violation]:
    each = found.rounds.groupby(found.update)
    steps = np.append(0, each["local_steps"].sum().to_numpy().cumsum())
    sent = np.append(0, each[["bytes_down", "bytes_up"]].sum().sum(axis=1).to_numpy().cumsum())
    version = np.append(0, each["version"].last().to_numpy())
    for row, evaluation in enumerate(found.evaluations.to_dict("records")):
        done = evaluation["local_steps"]
        updates = int(steps.searchsorted(done))
        if updates == len(steps) or steps[updates] != done:
            yield Violation("evaluations", row, "steps", f"no update ends with {done} local steps")
            continue
        for name, there, right in (
            ("server_updates", evaluation["server_updates"], version[updates]),
            ("bytes_sent", evaluation["bytes_sent"], sent[updates]),
            ("perplexity", evaluation["perplexity"], _perplexity(evaluation["loss"])),
        ):
            if not _same(there, right):
                yield Violation("evaluations", row, name, f"is {there} and should be {right}")


def _summary_follows(found: _Found) -> Iterator[Violation]:
    rounds, summary = found.rounds, found.summary
    try:
        expected: dict[str, Any] = summarize_rounds(rounds, found.experiment.cluster.workers, found.length_s)
    except RecordError as error:
        yield Violation("summary", None, "utilization", str(error))
        return
    if found.evaluations.empty:
        yield Violation("evaluations", None, "evaluations", "there is none")
        return
    last = found.evaluations.iloc[-1]
    expected |= {"simulated_seconds": last["simulated_s"], "tokens": last["tokens"], "bytes_sent": last["bytes_sent"]}
    if summary["trainer"] != "null":
        expected |= {"final_loss": last["loss"], "final_perplexity": last["perplexity"]}
        if found.experiment.evaluate.per_shard:
            losses = last[list(shard_columns(found.experiment.shards))]
            for shard, (there, right) in enumerate(zip(summary["final_shard_losses"], losses, strict=True)):
                expected[f"final_shard_losses[{shard}]"] = right
                summary = summary | {f"final_shard_losses[{shard}]": there}
    for name, right in expected.items():
        if not _same(summary[name], right):
            yield Violation("summary", None, name, f"is {summary[name]} and should be {right}")


def _perplexity(loss: float) -> float:
    return math.exp(loss) if loss < 709 else math.inf  # NaN stays NaN


def _same(there: Any, right: Any) -> bool:
    """Returns whether numbers are the same but for rounding; what is not finite is null in a summary."""
    known = [value is not None and math.isfinite(value) for value in (there, right)]
    return math.isclose(there, right, rel_tol=1e-9) if all(known) else not any(known)
