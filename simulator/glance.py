"""What can be told of an experiment without JAX, which takes seconds to load: that nothing is wrong with it."""

from collections.abc import Sequence
from itertools import pairwise

from simulator.cluster import ClusterError, build_cluster
from simulator.data import DataError, vocabulary_of
from simulator.data.sufficient import check_sizes, shard_sizes_at_once
from simulator.experiment import Experiment
from simulator.experiment.data_schema import ClustersData, Data, SyntheticData
from simulator.experiment.named import NamedPolicy
from simulator.experiment.outer_schema import NamedOuter
from simulator.experiment.schema import Model, TransformerModel

PRESETS = {"20m": (32_000, 256), "60m": (32_000, 256), "150m": (32_000, 256)}
"""Vocabulary and context of the model presets."""

INNER = {
    "adagrad": False,
    "adam": False,
    "adamax": False,
    "adamw": True,
    "lamb": True,
    "lion": True,
    "nadam": False,
    "nadamw": True,
    "radam": False,
    "rmsprop": False,
    "sgd": False,
}
"""Optimizers of optax that can be inner ones, and whether they take a weight decay."""

LEAST_MEMORY = 2e9
"""Bytes that every device has: what may need more than an experiment's share of them is looked at closely."""

_POLICIES = ("local_steps", "shard_choice")  # that of synchronization is built by the schema
_SIZED = {"model", "data", "cluster", "inner", "outer", "evaluate"}
_SMALL = 1e5  # bytes of counts and the like


class Glance:
    """Looks at experiments one after another; what they have in common is looked at once."""

    def __init__(self) -> None:
        self._vocabularies: dict[str, int] = {}
        self._sizes: dict[str, Sequence[int] | None] = {}

    def surely_valid(self, experiment: Experiment, *, data: bool = True) -> bool:
        """Returns whether it is certain that `check` finds nothing wrong; if not, `check` tells.

        Args:
          experiment: the sections that are free of mistakes, as `expand` gives them.
          data: whether to look at the data too.
        """
        has = {name for name in ("model", "data", "cluster", "inner", "outer", "evaluate") if hasattr(experiment, name)}
        try:
            return (
                (not has >= {"model", "data", "cluster", "inner"} or self._model_fits(experiment))
                and (not data or not has >= {"model", "data", "cluster"} or self._data_suffice(experiment))
                and ("cluster" not in has or _cluster_is_known(experiment))
                and ("inner" not in has or _inner_is_known(experiment))
                and ("outer" not in has or not isinstance(experiment.outer, NamedOuter))
                and not any(isinstance(getattr(experiment, name, None), NamedPolicy) for name in _POLICIES)
                and (not data or not has >= _SIZED or self._memory_suffices(experiment))
            )
        except (ClusterError, DataError):
            return False

    def _model_fits(self, experiment: Experiment) -> bool:
        """Returns whether the model takes the data's tokens; that its sizes fit together the schema has found out."""
        model, key = experiment.model, experiment.data.model_dump_json()
        if not isinstance(model, TransformerModel):
            return experiment.data.source == "gaussian-clusters"
        if key not in self._vocabularies:
            self._vocabularies[key] = vocabulary_of(experiment.data)
        needed = self._vocabularies[key]
        return (model.vocabulary or (PRESETS[model.preset][0] if model.preset else needed)) >= needed

    def _shard_sizes(self, experiment: Experiment) -> Sequence[int] | None:
        model, data, shards = experiment.model, experiment.data, experiment.shards
        context = None
        if isinstance(model, TransformerModel):
            context = model.context or (PRESETS[model.preset][1] if model.preset else None)
        key = f"{data.model_dump_json()} {shards} {context}"
        if key not in self._sizes:
            self._sizes[key] = shard_sizes_at_once(data, shards=shards, context=context)
        return self._sizes[key]

    def _data_suffice(self, experiment: Experiment) -> bool:
        sizes = self._shard_sizes(experiment)
        if sizes is not None and hasattr(experiment, "inner"):
            check_sizes(experiment, sizes)
        return sizes is not None

    def _memory_suffices(self, experiment: Experiment) -> bool:
        """Returns whether what is needed at most, with one round at a time, is certain to be there."""
        allowed = experiment.compute.memory
        needed = self.memory_bound(experiment)
        return needed is not None and needed <= (allowed if allowed > 1 else allowed * LEAST_MEMORY)

    def memory_bound(self, experiment: Experiment) -> float | None:
        """Returns more bytes than the estimate of a simulation is with one round at a time, None where that takes more.

        A worker takes its version, a result and two inner optimizer states, each three times the parameters at most.
        """
        model, data, sizes = experiment.model, experiment.data, self._shard_sizes(experiment)
        if sizes is None or (isinstance(model, TransformerModel) and model.preset):
            return None
        batch = max(
            experiment.inner.batch_size,
            experiment.pretrain.batch_size or 0,
            min(experiment.evaluate.batch_size, experiment.evaluate.windows),
        )
        if isinstance(model, TransformerModel):
            params, activations = _transformer(model, self._vocabularies[data.model_dump_json()])
        else:
            assert isinstance(data, ClustersData)
            widths = (data.dimension, *model.hidden, data.classes)
            params, activations = sum((a + 1) * b for a, b in pairwise(widths)), 10 * sum(widths)
        copies = 10 * experiment.cluster.workers + 40
        return 4.0 * (copies * params + batch * activations + _data(data, sizes, model)) + _SMALL


def _transformer(model: TransformerModel, vocabulary: int) -> tuple[int, int]:
    """Returns bounds of a transformer's parameters, and of what a step keeps of an example and computes beside it."""
    assert model.layers
    assert model.width
    assert model.heads
    assert model.context
    D, T, V = model.width, model.context, model.vocabulary or vocabulary
    F, inner = model.feed_forward or 4 * D, model.heads * (model.head_width or D // model.heads)
    params = 2 * V * D + T * D + model.layers * (4 * D * inner + 2 * D * F + 2 * D) + D
    block = 20 * D + 10 * inner + 8 * F + 8 * model.heads * T
    return params, T * (model.layers * block + 10 * D + 10 * V)


def _data(data: Data, sizes: Sequence[int], model: Model) -> float:
    """Returns a bound of the numbers in a data set, those of validation and of the shards' own validation included."""
    if isinstance(data, ClustersData):
        return data.points * (data.dimension + 1)
    if isinstance(data, SyntheticData):
        return data.tokens + data.validation_tokens
    assert isinstance(model, TransformerModel)
    assert model.context
    held_out = data.validation_fraction / (1 - data.validation_fraction) * (1 + len(sizes))
    return sum(sizes) * (model.context + 1) * (1 + 2 * held_out)


def _cluster_is_known(experiment: Experiment) -> bool:
    build_cluster(experiment.cluster, parameters=1, flops_per_step=1.0, seed=experiment.seed)
    return True


def _inner_is_known(experiment: Experiment) -> bool:
    inner, pretrain = experiment.inner, experiment.pretrain
    chosen = [(inner.optimizer, inner.weight_decay)]
    if pretrain.optimizer is not None:
        chosen.append((pretrain.optimizer, pretrain.weight_decay))
    plain = inner.decay == "all" and pretrain.decay != "matrices" and not inner.arguments and not pretrain.arguments
    return plain and all(name in INNER and (decay is None or INNER[name]) for name, decay in chosen)
