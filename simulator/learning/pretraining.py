"""Plain training before the simulation: on all shards by turns, as one replica would."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from simulator.data import DataOrder, Dataset
from simulator.experiment import Experiment
from simulator.experiment.schema.inner import ConstantSchedule, Inner
from simulator.host.random_streams import jax_key
from simulator.learning.compiled_rounds import Programs
from simulator.learning.optimizers.inner import linear_warmup
from simulator.learning.round import Arrays, Params, Recipe, RoundInputs

PretrainProgress = Callable[[int, int, float], None]
"""Called with (steps done, steps in all, mean loss of the last steps)."""
PRETRAIN_CHUNK = 100


def pretrain_inner(experiment: Experiment) -> Inner:
    """Returns the optimizer settings of pretraining; those that do not matter to it have fixed values."""
    pretrain, inner = experiment.pretrain, experiment.inner
    changes: dict[str, Any] = {
        "local_steps": 1,
        "schedule": ConstantSchedule(kind="constant"),
        "state": "keep",
        "stages": None,
        "micro_batches": None,
        "pull": None,
    }
    changes["batch_size"] = pretrain.batch_size or inner.micro_batch
    changes["accumulation"] = pretrain.accumulation or inner.accumulation
    changes["learning_rate"] = pretrain.learning_rate or inner.learning_rate
    if pretrain.optimizer is not None:
        changes |= {name: getattr(pretrain, name) for name in ("optimizer", "weight_decay", "arguments")}
        changes["decay"] = pretrain.decay or "all"
    return inner.model_copy(update=changes)


def pretrain_order(experiment: Experiment, dataset: Dataset) -> npt.NDArray[np.int64]:
    """Returns int64 [2, steps]: shard, and step of that shard, of every step of pretraining, spread by size."""
    sizes_S = np.array(dataset.shard_sizes)
    visits_S = -(-experiment.pretrain.steps * sizes_S // sizes_S.sum())
    shards = np.repeat(np.arange(len(sizes_S)), visits_S)
    steps = np.arange(len(shards)) - np.repeat(visits_S.cumsum() - visits_S, visits_S)
    due = np.argsort((steps + 0.5) / sizes_S[shards], kind="stable")  # equal shards take turns
    return np.stack([shards, steps])[:, due[: experiment.pretrain.steps]]


def steps_seen(experiment: Experiment, dataset: Dataset) -> npt.NDArray[np.int64]:
    """Returns the number of every shard's micro-batches that pretraining has seen, rounded up, int64 [shards]."""
    visits_S = np.bincount(pretrain_order(experiment, dataset)[0], minlength=experiment.shards)
    return -(-visits_S * pretrain_inner(experiment).micro_batch // experiment.inner.micro_batch)


def pretrained(
    experiment: Experiment,
    params: Params,
    recipe: Recipe,
    dataset: Dataset,
    arrays: Arrays,
    progress: PretrainProgress | None = None,
) -> Params:
    """Trains fresh parameters, in chunks of the same compiled program.

    Args:
      experiment: whose `pretrain` section says how.
      params: fresh.
      recipe: of pretraining.
      dataset: to train on.
      arrays: its arrays, on the device.
      progress: called after every chunk.
    """
    steps, warmup_steps = experiment.pretrain.steps, experiment.pretrain.warmup_steps
    inner = pretrain_inner(experiment)
    programs = Programs(recipe)
    order = DataOrder(dataset, inner.micro_batch, experiment.seed)
    key = jax_key(experiment.seed, "pretraining")
    state = recipe.initial_state(params)
    turns, chunk = pretrain_order(experiment, dataset).T, min(PRETRAIN_CHUNK, steps)

    def examples(first: int) -> npt.NDArray[Any]:
        rows = [order.batch(shard, step) for shard, step in turns[first : first + chunk].tolist()]
        return dataset.gather(np.stack(rows + [np.zeros_like(rows[0])] * (chunk - len(rows))))

    with ThreadPoolExecutor(1) as pool:  # gathers the next chunk while the device computes
        upcoming = pool.submit(examples, 0)
        for first in range(0, steps, chunk):
            last = min(first + chunk, steps)
            rates = linear_warmup(np.arange(first, first + chunk), inner.learning_rate, warmup_steps)
            inputs = RoundInputs(params, state, upcoming.result(), rates, np.int32(last - first), np.int32(first))
            [(result, state)] = programs.run(arrays, key, [inputs])
            if last < steps:
                upcoming = pool.submit(examples, last)
            # As an outer step of 1, which differs in the last bits from the end itself.
            params = jax.tree.map(lambda start, end: start - (start - end), params, result.params)
            if progress is not None:
                progress(last, steps, float(result.loss))
    return params
