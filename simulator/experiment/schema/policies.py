"""The sections of policies: when workers restart together, how many steps they do, and on which shard."""

from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from simulator.experiment.registry import NamedPolicy, build, kind_tag
from simulator.experiment.schema.section import Section
from simulator.experiment.schema.units import Duration, FiniteDuration, Fraction, Number, PositiveInt
from simulator.experiment.schema.worker_words import COUNT, in_numbers


class BarrierSynchronization(Section):
    """Synchronous rounds: the mean of all workers' pseudo-gradients, one outer step."""

    averages_group: ClassVar = True  # the mean of a group is one outer step

    kind: Literal["barrier"]
    timeout: Duration = Field(
        float("inf"),
        description="from a round's start; who comes later is dropped and starts with the next round",
        examples=["30s"],
    )
    quorum: PositiveInt = Field(
        1,
        description="fewest arrivals for an outer step at the timeout; with fewer it waits, if anybody is to come",
    )
    sample: PositiveInt | None = Field(
        None,
        description="workers that are drawn for each round, of those that are there and idle; the others wait for a "
        "round that draws them; all when absent, and `workers` is their number (Photon)",
        json_schema_extra={"type": ["integer", "string", "null"]},
        examples=[2],
    )


class AsynchronousSynchronization(Section):
    """Algorithms 2, 4 and 5: one outer step per arrival; who arrives within the grace window restarts together."""

    averages_group: ClassVar = False  # each arrival is an outer step

    kind: Literal["asynchronous"]
    grace: Duration = Field(0.0, description="tau_grace; infinite makes every group a full round", examples=["2s"])


class WindowAdaptation(Section):
    """A share of the time that `schedule.overlap` leaves when the quorum is there (Decoupled DiLoCo, Eq. 3)."""

    share: Annotated[Number, Field(gt=0, lt=1)] = Field(
        0.5, description="gamma, of the time of the overlap's local steps less that of the quorum and of the answer"
    )
    weight: Fraction = Field(
        0.5, description="of the newest of what has arrived in the averages that these times are; another's code's"
    )


class QuorumSynchronization(Section):
    """Meetings of a quorum and of who comes within a window after it; nobody is too late (Decoupled DiLoCo)."""

    averages_group: ClassVar = True

    kind: Literal["quorum"]
    offers: PositiveInt = Field(
        1,
        description="of a meeting, at least; fewer suffice when no other can come; `workers` is their number",
        json_schema_extra={"type": ["integer", "string"]},
    )
    window: FiniteDuration = Field(
        0.0,
        description="after the last offer that the quorum needs; the longest, where it is adaptive",
        examples=["2s"],
    )
    adaptive: WindowAdaptation | None = Field(
        None, description="what of the window each meeting has; all of it when absent", examples=[{"share": 0.5}]
    )


class NamedSynchronization(NamedPolicy):
    """A synchronization policy of one's own, by the name under which it is registered."""

    section = "synchronization"

    @property
    def averages_group(self) -> bool:
        """Returns whether the mean of a group is one outer step; else each arrival is one."""
        return bool(build(self).averages_group)


Synchronization = Annotated[
    Annotated[BarrierSynchronization, Tag("barrier")]
    | Annotated[AsynchronousSynchronization, Tag("asynchronous")]
    | Annotated[QuorumSynchronization, Tag("quorum")]
    | Annotated[NamedSynchronization, Tag("named")],
    Discriminator(kind_tag("synchronization")),
    in_numbers({"offers": COUNT, "sample": COUNT}),
]


class FixedSteps(Section):
    """Every worker does H local steps."""

    kind: Literal["fixed"]


class DynamicSteps(Section):
    """Dynamic Local Updates (Eq. 6): steps in proportion to a worker's speed."""

    kind: Literal["dynamic"]
    speed: Literal["nominal", "measured"] = Field(
        "nominal", description="of the device as described, or as each worker's last round has shown it"
    )


class NamedSteps(NamedPolicy):
    """A choice of local steps of one's own, by the name under which it is registered."""

    section = "local_steps"


LocalSteps = Annotated[
    Annotated[FixedSteps, Tag("fixed")] | Annotated[DynamicSteps, Tag("dynamic")] | Annotated[NamedSteps, Tag("named")],
    Discriminator(kind_tag("local_steps")),
    in_numbers(),
]


class ProportionalShards(Section):
    """Eq. 2: sample the shards that have been learned from less than their size warrants."""

    kind: Literal["proportional"]


class LeastVisitedShards(Section):
    """The authors' toy: the shard with the fewest local steps, ties at random."""

    kind: Literal["least_visited"]


class FixedShards(Section):
    """Worker i always trains on shard i mod shards."""

    kind: Literal["fixed"]


class NamedShards(NamedPolicy):
    """A choice of shards of one's own, by the name under which it is registered."""

    section = "shard_choice"


ShardChoice = Annotated[
    Annotated[ProportionalShards, Tag("proportional")]
    | Annotated[LeastVisitedShards, Tag("least_visited")]
    | Annotated[FixedShards, Tag("fixed")]
    | Annotated[NamedShards, Tag("named")],
    Discriminator(kind_tag("shard_choice")),
    in_numbers(),
]
