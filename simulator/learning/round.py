"""A worker's round: local steps from the pulled parameters, as one compiled program."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from simulator.learning.optimizers.inner import InnerOptimizer, Rates
from simulator.learning.optimizers.nonfinite import all_finite

Params = Any
OptState = Any
Arrays = Mapping[str, jax.Array]


class Assignment(Protocol):
    """Settings of a round besides arrays; see `simulator.timeline.Round`."""

    @property
    def id(self) -> int:
        """Number of the round, in the order of dispatch."""

    @property
    def worker(self) -> int:
        """Number of the worker."""

    @property
    def shard(self) -> int:
        """Data shard."""

    @property
    def first_step(self) -> int:
        """The shard's local steps before this round."""

    @property
    def steps(self) -> int:
        """Number of local steps."""


class RoundResult(NamedTuple):
    """Result of a round.

    Attributes:
      pseudo_gradient: like the parameters.
      loss: mean over the local steps, float32 scalar, in nats.
      finite: whether all of the pseudo-gradient is, bool scalar.
    """

    pseudo_gradient: Params
    loss: jax.Array
    finite: jax.Array


class RoundInputs(NamedTuple):
    """Inputs of one round besides the data.

    Attributes:
      params: pulled from the server.
      opt_state: the worker's inner optimizer state; not used where every round starts with a fresh one.
      examples: inputs of the data set's `fetch`, of shape (longest round, batch, ...).
      rates: learning rate of every local step, float32 (longest round,).
      steps: number of rows of `examples` to train on, int32 scalar.
      id: number from which the round's key is folded, int32 scalar.
    """

    params: Params
    opt_state: OptState
    examples: np.ndarray
    rates: Rates
    steps: np.int32
    id: np.int32


def pseudo_gradient(start: Params, end: Params) -> Params:
    """theta_start - theta_end, which takes a gradient's place in an outer optimizer. Only here is its sign fixed."""
    return jax.tree.map(jnp.subtract, start, end)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Recipe of a round's program: everything traced into it but data, randomness and learning rates.

    Attributes:
      loss: (params, batch, key) to the mean loss, float32 scalar.
      fetch: (arrays, examples) to a batch.
      optimizer: the inner optimizer at a learning rate.
      keep_state: whether inner optimizer state stays on the worker from round to round.
    """

    loss: Callable[[Params, Any, jax.Array], jax.Array]
    fetch: Callable[[Any, Any], Any]
    optimizer: InnerOptimizer
    keep_state: bool = True

    def initial_state(self, params: Params) -> OptState:
        """Returns the inner optimizer state of a worker that has not trained."""
        return self.optimizer(1.0).init(params)


class RoundState(NamedTuple):
    """Progress of a round.

    Attributes:
      params: of the worker; once the round is over, the pseudo-gradient.
      opt_state: the worker's inner optimizer state; once the round is over, what stays of it.
      loss: sum over the local steps that are done, float32 scalar; once the round is over, their mean.
      done: number of local steps done, int32 scalar.
      finite: whether all of the pseudo-gradient so far is, bool scalar.
    """

    params: Params
    opt_state: OptState
    loss: Any
    done: Any
    finite: Any


def first_state(params: Params, opt_state: OptState) -> RoundState:
    """Returns the state of a round before its first local step."""
    return RoundState(params, opt_state, np.float32(0), np.int32(0), np.bool_(True))


def advance(
    recipe: Recipe, arrays: Arrays, key: jax.Array, inputs: RoundInputs, state: RoundState, steps: jax.Array
) -> RoundState:
    """Does some of a round's local steps: traced, so that rounds of any length share one program.

    Args:
      recipe: of the round.
      arrays: the data.
      key: root of the rounds' keys.
      inputs: the round.
      state: before these steps.
      steps: number of local steps to do, int32 scalar; no more than the round has left.

    Returns:
      The state after these steps. A round whose pseudo-gradient is not finite leaves the worker's state as it was.
    """
    round_key = jax.random.fold_in(key, inputs.id)

    def step(count: jax.Array, carry: tuple[Params, OptState, jax.Array]) -> tuple[Params, OptState, jax.Array]:
        params, opt_state, total = carry
        index = state.done + count
        with jax.named_scope("gather"):
            batch = recipe.fetch(arrays, inputs.examples[index])
        step_key = jax.random.fold_in(round_key, index)
        with jax.named_scope("forward and backward"):
            loss, gradients = jax.value_and_grad(recipe.loss)(params, batch, step_key)
        with jax.named_scope("optimizer"):
            optimizer = recipe.optimizer(inputs.rates[index])
            updates, opt_state = optimizer.update(gradients, opt_state, params)
            params = optax.apply_updates(params, updates)
        return params, opt_state, total + loss

    params, opt_state, total = jax.lax.fori_loop(0, steps, step, (state.params, state.opt_state, state.loss))
    done = state.done + steps
    over = done == inputs.steps
    difference = pseudo_gradient(inputs.params, params)
    finite = all_finite(difference)
    if recipe.keep_state:
        keep = finite | ~over
        opt_state = jax.tree.map(lambda new, old: jnp.where(keep, new, old), opt_state, inputs.opt_state)
    mean = total / done.astype(jnp.float32)
    handed_over = jax.tree.map(lambda moved, now: jnp.where(over, moved, now), difference, params)
    return RoundState(handed_over, opt_state, jnp.where(over, mean, total), done, finite)
