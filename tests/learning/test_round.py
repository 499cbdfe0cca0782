import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from simulator.learning import Programs, Recipe, RoundResult, Stretch, build_inner, pseudo_gradient
from tests.learning.quadratic import (
    ARRAYS,
    START,
    fetch,
    inner,
    loss,
    momentum_recipe,
    moved,
    order,
    round_data,
    stretch,
)


def run(
    programs: Programs, round: Stretch, opt_state: Any = None, params: Any = START, rate: float | None = None
) -> tuple[RoundResult, Any]:
    opt_state = programs.recipe.initial_state(params) if opt_state is None else opt_state
    [outcome] = programs.run(ARRAYS, round_data().key, [round_data(rate=rate).inputs(round, params, opt_state)])
    return outcome


def origin(**changes: Any) -> Recipe:
    """One parameter, loss x^2 / 2, plain gradient steps."""
    recipe = Recipe(
        loss=lambda params, batch, key: 0.5 * jnp.square(params["x"]),
        fetch=fetch,
        optimizer=build_inner(inner()),
    )
    return dataclasses.replace(recipe, **changes)


def test_a_pseudo_gradient_points_from_the_end_to_the_start():
    start, end = {"x": jnp.float32(5.0)}, {"x": jnp.float32(3.0)}
    assert float(pseudo_gradient(start, end)["x"]) == 2.0


def test_after_one_plain_step_the_pseudo_gradient_is_the_learning_rate_times_the_gradient():
    result, _ = run(Programs(momentum_recipe()), stretch(0, shard=1, steps=1), rate=0.25)
    gradient = jax.grad(lambda params: loss(params, fetch(ARRAYS, order(1, 0, 1)[0]), None))(START)
    np.testing.assert_allclose(moved(START, result), 0.25 * gradient["x"], rtol=1e-5)
    assert float(np.dot(moved(START, result), gradient["x"])) > 0


@pytest.mark.parametrize(
    ("steps", "end", "mean_loss"),
    [
        (1, 3.0, 8.0),  # x = 4, 3
        (2, 2.25, (8 + 4.5) / 2),
        (4, 81 / 64, (8 + 4.5 + 2.53125 + 1.423828125) / 4),  # 1.6875, 1.265625
    ],
)
def test_rounds_of_plain_steps_by_hand(steps: int, end: float, mean_loss: float):
    # x <- x - x / 4, from x = 4
    start = {"x": jnp.float32(4.0)}
    result, _ = run(Programs(origin()), stretch(0, steps=steps), params=start, rate=0.25)
    assert float(result.params["x"]) == end
    assert moved(start, result) == 4 - end
    assert float(result.loss) == mean_loss
    assert result.loss.dtype == jnp.float32


def by_hand(build: Any, round: Stretch, params: Any, state: Any) -> tuple[Any, float, Any]:
    """The round as a plain loop."""
    start, losses = params, []
    for index, rows in enumerate(order(round.shard, round.first_step, round.steps)):
        batch = ARRAYS["targets"][rows]
        losses.append(float(loss(params, batch, None)))
        gradient = {"x": params["x"] - batch.mean(axis=0)}
        updates, state = build(0.1 / (1 + round.first_step + index)).update(gradient, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return jax.tree.map(jnp.subtract, start, params), float(np.mean(losses)), state


ROUNDS = [
    stretch(0, first_step=4, steps=1),
    stretch(1, shard=2, steps=3),
    stretch(2, shard=1, first_step=9, steps=6),
]


def compare_with_a_plain_loop(recipe: Recipe, build: Any) -> None:
    programs = Programs(recipe)
    state = expected_state = build(1.0).init(START)
    for round in ROUNDS:  # one worker, which keeps its state
        result, state = run(programs, round, state)
        expected, mean_loss, expected_state = by_hand(build, round, START, expected_state)
        np.testing.assert_allclose(moved(START, result), expected["x"], rtol=1e-5, atol=1e-6)
        assert float(result.loss) == pytest.approx(mean_loss, rel=1e-5)
        jax.tree.map(
            lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6), state, expected_state
        )
    assert programs.compilations == 1


def test_rounds_of_momentum_are_those_of_a_plain_loop_in_one_program():
    compare_with_a_plain_loop(momentum_recipe(), lambda rate: optax.sgd(rate, momentum=0.9))


def test_rounds_of_adamw_are_those_of_a_plain_loop_in_one_program(mixed_dtypes: None):
    recipe = momentum_recipe(optimizer=build_inner(inner("adamw", weight_decay=0.5)))
    compare_with_a_plain_loop(recipe, lambda rate: optax.adamw(rate, weight_decay=0.5))


def test_a_batch_in_parts_has_its_gradient_and_its_loss():
    compare_with_a_plain_loop(momentum_recipe(accumulation=2), lambda rate: optax.sgd(rate, momentum=0.9))


def test_the_parts_of_a_batch_are_equal_follow_one_another_and_have_keys_of_their_own():
    # Of gradients 10 a + b, with a part's first target and its draw: their mean is that of the parts.
    recipe = origin(
        loss=lambda params, batch, key: params["x"] * (10 * batch[0, 0] * batch.shape[0] + jax.random.uniform(key)),
        accumulation=2,
    )
    result, _ = run(Programs(recipe), stretch(3, steps=1), params={"x": jnp.float32(0.0)}, rate=1.0)
    of_step = jax.random.fold_in(jax.random.fold_in(round_data().key, 3), 0)
    draws = [float(jax.random.uniform(jax.random.fold_in(of_step, part))) for part in range(2)]
    targets = [float(ARRAYS["targets"][row, 0]) for row in order(0, 0, 1)[0]]
    assert float(-result.params["x"]) == pytest.approx(5 * sum(targets) + sum(draws) / 2, rel=1e-5)


def test_the_learning_rate_goes_by_the_shards_steps_and_not_by_the_optimizers():
    # 0.1 / (1 + t) on an x that the optimizer has never stepped: the shard's counter alone decides.
    programs, start = Programs(origin()), {"x": jnp.float32(4.0)}
    steps = [moved(start, run(programs, stretch(0, first_step=first, steps=1), params=start)[0]) for first in (0, 1, 9)]
    np.testing.assert_allclose(steps, [0.4, 0.2, 0.04], rtol=1e-5)


def test_inner_state_stays_or_starts_fresh():
    keep, reset = Programs(momentum_recipe()), Programs(momentum_recipe(keep_state=False))
    fresh = keep.recipe.initial_state(START)
    first, kept_state = run(keep, stretch(0), fresh)
    first_of_reset, state = run(reset, stretch(0), fresh)
    np.testing.assert_allclose(moved(START, first_of_reset), moved(START, first), rtol=1e-6)
    second = moved(START, run(keep, stretch(1), kept_state)[0])
    second_of_reset = moved(START, run(reset, stretch(1), state)[0])
    np.testing.assert_allclose(second_of_reset, moved(START, first), rtol=1e-6)  # the same round again
    assert not np.allclose(second, second_of_reset, rtol=0.1)


def test_each_step_gets_a_key_of_its_own_from_the_root_and_the_rounds_id():
    # The gradient of x * u(key) is u(key), so with learning rate 1 the pseudo-gradient is the sum of the draws.
    recipe = origin(loss=lambda params, batch, key: params["x"] * jax.random.uniform(key))
    programs = Programs(recipe)
    start = {"x": jnp.float32(0.0)}
    sums = []
    for round_id in (3, 4):
        result, _ = run(programs, stretch(round_id, steps=3), params=start, rate=1.0)
        of_round = jax.random.fold_in(round_data().key, round_id)
        draws = [float(jax.random.uniform(jax.random.fold_in(of_round, step))) for step in range(3)]
        assert len(set(draws)) == 3
        assert float(moved(start, result)) == pytest.approx(sum(draws), rel=1e-5)
        sums.append(sum(draws))
    assert sums[0] != pytest.approx(sums[1], rel=1e-3)


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_two_stretches_of_a_round_are_the_round(cut: int):
    # The loss draws from the step's key, and rates go by the shard's steps: both count what is behind the first.
    noisy = lambda params, batch, key: loss(params, batch, None) + params["x"][0] * jax.random.uniform(key)  # noqa: E731
    programs = Programs(momentum_recipe(loss=noisy))
    whole = Stretch(3, worker=0, shard=1, first_step=2, steps=6)
    first, second = whole._replace(steps=cut), whole._replace(first_step=2 + cut, steps=6 - cut, before=cut)
    expected, expected_state = run(programs, whole)
    before, state = run(programs, first)
    after, state = run(programs, second, state, before.params)
    np.testing.assert_allclose(after.params["x"], expected.params["x"], rtol=1e-6)
    for leaf, its in zip(jax.tree.leaves(state), jax.tree.leaves(expected_state), strict=True):
        np.testing.assert_allclose(leaf, its, rtol=1e-5)
    assert float(cut * before.loss + (6 - cut) * after.loss) == pytest.approx(6 * float(expected.loss), rel=1e-5)
    again = run(programs, second._replace(before=0), run(programs, first)[1], before.params)[0]
    assert not np.allclose(again.params["x"], expected.params["x"], rtol=1e-4)


def test_a_rounds_data_are_its_own_rows_and_the_filling_behind_them_is_not_trained_on():
    inputs = round_data(longest_round=5).inputs(stretch(0, shard=1, first_step=2, steps=3), START, None)
    assert inputs.examples.shape == (5, 2)
    assert inputs.examples.dtype == np.int32
    np.testing.assert_array_equal(inputs.examples[:3], [[21, 22], [23, 24], [25, 26]])
    programs = Programs(momentum_recipe())
    state = programs.recipe.initial_state(START)
    inputs = inputs._replace(opt_state=state)
    other = inputs._replace(examples=np.concatenate([inputs.examples[:3], np.full((2, 2), 63, np.int32)]))
    longer = other._replace(steps=np.int32(5), rates=np.full(5, 0.1, np.float32))
    ends = [programs.run(ARRAYS, round_data().key, [each])[0][0].params["x"] for each in (inputs, other, longer)]
    np.testing.assert_array_equal(ends[0], ends[1])
    assert not np.allclose(ends[0], ends[2])
