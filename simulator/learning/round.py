"""A worker's round: local steps from the pulled parameters, as one compiled program."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from simulator.learning.optimizers.inner import InnerOptimizer, Rates
from simulator.learning.optimizers.nonfinite import all_finite

Params = Any
OptState = Any
Arrays = Mapping[str, jax.Array]


class Stretch(NamedTuple):
    """Some of a round's local steps, between two acceptances; of most rounds all.

    Attributes:
      id: number of the round, in the order of dispatch.
      worker: number of the worker.
      shard: data shard.
      first_step: the shard's local steps before this stretch.
      steps: number of local steps.
      before: number of the round's local steps before this stretch.
      pulls: numbers, from 0, of those of these local steps that are pulls.
      micro_batches: of each local step.
      first_batch: the shard's micro-batches before this stretch.
    """

    id: int
    worker: int
    shard: int
    first_step: int
    steps: int
    before: int = 0
    pulls: tuple[int, ...] = ()
    micro_batches: int = 1
    first_batch: int = 0


class RoundResult(NamedTuple):
    """Result of a round.

    Attributes:
      params: at its end.
      loss: mean over the local steps, float32 scalar, in nats.
      finite: whether all of the pseudo-gradient is, bool scalar.
      noise_scale: gradient noise scale of its last local step, float32 scalar, see `_noise_scale`; () where a
        local step has one batch.
    """

    params: Params
    loss: jax.Array
    finite: jax.Array
    noise_scale: Any = ()


class RoundInputs(NamedTuple):
    """Inputs of one round besides the data.

    Attributes:
      params: at its start.
      opt_state: the worker's inner optimizer state; not used where every round starts with a fresh one.
      examples: inputs of the data set's `fetch`, of shape (longest round, batch, ...), or, where a local step has
        micro-batches, (longest round, most micro-batches, batch, ...).
      rates: learning rate of every local step, float32 (longest round,).
      steps: number of rows of `examples` to train on, int32 scalar.
      id: number from which the round's key is folded, int32 scalar.
      before: steps of the round before these, int32 scalar, which the steps' keys count too.
      pulls: whether each local step is a pull, bool (longest round,); None where none is.
      micro_batches: of each local step, int32 scalar; None where it has one batch.
    """

    params: Params
    opt_state: OptState
    examples: np.ndarray
    rates: Rates
    steps: np.int32
    id: np.int32
    before: np.int32 = np.int32(0)
    pulls: np.ndarray | None = None
    micro_batches: np.int32 | None = None


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
      pull: probability and strength of pulls towards where the round began, None without.
      point: (params, optimizer state) to the parameters at which a step's gradient is taken, None where those are the
        present ones. The state then depends on the parameters that a worker begins with.
      accumulation: equal parts of a batch, which follow one another so that one alone has activations. Their mean
        gradient is the batch's where the loss is a mean over examples, each of one weight.
    """

    loss: Callable[[Params, Any, jax.Array], jax.Array]
    fetch: Callable[[Any, Any], Any]
    optimizer: InnerOptimizer
    keep_state: bool = True
    pull: tuple[float, float] | None = None
    point: Callable[[Params, OptState], Params] | None = None
    accumulation: int = 1

    def initial_state(self, params: Params) -> OptState:
        """Returns the inner optimizer state of a worker that has not trained."""
        return self.optimizer(1.0).init(params)


class RoundState(NamedTuple):
    """State of a round under way.

    Attributes:
      params: of the worker.
      opt_state: its inner optimizer state.
      loss_sum: over the local steps that are done, float32 scalar.
      done: number of local steps done, int32 scalar.
      noise_scale: of the last one, as that of a `RoundResult`.
    """

    params: Params
    opt_state: OptState
    loss_sum: Any
    done: Any
    noise_scale: Any = ()


def init(params: Params, opt_state: OptState, *, has_micro_batches: bool = False) -> RoundState:
    """Returns the state of a round before its first local step."""
    noise_scale = np.float32(np.nan) if has_micro_batches else ()
    return RoundState(params, opt_state, np.float32(0), np.int32(0), noise_scale)


def step(recipe: Recipe, arrays: Arrays, round_key: jax.Array, inputs: RoundInputs, state: RoundState) -> RoundState:
    """Returns the state after one more local step."""
    examples = inputs.examples[state.done]
    step_key = jax.random.fold_in(round_key, inputs.before + state.done)
    at = state.params if recipe.point is None else recipe.point(state.params, state.opt_state)

    def of_part(examples: Any, key: jax.Array) -> tuple[jax.Array, Params]:
        with jax.named_scope("gather"):
            batch = recipe.fetch(arrays, examples)
        with jax.named_scope("forward and backward"):
            return jax.value_and_grad(recipe.loss)(at, batch, key)

    def of_batch(examples: Any, key: jax.Array) -> tuple[jax.Array, Params]:
        if recipe.accumulation == 1:
            return of_part(examples, key)
        parts = examples.reshape(recipe.accumulation, -1, *examples.shape[1:])
        return _mean(of_part, parts, key, np.int32(recipe.accumulation), at)[:2]

    noise_scale: Any = ()
    if inputs.micro_batches is None:
        loss, gradients = of_batch(examples, step_key)
    else:
        loss, gradients, spread = _mean(of_batch, examples, step_key, inputs.micro_batches, at)
        noise_scale = _noise_scale(gradients, spread, inputs.micro_batches)
    rate = inputs.rates[state.done]
    with jax.named_scope("optimizer"):
        optimizer = recipe.optimizer(rate if recipe.pull is None else rate / (1 - recipe.pull[0]))
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
    after = RoundState(params, opt_state, state.loss_sum + loss, state.done + 1, noise_scale)
    return after if inputs.pulls is None else _or_pulled(recipe, inputs, state, after, rate)


def _mean(
    of_batch: Callable[[Any, jax.Array], tuple[jax.Array, Params]],
    examples: Any,
    key: jax.Array,
    count: Any,
    like: Params,
) -> tuple[jax.Array, Params, jax.Array]:
    """Returns mean loss and mean gradient of batches, and the gradients' squared distances from it, summed.

    Mean and distances are Welford's, so that gradients that are the same have none.

    Args:
      of_batch: (examples, key) to the loss and the gradient of a batch.
      examples: of the batches, one behind the other.
      key: from which the batches' keys are folded.
      count: of the batches, int32 scalar, which may be traced.
      like: of the gradients' shapes and dtypes.
    """

    def add(number: Any, sums: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        loss_sum, mean, spread = sums
        loss, gradients = of_batch(examples[number], jax.random.fold_in(key, number))
        apart = jax.tree.map(jnp.subtract, gradients, mean)
        mean = jax.tree.map(lambda old, each: old + each / (number + 1).astype(each.dtype), mean, apart)
        products = jax.tree.map(lambda each, new, own: jnp.vdot(each, own - new), apart, mean, gradients)
        return loss_sum + loss, mean, spread + _float32_sum(products)

    start = jnp.float32(0), jax.tree.map(jnp.zeros_like, like), jnp.float32(0)
    loss_sum, mean, spread = jax.lax.fori_loop(0, count, add, start)
    return loss_sum / count.astype(jnp.float32), mean, spread


def _noise_scale(mean: Params, spread: jax.Array, count: Any) -> jax.Array:
    r"""Returns the gradient noise scale of micro-batches: as many as it is have a variance as large as the mean.

    It is :math:`\sum \mathrm{Var} / |\bar g|^2`, of the k micro-batches' gradients with the variance's k - 1 and summed
    over all numbers; NaN where nothing is known.
    """
    variance = spread / jnp.maximum(count - 1, 1).astype(jnp.float32)
    squared_norm = _float32_sum(jax.tree.map(lambda each: jnp.vdot(each, each), mean))
    known = jnp.isfinite(variance) & jnp.isfinite(squared_norm)
    return jnp.where(known, variance / squared_norm, jnp.nan)


def _float32_sum(tree: Any) -> jax.Array:
    total: jax.Array = sum((leaf.astype(jnp.float32) for leaf in jax.tree.leaves(tree)), start=jnp.float32(0))
    return total


def _or_pulled(recipe: Recipe, inputs: RoundInputs, state: RoundState, after: RoundState, rate: Any) -> RoundState:
    """Returns the state after a step, or where it is a pull the one before it, nearer to where the round began."""
    assert recipe.pull is not None
    assert inputs.pulls is not None
    probability, strength = recipe.pull
    share = rate * strength / max(probability, 1e-9)
    nearer = jax.tree.map(lambda x, began: x - share.astype(x.dtype) * (x - began), state.params, inputs.params)
    pulled = RoundState(nearer, state.opt_state, state.loss_sum, after.done, state.noise_scale)
    is_pull = inputs.pulls[state.done]
    chosen: RoundState = jax.tree.map(lambda new, other: jnp.where(is_pull, new, other), pulled, after)
    return chosen


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
    """
    round_key = jax.random.fold_in(key, inputs.id)
    after: RoundState = jax.lax.fori_loop(
        0, steps, lambda _, state: step(recipe, arrays, round_key, inputs, state), state
    )
    return after


def finish(recipe: Recipe, inputs: RoundInputs, state: RoundState) -> tuple[RoundResult, OptState]:
    """Returns a round's result, and the inner optimizer state that stays on the worker.

    A round whose pseudo-gradient is not finite leaves that state as it was.
    """
    difference = pseudo_gradient(inputs.params, state.params)
    finite, opt_state = all_finite(difference), state.opt_state
    if recipe.keep_state:
        opt_state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), opt_state, inputs.opt_state)
    counted = state.done
    if inputs.pulls is not None:
        counted -= (inputs.pulls & (jnp.arange(len(inputs.pulls)) < state.done)).sum(dtype=jnp.int32)
    loss = state.loss_sum / counted.astype(jnp.float32)
    return RoundResult(state.params, loss, finite, state.noise_scale), opt_state
