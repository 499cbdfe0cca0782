"""Building the timeline of an experiment."""

from collections.abc import Sequence

from simulator.cluster import ClusterModel, MessageShares, Pulls, nanoseconds, offered_fragments
from simulator.experiment import Experiment, registry
from simulator.experiment.schema.exchanges import (
    GraphTopology,
    GroupsTopology,
    NamedTopology,
    NobodyTopology,
    RegionsTopology,
)
from simulator.experiment.schema.offer_schedule import NamedSchedule
from simulator.experiment.schema.policies import (
    AsynchronousSynchronization,
    BarrierSynchronization,
    DynamicSteps,
    FixedSteps,
    NamedShards,
    NamedSteps,
    NamedSynchronization,
    QuorumSynchronization,
)
from simulator.timeline.config import Peers, Regions, TimelineConfig
from simulator.timeline.policies.local_steps import MeasuredSpeed, StepsChoice, dynamic_steps, fixed_steps
from simulator.timeline.policies.norm_test import NormTest
from simulator.timeline.policies.registered import RegisteredShards, RegisteredSteps, RegisteredSynchronization
from simulator.timeline.policies.shard_choice import FixedShard, LeastVisited, Proportional, ShardChoice
from simulator.timeline.policies.synchronization import Asynchronous, Barrier, Quorum, SynchronizationPolicy
from simulator.timeline.policies.window import AdaptiveWindow
from simulator.timeline.schedule import Schedule
from simulator.timeline.timeline import Timeline
from simulator.timeline.topology import graph, groups_of, registered


def timeline_of(
    experiment: Experiment,
    cluster: ClusterModel,
    shard_sizes: Sequence[int] | None = None,
    shares: MessageShares | None = None,
    tokens_per_step: int = 1,
) -> Timeline:
    """Returns the experiment's events, not yet run. They depend on the data only where shards are of different sizes.

    Args:
      experiment: whose events.
      cluster: their durations.
      shard_sizes: relative sizes of the shards; all equal when absent.
      shares: sizes of the messages; fragments are all alike, and nothing is compressed, when absent.
      tokens_per_step: of a local step with one micro-batch, for a budget of tokens.

    Raises:
      PolicyError: a user-defined policy is not registered in this process, or refuses its arguments.
    """
    outer, budget, evaluate = experiment.outer, experiment.budget, experiment.evaluate
    steps, measured = _steps(experiment, cluster)
    schedule = experiment.schedule
    fragments = offered_fragments(schedule, experiment.inner.local_steps)
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
        budget_tokens=budget.tokens,
        budget_offers=None if budget.rounds is None else budget.rounds * cluster.workers * schedule.fragments,
        tokens_per_step=tokens_per_step,
        evaluate_every_steps=evaluate.every_local_steps,
        evaluate_every_s=evaluate.every_simulated,
        evaluation_s=evaluate.takes,
        measured=measured,
        schedule=Schedule(fragments.offsets, schedule.overlap, schedule.seconds, fragments.layers),
        interval=schedule.interval() if isinstance(schedule, NamedSchedule) else None,
        regions=_regions(experiment),
        peers=_peers(experiment),
        shares=(shares or _alike(schedule.fragments)).in_order(fragments.order),
        merges=experiment.merge.kind != "overwrite",
        has_copy=not experiment.merge.has_outer,
        is_eager=experiment.merge.kind == "eager",
        pulls=Pulls.of(experiment),
        micro_batches=_micro_batches(experiment),
        own_batches=cluster.timed_batches,
    )
    return Timeline(cluster, config)


def _micro_batches(experiment: Experiment) -> NormTest:
    section = experiment.inner.micro_batches
    return NormTest() if section is None else NormTest(section.start, section.threshold, section.room)


def _alike(fragments: int) -> MessageShares:
    return MessageShares((1 / fragments,) * fragments, (1 / fragments,) * fragments)


def _regions(experiment: Experiment) -> Regions | None:
    topology, workers = experiment.topology, experiment.cluster.workers
    if not isinstance(topology, RegionsTopology):
        return None
    of = {worker: region for region, members in enumerate(topology.members(experiment.cluster)) for worker in members}
    counts = topology.outer.arrivals_per_update, getattr(topology.outer.staleness, "drop_above", None)
    return Regions(tuple(of[worker] for worker in range(workers)), topology.every_versions, *counts)


def _peers(experiment: Experiment) -> Peers | None:
    workers = experiment.cluster.workers
    match experiment.topology:
        case GroupsTopology(size=size):
            return groups_of(workers, size, experiment.seed)
        case GraphTopology() as topology:
            return graph(workers, topology.pairs(workers))
        case NamedTopology() as named:
            return registered(named.kind, registry.build(named, workers=workers), workers)
        case NobodyTopology():
            return groups_of(workers, 1, experiment.seed)
    return None


def _synchronization(experiment: Experiment) -> SynchronizationPolicy:
    match experiment.synchronization:
        case BarrierSynchronization(timeout=timeout_s, quorum=quorum, sample=sample):
            return Barrier(timeout_s, quorum, sample)
        case AsynchronousSynchronization(grace=grace_s):
            return Asynchronous(grace_s)
        case QuorumSynchronization(offers=offers, window=window_s, adaptive=adaptive):
            if adaptive is None:
                return Quorum(offers, window_s)
            overlap, update_ns = experiment.schedule.overlap, nanoseconds(experiment.cluster.server_update_time)
            return Quorum(offers, window_s, AdaptiveWindow(overlap, adaptive.share, adaptive.weight, update_ns))
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
