"""The `outer` section: what the server does with the pseudo-gradients that arrive."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from simulator.experiment.registry import SLOTS
from simulator.experiment.schema.section import Conflicts, Section
from simulator.experiment.schema.units import Arguments, NonNegative, NonNegativeInt, Number, Positive, PositiveInt
from simulator.experiment.schema.worker_words import COUNT, IN_ARGUMENTS, SHARES, in_numbers
from simulator.host.nearest import alike


class ConstantStaleness(Section):
    """Every arrival counts the same, however stale."""

    kind: Literal["constant"]


class PolynomialStaleness(Section):
    """Poly: an arrival is weighted with (1 + staleness)^-power; above `drop_above` (PolyThres) it is dropped."""

    kind: Literal["polynomial"]
    power: NonNegative = Field(0.5, description="the larger, the less a stale arrival counts; 0 as if it were not")
    drop_above: NonNegativeInt | None = Field(
        None, description="drop arrivals staler than this; the paper's is 10", examples=[10]
    )


class ThresholdStaleness(Section):
    """Arrivals staler than `drop_above` are dropped, the others count the same."""

    kind: Literal["threshold"]
    drop_above: NonNegativeInt = Field(description="drop arrivals staler than this", examples=[10])


class GateStaleness(Section):
    """An arrival is weighted with exp(-decay s) (1 + cos(pi s / cutoff)) / 2 for its staleness s, 0 from cutoff on."""

    kind: Literal["gate"]
    decay: NonNegative = Field(description="the larger, the less a stale arrival counts", examples=[0.1])
    cutoff: PositiveInt = Field(description="staleness from which an arrival counts nothing", examples=[20])


Staleness = Annotated[
    ConstantStaleness | PolynomialStaleness | ThresholdStaleness | GateStaleness, Field(discriminator="kind")
]
Momentum = Annotated[Number, Field(ge=0, lt=1)]
_SHARE = "share of the momentum that stays in each step"
_SHARE_OF_MEAN = "share of the mean that stays in each step"


class _Outer(Section):
    learning_rate: Positive = Field(description="of the outer optimizer", examples=[0.7])
    weight: Positive = Field(
        1.0,
        description="factor on each arriving pseudo-gradient; 1/workers or 1/sqrt(workers) is that number",
        json_schema_extra={"type": ["number", "string"]},
    )
    staleness: Staleness = Field(
        ConstantStaleness(kind="constant"), description="what an arrival counts, by the server's updates since its pull"
    )
    delay_compensation: NonNegative = Field(0.0, description="lambda in g + lambda*g*g*(theta - theta_pulled)")
    arrivals_per_update: PositiveInt = Field(
        1,
        description="average this many arrivals in each outer step (FedBuff); `workers` is their number",
        json_schema_extra={"type": ["integer", "string"]},
    )
    restart_every: PositiveInt | None = Field(
        None, description="forget the momentum, and all else that the optimizer keeps, after so many steps"
    )
    non_finite: Literal["reject", "skip", "fatal"] = Field(
        "reject",
        description="of a pseudo-gradient with an infinite or NaN element: leave it out, leave out the whole outer "
        "step of which it is a part, or end the simulation with an error; each is counted and recorded",
    )


class SGDOuter(_Outer):
    """theta - lr*g; with lr 1 behind a barrier this is federated averaging."""

    optimizer: Literal["sgd"]

    def _conflicts(self) -> Conflicts:
        if self.restart_every is not None:
            yield "restart_every", "has no effect on sgd, which keeps nothing: leave it out"


class HeavyBallOuter(_Outer):
    """m = momentum*m + g; theta - lr*m."""

    optimizer: Literal["heavy_ball"]
    momentum: Momentum = Field(0.9, description=_SHARE)


class NesterovOuter(_Outer):
    """m = momentum*m + g; theta - lr*(g + momentum*m). Eq. 4 of the paper, DiLoCo's choice."""

    optimizer: Literal["nesterov"]
    momentum: Momentum = Field(0.9, description=_SHARE)


class AdamOuter(_Outer):
    """Adam on pseudo-gradients (FedAdam)."""

    optimizer: Literal["adam"]
    b1: Momentum = Field(0.9, description="decay of the mean of pseudo-gradients")
    b2: Momentum = Field(0.999, description="decay of the mean of their squares")
    eps: Positive = Field(1e-8, description="added to the denominator")


class DelayedNesterovOuter(_Outer):
    """Algorithm 3: plain steps on each arrival, the momentum once every `buffer` arrivals."""

    optimizer: Literal["delayed_nesterov"]
    momentum: Annotated[Number, Field(gt=0, lt=1)] = Field(0.9, description=_SHARE)
    buffer: PositiveInt = Field(
        description="N, arrivals per momentum update; `workers` is their number",
        json_schema_extra={"type": ["integer", "string"]},
        examples=[4],
    )
    c: NonNegative = Field(0.0, description="share of momentum in every step, from 0 to 1/N")

    def _conflicts(self) -> Conflicts:
        if self.c > 1 / self.buffer:
            yield "c", f"is above 1/buffer = {1 / self.buffer:.6g}: choose c from 0 to 1/buffer"


class NoLoCoOuter(_Outer):
    """m = momentum*m - lr*g + lr*(mean - theta); theta + m, with the mean of what the others of a group began with."""

    optimizer: Literal["noloco"]
    momentum: Momentum = Field(0.5, description=_SHARE)


class MLAOuter(_Outer):
    """m = momentum*m + (1-momentum)*g; theta - lr*(g + momentum*m). Momentum look-ahead."""

    optimizer: Literal["mla"]
    momentum: Momentum = Field(0.9, description=_SHARE_OF_MEAN)


class HeLoCoOuter(_Outer):
    """Momentum look-ahead on pseudo-gradients that are turned towards it, array by array (HeLoCo)."""

    optimizer: Literal["heloco"]
    momentum: Momentum = Field(0.9, description=_SHARE_OF_MEAN)
    aligned: Number = Field(0.2, description="cosine with the momentum from which nothing is turned")
    opposed: NonNegative = Field(0.5, description="how much of what is against the momentum is taken away")
    turned: NonNegative = Field(1.0, description="how far others are turned towards it")
    confidence: NonNegative = Field(3.0, description="the larger, the less a small pseudo-gradient is changed")
    most: NonNegative = Field(0.5, description="largest share of what is taken away")
    worst: Number | None = Field(
        None,
        description="cosine at which others are turned the farthest, and less up to `aligned`, where nothing is; "
        "-0.2 in the authors' notebook; by the distance to 1, with a jump at `aligned`, when absent",
        examples=[-0.2],
    )
    bound_first: bool = Field(
        False, description="whether `most` bounds the share before it is made smaller by confidence, as in a fork"
    )

    def _conflicts(self) -> Conflicts:
        if self.worst is not None and self.worst >= self.aligned:
            yield "worst", f"must stay below aligned, which is {self.aligned}: from there to it less is turned"


class TableOuter(_Outer):
    """An outer optimizer that keeps pseudo-gradients of each worker."""

    workers: PositiveInt = Field(
        description="`workers` is their number",
        json_schema_extra={"type": ["integer", "string"]},
        examples=[4],
    )


class DuDeOuter(TableOuter):
    """theta - lr * the mean of the workers' last pseudo-gradients, once each has offered (DuDe-ASGD)."""

    optimizer: Literal["dude"]


class RingleaderOuter(TableOuter):
    """Collect from every worker, then theta - lr * the mean of all at one arrival of each (Ringleader ASGD)."""

    optimizer: Literal["ringleader"]


class NamedOuter(_Outer):
    """A registered outer optimizer of one's own, or any optax optimizer, by name."""

    optimizer: str = Field(
        description="the name that it is registered under, or that it has in optax", examples=["lion"]
    )
    arguments: Arguments = Field(
        {}, description=f"further keyword arguments of that optimizer; {IN_ARGUMENTS}", examples=[{"b1": 0.9}]
    )


def _outer_tag(value: Any) -> str | None:
    name = value.get("optimizer") if isinstance(value, dict) else getattr(value, "optimizer", None)
    built_in = SLOTS["outer"].built_in
    if name in built_in:
        return str(name)
    if not isinstance(name, str):
        return None
    if isinstance(value, dict):  # a built-in one's settings under a name like it: refused, with the valid names
        fits = set(value) <= set(NamedOuter.model_fields)
        doubtful = not fits or "learning_rate" not in value
        if doubtful and alike(name, built_in, cutoff=1.0 if fits else 0.8):
            return name
    return "named"


Outer = Annotated[
    Annotated[SGDOuter, Tag("sgd")]
    | Annotated[HeavyBallOuter, Tag("heavy_ball")]
    | Annotated[NesterovOuter, Tag("nesterov")]
    | Annotated[AdamOuter, Tag("adam")]
    | Annotated[DelayedNesterovOuter, Tag("delayed_nesterov")]
    | Annotated[NoLoCoOuter, Tag("noloco")]
    | Annotated[MLAOuter, Tag("mla")]
    | Annotated[HeLoCoOuter, Tag("heloco")]
    | Annotated[DuDeOuter, Tag("dude")]
    | Annotated[RingleaderOuter, Tag("ringleader")]
    | Annotated[NamedOuter, Tag("named")],
    Discriminator(_outer_tag),
    in_numbers({"weight": SHARES, "arrivals_per_update": COUNT, "buffer": COUNT, "workers": COUNT}),
]
"""Inside a section whose `cluster` comes before it."""
