"""Length of a simulation, estimated from its budget and its cluster before anything is simulated."""

import math
from typing import NamedTuple

import numpy as np

from simulator.cluster.cluster import ClusterModel
from simulator.cluster.links import Link
from simulator.experiment import Experiment
from simulator.experiment.schema.policies import BarrierSynchronization

_LONG_STEPS, _LONG_EVALUATIONS = 1e7, 1e6
"""More than a host trains in hours, whatever the model's size."""


class Length(NamedTuple):
    """Upper estimates of a simulation's length: without faults, and without waiting except at a barrier.

    Of measured speeds they take the best.

    Attributes:
      local_steps: over all workers.
      rounds: likewise.
      evaluations: of the server's parameters.
    """

    local_steps: float
    rounds: float
    evaluations: float

    @property
    def is_long(self) -> bool:
        """Returns whether the simulation may take very long."""
        return self.local_steps > _LONG_STEPS or self.evaluations > _LONG_EVALUATIONS


def length_at_most(experiment: Experiment, cluster: ClusterModel, tokens_per_step: int = 1) -> Length:
    """Returns upper estimates of a simulation's length, until its budget ends it.

    Args:
      experiment: its budget, rounds and evaluations.
      cluster: durations of its rounds.
      tokens_per_step: of a local step.
    """
    budget, evaluate, synchronization = experiment.budget, experiment.evaluate, experiment.synchronization
    barrier = synchronization if isinstance(synchronization, BarrierSynchronization) else None
    sample = (barrier and barrier.sample) or cluster.workers
    per_update = sample if barrier else experiment.outer.arrivals_per_update
    step_s = cluster.step_s
    if cluster.trace is not None:
        step_s = step_s * [cluster.trace.fastest(worker) for worker in range(cluster.workers)]
    with np.errstate(all="ignore"):  # of rounds that take next to no time there are infinitely many
        steps_N = np.full(cluster.workers, experiment.inner.local_steps)
        if experiment.local_steps.kind == "dynamic":
            steps_N = np.maximum(1, steps_N * cluster.step_s.min() / cluster.step_s)
        round_s = steps_N * step_s + _transfers_s(cluster.down) + _transfers_s(cluster.up)
        if barrier:  # of as many as are drawn, the fastest at best
            round_s = np.full_like(round_s, min(np.sort(round_s)[sample - 1], barrier.timeout))
        rate = float((1 / round_s).sum()) * sample / cluster.workers
        steps = float(np.average(steps_N, weights=round_s.min() / round_s))  # of a round
    for work_s in (cluster.server_update_s / per_update, cluster.down.shared_s, cluster.up.shared_s):
        rate = min(rate, 1 / work_s) if work_s else rate
    rounds = min(
        (budget.local_steps or math.inf) / steps,
        (budget.tokens or math.inf) / tokens_per_step / steps,
        (budget.rounds or math.inf) * cluster.workers * experiment.schedule.fragments,
        (budget.server_updates or math.inf) * per_update,
        (budget.simulated_time or math.inf) * rate,
    )
    evaluations = rounds * steps / (evaluate.every_local_steps or math.inf)
    if evaluate.every_simulated:
        evaluations += min(budget.simulated_time or math.inf, rounds / rate) / evaluate.every_simulated
    return Length(rounds * steps, rounds, evaluations)


def _transfers_s(link: Link) -> np.ndarray:
    workers = range(len(link.latency_s))
    measured = [link.rates(worker) is not None for worker in workers]  # maybe faster at times
    return np.where(measured, link.latency_s, [link.transfer_s(worker) for worker in workers])
