"""What can be told of an experiment without JAX, which takes seconds to load: that nothing is wrong with it."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from simulator.cluster import ClusterError, build_cluster
from simulator.data import DataError, vocabulary_of
from simulator.data.sufficient import check_sizes, shard_sizes_at_once
from simulator.experiment import Experiment
from simulator.experiment.data_schema import ClustersData, Data, SyntheticData
from simulator.experiment.named import NamedPolicy
from simulator.experiment.outer_schema import NamedOuter
from simulator.experiment.schema import TransformerModel

_OF_ALL = {"vocabulary": 32_000, "head_width": 64, "context": 256}
PRESETS: Mapping[str, Mapping[str, int]] = {
    "20m": _OF_ALL | {"layers": 6, "width": 256, "heads": 4, "tied": False},
    "60m": _OF_ALL | {"layers": 3, "width": 896, "heads": 16, "tied": True},
    "150m": _OF_ALL | {"layers": 12, "width": 896, "heads": 16, "tied": True},
}
"""Sizes of the model presets."""

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
        model = experiment.model
        if not isinstance(model, TransformerModel):
            return experiment.data.source == "gaussian-clusters"
        needed = self._vocabulary(experiment.data)
        sizes = _sizes(model, needed)
        fits = sizes.get("head_width") or sizes["width"] % sizes["heads"] == 0
        return sizes["vocabulary"] >= needed and bool(fits)

    def _vocabulary(self, data: Data) -> int:
        key = data.model_dump_json()
        if key not in self._vocabularies:
            self._vocabularies[key] = vocabulary_of(data)
        return self._vocabularies[key]

    def parameters(self, experiment: Experiment) -> int:
        """Returns how many parameters the model of a valid experiment has.

        Raises:
          DataError: the tokenizer cannot be read.
        """
        model, data = experiment.model, experiment.data
        if isinstance(model, TransformerModel):
            return _parameters(_sizes(model, self._vocabulary(data)))
        assert isinstance(data, ClustersData)
        widths = (data.dimension, *model.hidden, data.classes)
        return sum((before + 1) * after for before, after in pairwise(widths))

    def _shard_sizes(self, experiment: Experiment) -> Sequence[int] | None:
        model, data, shards = experiment.model, experiment.data, experiment.shards
        context = None
        if isinstance(model, TransformerModel):
            context = _sizes(model, 0)["context"]
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
        if sizes is None:
            return None
        batch = max(
            experiment.inner.batch_size,
            experiment.pretrain.batch_size or 0,
            min(experiment.evaluate.batch_size, experiment.evaluate.windows),
        )
        if isinstance(model, TransformerModel):
            activations, context = _activations(_sizes(model, self._vocabulary(data)))
        else:
            assert isinstance(data, ClustersData)
            activations, context = 10 * sum((data.dimension, *model.hidden, data.classes)), 0
        params = self.parameters(experiment)
        copies = 10 * experiment.cluster.workers + 40
        return 4.0 * (copies * params + batch * activations + _data(data, sizes, context)) + _SMALL


def _sizes(model: TransformerModel, vocabulary: int) -> Mapping[str, int]:
    """Returns the sizes of a transformer by name: its own, its preset's, or what follows from the data's vocabulary."""
    given = {name: value for name, value in model.model_dump().items() if name in _SIZES and value is not None}
    return {"vocabulary": vocabulary, "tied": True, **PRESETS.get(model.preset or "", {}), **given}


_SIZES = ("layers", "width", "heads", "context", "head_width", "feed_forward", "vocabulary", "tied")


def _parameters(sizes: Mapping[str, int]) -> int:
    """Returns how many parameters a transformer has."""
    D, F, inner = _widths(sizes)
    tables = (1 if sizes["tied"] else 2) * sizes["vocabulary"] + sizes["context"]
    return tables * D + sizes["layers"] * (4 * D * inner + 2 * D * F + 2 * D) + D


def _activations(sizes: Mapping[str, int]) -> tuple[int, int]:
    """Returns a bound of what a step of a transformer keeps of an example and computes beside it, and the context."""
    D, F, inner = _widths(sizes)
    T = sizes["context"]
    block = 20 * D + 10 * inner + 8 * F + 8 * sizes["heads"] * T
    return T * (sizes["layers"] * block + 10 * D + 10 * sizes["vocabulary"]), T


def _widths(sizes: Mapping[str, int]) -> tuple[int, int, int]:
    """Returns the widths of the residual stream, of the MLP and of all heads."""
    D, heads = sizes["width"], sizes["heads"]
    return D, sizes.get("feed_forward") or 4 * D, heads * (sizes.get("head_width") or D // heads)


def _data(data: Data, sizes: Sequence[int], context: int) -> float:
    """Returns a bound of the numbers in a data set, those of validation and of the shards' own validation included."""
    if isinstance(data, ClustersData):
        return data.points * (data.dimension + 1)
    if isinstance(data, SyntheticData):
        return data.tokens + data.validation_tokens
    held_out = data.validation_fraction / (1 - data.validation_fraction) * (1 + len(sizes))
    return sum(sizes) * (context + 1) * (1 + 2 * held_out)


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
