"""Shares of the workers' time and staleness of their rounds, as they follow from the table of rounds."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from simulator.record.schema import ROUND_COLUMNS, RecordError, conform


def worker_table(rounds: pd.DataFrame, workers: int, simulated_s: float) -> pd.DataFrame:
    """Returns one row per worker: its work, and its shares of the time that the table covers.

    The table holds rounds that arrived, so a worker's time is known from the start of the simulation until the server
    had processed its last arrival, or until the end if it was given no further round: `covered_s`. Of a worker that
    goes on while its offers are on their way it is known until it had computed its last round. Later time, in which a
    further round was on its way, is in no share. The shares pull + compute + push + wait + lost add up to 1:

    - wait: from `ready_s` to `pull_start_s` of each round, between its steps for an answer, and from the last arrival
      to the end of what is covered;
    - push: only where the worker waited for it;
    - lost: all other time, in which the worker was down or at a round that never arrived.

    Args:
        rounds: The table of rounds, see `ROUND_COLUMNS`.
        workers: Number of workers; ids are 0 to workers - 1.
        simulated_s: Length of the simulation, seconds.

    Returns:
        Columns worker, rounds, local_steps, seconds_per_step (measured: compute time / local steps), covered_s, pull,
        compute, push, wait, lost (shares of covered_s), mean_staleness, max_staleness (server updates). Measured values
        are NaN for a worker from which nothing arrived.

    Raises:
        RecordError: If a column is missing, a worker's id is out of range, or a round was processed after the end.
    """
    rounds = conform(rounds, ROUND_COLUMNS, "rounds")
    _check(rounds, workers, simulated_s)
    rounds = in_order_of_dispatch(rounds)
    free_s = free_again_s(rounds)
    spans = pd.DataFrame(
        {
            "worker": rounds["worker"],
            "local_steps": rounds["local_steps"],
            "pull": rounds["compute_start_s"] - rounds["pull_start_s"],
            "compute": computing_s(rounds),
            "push": free_s - rounds["push_start_s"],
            "wait": rounds["pull_start_s"] - rounds["ready_s"] + blocked_s(rounds),
            "lost": rounds["ready_s"] - free_s.groupby(rounds["worker"]).shift(fill_value=0.0),
        }
    )
    every = pd.RangeIndex(workers, name="worker")
    by_worker = rounds.groupby("worker")
    totals = spans.groupby("worker").sum().reindex(every)
    last = _last(rounds).reindex(every)
    covered_s = covered_until_s(last, simulated_s)
    totals["wait"] += covered_s - free_again_s(last)
    shares = totals[["pull", "compute", "push", "wait", "lost"]].div(covered_s, axis=0)
    staleness = by_worker["staleness"].agg(["mean", "max"]).reindex(every)
    table = pd.DataFrame(
        {
            "rounds": by_worker.size().reindex(every, fill_value=0).astype("int64"),
            "local_steps": totals["local_steps"].fillna(0).astype("int64"),
            "seconds_per_step": totals["compute"] / totals["local_steps"],
            "covered_s": covered_s.fillna(0.0),
            **{name: shares[name] for name in shares.columns},
            "mean_staleness": staleness["mean"].astype("float64"),
            "max_staleness": staleness["max"].astype("float64"),
        }
    )
    return table.reset_index()


def summarize_rounds(rounds: pd.DataFrame, workers: int, simulated_s: float) -> dict[str, Any]:
    """Returns the part of a run's summary that follows from the table of rounds alone.

    Utilization is the time that workers spent computing rounds that arrived, divided by the time that the table covers,
    see `worker_table`. A worker from which nothing arrived is in neither. Hence waiting for the slowest worker counts,
    and a round on its way when the simulation ends counts neither as work nor as idleness. The arguments and errors are
    those of `worker_table`.

    Returns:
        workers, simulated_seconds, local_steps, server_updates (the last version), mean_staleness and max_staleness
        (server updates, over all rounds that arrived, dropped ones included), utilization and bytes_sent (both
        directions, of the rounds that arrived). Staleness and utilization are None without any round.
    """
    rounds = conform(rounds, ROUND_COLUMNS, "rounds")
    _check(rounds, workers, simulated_s)
    covered_s = float(covered_until_s(_last(rounds), simulated_s).sum())
    computed_s = float(computing_s(rounds).sum())
    some = len(rounds) > 0
    return {
        "workers": workers,
        "simulated_seconds": float(simulated_s),
        "local_steps": int(rounds["local_steps"].sum()),
        "server_updates": int(rounds["version"].max()) if some else 0,
        "mean_staleness": float(rounds["staleness"].mean()) if some else None,
        "max_staleness": int(rounds["staleness"].max()) if some else None,
        "utilization": computed_s / covered_s if covered_s > 0 else None,
        "bytes_sent": int(rounds["bytes_down"].sum() + rounds["bytes_up"].sum()),
    }


def summarize_faults(rounds: pd.DataFrame, faults: pd.DataFrame, simulated_s: float) -> dict[str, Any]:
    """Returns the part of a run's summary on the effects of its faults, see `OF_FAULTS`, from its tables."""
    lost = faults[faults["fault"] == "lost"]
    dropped = rounds["outcome"] == "dropped"
    non_finite = rounds["non_finite"] == 1 if "non_finite" in rounds else pd.Series(False, rounds.index)
    good = int(rounds.loc[~dropped & ~non_finite, "local_steps"].sum())
    return {
        "lost_rounds": len(lost),
        "lost_steps": int(lost["computed_steps"].sum()),
        "dropped_steps": int(rounds.loc[dropped, "local_steps"].sum()),
        "non_finite": int(non_finite.sum()),
        "goodput": good / simulated_s if simulated_s > 0 else None,
        "lost_bytes": int(lost["bytes_down"].sum() + lost["bytes_up"].sum()),
    }


def failure(summary: Mapping[str, Any]) -> str | None:
    """Returns why a trained run's losses say nothing of its settings, None if they do say something.

    Its last loss is not finite, at least half of the local steps that arrived did not enter the server's state because
    something was not finite, or all were dropped: then the loss is that of parameters that have hardly been trained.

    Args:
        summary: Of the run, see `SUMMARY_KEYS` and `OF_FAULTS`.
    """
    loss, steps = summary["final_loss"], summary["local_steps"]
    if loss is None or not math.isfinite(loss):
        return "its last loss is not finite"
    if summary.get("goodput") is None or not steps:
        return None
    entered = summary["goodput"] * summary["simulated_seconds"]
    unusable = steps - summary["dropped_steps"] - entered
    if summary["non_finite"] and 2 * unusable >= steps:
        return f"{summary['non_finite']} rounds were not finite, {unusable / steps:.0%} of its local steps: it diverged"
    return None if entered > 0 else "all of its rounds were dropped"


def _last(rounds: pd.DataFrame) -> pd.DataFrame:
    """Returns the last round of each worker from which something arrived, by worker."""
    return in_order_of_dispatch(rounds).drop_duplicates("worker", keep="last").set_index("worker").sort_index()


def in_order_of_dispatch(rounds: pd.DataFrame) -> pd.DataFrame:
    """Returns rounds with each worker's in order of time: offers of one that goes on may overtake each other."""
    return rounds.sort_values("round", kind="stable")


def goes_on(rounds: pd.DataFrame) -> "pd.Series[bool]":
    """Returns whether the worker of each round went on while its offer was on its way."""
    return rounds["goes_on"] == 1 if "goes_on" in rounds else pd.Series(False, rounds.index)


def free_again_s(rounds: pd.DataFrame) -> "pd.Series[float]":
    """Returns when the worker of each round could go on: when its offer had arrived, or had begun to be sent."""
    return rounds["arrival_s"].mask(goes_on(rounds), rounds["push_start_s"])


def covered_until_s(last: pd.DataFrame, until_s: float) -> "pd.Series[float]":
    """Returns up to when the table of rounds tells of workers, from the last round of each.

    Args:
        last: Rounds.
        until_s: End of what goes on until the simulation ends.
    """
    return last["update_s"].mask(last["waited_to_end"] == 1, until_s).mask(goes_on(last), last["push_start_s"])


def blocked_s(rounds: pd.DataFrame) -> "pd.Series[float]":
    """Returns for how long the worker of each round waited between its steps."""
    return rounds["blocked_s"] if "blocked_s" in rounds else pd.Series(0.0, rounds.index)


def computing_s(rounds: pd.DataFrame) -> "pd.Series[float]":
    """Returns for how long the worker of each round computed."""
    return rounds["push_start_s"] - rounds["compute_start_s"] - blocked_s(rounds)


def _check(rounds: pd.DataFrame, workers: int, simulated_s: float) -> None:
    if workers < 1:
        raise RecordError(f"workers is {workers}, but a cluster has at least 1")
    strangers = rounds.loc[~rounds["worker"].between(0, workers - 1), "worker"]
    if len(strangers):
        raise RecordError(
            f"rounds: column 'worker' holds {strangers.iloc[0]}, but {workers} workers have the ids 0 to {workers - 1}"
        )
    late = rounds.loc[~(rounds["update_s"] <= simulated_s), ["round", "update_s"]]
    if len(late):
        raise RecordError(
            f"rounds: round {late['round'].iloc[0]} was processed at {late['update_s'].iloc[0]} s, after the end of "
            f"the simulation at {simulated_s} s: give the simulated time of the last event"
        )
