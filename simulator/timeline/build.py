"""From an experiment to its events."""

from collections.abc import Sequence

from simulator.cluster import ClusterModel
from simulator.experiment import Experiment
from simulator.experiment.schema import AsynchronousSynchronization, BarrierSynchronization, DynamicSteps
from simulator.timeline.policies import (
    Asynchronous,
    Barrier,
    MeasuredSpeed,
    Synchronization,
    dynamic_steps,
    fixed_steps,
)
from simulator.timeline.shards import LeastVisited, OwnShard, Proportional, ShardChoice
from simulator.timeline.timeline import Timeline, TimelineConfig


def timeline_of(experiment: Experiment, cluster: ClusterModel, shard_sizes: Sequence[int] | None = None) -> Timeline:
    """Returns the experiment's events, not yet run. They depend on the data only where shards are of different sizes.

    Args:
      experiment: whose events.
      cluster: what they cost.
      shard_sizes: relative sizes of the shards; all equal when absent.
    """
    inner, outer, budget, evaluate = experiment.inner, experiment.outer, experiment.budget, experiment.evaluate
    choices: dict[str, ShardChoice] = {
        "proportional": Proportional(shard_sizes or [1] * experiment.shards),
        "least_visited": LeastVisited(),
        "fixed": OwnShard(),
    }
    match experiment.synchronization:
        case BarrierSynchronization(timeout=timeout_s, quorum=quorum):
            policy: Synchronization = Barrier(timeout_s, quorum)
        case AsynchronousSynchronization(grace=grace_s):
            policy = Asynchronous(grace_s)
    dynamic = isinstance(experiment.local_steps, DynamicSteps)
    steps = (
        dynamic_steps(cluster.step_s, inner.local_steps) if dynamic else fixed_steps(cluster.workers, inner.local_steps)
    )
    by_measurement = isinstance(experiment.local_steps, DynamicSteps) and experiment.local_steps.speed == "measured"
    config = TimelineConfig(
        synchronization=policy,
        shard_choice=choices[experiment.shard_choice.kind],
        steps=steps,
        shards=experiment.shards,
        arrivals_per_update=outer.arrivals_per_update,
        drop_above=getattr(outer.staleness, "drop_above", None),
        budget_local_steps=budget.local_steps,
        budget_s=budget.simulated_time,
        budget_updates=budget.server_updates,
        evaluate_every_steps=evaluate.every_local_steps,
        evaluate_every_s=evaluate.every_simulated,
        evaluation_s=evaluate.takes,
        measured=MeasuredSpeed(cluster.step_s, inner.local_steps) if by_measurement else None,
    )
    return Timeline(cluster, config)
