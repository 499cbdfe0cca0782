"""Small runs for the tests of records and reports: a cluster in pure Python and a perplexity that decays."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from simulator.record import EvaluationLog, FaultLog, RoundLog, RunRecord, summarize_rounds

STEP_S = (0.58, 0.75, 1.51, 3.33)
BYTES_EACH_WAY = 400_000


def round_row(**changes: Any) -> dict[str, Any]:
    """One round of worker 0: waits 1 s, pulls 2 s, computes 10 s, pushes 3 s, is processed 4 s later."""
    row: dict[str, Any] = {
        "round": 0,
        "worker": 0,
        "shard": 0,
        "first_step": 0,
        "local_steps": 5,
        "pulled_version": 0,
        "version": 1,
        "staleness": 0,
        "outcome": "applied",
        "ready_s": 0.0,
        "pull_start_s": 1.0,
        "compute_start_s": 3.0,
        "push_start_s": 13.0,
        "arrival_s": 16.0,
        "update_s": 20.0,
        "train_loss": 2.5,
        "bytes_down": 100,
        "bytes_up": 50,
    }
    return row | changes


def round_log(rows: Sequence[dict[str, Any]]) -> RoundLog:
    log = RoundLog()
    for row in rows:
        log.append(**row)
    return log


def fault_log(rows: Sequence[tuple[Any, ...]]) -> FaultLog:
    """Each row is (time_s, worker, fault) or, with a mapping of further columns, (time_s, worker, fault, further)."""
    log = FaultLog()
    for time_s, worker, fault, *further in rows:
        log.append(time_s=time_s, worker=worker, fault=fault, **dict(*further))
    return log


def build_record(
    variant: str = "async Nesterov",
    *,
    seed: int = 0,
    step_s: Sequence[float] = STEP_S,
    barrier: bool = False,
    dynamic: bool = False,
    local_steps: int = 4000,
    perplexities: tuple[float, float] = (9.0, 6.0),
    transfer_s: float = 2.0,
    best_loss: float | None = None,
    overrides: dict[str, Any] | None = None,
    trainer: str = "batched",
    name: str = "quickstart",
) -> RunRecord:
    """A run of H = 50 local steps per round; perplexity decays over the local steps, a little differently per seed."""
    rounds, totals = _simulate(step_s, barrier, dynamic, local_steps, transfer_s, trainer)
    evaluations = EvaluationLog()
    start, final = perplexities
    noise = np.random.default_rng(seed)
    for index, (simulated_s, trained, version) in enumerate(totals):
        wobble = 0.0 if index == 0 else 0.02 * noise.standard_normal() + 0.03 * seed
        perplexity = final + (start - final) * math.exp(-4 * trained / local_steps) + wobble
        loss = math.nan if trainer == "null" else math.log(perplexity)
        evaluations.append(
            simulated_s=simulated_s,
            local_steps=trained,
            tokens=trained * 512,
            server_updates=version,
            bytes_sent=trained // 50 * 2 * BYTES_EACH_WAY,
            loss=loss,
            perplexity=math.exp(loss),
        )
    final_loss = None if trainer == "null" else loss
    summary = {
        "variant": variant,
        "seed": seed,
        "overrides": overrides or {},
        "final_perplexity": None if final_loss is None else math.exp(final_loss),
        "final_loss": final_loss,
        "best_loss": best_loss,
        "tokens": trained * 512,
        "host_seconds": 2.0,
        "tokens_per_host_second": trained * 256.0,
        "parameters": 100_000,
        "causal_hash": "c0ffee",
        "data_hash": "da7a",
        "versions": {"jax": "0.10.0"},
        "trainer": trainer,
    }
    frame = rounds.frame()
    experiment = {"name": name, "variant": variant, "seed": seed, "cluster": {"network": {"bandwidth": math.inf}}}
    summary |= summarize_rounds(frame, len(step_s), totals[-1][0])
    return RunRecord(experiment=experiment, summary=summary, rounds=frame, evaluations=evaluations.frame())


def like(record: RunRecord, variant: str, **changes: Any) -> RunRecord:
    """The same run under another name, and with other values in its summary: for tests of many runs."""
    summary = record.summary | {"variant": variant} | changes
    experiment = record.experiment | {"variant": variant, "seed": summary["seed"]}
    return replace(record, experiment=experiment, summary=summary)


def _simulate(
    step_s: Sequence[float], barrier: bool, dynamic: bool, local_steps: int, transfer_s: float, trainer: str
) -> tuple[RoundLog, list[tuple[float, int, int]]]:
    """The rounds, and (simulated s, local steps, server updates) at the start and about every 200 local steps."""
    workers = range(len(step_s))
    steps = [max(1, int(50 * min(step_s) / own_s)) if dynamic else 50 for own_s in step_s]
    log, totals = RoundLog(), [(0.0, 0, 0)]
    trained = version = dispatched = 0
    queue: list[tuple[float, int, int, tuple[float, ...], int]] = []

    def dispatch(worker: int, ready_s: float, start_s: float) -> None:
        nonlocal dispatched
        compute_start_s = start_s + transfer_s
        push_start_s = compute_start_s + steps[worker] * step_s[worker]
        times_s = (ready_s, start_s, compute_start_s, push_start_s)
        heapq.heappush(queue, (push_start_s + transfer_s, dispatched, worker, times_s, version))
        dispatched += 1

    for worker in workers:
        dispatch(worker, 0.0, 0.0)
    while trained < local_steps:
        group = [heapq.heappop(queue) for _ in (workers if barrier else range(1))]
        before, update_s = version, group[-1][0]
        version += 1
        for arrival_s, number, worker, times_s, pulled in group:
            trained += steps[worker]
            row = round_row(
                round=number,
                worker=worker,
                shard=worker,
                first_step=trained,
                local_steps=steps[worker],
                pulled_version=pulled,
                version=version,
                staleness=before - pulled,
                ready_s=times_s[0],
                pull_start_s=times_s[1],
                compute_start_s=times_s[2],
                push_start_s=times_s[3],
                arrival_s=arrival_s,
                update_s=update_s,
                train_loss=math.nan if trainer == "null" else 2.0,
                bytes_down=BYTES_EACH_WAY,
                bytes_up=BYTES_EACH_WAY,
            )
            log.append(**row)
        for arrival_s, _, worker, _, _ in group:
            dispatch(worker, arrival_s, update_s)
        if trained // 200 > totals[-1][1] // 200 or trained >= local_steps:
            totals.append((update_s, trained, version))
    return log, totals
