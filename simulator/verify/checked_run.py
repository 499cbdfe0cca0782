"""A record under verification, and violations of its rules."""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from simulator.cluster import ClusterModel, FaultModel, Nanoseconds, build_cluster, nanoseconds
from simulator.experiment import Experiment
from simulator.experiment.schema.exchanges import RegionsTopology
from simulator.experiment.schema.policies import BarrierSynchronization, NamedSynchronization
from simulator.host.errors import SettingError
from simulator.record import RunRecord


@dataclass(frozen=True)
class Violation:
    """A rule that does not hold.

    Attributes:
      table: "rounds", "evaluations", "faults" or "summary".
      row: which one of the table, counted from 0; None in the summary.
      rule: its name.
      message: the value, and the right one.
    """

    table: str
    row: int | None
    rule: str
    message: str

    def __str__(self) -> str:
        """Returns one line."""
        place = self.table if self.row is None else f"{self.table}, row {self.row}"
        return f"{place}: {self.rule}: {self.message}"


def violations(table: str, rule: str, wrong: npt.NDArray[Any], message: Callable[[int], str]) -> Iterator[Violation]:
    """Yields a violation for each row that is wrong."""
    for row in np.flatnonzero(wrong).tolist():
        yield Violation(table, row, rule, message(row))


def in_ns(time_s: float) -> Nanoseconds:
    """Returns a record's time in whole nanoseconds; infinity and NaN stay as they are."""
    return round(time_s * 1e9) if math.isfinite(time_s) else time_s


class Cost(NamedTuple):
    """Expected cost of a round.

    Attributes:
      compute_ns: its steps at full speed, with those that were cut off.
      steps: as many.
      lost_pulls, lost_pushes: messages.
    """

    compute_ns: Nanoseconds
    steps: int
    lost_pulls: int
    lost_pushes: int


class CheckedRun:
    """A record and the expectations that follow from its experiment.

    Attributes:
      rounds, evaluations, faults, summary: of the record.
      experiment: the record's.
      barrier: whether several rounds make an update; of a registered policy, whether several ever did.
      own_policy: whether the synchronization is not built in.
      length_s: of the simulation.
      eps_s: tolerance of equal times: less than a nanosecond, but for the rounding of times that are months long.
      update: number of the update that each round is part of, int64 of shape (rounds,).
      lost, cut: the faults' rows of rounds that never arrived, and of those that were cut off.
    """

    def __init__(self, record: RunRecord, experiment: Experiment):
        self.rounds, self.evaluations, self.summary = record.rounds, record.evaluations, record.summary
        self.faults = record.faults
        self.experiment = experiment
        self.own_policy = isinstance(experiment.synchronization, NamedSynchronization)
        self.barrier = self._several_at_once() if self.own_policy else experiment.synchronization.averages_group
        self.length_s = float(record.summary["simulated_seconds"])
        self.eps_s = max(0.5e-9, 4 * float(np.spacing(self.length_s)))
        self.lost = self.faults[self.faults["fault"] == "lost"]
        self.cut = self.faults[self.faults["fault"] == "cut"]
        self.update = self._updates()

    def _several_at_once(self) -> bool:
        applied = self.rounds.loc[self.rounds["outcome"] == "applied", "version"]
        return bool(applied.duplicated().any())

    def _updates(self) -> npt.NDArray[np.int64]:
        """Returns each round's update: its own without a barrier; with one, shared by the rounds applied together."""
        if not self.barrier or self.complete:
            return np.arange(len(self.rounds)) // (self.experiment.cluster.workers if self.barrier else 1)
        applied, same = self.column("outcome") == "applied", np.ones(max(len(self.rounds) - 1, 0), bool)
        for name in ("version", "update_s"):
            same &= self.column(name)[1:] == self.column(name)[:-1]
        begins = np.append(True, ~(same & applied[1:] & applied[:-1]))[: len(self.rounds)]
        return begins.cumsum() - 1

    @property
    def complete(self) -> bool:
        """Returns whether every update has a round of every worker."""
        synchronization = self.experiment.synchronization
        waits = isinstance(synchronization, BarrierSynchronization) and math.isinf(synchronization.timeout)
        return waits and self.experiment.cluster.faults is None

    def column(self, name: str) -> npt.NDArray[Any]:
        """Returns a column of the rounds."""
        return self.rounds[name].to_numpy()

    @functools.cached_property
    def fault_model(self) -> FaultModel | None:
        """Faults of the cluster, None without any."""
        section = self.experiment.cluster.faults
        if self.cluster is not None:
            return self.cluster.faults
        return None if section is None else FaultModel(section, self.experiment.seed)

    @functools.cached_property
    def cluster(self) -> ClusterModel | None:
        """The cluster's costs, None where devices are described by FLOP/s, which the record does not have."""
        try:
            parameters = int(self.summary["parameters"])
            seed, topology = self.experiment.seed, self.experiment.topology
            model = build_cluster(
                self.experiment.cluster,
                parameters=parameters,
                flops_per_step=math.nan,
                seed=seed,
                topology=topology if isinstance(topology, RegionsTopology) else None,
            )
        except SettingError:
            return None
        return model if np.isfinite(model.step_s).all() else None

    @functools.cached_property
    def costs(self) -> dict[int, Cost]:
        """Expected costs of rounds, by number: a worker's random numbers are used in the order of its rounds."""
        cluster = self.cluster
        if cluster is None:
            return {}
        columns = ["round", "worker", "local_steps"]
        tasks = pd.concat([self.rounds[columns], self.lost[columns]]).sort_values("round", kind="stable")
        tasks = tasks[tasks["worker"].between(0, cluster.workers - 1)]
        cut = self.cut.groupby("round")["local_steps"].sum()
        faults, workers = cluster.faults, range(cluster.workers)
        jitter = [cluster.jitter_stream(worker) if cluster.jitter else None for worker in workers]
        losses = [faults.loss_stream(worker) if faults and faults.loss else None for worker in workers]
        costs = {}
        for number, worker, left in tasks.itertuples(index=False):
            steps = int(left + cut.get(number, 0))
            compute_ns = nanoseconds(cluster.compute_s(worker, steps, cluster.jitter_factor(jitter[worker])))
            pulls, pushes = (faults.losses(losses[worker]) if faults else 0 for _ in range(2))
            costs[number] = Cost(compute_ns, steps, pulls, pushes)
        return costs
