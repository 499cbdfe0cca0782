"""A problem whose every step can be worked out: loss |x - target|^2 / 2, gradient x - mean target."""

import dataclasses
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simulator.experiment.schema.inner import Inner
from simulator.learning import (
    OfferMade,
    Programs,
    Recipe,
    RoundData,
    RoundInputs,
    RoundResult,
    Stretch,
    Trainer,
    Training,
    Value,
    Values,
    build_inner,
    pseudo_gradient,
)

ARRAYS = {"targets": jnp.asarray(np.random.default_rng(7).normal(size=(64, 3)), jnp.float32)}
START = {"x": jnp.array([1.0, -2.0, 0.5], jnp.float32)}


def loss(params: Any, targets: jax.Array, key: jax.Array | None) -> jax.Array:
    del key
    return 0.5 * jnp.mean(jnp.sum(jnp.square(params["x"][None, :] - targets), axis=1))


def fetch(arrays: Any, examples: Any) -> Any:
    return arrays["targets"][examples]


def rates(shard: int, first_step: int, steps: int) -> np.ndarray:
    """Learning rates that depend on the shard's count of steps."""
    return (0.1 / (1.0 + np.arange(first_step, first_step + steps))).astype(np.float32)


def inner(optimizer: str = "sgd", **settings: Any) -> Inner:
    return Inner(**{"optimizer": optimizer, "learning_rate": 0.1, "batch_size": 2} | settings)


def momentum_recipe(**changes: Any) -> Recipe:
    optimizer = build_inner(inner(arguments={"momentum": 0.9}))
    return dataclasses.replace(Recipe(loss, fetch, optimizer), **changes)


def order(shard: int, first_step: int, steps: int) -> np.ndarray:
    """Two examples per step, different for each (shard, step)."""
    step = np.arange(first_step, first_step + steps, dtype=np.int32)[:, None]
    return ((17 * shard + 2 * step + np.arange(2, dtype=np.int32)[None, :]) % 64).astype(np.int32)


def round_data(longest_round: int = 6, rate: float | None = None) -> RoundData:
    """The rounds' inputs, at the rates above or at one that never changes."""
    chosen = rates if rate is None else lambda shard, first_step, steps: np.full(steps, rate, np.float32)
    return RoundData(ARRAYS, order, chosen, longest_round, jax.random.key(0))


def stretch(id: int, worker: int = 0, shard: int = 0, first_step: int = 0, steps: int = 3) -> Stretch:
    return Stretch(id, worker, shard, first_step, steps)


class Workers:
    """Workers that hand their inner states on from each training to the next."""

    def __init__(self, trainer: Trainer):
        self.trainer, self.values = trainer, Values()
        self.inner: dict[int, Value] = {}

    def submit(self, round: Stretch, params: Any) -> Training:
        training = self.trainer.training(
            self.values, round, self.values.known("params", params), self.inner.get(round.worker)
        )
        self.inner[round.worker] = self.values.lazy("inner", operator.itemgetter(1), training)
        self.trainer.submit(training)
        return training


def result_of(training: Training) -> RoundResult:
    return training.get()[0]


def moved(start: Any, result: RoundResult) -> np.ndarray:
    """The pseudo-gradient of a round."""
    return np.asarray(pseudo_gradient(start, result.params)["x"])


def learned(training: Training) -> np.ndarray:
    """Pseudo-gradient and loss of a training."""
    return np.append(moved(training.start.get(), result_of(training)), result_of(training).loss)


def offers(*trees: Any) -> list[OfferMade]:
    """Offers that are sent as they are."""
    return [OfferMade(tree, jnp.isfinite(tree["x"]).all(), (), ()) for tree in trees]


class LoggingPrograms(Programs):
    """Notes the steps of the rounds in every call."""

    def __init__(self, recipe: Recipe):
        super().__init__(recipe)
        self.calls: list[list[int]] = []

    def run(self, arrays: Any, key: jax.Array, inputs: Sequence[RoundInputs], overhead: float = 0.0) -> Any:
        self.calls.append([int(each.steps) for each in inputs])
        return super().run(arrays, key, inputs, overhead)
