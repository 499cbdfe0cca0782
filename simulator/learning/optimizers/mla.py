"""Momentum look-ahead and its correction by blocks: outer optimizers of asynchronous arrivals (MLA, HeLoCo)."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from simulator.learning.optimizers.ranges import check_learning_rate, check_momentum

_TINY = 1e-8


class MLAState(NamedTuple):
    """State of `mla` and `heloco`.

    Attributes:
      momentum: m, the exponential mean of pseudo-gradients, like the parameters.
    """

    momentum: optax.Updates


def mla(learning_rate: float, momentum: float = 0.9) -> optax.GradientTransformationExtraArgs:
    r"""Momentum look-ahead, Ajanthan et al., 2025 (MCDC at ICLR, OpenReview 4O8nzTkHPI), in the form of a server.

    With a pseudo-gradient :math:`g`:

    .. math::
      m \leftarrow \gamma m + (1 - \gamma) g, \quad \theta \leftarrow \theta - \epsilon (g + \gamma m)

    It is the look-ahead form for any delays when workers begin with the point ahead. Unlike Nesterov's sum of
    pseudo-gradients, m is their mean.

    Args:
      learning_rate: :math:`\epsilon`.
      momentum: :math:`\gamma`, from 0 up to below 1.

    Raises:
      ValueError: a hyperparameter is out of its range.
    """
    check_learning_rate(learning_rate)
    check_momentum(momentum)

    def update(
        updates: optax.Updates, state: MLAState, params: Any = None, **extra: Any
    ) -> tuple[optax.Updates, MLAState]:
        del params, extra
        return _step(learning_rate, momentum, updates, state)

    return optax.GradientTransformationExtraArgs(_init, update)


def heloco(
    learning_rate: float,
    momentum: float = 0.9,
    aligned: float = 0.2,
    opposed: float = 0.5,
    turned: float = 1.0,
    confidence: float = 3.0,
    most: float = 0.5,
    worst: float | None = None,
    bound_first: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Correction of each array's pseudo-gradient by its momentum, before `mla`: HeLoCo, arXiv 2606.00271.

    For an array's pseudo-gradient :math:`g` and momentum :math:`m`, of directions :math:`u, v`, let
    :math:`c = \langle u, v \rangle` and :math:`w = |g| / (|g| + \kappa |m|)`. Then :math:`g` becomes

    .. math::
      c \ge c_{ok}: \; g, \qquad
      c < 0: \; g - \min(-k_s c w, \beta) \, c \, |g| \, v, \qquad
      \text{else}: \; |g| \, \mathrm{unit}((1 - \lambda) u + \lambda v), \; \lambda = \min(k_d (1 - c) w, 1)

    and m and the parameters take the step of `mla`. The rule and its defaults are those of the authors' code (torchft,
    `block_correct`); it jumps at :math:`c = 0` and at :math:`c_{ok}`. There are two variants. The authors' notebook has

    .. math::
      \lambda = \min(k_d (1 - t) w, 1), \quad t = (c - c_{bad}) / (c_{ok} - c_{bad}) \text{ from } 0 \text{ to } 1

    which does not jump at :math:`c_{ok}`, and says that the paper's should be that; a fork has
    :math:`\min(-k_s c, \beta) w` in place of :math:`\min(-k_s c w, \beta)`.

    Args:
      learning_rate: of `mla`.
      momentum: of `mla`.
      aligned: :math:`c_{ok}`.
      opposed: :math:`k_s`.
      turned: :math:`k_d`.
      confidence: :math:`\kappa`.
      most: :math:`\beta`.
      worst: :math:`c_{bad}`, below :math:`c_{ok}`, of the notebook's variant; None for the first one.
      bound_first: whether the fork's variant is meant.

    Raises:
      ValueError: a hyperparameter is out of its range.
    """
    check_learning_rate(learning_rate)
    check_momentum(momentum)
    if worst is not None and worst >= aligned:
        raise ValueError(f"worst must be below aligned, {aligned}, got {worst}")
    by = _Correction(aligned, opposed, turned, confidence, most, worst, bound_first)
    correct = functools.partial(_corrected, by)

    def update(
        updates: optax.Updates, state: MLAState, params: Any = None, **extra: Any
    ) -> tuple[optax.Updates, MLAState]:
        del params, extra
        return _step(learning_rate, momentum, jax.tree.map(correct, updates, state.momentum), state)

    return optax.GradientTransformationExtraArgs(_init, update)


def _init(params: optax.Params) -> MLAState:
    return MLAState(jax.tree.map(jnp.zeros_like, params))


def _step(rate: float, decay: float, updates: optax.Updates, state: MLAState) -> tuple[optax.Updates, MLAState]:
    m = jax.tree.map(lambda m, g: decay * m + (1 - decay) * g, state.momentum, updates)
    return jax.tree.map(lambda g, m: -rate * (g + decay * m), updates, m), MLAState(m)


class _Correction(NamedTuple):
    """Settings of `heloco` beside those of `mla`."""

    aligned: float
    opposed: float
    turned: float
    confidence: float
    most: float
    worst: float | None
    bound_first: bool


def _corrected(by: _Correction, g: jax.Array, m: jax.Array) -> jax.Array:
    """Returns an array's pseudo-gradient, turned towards its momentum or freed of what is against it."""
    length, of_momentum = (jnp.sqrt(jnp.sum(jnp.square(each))) for each in (g, m))
    u, v = g / jnp.maximum(length, _TINY), m / jnp.maximum(of_momentum, _TINY)
    cosine = jnp.sum(u * v)
    trust = length / (length + by.confidence * of_momentum + _TINY)
    before, behind = (trust, 1.0) if not by.bound_first else (1.0, trust)
    against = g - jnp.minimum(-by.opposed * cosine * before, by.most) * behind * cosine * length * v
    off = 1 - cosine if by.worst is None else 1 - jnp.clip((cosine - by.worst) / (by.aligned - by.worst), 0, 1)
    share = jnp.minimum(by.turned * off * trust, 1)
    mixed = (1 - share) * u + share * v
    across = length * mixed / jnp.maximum(jnp.sqrt(jnp.sum(jnp.square(mixed))), _TINY)
    known = (length >= _TINY) & (of_momentum >= _TINY)
    return jnp.where(known & (cosine < by.aligned), jnp.where(cosine < 0, against, across), g)
