"""A model of which only the costs are described: for timelines and plans of what is too large to train here."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from simulator.experiment.schema.devices import RelativeDevices, devices_form
from simulator.experiment.schema.section import Conflicts, Section
from simulator.experiment.schema.units import Count, Positive, PositiveDuration, PositiveInt

_FLOPS = 6
"""Operations of a token and parameter: 2 forward, 4 backward."""


class DescribedModel(Section):
    """A model of which only the costs are known, for `timeline` and `plan`: it cannot be trained, and needs no data."""

    kind: Literal["described"]
    parameters: Annotated[Count, Field(le=10**15)] = Field(
        description="number of them, all of which are sent", examples=[10_000_000_000]
    )
    layers: Annotated[PositiveInt, Field(le=10_000)] = Field(
        description="alike, of which fragments and stages are made", examples=[48]
    )
    context: PositiveInt = Field(description="tokens of a sequence", examples=[2048])
    width: PositiveInt | None = Field(
        None, description="elements of a token's vector, for what activations take", examples=[4096]
    )
    vocabulary: PositiveInt | None = Field(
        None,
        description="token ids: with width, how many of the parameters are embeddings, which are in the first fragment",
        examples=[32_000],
    )
    tied: bool = Field(True, description="output projection = token embedding; else it is as large once more")
    step: PositiveDuration | None = Field(
        None, description="time of a local step on a device of relative speed 1; else it follows from operations"
    )
    flops_per_token: Positive | None = Field(
        None, description="operations of a forward and backward pass; 6 * parameters when absent", examples=[6e10]
    )
    remat: bool = Field(
        False, description="make activations again in the backward pass: less memory, and a third more operations"
    )

    @property
    def embeddings(self) -> int:
        """Parameters of the token embedding, and of the output projection where that is another one."""
        return (1 if self.tied else 2) * (self.vocabulary or 0) * (self.width or 0)

    def flops(self, sequences: int) -> float:
        """Returns the operations of a forward and backward pass on a batch of sequences."""
        each = float(_FLOPS * self.parameters) if self.flops_per_token is None else self.flops_per_token
        return each * sequences * self.context * (4 / 3 if self.remat else 1)

    def _conflicts(self) -> Conflicts:
        if self.step is not None and self.flops_per_token is not None:
            yield "step", "beside flops_per_token, which a time follows from too: leave one of them out"
        if self.vocabulary is not None and self.width is None:
            yield "vocabulary", "has no effect without width: give that too, or leave it out"
        if not self.tied and not self.embeddings:
            yield "tied", "has no effect without vocabulary and width: give them too, or leave it out"
        if self.parameters < self.embeddings + self.layers:
            message = f"is too few for {self.layers} layers and {self.embeddings} in embeddings: check the sizes"
            yield "parameters", message


def without_training(section: Any) -> Any:
    """Returns an experiment as a file has it, in which what a described model does not need need not be given.

    It reads no data and never steps, so `data` and `inner.learning_rate` have no effect.
    """
    model = section.get("model") if isinstance(section, Mapping) else None
    if not isinstance(model, Mapping) or model.get("kind") != "described":
        return section
    inner = section.get("inner")
    changes: dict[str, Any] = {} if section.get("data") else {"data": {"source": "none"}}
    if isinstance(inner, Mapping) and "learning_rate" not in inner:
        changes["inner"] = {**inner, "learning_rate": 1.0}
    return {**section, **changes}


def described_conflicts(experiment: Any) -> Conflicts:
    """Yields the conflicts of an `Experiment` whose model is only described, each with its dotted key."""
    model, data, devices = experiment.model, experiment.data, experiment.cluster.devices
    if not isinstance(model, DescribedModel):
        if data.source == "none":
            yield "data.source", "of nothing can be learned: give a source, or choose model.kind: described"
        return
    trained = "is of training, and a described model cannot be trained: leave it out"
    partition = getattr(data, "partition", None)
    if partition is not None and (partition.kind != "iid" or partition.sizes):
        yield "data.partition", "divides data by what they are, and a described model reads none: leave it out"
    if experiment.pretrain.steps:
        yield "pretrain.steps", trained
    if experiment.inner.has_growing_batches:
        yield "inner.micro_batches.threshold", trained
    if model.step is None:
        return
    form = devices_form(devices)
    if not isinstance(devices, RelativeDevices):
        message = (
            f"is of relative speed 1, and cluster.devices.{form} says speeds: leave it out, or give relative_speed"
        )
        yield "model.step", message
    elif devices.seconds_per_step not in (1.0, model.step):
        message = f"beside cluster.devices.seconds_per_step, which is {devices.seconds_per_step:g} s: leave one out"
        yield "model.step", message
