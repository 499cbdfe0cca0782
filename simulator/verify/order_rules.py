"""Rules of the order of events, of steps, versions, bytes and the final numbers of a record."""

import bisect
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from simulator.experiment.schema.offer_schedule import NamedSchedule
from simulator.experiment.schema.policies import BarrierSynchronization
from simulator.record import (
    RecordError,
    perplexity_of,
    shard_columns,
    summarize_faults,
    summarize_money,
    summarize_rounds,
)
from simulator.verify.checked_run import CheckedRun, Violation, violations

_PHASES = ("ready_s", "pull_start_s", "compute_start_s", "push_start_s", "arrival_s", "update_s")


def _time_goes_on(run: CheckedRun) -> Iterator[Violation]:
    for earlier, later in itertools.pairwise(_PHASES):
        first, second = run.column(earlier), run.column(later)
        text = f"{later} is before {earlier}"
        yield from violations("rounds", "time", ~(first <= second), lambda row, text=text: text)  # type: ignore[misc]
    update_s, evaluated_s = run.column("update_s"), run.evaluations["simulated_s"].to_numpy()
    for table, times in (("rounds", update_s), ("evaluations", evaluated_s)):
        back = np.append(False, np.diff(times) < 0)
        yield from violations(table, "time", back, lambda row: "is processed before the row above it")
        late = times > run.length_s + run.eps_s
        yield from violations(table, "time", late, lambda row: f"is after the end at {run.length_s} s")


def _workers_do_one_thing_at_a_time(run: CheckedRun) -> Iterator[Violation]:
    workers = run.experiment.cluster.workers
    unknown = ~run.rounds["worker"].between(0, workers - 1).to_numpy()
    yield from violations("rounds", "workers", unknown, lambda row: f"there are only {workers} workers")
    in_order = run.rounds.sort_values("round", kind="stable").groupby("worker")
    end = "push_start_s" if run.goes_on else "arrival_s"
    before = in_order[end].shift(fill_value=0.0).sort_index().to_numpy()
    last = in_order["round"].shift(fill_value=-1).sort_index().to_numpy()
    ready, number = run.column("ready_s"), run.column("round")
    apart = (np.abs(ready - before) > run.eps_s) & ~((ready > before) & _free_again(run, last))
    if run.goes_on:
        lost = {worker: own.sort_values().tolist() for worker, own in run.lost.groupby("worker")["round"]}
        for row in np.flatnonzero(apart).tolist():
            own = lost.get(run.column("worker")[row], [])
            is_lost = bisect.bisect_right(own, last[row]) < bisect.bisect_left(own, number[row])
            apart[row] = ready[row] <= before[row] or not (is_lost or run.is_gone_between(last[row], number[row]))
    yield from violations(
        "rounds", "workers", apart, lambda row: f"ready_s is {ready[row]}, its last round ended at {before[row]}"
    )
    twice = run.rounds["round"].duplicated().to_numpy()
    yield from violations("rounds", "workers", twice, lambda row: "this round has arrived before")
    yield from _under_way_at_the_end(run, workers)


def _under_way_at_the_end(run: CheckedRun, workers: int) -> Iterator[Violation]:
    """Rounds that neither arrived nor were lost: at most one of each worker, given to it after all others of its.

    Of a worker that goes on they are at most one more than there are fragments, since the last copy that it has had.
    """
    tasks = pd.concat([run.rounds[["round", "worker"]], run.lost[["round", "worker"]]])
    known = set(tasks["round"].tolist())
    if len(known) != len(tasks) or min(known, default=0) < 0:
        yield Violation("rounds", None, "workers", "a round is there twice, or has no valid number")
    last = tasks.groupby("worker")["round"].max().reindex(range(workers), fill_value=-1).sort_values().to_numpy()
    if run.goes_on:
        copies = workers + int((run.rounds["bytes_down"] > 0).sum()) + len(run.lost)
        last = np.full((run.experiment.schedule.fragments + 1) * copies, -1)
    for index, number in enumerate(run.gone[: len(last) + 1]):
        if np.searchsorted(last, number) <= index:
            yield Violation("rounds", None, "workers", f"round {number} neither arrived nor was lost nor is under way")
            return


def _free_again(run: CheckedRun, last: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Returns which rounds' workers were ready when they had come back, or had given up a round or an answer.

    Args:
      run: of the rounds.
      last: number of each worker's round before, -1 without one.
    """
    times = run.faults[run.faults["fault"].isin(["return", "lost"])][["worker", "time_s"]]
    known = set(zip(times["worker"].tolist(), times["time_s"].tolist(), strict=True))
    rounds = zip(run.column("worker").tolist(), run.column("ready_s").tolist(), strict=True)
    free = np.array([each_round in known for each_round in rounds], bool)
    faults = run.experiment.cluster.faults
    if run.goes_on and faults is not None and faults.message_loss is not None:
        free |= (run.column("bytes_down") > 0) & (last >= 0)  # nothing tells of an answer that was lost for good
    return free


def _versions_and_staleness(run: CheckedRun) -> Iterator[Violation]:
    known = run.own >= 0
    meeting = run.meetings.of[run.own[known]]
    version, right = run.column("version").copy(), run.column("staleness").astype(float)
    version[known], right[known] = run.meetings.totals[meeting], run.staleness[run.own[known]]
    given, stale = run.column("version"), run.column("staleness")
    yield from violations(
        "rounds", "versions", given != version, lambda row: f"version is {given[row]} and should be {version[row]}"
    )
    wrong = (stale != right) & ~np.isnan(right)
    yield from violations(
        "rounds", "staleness", wrong, lambda row: f"staleness is {stale[row]} and should be {right[row]:g}"
    )
    if isinstance(run.experiment.synchronization, BarrierSynchronization) and not run.goes_on:
        applied, fresh = (run.rounds["outcome"] == "applied").to_numpy(), stale == 0
        yield from violations(
            "rounds", "staleness", applied != fresh, lambda row: "a barrier applies what is fresh and drops the rest"
        )
    flags = run.rounds["non_finite"].to_numpy() if "non_finite" in run.rounds else np.zeros(len(stale), int)
    yield from violations("rounds", "non_finite", ~np.isin(flags, (0, 1)), lambda row: f"is {flags[row]}, not 0 or 1")


def _pulls_are_of_the_present(run: CheckedRun) -> Iterator[Violation]:
    """The version of a round counts the updates of all places by the time at which the round was given out."""
    update_s, version = run.meetings.times_s, np.append(0, run.meetings.totals)
    given_s = np.where(run.column("bytes_down") > 0, run.column("pull_start_s"), run.column("compute_start_s"))
    pulled = run.column("pulled_version")
    oldest = version[update_s.searchsorted(given_s - run.eps_s, side="left")]
    newest = version[update_s.searchsorted(given_s + run.eps_s, side="right")]
    wrong = (pulled < oldest) | (pulled > newest)
    yield from violations(
        "rounds", "versions", wrong, lambda row: f"pulled version {pulled[row]} when the server was at {newest[row]}"
    )


def _steps_are_conserved(run: CheckedRun) -> Iterator[Violation]:
    columns = ["shard", "first_step", "local_steps"]
    parts = [("rounds", run.rounds), ("faults", run.lost), ("faults", run.cut)]
    given = pd.concat([part[columns].assign(table=table, row=part.index) for table, part in parts])
    for table, row in given.loc[given["first_step"] < 0, ["table", "row"]].itertuples(index=False):
        yield Violation(table, row, "steps", "its first step is negative")
    for _, own in given.sort_values("first_step").groupby("shard"):
        ends = (own["first_step"] + own["local_steps"]).to_numpy()
        overlap = own["first_step"].to_numpy()[1:] < ends[:-1]
        for table, row in own[["table", "row"]][1:][overlap].itertuples(index=False):
            yield Violation(table, row, "steps", "the shard had given some of these steps to another round")
    shards = ~run.rounds["shard"].between(0, run.experiment.shards - 1).to_numpy()
    yield from violations("rounds", "steps", shards, lambda row: f"there are only {run.experiment.shards} shards")
    if run.experiment.local_steps.kind == "fixed" and not run.goes_on:
        cut = run.rounds["round"].map(run.cut.groupby("round")["local_steps"].sum()).fillna(0).to_numpy()
        steps = run.column("local_steps") + cut
        chosen = _scheduled(run, steps)
        yield from violations("rounds", "steps", steps != chosen, lambda row: f"a round has {chosen[row]} local steps")


def _scheduled(run: CheckedRun, given: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns the local steps of each round by the schedule; the given ones where that is not registered here."""
    schedule, most = run.experiment.schedule, run.experiment.inner.local_steps
    if not isinstance(schedule, NamedSchedule):
        return np.full(len(given), most)
    if not schedule.is_registered:
        return given
    steps = schedule.interval()
    offers = run.rounds.groupby("worker")["round"].rank(method="first").astype(int) - 1
    return np.array([steps(offer, most) for offer in offers])


def _evaluations_follow(run: CheckedRun) -> Iterator[Violation]:
    counted = np.zeros(len(run.meetings.totals), np.int64)
    np.add.at(counted, run.meetings.of[run.own[run.own >= 0]], run.column("local_steps")[run.own >= 0])
    steps, version = np.append(0, counted.cumsum()), np.append(0, run.meetings.totals)
    times_s = np.concatenate([[-math.inf], run.meetings.times_s, [math.inf]])
    sent = _Sent(run)
    for row, evaluation in enumerate(run.evaluations.to_dict("records")):
        done, time_s = evaluation["local_steps"], evaluation["simulated_s"]
        first, behind = steps.searchsorted([done, done + 1]).tolist()  # several where an update is not of workers
        if first == behind:
            yield Violation("evaluations", row, "steps", f"no update ends with {done} local steps")
            continue
        right = [number for number in range(first, behind) if version[number] == evaluation["server_updates"]]
        number = right[0] if right else max(first, min(behind, int(times_s.searchsorted(time_s, side="right"))) - 1)
        if not times_s[number] - run.eps_s <= time_s <= times_s[number + 1] + run.eps_s:
            yield Violation("evaluations", row, "time", f"is at {time_s} s, and has what was there at another time")
        there_bytes, bytes_ = evaluation["bytes_sent"], sent.by(number, time_s)
        for name, there, should in (
            ("server_updates", evaluation["server_updates"], version[number]),
            ("bytes_sent", there_bytes, there_bytes if there_bytes in bytes_ else bytes_[-1]),
            ("perplexity", evaluation["perplexity"], perplexity_of(evaluation["loss"])),
        ):
            if not _same(there, should):
                yield Violation("evaluations", row, name, f"is {there} and should be {should}")


class _Sent:
    """Bytes of what has been transferred, in the order of the table of transfers."""

    def __init__(self, run: CheckedRun):
        self._bytes = np.append(0, run.transfers["bytes"].to_numpy().cumsum())
        self._used_s = run.transfers["used_s"].to_numpy()
        self._of_workers = np.array(run.messages.of_kind("copy", "offer", "region's offer"), np.int64)
        rows = np.array(run.messages.updates, np.int64)[self._of_workers]
        self._meetings = np.maximum.accumulate(run.meetings.of[rows]) if len(rows) else rows

    def by(self, meetings: int, time_s: float) -> list[int]:
        """Returns what can have been sent by a time, at which there had been so many meetings."""
        behind = int(self._meetings.searchsorted(meetings))
        rows = self._of_workers
        first = int(rows[behind - 1]) + 1 if behind else 0
        answers_s = self._used_s[first : int(rows[behind]) if behind < len(rows) else None]
        least, most = int((answers_s < time_s).sum()), int((answers_s <= time_s).sum())
        found: list[int] = self._bytes[first + least : first + most + 1].tolist()
        return found


def _summary_follows(run: CheckedRun) -> Iterator[Violation]:
    rounds, summary = run.rounds, run.summary
    try:
        expected: dict[str, Any] = summarize_rounds(rounds, run.experiment.cluster.workers, run.length_s)
    except RecordError as error:
        yield Violation("summary", None, "utilization", str(error))
        return
    if run.evaluations.empty:
        yield Violation("evaluations", None, "evaluations", "there is none")
        return
    last = run.evaluations.iloc[-1]
    if "goodput" in summary:
        expected |= summarize_faults(rounds, run.faults, run.length_s)
    if "money" in summary:
        prices = run.experiment.model_dump(mode="json")
        costs = summarize_money(prices, rounds, run.transfers, run.faults, run.experiment.cluster.workers, run.length_s)
        expected["money"] = costs.get("money")
    expected |= {"simulated_seconds": last["simulated_s"], "tokens": last["tokens"]}
    expected |= {"bytes_sent": run.transfers["bytes"].sum(), "server_updates": max(run.meetings.totals, default=0)}
    if summary["trainer"] != "null":
        expected |= {"final_loss": last["loss"], "final_perplexity": last["perplexity"]}
        if run.experiment.evaluate.per_shard:
            losses = last[list(shard_columns(run.experiment.shards))]
            names = [f"final_shard_losses[{shard}]" for shard in range(len(losses))]
            expected |= dict(zip(names, losses, strict=True))
            summary = dict(zip(names, summary.get("final_shard_losses") or (), strict=False)) | summary
    for name, right in expected.items():
        if name not in summary:
            yield Violation("summary", None, name, f"is missing and should be {right}")
        elif not _same(summary[name], right):
            yield Violation("summary", None, name, f"is {summary[name]} and should be {right}")


def _same(there: Any, right: Any) -> bool:
    """Returns whether numbers are the same but for rounding; those not finite are null in a summary."""
    known = [value is not None and math.isfinite(value) for value in (there, right)]
    return math.isclose(there, right, rel_tol=1e-9) if all(known) else not any(known)


ALL = (
    _time_goes_on,
    _workers_do_one_thing_at_a_time,
    _versions_and_staleness,
    _pulls_are_of_the_present,
    _steps_are_conserved,
    _evaluations_follow,
    _summary_follows,
)
