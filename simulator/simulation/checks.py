"""Checks of an experiment beyond its file, of everything at once or as soon as it shows."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax

from simulator.cluster import ClusterModel, build_cluster
from simulator.experiment import Experiment, ExperimentError, Point, Problem, one_experiment, registry
from simulator.experiment.schema.experiment import AbsentSectionError
from simulator.experiment.schema.policies import NamedShards, NamedSteps
from simulator.host.errors import SettingError
from simulator.learning import Cache, MemoryNeedError, ModelCosts, Setup
from simulator.learning.routers import check_routers


def cluster_of(experiment: Experiment, costs: ModelCosts) -> ClusterModel:
    """Returns the cost model of the experiment's cluster.

    Raises:
      SettingError: a device is described by a name that is not known.
    """
    return build_cluster(
        experiment.cluster,
        parameters=costs.parameters,
        flops_per_step=costs.flops_per_step,
        seed=experiment.seed,
        topology=experiment.topology,
        inner=experiment.inner,
        activations=costs.activations,
    )


def check(
    experiment: Experiment | Point, cache: Cache | None = None, *, data: bool = True, memory: bool = True
) -> list[Problem]:
    """Returns the problems of an experiment beyond its file: data (if asked), model sizes, optimizers, devices.

    Args:
      experiment: to check; of one that lacks sections, as `expand` gives of a file with mistakes, everything that does
        not need them.
      cache: shares data and models with other experiments that were given the same one.
      data: whether to look at the data too.
      memory: whether a lack of memory is a problem; it is looked for if there is no other.
    """
    experiment = one_experiment(experiment)
    setup = Setup(experiment, cache)
    problems: list[Problem] = []

    def attempt(step: Callable[[], Any]) -> Any:
        try:
            return step()
        except AbsentSectionError:
            return None
        except _OUT_OF_MEMORY as error:
            problem = _problem(error)
            problems.extend([problem] if memory else [])
            return None
        except SettingError as error:
            problems.append(_problem(error))
            return None

    costs = attempt(lambda: setup.costs)
    if data:
        attempt(lambda: setup.loaded)
    attempt(lambda: cluster_of(experiment, costs or ModelCosts(1, 1.0)))
    attempt(
        lambda: (
            isinstance(experiment.local_steps, NamedSteps)
            and registry.build(experiment.local_steps, local_steps=experiment.inner.local_steps)
        )
    )
    attempt(
        lambda: (
            isinstance(experiment.shard_choice, NamedShards)
            and registry.build(experiment.shard_choice, sizes=(1,) * experiment.shards)
        )
    )
    params = None if costs is None else setup.params_like
    attempt(lambda: setup.inner(params))
    attempt(lambda: experiment.pretrain.optimizer and setup.inner(params, "pretrain"))
    attempt(lambda: setup.outer(params))
    if costs is not None and not problems:
        attempt(lambda: setup.exchanges.check())
        attempt(lambda: check_routers(experiment))
    if data and memory and not problems and costs is not None:
        attempt(lambda: setup.lanes)
    return problems


class Shortages:
    """Simulations that do not fit into memory: of every size of model the one that needs most.

    Args:
      cache: with which the experiments were checked.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._found: dict[int, tuple[float, Problem]] = {}

    def look(self, experiment: Experiment) -> None:
        """Adds an experiment without problems if it does not fit; one that lacks sections is left out."""
        setup = Setup(experiment, self._cache)
        try:
            parameters = setup.costs.parameters
            _ = setup.lanes  # raises what is missing
        except AbsentSectionError:
            return
        except MemoryNeedError as error:
            message = f"is too little for a model of {parameters:,} parameters: {error.message}"
            found = error.needed, Problem(error.key, message, error.value)
        except _OUT_OF_MEMORY as error:
            found = math.inf, _problem(error)
        else:
            return
        if self._found.get(parameters, (0.0, None))[0] < found[0]:
            self._found[parameters] = found

    def problems(self) -> list[Problem]:
        """Returns a problem for every size, the smallest first."""
        return [problem for _, (_, problem) in sorted(self._found.items())]


_OUT_OF_MEMORY = (MemoryError, jax.errors.JaxRuntimeError)


def _problem(error: Any) -> Problem:
    """Returns an error as a problem of the experiment; an error of JAX's that is not about memory is raised again."""
    if isinstance(error, _OUT_OF_MEMORY):
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise error
        what = (str(error).splitlines() or ["the host has no more"])[0]
        remedy = "use fewer compute.lanes, a smaller batch, model or data set, or a larger device"
        return Problem("", f"out of memory: {what}; {remedy}")
    return Problem(error.key, error.message, error.value)


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Turns the parts' errors about their own settings, and a lack of memory, into an `ExperimentError`."""
    try:
        yield
    except (SettingError, *_OUT_OF_MEMORY) as error:
        raise ExperimentError([_problem(error)]) from error
