"""Section of collectives: workers whose offers meet in an all-reduce, without a server."""

from typing import ClassVar, Literal

from pydantic import Field

from simulator.experiment.schema.section import Conflicts, Section
from simulator.experiment.schema.units import Bandwidth, FiniteDuration
from simulator.experiment.schema.worker_groups import WorkerGroups

CollectiveAlgorithm = Literal["ring", "tree", "star", "hierarchical", "bound"]


class AllReduceTopology(Section):
    """Workers that all have the mean of a meeting's offers by an all-reduce; for learning it is as one server.

    It begins when the last offer of a meeting is ready, or the synchronization says that it waits no longer, and those
    whose offers are in the meeting take part. Those of several fragments follow each other, first come, first served.
    """

    has_server: ClassVar = True  # of a place that all workers have in common
    kind: Literal["all_reduce"]
    algorithm: CollectiveAlgorithm = Field(
        "ring",
        description="ring: 2 (M - 1) steps of 1/M of the message; tree: 2 ceil(log2 M) steps of all of it; star: two "
        "transfers over the link of the member with the fastest one, which all share; hierarchical: trees in groups "
        "and a ring between; bound: one step of 2 (1 - 1/M) of it, the least that is possible",
    )
    groups: WorkerGroups | None = Field(
        None,
        description="of a hierarchical one: the workers of each, a number of groups of neighbors, or `sites`",
        examples=[2],
    )
    latency: FiniteDuration = Field(0.0, description="of a transfer between groups")
    bandwidth: Bandwidth = Field(float("inf"), description="of a transfer between groups, in each direction")

    def _conflicts(self) -> Conflicts:
        if (self.algorithm == "hierarchical") == (self.groups is None):
            yield "groups", "is of a hierarchical all-reduce, which needs it: give both, or leave it out"
        for name in ("latency", "bandwidth"):
            if self.groups is None and getattr(self, name) != type(self).model_fields[name].default:
                yield name, "is of transfers between groups, and there are none: give cluster.network, or groups"
