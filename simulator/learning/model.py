"""The model of an experiment: its sizes from the file, a preset and the data, and its costs."""

import dataclasses

import jax

import models
from simulator.experiment import Experiment
from simulator.experiment.schema.described_model import DescribedModel
from simulator.experiment.schema.experiment import TransformerModel
from simulator.host.errors import SettingError


class ModelError(SettingError):
    """A model that does not fit the data."""


@dataclasses.dataclass(frozen=True)
class ModelCosts:
    """Costs of a model, on which the cluster depends.

    Attributes:
      parameters: number of parameters, all of which are sent.
      flops_per_step: floating-point operations of a local step of one micro-batch, with those that `model.remat` does
        again.
      activations: elements that a local step sends from a stage of blocks to the next, batch * context * width; 0 where
        the model has no blocks, or nothing is known of their width.
      step_s: of a local step on a device of relative speed 1, None where the devices say it.
    """

    parameters: int
    flops_per_step: float
    activations: int = 0
    step_s: float | None = None


def costs_of(experiment: Experiment, model: models.Model) -> ModelCosts:
    """Returns the costs of an experiment's model."""
    width, step_s = 0, None
    match experiment.model:
        case TransformerModel() as section:
            width = transformer_config(section, vocabulary=1).width
        case DescribedModel() as section:
            width, step_s = section.width or 0, section.step
    activations = tokens_per_step(experiment) * width
    batch_size = experiment.inner.micro_batch
    flops = model.train_flops(batch_size) + model.repeated_flops(batch_size)
    return ModelCosts(model.parameters, flops, activations, step_s)


def is_described(experiment: Experiment) -> bool:
    """Returns whether the model of an experiment has costs alone; one that lacks the section has none."""
    return isinstance(getattr(experiment, "model", None), DescribedModel)


def check_trainable(experiment: Experiment) -> None:
    """Refuses what can only be described.

    Raises:
      ModelError: the model has no values.
    """
    if is_described(experiment):
        message = (
            "cannot be trained, only its costs are known: use `tardigrad timeline` or `tardigrad plan`, or another kind"
        )
        raise ModelError("model.kind", "described", message)


def build_model(experiment: Experiment, vocabulary: int) -> models.Model:
    """Returns the model of an experiment.

    Args:
      experiment: whose `model` section is built.
      vocabulary: token ids, or classes, of its data.

    Raises:
      ModelError: the vocabulary is smaller than the data's, or sizes do not fit together.
    """
    if isinstance(experiment.model, DescribedModel):
        return _described(experiment.model)
    if not isinstance(experiment.model, TransformerModel):
        assert experiment.data.source == "gaussian-clusters"
        return models.mlp(models.MLPConfig(experiment.data.dimension, experiment.model.hidden, vocabulary))
    config = transformer_config(experiment.model, vocabulary)
    if config.vocabulary < vocabulary:
        message = f"the tokenizer has {vocabulary} ids: give at least that, or leave it out"
        raise ModelError("model.vocabulary", config.vocabulary, message)
    return models.transformer(config)


def _described(model: DescribedModel) -> models.Model:
    tables = () if model.vocabulary is None else (model.vocabulary,) * (1 if model.tied else 2)
    return models.described(models.DescribedConfig(model.parameters, model.layers, tables, model.width), model.flops)


def transformer_config(model: TransformerModel, vocabulary: int) -> models.TransformerConfig:
    """Returns the sizes of a `model` section: the preset's, if any, changed by the other settings.

    Raises:
      ModelError: sizes do not fit together.
    """
    backend = jax.default_backend()
    given = model.model_dump(exclude={"kind", "preset", "dtype", "attention"}, exclude_none=True)
    preset = {} if model.preset is None else dataclasses.asdict(models.PRESETS[model.preset])
    given["dtype"] = models.default_dtype(backend) if model.dtype == "auto" else model.dtype
    given["attention"] = models.default_attention(backend) if model.attention == "auto" else model.attention
    try:
        return models.TransformerConfig(**({"vocabulary": vocabulary} | preset | given))
    except ValueError as error:
        raise ModelError("model", None, str(error)) from error


def context_of(experiment: Experiment) -> int | None:
    """Returns the input tokens of a window, or None where the model takes no text."""
    if isinstance(experiment.model, DescribedModel):
        return experiment.model.context
    if not isinstance(experiment.model, TransformerModel):
        return None
    if experiment.model.context is not None:
        return experiment.model.context
    assert experiment.model.preset is not None
    return models.PRESETS[experiment.model.preset].context


def tokens_per_step(experiment: Experiment) -> int:
    """Returns the number of tokens (of a classifier, examples) that a local step of one micro-batch trains on."""
    context = context_of(experiment)
    return experiment.inner.micro_batch * (context or 1)
