"""Notes on settings that have no effect, or another one than may be thought: reported, not refused.

A file may hold them for other variants, sweep points or scales.
"""

import math
from collections.abc import Iterator
from typing import Any

from simulator.experiment.schema.cluster import Cluster
from simulator.experiment.schema.data import TextSource
from simulator.experiment.schema.experiment import Experiment, Pretrain
from simulator.experiment.schema.inner import Inner
from simulator.experiment.schema.micro_batches import MicroBatches
from simulator.experiment.schema.network import Network

_ROUNDED_S = 1e-7  # below it, a nanosecond is more than a percent of a round


def notes(experiment: Experiment) -> Iterator[str]:
    """Yields the notes on settings, each with its dotted key and its value."""
    for key, value, note in _notes(experiment):
        yield f"{key} = {value!r}: {note}"


def _notes(experiment: Experiment) -> Iterator[tuple[str, object, str]]:
    cluster, inner = experiment.cluster, experiment.inner
    yield from _of_network(cluster.network)
    yield from _of_sites(cluster)
    yield from _of_measured_links(cluster)
    yield from _of_step_times(cluster, inner.local_steps)
    if cluster.currency and not _priced(cluster):
        yield "cluster.currency", cluster.currency, "has no effect: nothing has a price"
    if cluster.pipeline is not None and inner.stages is None:
        for name in sorted(cluster.pipeline.model_fields_set):
            yield f"cluster.pipeline.{name}", getattr(cluster.pipeline, name), "has no effect without inner.stages"
    faults = cluster.faults
    if faults and faults.inner_state == "keep" and (inner.state == "reset" or _stateless(inner)):
        yield "cluster.faults.inner_state", "keep", "has no effect: workers keep no inner optimizer state"
    if inner.state == "reset" and _stateless(inner):
        yield "inner.state", "reset", f"has no effect: {inner.optimizer} without momentum has no state"
    if not experiment.pretrain.steps:
        for name, field in Pretrain.model_fields.items():
            value = getattr(experiment.pretrain, name)
            if value != field.default:
                yield f"pretrain.{name}", value, "has no effect: pretrain.steps is 0"
    if inner.micro_batches is not None:
        yield from _of_micro_batches(inner.micro_batches)
    if experiment.model.kind == "described" and experiment.data.source != "none":
        yield "data.source", experiment.data.source, "has no effect: a described model reads no data"
    schedule = experiment.schedule
    if schedule.fragments == 1 and schedule.composition != "strided":
        yield "schedule.composition", schedule.composition, "has no effect: the model is one fragment"
    alike = not isinstance(experiment.data, TextSource) or (
        experiment.data.even and experiment.data.partition.kind == "iid"
    )
    if experiment.evaluate.per_shard and alike:
        yield "evaluate.per_shard", True, "tells nothing new: shards are alike, and each has the loss of all"


def _of_step_times(cluster: Cluster, local_steps: int) -> Iterator[tuple[str, object, str]]:
    """Yields a note on rounds so short that rounding to whole nanoseconds shows."""
    given = getattr(cluster.devices, "seconds_per_step", None)
    times = given if isinstance(given, tuple) else (given,)
    shortest = min((time for time in times if time), default=math.inf)
    if shortest * local_steps < _ROUNDED_S:
        note = f"rounds of {shortest * local_steps:.3g} s are rounded to whole nanoseconds, at least one: "
        yield "cluster.devices.seconds_per_step", shortest, f"{note}unequal workers may become equal"


def _of_micro_batches(section: MicroBatches) -> Iterator[tuple[str, object, str]]:
    key, threshold = "inner.micro_batches", section.threshold
    if threshold is not None:
        note = "simulated times depend on what is trained: `timeline` cannot show them, and no training is shared"
        yield f"{key}.threshold", threshold, note
    elif section.most != MicroBatches.model_fields["most"].default:
        yield f"{key}.most", section.most, "has no effect: there is no threshold"


def _of_network(network: Network) -> Iterator[tuple[str, object, str]]:
    links = [network.direction("down"), network.direction("up")]
    given = (
        ("network", network, links),
        ("network.down", network.down, links[:1]),
        ("network.up", network.up, links[1:]),
    )
    for key, section, used in given:
        sent, efficiency = section.bytes_per_parameter, section.efficiency
        if sent not in (None, Network.model_fields["bytes_per_parameter"].default):
            if all(link.message_size is not None for link in used):
                yield f"cluster.{key}.bytes_per_parameter", sent, "has no effect: message_size says what is sent"
            elif sent < 4:
                note = "decides time, bytes and cost; what is learned is as if every number were sent in full"
                yield f"cluster.{key}.bytes_per_parameter", sent, note
        unlimited = not network.sites and network.trace is None and all(link.bandwidth == math.inf for link in used)
        if efficiency not in (None, 1.0) and unlimited:
            yield f"cluster.{key}.efficiency", efficiency, "has no effect: the bandwidth is unlimited"


def _of_sites(cluster: Cluster) -> Iterator[tuple[str, object, str]]:
    """Yields notes on sites that hold nothing, and on sharing where nothing is shared."""
    network, sites = cluster.network, cluster.network.sites or {}
    uplinks = [site for site, own in sites.items() if own.uplink is not None]
    if network.sharing != "queue" and network.server_link is None and not uplinks:
        yield "cluster.network.sharing", network.sharing, "has no effect: no link is shared"
    used = {*(cluster.devices.worker_sites or ()), network.site_of_server}
    for site in sites:
        if site not in used:
            yield f"cluster.network.sites.{site}", "", "has no effect: no device and no server is there"
    if len(sites) == 1 and network.between is not None:
        yield "cluster.network.between", "", "has no effect: there is one site"


def _of_measured_links(cluster: Cluster) -> Iterator[tuple[str, object, str]]:
    """Yields notes on bandwidths that no link has, since all have measured rates."""
    network, note = cluster.network, "has no effect: the trace has rates of all links that it is of"
    used: dict[str, list[bool]] = {"network": [], "network.down": [], "network.up": []}
    for which, own in (("down", network.down), ("up", network.up)):
        measured = {row.worker for row in network.trace or () if which in row.directions}
        key = "network" if own.bandwidth is None else f"network.{which}"
        used[key].append(len(measured) < cluster.workers)
    for key, section in (("network", network), ("network.down", network.down), ("network.up", network.up)):
        if section.bandwidth not in (None, math.inf) and used[key] and not any(used[key]):
            yield f"cluster.{key}.bandwidth", section.bandwidth, note


def _priced(cluster: Cluster) -> bool:
    network, devices = cluster.network, cluster.devices
    prices = [devices.price_per_hour, cluster.server_price_per_hour]
    prices += [each.price_per_hour for each in getattr(devices, "accelerators", ())]
    links: list[Any] = [network, network.down, network.up, *(network.sites or {}).values()]
    links += [] if network.between is None else [network.between, *network.between.pairs]
    prices += [link.price_per_gigabyte for link in links]
    return any(price is not None for price in prices)


def _stateless(inner: Inner) -> bool:
    return inner.optimizer == "sgd" and inner.arguments.get("momentum") is None
