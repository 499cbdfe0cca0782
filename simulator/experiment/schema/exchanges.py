"""Sections of exchanges: what is offered, where offers meet, how they are sent, and what becomes of them."""

from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from simulator.experiment.registry import NamedPolicy, build, kind_tag
from simulator.experiment.schema.cluster import Cluster
from simulator.experiment.schema.collectives import AllReduceTopology
from simulator.experiment.schema.outer import Outer
from simulator.experiment.schema.section import Section
from simulator.experiment.schema.units import (
    Bandwidth,
    FiniteDuration,
    Fraction,
    NonNegativeInt,
    Number,
    Positive,
    PositiveInt,
)
from simulator.experiment.schema.worker_groups import WorkerGroups, members_of
from simulator.experiment.schema.worker_words import in_numbers

Share = Annotated[Number, Field(ge=0, le=1)]


class ServerTopology(Section):
    """One server, with a place for each fragment."""

    has_server: ClassVar = True
    kind: Literal["server"]


class RegionsTopology(Section):
    """Regions of workers, each with a server of its own, under an upper server (HALoS)."""

    has_server: ClassVar = True
    kind: Literal["regions"]
    regions: WorkerGroups = Field(
        description="the workers of each region, a number of regions of neighboring workers, or `sites`: those of the "
        "devices",
        examples=[2],
    )
    every_versions: PositiveInt = Field(
        1, description="updates of a region between what it last accepted from the upper server and its next offer"
    )
    mix: Share = Field(1.0, description="share of the upper server's parameters when a region accepts them")
    outer: Annotated[Outer, in_numbers()] = Field(
        description="outer optimizer of the upper server, on the regions' progress",
        examples=[{"optimizer": "sgd", "learning_rate": 1.0}],
    )
    latency: FiniteDuration = Field(0.0, description="of a transfer between a region's server and the upper one")
    bandwidth: Bandwidth = Field(float("inf"), description="of that link, in each direction")

    def members(self, cluster: Cluster) -> tuple[tuple[int, ...], ...]:
        """Returns the workers of each region."""
        return members_of(self.regions, cluster)


class GroupsTopology(Section):
    """Groups of workers that are drawn anew for each meeting, such as pairs, and no server (NoLoCo)."""

    has_server: ClassVar = False
    kind: Literal["groups"]
    size: PositiveInt = Field(2, description="workers of a group; those that are left over form a smaller one")


class GraphTopology(Section):
    """Workers that meet their neighbors in a graph, and no server (gossip)."""

    has_server: ClassVar = False
    kind: Literal["graph"]
    edges: Literal["ring", "complete"] | tuple[tuple[NonNegativeInt, NonNegativeInt], ...] = Field(
        description="pairs of neighbors, or a graph by name", examples=["ring"]
    )

    def pairs(self, workers: int) -> tuple[tuple[int, int], ...]:
        """Returns the edges."""
        if self.edges == "ring":
            return tuple((worker, (worker + 1) % workers) for worker in range(workers))
        if self.edges == "complete":
            return tuple((one, other) for one in range(workers) for other in range(one))
        return self.edges


class NobodyTopology(Section):
    """Workers that never meet."""

    has_server: ClassVar = False
    kind: Literal["nobody"]


class NamedTopology(NamedPolicy):
    """Workers that meet without a server as a function of one's own says, by the name under which it is registered."""

    section = "topology"
    has_server: ClassVar = False


Topology = Annotated[
    Annotated[ServerTopology, Tag("server")]
    | Annotated[RegionsTopology, Tag("regions")]
    | Annotated[AllReduceTopology, Tag("all_reduce")]
    | Annotated[GroupsTopology, Tag("groups")]
    | Annotated[GraphTopology, Tag("graph")]
    | Annotated[NobodyTopology, Tag("nobody")]
    | Annotated[NamedTopology, Tag("named")],
    Discriminator(kind_tag("topology")),
    in_numbers(),
]


class _Compression(Section):
    feedback: Share | None = Field(
        None,
        description="decay of the error that the sender adds to its next offer; without error feedback when absent",
        examples=[0.95],
    )


class NoCompression(Section):
    """Offers are sent as they are."""

    feedback: ClassVar = None
    kind: Literal["none"]

    def bits(self, full: float) -> float:
        """Returns the bits of a parameter on the wire, where as it is it has `full`."""
        return full


class BFloat16Compression(_Compression):
    """16 bits: the upper half of a float32."""

    kind: Literal["bf16"]

    def bits(self, full: float) -> float:
        """Returns the bits of a parameter on the wire."""
        return 16.0


class FP4Compression(_Compression):
    """4 bits, E3M0: a sign and one of seven powers of two below an array's largest magnitude, or zero."""

    kind: Literal["fp4"]

    def bits(self, full: float) -> float:
        """Returns the bits of a parameter on the wire."""
        return 4.0


class IntegerCompression(_Compression):
    """Whole multiples of a step, which for each array follows from its largest magnitude."""

    kind: Literal["int"]
    width: Annotated[PositiveInt, Field(ge=2, le=16)] = Field(8, description="bits of a parameter")

    def bits(self, full: float) -> float:
        """Returns the bits of a parameter on the wire."""
        return float(self.width)


class StatisticalCompression(_Compression):
    """Bins over some standard deviations around the mean, each decoded as the mean of its members (MuLoCo)."""

    kind: Literal["statistical"]
    width: Annotated[PositiveInt, Field(le=8)] = Field(8, description="bits of a parameter; 2^width bins")
    sigmas: Positive = Field(6.0, description="standard deviations that the bins are wide together")
    rows: bool = Field(False, description="whether each row of an array has bins of its own; else the whole array")

    def bits(self, full: float) -> float:
        """Returns the bits of a parameter on the wire."""
        return float(self.width)

    def table_bits(self, shape: tuple[int, ...]) -> int:
        """Returns the bits of the means of an array's bins, which are sent beside it."""
        return (32 << self.width) * (shape[0] if self.rows and len(shape) > 1 else 1)


class TopKCompression(_Compression):
    """The largest elements of each tile of 64 by 64; their places take 12 bits each (SparseLoCo)."""

    kind: Literal["top_k"]
    density: Annotated[Number, Field(gt=0, le=1)] = Field(64 / 4096, description="share of the elements that are sent")
    width: Annotated[PositiveInt, Field(le=8)] | None = Field(
        None,
        description="bits of an element's value, by bins that are decoded as their mean; as it is when absent",
        examples=[2],
    )

    def bits(self, full: float) -> float:
        """Returns the bits of a parameter on the wire, where as it is it has `full`."""
        return self.density * (12 + (full if self.width is None else self.width))


class SignCompression(_Compression):
    """1 bit: the sign of each element."""

    kind: Literal["sign"]

    def bits(self, full: float) -> float:
        """Returns the bits of a parameter on the wire."""
        return 1.0


class RandomCompression(_Compression):
    """A random subset of the elements; a seed that all know says which."""

    kind: Literal["random"]
    share: Fraction = Field(description="of the elements that are sent", examples=[0.05])

    def bits(self, full: float) -> float:
        """Returns the bits of a parameter on the wire, where as it is it has `full`."""
        return self.share * full


class NamedCompression(NamedPolicy):
    """A compression of one's own, by the name under which it is registered."""

    section = "compression"

    feedback: Share | None = Field(
        None, description="decay of the error that the sender adds to its next offer", examples=[0.95]
    )

    def bits(self, full: float) -> float:
        """Returns the bits of a parameter on the wire, where as it is it has `full`."""
        return float(build(self).bits(full))


Compression = Annotated[
    Annotated[NoCompression, Tag("none")]
    | Annotated[BFloat16Compression, Tag("bf16")]
    | Annotated[FP4Compression, Tag("fp4")]
    | Annotated[IntegerCompression, Tag("int")]
    | Annotated[StatisticalCompression, Tag("statistical")]
    | Annotated[TopKCompression, Tag("top_k")]
    | Annotated[SignCompression, Tag("sign")]
    | Annotated[RandomCompression, Tag("random")]
    | Annotated[NamedCompression, Tag("named")],
    Discriminator(kind_tag("compression")),
    in_numbers(),
]


class ParametersView(Section):
    """The place hands out its parameters."""

    kind: Literal["parameters"]


class LookAheadView(Section):
    """The place hands out its parameters a step of their momentum ahead: theta - learning_rate * momentum * m."""

    kind: Literal["look_ahead"]


class NamedView(NamedPolicy):
    """A view of one's own, by the name under which it is registered."""

    section = "view"


View = Annotated[
    Annotated[ParametersView, Tag("parameters")]
    | Annotated[LookAheadView, Tag("look_ahead")]
    | Annotated[NamedView, Tag("named")],
    Discriminator(kind_tag("view")),
    in_numbers(),
]


class OverwriteMerge(Section):
    """The worker takes the answer in place of its own parameters."""

    has_outer: ClassVar = False
    kind: Literal["overwrite"]


class LerpMerge(Section):
    """The worker mixes its own parameters and the answer (Streaming DiLoCo)."""

    has_outer: ClassVar = False
    kind: Literal["lerp"]
    mix: Share = Field(0.5, description="share of its own; 0 takes the answer alone")


class KeepProgressMerge(Section):
    """The worker adds to the answer what it has done since its offer (LOSCAR)."""

    has_outer: ClassVar = False
    kind: Literal["keep_progress"]


class OuterMerge(Section):
    """The outer optimizer is at the worker: the answer is the aggregated pseudo-gradient, on which it steps."""

    has_outer: ClassVar = True
    kind: Literal["outer"]


class EagerMerge(Section):
    """An outer step at the worker on the offers of the round before, its own share renewed (Eager Updates)."""

    has_outer: ClassVar = True
    kind: Literal["eager"]
    share: Annotated[Share, Field(gt=0)] = Field(
        description="of the worker's own offer in the aggregate; 1/workers is that number",
        json_schema_extra={"type": ["number", "string"]},
    )


class NamedMerge(NamedPolicy):
    """A merge of one's own, by the name under which it is registered."""

    section = "merge"
    has_outer: ClassVar = False


Merge = Annotated[
    Annotated[OverwriteMerge, Tag("overwrite")]
    | Annotated[LerpMerge, Tag("lerp")]
    | Annotated[KeepProgressMerge, Tag("keep_progress")]
    | Annotated[OuterMerge, Tag("outer")]
    | Annotated[EagerMerge, Tag("eager")]
    | Annotated[NamedMerge, Tag("named")],
    Discriminator(kind_tag("merge")),
    in_numbers({"share": {"1/workers": lambda workers: 1 / workers}}),
]


_Weights = Annotated[
    bool, Field(description="whether it also sends the parameters that it began with, as they are, as gossip does")
]


class PseudoGradientOffer(Section):
    """The pseudo-gradient, start - end."""

    kind: Literal["pseudo_gradient"] = "pseudo_gradient"
    weights: _Weights = False


class NamedOffer(NamedPolicy):
    """An offer of one's own in place of the pseudo-gradient, by the name under which it is registered."""

    section = "offer"

    weights: _Weights = False


Offer = Annotated[
    Annotated[PseudoGradientOffer, Tag("pseudo_gradient")] | Annotated[NamedOffer, Tag("named")],
    Discriminator(kind_tag("offer")),
    in_numbers(),
]
