"""Clusters that train a quadratic function, every step of which a direct loop can repeat.

Worker w's local step t has the loss sum(a_w (x - b_wt)^2) / 2, so its gradient is a_w (x - b_wt).
"""

import functools
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simulator.cluster import MessageShares
from simulator.experiment import Experiment
from simulator.experiment.file import merge
from simulator.learning import (
    BatchedTrainer,
    Cache,
    Programs,
    Recipe,
    RoundData,
    SerialTrainer,
    Setup,
    StaleStages,
    inner_optimizer,
)
from simulator.simulation.checks import cluster_of
from simulator.simulation.training_learner import TrainingLearner
from simulator.timeline import (
    Accepted,
    Answered,
    Dispatched,
    Event,
    Fault,
    Lost,
    Offered,
    Shortened,
    Timeline,
    Update,
    timeline_of,
)
from tests.experiments import tiny
from tests.killed_runs import CLASSIFIER

H, RATE, PARTS, WIDTH, STEPS = 6, 0.05, 3, 4, 200
SGD = {"optimizer": "sgd", "learning_rate": 1.0, "weight": 1.0}
NESTEROV = {"optimizer": "nesterov", "learning_rate": 0.4, "momentum": 0.9, "weight": 1.0}
BARRIER = {"kind": "barrier"}

_random = np.random.default_rng(3)
CURVATURE = _random.uniform(0.5, 2.0, (8, PARTS * WIDTH)).astype(np.float32)
TARGETS = _random.normal(size=(8, STEPS, PARTS * WIDTH)).astype(np.float32)
START = _random.normal(size=PARTS * WIDTH).astype(np.float32)


def gradient(worker: int, step: int, x: np.ndarray) -> np.ndarray:
    return CURVATURE[worker] * (x - TARGETS[worker, step])


def trained(worker: int, first: int, steps: int, x: np.ndarray) -> np.ndarray:
    """Parameters after local steps."""
    for step in range(first, first + steps):
        x = x - RATE * gradient(worker, step, x)
    return x


def tree(x: np.ndarray) -> dict[str, jax.Array]:
    return {name: jnp.asarray(part, jnp.float32) for name, part in zip("abc", np.split(x, PARTS), strict=True)}


def flat(params: Any) -> np.ndarray:
    return np.concatenate([np.asarray(leaf) for leaf in jax.tree.leaves(params)])


def experiment(seconds_per_step: Sequence[float], *changes: dict[str, Any], rounds: int = 4) -> Experiment:
    """Returns an experiment in which worker w trains on shard w, H local steps a round."""
    workers = len(seconds_per_step)
    base: dict[str, Any] = {
        "cluster": {"devices": {"seconds_per_step": list(seconds_per_step)}},
        "inner": {
            "optimizer": "sgd",
            "arguments": {"momentum": 0.0},
            "learning_rate": RATE,
            "local_steps": H,
            "batch_size": 1,
        },
        "synchronization": BARRIER,
        "shard_choice": {"kind": "fixed"},
        "outer": SGD,
        "budget": {"local_steps": workers * H * rounds},
        "evaluate": {"every_local_steps": None},
    }
    tree_ = functools.reduce(merge, changes, merge(CLASSIFIER, base))
    return tiny(**tree_)


CACHE = Cache()


class QuadraticSetup(Setup):
    """Setup whose model and data are the quadratic function."""

    params_like = jax.eval_shape(lambda: tree(START))
    evaluation = SimpleNamespace(evaluator=None, shard_evaluator=None, of="server")  # type: ignore[assignment]

    def divided(self, progress: Any = None) -> Any:
        return None

    def start(self, progress: Any = None, params: Any = None) -> Any:
        return tree(START)

    def __init__(self, experiment: Experiment):
        super().__init__(experiment, CACHE)  # all have one model, whose programs are compiled once

    @functools.cached_property
    def quadratic(self) -> tuple[Programs, RoundData]:
        inner = self.experiment.inner
        return self.cache.once("quadratic", self._quadratic, inner)

    def _quadratic(self) -> tuple[Programs, RoundData]:
        arrays = {"targets": jnp.asarray(TARGETS), "curvature": jnp.asarray(CURVATURE)}

        def loss(params: Any, batch: Any, key: Any) -> jax.Array:
            curvature, target = batch
            x = jnp.concatenate([params[name] for name in "abc"])
            return 0.5 * jnp.sum(curvature * jnp.square(x - target))

        def fetch(arrays: Any, examples: Any) -> Any:
            worker, step = examples[0, 0], examples[0, 1]
            return arrays["curvature"][worker], arrays["targets"][worker, step]

        def order(shard: int, first_step: int, steps: int) -> np.ndarray:
            return np.array([[[shard, first_step + step]] for step in range(steps)], np.int32)

        inner = self.experiment.inner
        pull = None if inner.pull is None else (inner.pull.probability, inner.pull.strength)
        optimizer = inner_optimizer(inner, params=self.params_like)
        point = optimizer.point if isinstance(optimizer, StaleStages) else None
        recipe = Recipe(loss, fetch, optimizer, inner.state == "keep", pull, point)
        rates = lambda shard, first, steps: np.full(steps, RATE, np.float32)  # noqa: E731
        return Programs(recipe), RoundData(
            arrays,
            order,
            rates,
            inner.local_steps,
            jax.random.key(0),
            has_pulls=pull is not None,
            micro_batches=inner.room,
        )

    def trainer(self, kind: str) -> Any:
        programs, data = self.quadratic
        return SerialTrainer(programs, data) if kind == "serial" else BatchedTrainer(programs, data, 4)


class Followed:
    """A learner that has followed all events of an experiment."""

    def __init__(self, experiment: Experiment, trainer: str = "batched"):
        self.setup = QuadraticSetup(experiment)
        self.timeline: Timeline = timeline_for(self.setup)
        self.learner = TrainingLearner(self.setup, trainer, None)
        self.timeline.measurements = self.learner
        self.events: list[Event] = []
        self.reports: list[list[Any]] = []  # diagnostics of the offers of each update
        for event in self.timeline:
            self.events.append(event)
            apply(self.learner, event, self.reports)

    @property
    def params(self) -> np.ndarray:
        """Parameters that are evaluated at the end."""
        return flat(self.learner.params())

    def worker(self, number: int) -> np.ndarray:
        """What a worker holds at the end of all that it has begun."""
        return flat(self.learner.training.workers[number].params.get())

    def agreed(self, number: int) -> np.ndarray:
        """What a worker last accepted."""
        return flat(self.learner.agreed(number))

    def updates(self, node: int = -1) -> list[Update]:
        return [event for event in self.events if isinstance(event, Update) and event.node == node]


def timeline_for(setup: Setup) -> Timeline:
    experiment = setup.experiment
    shares = MessageShares(*map(tuple, setup.exchanges.shares))
    return timeline_of(experiment, cluster_of(experiment, setup.costs), None, shares)


def apply(learner: TrainingLearner, event: Event, reports: list[list[Any]] | None = None) -> None:
    match event:
        case Dispatched():
            learner.dispatch(event)
        case Shortened() | Lost() | Fault():
            learner.fault(event)
        case Update():
            trained = learner.update(event)
            if reports is not None:
                reports.append([np.asarray(each).tolist() for each in trained.diagnostics])
        case Answered() | Offered() | Accepted():
            learner.exchange(event)


# Outer optimizers in numpy, as (state, gradient, parameters) to (parameters, state).

Outer = Callable[[Any, np.ndarray, np.ndarray], tuple[np.ndarray, Any]]


def sgd(rate: float) -> Outer:
    return lambda state, g, x: (x - rate * g, state)


def nesterov(rate: float, momentum: float) -> Outer:
    def step(m: Any, g: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, Any]:
        m = momentum * (0 if m is None else m) + g
        return x - rate * (g + momentum * m), m

    return step


def heavy_ball(rate: float, momentum: float) -> Outer:
    def step(m: Any, g: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, Any]:
        m = momentum * (0 if m is None else m) + g
        return x - rate * m, m

    return step


def diloco(workers: int, rounds: int, outer: Outer) -> np.ndarray:
    """Synchronous rounds, by a direct loop."""
    x, state = START.astype(float), None
    for each in range(rounds):
        offers = [x - trained(worker, each * H, H, x) for worker in range(workers)]
        x, state = outer(state, np.mean(offers, axis=0), x)
    return x
