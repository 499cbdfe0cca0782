"""The `inner` section: a worker's local steps, and their learning rates."""

from typing import Annotated, Literal

from pydantic import Field

from simulator.experiment.schema.micro_batches import MicroBatches
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
    batch_size: PositiveInt = Field(
        description="sequences, or points, in a local step, or in each of its micro-batches", examples=[8]
    )
    accumulation: PositiveInt = Field(
        1,
        description="equal parts of a batch, one after the other, whose mean gradient is that of the batch: the same "
        "step with the activations of a part alone, in the same simulated time",
        examples=[8],
    )
    micro_batches: MicroBatches | None = None
    local_steps: PositiveInt = Field(
        50, description="H, local steps per round (of the fastest, when dynamic; at most, of a schedule of one's own)"
    )
    state: Literal["keep", "reset"] = Field("keep", description="moments stay on the worker, or start fresh each round")
    schedule: Schedule = Field(ConstantSchedule(kind="constant"), description="of the learning rate")
    pull: Pull | None = None
    stages: Stages | None = Field(None, description="of a pipeline, which each worker then is; one device when absent")

    def _conflicts(self) -> Conflicts:
        if self.batch_size % self.accumulation:
            yield "accumulation", f"does not divide batch_size, which is {self.batch_size}: change one"
