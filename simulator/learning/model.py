"""The model of an experiment: its sizes from the file, a preset and the data, and its costs."""

import dataclasses

import jax

import models
from simulator.experiment import Experiment
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
        the model has no blocks.
    """

    parameters: int
    flops_per_step: float
    activations: int = 0


def costs_of(experiment: Experiment, model: models.Model) -> ModelCosts:
    """Returns the costs of an experiment's model."""
    activations = 0
    if isinstance(experiment.model, TransformerModel):
        width = transformer_config(experiment.model, vocabulary=1).width
        activations = tokens_per_step(experiment) * width
    batch_size = experiment.inner.micro_batch
    flops = model.train_flops(batch_size) + model.repeated_flops(batch_size)
    return ModelCosts(model.parameters, flops, activations)


def build_model(experiment: Experiment, vocabulary: int) -> models.Model:
    """Returns the model of an experiment.

    Args:
      experiment: whose `model` section is built.
      vocabulary: token ids, or classes, of its data.

    Raises:
      ModelError: the vocabulary is smaller than the data's, or sizes do not fit together.
    """
    if not isinstance(experiment.model, TransformerModel):
        assert experiment.data.source == "gaussian-clusters"
        return models.mlp(models.MLPConfig(experiment.data.dimension, experiment.model.hidden, vocabulary))
    config = transformer_config(experiment.model, vocabulary)
    if config.vocabulary < vocabulary:
        message = f"the tokenizer has {vocabulary} ids: give at least that, or leave it out"
        raise ModelError("model.vocabulary", config.vocabulary, message)
    return models.transformer(config)


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
