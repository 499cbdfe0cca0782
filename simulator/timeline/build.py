"""Building the timeline of an experiment."""

from collections.abc import Sequence

from simulator.cluster import ClusterModel
from simulator.experiment import Experiment, registry
from simulator.experiment.schema.policies import (
    AsynchronousSynchronization,
    BarrierSynchronization,
    DynamicSteps,
    FixedSteps,
    NamedShards,
    NamedSteps,
    NamedSynchronization,
)
from simulator.timeline.config import TimelineConfig
from simulator.timeline.policies.local_steps import MeasuredSpeed, StepsChoice, dynamic_steps, fixed_steps
from simulator.timeline.policies.registered import RegisteredShards, RegisteredSteps, RegisteredSynchronization
from simulator.timeline.policies.shard_choice import FixedShard, LeastVisited, Proportional, ShardChoice
from simulator.timeline.policies.synchronization import Asynchronous, Barrier, SynchronizationPolicy
from simulator.timeline.timeline import Timeline


def timeline_of(experiment: Experiment, cluster: ClusterModel, shard_sizes: Sequence[int] | None = None) -> Timeline:
    """Returns the experiment's events, not yet run. They depend on the data only where shards are of different sizes.

    Args:
      experiment: whose events.
      cluster: their durations.
      shard_sizes: relative sizes of the shards; all equal when absent.

    Raises:
      PolicyError: a user-defined policy is not registered in this process, or refuses its arguments.
    """
    outer, budget, evaluate = experiment.outer, experiment.budget, experiment.evaluate
    steps, measured = _steps(experiment, cluster)
    config = TimelineConfig(
        synchronization=_synchronization(experiment),
        shard_choice=_shard_choice(experiment, shard_sizes or [1] * experiment.shards),
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
        measured=measured,
    )
    return Timeline(cluster, config)


def _synchronization(experiment: Experiment) -> SynchronizationPolicy:
    match experiment.synchronization:
        case BarrierSynchronization(timeout=timeout_s, quorum=quorum):
            return Barrier(timeout_s, quorum)
        case AsynchronousSynchronization(grace=grace_s):
            return Asynchronous(grace_s)
        case NamedSynchronization() as section:
            return RegisteredSynchronization(section.kind, registry.build(section))


def _shard_choice(experiment: Experiment, sizes: Sequence[int]) -> ShardChoice:
    section = experiment.shard_choice
    if isinstance(section, NamedShards):
        return RegisteredShards(section.kind, registry.build(section, sizes=tuple(sizes)))
    choices: dict[str, ShardChoice] = {
        "proportional": Proportional(sizes),
        "least_visited": LeastVisited(),
        "fixed": FixedShard(),
    }
    return choices[section.kind]


def _steps(experiment: Experiment, cluster: ClusterModel) -> tuple[list[int], StepsChoice | None]:
    """Returns the local steps of every worker, and the choice of them anew for each round, if any."""
    most = experiment.inner.local_steps
    fixed = fixed_steps(cluster.workers, most)
    match experiment.local_steps:
        case FixedSteps():
            return fixed, None
        case DynamicSteps(speed="measured"):
            return fixed, MeasuredSpeed(cluster.step_s, most)
        case DynamicSteps():
            return dynamic_steps(cluster.step_s, most), None
        case NamedSteps() as section:
            return fixed, RegisteredSteps(section.kind, registry.build(section, local_steps=most), cluster.step_s, most)
