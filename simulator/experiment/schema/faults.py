"""The `cluster.faults` section: what goes wrong, when, and for how long."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema

from simulator.experiment.schema.fault_trace import TraceEvent, read_trace
from simulator.experiment.schema.section import Conflicts, Section
from simulator.experiment.schema.units import (
    FiniteDuration,
    NonNegativeInt,
    Number,
    Positive,
    PositiveDuration,
    PositiveInt,
    Sigma,
)


class ExponentialTime(Section):
    """Memoryless, by its mean."""

    kind: Literal["exponential"]
    mean: PositiveDuration = Field(description="of the times")


class WeibullTime(Section):
    """By mean and shape; below 1, failures come in bursts (0.7 to 0.8 in clusters of Schroeder and Gibson, 2010)."""

    kind: Literal["weibull"]
    mean: PositiveDuration = Field(description="of the times")
    shape: Annotated[Number, Field(ge=0.1, le=100)] = Field(description="1 is exponential; below 1 in bursts")


class LognormalTime(Section):
    """exp(N(ln median, sigma^2)), which repair times often are."""

    kind: Literal["lognormal"]
    median: PositiveDuration = Field(description="of the times")
    sigma: Sigma = Field(description="of their logarithm")


class UniformTime(Section):
    """Uniform from low to high."""

    kind: Literal["uniform"]
    low: PositiveDuration = Field(description="shortest time")
    high: PositiveDuration = Field(description="longest time")

    def _conflicts(self) -> Conflicts:
        if self.high < self.low:
            yield "high", f"must be at least low, which is {self.low} s"


class ConstantTime(Section):
    """Always the same."""

    kind: Literal["constant"]
    value: PositiveDuration = Field(description="of all times")


def _time_tag(value: Any) -> str | None:
    if isinstance(value, dict):
        kind = value.get("kind")
        return kind if isinstance(kind, str) else None
    return getattr(value, "kind", "<mean>")


RandomTime = Annotated[
    Annotated[PositiveDuration, Tag("<mean>")]
    | Annotated[ExponentialTime, Tag("exponential")]
    | Annotated[WeibullTime, Tag("weibull")]
    | Annotated[LognormalTime, Tag("lognormal")]
    | Annotated[UniformTime, Tag("uniform")]
    | Annotated[ConstantTime, Tag("constant")],
    Discriminator(_time_tag),
]
"""A bare duration is the mean of an exponential distribution."""


_TimeBetween = Annotated[RandomTime, Field(description="from the end of one to the start of the next", examples=["4h"])]
_Duration = Annotated[RandomTime, Field(description="of each; a bare duration is the mean", examples=["1min"])]


class _OfWorkers(Section):
    workers: tuple[NonNegativeInt, ...] | None = Field(None, description="which; all when absent")


class Crashes(_OfWorkers):
    """Workers fail without a warning, and come back when they are repaired."""

    time_between: RandomTime = Field(
        description="from one repair to the next failure; a bare duration is the MTBF", examples=["2h"]
    )
    repair: RandomTime = Field(
        description="from the failure until the worker is back; a bare duration is the MTTR", examples=["5min"]
    )
    in_flight: Literal["lost", "delivered"] = Field(
        "lost", description="what becomes of the round: lost, or its finished steps are sent after the repair"
    )


class Preemption(_OfWorkers):
    """Machines are taken away, with a notice in which finished steps can be sent, and others take their place."""

    time_between: RandomTime = Field(description="from when a machine is there until it is taken away", examples=["3h"])
    absence: RandomTime = Field(description="until there is another", examples=["20min"])
    notice: FiniteDuration = Field(
        0.0, description="between the warning and the end; spot machines have 30 s to 2 min", examples=["30s"]
    )


class Departures(_OfWorkers):
    """Workers leave for good and say so; the round under way is lost."""

    after: RandomTime = Field(
        description="from the start of the simulation; a bare duration is the mean", examples=["8h"]
    )


class Slowdowns(_OfWorkers):
    """Workers compute slower for a while, for instance because someone else uses the machine."""

    time_between: _TimeBetween
    duration: _Duration
    factor: Positive = Field(description="on the time of a step", examples=[2.5])


class LinkOutages(_OfWorkers):
    """Workers' own links are down for a while; transfers under way wait."""

    time_between: _TimeBetween
    duration: _Duration


class ServerOutages(Section):
    """The server is down for a while: transfers wait, nothing is processed, nothing is forgotten."""

    time_between: _TimeBetween
    duration: _Duration


class MessageLoss(Section):
    """Messages are lost on their way, which they have taken like any other; after a timeout they are sent again."""

    probability: Annotated[Number, Field(gt=0, lt=1)] = Field(description="that a message is lost", examples=[0.01])
    timeout: PositiveDuration = Field(
        description="from when a lost message should have arrived until it is sent again", examples=["5s"]
    )
    attempts: PositiveInt = Field(10, description="after so many the round is given up")


class Faults(Section):
    """Faults of the cluster. Each worker and each kind of fault has random times of its own."""

    crashes: Crashes | None = None
    preemption: Preemption | None = None
    departures: Departures | None = None
    joins: tuple[FiniteDuration, ...] | None = Field(
        None,
        description="when each worker joins the cluster; all are there from the start when absent",
        examples=[[0, "10min"]],
    )
    slowdowns: Slowdowns | None = None
    message_loss: MessageLoss | None = None
    link_outages: LinkOutages | None = None
    server_outages: ServerOutages | None = None
    trace: Annotated[
        tuple[TraceEvent, ...] | None,
        BeforeValidator(read_trace),
        WithJsonSchema({"type": ["string", "array", "null"]}),
    ] = Field(
        None,
        description="a CSV file with columns worker, time and event, or the faults.parquet of a run; or its rows",
        examples=["faults.csv"],
    )
    inner_state: Literal["reset", "keep"] = Field(
        "reset", description="what becomes of the inner optimizer state of a worker that goes away"
    )

    def conflicts_with(self, workers: int) -> Conflicts:
        """Returns the conflicts with a cluster of `workers` workers."""
        if self.joins is not None and len(self.joins) != workers:
            yield "joins", f"has {len(self.joins)} values for {workers} workers: give one for each (0 for the start)"
        ids = f"{workers} workers have the ids 0 to {workers - 1}"
        for name in ("crashes", "preemption", "departures", "slowdowns", "link_outages"):
            chosen = getattr(getattr(self, name), "workers", None) or ()
            if any(worker >= workers for worker in chosen):
                yield f"{name}.workers", f"names worker {max(chosen)}, but {ids}"
        for event in self.trace or ():
            if event.worker != "server" and event.worker >= workers:
                yield "trace", f"names worker {event.worker} ({event.event} at {event.time:g} s), but {ids}"
                break
