"""Setup of evaluations: whose parameters are evaluated, and on which windows."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np

import models
from simulator.data import Dataset
from simulator.experiment import Experiment
from simulator.learning.cache import Cache
from simulator.learning.exchange_setup import ExchangeSetup
from simulator.learning.round import Arrays
from simulator.learning.server import Evaluator

Evaluate = Callable[[Any], jax.Array]
"""From parameters, of experts a list of those of each, to losses in nats."""


class EvaluatedSetup(Protocol):
    """Setup of an experiment, as far as evaluations need it; see `Setup`."""

    experiment: Experiment
    cache: Cache

    @property
    def loaded(self) -> Dataset:
        """The data set as it is loaded."""

    @property
    def dataset(self) -> Dataset:
        """The data set, divided among the shards."""

    @property
    def division(self) -> list[Any]:
        """Settings on which that depends."""

    @property
    def data_and_model(self) -> list[Any]:
        """Settings of data and model, by which what depends on them alone is cached."""

    @property
    def model(self) -> models.Model:
        """The model."""

    @property
    def exchanges(self) -> ExchangeSetup:
        """All that the experiment exchanges with."""

    @property
    def devices(self) -> list[jax.Device]:
        """Devices of the rounds, which hold the data."""

    def arrays(self, devices: int = 1) -> Arrays:
        """Returns the data set's arrays, on each of the first `devices` local devices."""


class EvaluationSetup:
    """All that an experiment evaluates with; every part is made when it is first used.

    Args:
      setup: of the experiment.
    """

    def __init__(self, setup: EvaluatedSetup):
        self._setup, self._settings = setup, setup.experiment.evaluate

    @property
    def of(self) -> Literal["server", "mean of workers", "experts"]:
        """Owner of the parameters that are evaluated; without a server that has some all workers, together or apart."""
        if self._settings.of == "experts":
            return "experts"
        return "mean of workers" if self._setup.exchanges.evaluates_workers else "server"

    @property
    def evaluator(self) -> Evaluate:
        """Evaluator on all windows, each of which counts once: a float32 scalar."""

        def make() -> Evaluate:
            if self.of == "experts":
                return self._routed()
            of_sets = self._evaluator([self._windows])
            return lambda params: of_sets(params)[0]

        return self._once("evaluator", make)

    @property
    def shard_evaluator(self) -> Evaluate | None:
        """Evaluator on every shard's own validation examples, None if not requested.

        The losses are float32 (shards,); of a shard without any the loss is NaN.
        """
        if not self._settings.per_shard:
            return None
        own = self._windows_of_shards
        return self._once("shard evaluator", lambda: self._each(own) if self.of == "experts" else self._evaluator(own))

    @property
    def windows(self) -> int:
        """Number of windows of an evaluation."""
        return len(self._windows)

    @property
    def shard_windows(self) -> list[int] | None:
        """Number of each shard's own windows in an evaluation, None if not requested."""
        return [len(own) for own in self._windows_of_shards] if self._settings.per_shard else None

    @property
    def known_shard_windows(self) -> list[int] | None:
        """Number of each shard's own windows, None also where routers have yet to divide them."""
        return None if self._setup.division else self.shard_windows

    @property
    def _windows(self) -> np.ndarray:
        """Addresses of the windows that are evaluated: as many as requested, or as there are."""
        return self._setup.loaded.validation[: self._settings.windows]

    @property
    def _windows_of_shards(self) -> list[np.ndarray]:
        """Addresses of every shard's own windows that are evaluated."""
        dataset = self._setup.dataset
        each_own = dataset.shard_validation or (dataset.validation,) * len(dataset.shard_examples)
        return [own[: self._settings.windows] for own in each_own]

    def _routed(self) -> Evaluate:
        """Returns an evaluator of experts, each on those of all windows that routers send to its shard."""
        all_windows = self._windows
        sets = [all_windows[np.isin(all_windows, own)] for own in self._setup.dataset.shard_validation]
        shares_E = np.array([len(own) for own in sets], np.float32) / np.float32(len(all_windows))
        of_each = self._each(sets)

        def evaluate(experts: Sequence[Any]) -> jax.Array:
            loss: jax.Array = jnp.where(shares_E > 0, shares_E * of_each(experts), 0).sum()
            return loss

        return evaluate

    def _each(self, sets: Sequence[np.ndarray]) -> Evaluate:
        """Returns an evaluator of experts, each on its own windows: float32 (experts,)."""
        evaluators = [self._evaluator([own]) for own in sets]

        def evaluate(experts: Sequence[Any]) -> jax.Array:
            return jnp.concatenate([of_own(params) for of_own, params in zip(evaluators, experts, strict=True)])

        return evaluate

    def _evaluator(self, sets: Sequence[np.ndarray]) -> Evaluator:
        setup = self._setup
        dataset, devices = setup.loaded, setup.devices
        gathered = [dataset.gather(examples) for examples in sets]
        arrays = setup.arrays(len(devices))
        return Evaluator(setup.model.loss, dataset.fetch, arrays, gathered, self._settings.batch_size, devices)

    def _once(self, what: str, make: Callable[[], Evaluate]) -> Evaluate:
        settings, setup = self._settings, self._setup
        of = [self.of == "experts", settings.windows, settings.batch_size, len(setup.devices)]
        return setup.cache.once(what, make, *setup.data_and_model, *of, *setup.division)
