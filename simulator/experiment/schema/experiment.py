"""The experiment file's sections as frozen pydantic models. An unknown key is an error, never a silent default."""

import html
import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from simulator.experiment.schema.aggregation import Aggregation, MeanAggregation
from simulator.experiment.schema.budget import Budget
from simulator.experiment.schema.cluster import Cluster
from simulator.experiment.schema.data import ClustersData, Data, TextSource
from simulator.experiment.schema.described_model import DescribedModel, described_conflicts, without_training
from simulator.experiment.schema.exchange_conflicts import exchange_conflicts
from simulator.experiment.schema.exchanges import (
    Compression,
    Merge,
    NoCompression,
    Offer,
    OverwriteMerge,
    ParametersView,
    PseudoGradientOffer,
    ServerTopology,
    Topology,
    View,
)
from simulator.experiment.schema.inner import CosineSchedule, Decay, Inner
from simulator.experiment.schema.offer_schedule import OfferSchedule, PeriodicSchedule
from simulator.experiment.schema.outer import Outer
from simulator.experiment.schema.pipeline import pipeline_conflicts
from simulator.experiment.schema.policies import (
    BarrierSynchronization,
    FixedSteps,
    LocalSteps,
    NamedSynchronization,
    ProportionalShards,
    ShardChoice,
    Synchronization,
)
from simulator.experiment.schema.section import Conflicts, Section
from simulator.experiment.schema.units import (
    Arguments,
    Count,
    FiniteDuration,
    NonNegative,
    NonNegativeInt,
    Positive,
    PositiveDuration,
    PositiveInt,
    Size,
)
from simulator.experiment.schema.worker_words import in_numbers


class TransformerModel(Section):
    """Decoder-only transformer: a preset, free sizes, or a preset with some sizes changed."""

    kind: Literal["transformer"]
    preset: Literal["20m", "60m", "150m"] | None = Field(
        None, description="the paper's sizes; another one replaces those of the file that this is laid over"
    )
    layers: Annotated[PositiveInt, Field(le=10_000)] | None = Field(
        None, description="transformer blocks; the preset's when absent", examples=[2]
    )
    width: PositiveInt | None = Field(
        None, description="elements of a token's vector; the preset's when absent", examples=[64]
    )
    heads: PositiveInt | None = Field(
        None, description="attention heads of a layer; the preset's when absent", examples=[4]
    )
    context: PositiveInt | None = Field(None, description="longest sequence, in tokens", examples=[128])
    head_width: PositiveInt | None = Field(None, description="width / heads when absent", examples=[16])
    feed_forward: PositiveInt | None = Field(None, description="4 * width when absent", examples=[256])
    vocabulary: PositiveInt | None = Field(
        None, description="the preset's, or the tokenizer's, when absent", examples=[256]
    )
    tied: bool | None = Field(None, description="output projection = token embedding; the preset's, or true")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of activations and products: float32 on a CPU, bfloat16 on an accelerator"
    )
    attention: Literal["auto", "plain", "fused"] = Field("auto", description="plain on a CPU, fused elsewhere")
    remat: bool = Field(
        False,
        description="make each block's activations again in the backward pass, and keep its inputs alone: the same "
        "gradients in less memory; devices by FLOP/s take the time of that forward pass too",
    )

    def _conflicts(self) -> Conflicts:
        missing = [name for name in ("layers", "width", "heads", "context") if getattr(self, name) is None]
        if self.preset is not None:
            return
        if missing:
            yield "", f"also give {', '.join(missing)}, or a preset (20m, 60m, 150m)"
        elif self.head_width is None and self.width and self.heads and self.width % self.heads:
            yield "width", f"does not divide into {self.heads} heads: change one, or give head_width"


class MLPModel(Section):
    """Multi-layer perceptron classifier with ReLU, as in the authors' toy."""

    kind: Literal["mlp"]
    hidden: tuple[PositiveInt, ...] = Field((65_000,), description="widths of the hidden layers", examples=[[64]])


Model = Annotated[TransformerModel | MLPModel | DescribedModel, Field(discriminator="kind")]


class Pretrain(Section):
    """Plain training before the cluster starts, shared by all variants."""

    steps: NonNegativeInt = Field(0, description="before the clock starts; 0 for none", examples=[100])
    batch_size: PositiveInt | None = Field(
        None, description="inner.batch_size when absent; to be given where that is a list", examples=[8]
    )
    accumulation: PositiveInt | None = Field(None, description="inner.accumulation when absent", examples=[2])
    optimizer: str | None = Field(
        None, description="any optax optimizer by name; the inner one when absent", examples=["adamw"]
    )
    weight_decay: NonNegative | None = Field(
        None, description="of `optimizer`; its own default when absent", examples=[0.1]
    )
    decay: Decay | None = Field(None, description="of `optimizer`: which parameters decay, all when absent")
    arguments: Arguments = Field({}, description="further keyword arguments of `optimizer`", examples=[{"b1": 0.9}])
    learning_rate: Positive | None = Field(None, description="inner.learning_rate when absent", examples=[0.001])
    warmup_steps: NonNegativeInt = Field(
        0,
        description="step t, from 0, has (t + 1)/warmup_steps of the learning rate: unlike in Eq. 3 the first has some",
    )

    def _conflicts(self) -> Conflicts:
        for name in ("weight_decay", "decay", "arguments"):
            if self.optimizer is None and getattr(self, name) not in (None, {}):
                yield name, "belongs to pretrain.optimizer: give that too, or leave this out"


class Evaluate(Section):
    """Evaluations, besides those at the start and at the end."""

    of: Literal["consensus", "experts"] = Field(
        "consensus",
        description="the server's parameters, or without those the mean of the workers'; or of each window the worker "
        "to whose shard the routers of data.partition send it",
        examples=["consensus"],
    )
    every_local_steps: Count | None = Field(
        None, description="over all workers; not by them when absent", examples=[1000]
    )
    every_simulated: PositiveDuration | None = Field(
        None, description="simulated time; not by it when absent", examples=["10min"]
    )
    windows: PositiveInt = Field(
        512, description="how many validation windows, the same each time; all where there are fewer"
    )
    batch_size: PositiveInt = Field(64, description="most windows in one forward pass")
    takes: FiniteDuration = Field(
        0.0, description="simulated time that the server is busy with an evaluation", examples=["5s"]
    )
    per_shard: bool = Field(
        False, description="also record the loss on held-out documents like those of each shard, `windows` for each"
    )

    def _conflicts(self) -> Conflicts:
        if self.every_simulated is not None and self.takes >= self.every_simulated:
            yield "takes", "leaves the server no time: choose less than every_simulated"


class Compute(Section):
    """Computing on the host; changes speed, not meaning."""

    trainer: Literal["batched", "serial"] = Field(
        "batched", description="rounds that do not depend on each other in one program, or one after the other"
    )
    lanes: PositiveInt | None = Field(
        None,
        description="most rounds in one program, fewer where memory does not suffice; chosen when absent",
        examples=[8],
    )
    memory: Size = Field(
        0.9, description="what may be used of a device's memory (of the host's on a CPU): a size, or a share up to 1"
    )


class CheckpointSettings(Section):
    """Checkpoints of a run, from which it resumes after it was killed; changes no result."""

    every_host_minutes: Positive | None = Field(5.0, description="minutes on the host's clock; null for never")
    every_updates: Count | None = Field(None, description="server updates", examples=[100])
    keep: PositiveInt = Field(2, description="how many of the newest stay")


class AbsentSectionError(AttributeError):
    """A section that is not there, of an experiment whose file has mistakes in it."""


class Experiment(Section):
    """One simulation: a model and data, a cluster, and how they learn."""

    name: str = Field(
        min_length=1,
        description="of the experiment; results are in runs/NAME unless --out says where",
        examples=["first"],
    )
    description: str = Field(
        "", description="the question that it asks, as reports show it", examples=["does staleness matter?"]
    )
    variant: str = Field("", description="set from the name under variants", examples=["barrier"])
    scale: str = Field("", description="which of the file's scales", examples=["laptop"])
    seed: NonNegativeInt = Field(0, description="of everything that is drawn at random")
    model: Model = Field(description="what is trained")
    data: Data = Field(description="what it is trained on, and how that is divided among the workers")
    cluster: Cluster
    inner: Annotated[Inner, in_numbers()]
    local_steps: LocalSteps = Field(
        FixedSteps(kind="fixed"), description="how many local steps a worker does in a round"
    )
    shard_choice: ShardChoice = Field(
        ProportionalShards(kind="proportional"), description="which data shard a worker trains on in a round"
    )
    synchronization: Synchronization = Field(description="which workers restart together, and when")
    outer: Outer = Field(description="what the server does with the pseudo-gradients that arrive")
    method: dict[str, Any] = Field(
        {}, description="what fills the sections below, each of which may be given beside it", examples=["diloco"]
    )
    schedule: OfferSchedule = Field(
        PeriodicSchedule(), description="when a worker offers, and when it accepts what it is answered"
    )
    topology: Topology = Field(ServerTopology(kind="server"), description="where offers meet")
    offer: Offer = Field(PseudoGradientOffer(), description="what is offered")
    compression: Compression = Field(NoCompression(kind="none"), description="form in which offers are sent")
    aggregation: Aggregation = Field(MeanAggregation(kind="mean"), description="how the offers of a meeting become one")
    view: View = Field(ParametersView(kind="parameters"), description="what a place hands out")
    merge: Merge = Field(OverwriteMerge(kind="overwrite"), description="what a worker does with an answer")
    pretrain: Annotated[Pretrain, in_numbers()] = Pretrain()
    budget: Budget
    evaluate: Evaluate = Evaluate()
    compute: Compute = Compute()
    checkpoint: CheckpointSettings = CheckpointSettings()

    if not TYPE_CHECKING:  # to which every name would then be an attribute

        def __getattr__(self, name: str) -> Any:
            if name in Experiment.model_fields:
                raise AbsentSectionError(name)
            return super().__getattr__(name)

    @model_validator(mode="before")
    @classmethod
    def _without_training(cls, section: Any) -> Any:
        return without_training(section)

    def _conflicts(self) -> Conflicts:
        is_described = isinstance(self.model, DescribedModel)
        if not is_described and isinstance(self.data, ClustersData) == isinstance(self.model, TransformerModel):
            remedy = "a transformer takes text, an mlp takes gaussian-clusters"
            yield "model.kind", f"cannot learn from data source {self.data.source!r}: {remedy}"
        sizes = getattr(self.data.partition, "sizes", None) if isinstance(self.data, TextSource) else None
        if sizes is not None and len(sizes) != self.shards:
            absent = "" if self.data.shards else ", one for each worker"
            message = f"has {len(sizes)} values for {self.shards} shards{absent}: give one for each"
            yield "data.partition.sizes", message
        if isinstance(self.inner.batch_size, tuple) and len(self.inner.batch_size) != self.cluster.workers:
            sizes = f"has {len(self.inner.batch_size)} values for {self.cluster.workers} workers"
            yield "inner.batch_size", f"{sizes}: give one for all, or one for each"
        yield from exchange_conflicts(self)
        yield from pipeline_conflicts(self)
        yield from described_conflicts(self)
        yield from self._barrier_conflicts()
        yield from self._schedule_conflicts()
        if 0 < self.pretrain.steps < self.pretrain.warmup_steps:
            yield "pretrain.warmup_steps", f"must not exceed pretrain.steps, which is {self.pretrain.steps}"
        yield from self._pretrain_parts_conflicts()

    def _pretrain_parts_conflicts(self) -> Conflicts:
        pretrain, inner = self.pretrain, self.inner
        if pretrain.steps and pretrain.batch_size is None and inner.has_unequal_batches:
            yield "pretrain.batch_size", "is missing, and workers have batches of their own: give it"
            return
        batch, key = (pretrain.batch_size, "pretrain") if pretrain.batch_size else (inner.micro_batch, "inner")
        if not pretrain.steps or batch % (pretrain.accumulation or inner.accumulation) == 0:
            return
        message = f"does not divide {key}.batch_size, which is {batch}: "
        if pretrain.accumulation:
            yield "pretrain.accumulation", f"{message}change one"
        elif key == "pretrain":  # else inner says so
            yield "inner.accumulation", f"{message}also give pretrain.accumulation"

    def _barrier_conflicts(self) -> Conflicts:
        if isinstance(self.synchronization, BarrierSynchronization):
            if self.synchronization.quorum > self.cluster.workers:
                yield "synchronization.quorum", f"is more than there are workers, {self.cluster.workers}: choose fewer"
            sample = self.synchronization.sample
            if sample is not None and self.synchronization.quorum > sample:
                yield "synchronization.quorum", f"is more than synchronization.sample, which is {sample}: choose fewer"
            if self.synchronization.quorum > 1 and self.synchronization.timeout == math.inf:
                yield "synchronization.quorum", "matters at a timeout only: also give synchronization.timeout"
        unknown = isinstance(self.synchronization, NamedSynchronization) and not self.synchronization.is_registered
        if unknown or not self.synchronization.averages_group:
            return
        if self.outer.arrivals_per_update > 1:
            yield (
                "outer.arrivals_per_update",
                "averages asynchronous arrivals, and a barrier already averages: leave it out",
            )
        nothing = "has no effect on the mean of a meeting: leave it out"
        if self.outer.staleness.kind != "constant":
            yield "outer.staleness", nothing
        if self.outer.delay_compensation > 0:
            yield "outer.delay_compensation", nothing

    def _schedule_conflicts(self) -> Conflicts:
        schedule = self.inner.schedule
        if isinstance(schedule, CosineSchedule) and schedule.total_steps is None:
            if self.budget.local_steps is None:
                remedy = "give it, or budget.local_steps from which it follows"
                yield "inner.schedule.total_steps", f"is missing, so the cosine has no end: {remedy}"
                return
            uneven = isinstance(self.data, TextSource) and not self.data.even
            total = -(-self.budget.local_steps // self.shards)  # of a shard, where all have as many
            if schedule.warmup_steps >= total and not (uneven and self.shard_choice.kind == "proportional"):
                source = f"budget.local_steps {self.budget.local_steps} over {self.shards} shards"
                yield "inner.schedule.warmup_steps", f"must be below total_steps, which is {total} ({source})"

    def to_yaml(self) -> str:
        """Returns the experiment as YAML, without its defaults."""
        settings = self.model_dump(mode="json", exclude_unset=True)
        return str(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=100))

    def _repr_html_(self) -> str:
        """Shows the file in a notebook."""
        return f"<pre>{html.escape(self.to_yaml())}</pre>"

    @property
    def shards(self) -> int:
        """Number of data shards."""
        return self.data.shards or self.cluster.workers
