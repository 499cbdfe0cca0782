"""The `cluster` section: devices, network and server."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Discriminator, Field, Tag, model_validator

from simulator.experiment.schema.faults import Faults, UniformTime
from simulator.experiment.schema.pipeline import PipelineTimes
from simulator.experiment.schema.section import ConflictError, Conflicts, Section
from simulator.experiment.schema.units import (
    Bandwidth,
    FiniteDuration,
    Flops,
    Fraction,
    Members,
    NonNegative,
    Positive,
    PositiveDuration,
    Sigma,
    Size,
)
from simulator.experiment.schema.workers_file import DEVICE_COLUMNS, LINK_COLUMNS, with_workers


def _one_or_each(value: Any) -> str:
    return "<each>" if isinstance(value, list | tuple) else "<one>"


T = TypeVar("T")
PerWorker = Annotated[Annotated[T, Tag("<one>")] | Annotated[tuple[T, ...], Tag("<each>")], Discriminator(_one_or_each)]
"""One value for all workers, or a list."""


class _Devices(Section):
    jitter: Sigma = Field(
        0.0, description="sigma of a log-normal factor of mean 1 on each round's compute time", examples=[0.1]
    )
    price_per_hour: PerWorker[NonNegative] | None = Field(
        None,
        description="of a worker; one for all workers, or a list; decides what a run costs and nothing else",
        examples=[2.5],
    )


class TimedDevices(_Devices):
    """Devices by measured seconds per local step."""

    seconds_per_step: PerWorker[PositiveDuration] = Field(
        description="of each local step; one for all workers, or a list", examples=[[0.5, "800ms"]]
    )
    workers: Members | None = Field(None, description="how many, where seconds_per_step is one value", examples=[2])

    def _conflicts(self) -> Conflicts:
        if self.seconds_per_step == ():
            yield "seconds_per_step", "is empty: a cluster needs at least one worker"
        elif isinstance(self.seconds_per_step, tuple):
            if self.workers not in (None, self.count):
                yield "workers", f"seconds_per_step has {self.count} values: leave workers out, or make them equal"
        elif self.workers is None:
            yield "seconds_per_step", "is one value for all workers: also give workers, or a list"

    @property
    def count(self) -> int:
        """Number of workers."""
        return len(self.seconds_per_step) if isinstance(self.seconds_per_step, tuple) else self.workers or 1


class RelativeDevices(_Devices):
    """Devices by speed relative to one that takes `seconds_per_step`."""

    relative_speed: tuple[Positive, ...] = Field(
        min_length=1, description="2 is twice as fast as 1", examples=[[1, 0.5]]
    )
    seconds_per_step: PositiveDuration = Field(1.0, description="of relative speed 1")

    @property
    def count(self) -> int:
        """Number of workers."""
        return len(self.relative_speed)


class Accelerator(Section):
    """One kind of device, by its peak and what training reaches of it."""

    name: str = Field(
        description="of a kind of device; `tardigrad profiles` lists those whose peak is known", examples=["A100"]
    )
    peak: Flops | None = Field(None, description="from the built-in table of names when absent")
    utilization: Fraction = Field(0.4, description="share of the peak that training reaches")
    count: Members = Field(1, description="how many of them, each a worker", examples=[4])
    price_per_hour: NonNegative | None = Field(None, description="of one device", examples=[2.5])


class FlopsDevices(_Devices):
    """Devices by FLOP/s and utilisation; step time follows from the model's FLOPs per step."""

    accelerators: tuple[Accelerator, ...] = Field(min_length=1, description="kinds of devices, and how many of each")

    def _conflicts(self) -> Conflicts:
        priced = [accelerator.price_per_hour is not None for accelerator in self.accelerators]
        if any(priced) and self.price_per_hour is not None:
            yield "price_per_hour", "is given here and for each of the accelerators: leave one of them out"
        elif any(priced) and not all(priced):
            missing = "is missing, and other accelerators have one: give all a price (0 is free)"
            yield f"accelerators.{priced.index(False)}.price_per_hour", missing

    @property
    def count(self) -> int:
        """Number of workers."""
        return sum(accelerator.count for accelerator in self.accelerators)


class ProfileDevices(_Devices):
    """A named heterogeneity level, for any number of workers."""

    profile: Literal["none", "slight", "moderate", "very"] = Field(
        description="how unlike the devices are; `tardigrad profiles` lists the seconds per step", examples=["very"]
    )
    workers: Members = Field(4, description="how many")
    scale: Positive = Field(1.0, description="factor on every step time")

    @property
    def count(self) -> int:
        """Number of workers."""
        return self.workers


class LognormalSpeed(Section):
    """Step times exp(N(ln median, sigma^2))."""

    kind: Literal["lognormal"]
    median: PositiveDuration = Field(description="of the step times")
    sigma: Sigma = Field(description="of their logarithm")


class UniformSpeed(UniformTime):
    """Step times uniform from low to high."""


class MixtureSpeed(Section):
    """Step times drawn from a few values, with weights."""

    kind: Literal["mixture"]
    seconds_per_step: tuple[PositiveDuration, ...] = Field(
        min_length=1, description="the values that are drawn from", examples=[[0.5, 2]]
    )
    weights: tuple[Positive, ...] | None = Field(
        None, description="how often each is drawn; all alike when absent", examples=[[3, 1]]
    )

    def _conflicts(self) -> Conflicts:
        if self.weights is not None and len(self.weights) != (times := len(self.seconds_per_step)):
            yield "weights", f"has {len(self.weights)} values for {times} seconds_per_step: give one for each"


class _LongTail(Section):
    kind: str
    shortest: PositiveDuration = Field(description="of the step times")
    longest: PositiveDuration | None = Field(None, description="longer step times are as long as this")

    def _conflicts(self) -> Conflicts:
        if self.longest is not None and self.longest < self.shortest:
            yield "longest", f"must be at least shortest, which is {self.shortest} s"


class ParetoSpeed(_LongTail):
    """Step times `shortest` * u^(-1/shape), u uniform in (0, 1]: few workers are very slow."""

    kind: Literal["pareto"]
    shape: Positive = Field(description="the smaller, the more workers are slow; below 1 the mean is infinite")


class ZipfSpeed(_LongTail):
    """Step times k * `shortest`, k = 1, 2, ... with a probability in proportion to k^-exponent."""

    kind: Literal["zipf"]
    exponent: Annotated[Positive, Field(gt=1)] = Field(description="the smaller, the more workers are slow")


class DistributedDevices(_Devices):
    """Many devices whose step times are drawn once per worker."""

    distribution: Annotated[
        LognormalSpeed | UniformSpeed | MixtureSpeed | ParetoSpeed | ZipfSpeed, Field(discriminator="kind")
    ] = Field(description="of the seconds per step")
    workers: Members = Field(description="how many", examples=[100])

    @property
    def count(self) -> int:
        """Number of workers."""
        return self.workers


_FORMS = ("file", "profile", "relative_speed", "accelerators", "distribution", "seconds_per_step")


def devices_form(devices: Any) -> str | None:
    """Returns the key that says in which form a `devices` mapping or section describes them, or None."""
    has = devices.__contains__ if isinstance(devices, Mapping) else lambda name: hasattr(devices, name)
    return next((name for name in _FORMS if has(name)), None)


def _devices_tag(value: Any) -> str:
    return f"<{devices_form(value) or 'seconds_per_step'}>"


Devices = Annotated[
    Annotated[TimedDevices, Tag("<seconds_per_step>")]
    | Annotated[RelativeDevices, Tag("<relative_speed>")]
    | Annotated[FlopsDevices, Tag("<accelerators>")]
    | Annotated[ProfileDevices, Tag("<profile>")]
    | Annotated[DistributedDevices, Tag("<distribution>")],
    Discriminator(_devices_tag),
]


class Direction(Section):
    """One direction of the workers' links; what is absent is taken from `network`."""

    latency: PerWorker[FiniteDuration] | None = Field(None, description="of each transfer; the network's when absent")
    bandwidth: PerWorker[Bandwidth] | None = Field(None, description="of each link; the network's when absent")
    bytes_per_parameter: Positive | None = Field(None, description="on the wire; the network's when absent")
    message_size: Size | None = Field(None, description="of one transfer; the network's when absent")
    efficiency: Fraction | None = Field(None, description="share of the bandwidth; the network's when absent")
    price_per_gigabyte: NonNegative | None = Field(
        None, description="of 1e9 bytes; the network's when absent", examples=[0.05]
    )


class ServerLink(Section):
    """One link of the server that all transfers share, first come, first served, each direction on its own."""

    bandwidth: Bandwidth = Field(description="of all transfers of a direction together")
    efficiency: Fraction = Field(1.0, description="share of the bandwidth that transfers reach")


class Network(Section):
    """Links between workers and server: one value for all workers, or one per worker."""

    latency: PerWorker[FiniteDuration] = Field(0.0, description="of each transfer; one for all workers, or a list")
    bandwidth: PerWorker[Bandwidth] = Field(
        float("inf"), description="of each worker's link; one for all workers, or a list; unlimited when absent"
    )
    bytes_per_parameter: Positive = Field(
        4.0,
        description="on the wire: 4 for float32, 2 for bfloat16; decides time, bytes and cost, not what is learned",
    )
    message_size: Size | None = Field(
        None, description="of one transfer, such as 2GiB; parameters * bytes_per_parameter when absent"
    )
    efficiency: Fraction = Field(1.0, description="share of the bandwidth that transfers reach")
    price_per_gigabyte: NonNegative | None = Field(None, description="of 1e9 bytes that are sent", examples=[0.05])
    down: Direction = Field(Direction(), description="server to worker, where it differs")
    up: Direction = Field(Direction(), description="worker to server, where it differs")
    server_link: ServerLink | None = None

    def direction(self, which: Literal["down", "up"]) -> Direction:
        """Returns the link of one direction with every field filled in."""
        own = getattr(self, which)
        return Direction.model_construct(  # the values are parsed already
            **{
                name: getattr(self, name) if getattr(own, name) is None else getattr(own, name)
                for name in Direction.model_fields
            }
        )


class Cluster(Section):
    """Workers and server: devices, links, prices and faults."""

    devices: Devices = Field(description="the workers, and how fast each is")
    network: Network = Network()
    server_update_time: FiniteDuration = Field(
        0.0, description="simulated time that the server needs for one outer step"
    )
    server_price_per_hour: NonNegative | None = Field(
        None, description="of the server, from the start to the end", examples=[2.5]
    )
    currency: str = Field("", description="of all prices, such as USD", examples=["USD"])
    faults: Faults | None = None
    pipeline: PipelineTimes | None = None

    @property
    def workers(self) -> int:
        """Number of workers."""
        return self.devices.count

    @model_validator(mode="before")
    @classmethod
    def _from_files(cls, section: Any) -> Any:
        """Replaces `file` of devices and network by the file's values, so that a record holds them."""
        if not isinstance(section, Mapping):
            return section
        wrong, replaced = [], dict(section)
        for name, columns in (("devices", DEVICE_COLUMNS), ("network", LINK_COLUMNS)):
            inner = section.get(name)
            if isinstance(inner, Mapping) and "file" in inner:
                try:
                    replaced[name] = with_workers(inner, columns)
                except ValueError as error:
                    wrong.append((f"{name}.file", str(error)))
        if wrong:
            raise ConflictError(*wrong)
        return replaced

    def _conflicts(self) -> Conflicts:
        links = {"network": self.network, "network.down": self.network.down, "network.up": self.network.up}
        lists: dict[str, object] = {
            f"{where}.{name}": getattr(link, name) for where, link in links.items() for name in ("latency", "bandwidth")
        }
        for key, value in {**lists, "devices.price_per_hour": self.devices.price_per_hour}.items():
            if isinstance(value, tuple) and len(value) != self.workers:
                yield key, f"has {len(value)} values for {self.workers} workers: give one for all, or one for each"
        if self.faults is not None:
            yield from ((f"faults.{key}", message) for key, message in self.faults.conflicts_with(self.workers))
