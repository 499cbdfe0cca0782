"""Routers: small models that divide a text's windows among shards by the losses on their first tokens."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

import models
from simulator.data import DataOrder, Dataset, vocabulary_of
from simulator.data.dataset import Addresses
from simulator.data.routed_windows import Losses, balanced_assignment, routed_windows
from simulator.experiment import Experiment
from simulator.experiment.schema.data import RoutedPartition
from simulator.experiment.schema.experiment import TransformerModel
from simulator.experiment.schema.inner import Inner
from simulator.host.errors import SettingError
from simulator.host.random_streams import data_stream, jax_key
from simulator.learning.compiled_rounds import Programs
from simulator.learning.model import context_of, transformer_config
from simulator.learning.optimizers.inner import build_inner
from simulator.learning.pretraining import PretrainProgress
from simulator.learning.round import Arrays, Params, Recipe, RoundInputs

_MOST_WINDOWS, _MOST_LOGITS = 256, 2**23  # whose losses are computed at a time


def partition_of(experiment: Experiment) -> RoutedPartition | None:
    """Returns the partition whose shards come from routers, None where they do not."""
    partition = getattr(experiment.data, "partition", None)
    return partition if isinstance(partition, RoutedPartition) else None


def prefix_of(experiment: Experiment, partition: RoutedPartition) -> int:
    """Returns the number of a window's first tokens that routers predict.

    Raises:
      SettingError: it is longer than a window.
    """
    context = context_of(experiment)
    assert context is not None
    prefix = partition.prefix or max(1, context // 4)
    if prefix > context:
        message = f"is longer than a window, which has model.context tokens, {context}: use at most so many"
        raise SettingError("data.partition.prefix", prefix, message)
    return prefix


def check_routers(experiment: Experiment) -> None:
    """Makes what can be refused of routers, if there are any; nothing is computed.

    Raises:
      SettingError: as `router_model`.
    """
    partition = partition_of(experiment)
    if partition is not None:
        router_model(experiment, partition)


def router_model(experiment: Experiment, partition: RoutedPartition) -> models.Model:
    """Returns the model of a router, whose context is the prefix.

    Raises:
      SettingError: the prefix is longer than a window, or there are more routers than windows to divide.
    """
    model = experiment.model
    assert isinstance(model, TransformerModel)
    if partition.windows < experiment.shards:
        message = f"are not enough for {experiment.shards} routers, one for each shard: use at least so many"
        raise SettingError("data.partition.windows", partition.windows, message)
    of_router = TransformerModel(
        kind="transformer",
        layers=partition.layers,
        width=partition.width,
        heads=partition.heads,
        context=prefix_of(experiment, partition),
        dtype=model.dtype,
        attention=model.attention,
    )
    return models.transformer(transformer_config(of_router, vocabulary_of(experiment.data)))


class Routers:
    """Routers of a data set, one for each of its shards.

    Args:
      experiment: of which the seed and the model matter.
      partition: its.
      dataset: text, whose shards have as many windows each.
      arrays: its arrays, on the device.

    Attributes:
      params: of each router, fresh until they are trained.

    Raises:
      SettingError: as `router_model`.
    """

    def __init__(self, experiment: Experiment, partition: RoutedPartition, dataset: Dataset, arrays: Arrays):
        model = router_model(experiment, partition)
        prefix = prefix_of(experiment, partition)
        self._partition, self._dataset, self._arrays = partition, dataset, arrays
        self._key, self._seed = jax_key(experiment.seed, "routers"), experiment.seed
        init = jax.jit(model.init)
        self.params = [init(jax.random.fold_in(self._key, router)) for router in range(len(dataset.shard_examples))]

        def prefixes(arrays: Arrays, examples: np.ndarray) -> jax.Array:
            first: jax.Array = dataset.fetch(arrays, examples)[:, : prefix + 1]
            return first

        def losses(routers: Params, arrays: Arrays, examples: np.ndarray) -> jax.Array:
            windows_BxT = prefixes(arrays, examples)

            def of_router(params: Params) -> jax.Array:
                return jax.vmap(lambda window_T: model.loss(params, window_T[None], None))(windows_BxT)

            losses_RxB: jax.Array = jax.lax.map(of_router, routers)
            return losses_RxB

        rate, batch_size = partition.learning_rate, partition.batch_size
        adam = build_inner(Inner(optimizer="adam", learning_rate=rate, batch_size=batch_size))
        self._recipe = Recipe(model.loss, prefixes, adam)
        self._losses = jax.jit(losses)
        self._together = max(1, min(_MOST_WINDOWS, _MOST_LOGITS // (prefix * dataset.vocabulary)))

    def losses(self, examples: Addresses) -> Losses:
        """Returns the mean losses of windows' first tokens under each router in nats, float32 [windows, routers]."""
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *self.params)
        rows_PxB = np.resize(examples, (-(-len(examples) // self._together), self._together))  # the rest is filled up
        parts = [self._losses(stacked, self._arrays, self._dataset.gather(rows)) for rows in rows_PxB]
        losses_RxW: Losses = np.concatenate(jax.device_get(parts), axis=1)[:, : len(examples)]
        return losses_RxW.T

    def train(self, progress: PretrainProgress | None = None) -> None:
        """Trains them by turns: windows are divided among them, and each does some steps on its own.

        Args:
          progress: called after every turn.

        Raises:
          SettingError: a loss is not finite.
        """
        partition, programs, windows = self._partition, Programs(self._recipe), self._windows
        states = [self._recipe.initial_state(params) for params in self.params]
        rates = np.full(partition.steps, partition.learning_rate, np.float32)
        for turn in range(partition.assignments):
            drawn = data_stream("windows of routers", self._seed, turn).permutation(windows)[: partition.windows]
            order = self._order(drawn)
            inputs = [
                RoundInputs(
                    params,
                    state,
                    self._dataset.gather(order.batches(router, 0, partition.steps)),
                    rates,
                    np.int32(partition.steps),
                    np.int32(turn * len(self.params) + router),
                )
                for router, (params, state) in enumerate(zip(self.params, states, strict=True))
            ]
            outcomes = programs.run(self._arrays, self._key, inputs)
            self.params, states = [result.params for result, _ in outcomes], [state for _, state in outcomes]
            loss = float(np.mean(jax.device_get([result.loss for result, _ in outcomes])))
            if not math.isfinite(loss):
                message = f"lets a router's loss grow to {loss} in assignment {turn + 1}: use a lower one"
                raise SettingError("data.partition.learning_rate", partition.learning_rate, message)
            if progress is not None:
                progress((turn + 1) * partition.steps, partition.assignments * partition.steps, loss)

    @property
    def _windows(self) -> Addresses:
        return np.concatenate(self._dataset.shard_examples)

    def _order(self, windows: Addresses) -> DataOrder:
        """Returns batches of windows divided among the routers."""
        router_W = balanced_assignment(self.losses(windows))
        shares = tuple(windows[router_W == router] for router in range(len(self.params)))
        own = dataclasses.replace(self._dataset, shard_examples=shares)
        return DataOrder(own, self._partition.batch_size, self._seed)


def divided_by_routers(
    experiment: Experiment,
    partition: RoutedPartition,
    dataset: Dataset,
    arrays: Arrays,
    progress: PretrainProgress | None = None,
) -> Dataset:
    """Trains routers, and returns the data set as they divide its windows.

    Args:
      experiment: of which the seed and the model matter.
      partition: its.
      dataset: text, whose shards have as many windows each.
      arrays: its arrays, on the device.
      progress: called while they are trained.

    Raises:
      SettingError: as `router_model`, or a loss is not finite.
    """
    routers = Routers(experiment, partition, dataset, arrays)
    routers.train(progress)
    return routed_windows(dataset, routers.losses)
