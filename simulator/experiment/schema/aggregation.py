"""The `aggregation` section: how the offers of a meeting become one."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from simulator.experiment.registry import NamedPolicy, kind_tag
from simulator.experiment.schema.section import Section
from simulator.experiment.schema.units import NonNegative, Number, Positive, PositiveInt
from simulator.experiment.schema.worker_words import in_numbers


class MeanAggregation(Section):
    """The mean of a meeting's offers is one outer step."""

    kind: Literal["mean"]


class WeightedAggregation(Section):
    """The mean of a meeting's offers, weighted by the local steps of each, is one outer step."""

    kind: Literal["weighted"]


class FoldAggregation(Section):
    """Each offer of a meeting is an outer step, in order of arrival."""

    kind: Literal["fold"]


class SendersAggregation(Section):
    """The mean of each element over the offers that have it, as sparse ones do, is one outer step (SparseLoCo)."""

    kind: Literal["senders"]


class VoteAggregation(Section):
    """The sign of most offers, element by element, is one outer step; zero where they are even (Distributed Lion)."""

    kind: Literal["vote"]


class DirectionAggregation(Section):
    """The weighted mean of directions with that of norms, array by array, is one outer step (Decoupled DiLoCo)."""

    kind: Literal["direction"]


class EDiTAggregation(Section):
    """The mean weighted by exp(-norm / temperature), array by array, without outliers, is one outer step (EDiT)."""

    kind: Literal["edit"]
    temperature: Positive = Field(1.0, description="the larger, the more alike are the weights")
    clip_norm: Positive = Field(10.0, description="the most that the norm of the aggregate is")
    threshold: NonNegative = Field(3.0, description="deviations of a norm above its mean that make an outlier")
    decay: Annotated[Number, Field(gt=0, le=1)] = Field(0.02, description="of the mean and the deviation of norms")
    window: PositiveInt = Field(120, description="offers of a worker before any can be an outlier")


class NamedAggregation(NamedPolicy):
    """An aggregation of one's own, by the name under which it is registered."""

    section = "aggregation"


Aggregation = Annotated[
    Annotated[MeanAggregation, Tag("mean")]
    | Annotated[WeightedAggregation, Tag("weighted")]
    | Annotated[FoldAggregation, Tag("fold")]
    | Annotated[SendersAggregation, Tag("senders")]
    | Annotated[VoteAggregation, Tag("vote")]
    | Annotated[DirectionAggregation, Tag("direction")]
    | Annotated[EDiTAggregation, Tag("edit")]
    | Annotated[NamedAggregation, Tag("named")],
    Discriminator(kind_tag("aggregation")),
    in_numbers(),
]
