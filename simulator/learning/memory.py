"""Estimate of the devices' memory that a simulation needs, and of the rounds side by side that fit."""

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.extend.core.primitives import remat_p

from simulator.host.errors import SettingError
from simulator.host.format import byte_count
from simulator.learning.round import OptState, Params, Recipe

_REMEDY = (
    "use inner.accumulation, model.remat, a smaller inner.batch_size, evaluate.batch_size, pretrain.batch_size, "
    "model.context or model, fewer cluster workers, or a larger device; or raise compute.memory, if there is more"
)


class MemoryNeedError(SettingError):
    """A simulation that does not fit.

    Attributes:
      needed: least number of bytes for it.
      remedy: returns further text of the message, which takes some time to find.
    """

    needed = math.nan
    remedy: Callable[[], str] = staticmethod(lambda: "")


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Parts of the estimate, in bytes.

    Attributes:
      params: the model's parameters.
      inner: a worker's inner optimizer state.
      outer: the outer optimizer's state.
      data: the arrays that are on every device.
      activations: arrays that one lane's step keeps for the backward pass, logits included, and older parameters.
      evaluation: the activations of a forward pass of the evaluation.
      pretraining: all that pretraining takes besides the data, 0 without it.
    """

    params: float
    inner: float
    outer: float
    data: float
    activations: float
    evaluation: float
    pretraining: float = 0.0

    @property
    def lane(self) -> float:
        """Bytes of one lane: the round's state and result, a gradient and the activations."""
        return 2 * (self.params + self.inner) + self.params + self.activations


@dataclasses.dataclass(frozen=True)
class Needs:
    """Bytes by purpose, on the device that needs most; on a CPU, whose devices share memory, on all."""

    parts: Mapping[str, float]

    @property
    def total(self) -> float:
        """Sum over all purposes."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        return ", ".join(f"{what} {byte_count(size)}" for what, size in self.parts.items())


@dataclasses.dataclass(frozen=True)
class Layout:
    """Layout of the work that runs at once.

    Attributes:
      workers: number of workers. Each may be at work on a version of its own, unless they start together.
      lanes: most rounds side by side, on all devices.
      devices: number of devices.
      barrier: whether workers start together, from one version.
      shared: whether the devices have one memory, as those of a CPU do.
      serial: whether every round is computed by itself, on the first device, when it is dispatched.
      copies: of the model that each worker holds besides its results: what it began with, and, where it goes on while
        its offers are on their way, what it has accepted and what is on its way.
      servers: number of places with parameters and an outer optimizer of a whole model.
    """

    workers: int
    lanes: int
    devices: int = 1
    barrier: bool = False
    shared: bool = False
    serial: bool = False
    copies: int = 1
    servers: int = 1


def needs(sizes: Sizes, layout: Layout) -> Needs:
    """Returns an upper estimate of a simulation's memory, in the phase that needs most."""
    workers, used = layout.workers, min(layout.lanes, layout.devices)
    together = used if layout.shared else 1  # of the devices that hold the data and evaluate
    training = 1 if layout.serial else used
    on_each = 1 if layout.serial else -(-layout.lanes // used)
    in_one_memory = training if layout.shared else 1
    # By itself a round is computed when its result is due. Side by side with others, or when it is dispatched, it may
    # be computed long before, and has to wait: that all but one do so is a bound.
    by_itself = layout.lanes == 1 and not layout.serial
    ahead = min(workers, 2) if by_itself else workers
    lanes = max(in_one_memory * on_each * sizes.lane, together * (sizes.params + sizes.evaluation))
    simulating = Needs(
        {
            # Of one that steps old and new, and the update.
            "server": (1 + layout.servers) * (sizes.params + sizes.outer) + sizes.params,
            "versions": (1 if layout.barrier else workers * layout.copies) * sizes.params,
            "results": (workers if layout.barrier else ahead) * sizes.params + ahead * sizes.inner,
            "inner states": (1 + workers * in_one_memory / training) * sizes.inner,  # and a fresh one
            "data": together * sizes.data,
            f"{on_each * in_one_memory} x lane": lanes,
        }
    )
    pretraining = Needs({"data": together * sizes.data, "pretraining": sizes.pretraining})
    return max(simulating, pretraining, key=lambda phase: phase.total)


def fitting_lanes(sizes: Sizes, limit: float, layout: Layout) -> int:
    """Returns the number of rounds that fit side by side: that of the layout, or half of it, or half of that ...

    Raises:
      MemoryNeedError: not even one fits into `limit` bytes.
    """
    lanes = layout.lanes
    while (found := needs(sizes, dataclasses.replace(layout, lanes=lanes))).total > limit:
        if lanes == 1:
            message = f"about {byte_count(found.total)} are needed even with one round at a time ({found}): {_REMEDY}"
            error = MemoryNeedError("compute.memory", byte_count(limit), message)
            error.needed = found.total
            raise error
        lanes //= 2
    return lanes


def sizes_of(
    recipe: Recipe, params: Params, outer_state: Any, arrays: Mapping[str, Any], examples: np.ndarray, evaluated: int
) -> Sizes:
    """Returns the sizes; nothing is computed.

    What a step keeps is counted as it is traced, before XLA leaves out what it can make again at no cost, and beside it
    what a block keeps that is made again, and three times the largest array on its way: of small models 1 to 2.5 times
    what XLA then allocates. Of a batch in parts it is that of one, and the mean gradient so far.

    Args:
      recipe: of the rounds.
      params: shapes and dtypes.
      outer_state: likewise.
      arrays: the data, on the host or a device.
      examples: those of one local step, as `RoundData` gives them.
      evaluated: how many there are in one forward pass of the evaluation.
    """
    inner: OptState = jax.eval_shape(recipe.initial_state, params)
    examples = examples[: len(examples) // recipe.accumulation]

    def loss(params: Params, batch: Any) -> jax.Array:
        return recipe.loss(params, batch, jax.random.key(0))

    def kept(params: Params, arrays: Any, examples: np.ndarray) -> Any:
        batch = recipe.fetch(arrays, examples)
        return batch, jax.vjp(lambda params: loss(params, batch), params)[1]

    program, shapes = jax.make_jaxpr(kept, return_shape=True)(params, arrays, examples)
    largest = 3 * max(_bytes_of(array) for equation in _equations(program.jaxpr) for array in _made(equation))
    evaluation = largest * evaluated / len(examples)
    again = _made_again(jax.make_jaxpr(loss)(params, shapes[0]))
    copies = (recipe.point is not None) + (recipe.accumulation > 1)
    activations = tree_bytes(shapes) + largest + again + copies * tree_bytes(params)
    return Sizes(
        tree_bytes(params), tree_bytes(inner), tree_bytes(outer_state), tree_bytes(arrays), activations, evaluation
    )


def device_memory() -> float:
    """Returns the bytes that a device has: what its allocator may take, or of a CPU's devices an equal part each."""
    found = jax.local_devices()[0].memory_stats()
    return float(found["bytes_limit"]) if found else host_memory() / jax.local_device_count()


def host_memory() -> float:
    """Returns the bytes that the host has, or what a container leaves of them."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # there is none, or it is "max"
            limits.append(int(Path(path).read_text()))
    return float(min(limits))


def resident_bytes(of_host: float) -> float:
    """Returns the bytes of text to keep on a device unless an experiment says otherwise: a quarter of its memory.

    CPU devices share the host's memory, and each has a copy of the text.
    """
    if jax.default_backend() != "cpu":
        return device_memory() / 4
    return min(device_memory() / 4 * min(of_host, 1.0), of_host / 4 if of_host > 1 else math.inf)


def memory_limit(allowed: float, of_host: float = 1.0) -> float:
    """Returns the bytes that a simulation may use of each device, of a CPU's devices together.

    Args:
      allowed: bytes, or a share up to 1 of all.
      of_host: the host's available memory, if its CPU computes: bytes, or a share up to 1 of all.
    """
    if allowed > 1:
        return allowed
    if jax.default_backend() != "cpu":
        return allowed * device_memory()
    return allowed * part_of_host(of_host)


def part_of_host(of_host: float) -> float:
    """Returns bytes, from bytes or a share up to 1 of the host's memory."""
    return of_host if of_host > 1 else of_host * host_memory()


def tree_bytes(tree: Any) -> float:
    """Returns the bytes of a tree's arrays, of which shapes and dtypes suffice."""
    return float(sum(_bytes_of(leaf) for leaf in jax.tree.leaves(tree)))


def _bytes_of(leaf: Any) -> float:
    """Returns an array's bytes; of a random key those of its data."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    return float(np.prod(leaf.shape) * leaf.dtype.itemsize)


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Yields the equations of a program, and of the programs in it."""
    for equation in jaxpr.eqns:
        yield equation
        parts = [getattr(each, "jaxpr", each) for each in jax.tree.leaves(equation.params)]
        for part in parts:
            if hasattr(part, "eqns"):
                yield from _equations(part)


def _made(equation: Any) -> list[Any]:
    """Returns shapes and dtypes of the arrays that an equation makes."""
    return [out.aval for out in equation.outvars if hasattr(out.aval, "dtype")]


def _made_again(program: Any) -> float:
    """Returns the most bytes that a rematerialised part of a program keeps for its backward pass, made again for it."""
    found = 0.0
    for equation in _equations(program.jaxpr):
        if equation.primitive is remat_p:
            part = jaxpr_as_fun(ClosedJaxpr(equation.params["jaxpr"], ()))
            inputs = [each.aval for each in equation.invars]
            found = max(found, tree_bytes(jax.eval_shape(lambda *given, part=part: jax.vjp(part, *given)[1], *inputs)))
    return found
