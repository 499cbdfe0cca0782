"""Durations of the phases of a round in simulated time: pure functions of the cluster's description."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from simulator.cluster.collectives import Collective
from simulator.cluster.devices import step_seconds
from simulator.cluster.episodes import Episodes
from simulator.cluster.faults import FaultModel
from simulator.cluster.links import Link, NetworkCosts, SiteWays
from simulator.cluster.pipeline import pipeline_costs
from simulator.cluster.traces import PaceTrace, pace_of
from simulator.experiment.schema.cluster import Cluster
from simulator.experiment.schema.devices import TracedDevices
from simulator.experiment.schema.exchanges import Topology
from simulator.experiment.schema.inner import Inner
from simulator.experiment.schema.pipeline import PipelineTimes
from simulator.host.random_streams import numpy_stream


@dataclasses.dataclass(frozen=True)
class MessageShares:
    """Sizes of a method's messages, as shares of the model's: of each fragment, in the form that it is sent in.

    A copy of the whole model, with which a worker begins, has the share 1.

    Attributes:
      offers: from worker to server, one for each fragment.
      answers: from server to worker, likewise.
    """

    offers: tuple[float, ...] = (1.0,)
    answers: tuple[float, ...] = (1.0,)

    def in_order(self, order: Sequence[int]) -> "MessageShares":
        """Returns those of the fragments in another order."""
        return MessageShares(*(tuple(each[place] for place in order) for each in (self.offers, self.answers)))


@dataclasses.dataclass(frozen=True)
class ClusterModel:
    """Durations of a simulated worker's and server's work.

    Attributes:
      step_s: nominal seconds per local step, float64 of shape (workers,).
      jitter: sigma of the log-normal factor, of mean 1, on each round's compute time.
      down: server to worker.
      up: worker to server.
      server_update_s: seconds that the server needs for one outer step.
      seed: root of the random streams.
      faults: of the cluster, None without faults.
      regional: from each region's server to the upper one, by region; None without regions.
      regional_down: the way back; None where it is the same.
      ways: between workers without a server, by their sites; None without sites.
      sharing: of the links that several messages cross.
      fill_s: seconds by which a pipeline's first steps take longer, float64 of shape (workers,); None without.
      drains: whether pipelines are empty at the beginning of every round, and not of the first alone.
      overhead: part of the time of a local step with one micro-batch that further ones do not take again.
      collective: in which offers meet; None where messages bring them to a place.
      trace: of step times that were measured; None where they stay as they are.
      timed_batches: micro-batches of each worker's local step that takes `step_s`; one where absent.
    """

    step_s: np.ndarray
    jitter: float
    down: Link
    up: Link
    server_update_s: float
    seed: int
    faults: FaultModel | None = None
    regional: Link | None = None
    fill_s: np.ndarray | None = None
    drains: bool = False
    overhead: float = 0.0
    collective: Collective | None = None
    regional_down: Link | None = None
    ways: SiteWays | None = None
    sharing: Literal["queue", "fair"] = "queue"
    trace: PaceTrace | None = None
    timed_batches: tuple[int, ...] = ()

    @functools.cached_property
    def foresees_ends(self) -> bool:
        """Knowledge of transfers: whether their ends are known when they are requested, and not only a lower bound."""
        shared = (len(link.crossings(worker)) for link in (self.down, self.up) for worker in range(self.workers))
        return max(shared, default=0) <= (self.sharing == "queue")

    @property
    def workers(self) -> int:
        """Number of workers."""
        return len(self.step_s)

    @functools.cached_property
    def _step_s(self) -> list[float]:
        return [float(each_s) for each_s in self.step_s]

    @functools.cached_property
    def pace(self) -> Callable[[int], Episodes | None]:
        """Worker to the episodes in which its steps take another time; None where they never do."""
        disturbed = None if self.faults is None else self.faults.slowdowns
        return functools.cache(lambda worker: pace_of(worker, disturbed, self.trace))

    def jitter_stream(self, worker: int) -> np.random.Generator:
        """Returns the stream from which a worker's rounds draw their jitter, one number each."""
        return numpy_stream(self.seed, "jitter", worker)

    def jitter_factor(self, jitter: np.random.Generator | None) -> float:
        """Returns how many times as long as usual a round computes: the next number of a worker's `jitter_stream`."""
        if jitter is None or self.jitter == 0.0:
            return 1.0
        return float(np.exp(self.jitter * jitter.standard_normal() - self.jitter**2 / 2))

    def step_factor(self, worker: int, micro_batches: int | None) -> float:
        """Returns how many times `step_s` a worker's local step takes: affine in its micro-batches, 1 when None."""
        if micro_batches is None:
            return 1.0
        timed = self.timed_batches[worker] if self.timed_batches else 1
        return 1 + (1 - self.overhead) * (micro_batches / timed - 1)

    def compute_s(self, worker: int, steps: float, factor: float = 1.0, micro_batches: int | None = None) -> float:
        """Returns the duration of `steps` local steps in seconds: one product, not a sum of steps."""
        return steps * self._step_s[worker] * factor * self.step_factor(worker, micro_batches)

    def filling_s(self, worker: int, factor: float, *, is_first: bool) -> float:
        """Returns the seconds in which a worker's pipeline is filled before a round's steps, 0 where it is not empty.

        Args:
          worker: its number.
          factor: on the round's compute time.
          is_first: whether it is the worker's first round.
        """
        return float(self.fill_s[worker]) * factor if self.fill_s is not None and (is_first or self.drains) else 0.0


def build_cluster(
    cluster: Cluster,
    *,
    parameters: int,
    flops_per_step: float,
    seed: int,
    topology: Topology | None = None,
    inner: Inner | None = None,
    activations: float = math.nan,
    relative_to_s: float | None = None,
) -> ClusterModel:
    """Returns the cost model of a `cluster` section.

    Args:
      cluster: the section.
      parameters: of the model, all of which a pull or push carries unless the file gives a message size.
      flops_per_step: floating-point operations of a local step of one micro-batch, for devices described by FLOP/s.
      seed: the experiment's seed.
      topology: of the workers; one server when absent.
      inner: the `inner` section, of workers that are pipelines, or have micro-batches or batches of their own.
      activations: elements that a local step sends from each of their stages to the next; NaN where unknown.
      relative_to_s: seconds of a local step on a device of relative speed 1; None where the section says it.

    Raises:
      SettingError: a device is described by a name that is not known.
    """
    timed_batches: tuple[int, ...] = ()
    if inner is not None and inner.has_unequal_batches:
        timed_batches = tuple(inner.first_micro_batches(worker) for worker in range(cluster.workers))
    flops = flops_per_step * np.array(timed_batches or (1,) * cluster.workers)
    step_s = step_seconds(cluster.devices, flops_per_step=flops, seed=seed, relative_to_s=relative_to_s)
    faults = None if cluster.faults is None else FaultModel(cluster.faults, seed)
    fill_s = None
    if inner is not None and inner.stages is not None:
        times = cluster.pipeline or PipelineTimes()
        step_s, fill_s = pipeline_costs(inner.stages, times, step_s, activations)
    links = NetworkCosts(cluster, parameters, topology, faults)
    return ClusterModel(
        step_s=step_s,
        jitter=cluster.devices.jitter,
        down=links.link("down"),
        up=links.link("up"),
        server_update_s=cluster.server_update_time,
        seed=seed,
        faults=faults,
        regional=links.regional("up"),
        regional_down=links.regional("down"),
        ways=links.ways(),
        sharing=cluster.network.sharing,
        fill_s=fill_s,
        drains=inner is not None and inner.state == "reset",
        overhead=0.0 if inner is None or inner.micro_batches is None else inner.micro_batches.overhead,
        collective=links.collective(),
        trace=_step_trace(cluster),
        timed_batches=timed_batches,
    )


def _step_trace(cluster: Cluster) -> PaceTrace | None:
    devices = cluster.devices
    if not isinstance(devices, TracedDevices):
        return None
    rows = ((row.worker, row.time, row.seconds_per_step) for row in devices.trace)
    return PaceTrace(rows, devices.repeat_every)
