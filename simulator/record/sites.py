"""Names and sites of a run's workers, as its resolved experiment has them."""

from collections.abc import Mapping
from typing import Any

from simulator.host import worker_names
from simulator.record.schema import RecordError


def labels_of(experiment: Mapping[str, Any], workers: int) -> list[str]:
    """Returns the label of each worker, which figures, tables and traces show: "H100 2 in east", or "worker 24".

    Args:
        experiment: Resolved.
        workers: Number of workers.
    """
    return worker_names.labels(_words(experiment, "name", workers), worker_sites(experiment, workers), workers)


def worker_sites(experiment: Mapping[str, Any], workers: int) -> list[str] | None:
    """Returns the site of each worker, None where devices have none.

    Args:
        experiment: Resolved.
        workers: Number of workers.
    """
    return _words(experiment, "site", workers)


def server_site(experiment: Mapping[str, Any]) -> str | None:
    """Returns the site of the server, with regions of the upper one; None where the network has no sites."""
    network = cluster_section(experiment).get("network") or {}
    return network.get("server_site") or next(iter(network.get("sites") or ()), None)


def is_regional(experiment: Mapping[str, Any]) -> bool:
    """Returns whether each site has a server of its own."""
    return bool((experiment.get("topology") or {}).get("regions") == "sites")


def region_sites(experiment: Mapping[str, Any], workers: int) -> list[str]:
    """Returns the site of each region where each site is one; none otherwise."""
    if not is_regional(experiment):
        return []
    sites = worker_sites(experiment, workers) or []
    order = [*((cluster_section(experiment).get("network") or {}).get("sites") or ()), *sites]
    return [site for site in dict.fromkeys(order) if site in sites]


def cluster_section(experiment: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the cluster section of a resolved experiment, empty where it has none."""
    return experiment.get("cluster") or {}


def _words(experiment: Mapping[str, Any], key: str, workers: int) -> list[str] | None:
    """Returns what each device is called, or where it is, None where nothing is said of it."""
    devices = cluster_section(experiment).get("devices") or {}
    words = worker_names.of_each(devices.get(f"{key}s"), workers)
    if words is None:
        found = [(each.get(key), int(each.get("count", 1))) for each in devices.get("accelerators") or ()]
        words = [str(word) for word, count in found if word is not None for _ in range(count)] or None
    if words is not None and len(words) != workers:
        raise RecordError(f"cluster.devices gives the {key}s of {len(words)} devices for {workers} workers")
    return words
