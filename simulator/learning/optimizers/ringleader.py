"""Tables of the workers' mean pseudo-gradients, in two phases (Ringleader ASGD)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from simulator.learning.optimizers.dude import of_each
from simulator.learning.optimizers.ranges import check_learning_rate, check_workers


class Table(NamedTuple):
    """Mean pseudo-gradients of each worker.

    Attributes:
      means: like the parameters with a leading axis (workers,).
      counts: pseudo-gradients in each mean, int32 (workers,).
    """

    means: optax.Updates
    counts: jax.Array


class RingleaderState(NamedTuple):
    """State of `ringleader`.

    Attributes:
      present, following: tables of this cycle and of the next.
      steps_due: whether each worker's next arrival is a step, bool (workers,); none is while pseudo-gradients are
        collected.
    """

    present: Table
    following: Table
    steps_due: jax.Array


def ringleader(learning_rate: float, workers: int) -> optax.GradientTransformationExtraArgs:
    r"""Ringleader ASGD (arXiv 2509.22860), by the order of another's code: collect from everybody, then M steps.

    With means :math:`G_m` of the pseudo-gradients of each worker in this cycle:

    1. Arrivals go into the table until every worker has one there.
    2. That arrival, and then the next one of each other worker, goes into the table too and is a step,
       :math:`\theta \leftarrow \theta - \epsilon \tfrac1M \sum_m G_m`. Further arrivals of workers that have had theirs
       go into the next cycle's table.

    The paper's are gradients of single steps; pseudo-gradients of local steps in their place are ours.

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

    def empty(params: optax.Params) -> Table:
        return Table(of_each(params, workers), jnp.zeros(workers, jnp.int32))

    def init(params: optax.Params) -> RingleaderState:
        return RingleaderState(empty(params), empty(params), jnp.zeros(workers, bool))

    def update(
        updates: optax.Updates, state: RingleaderState, params: Any = None, *, worker: Any, **extra: Any
    ) -> tuple[optax.Updates, RingleaderState]:
        del params, extra
        collects = ~state.steps_due.any()
        is_present = collects | state.steps_due[worker]
        present = _chosen(is_present, _with(state.present, worker, updates), state.present)
        following = _chosen(is_present, state.following, _with(state.following, worker, updates))
        is_first = collects & (present.counts > 0).all()
        steps = is_first | (~collects & is_present)
        due = jnp.where(is_first, True, state.steps_due).at[worker].set(False)
        is_over = steps & ~due.any()
        step = jax.tree.map(lambda means: jnp.where(steps, -learning_rate * means.mean(axis=0), 0), present.means)
        after = RingleaderState(present, following, jnp.where(collects & ~is_first, state.steps_due, due))
        return step, _chosen(is_over, RingleaderState(following, empty(updates), after.steps_due), after)

    return optax.GradientTransformationExtraArgs(init, update)


def _with(table: Table, worker: Any, g: optax.Updates) -> Table:
    """Returns a table with one more pseudo-gradient of a worker."""
    counts = table.counts.at[worker].add(1)

    def mean(means: jax.Array, leaf: jax.Array) -> jax.Array:
        return means.at[worker].add((leaf - means[worker]) / counts[worker].astype(leaf.dtype))

    return Table(jax.tree.map(mean, table.means, g), counts)


def _chosen(condition: jax.Array, one: Any, other: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)
