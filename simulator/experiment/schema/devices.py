"""The `devices` section of a cluster: the workers, and how fast each is."""

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from simulator.experiment.schema.faults import UniformTime
from simulator.experiment.schema.measured_trace import StepTimes, repeat_conflicts
from simulator.experiment.schema.per_worker import PerWorker, PerWorkerWords, Word
from simulator.experiment.schema.section import Conflicts, Section
from simulator.experiment.schema.units import (
    Flops,
    Fraction,
    Members,
    NonNegative,
    Positive,
    PositiveDuration,
    PositiveInt,
    Sigma,
    Size,
)
from simulator.host.worker_names import of_each


class _Devices(Section):
    jitter: Sigma = Field(
        0.0, description="sigma of a log-normal factor of mean 1 on each round's compute time", examples=[0.1]
    )
    price_per_hour: PerWorker[NonNegative] | None = Field(
        None,
        description="of a worker; one for all workers, or a list; decides what a run costs and nothing else",
        examples=[2.5],
    )
    names: PerWorkerWords | None = Field(
        None,
        description="kind of device of each worker, which figures and tables show: one for all, a list, or how many "
        "there are of each, in order; accelerators have one",
        examples=["H100"],
    )
    sites: PerWorkerWords | None = Field(
        None,
        description="where each worker is, for figures, tables and `network.sites`: likewise",
        examples=["east"],
    )

    @property
    def worker_sites(self) -> list[str] | None:
        """Site of each worker, None where they have none."""
        return of_each(self.sites, self.count)

    @property
    def count(self) -> int:
        """Number of workers."""
        raise NotImplementedError


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


class TracedDevices(_Devices):
    """Devices by seconds per local step that were measured over time, and are replayed."""

    trace: StepTimes = Field(
        description="a CSV or Parquet file with columns time, worker and seconds_per_step, or its rows: a step takes "
        "so long from that time on, and as at the first row before it; methods take that for the worker's speed",
        examples=["steps.csv"],
    )
    repeat_every: PositiveDuration | None = Field(
        None,
        description="after which the trace begins anew; the last row of each worker stays when absent",
        examples=["24h"],
    )

    def _conflicts(self) -> Conflicts:
        known = {row.worker for row in self.trace}
        missing = next(worker for worker in itertools.count() if worker not in known)
        if missing < self.count:
            message = f"has no row of worker {missing}, and one of worker {max(known)}: give each a row, from 0 on"
            yield "trace", message
        yield from repeat_conflicts(self.trace, self.repeat_every)

    @property
    def count(self) -> int:
        """Number of workers."""
        return 1 + max(row.worker for row in self.trace)


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
    """One kind of device, by its peak and what training reaches of it; a worker is one, or a group of them."""

    name: str = Field(
        description="of a kind of device; `tardigrad profiles` lists those whose peak is known", examples=["A100"]
    )
    peak: Flops | None = Field(None, description="from the built-in table of names when absent")
    utilization: Fraction = Field(0.4, description="share of the peak that training reaches")
    count: Members = Field(1, description="how many workers of them", examples=[4])
    each: PositiveInt = Field(
        1, description="accelerators of each worker, which share its batch, parameters and states evenly", examples=[8]
    )
    efficiency: Fraction = Field(
        1.0, description="of that group: share of `each` times the speed of one that it has", examples=[0.9]
    )
    memory: Size | None = Field(
        None, description="of one accelerator, from the built-in table of names when absent", examples=["80GB"]
    )
    price_per_hour: NonNegative | None = Field(None, description="of one accelerator", examples=[2.5])
    site: Word | None = Field(None, description="where they are", examples=["east"])

    @property
    def parallel(self) -> float:
        """Times as fast as one accelerator that a worker is."""
        return self.each * self.efficiency


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
        placed = [accelerator.site is not None for accelerator in self.accelerators]
        if any(placed) and self.sites is not None:
            yield "sites", "is given here and for the accelerators: leave one of them out"
        elif any(placed) and not all(placed):
            yield f"accelerators.{placed.index(False)}.site", "is missing, and other accelerators have one: give all"

    @property
    def worker_sites(self) -> list[str] | None:
        """Site of each worker, None where they have none."""
        if self.sites is not None or self.accelerators[0].site is None:
            return of_each(self.sites, self.count)
        return [each.site or "" for each in self.accelerators for _ in range(each.count)]

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


_FORMS = ("file", "trace", "profile", "relative_speed", "accelerators", "distribution", "seconds_per_step")


def devices_form(devices: Any) -> str | None:
    """Returns the key that says in which form a `devices` mapping or section describes them, or None."""
    has = devices.__contains__ if isinstance(devices, Mapping) else lambda name: hasattr(devices, name)
    return next((name for name in _FORMS if has(name)), None)


def _devices_tag(value: Any) -> str:
    return f"<{devices_form(value) or 'seconds_per_step'}>"


Devices = Annotated[
    Annotated[TimedDevices, Tag("<seconds_per_step>")]
    | Annotated[TracedDevices, Tag("<trace>")]
    | Annotated[RelativeDevices, Tag("<relative_speed>")]
    | Annotated[FlopsDevices, Tag("<accelerators>")]
    | Annotated[ProfileDevices, Tag("<profile>")]
    | Annotated[DistributedDevices, Tag("<distribution>")],
    Discriminator(_devices_tag),
]
