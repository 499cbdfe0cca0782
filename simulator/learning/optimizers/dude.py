"""Table of the workers' last pseudo-gradients, whose mean is the step (DuDe-ASGD)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from simulator.learning.optimizers.ranges import check_learning_rate, check_workers


class DuDeState(NamedTuple):
    """State of `dude`.

    Attributes:
      last: the last pseudo-gradient of each worker, like the parameters with a leading axis (workers,).
      known: whether each worker has offered, bool (workers,).
    """

    last: optax.Updates
    known: jax.Array


def of_each(params: optax.Params, workers: int) -> optax.Updates:
    """Returns zeros like the parameters for each worker, with a leading axis (workers,)."""
    return jax.tree.map(lambda leaf: jnp.zeros((workers, *leaf.shape), leaf.dtype), params)


def dude(learning_rate: float, workers: int) -> optax.GradientTransformationExtraArgs:
    r"""DuDe-ASGD, Wang et al., 2024 (arXiv 2405.16966): each arrival replaces its worker's entry of a table.

    With a pseudo-gradient :math:`g` of worker :math:`m`:

    .. math::
      G_m \leftarrow g, \quad \theta \leftarrow \theta - \epsilon \tfrac1M \sum_n G_n

    There is no step before every worker has offered once; the arrival that completes the table is the first, where
    another's code begins with the one behind it. The paper's are gradients of single steps; pseudo-gradients
    of local steps in their place are ours.

    Args:
      learning_rate: :math:`\epsilon`.
      workers: M.

    Returns:
      A transform that takes `worker`.

    Raises:
      ValueError: a hyperparameter is out of its range.
    """
    check_learning_rate(learning_rate)
    check_workers(workers)

    def init(params: optax.Params) -> DuDeState:
        return DuDeState(of_each(params, workers), jnp.zeros(workers, bool))

    def update(
        updates: optax.Updates, state: DuDeState, params: Any = None, *, worker: Any, **extra: Any
    ) -> tuple[optax.Updates, DuDeState]:
        del params, extra
        last = jax.tree.map(lambda table, g: table.at[worker].set(g), state.last, updates)
        known = state.known.at[worker].set(True)
        step = jax.tree.map(lambda table: jnp.where(known.all(), -learning_rate * table.mean(axis=0), 0), last)
        return step, DuDeState(last, known)

    return optax.GradientTransformationExtraArgs(init, update)
