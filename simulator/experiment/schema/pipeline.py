"""Workers that are pipelines: the stages of `inner.stages`, and their times in `cluster.pipeline`."""

import math
from typing import Annotated, Any, Literal

from pydantic import Field

from simulator.experiment.schema.devices import devices_form
from simulator.experiment.schema.section import Conflicts, Section
from simulator.experiment.schema.units import Bandwidth, FiniteDuration, Number, Positive, PositiveInt

_Stages = Annotated[PositiveInt, Field(le=1_000)]
_COUNT = "P, stages of neighboring blocks, each on a device like the worker's"


class AsynchronousStages(Section):
    """Stages that never wait for each other's updates: all but the last have gradients at parameters of before."""

    kind: Literal["asynchronous"]
    count: _Stages = Field(description=_COUNT, examples=[4])
    passes_per_update: PositiveInt = Field(
        1, description="K, backward passes of an update, each of batch_size / K sequences"
    )
    correction_steps: PositiveInt | None = Field(
        None,
        description="divide a stage's learning rate at its update t by delay^(1 - t/this) until then; not when absent",
        examples=[7000],
    )
    adaptive_momentum: Annotated[Number, Field(ge=0, lt=1)] | None = Field(
        None,
        description="the i-th stage's momentum (b1 of Adams) is m + (this - m)(P - i)/P for that of the optimizer, m; "
        "all have m when absent",
        examples=[0.99],
    )

    @property
    def delays(self) -> tuple[int, ...]:
        """Updates by which each stage's gradient is late: floor((2 (P - i) + 1) / 2K) of stage i from 1."""
        return tuple((2 * left + 1) // (2 * self.passes_per_update) for left in reversed(range(self.count)))

    def _conflicts(self) -> Conflicts:
        if self.correction_steps is not None and max(self.delays) < 2:
            yield "correction_steps", "has no effect: no stage's gradient is two or more updates late: leave it out"
        if self.adaptive_momentum is not None and self.count == 1:
            yield "adaptive_momentum", "has no effect on a single stage: leave it out"


class GPipeStages(Section):
    """Stages that are filled and drained in each step, as GPipe's: they take time, and train like one device."""

    kind: Literal["gpipe"]
    count: _Stages = Field(description=_COUNT, examples=[4])
    micro_batches: PositiveInt = Field(
        description="n, parts of a batch that go through one behind the other; 4 in the script of arXiv 2505.01099",
        examples=[2],
    )


Stages = Annotated[AsynchronousStages | GPipeStages, Field(discriminator="kind")]


class PipelineTimes(Section):
    """Times of the stages of `inner.stages`, the same for all workers; prices are those of a worker, not of a stage."""

    shares: Annotated[tuple[Positive, ...], Field(min_length=1)] | None = Field(
        None,
        description="of each stage in the time that a local step takes on one device, in any unit; equal when absent",
        examples=[[1, 1, 2]],
    )
    latency: FiniteDuration = Field(0.0, description="between neighboring stages")
    bandwidth: Bandwidth = Field(float("inf"), description="of that link, in each direction; unlimited when absent")
    bytes_per_element: Positive = Field(4.0, description="of activations on it: batch * context * width elements")


def pipeline_conflicts(experiment: Any) -> Conflicts:
    """Yields the conflicts of an `Experiment` whose workers are pipelines, each with its dotted key."""
    inner, times = experiment.inner, experiment.cluster.pipeline
    stages = inner.stages
    if stages is None:
        return
    asynchronous = isinstance(stages, AsynchronousStages)
    parts, key = (
        (stages.passes_per_update, "passes_per_update") if asynchronous else (stages.micro_batches, "micro_batches")
    )
    if inner.micro_batch % parts:
        yield f"inner.stages.{key}", f"does not divide inner.batch_size, which is {inner.micro_batch}: change one"
    if times is not None:
        if times.shares is not None and len(times.shares) != stages.count:
            yield (
                "cluster.pipeline.shares",
                f"has {len(times.shares)} values for {stages.count} stages: give one for each",
            )
        if times.bandwidth < math.inf and experiment.model.kind == "described" and experiment.model.width is None:
            yield "cluster.pipeline.bandwidth", "is of activations, whose size model.width decides: give that too"
        if times.bandwidth < math.inf and experiment.model.kind == "mlp":
            message = "is of a transformer's activations, and the model is an mlp: give latency alone"
            yield "cluster.pipeline.bandwidth", message
    if devices_form(experiment.cluster.devices) == "trace":
        yield "cluster.devices.trace", "beside inner.stages is not built: leave out one of them"
    if inner.pull is not None:
        yield "inner.stages", "beside inner.pull is not built: leave out one of them"
    if asynchronous:
        yield from _asynchronous(experiment, stages)


def _asynchronous(experiment: Any, stages: AsynchronousStages) -> Conflicts:
    if experiment.cluster.faults is not None:
        yield "cluster.faults", "beside inner.stages.kind: asynchronous is not built: leave out one of them"
    if experiment.schedule.seconds is not None:
        message = (
            "counts steps that take one time, and the first of an asynchronous pipeline takes longer: leave it out"
        )
        yield "schedule.seconds", message
    if experiment.inner.state != "reset":
        return
    if stages.correction_steps is not None:
        message = "counts a worker's updates, which inner.state: reset forgets: leave out one of them"
        yield "inner.stages.correction_steps", message
    if not experiment.schedule.waits:
        message = "drains the pipeline at every offer, and a worker with this schedule goes on: keep it"
        yield "inner.state", message
