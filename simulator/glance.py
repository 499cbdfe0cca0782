"""What can be told of an experiment without JAX, which takes seconds to load: that nothing is wrong with it."""

from collections.abc import Sequence

from simulator.cluster import ClusterError, build_cluster
from simulator.data import DataError, vocabulary_of
from simulator.data.sufficient import check_sizes, shard_sizes_at_once
from simulator.experiment import Experiment
from simulator.experiment.named import NamedPolicy
from simulator.experiment.outer_schema import NamedOuter
from simulator.experiment.schema import TransformerModel

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


_POLICIES = ("local_steps", "shard_choice")  # that of synchronization is built by the schema


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
        has = {name for name in ("model", "data", "cluster", "inner", "outer") if hasattr(experiment, name)}
        try:
            return (
                (not has >= {"model", "data", "cluster", "inner"} or self._model_fits(experiment))
                and (not data or not has >= {"model", "data", "cluster"} or self._data_suffice(experiment))
                and ("cluster" not in has or _cluster_is_known(experiment))
                and ("inner" not in has or _inner_is_known(experiment))
                and ("outer" not in has or not isinstance(experiment.outer, NamedOuter))
                and not any(isinstance(getattr(experiment, name, None), NamedPolicy) for name in _POLICIES)
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

    def _data_suffice(self, experiment: Experiment) -> bool:
        model, data, shards = experiment.model, experiment.data, experiment.shards
        context = None
        if isinstance(model, TransformerModel):
            context = model.context or (PRESETS[model.preset][1] if model.preset else None)
        key = f"{data.model_dump_json()} {shards} {context}"
        if key not in self._sizes:
            self._sizes[key] = shard_sizes_at_once(data, shards=shards, context=context)
        sizes = self._sizes[key]
        if sizes is not None and hasattr(experiment, "inner"):
            check_sizes(experiment, sizes)
        return sizes is not None


def _cluster_is_known(experiment: Experiment) -> bool:
    build_cluster(experiment.cluster, parameters=1, flops_per_step=1.0, seed=experiment.seed)
    return True


def _inner_is_known(experiment: Experiment) -> bool:
    inner, pretrain = experiment.inner, experiment.pretrain
    chosen = [(inner.optimizer, inner.weight_decay)]
    if pretrain.optimizer is not None:
        chosen.append((pretrain.optimizer, pretrain.weight_decay))
    return not inner.arguments and all(name in INNER and (decay is None or INNER[name]) for name, decay in chosen)
