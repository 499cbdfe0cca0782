"""Memory that a worker's accelerators need in the cluster that is simulated, whatever this host has."""

import math
from collections.abc import Iterator

import jax

from simulator.experiment import Experiment
from simulator.experiment.schema.described_model import DescribedModel
from simulator.experiment.schema.experiment import TransformerModel
from simulator.learning.memory import Needs, tree_bytes
from simulator.learning.model import context_of, transformer_config
from simulator.learning.setup import Setup

UNKNOWN_WIDTH = "activations are not counted: give model.width"


def worker_needs(setup: Setup) -> Needs | None:
    """Returns the bytes of a worker by purpose, all of its accelerators together; None of a model without layers.

    Parameters, gradients and states are held once, in 32 bits, activations in 16: what the accelerators of a group
    share evenly is the sum (states, gradients and parameters sharded, the batch and what is kept of it divided).

    Args:
      setup: of the experiment.

    Raises:
      SettingError: as `Setup.inner` and `Setup.outer`.
    """
    if not isinstance(setup.experiment.model, DescribedModel | TransformerModel):
        return None
    parts: dict[str, float] = {}
    for what, size in _parts(setup):
        parts[what] = parts.get(what, 0.0) + size
    return Needs({what: size for what, size in parts.items() if size})


def accelerators_of(experiment: Experiment, each: int) -> int:
    """Returns the accelerators of a worker that has a pipeline, each stage with a group of its own, or none."""
    stages = experiment.inner.stages
    return each if stages is None else each * stages.count


def activation_bytes(experiment: Experiment) -> float:
    """Returns the bytes that a local step keeps for its backward pass, NaN where the width is not known.

    Of every layer and token, in 16 bits: what goes into both normalizations, the first projections of attention and
    MLP, queries, keys, values and their mixture, and the MLP's hidden values twice: 32 bytes per element of the width
    where that is the heads' too and a quarter of the hidden one. Attention keeps no weights, and the loss no logits. It
    is that of one micro-batch, or part of the largest batch, whose activations are gone before the next one. With
    `model.remat` it is what goes into each layer, and all of one.
    """
    inner, context = experiment.inner, context_of(experiment)
    tokens = (context or 1) * max(inner.batch_sizes) / inner.accumulation
    match experiment.model:
        case TransformerModel() as section:
            config = transformer_config(section, vocabulary=1)
            heads, hidden, layers, width = (
                config.heads * config.key_width,
                config.hidden_width,
                config.layers,
                config.width,
            )
        case DescribedModel(width=int(width), layers=layers):
            heads, hidden = width, 4 * width
        case _:
            return math.nan
    of_layer = 4 * width + 4 * heads + 2 * hidden
    return 2.0 * tokens * (layers * width + of_layer if experiment.model.remat else layers * of_layer)


def _parts(setup: Setup) -> Iterator[tuple[str, float]]:
    experiment, like = setup.experiment, setup.params_like
    params = tree_bytes(like)
    topology, merge, schedule = experiment.topology, experiment.merge, experiment.schedule
    several, parts = experiment.inner.micro_batches, experiment.inner.accumulation
    yield "parameters", params
    summed = parts > 1 or (several is not None and several.room > 1)
    yield "gradients", params * (1 + summed)  # of all so far, and of one
    yield "inner optimizer", tree_bytes(jax.eval_shape(setup.inner(like)(1.0).init, like))
    if topology.kind != "nobody":
        yield "what it last accepted", params
    if merge.has_outer or not topology.has_server:
        yield "outer optimizer", tree_bytes(jax.eval_shape(setup.outer(like).init, like))
    if experiment.compression.feedback is not None:
        yield "error feedback", params
    if not schedule.waits:
        copies = 2 if merge.kind == "keep_progress" else 1  # and its parameters of that time
        yield "offers on their way", copies * params * _under_way(setup)
    activations = activation_bytes(experiment)
    yield "activations", 0.0 if math.isnan(activations) else activations


def _under_way(setup: Setup) -> float:
    """Returns the share of the model in offers that a worker has on their way at once, at most, if none is late."""
    schedule, steps = setup.experiment.schedule, setup.experiment.inner.local_steps
    _, shares = setup.exchanges.shares
    at_once = min(schedule.fragments, 1 + schedule.overlap * schedule.fragments // steps)
    return sum(sorted(shares)[-at_once:])
