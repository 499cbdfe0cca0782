"""Workshop: all that experiments learn with, made once for the simulations that share it."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
import optax

import models
from simulator.data import DataOrder, Dataset, PrepareProgress, load_dataset, vocabulary_of
from simulator.data.size_checks import check_sizes, parts_of_budget
from simulator.experiment import Experiment
from simulator.experiment.schema.data import TextSource
from simulator.experiment.schema.experiment import CosineSchedule, Inner
from simulator.host.random_streams import jax_key
from simulator.learning.compiled_rounds import Programs, everywhere
from simulator.learning.lane_schedule import default_lanes, lanes_of_use, launch_overhead
from simulator.learning.memory import (
    Layout,
    Needs,
    Sizes,
    fitting_lanes,
    memory_limit,
    needs,
    part_of_host,
    resident_bytes,
    sizes_of,
)
from simulator.learning.model import ModelCosts, build_model, context_of
from simulator.learning.optimizers.inner import InnerOptimizer, Rates, build_inner, learning_rates
from simulator.learning.optimizers.outer import build_outer
from simulator.learning.pretraining import (
    PretrainProgress,
    pretrain_inner,
    pretrained,
    steps_seen,
)
from simulator.learning.round import Arrays, Params, Recipe
from simulator.learning.round_data import Feed
from simulator.learning.server import Evaluator, OuterPrograms, Server
from simulator.learning.trainers import BatchedTrainer, SerialTrainer, Trainer

Made = TypeVar("Made")
_OF_INPUTS = {"learning_rate", "schedule", "local_steps", "batch_size"}  # what of `inner` is traced into no program


class Workshop:
    """Makes data, models, compiled programs and pretrained parameters, each once for all experiments that share it.

    Args:
      progress: called with the progress of preparing data.
      memory: the host's available memory, where a CPU computes and states are kept: bytes, or a share up to 1, as for
        one of several processes.
    """

    def __init__(self, progress: PrepareProgress | None = None, *, memory: float = 1.0) -> None:
        self._shelf: dict[str, Any] = {}
        self._progress = progress
        self._memory = memory

    def _once(self, what: str, make: Callable[[], Made], *settings: Any) -> Made:
        key = f"{what} {_json(*settings)}"
        if key not in self._shelf:
            self._shelf[key] = make()
        made: Made = self._shelf[key]
        return made

    def dataset(self, experiment: Experiment) -> Dataset:
        """Returns the experiment's data set.

        Raises:
          SettingError: the data cannot be read or do not suffice.
        """
        context, shards = context_of(experiment), experiment.shards

        def make() -> Dataset:
            limit = resident_bytes(self._memory)
            return load_dataset(
                experiment.data, shards=shards, context=context, resident_bytes=limit, progress=self._progress
            )

        dataset = self._once("dataset", make, experiment.data, shards, context)
        check_sizes(experiment, dataset.shard_sizes)
        return dataset

    def shard_sizes(self, experiment: Experiment) -> tuple[int, ...] | None:
        """Returns the number of examples of each shard, None if all have as many: then no data are read.

        Raises:
          SettingError: the data cannot be read or do not suffice.
        """
        data = experiment.data
        return self.dataset(experiment).shard_sizes if isinstance(data, TextSource) and not data.even else None

    def arrays(self, experiment: Experiment, devices: int = 1) -> Arrays:
        """Returns the data set's arrays, on each of the first `devices` local devices."""

        def place() -> Arrays:
            if devices == 1:
                return jax.device_put(dict(self.dataset(experiment).arrays))  # type: ignore[no-any-return]
            return everywhere(self.arrays(experiment), jax.local_devices()[:devices])

        return self._once("arrays", place, experiment.data, experiment.shards, context_of(experiment), devices)

    def model(self, experiment: Experiment) -> models.Model:
        """Returns the experiment's model.

        Raises:
          ModelError: its vocabulary is smaller than the data's, or its sizes do not fit together.
        """

        def make() -> models.Model:
            return build_model(experiment, vocabulary_of(experiment.data))

        return self._once("model", make, *_data_and_model(experiment))

    def costs(self, experiment: Experiment) -> ModelCosts:
        """Returns the model's costs: its parameters, and the operations of a local step."""
        model = self.model(experiment)
        return ModelCosts(model.parameters, model.train_flops(experiment.inner.batch_size))

    def recipe(self, experiment: Experiment) -> Recipe:
        """Returns the recipe of the rounds.

        Raises:
          OptimizerError: the inner optimizer is not known or does not take the given arguments.
        """
        return Recipe(
            loss=self.model(experiment).loss,
            fetch=self.dataset(experiment).fetch,
            optimizer=self.inner(experiment, self.params_like(experiment)),
            keep_state=experiment.inner.state == "keep",
        )

    def _pretrain_recipe(self, experiment: Experiment) -> Recipe:
        optimizer = self.inner(experiment, self.params_like(experiment), "pretrain")
        return dataclasses.replace(self.recipe(experiment), optimizer=optimizer, keep_state=True)

    def inner(self, experiment: Experiment, params: Params | None, section: str = "inner") -> InnerOptimizer:
        """Returns the optimizer of the rounds, or of pretraining.

        Args:
          experiment: whose.
          params: shapes and dtypes of the model's parameters, on which it is tried; small ones when None.
          section: "inner" or "pretrain".

        Raises:
          OptimizerError: as `build_inner`.
        """
        inner = experiment.inner if section == "inner" else pretrain_inner(experiment)
        tried_on = [] if params is None else _data_and_model(experiment)
        return self._once(section, lambda: build_inner(inner, section, params), _traced(inner), *tried_on)

    def programs(self, experiment: Experiment, lanes: int | None = None) -> Programs:
        """Returns the compiled rounds, shared by every experiment whose recipe is the same.

        Args:
          experiment: what to train.
          lanes: number of rounds side by side, on all devices; the experiment's when absent.
        """
        devices = jax.local_devices()[:lanes] if lanes else self._devices(experiment)
        return self._once(
            "programs", lambda: Programs(self.recipe(experiment), devices), len(devices), *_recipe_settings(experiment)
        )

    def _devices(self, experiment: Experiment) -> list[jax.Device]:
        """Returns the devices of the rounds, which hold the data."""
        devices: list[jax.Device] = jax.local_devices()[: self.lanes(experiment)]
        return devices

    def learning_settings(self, experiment: Experiment) -> str:
        """Returns all that decides what is learned, apart from the order of events, as JSON."""
        evaluate = experiment.evaluate
        schedule = experiment.inner.schedule
        by_budget = isinstance(schedule, CosineSchedule) and schedule.total_steps is None
        return _json(
            *_data_and_model(experiment),
            experiment.seed,
            experiment.pretrain,
            experiment.inner,
            experiment.outer,
            [experiment.synchronization.kind, experiment.synchronization.averages_group],
            experiment.compute.trainer,
            self.lanes(experiment),
            [evaluate.windows, evaluate.batch_size, evaluate.per_shard],
            parts_of_budget(experiment, self.dataset(experiment).shard_sizes) if by_budget else None,
        )

    def lanes(self, experiment: Experiment) -> int:
        """Returns the most lanes of a program: no more than the experiment says, as far as memory suffices.

        Raises:
          MemoryNeedError: it does not even suffice for one.
        """
        limit = memory_limit(experiment.compute.memory, self._memory)
        return fitting_lanes(self.sizes(experiment), limit, self._layout(experiment))

    @property
    def host_bytes(self) -> float:
        """Available memory of the host, bytes."""
        return part_of_host(self._memory)

    def needs(self, experiment: Experiment) -> Needs:
        """Returns an upper estimate of the memory of an experiment, by purpose."""
        layout = dataclasses.replace(self._layout(experiment), lanes=self.lanes(experiment))
        return needs(self.sizes(experiment), layout)

    def _layout(self, experiment: Experiment) -> Layout:
        """Returns the layout of the work that would run at once if memory sufficed."""
        workers, devices = experiment.cluster.workers, jax.local_device_count()
        most, overhead = experiment.compute.lanes, self._overhead(experiment)
        return Layout(
            workers,
            lanes_of_use(most, workers, devices, overhead) if most else default_lanes(workers, devices, overhead),
            devices,
            barrier=experiment.synchronization.averages_group,
            shared=jax.default_backend() == "cpu",
            serial=experiment.compute.trainer == "serial",
            forgetful=experiment.cluster.faults is not None,
        )

    def sizes(self, experiment: Experiment) -> Sizes:
        """Returns the parts of the estimate of an experiment's memory."""
        inner, evaluated = experiment.inner, experiment.evaluate
        plain = pretrain_inner(experiment) if experiment.pretrain.steps else None

        def measure(recipe: Recipe, batch_size: int) -> Sizes:
            dataset, params = self.dataset(experiment), self.params_like(experiment)
            examples = dataset.gather(DataOrder(dataset, batch_size, experiment.seed).batches(0, 0, 1))[0]
            outer = jax.eval_shape(self.outer(experiment, params).init, params)
            together = min(evaluated.batch_size, len(self._evaluated(experiment)))
            return sizes_of(recipe, params, outer, dict(dataset.arrays), examples, together)

        def both() -> Sizes:
            sizes = measure(self.recipe(experiment), inner.batch_size)
            if plain is None:
                return sizes
            alone = measure(self._pretrain_recipe(experiment), plain.batch_size)
            return dataclasses.replace(sizes, pretraining=alone.params + alone.inner + alone.lane)

        settings = [experiment.outer, evaluated.batch_size, evaluated.windows, inner.batch_size, plain]
        return self._once("sizes", both, *_recipe_settings(experiment), *settings)

    def _overhead(self, experiment: Experiment) -> float:
        return launch_overhead(jax.default_backend(), self.costs(experiment).flops_per_step)

    def trainer(self, experiment: Experiment, kind: str) -> Trainer:
        """Returns a trainer, "batched" or "serial", with fresh inner optimizer states."""
        feed = self.feed(experiment)
        if kind == "serial":
            return SerialTrainer(self.programs(experiment, 1), feed)
        programs = self.programs(experiment)
        placed = dataclasses.replace(feed, arrays=self.arrays(experiment, len(programs.devices)))
        return BatchedTrainer(programs, placed, self.lanes(experiment), self._overhead(experiment))

    def feed(self, experiment: Experiment) -> Feed:
        """Returns the rounds' data, which continue behind those of pretraining in every shard's order."""
        order = DataOrder(self.dataset(experiment), experiment.inner.batch_size, experiment.seed)
        skipped = steps_seen(experiment, self.dataset(experiment))

        def batches(shard: int, first_step: int, steps: int) -> np.ndarray:
            return order.batches(shard, int(skipped[shard]) + first_step, steps)

        key = jax_key(experiment.seed, "rounds")
        gather = self.dataset(experiment).gather
        rates = self._rates(experiment)
        return Feed(self.arrays(experiment), batches, rates, experiment.inner.local_steps, key, gather)

    def _rates(self, experiment: Experiment) -> Callable[[int, int, int], Rates]:
        """Returns the learning rates of a round, from (shard, first_step, steps)."""
        inner, total_steps = experiment.inner, parts_of_budget(experiment, self.dataset(experiment).shard_sizes)
        peak_first_step = isinstance(inner.schedule, CosineSchedule) and inner.schedule.peak_first_step

        def rates(shard: int, first_step: int, steps: int) -> Rates:
            counts = np.arange(first_step, first_step + steps)
            found = learning_rates(inner.schedule, inner.learning_rate, counts, total_steps[shard])
            if peak_first_step:
                found[0] = inner.learning_rate
            return found

        return rates

    def server(
        self, experiment: Experiment, progress: PretrainProgress | None = None, params: Params | None = None
    ) -> Server:
        """Returns a server that holds the experiment's starting point, or `params` if given.

        Raises:
          OptimizerError: the outer optimizer is not known or does not take the given arguments.
        """
        outer, params_like = experiment.outer, self.params_like(experiment)
        programs = self._once("outer programs", lambda: OuterPrograms(self.outer(experiment, params_like)), outer)
        start = self.start(experiment, progress) if params is None else params
        return Server(start, programs, reject=outer.non_finite == "reject")

    def outer(self, experiment: Experiment, params: Params | None) -> optax.GradientTransformationExtraArgs:
        """Returns the outer optimizer, tried on the shapes and dtypes of `params`, or on small ones.

        Raises:
          OptimizerError: as `build_outer`.
        """
        tried_on = [] if params is None else _data_and_model(experiment)
        return self._once("outer", lambda: build_outer(experiment.outer, params), experiment.outer, *tried_on)

    def params_like(self, experiment: Experiment) -> Params:
        """Returns the shapes and dtypes of the model's parameters."""
        model = self.model(experiment)
        return self._once("shapes", lambda: jax.eval_shape(model.init, jax.random.key(0)), *_data_and_model(experiment))

    def evaluator(self, experiment: Experiment) -> Callable[[Params], jax.Array]:
        """Returns the evaluator of the server's parameters: a float32 scalar in nats."""

        def make() -> Callable[[Params], jax.Array]:
            each = self._evaluator(experiment, [self._evaluated(experiment)])
            return lambda params: each(params)[0]

        return self._once("evaluator", make, *self._evaluation(experiment))

    def shard_evaluator(self, experiment: Experiment) -> Callable[[Params], jax.Array] | None:
        """Returns the evaluator of parameters on every shard's own validation examples, None if not requested.

        The losses are float32 (shards,), in nats; of a shard without any the loss is NaN.
        """
        if not experiment.evaluate.per_shard:
            return None
        sets = self._evaluated_of_shards(experiment)
        return self._once("shard evaluator", lambda: self._evaluator(experiment, sets), *self._evaluation(experiment))

    def evaluated_windows(self, experiment: Experiment) -> tuple[int, list[int] | None]:
        """Returns the number of windows of an evaluation, and of each shard's own if requested."""
        per_shard = experiment.evaluate.per_shard
        of_shards = [len(own) for own in self._evaluated_of_shards(experiment)] if per_shard else None
        return len(self._evaluated(experiment)), of_shards

    def _evaluated(self, experiment: Experiment) -> np.ndarray:
        """Returns the addresses of the windows that are evaluated: as many as requested, or as there are."""
        return self.dataset(experiment).validation[: experiment.evaluate.windows]

    def _evaluated_of_shards(self, experiment: Experiment) -> list[np.ndarray]:
        """Returns the addresses of every shard's own windows that are evaluated."""
        dataset = self.dataset(experiment)
        each_own = dataset.shard_validation or (dataset.validation,) * experiment.shards
        return [own[: experiment.evaluate.windows] for own in each_own]

    def _evaluator(self, experiment: Experiment, sets: Sequence[np.ndarray]) -> Evaluator:
        dataset, devices = self.dataset(experiment), self._devices(experiment)
        loss, arrays = self.model(experiment).loss, self.arrays(experiment, len(devices))
        gathered = [dataset.gather(examples) for examples in sets]
        return Evaluator(loss, dataset.fetch, arrays, gathered, experiment.evaluate.batch_size, devices)

    def _evaluation(self, experiment: Experiment) -> list[Any]:
        evaluate, devices = experiment.evaluate, len(self._devices(experiment))
        return [*_data_and_model(experiment), evaluate.windows, evaluate.batch_size, devices]

    def start(self, experiment: Experiment, progress: PretrainProgress | None = None) -> Params:
        """Returns the parameters that the simulation starts from: fresh, or pretrained by plain training."""
        settings = [*_data_and_model(experiment), experiment.seed, experiment.pretrain]
        if experiment.pretrain.steps:
            settings.append(pretrain_inner(experiment))
        home = jax.local_devices()[0]
        return self._once("start", lambda: jax.device_put(self._start(experiment, progress), home), *settings)

    def _start(self, experiment: Experiment, progress: PretrainProgress | None) -> Params:
        key = jax_key(experiment.seed, "initial parameters")
        params = jax.jit(self.model(experiment).init)(key)
        if not experiment.pretrain.steps:
            return params
        recipe, dataset = self._pretrain_recipe(experiment), self.dataset(experiment)
        return pretrained(experiment, params, recipe, dataset, self.arrays(experiment), progress)


def _data_and_model(experiment: Experiment) -> list[Any]:
    return [experiment.data, experiment.shards, experiment.model]


def _recipe_settings(experiment: Experiment) -> list[Any]:
    """Returns all that is traced into a round's program."""
    return [*_data_and_model(experiment), _traced(experiment.inner)]


def _traced(inner: Inner) -> dict[str, Any]:
    return inner.model_dump(mode="json", exclude=_OF_INPUTS)


def _json(*settings: Any) -> str:
    return json.dumps([_plain(setting) for setting in settings])


def _plain(setting: Any) -> Any:
    if hasattr(setting, "model_dump"):
        return setting.model_dump(mode="json", warnings=False)
    if isinstance(setting, Mapping):
        return dict(setting)
    return setting
