"""Delayed Nesterov and the buffer (FedBuff), which optax lacks among what can be outer optimizers.

Any optax transform can be one. A pseudo-gradient points from where a worker ended to where it started, so it takes a
gradient's place and sign.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from simulator.learning.optimizers.nonfinite import all_finite
from simulator.learning.optimizers.ranges import check_learning_rate


class DelayedNesterovState(NamedTuple):
    """State of `delayed_nesterov`.

    Attributes:
      seen: t, pseudo-gradients so far, int32 scalar.
      momentum: m, like the parameters.
      buffer: B, the sum of the pseudo-gradients since m was last updated, like the parameters.
    """

    seen: jax.Array
    momentum: optax.Updates
    buffer: optax.Updates


def delayed_nesterov(
    learning_rate: float, momentum: float = 0.9, buffer: int = 4, c: float = 0.0
) -> optax.GradientTransformationExtraArgs:
    r"""Delayed Nesterov momentum, Algorithm 3 of Liu et al. (arXiv 2401.09135).

    Pseudo-gradients :math:`g_t` step the parameters as they arrive, while the momentum is renewed once every
    :math:`N` of them, with their mean:

    .. math::
      B &\leftarrow B + g_t \\
      (t + 1) \bmod N = 0: \quad m &\leftarrow \beta m + B / N, \;
        \theta \leftarrow \theta - \epsilon ((1 - cN + c) \beta m + g_t / N), \; B \leftarrow 0 \\
      \text{else}: \quad \theta &\leftarrow \theta - \epsilon (c \beta m + g_t / N)

    With :math:`c = 0`, every block of :math:`N` amounts to one Nesterov step on its mean; with :math:`N = 1` too, this
    is Nesterov momentum.

    Args:
      learning_rate: :math:`\epsilon`.
      momentum: :math:`\beta`, inside (0, 1).
      buffer: :math:`N`, pseudo-gradients per momentum update.
      c: share of the momentum in every step, from 0 to 1/N.

    Returns:
      A transform that accepts and ignores further keyword arguments.

    Raises:
      ValueError: a hyperparameter is out of its range.

    Example:
      >>> from simulator.learning.optimizers.delayed_nesterov import delayed_nesterov
      >>> optimizer = delayed_nesterov(1.0, momentum=0.5, buffer=2)
      >>> first, state = optimizer.update(0.2, optimizer.init(0.0))  # -0.2 / 2
      >>> second, state = optimizer.update(0.4, state)  # m = (0.2 + 0.4) / 2; -(0.5 m + 0.4 / 2)
      >>> print(f"{first:.2f} {second:.2f}")
      -0.10 -0.35
    """
    _check_ranges(learning_rate, momentum, buffer, c)

    def init(params: optax.Params) -> DelayedNesterovState:
        momentum, buffer = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
        return DelayedNesterovState(jnp.zeros((), jnp.int32), momentum, buffer)

    def update(
        updates: optax.Updates, state: DelayedNesterovState, params: Any = None, **extra: Any
    ) -> tuple[optax.Updates, DelayedNesterovState]:
        del params, extra
        total = jax.tree.map(jnp.add, state.buffer, updates)

        def renew() -> tuple[optax.Updates, optax.Updates, jax.Array]:
            m = jax.tree.map(lambda m, b: momentum * m + b / buffer, state.momentum, total)
            return m, jax.tree.map(jnp.zeros_like, total), jnp.float32((1 - c * buffer + c) * momentum)

        def keep() -> tuple[optax.Updates, optax.Updates, jax.Array]:
            return state.momentum, total, jnp.float32(c * momentum)

        m, total, share = jax.lax.cond((state.seen + 1) % buffer == 0, renew, keep)
        steps = jax.tree.map(lambda g, m: -learning_rate * (share.astype(m.dtype) * m + g / buffer), updates, m)
        return steps, DelayedNesterovState(state.seen + 1, m, total)

    return optax.GradientTransformationExtraArgs(init, update)


def _check_ranges(learning_rate: float, momentum: float, buffer: int, c: float) -> None:
    check_learning_rate(learning_rate)
    if not 0 < momentum < 1:
        raise ValueError(f"momentum must be between 0 and 1, not {momentum}")
    if buffer < 1:
        raise ValueError(f"buffer must be at least 1, not {buffer}")
    if not 0 <= c <= 1 / buffer:
        raise ValueError(f"c must be from 0 to 1/buffer = {1 / buffer:.6g}, not {c}")


class BufferedState(NamedTuple):
    """State of `buffered`.

    Attributes:
      filled: pseudo-gradients in the buffer, int32 scalar.
      used: number of them that are in the sum, float32 scalar.
      total: the sum, like the parameters.
      inner: state of the transform behind the buffer.
    """

    filled: jax.Array
    used: jax.Array
    total: optax.Updates
    inner: Any


def buffered(
    inner: optax.GradientTransformation, size: int, *, reject: bool = True
) -> optax.GradientTransformationExtraArgs:
    """Collects `size` pseudo-gradients and gives `inner` their mean; until then the parameters stay.

    FedBuff, Nguyen et al. (arXiv 2106.06639), called Async Buffer in the paper, there with one Nesterov step behind it.

    Args:
      inner: the outer optimizer behind the buffer.
      size: pseudo-gradients per step of `inner`.
      reject: leaves those that are not finite out of the mean, as behind a barrier: it is that of the others, and not
        finite without any. Else they are in it.

    Raises:
      ValueError: `size` is below 1.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size}")
    inner = optax.with_extra_args_support(inner)

    def init(params: optax.Params) -> BufferedState:
        total = jax.tree.map(jnp.zeros_like, params)
        return BufferedState(jnp.zeros((), jnp.int32), jnp.zeros(()), total, inner.init(params))

    def update(
        updates: optax.Updates, state: BufferedState, params: Any = None, **extra: Any
    ) -> tuple[optax.Updates, BufferedState]:
        use = all_finite(updates) if reject else jnp.ones((), bool)
        total = jax.tree.map(lambda b, g: b + jnp.where(use, g, 0), state.total, updates)
        used = state.used + use.astype(state.used.dtype)

        def flush() -> tuple[optax.Updates, BufferedState]:
            mean = jax.tree.map(lambda b: b / used.astype(b.dtype), total)
            steps, inner_state = inner.update(mean, state.inner, params, **extra)
            empty = jax.tree.map(jnp.zeros_like, total)
            return steps, BufferedState(jnp.zeros((), jnp.int32), jnp.zeros_like(used), empty, inner_state)

        def collect() -> tuple[optax.Updates, BufferedState]:
            return jax.tree.map(jnp.zeros_like, updates), BufferedState(state.filled + 1, used, total, state.inner)

        steps, new_state = jax.lax.cond(state.filled + 1 == size, flush, collect)
        return steps, new_state

    return optax.GradientTransformationExtraArgs(init, update)
