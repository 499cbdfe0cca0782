"""Task of the processes of a real run: an experiment, and the speeds and links that are imposed on its workers."""

import functools
import json
from math import inf
from pathlib import Path
from typing import Any

from simulator.cluster import ClusterModel, Link, MessageShares
from simulator.experiment import Experiment
from simulator.experiment.schema.cluster import Cluster
from simulator.experiment.schema.policies import AsynchronousSynchronization, BarrierSynchronization
from simulator.host.errors import SettingError
from simulator.learning import Setup
from simulator.simulation.checks import cluster_of
from simulator.timeline import timeline_of
from simulator.timeline.config import TimelineConfig


class Task:
    """All that a real run is made from.

    Args:
      experiment: whose cluster is what is known of it: by it workers get their steps, and a window's end is foreseen.
      imposed: the cluster that the processes act.
      folder: of the record.

    Attributes:
      setup: data, model and programs.
      folder: of the record.

    Raises:
      SettingError: the experiment has something that is not built here.
    """

    def __init__(self, experiment: Experiment, imposed: Cluster, folder: Path):
        self.experiment, self.folder, self._imposed = experiment, folder, imposed
        self.setup = Setup(experiment)
        for key, value, there, instead in _not_built(experiment):
            if there:
                raise SettingError(key, value, f"is not built for real runs: {instead}")

    def write(self, file: Path) -> None:
        """Writes the task for the processes to read."""
        content = {"experiment": self.experiment, "imposed": self._imposed}
        plain: dict[str, Any] = {name: section.model_dump(mode="json") for name, section in content.items()}
        file.write_text(json.dumps(plain | {"folder": str(self.folder)}), encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> "Task":
        """Reads a task."""
        content = json.loads(file.read_text(encoding="utf-8"))
        experiment = Experiment.model_validate(content["experiment"])
        return cls(experiment, Cluster.model_validate(content["imposed"]), Path(content["folder"]))

    @functools.cached_property
    def known(self) -> ClusterModel:
        """Costs of the cluster as far as they are known."""
        return cluster_of(self.experiment, self.setup.costs)

    @functools.cached_property
    def imposed(self) -> ClusterModel:
        """Costs that the processes act."""
        acted = self.experiment.model_copy(update={"cluster": self._imposed})
        return cluster_of(acted, self.setup.costs)

    @functools.cached_property
    def shares(self) -> MessageShares:
        """Sizes of messages."""
        return MessageShares(*map(tuple, self.setup.exchanges.shares))

    @functools.cached_property
    def config(self) -> TimelineConfig:
        """Policies of the method: local steps, shards, synchronization, schedule, and the budget."""
        return timeline_of(self.experiment, self.known, self.setup.shard_sizes, self.shares).config


def link_costs(link: Link, worker: int) -> tuple[float, float]:
    """Returns latency in seconds and bandwidth in bytes per second of a worker's link."""
    transmission_s = float(link.transmission_s[worker])
    return float(link.latency_s[worker]), link.message_bytes / transmission_s if transmission_s else inf


def _not_built(experiment: Experiment) -> list[tuple[str, Any, bool, str]]:
    """Returns keys and values, whether each is something that is not built, and what is."""
    synchronization, schedule, merge = experiment.synchronization, experiment.schedule, experiment.merge
    built = AsynchronousSynchronization | BarrierSynchronization
    cluster, budget = experiment.cluster, experiment.budget
    own = experiment.shard_choice.kind == "fixed" and experiment.shards == cluster.workers
    sampled, timeout_s = (getattr(synchronization, name, None) for name in ("sample", "timeout"))
    some = sampled is not None or timeout_s not in (None, inf)
    return [
        ("synchronization.kind", synchronization.kind, not isinstance(synchronization, built), "barrier, asynchronous"),
        ("synchronization", synchronization.kind, some, "a barrier of all workers, without a timeout"),
        ("schedule.kind", schedule.kind, schedule.kind != "periodic", "periodic"),
        ("schedule.fragments", schedule.fragments, schedule.fragments > 1, "whole models"),
        ("schedule.seconds", schedule.seconds, schedule.seconds is not None, "offers every H steps"),
        ("topology.kind", experiment.topology.kind, experiment.topology.kind != "server", "one server"),
        ("compression.kind", experiment.compression.kind, experiment.compression.kind != "none", "none"),
        ("offer", experiment.offer, experiment.offer.weights, "offers without weights"),
        ("view.kind", experiment.view.kind, experiment.view.kind != "parameters", "parameters"),
        ("merge.kind", merge.kind, merge.has_outer, "merges without an outer optimizer at the worker"),
        ("merge.kind", merge.kind, schedule.waits and merge.kind != "overwrite", "overwrite, without an overlap"),
        ("outer.arrivals_per_update", None, experiment.outer.arrivals_per_update > 1, "an update for each arrival"),
        ("outer.staleness", None, getattr(experiment.outer.staleness, "drop_above", None) is not None, "no dropping"),
        ("outer.non_finite", experiment.outer.non_finite, experiment.outer.non_finite != "reject", "reject"),
        ("shard_choice.kind", experiment.shard_choice.kind, not own, "fixed, and a shard for each worker"),
        ("inner.state", experiment.inner.state, experiment.inner.state != "keep", "keep"),
        ("inner.pull", None, experiment.inner.pull is not None, "none"),
        ("inner.stages", None, experiment.inner.stages is not None, "workers that are no pipelines"),
        ("inner.micro_batches", None, experiment.inner.micro_batches is not None, "one batch in a step"),
        ("cluster.faults", None, cluster.faults is not None, "none"),
        ("cluster.devices.jitter", cluster.devices.jitter, cluster.devices.jitter > 0, "the machine's own alone"),
        ("cluster.network.server_link", None, cluster.network.server_link is not None, "links of workers alone"),
        ("budget.simulated_time", budget.simulated_time, budget.simulated_time is not None, "local steps or updates"),
        ("evaluate.every_simulated", None, experiment.evaluate.every_simulated is not None, "by local steps"),
        ("evaluate.takes", experiment.evaluate.takes, experiment.evaluate.takes > 0, "evaluations after the run"),
        ("evaluate.per_shard", None, experiment.evaluate.per_shard, "one loss"),
    ]
