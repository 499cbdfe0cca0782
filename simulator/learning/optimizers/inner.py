"""The inner optimizer and its learning rate."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

from simulator.experiment.schema.inner import ConstantSchedule, Inner, Schedule
from simulator.learning.optimizers.outer import check_not_repeated, optax_like
from simulator.learning.optimizers.protocol import OptimizerError, check_step

Rates = npt.NDArray[np.float32]
InnerOptimizer = Callable[[jax.Array | float], optax.GradientTransformationExtraArgs]
"""From this step's learning rate to the transform: the rate is not part of the optimizer's state, because it belongs to
the shard and the state to the worker."""

MASKS = ("mask", "weight_decay_mask")
"""Arguments of optax's optimizers that say which parameters decay; a file says so by `decay`."""


def learning_rates(schedule: Schedule, peak: float, steps: npt.NDArray[np.int64], total_steps: int) -> Rates:
    """Returns the learning rates of a shard's local steps.

    Args:
      schedule: its shape.
      peak: the highest learning rate.
      steps: the shard's local steps before each, int64 [steps].
      total_steps: the shard's part of the budget, for a schedule that does not say where it ends.
    """
    if isinstance(schedule, ConstantSchedule):
        return np.full(steps.shape, peak, np.float32)
    return warmup_cosine(
        steps,
        peak=peak,
        final=schedule.final_learning_rate,
        warmup_steps=schedule.warmup_steps,
        total_steps=schedule.total_steps or total_steps,
    )


def warmup_cosine(
    steps: npt.NDArray[np.int64], *, peak: float, final: float, warmup_steps: int, total_steps: int
) -> Rates:
    """Linear warm-up, then a cosine to a floor, which holds from `total_steps` on (Eq. 3 of arXiv 2401.09135).

    t * peak / warmup_steps below warmup_steps, 0 at first, then
    final + 0.5 (peak - final) (1 + cos(pi * clip((t - warmup_steps) / (total_steps - warmup_steps), 0, 1))).

    Raises:
      ValueError: `total_steps` does not exceed `warmup_steps`.
    """
    if total_steps <= warmup_steps:
        raise ValueError(f"total_steps {total_steps} must be above warmup_steps {warmup_steps}")
    warm = peak * steps / max(warmup_steps, 1)
    ratio = np.clip((steps - warmup_steps) / (total_steps - warmup_steps), 0.0, 1.0)
    cosine = final + 0.5 * (peak - final) * (1 + np.cos(np.pi * ratio))
    return np.where(steps < warmup_steps, warm, cosine).astype(np.float32)


def linear_warmup(steps: npt.NDArray[np.int64], peak: float, warmup_steps: int) -> Rates:
    """Linear warm-up to a constant learning rate, (t + 1) * peak / warmup_steps, whose first step is not in vain.

    The paper says nothing of the warm-up of its pretraining; Eq. 3, `warmup_cosine`, begins with 0.
    """
    return (peak * np.minimum(1.0, (steps + 1) / max(warmup_steps, 1))).astype(np.float32)


def build_inner(inner: Inner, section: str = "inner", params: Any = None) -> InnerOptimizer:
    """Returns the optimizer of an `inner` section, clipping included.

    Args:
      inner: the settings.
      section: where they were written, for messages.
      params: shapes and dtypes of the parameters, on which it is tried.

    Raises:
      OptimizerError: the optimizer is not known, does not take the given arguments, or cannot be an inner one.
    """
    arguments: dict[str, Any] = dict(inner.arguments)
    check_not_repeated(section, arguments, "learning_rate")
    factory = optax_like(section, inner.optimizer)
    taken = inspect.signature(factory).parameters
    if inner.weight_decay is not None:
        check_not_repeated(section, arguments, "weight_decay")
        if "weight_decay" not in taken:
            message = f"{inner.optimizer} takes none: leave it out, or set it to null"
            raise OptimizerError(f"{section}.weight_decay", inner.weight_decay, message)
        arguments["weight_decay"] = inner.weight_decay
    for mask in MASKS:
        if arguments.get(mask) is not None:
            message = f"leave it out: {section}.decay says which parameters decay, all or matrices"
            raise OptimizerError(f"{section}.arguments.{mask}", arguments[mask], message)
    if inner.decay == "matrices":
        arguments[_mask(section, inner.optimizer, taken, arguments)] = _matrices

    def at(rate: jax.Array | float) -> optax.GradientTransformationExtraArgs:
        optimizer = optax.with_extra_args_support(factory(learning_rate=rate, **arguments))
        if inner.clip_norm is None:
            return optimizer
        return optax.chain(optax.clip_by_global_norm(inner.clip_norm), optimizer)

    check_step(section, inner.optimizer, at(inner.learning_rate), params, outer=False)
    _check_rate_is_free(section, inner.optimizer, at)
    return at


def _mask(section: str, name: str, taken: Mapping[str, inspect.Parameter], arguments: Mapping[str, Any]) -> str:
    """Returns the name of the argument that masks the weight decay.

    Raises:
      OptimizerError: no parameters decay.
    """
    mask = next((each for each in MASKS if each in taken), None)
    rates = [each for each in ("weight_decay", "weight_decay_rate") if each in taken]
    if mask is None or not any(arguments.get(each, taken[each].default) for each in rates):
        message = f"has no effect: with {name} as it is set no parameters decay. Leave it out, or give a weight decay"
        raise OptimizerError(f"{section}.decay", "matrices", message)
    return mask


def _matrices(params: Any) -> Any:
    """Returns which parameters are matrices, embeddings among them: no biases, and no scales of a normalization."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _check_rate_is_free(section: str, name: str, at: InnerOptimizer) -> None:
    """Checks that the learning rate can change from step to step.

    Raises:
      OptimizerError: the optimizer keeps it in its state.
    """
    states = [jax.tree.leaves(at(rate).init(jnp.zeros(1))) for rate in (1.0, 2.0)]
    if not all(bool(jnp.all(one == two)) for one, two in zip(*states, strict=True)):
        message = "it keeps its first learning rate in its state, out of a schedule's reach; choose another"
        raise OptimizerError(f"{section}.optimizer", name, message)
