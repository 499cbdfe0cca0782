import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from simulator.learning import Programs, Recipe, RoundResult, build_inner, pseudo_gradient
from tests.learning.quadratic import ARRAYS, START, Round, fetch, inner, loss, momentum_recipe, order, round_data


def run(
    programs: Programs, round: Round, opt_state: Any = None, params: Any = START, rate: float | None = None
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
    result, _ = run(Programs(momentum_recipe()), Round(0, shard=1, steps=1), rate=0.25)
    gradient = jax.grad(lambda params: loss(params, fetch(ARRAYS, order(1, 0, 1)[0]), None))(START)
    np.testing.assert_allclose(result.pseudo_gradient["x"], 0.25 * gradient["x"], rtol=1e-5)
    assert float(np.dot(result.pseudo_gradient["x"], gradient["x"])) > 0


@pytest.mark.parametrize(
    ("steps", "moved", "mean_loss"),
    [
        (1, 1.0, 8.0),  # x = 4, 3
        (2, 1.75, (8 + 4.5) / 2),  # 2.25
        (4, 4 - 81 / 64, (8 + 4.5 + 2.53125 + 1.423828125) / 4),  # 1.6875, 1.265625
    ],
)
def test_rounds_of_plain_steps_by_hand(steps: int, moved: float, mean_loss: float):
    # x <- x - x / 4, from x = 4
    result, _ = run(Programs(origin()), Round(0, steps=steps), params={"x": jnp.float32(4.0)}, rate=0.25)
    assert float(result.pseudo_gradient["x"]) == moved
    assert float(result.loss) == mean_loss
    assert result.loss.dtype == jnp.float32


def by_hand(build: Any, round: Round, params: Any, state: Any) -> tuple[Any, float, Any]:
    """The round as a plain loop."""
    start, losses = params, []
    for index, rows in enumerate(order(round.shard, round.first_step, round.steps)):
        batch = ARRAYS["targets"][rows]
        losses.append(float(loss(params, batch, None)))
        gradient = {"x": params["x"] - batch.mean(axis=0)}
        updates, state = build(0.1 / (1 + round.first_step + index)).update(gradient, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return jax.tree.map(jnp.subtract, start, params), float(np.mean(losses)), state


ROUNDS = [Round(0, first_step=4, steps=1), Round(1, shard=2, steps=3), Round(2, shard=1, first_step=9, steps=6)]


def compare_with_a_plain_loop(recipe: Recipe, build: Any) -> None:
    programs = Programs(recipe)
    state = expected_state = build(1.0).init(START)
    for round in ROUNDS:  # one worker, which keeps its state
        result, state = run(programs, round, state)
        moved, mean_loss, expected_state = by_hand(build, round, START, expected_state)
        np.testing.assert_allclose(result.pseudo_gradient["x"], moved["x"], rtol=1e-5, atol=1e-6)
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


def test_the_learning_rate_goes_by_the_shards_steps_and_not_by_the_optimizers():
    # 0.1 / (1 + t) on an x that the optimizer has never stepped: the shard's counter alone decides.
    programs = Programs(origin())
    moved = [
        float(
            run(programs, Round(0, first_step=first, steps=1), params={"x": jnp.float32(4.0)})[0].pseudo_gradient["x"]
        )
        for first in (0, 1, 9)
    ]
    assert moved == pytest.approx([0.4, 0.2, 0.04], rel=1e-5)


def test_inner_state_stays_or_starts_fresh():
    keep, reset = Programs(momentum_recipe()), Programs(momentum_recipe(keep_state=False))
    fresh = keep.recipe.initial_state(START)
    first, kept_state = run(keep, Round(0), fresh)
    first_of_reset, state = run(reset, Round(0), fresh)
    np.testing.assert_allclose(first_of_reset.pseudo_gradient["x"], first.pseudo_gradient["x"], rtol=1e-6)
    second = run(keep, Round(1), kept_state)[0].pseudo_gradient["x"]
    second_of_reset = run(reset, Round(1), state)[0].pseudo_gradient["x"]
    np.testing.assert_allclose(second_of_reset, first.pseudo_gradient["x"], rtol=1e-6)  # the same round again
    assert not np.allclose(second, second_of_reset, rtol=0.1)


def test_each_step_gets_a_key_of_its_own_from_the_root_and_the_rounds_id():
    # The gradient of x * u(key) is u(key), so with learning rate 1 the pseudo-gradient is the sum of the draws.
    recipe = origin(loss=lambda params, batch, key: params["x"] * jax.random.uniform(key))
    programs = Programs(recipe)
    start = {"x": jnp.float32(0.0)}
    sums = []
    for round_id in (3, 4):
        result, _ = run(programs, Round(round_id, steps=3), params=start, rate=1.0)
        of_round = jax.random.fold_in(round_data().key, round_id)
        draws = [float(jax.random.uniform(jax.random.fold_in(of_round, step))) for step in range(3)]
        assert len(set(draws)) == 3
        assert float(result.pseudo_gradient["x"]) == pytest.approx(sum(draws), rel=1e-5)
        sums.append(sum(draws))
    assert sums[0] != pytest.approx(sums[1], rel=1e-3)


def test_a_rounds_data_are_its_own_rows_and_the_filling_behind_them_is_not_trained_on():
    inputs = round_data(longest_round=5).inputs(Round(0, shard=1, first_step=2, steps=3), START, None)
    assert inputs.examples.shape == (5, 2)
    assert inputs.examples.dtype == np.int32
    np.testing.assert_array_equal(inputs.examples[:3], [[21, 22], [23, 24], [25, 26]])
    programs = Programs(momentum_recipe())
    state = programs.recipe.initial_state(START)
    inputs = inputs._replace(opt_state=state)
    other = inputs._replace(examples=np.concatenate([inputs.examples[:3], np.full((2, 2), 63, np.int32)]))
    longer = other._replace(steps=np.int32(5), rates=np.full(5, 0.1, np.float32))
    moved = [
        programs.run(ARRAYS, round_data().key, [each])[0][0].pseudo_gradient["x"] for each in (inputs, other, longer)
    ]
    np.testing.assert_array_equal(moved[0], moved[1])
    assert not np.allclose(moved[0], moved[2])
