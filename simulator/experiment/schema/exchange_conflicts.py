"""Conflicts of exchanges: slots that are valid one by one and make no sense together, with the reason."""

import math
from typing import Any

from simulator.experiment.schema.collectives import AllReduceTopology
from simulator.experiment.schema.exchanges import GraphTopology, RegionsTopology
from simulator.experiment.schema.offer_schedule import NamedSchedule
from simulator.experiment.schema.outer import NamedOuter, NoLoCoOuter, TableOuter
from simulator.experiment.schema.policies import (
    AsynchronousSynchronization,
    BarrierSynchronization,
    QuorumSynchronization,
)
from simulator.experiment.schema.section import Conflicts
from simulator.experiment.schema.worker_groups import group_mistakes


def exchange_conflicts(experiment: Any) -> Conflicts:
    """Yields the conflicts of the slots of an `Experiment`, each with its dotted key."""
    yield from _schedule(experiment)
    yield from _topology(experiment)
    yield from _merge(experiment)
    yield from _meetings(experiment)
    yield from _sample(experiment)
    if experiment.inner.pull is not None:
        yield from _pull(experiment)
    if experiment.evaluate.of == "experts":
        yield from _experts(experiment)
    if experiment.inner.micro_batches is not None:
        yield from _micro_batches(experiment)


def _experts(experiment: Any) -> Conflicts:
    topology, shards, workers = experiment.topology, experiment.shards, experiment.cluster.workers
    if topology.kind != "nobody":
        yield "evaluate.of", f"needs workers with models of their own ({topology.kind}): choose topology.kind: nobody"
    if getattr(getattr(experiment.data, "partition", None), "kind", None) != "routed":
        yield "evaluate.of", "asks routers, and there are none: choose data.partition.kind: routed"
    if shards != workers:
        yield "data.shards", f"must be as many as workers, {workers}, where each is an expert (evaluate.of)"
    if experiment.shard_choice.kind != "fixed":
        yield "shard_choice.kind", "must be fixed where each worker is the expert of its shard (evaluate.of)"


def _pull(experiment: Any) -> Conflicts:
    for key, there in (
        ("schedule", not experiment.schedule.waits),
        ("merge.kind", experiment.merge.kind != "overwrite"),
        ("cluster.faults", experiment.cluster.faults is not None),
    ):
        if there:
            yield key, "beside inner.pull is not built: leave out one of them"


def _sample(experiment: Any) -> Conflicts:
    sample, topology = getattr(experiment.synchronization, "sample", None), experiment.topology
    if sample is None:
        return
    key, workers = "synchronization.sample", experiment.cluster.workers
    smallest = _smallest_region(experiment) if isinstance(topology, RegionsTopology) else workers
    if sample > smallest:
        whose = "workers" if topology.kind == "server" else "workers of the smallest region"
        yield key, f"is more than there are {whose}, {smallest}: choose fewer"
    if not topology.has_server:
        yield key, f"is drawn by a server, and there is none ({topology.kind}): leave it out"
    if not experiment.schedule.waits:
        yield key, "draws workers that wait for their next round, and with schedule they go on: leave out one of them"
    if experiment.merge.has_outer:
        yield (
            key,
            f"leaves workers without answers: they drift apart for good where merge is {experiment.merge.kind}",
        )


def _smallest_region(experiment: Any) -> int:
    """Returns the number of workers of the smallest region."""
    cluster = experiment.cluster
    return min(map(len, experiment.topology.members(cluster)), default=cluster.workers)


def _micro_batches(experiment: Any) -> Conflicts:
    adapt = experiment.inner.micro_batches.threshold is not None
    reason = "beside inner.micro_batches is not built: leave out one of them"
    if experiment.schedule.seconds is not None:
        yield "schedule.seconds", reason
    if experiment.inner.stages is not None:
        yield "inner.stages", reason
    for key, there in (
        ("schedule", not experiment.schedule.waits),
        ("topology.kind", not experiment.topology.has_server),
        ("local_steps.kind", experiment.local_steps.kind != "fixed"),
        ("cluster.faults", experiment.cluster.faults is not None),
    ):
        if adapt and there:
            yield key, reason.replace("micro_batches", "micro_batches.threshold")


def _schedule(experiment: Any) -> Conflicts:
    schedule, most = experiment.schedule, experiment.inner.local_steps
    if schedule.layers is not None:
        yield from _layers(experiment, schedule.layers)
    elif schedule.fragments > most:
        yield "schedule.fragments", f"is more than inner.local_steps, which is {most}: one is offered after a step"
    if schedule.overlap > most:
        yield "schedule.overlap", f"is more than inner.local_steps, which is {most}: accept before the next offer"
    if schedule.offsets is not None and max(schedule.offsets, default=0) >= most:
        yield "schedule.offsets", f"must stay below inner.local_steps, which is {most}"
    if isinstance(schedule, NamedSchedule):
        yield from ((f"schedule.{key}", message) for key, message in schedule.mistakes(most))
    if schedule.waits:
        return
    if experiment.local_steps.kind != "fixed":
        message = "must be fixed where workers go on by themselves: leave it out, or schedule"
        yield "local_steps.kind", message
    synchronization = experiment.synchronization
    if isinstance(synchronization, AsynchronousSynchronization) and synchronization.grace == math.inf:
        message = "would wait for workers that go on meanwhile: give a time, or synchronization.kind: barrier"
        yield "synchronization.grace", message


def _layers(experiment: Any, layers: int) -> Conflicts:
    known = getattr(experiment.model, "layers", None)
    if known not in (None, layers):
        yield "schedule.layers", f"must be those of the model, {known}"
    for key, there in (
        ("cluster.faults", experiment.cluster.faults is not None),
        ("inner.pull", experiment.inner.pull is not None),
        ("inner.stages", experiment.inner.stages is not None),
    ):
        if there:
            yield key, "beside schedule.layers is not built: leave out one of them"


def _topology(experiment: Any) -> Conflicts:
    topology, workers = experiment.topology, experiment.cluster.workers
    if isinstance(topology, RegionsTopology):
        yield from _regions(experiment, topology, workers)
    if isinstance(topology, GraphTopology) and isinstance(topology.edges, tuple):
        unknown = [edge for edge in topology.edges if max(edge) >= workers or edge[0] == edge[1]]
        if unknown:
            yield "topology.edges", f"has {list(unknown[0])}, which joins no two of the workers 0 to {workers - 1}"
    if isinstance(topology, AllReduceTopology):
        yield from _all_reduce(experiment, topology)
        yield from _without_server(experiment)
    if topology.has_server:
        return
    among = f"of workers that meet without a server ({topology.kind}) is not built: leave it out"
    if not experiment.schedule.waits:
        yield "schedule", among
    plain = isinstance(experiment.synchronization, BarrierSynchronization) and (
        experiment.synchronization.timeout == math.inf and experiment.synchronization.quorum == 1
    )
    if not plain:
        yield (
            "synchronization",
            f"must be a barrier without a timeout where there is no server ({topology.kind})",
        )
    if experiment.merge.kind != "overwrite":
        yield "merge", f"{among}; the outer optimizer of each worker does what it would"
    yield from _without_server(experiment)
    faults = experiment.cluster.faults
    if faults is not None and faults.message_loss is not None:
        yield "cluster.faults.message_loss", among


def _without_server(experiment: Any) -> Conflicts:
    kind, cluster, faults = experiment.topology.kind, experiment.cluster, experiment.cluster.faults
    for key, value in (
        ("evaluate.takes", experiment.evaluate.takes),
        ("cluster.server_update_time", cluster.server_update_time),
        ("cluster.server_price_per_hour", cluster.server_price_per_hour or 0.0),
        ("cluster.network.server_link", cluster.network.server_link is not None),
    ):
        if value > 0:
            yield key, f"is of a server, and there is none ({kind}): leave it out"
    yield from _links_without_server(experiment)
    if faults is None:
        return
    if faults.server_outages is not None or any(event.worker == "server" for event in faults.trace or ()):
        yield "cluster.faults", "has outages of the server, and there is none: leave them out"


def _all_reduce(experiment: Any, topology: AllReduceTopology) -> Conflicts:
    synchronization, cluster, faults = experiment.synchronization, experiment.cluster, experiment.cluster.faults
    if topology.groups is not None:
        yield from (("topology.groups", mistake) for mistake in group_mistakes(topology.groups, cluster, "groups"))
    if cluster.network.sites:
        yield from _follows_from_sites(topology, "groups")
        yield from _sites_that_all_reduce(cluster.network)
    if not isinstance(synchronization, BarrierSynchronization | QuorumSynchronization):
        message = "must be a barrier or a quorum where workers all-reduce, which takes the offers of several at once"
        yield "synchronization.kind", message
    if getattr(synchronization, "timeout", math.inf) < math.inf and not experiment.schedule.waits:
        message = "has workers come too late for an all-reduce, who go on with schedule: leave out one of them"
        yield "synchronization.timeout", message
    if getattr(synchronization, "sample", None) is not None:
        yield "synchronization.sample", "of workers that all-reduce is not built: leave it out"
    if getattr(synchronization, "adaptive", None) is not None:
        yield "synchronization.adaptive", "asks how long answers take, and an all-reduce has none: leave it out"
    if faults is not None:
        if faults.message_loss is not None:
            yield "cluster.faults.message_loss", "is of single messages, and an all-reduce has steps: leave it out"
        if faults.link_outages is not None or any(event.event == "disconnect" for event in faults.trace or ()):
            yield "cluster.faults", "has outages of links, which is not built of an all-reduce: leave them out"


def _links_without_server(experiment: Any) -> Conflicts:
    network, kind = experiment.cluster.network, experiment.topology.kind
    if not network.sites:
        return
    if network.server_site is not None:
        yield "cluster.network.server_site", f"is of a server, and there is none ({kind}): leave it out"
    for name in ("down.latency", "down.bandwidth", "down.efficiency", "up.latency", "up.bandwidth", "up.efficiency"):
        which, _, value = name.partition(".")
        if getattr(getattr(network, which), value) is not None:
            message = f"is of links with a server, and there is none ({kind}): sites say what the way between two is"
            yield f"cluster.network.{name}", message


def _regions(experiment: Any, topology: RegionsTopology, workers: int) -> Conflicts:
    mistakes = group_mistakes(topology.regions, experiment.cluster, "regions")
    yield from (("topology.regions", mistake) for mistake in mistakes)
    if experiment.cluster.network.sites:
        yield from _follows_from_sites(topology, "regions")
        if experiment.cluster.network.server_link is not None:
            yield "cluster.network.server_link", "of regions at sites is not built: give the sites an uplink"
    if experiment.schedule.fragments > 1:
        yield "schedule.fragments", "of regions is not built: leave it out, or topology"
    if experiment.merge.has_outer:
        yield "merge.kind", "puts the outer optimizer at the workers, and a region's server needs one: choose another"
    if experiment.evaluate.takes > 0:
        yield "evaluate.takes", "of regions is not built: leave it out"
    if topology.outer.delay_compensation > 0:
        yield "topology.outer.delay_compensation", "of regions is not built: leave it out"
    if topology.outer.non_finite == "fatal":
        yield "topology.outer.non_finite", "is told of rounds alone: choose another, and outer.non_finite: fatal"
    synchronization, smallest = experiment.synchronization, _smallest_region(experiment)
    if isinstance(synchronization, QuorumSynchronization) and synchronization.offers > smallest:
        yield "synchronization.offers", f"is more than the workers of the smallest region, {smallest}: choose fewer"


def _sites_that_all_reduce(network: Any) -> Conflicts:
    between = () if network.between is None else (network.between, *network.between.pairs)
    if any(section.price_per_gigabyte is not None for section in (*between, *network.sites.values())):
        message = "differs from site to site, which is not built of an all-reduce: give network.price_per_gigabyte"
        yield "cluster.network.between.price_per_gigabyte", message
    for site, own in network.sites.items():
        if own.uplink is not None:
            message = "is shared by single messages, and an all-reduce has steps: leave it out, or give `between` less"
            yield f"cluster.network.sites.{site}.uplink", message


def _follows_from_sites(topology: RegionsTopology | AllReduceTopology, groups: str) -> Conflicts:
    """Yields the conflicts of a topology beside sites, from which its groups, under a key, and their links follow."""
    if getattr(topology, groups) not in ("sites", None):
        yield f"topology.{groups}", "must be `sites` where cluster.network has sites: these have links between them"
    for name in ("latency", "bandwidth"):
        if getattr(topology, name) != type(topology).model_fields[name].default:
            yield f"topology.{name}", "follows from cluster.network.sites: leave it out"


def _merge(experiment: Any) -> Conflicts:
    merge, schedule = experiment.merge, experiment.schedule
    if merge.kind == "eager":
        fits = schedule.fragments == 1 and schedule.overlap == experiment.inner.local_steps and schedule.seconds is None
        if not fits:
            most = experiment.inner.local_steps
            yield "schedule.overlap", f"must be inner.local_steps, {most}, where merge is eager: a round later"
    if not merge.has_outer:
        return
    synchronization = experiment.synchronization
    if not isinstance(synchronization, BarrierSynchronization) or synchronization.timeout < math.inf:
        reason = f"where merge is {merge.kind}: workers that miss an answer would drift apart for good"
        yield "synchronization", f"must be a barrier without a timeout {reason}"
    if experiment.outer.arrivals_per_update > 1:
        yield (
            "outer.arrivals_per_update",
            "buffers at a server, and merge has the outer optimizer at the workers",
        )
    if experiment.aggregation.kind == "fold":
        message = "takes an outer step for each offer, and merge has the outer optimizer at the workers: choose mean"
        yield "aggregation.kind", message
    if experiment.view.kind != "parameters":
        yield "view.kind", "is of a server with parameters, and merge has them at the workers alone: leave it out"


def _meetings(experiment: Any) -> Conflicts:
    synchronization, workers = experiment.synchronization, experiment.cluster.workers
    folds = experiment.aggregation.kind == "fold"
    if isinstance(synchronization, QuorumSynchronization) and synchronization.offers > workers:
        yield "synchronization.offers", f"is more than there are workers, {workers}: choose fewer"
    if getattr(synchronization, "adaptive", None) is not None:
        if not experiment.schedule.overlap:
            message = "is a share of the time that schedule.overlap leaves, which is none: leave it out, or overlap"
            yield "synchronization.adaptive", message
        if not synchronization.window:
            yield "synchronization.window", "is the longest of the adaptive ones, and none: give it, or leave them out"
    if experiment.aggregation.kind != "mean" and isinstance(synchronization, AsynchronousSynchronization):
        message = "has no effect where each arrival is an update by itself: choose a barrier or a quorum"
        yield "aggregation.kind", message
    outer = experiment.outer
    if isinstance(outer, TableOuter):
        if experiment.synchronization.averages_group and not folds:
            message = "needs each worker's offer by itself: choose synchronization.kind: asynchronous, or a fold"
            yield "outer.optimizer", message
        if outer.workers < workers:
            yield "outer.workers", f"is less than there are workers, {workers}: give `workers`"
    if isinstance(outer, NoLoCoOuter) and not experiment.offer.weights:
        yield "offer.weights", "must be true where outer is noloco, whose step is towards the others' parameters"
    if not experiment.offer.weights:
        return
    if isinstance(synchronization, AsynchronousSynchronization):
        yield "offer.weights", "has no effect where each arrival is an update by itself: leave it out"
    elif not (isinstance(outer, NoLoCoOuter | NamedOuter) or (outer.delay_compensation and folds)):
        yield "offer.weights", f"has no effect on {outer.optimizer}: leave it out, or choose outer.optimizer: noloco"
