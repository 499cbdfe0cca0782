"""Checks of an experiment beyond its file, of everything at once or as soon as it shows."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax

from simulator.cluster import ClusterModel, build_cluster, memory_of
from simulator.experiment import Experiment, ExperimentError, Point, Problem, one_experiment, registry
from simulator.experiment.schema.devices import FlopsDevices
from simulator.experiment.schema.experiment import AbsentSectionError
from simulator.experiment.schema.policies import NamedShards, NamedSteps
from simulator.host.errors import SettingError
from simulator.host.format import byte_count
from simulator.learning import Cache, MemoryNeedError, ModelCosts, Setup
from simulator.learning.device_memory import accelerators_of, worker_needs
from simulator.learning.memory import Needs
from simulator.learning.model import check_trainable, is_described
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
        relative_to_s=costs.step_s,
    )


@dataclasses.dataclass(frozen=True)
class DeviceFit:
    """Memory of a kind of accelerator, beside what one needs.

    Attributes:
      index: among the accelerators of the cluster.
      name: of the kind.
      group: accelerators of a worker.
      memory: of one, bytes.
      needs: of one: an equal part of its worker's.
    """

    index: int
    name: str
    group: int
    memory: float
    needs: Needs


def device_fits(setup: Setup) -> list[DeviceFit]:
    """Returns the accelerators whose memory is known, beside what they need; none of a model without layers."""
    experiment, exchanges = setup.experiment, ["topology", "merge", "schedule", "compression"]
    devices = experiment.cluster.devices
    if not isinstance(devices, FlopsDevices):
        return []
    settings = experiment.inner, experiment.outer, *(getattr(experiment, name) for name in exchanges)
    needs = setup.cache.once("worker needs", lambda: worker_needs(setup), *setup.data_and_model, *settings)
    found = []
    for index, accelerator in enumerate(devices.accelerators):
        memory, group = memory_of(accelerator), accelerators_of(experiment, accelerator.each)
        if memory is not None and needs is not None:
            own = Needs({what: size / group for what, size in needs.parts.items()})
            found.append(DeviceFit(index, accelerator.name, group, memory, own))
    return found


def check_device_memory(setup: Setup) -> None:
    """Checks that every accelerator whose memory is known holds its part of what its worker needs.

    Raises:
      MemoryNeedError: one does not.
    """
    for fit in device_fits(setup):
        if fit.needs.total <= fit.memory:
            continue
        whose = "an accelerator needs" if fit.group == 1 else f"each of a worker's {fit.group} accelerators needs"
        remedy = "use more of them (each), larger ones, inner.accumulation, model.remat, or a smaller batch or model"
        message = f"{whose} about {byte_count(fit.needs.total)} ({fit.needs}): {remedy}"
        key = f"cluster.devices.accelerators.{fit.index}.memory"
        error = MemoryNeedError(key, byte_count(fit.memory), message)
        error.needed = fit.needs.total
        raise error


def check(
    experiment: Experiment | Point,
    cache: Cache | None = None,
    *,
    data: bool = True,
    memory: bool = True,
    train: bool = False,
) -> list[Problem]:
    """Returns the problems of an experiment beyond its file: data (if asked), model sizes, optimizers, devices.

    Args:
      experiment: to check; of one that lacks sections, as `expand` gives of a file with mistakes, everything that does
        not need them.
      cache: shares data and models with other experiments that were given the same one.
      data: whether to look at the data too, of a model that can be trained.
      memory: whether a lack of memory is a problem; it is looked for if there is no other.
      train: whether it is to be trained, which is a problem of a model that is only described.
    """
    experiment = one_experiment(experiment)
    setup = Setup(experiment, cache)
    data = data and not is_described(experiment)
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

    if train:
        attempt(lambda: check_trainable(experiment))
    costs = attempt(lambda: setup.costs)
    if data:
        attempt(lambda: setup.loaded)
    attempt(lambda: cluster_of(experiment, costs or ModelCosts(1, 1.0)))
    attempt(lambda: _build_steps(experiment))
    attempt(lambda: _build_shards(experiment))
    params = None if costs is None else setup.params_like
    attempt(lambda: setup.inner(params))
    attempt(lambda: experiment.pretrain.optimizer and setup.inner(params, "pretrain"))
    attempt(lambda: setup.outer(params))
    if costs is not None and not problems:
        attempt(lambda: setup.exchanges.check())
        attempt(lambda: check_routers(experiment))
    if costs is not None and not problems:
        attempt(lambda: check_device_memory(setup))
    if data and memory and not problems and costs is not None:
        attempt(lambda: setup.lanes)
    return problems


def _build_steps(experiment: Experiment) -> None:
    if isinstance(experiment.local_steps, NamedSteps):
        registry.build(experiment.local_steps, local_steps=experiment.inner.local_steps)


def _build_shards(experiment: Experiment) -> None:
    if isinstance(experiment.shard_choice, NamedShards):
        registry.build(experiment.shard_choice, sizes=(1,) * experiment.shards)


class Shortages:
    """Simulations that do not fit into memory: of every size of model the one that needs most.

    Args:
      cache: with which the experiments were checked.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._found: dict[int, Exception] = {}

    def look(self, experiment: Experiment) -> None:
        """Adds an experiment without problems if it does not fit; one that lacks sections is left out.

        So is one whose model is only described, which is never trained.
        """
        if is_described(experiment):
            return
        setup = Setup(experiment, self._cache)
        try:
            parameters = setup.costs.parameters
            _ = setup.lanes  # raises what is missing
        except AbsentSectionError:
            return
        except (MemoryNeedError, *_OUT_OF_MEMORY) as error:
            if self._needed(error) > self._needed(self._found.get(parameters)):
                self._found[parameters] = error

    @staticmethod
    def _needed(error: Exception | None) -> float:
        """Returns the bytes that are needed, infinitely many where that is not known."""
        return 0.0 if error is None else getattr(error, "needed", math.inf)

    def problems(self) -> list[Problem]:
        """Returns a problem for every size, the smallest first."""
        return [self._told(parameters, error) for parameters, error in sorted(self._found.items())]

    @staticmethod
    def _told(parameters: int, error: Exception) -> Problem:
        problem = _problem(error)
        if not isinstance(error, MemoryNeedError):
            return problem
        message = f"is too little for a model of {parameters:,} parameters: {problem.message}"
        return dataclasses.replace(problem, message=message)


_OUT_OF_MEMORY = (MemoryError, jax.errors.JaxRuntimeError)


def _problem(error: Any) -> Problem:
    """Returns an error as a problem of the experiment; an error of JAX's that is not about memory is raised again."""
    if isinstance(error, _OUT_OF_MEMORY):
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise error
        what = (str(error).splitlines() or ["the host has no more"])[0]
        remedy = "use fewer compute.lanes, a smaller batch, model or data set, or a larger device"
        return Problem("", f"out of memory: {what}; {remedy}")
    further = error.remedy() if isinstance(error, MemoryNeedError) else ""
    return Problem(error.key, error.message + further, error.value)


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Turns the parts' errors about their own settings, and a lack of memory, into an `ExperimentError`."""
    try:
        yield
    except (SettingError, *_OUT_OF_MEMORY) as error:
        raise ExperimentError([_problem(error)]) from error
