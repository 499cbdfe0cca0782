"""Groups of workers in a section: lists of them, a number of groups of neighbors, or those of sites."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from simulator.experiment.schema.cluster import Cluster
from simulator.experiment.schema.units import NonNegativeInt, PositiveInt

WorkerGroups = Annotated[tuple[tuple[NonNegativeInt, ...], ...], Field(min_length=1)] | PositiveInt | Literal["sites"]
Given = tuple[tuple[int, ...], ...] | int | Literal["sites"]


def members_of(groups: Given, cluster: Cluster) -> tuple[tuple[int, ...], ...]:
    """Returns the workers of each group.

    Args:
      groups: lists of workers, a number of groups, or `sites`: a group of each that has workers.
      cluster: of the workers.
    """
    workers, sites = cluster.workers, cluster.devices.worker_sites or []
    if groups == "sites":
        found: dict[str, tuple[int, ...]] = dict.fromkeys([*(cluster.network.sites or ()), *sites], ())
        for worker, site in enumerate(sites):
            found[site] += (worker,)
        return tuple(filter(None, found.values()))
    if isinstance(groups, tuple):
        return groups
    return tuple(
        tuple(worker for worker in range(workers) if worker * groups // workers == group) for group in range(groups)
    )


def group_mistakes(groups: Given, cluster: Cluster, name: str) -> Iterator[str]:
    """Yields the mistakes in groups that are called `name`."""
    workers = cluster.workers
    if isinstance(groups, tuple):
        named = sorted(worker for group in groups for worker in group)
        if named != list(range(workers)) or not all(groups):
            yield f"must name each worker from 0 to {workers - 1} once, in {name} that have some"
    elif groups == "sites":
        if cluster.devices.worker_sites is None:
            yield "is `sites`, and devices have none: give cluster.devices.sites"
    elif groups > workers:
        yield f"is more than there are workers, {workers}: choose fewer"
