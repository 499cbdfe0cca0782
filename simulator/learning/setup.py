"""Setup of an experiment: all that it learns with."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax

import models
from simulator.data import DataOrder, Dataset, load_dataset, vocabulary_of
from simulator.data.size_checks import check_sizes, parts_of_budget
from simulator.experiment import Experiment
from simulator.experiment.schema.data import TextSource
from simulator.experiment.schema.inner import CosineSchedule, Inner
from simulator.experiment.schema.pipeline import GPipeStages
from simulator.host.random_streams import jax_key
from simulator.learning import memory
from simulator.learning.cache import Cache, as_json
from simulator.learning.compiled_rounds import Programs, everywhere
from simulator.learning.evaluation_setup import EvaluationSetup
from simulator.learning.exchange_setup import ExchangeSetup
from simulator.learning.lane_schedule import default_lanes, lanes_of_use, launch_overhead
from simulator.learning.memory_remedies import remedies
from simulator.learning.model import ModelCosts, build_model, check_trainable, context_of, costs_of
from simulator.learning.optimizers.inner import InnerOptimizer, Rates, learning_rates
from simulator.learning.optimizers.outer import build_outer
from simulator.learning.pretraining import PretrainProgress, pretrain_inner, pretrained, steps_seen
from simulator.learning.round import Arrays, Params, Recipe
from simulator.learning.round_data import RoundData
from simulator.learning.routers import divided_by_routers, partition_of
from simulator.learning.stages import StaleStages, inner_optimizer
from simulator.learning.trainers import BatchedTrainer, SerialTrainer, Trainer

_OF_INPUTS = {"learning_rate", "schedule", "local_steps", "batch_size", "micro_batches"}  # traced into no program


class Setup:
    """All that an experiment learns with; every part is made when it is first used.

    Args:
      experiment: to train.
      cache: shares parts with other experiments that were given the same one.
    """

    def __init__(self, experiment: Experiment, cache: Cache | None = None) -> None:
        self.experiment = experiment
        self.cache = cache or Cache()

    # Data and model.

    @functools.cached_property
    def loaded(self) -> Dataset:
        """The data set as it is loaded; what routers divide is not yet divided.

        Raises:
          SettingError: the data cannot be read or do not suffice.
        """
        experiment, cache, context = self.experiment, self.cache, context_of(self.experiment)
        check_trainable(experiment)

        def read() -> Dataset:
            limit = memory.resident_bytes(cache.memory)
            return load_dataset(
                experiment.data,
                shards=experiment.shards,
                context=context,
                resident_bytes=limit,
                progress=cache.progress,
            )

        dataset = cache.once("dataset", read, experiment.data, experiment.shards, context)
        check_sizes(experiment, dataset.shard_sizes)
        return dataset

    @property
    def dataset(self) -> Dataset:
        """The data set, divided among the shards; see `divided`."""
        return self.divided()

    def divided(self, progress: PretrainProgress | None = None) -> Dataset:
        """Returns the data set, divided among the shards, for which routers are trained where `data.partition` says so.

        Args:
          progress: called with the progress of their training.

        Raises:
          SettingError: the data cannot be read or do not suffice, or routers do not fit them.
        """
        partition, loaded = partition_of(self.experiment), self.loaded
        if partition is None:
            return loaded
        make = lambda: divided_by_routers(self.experiment, partition, loaded, self.arrays(), progress)  # noqa: E731
        return self.cache.once("divided data set", make, *self.data_and_model, *self.division)

    @property
    def shard_sizes(self) -> tuple[int, ...] | None:
        """Number of examples of each shard, None if all have as many: then no data are read.

        Raises:
          SettingError: the data cannot be read or do not suffice.
        """
        data = self.experiment.data
        return self.loaded.shard_sizes if isinstance(data, TextSource) and not data.even else None

    def arrays(self, devices: int = 1) -> Arrays:
        """Returns the data set's arrays, on each of the first `devices` local devices."""
        experiment = self.experiment

        def place() -> Arrays:
            if devices == 1:
                return jax.device_put(dict(self.loaded.arrays))  # type: ignore[no-any-return]
            return everywhere(self.arrays(), jax.local_devices()[:devices])

        return self.cache.once("arrays", place, experiment.data, experiment.shards, context_of(experiment), devices)

    @functools.cached_property
    def model(self) -> models.Model:
        """The model.

        Raises:
          ModelError: its vocabulary is smaller than the data's, or its sizes do not fit together.
        """
        experiment = self.experiment
        return self.cache.once(
            "model", lambda: build_model(experiment, vocabulary_of(experiment.data)), *self.data_and_model
        )

    @property
    def params_like(self) -> Params:
        """Shapes and dtypes of the model's parameters."""
        init = self.model.init
        return self.cache.once("shapes", lambda: jax.eval_shape(init, jax.random.key(0)), *self.data_and_model)

    @functools.cached_property
    def costs(self) -> ModelCosts:
        """Costs of the model: its parameters, and the operations of a local step."""
        return costs_of(self.experiment, self.model)

    # Rounds.

    @functools.cached_property
    def recipe(self) -> Recipe:
        """Recipe of the rounds.

        Raises:
          SettingError: as `inner_optimizer`.
        """
        optimizer, inner = self.inner(self.params_like), self.experiment.inner
        pull = None if inner.pull is None else (inner.pull.probability, inner.pull.strength)
        point = optimizer.point if isinstance(optimizer, StaleStages) else None
        keep, parts = inner.state == "keep", inner.accumulation
        return Recipe(self.model.loss, self.loaded.fetch, optimizer, keep, pull, point, parts)

    @property
    def _pretrain_recipe(self) -> Recipe:
        optimizer, parts = self.inner(self.params_like, "pretrain"), pretrain_inner(self.experiment).accumulation
        return Recipe(self.model.loss, self.loaded.fetch, optimizer, accumulation=parts)

    def inner(self, params: Params | None, section: str = "inner") -> InnerOptimizer:
        """Returns the optimizer of the rounds, or of pretraining.

        Args:
          params: shapes and dtypes of the model's parameters, on which it is tried; small ones when None.
          section: "inner" or "pretrain".

        Raises:
          SettingError: as `inner_optimizer`.
        """
        inner = self.experiment.inner if section == "inner" else pretrain_inner(self.experiment)
        tried_on = [] if params is None else self.data_and_model
        return self.cache.once(section, lambda: inner_optimizer(inner, section, params), _traced(inner), *tried_on)

    def programs(self, devices: int | None = None) -> Programs:
        """Returns the compiled rounds on the first of the local devices, those of the experiment's lanes when None."""
        local = self.devices if devices is None else jax.local_devices()[:devices]
        return self.cache.once("programs", lambda: Programs(self.recipe, local), len(local), *self._of_recipe)

    @property
    def devices(self) -> list[jax.Device]:
        """Devices of the rounds, which hold the data."""
        devices: list[jax.Device] = jax.local_devices()[: self.lanes]
        return devices

    def trainer(self, kind: str) -> Trainer:
        """Returns a trainer, "batched" or "serial", with fresh inner optimizer states."""
        if kind == "serial":
            return SerialTrainer(self.programs(1), self.round_data())
        programs = self.programs()
        return BatchedTrainer(programs, self.round_data(len(programs.devices)), self.lanes, self._overhead)

    def round_data(self, devices: int = 1) -> RoundData:
        """Returns the rounds' data, which continue behind those of pretraining in every shard's order.

        Args:
          devices: number of those that hold the data.
        """
        experiment, dataset = self.experiment, self.dataset
        order = DataOrder(dataset, experiment.inner.micro_batch, experiment.seed)
        skipped = steps_seen(experiment, dataset)

        def batches(shard: int, first_step: int, steps: int) -> np.ndarray:
            return order.batches(shard, int(skipped[shard]) + first_step, steps)

        key, longest = jax_key(experiment.seed, "rounds"), experiment.inner.local_steps
        pulls, most = self.recipe.pull is not None, experiment.inner.room
        return RoundData(self.arrays(devices), batches, self._rates, longest, key, dataset.gather, pulls, most)

    def _rates(self, shard: int, first_step: int, steps: int) -> Rates:
        """Returns the learning rates of a round."""
        inner = self.experiment.inner
        counts = np.arange(first_step, first_step + steps)
        rates = learning_rates(inner.schedule, inner.learning_rate, counts, self._budget_of_shards[shard])
        if isinstance(inner.schedule, CosineSchedule) and inner.schedule.peak_first_step:
            rates[0] = inner.learning_rate
        return rates

    @functools.cached_property
    def _budget_of_shards(self) -> Sequence[int]:
        return parts_of_budget(self.experiment, self.loaded.shard_sizes)

    # Memory and lanes.

    @functools.cached_property
    def lanes(self) -> int:
        """Most lanes of a program: no more than the experiment says, as far as memory suffices.

        Raises:
          MemoryNeedError: it does not even suffice for one.
        """
        try:
            return memory.fitting_lanes(self.sizes, self._memory_limit, self._layout)
        except memory.MemoryNeedError as error:
            error.remedy = lambda: remedies(self.experiment, lambda changed: Setup(changed, self.cache).fits)
            raise

    @property
    def fits(self) -> bool:
        """Memory: whether it suffices for one lane at least."""
        return memory.needs(self.sizes, dataclasses.replace(self._layout, lanes=1)).total <= self._memory_limit

    @property
    def _memory_limit(self) -> float:
        return memory.memory_limit(self.experiment.compute.memory, self.cache.memory)

    @property
    def needs(self) -> memory.Needs:
        """Upper estimate of the memory, by purpose."""
        return memory.needs(self.sizes, dataclasses.replace(self._layout, lanes=self.lanes))

    @property
    def _layout(self) -> memory.Layout:
        """Layout of the work that would run at once if memory sufficed."""
        experiment, overhead = self.experiment, self._overhead
        workers, devices, most = experiment.cluster.workers, jax.local_device_count(), experiment.compute.lanes
        together = getattr(experiment.synchronization, "sample", None) or workers
        return memory.Layout(
            workers,
            lanes_of_use(most, together, devices, overhead) if most else default_lanes(together, devices, overhead),
            devices,
            barrier=experiment.synchronization.averages_group and self.exchanges.starts_together,
            shared=jax.default_backend() == "cpu",
            serial=experiment.compute.trainer == "serial",
            copies=1 if self.exchanges.starts_together else 3,
            servers=len(self.exchanges.nodes),
        )

    @functools.cached_property
    def sizes(self) -> memory.Sizes:
        """Parts of the estimate of the memory."""
        inner, evaluated = self.experiment.inner, self.experiment.evaluate
        plain = pretrain_inner(self.experiment) if self.experiment.pretrain.steps else None

        def measure(recipe: Recipe, batch_size: int) -> memory.Sizes:
            dataset, params = self.loaded, self.params_like
            examples = dataset.gather(DataOrder(dataset, batch_size, self.experiment.seed).batches(0, 0, 1))[0]
            outer = jax.eval_shape(self.outer(params).init, params)
            together = min(evaluated.batch_size, self.evaluation.windows)
            return memory.sizes_of(recipe, params, outer, dict(dataset.arrays), examples, together)

        def both() -> memory.Sizes:
            sizes = measure(self.recipe, inner.micro_batch)
            if inner.room is not None:  # the mean gradient so far
                sizes = dataclasses.replace(sizes, activations=sizes.activations + sizes.params)
            if plain is None:
                return sizes
            alone = measure(self._pretrain_recipe, plain.micro_batch)
            return dataclasses.replace(sizes, pretraining=alone.params + alone.inner + alone.lane)

        settings = [self.experiment.outer, evaluated.batch_size, evaluated.windows, inner.micro_batch, plain]
        settings.append(inner.room is not None)
        return self.cache.once("sizes", both, *self._of_recipe, *settings)

    @property
    def _overhead(self) -> float:
        return launch_overhead(jax.default_backend(), self.costs.flops_per_step)

    # Exchanges.

    @functools.cached_property
    def exchanges(self) -> ExchangeSetup:
        """All that the experiment exchanges with."""
        return ExchangeSetup(self)

    def outer(self, params: Params | None) -> optax.GradientTransformationExtraArgs:
        """Returns the outer optimizer, tried on the shapes and dtypes of `params`, or on small ones.

        Raises:
          OptimizerError: as `build_outer`.
        """
        outer, tried_on = self.experiment.outer, [] if params is None else self.data_and_model
        return self.cache.once("outer", lambda: build_outer(outer, params), outer, *tried_on)

    def start(self, progress: PretrainProgress | None = None) -> Params:
        """Returns the parameters that the simulation starts from: fresh, or pretrained by plain training."""
        experiment = self.experiment
        settings = [*self.data_and_model, experiment.seed, experiment.pretrain, *self.division]
        if experiment.pretrain.steps:
            settings.append(pretrain_inner(experiment))

        def make() -> Params:
            params = jax.jit(self.model.init)(jax_key(experiment.seed, "initial parameters"))
            if experiment.pretrain.steps:
                recipe = self._pretrain_recipe
                params = pretrained(experiment, params, recipe, self.dataset, self.arrays(), progress)
            return jax.device_put(params, jax.local_devices()[0])

        return self.cache.once("start", make, *settings)

    # Evaluation.

    @functools.cached_property
    def evaluation(self) -> EvaluationSetup:
        """All that the experiment evaluates with."""
        return EvaluationSetup(self)

    # Settings on which the parts depend.

    @property
    def learning_settings(self) -> str:
        """All that decides what is learned, apart from the order of events, as JSON."""
        experiment, evaluate, schedule = self.experiment, self.experiment.evaluate, self.experiment.inner.schedule
        by_budget = isinstance(schedule, CosineSchedule) and schedule.total_steps is None
        return as_json(
            *self.data_and_model,
            experiment.seed,
            experiment.pretrain,
            _trained(experiment.inner),
            experiment.outer,
            [experiment.synchronization.kind, experiment.synchronization.averages_group],
            *self._exchanged,
            experiment.compute.trainer,
            self.lanes,
            [evaluate.windows, evaluate.batch_size, evaluate.per_shard, evaluate.of],
            self._budget_of_shards if by_budget else None,
        )

    @property
    def data_and_model(self) -> list[Any]:
        """Settings of data and model, by which what depends on them alone is cached."""
        return [self.experiment.data, self.experiment.shards, self.experiment.model]

    @property
    def _exchanged(self) -> list[Any]:
        """All of the exchanges that the order of events does not say."""
        experiment = self.experiment
        sections = experiment.compression, experiment.aggregation, experiment.view, experiment.merge, experiment.offer
        of_time = {"latency", "bandwidth", "algorithm", "groups"}
        topology = experiment.topology.model_dump(mode="json", exclude=of_time)
        return [*sections, topology, experiment.schedule]

    @property
    def _of_recipe(self) -> list[Any]:
        """All that is traced into a round's program."""
        return [*self.data_and_model, _traced(self.experiment.inner)]

    @property
    def division(self) -> list[Any]:
        """Settings on which the division of the data depends besides those: the seed, where routers divide them."""
        return [] if partition_of(self.experiment) is None else [self.experiment.seed]


def _traced(inner: Inner) -> dict[str, Any]:
    return _trained(inner).model_dump(mode="json", exclude=_OF_INPUTS)


def _trained(inner: Inner) -> Inner:
    """Returns the settings without what matters to the clock alone."""
    changes: dict[str, Any] = {}
    if isinstance(inner.stages, GPipeStages):
        changes["stages"] = None
    if inner.micro_batches is not None and inner.micro_batches.threshold is None:
        changes["micro_batches"] = inner.micro_batches.model_copy(update={"overhead": 0.0})
    return inner.model_copy(update=changes)
