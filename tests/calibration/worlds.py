"""Clusters as somebody would measure them who only sees when rounds and transfers began and ended."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from simulator.calibration import Observations
from simulator.cluster import ClusterModel, build_cluster, nanoseconds, seconds
from simulator.experiment.schema.cluster import Cluster

SHARES = (1.0, 1 / 3, 1 / 10)


def model_of(section: dict[str, Any], seed: int = 0) -> ClusterModel:
    return build_cluster(Cluster.model_validate(section), parameters=250_000, flops_per_step=1.0, seed=seed)


def measured(section: dict[str, Any], length_s: float, steps: int = 10, seed: int = 0) -> Observations:
    """Rounds and transfers of workers that compute, send, receive and begin again, for a time."""
    model, rounds, transfers = model_of(section, seed), [], []
    for worker in range(model.workers):
        jitter, pace, now_ns = model.jitter_stream(worker), model.pace(worker), 0.0
        for share in itertools.cycle(SHARES):
            work_ns = nanoseconds(model.compute_s(worker, steps, model.jitter_factor(jitter)))
            start_ns, now_ns = now_ns, now_ns + work_ns if pace is None else pace.finished_ns(now_ns, work_ns)
            rounds.append((0, worker, start_ns / 1e9, now_ns / 1e9, (now_ns - start_ns) / 1e9, steps))
            for direction, link in (("up", model.up), ("down", model.down)):
                alone_ns = nanoseconds(link.transfer_s(worker, share))
                end_ns = link.arrival_ns(
                    worker, now_ns, alone_ns, share, () if model.faults is None else (model.faults.link(worker),)
                )
                sent = seconds(now_ns), seconds(end_ns - now_ns), link.size(share)
                transfers.append((0, worker, direction, *sent))
                now_ns = end_ns
            if now_ns > 1e9 * length_s:
                break
    columns = ["source", "worker", "start_s", "end_s", "seconds", "steps"]
    of_transfers = ["source", "worker", "direction", "start_s", "seconds", "bytes"]
    return Observations(
        ("a world",),
        tuple(str(worker) for worker in range(model.workers)),
        pd.DataFrame(rounds, columns=columns),
        pd.DataFrame(transfers, columns=of_transfers),
    )


def log_of(folder: Path, rows: list[tuple[Any, ...]], columns: str, name: str = "log.csv") -> Path:
    path = folder / name
    lines = [columns, *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def noisy(observations: Observations, sigma_s: float, seed: int = 0) -> Observations:
    """The same with noise on the time of every transfer."""
    random = np.random.default_rng(seed)
    longer = observations.transfers["seconds"] + sigma_s * np.abs(random.standard_normal(len(observations.transfers)))
    return observations._replace(transfers=observations.transfers.assign(seconds=longer))
