"""The `inner` section: a worker's local steps, and their learning rates."""

import math
from typing import Annotated, Literal

from pydantic import Field

from simulator.experiment.schema.micro_batches import MicroBatches
from simulator.experiment.schema.per_worker import PerWorker
from simulator.experiment.schema.pipeline import Stages
from simulator.experiment.schema.section import Conflicts, Section
from simulator.experiment.schema.units import (
    Arguments,
    Count,
    NonNegative,
    NonNegativeInt,
    Number,
    Positive,
    PositiveInt,
)
from simulator.experiment.schema.worker_words import IN_ARGUMENTS


class ConstantSchedule(Section):
    """The learning rate never changes."""

    kind: Literal["constant"]


class CosineSchedule(Section):
    """Eq. 3 of the paper, counted on each data shard's own local steps."""

    kind: Literal["cosine"]
    warmup_steps: NonNegativeInt = Field(
        0,
        description="step t of a shard, from 0, has t/warmup_steps of the learning rate: the first has 0, as in Eq. 3",
        examples=[10],
    )
    total_steps: Count | None = Field(
        None,
        description="a shard's steps until the floor is reached; its part of budget.local_steps when absent",
        examples=[1000],
    )
    final_learning_rate: NonNegative = Field(0.0, description="the floor, which stays after total_steps")
    peak_first_step: bool = Field(
        False, description="every round's first step at the highest rate, as the authors' toy notebook has it"
    )

    def _conflicts(self) -> Conflicts:
        if self.total_steps is not None and self.warmup_steps >= self.total_steps:
            yield "warmup_steps", f"must be below total_steps, which is {self.total_steps}"


Schedule = Annotated[ConstantSchedule | CosineSchedule, Field(discriminator="kind")]


Decay = Literal["all", "matrices"]


class Pull(Section):
    """Local steps that go towards what the worker last accepted, instead of along a gradient, in no time (PALSGD)."""

    probability: Annotated[Number, Field(ge=0, lt=1)] = Field(
        0.2, description="of a local step to be one; the first of a round is none, and all shards have the same"
    )
    strength: NonNegative = Field(
        0.5,
        description="factor on learning_rate / probability; other steps have learning_rate / (1 - probability)",
    )


class Inner(Section):
    """A worker's round: H local steps on its shard."""

    optimizer: str = Field("adamw", description="any optax optimizer by name")
    learning_rate: Positive = Field(description="of the inner optimizer; its peak under a schedule", examples=[0.001])
    weight_decay: NonNegative | None = Field(
        None,
        description="the optimizer's own when absent: 1e-4 of AdamW; a run's experiment.yaml shows it",
        examples=[0.1],
    )
    decay: Decay = Field("all", description="which parameters decay: all, or matrices alone, embeddings among them")
    arguments: Arguments = Field(
        {}, description=f"further keyword arguments of the optax optimizer; {IN_ARGUMENTS}", examples=[{"b1": 0.9}]
    )
    clip_norm: Positive | None = Field(None, description="clip gradients to this global norm")
    batch_size: PerWorker[PositiveInt] = Field(
        description="sequences, or points, in a local step, or in each of its micro-batches; one for all workers, or a "
        "list, of which steps are means over their greatest common divisor; devices by FLOP/s take time in proportion",
        examples=[8],
    )
    accumulation: PositiveInt = Field(
        1,
        description="equal parts of a batch, one after the other, whose mean gradient is that of the batch: the same "
        "step with the activations of a part alone, in the same simulated time",
        examples=[2],
    )
    micro_batches: MicroBatches | None = None
    local_steps: PositiveInt = Field(
        50, description="H, local steps per round (of the fastest, when dynamic; at most, of a schedule of one's own)"
    )
    state: Literal["keep", "reset"] = Field("keep", description="moments stay on the worker, or start fresh each round")
    schedule: Schedule = Field(ConstantSchedule(kind="constant"), description="of the learning rate")
    pull: Pull | None = None
    stages: Stages | None = Field(None, description="of a pipeline, which each worker then is; one device when absent")

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Sizes of the batches: of each worker, or one of all."""
        return self.batch_size if isinstance(self.batch_size, tuple) else (self.batch_size,)

    @property
    def micro_batch(self) -> int:
        """Sequences, or points, of a micro-batch, of which all batches have a whole number."""
        return math.gcd(*self.batch_sizes)

    @property
    def has_unequal_batches(self) -> bool:
        """Batches of the workers: whether some are larger than others."""
        return len({*self.batch_sizes}) > 1

    @property
    def has_growing_batches(self) -> bool:
        """Norm test: whether local steps get more micro-batches by it, so that times depend on what is trained."""
        return self.micro_batches is not None and self.micro_batches.threshold is not None

    @property
    def room(self) -> int | None:
        """Most micro-batches that a local step can have, None where all steps have one."""
        if self.micro_batches is not None:
            return self.micro_batches.room
        return max(self.batch_sizes) // self.micro_batch if self.has_unequal_batches else None

    def first_micro_batches(self, worker: int) -> int:
        """Returns the micro-batches of a worker's local step, at the start where they grow."""
        if self.micro_batches is not None:
            return self.micro_batches.start
        return self.batch_sizes[worker] // self.micro_batch if self.has_unequal_batches else 1

    def _conflicts(self) -> Conflicts:
        if not self.batch_sizes:
            yield "batch_size", "is empty: give one for all workers, or one for each"
        elif self.micro_batch % self.accumulation:
            what = "the greatest common divisor of batch_size" if self.has_unequal_batches else "batch_size"
            yield "accumulation", f"does not divide {what}, which is {self.micro_batch}: change one"
        if self.has_unequal_batches:
            for key, there in (("micro_batches", self.micro_batches), ("stages", self.stages)):
                if there is not None:
                    yield key, "beside a batch_size for each worker is not built: leave out one of them"
