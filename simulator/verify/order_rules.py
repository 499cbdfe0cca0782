"""Rules of the order of events, of steps, versions, bytes and the final numbers of a record."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from simulator.record import RecordError, perplexity, shard_columns, summarize_faults, summarize_money, summarize_rounds
from simulator.verify.checked_run import Found, Violation, each

_PHASES = ("ready_s", "pull_start_s", "compute_start_s", "push_start_s", "arrival_s", "update_s")


def _time_goes_on(found: Found) -> Iterator[Violation]:
    for earlier, later in itertools.pairwise(_PHASES):
        first, second = found.column(earlier), found.column(later)
        text = f"{later} is before {earlier}"
        yield from each("rounds", "time", ~(first <= second), lambda row, text=text: text)  # type: ignore[misc]
    update_s, evaluated_s = found.column("update_s"), found.evaluations["simulated_s"].to_numpy()
    for table, times in (("rounds", update_s), ("evaluations", evaluated_s)):
        back = np.append(False, np.diff(times) < 0)
        yield from each(table, "time", back, lambda row: "is processed before the row above it")
        late = times > found.length_s + found.eps_s
        yield from each(table, "time", late, lambda row: f"is after the end at {found.length_s} s")


def _workers_do_one_thing_at_a_time(found: Found) -> Iterator[Violation]:
    workers = found.experiment.cluster.workers
    unknown = ~found.rounds["worker"].between(0, workers - 1).to_numpy()
    yield from each("rounds", "workers", unknown, lambda row: f"there are only {workers} workers")
    before = found.rounds.groupby("worker")["arrival_s"].shift(fill_value=0.0).to_numpy()
    ready = found.column("ready_s")
    apart = (np.abs(ready - before) > found.eps_s) & ~((ready > before) & _free_again(found))
    yield from each(
        "rounds", "workers", apart, lambda row: f"ready_s is {ready[row]}, its last round arrived at {before[row]}"
    )
    twice = found.rounds["round"].duplicated().to_numpy()
    yield from each("rounds", "workers", twice, lambda row: "this round has arrived before")
    yield from _under_way_at_the_end(found, workers)


def _under_way_at_the_end(found: Found, workers: int) -> Iterator[Violation]:
    """Rounds that neither arrived nor were lost: at most one of each worker, given to it after all others of its."""
    tasks = pd.concat([found.rounds[["round", "worker"]], found.lost[["round", "worker"]]])
    known = set(tasks["round"].tolist())
    missing = sorted(set(range(max(known, default=-1) + 1)) - known)
    last = tasks.groupby("worker")["round"].max().reindex(range(workers), fill_value=-1).sort_values().to_numpy()
    if len(known) != len(tasks) or min(known, default=0) < 0:
        yield Violation("rounds", None, "workers", "a round is there twice, or has no valid number")
    for index, number in enumerate(missing[: workers + 1]):
        if np.searchsorted(last, number) <= index:
            yield Violation("rounds", None, "workers", f"round {number} neither arrived nor was lost nor is under way")
            return


def _free_again(found: Found) -> npt.NDArray[np.bool_]:
    """Returns which rounds' workers were ready when they had come back or had given up a round."""
    times = found.faults[found.faults["fault"].isin(["return", "lost"])][["worker", "time_s"]]
    known = set(zip(times["worker"].tolist(), times["time_s"].tolist(), strict=True))
    rounds = zip(found.column("worker").tolist(), found.column("ready_s").tolist(), strict=True)
    return np.array([each_round in known for each_round in rounds], bool)


def _versions_and_staleness(found: Found) -> Iterator[Violation]:
    applied = (found.rounds["outcome"] == "applied").to_numpy()
    last = np.append(found.update[1:] != found.update[:-1], True) if len(applied) else np.array([], bool)
    after = (applied & last).cumsum()
    version = after + (applied & ~last)  # rows of one update have its version
    before = version - applied
    given = found.column("version")
    yield from each(
        "rounds", "versions", given != version, lambda row: f"version is {given[row]} and should be {version[row]}"
    )
    stale = found.column("staleness")
    right = before - found.column("pulled_version")
    yield from each(
        "rounds", "staleness", stale != right, lambda row: f"staleness is {stale[row]} and should be {right[row]}"
    )
    if found.barrier and not found.own_policy:
        fresh = stale == 0
        wrong = applied & ~fresh | ~applied & fresh
        yield from each("rounds", "staleness", wrong, lambda row: "a barrier applies what is fresh and drops the rest")
    flags = found.rounds["non_finite"].to_numpy() if "non_finite" in found.rounds else np.zeros(len(stale), int)
    yield from each("rounds", "non_finite", ~np.isin(flags, (0, 1)), lambda row: f"is {flags[row]}, not 0 or 1")
    by_update = found.rounds.groupby(found.update)["worker"]
    if (by_update.nunique() != by_update.size()).any():
        yield Violation("rounds", None, "versions", "an update has several rounds of one worker")
    if found.complete and (by_update.nunique() != found.experiment.cluster.workers).any():
        yield Violation("rounds", None, "versions", "a synchronous update lacks a worker's round")


def _pulls_are_of_the_present(found: Found) -> Iterator[Violation]:
    update_s, version = found.column("update_s"), np.append(0, found.column("version"))
    pull_s, pulled = found.column("pull_start_s"), found.column("pulled_version")
    oldest = version[update_s.searchsorted(pull_s - found.eps_s, side="left")]
    newest = version[update_s.searchsorted(pull_s + found.eps_s, side="right")]
    wrong = (pulled < oldest) | (pulled > newest)
    yield from each(
        "rounds", "versions", wrong, lambda row: f"pulled version {pulled[row]} when the server was at {newest[row]}"
    )


def _steps_are_conserved(found: Found) -> Iterator[Violation]:
    columns = ["shard", "first_step", "local_steps"]
    parts = [("rounds", found.rounds), ("faults", found.lost), ("faults", found.cut)]
    given = pd.concat([part[columns].assign(table=table, row=part.index) for table, part in parts])
    for table, row in given.loc[given["first_step"] < 0, ["table", "row"]].itertuples(index=False):
        yield Violation(table, row, "steps", "its first step is negative")
    for _, own in given.sort_values("first_step").groupby("shard"):
        ends = (own["first_step"] + own["local_steps"]).to_numpy()
        overlap = own["first_step"].to_numpy()[1:] < ends[:-1]
        for table, row in own[["table", "row"]][1:][overlap].itertuples(index=False):
            yield Violation(table, row, "steps", "the shard had given some of these steps to another round")
    shards = ~found.rounds["shard"].between(0, found.experiment.shards - 1).to_numpy()
    yield from each("rounds", "steps", shards, lambda row: f"there are only {found.experiment.shards} shards")
    if found.experiment.local_steps.kind == "fixed":
        cut = found.rounds["round"].map(found.cut.groupby("round")["local_steps"].sum()).fillna(0).to_numpy()
        steps, chosen = found.column("local_steps") + cut, found.experiment.inner.local_steps
        yield from each("rounds", "steps", steps != chosen, lambda row: f"a round has {chosen} local steps")


def _evaluations_follow(found: Found) -> Iterator[Violation]:
    by_update = found.rounds.groupby(found.update)
    steps = np.append(0, by_update["local_steps"].sum().to_numpy().cumsum())
    sent = np.append(0, by_update[["bytes_down", "bytes_up"]].sum().sum(axis=1).to_numpy().cumsum())
    version = np.append(0, by_update["version"].last().to_numpy())
    for row, evaluation in enumerate(found.evaluations.to_dict("records")):
        done = evaluation["local_steps"]
        updates = int(steps.searchsorted(done))
        if updates == len(steps) or steps[updates] != done:
            yield Violation("evaluations", row, "steps", f"no update ends with {done} local steps")
            continue
        for name, there, right in (
            ("server_updates", evaluation["server_updates"], version[updates]),
            ("bytes_sent", evaluation["bytes_sent"], sent[updates]),
            ("perplexity", evaluation["perplexity"], perplexity(evaluation["loss"])),
        ):
            if not _same(there, right):
                yield Violation("evaluations", row, name, f"is {there} and should be {right}")


def _summary_follows(found: Found) -> Iterator[Violation]:
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
    if "goodput" in summary:
        expected |= summarize_faults(rounds, found.faults, found.length_s)
    if "money" in summary:
        prices = found.experiment.model_dump(mode="json")
        costs = summarize_money(prices, rounds, found.faults, found.experiment.cluster.workers, found.length_s)
        expected["money"] = costs.get("money")
    expected |= {"simulated_seconds": last["simulated_s"], "tokens": last["tokens"], "bytes_sent": last["bytes_sent"]}
    if summary["trainer"] != "null":
        expected |= {"final_loss": last["loss"], "final_perplexity": last["perplexity"]}
        if found.experiment.evaluate.per_shard:
            losses = last[list(shard_columns(found.experiment.shards))]
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
