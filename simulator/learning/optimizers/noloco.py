"""Momentum of NoLoCo, whose workers agree in small groups instead of at a server."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from simulator.learning.optimizers.ranges import check_learning_rate, check_momentum


class NoLoCoState(NamedTuple):
    """State of `noloco`.

    Attributes:
      momentum: m, like the parameters.
    """

    momentum: optax.Updates


def noloco(learning_rate: float, momentum: float = 0.5) -> optax.GradientTransformationExtraArgs:
    r"""Outer optimizer of a worker that meets some others, Kolehmainen et al. (arXiv 2506.10911).

    With the mean pseudo-gradient :math:`g` of the group, and the mean :math:`\bar\theta` of the parameters that its
    members began with:

    .. math::
      m \leftarrow \mu m - \epsilon g + \epsilon (\bar\theta - \theta), \; \theta \leftarrow \theta + m

    Where the group is everybody and all began alike, this is the heavy ball. With :math:`\mu = 0` and
    :math:`\epsilon = 1` the group's members take the mean of where they have come to, as in gossip. The defaults
    :math:`\epsilon = 0.7, \mu = 0.5` are the authors' code's.

    Args:
      learning_rate: :math:`\epsilon`.
      momentum: :math:`\mu`, from 0 up to below 1.

    Returns:
      A transform that takes `pulled_params`, the mean of the parameters that the group began with.

    Raises:
      ValueError: a hyperparameter is out of its range.
    """
    check_learning_rate(learning_rate)
    check_momentum(momentum)

    def init(params: optax.Params) -> NoLoCoState:
        return NoLoCoState(jax.tree.map(jnp.zeros_like, params))

    def update(
        updates: optax.Updates, state: NoLoCoState, params: Any = None, *, pulled_params: Any, **extra: Any
    ) -> tuple[optax.Updates, NoLoCoState]:
        del extra
        m = jax.tree.map(
            lambda m, g, mean, theta: momentum * m - learning_rate * g + learning_rate * (mean - theta),
            state.momentum,
            updates,
            pulled_params,
            params,
        )
        return m, NoLoCoState(m)

    return optax.GradientTransformationExtraArgs(init, update)
