"""Stages of a worker that is an asynchronous pipeline: gradients at old parameters, and an optimizer for each stage."""

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from simulator.experiment.schema.inner import Inner
from simulator.experiment.schema.pipeline import AsynchronousStages
from simulator.host.errors import SettingError
from simulator.learning.fragments import Fragments, stages_of
from simulator.learning.optimizers.inner import InnerOptimizer, build_inner
from simulator.learning.optimizers.outer import factory_of
from simulator.learning.optimizers.protocol import OptimizerError
from simulator.learning.round import Params


class StageState(NamedTuple):
    """State of a stage.

    Attributes:
      optimizer: of its inner optimizer.
      versions: its parameters before each of the last updates, as a ring: every leaf has one more axis in front, as
        long as the stage's delay. () of a stage whose gradient is not late.
    """

    optimizer: Any
    versions: Any


class PipelineState(NamedTuple):
    """State of a pipeline.

    Attributes:
      updates: number of updates so far, int32 scalar.
      stages: of each stage its own.
    """

    updates: jax.Array
    stages: tuple[StageState, ...]


class StaleStages:
    r"""Inner optimizer of an asynchronous pipeline (Ajanthan et al., arXiv 2505.01099; weights stashed as PipeDream's).

    The gradient of update t is taken at a point of which stage i's part is :math:`w_{t - \tau_i}`, for its delay
    :math:`\tau_i`; that of the start where t is smaller. Each stage steps from where it is, with its own part of that
    gradient. Clipping is by a stage's own norm, for none knows another's in time.

    Args:
      fragments: parameters of each stage.
      delays: of each stage, in updates.
      optimizers: of each stage.
      correction_steps: of the learning rate: a stage's is divided by :math:`\tau_i^{1 - \min(t / this, 1)}` at its
        update t, from 1; None for not at all.
    """

    def __init__(
        self,
        fragments: Fragments,
        delays: Sequence[int],
        optimizers: Sequence[InnerOptimizer],
        correction_steps: int | None = None,
    ):
        self._fragments, self._delays, self._optimizers = fragments, delays, optimizers
        self._correction_steps = correction_steps

    def __call__(self, rate: jax.Array | float) -> optax.GradientTransformationExtraArgs:
        """Returns the transform at a learning rate; its `update` is to be given the gradients at `point`."""

        def update(
            gradients: Params, state: PipelineState, params: Params | None = None, **extra: Any
        ) -> tuple[Params, PipelineState]:
            del extra
            updates, stages = [], []
            for stage, (own, delay) in enumerate(zip(state.stages, self._delays, strict=True)):
                part, gradient = (self._fragments.take(tree, stage) for tree in (params, gradients))
                optimizer = self._optimizers[stage](self._corrected(rate, delay, state.updates))
                step, after = optimizer.update(gradient, own.optimizer, part)
                updates.append(step)
                stages.append(StageState(after, _replaced(own.versions, part, state.updates, delay)))
            return self._fragments.join(params, updates), PipelineState(state.updates + 1, tuple(stages))

        return optax.GradientTransformationExtraArgs(self._init, update)

    def point(self, params: Params, state: PipelineState) -> Params:
        """Returns the parameters at which the gradient of the next update is taken."""
        parts = [
            jax.tree.map(lambda ring, delay=delay: ring[state.updates % delay], own.versions)
            if delay
            else self._fragments.take(params, stage)
            for stage, (own, delay) in enumerate(zip(state.stages, self._delays, strict=True))
        ]
        return self._fragments.join(params, parts)

    def _init(self, params: Params) -> PipelineState:
        stages = []
        for stage, (delay, optimizer) in enumerate(zip(self._delays, self._optimizers, strict=True)):
            part = self._fragments.take(params, stage)
            rings = jax.tree.map(lambda leaf, delay=delay: jnp.broadcast_to(leaf, (delay, *leaf.shape)), part)
            stages.append(StageState(optimizer(1.0).init(part), rings if delay else ()))
        return PipelineState(jnp.int32(0), tuple(stages))

    def _corrected(self, rate: jax.Array | float, delay: int, updates: jax.Array) -> jax.Array | float:
        if self._correction_steps is None or delay < 2:
            return rate
        left = 1 - jnp.minimum((updates + 1).astype(jnp.float32) / self._correction_steps, 1.0)
        return jnp.multiply(rate, jnp.float32(delay) ** -left)


def _replaced(rings: Any, part: Any, updates: jax.Array, delay: int) -> Any:
    """Returns a stage's versions with the present one in place of the oldest."""
    if not delay:
        return ()
    return jax.tree.map(lambda ring, leaf: ring.at[updates % delay].set(leaf), rings, part)


def inner_optimizer(inner: Inner, section: str = "inner", params: Any = None) -> InnerOptimizer:
    """Returns the optimizer of an `inner` section, of each of the stages of an asynchronous pipeline.

    Args:
      inner: the settings.
      section: where they were written, for messages.
      params: shapes and dtypes of the parameters, which are divided among the stages; not divided when None.

    Raises:
      OptimizerError: as `build_inner`, or the optimizer has no momentum that could differ from stage to stage.
      SettingError: the model cannot be divided into so many stages.
    """
    stages = inner.stages
    whole = build_inner(inner, section, params)
    if not isinstance(stages, AsynchronousStages) or params is None:
        return whole
    try:
        fragments = stages_of(params, stages.count)
    except ValueError as error:
        raise SettingError(f"{section}.stages.count", stages.count, str(error)) from error
    optimizers = [whole] * stages.count
    if stages.adaptive_momentum is not None:
        optimizers = _by_momentum(inner, stages, stages.adaptive_momentum, section)
    return StaleStages(fragments, stages.delays, optimizers, stages.correction_steps)


def _by_momentum(inner: Inner, stages: AsynchronousStages, most: float, section: str) -> list[InnerOptimizer]:
    """Returns the optimizer of each stage, with its own momentum.

    A momentum that is a sum, and no mean, discounts the gradient by 1 - momentum in the learning rate.
    """
    taken = inspect.signature(factory_of(section, inner.optimizer)).parameters
    name = next((each for each in ("momentum", "b1") if each in taken), None)
    if name is None:
        message = f"{inner.optimizer} has neither b1 nor momentum: leave it out"
        raise OptimizerError(f"{section}.stages.adaptive_momentum", most, message)
    own = float(inner.arguments.get(name, taken[name].default) or 0.0)
    found = []
    for left in reversed(range(stages.count)):
        momentum = own + (most - own) * left / stages.count
        changed = inner.model_copy(update={"arguments": {**inner.arguments, name: momentum}})
        discount = (1 - momentum) / (1 - own) if name == "momentum" else 1.0
        found.append(_scaled(build_inner(changed, section), discount))
    return found


def _scaled(optimizer: InnerOptimizer, factor: float) -> InnerOptimizer:
    return lambda rate: optimizer(rate * factor)
