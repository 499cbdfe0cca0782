"""What is wrong with an experiment beyond its file, all at once or as soon as it shows."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax

from simulator.cluster import ClusterError, ClusterModel, build_cluster
from simulator.data import DataError
from simulator.experiment import Experiment, ExperimentError, PolicyError, Problem, named
from simulator.experiment.policies_schema import NamedShards, NamedSteps
from simulator.learning import (
    MemoryNeedError,
    ModelCosts,
    ModelError,
    OptimizerError,
    Workshop,
    build_inner,
    build_outer,
)
from simulator.learning.pretraining import pretrain_inner


def cluster_of(experiment: Experiment, costs: ModelCosts) -> ClusterModel:
    """Returns the cost model of the experiment's cluster.

    Raises:
      ClusterError: a device is described by a name that is not known.
    """
    return build_cluster(
        experiment.cluster,
        parameters=costs.parameters,
        flops_per_step=costs.flops_per_step,
        seed=experiment.seed,
    )


def check(experiment: Experiment, workshop: Workshop | None = None, *, data: bool = True) -> list[Problem]:
    """Returns what is wrong with an experiment beyond its file: data (if asked), model sizes, optimizers, devices.

    Args:
      experiment: what to check; of one that lacks sections, as `expand` gives of a file with mistakes, those it has.
      workshop: shares data and models with other experiments that were given the same one.
      data: whether to look at the data too.
    """
    workshop = workshop or Workshop()
    problems: list[Problem] = []

    def attempt(step: Any, *sections: str) -> Any:
        if not all(hasattr(experiment, section) for section in sections):
            return None
        try:
            return step()
        except (*_REPORTED, *_OUT_OF_MEMORY) as error:
            problems.append(_problem(error))
            return None

    costs = attempt(lambda: workshop.costs(experiment), "model", "data", "cluster", "inner")
    if data:
        attempt(lambda: workshop.dataset(experiment), "model", "data", "cluster")
    attempt(lambda: cluster_of(experiment, costs or ModelCosts(1, 1.0)), "cluster")
    attempt(lambda: _try_steps(experiment), "local_steps", "inner")
    attempt(lambda: _try_shards(experiment), "shard_choice", "data", "cluster")
    params = None if costs is None else workshop.params_like(experiment)
    attempt(lambda: build_inner(experiment.inner, params=params), "inner")
    if experiment.pretrain.optimizer is not None:
        attempt(lambda: build_inner(pretrain_inner(experiment), "pretrain", params), "inner")
    attempt(lambda: build_outer(experiment.outer, params), "outer")
    if data and not problems and costs is not None:
        attempt(lambda: workshop.lanes(experiment), "outer", "evaluate")
    return problems


def _try_steps(experiment: Experiment) -> None:
    """Builds a choice of local steps of one's own."""
    if isinstance(experiment.local_steps, NamedSteps):
        named.build(experiment.local_steps, local_steps=experiment.inner.local_steps)


def _try_shards(experiment: Experiment) -> None:
    """Builds a choice of shards of one's own."""
    if isinstance(experiment.shard_choice, NamedShards):
        named.build(experiment.shard_choice, sizes=(1,) * experiment.shards)


_REPORTED = (ClusterError, DataError, MemoryNeedError, ModelError, OptimizerError, PolicyError)
_OUT_OF_MEMORY = (MemoryError, jax.errors.JaxRuntimeError)


def _problem(error: Any) -> Problem:
    """Returns what an error says of the experiment; an error of JAX's that is not about memory is raised again."""
    if isinstance(error, _OUT_OF_MEMORY):
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise error
        what = (str(error).splitlines() or ["the host has no more"])[0]
        remedy = "use fewer compute.lanes, a smaller batch, model or data set, or a larger device"
        return Problem("", f"out of memory: {what}; {remedy}")
    return Problem(error.key, getattr(error, "message", None) or error.args[0], error.value)


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Turns what the parts say of their own settings, and a lack of memory, into an `ExperimentError`."""
    try:
        yield
    except (*_REPORTED, *_OUT_OF_MEMORY) as error:
        raise ExperimentError([_problem(error)]) from error
