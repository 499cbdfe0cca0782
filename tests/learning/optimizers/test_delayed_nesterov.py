import re
from typing import Any

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.experiment.schema.outer import HeavyBallOuter, NesterovOuter, SGDOuter
from simulator.learning import buffered, build_outer, delayed_nesterov

gradients_8x3 = hnp.arrays(np.float32, (8, 3), elements=st.floats(-8, 8, width=32, allow_subnormal=False))
START_3 = jnp.array([0.5, -1.0, 2.0], jnp.float32)


def trajectory(optimizer: optax.GradientTransformation, start: Any, gradients: Any) -> tuple[list[Any], list[Any]]:
    """Parameters and states after each pseudo-gradient."""
    params, state = start, optimizer.init(start)
    all_params, all_states = [], []
    for gradient in gradients:
        updates, state = optimizer.update(jnp.asarray(gradient, jnp.float32), state, params)
        params = optax.apply_updates(params, updates)
        all_params.append(params)
        all_states.append(state)
    return all_params, all_states


def thetas(optimizer: optax.GradientTransformation, gradients: list[float]) -> list[float]:
    """The trajectory of one parameter that starts at 1."""
    return [float(theta) for theta in trajectory(optimizer, jnp.ones((), jnp.float32), gradients)[0]]


def compiled(optimizer: optax.GradientTransformation) -> Any:
    """(gradients [T, 3]) to parameters [T, 3] and states, compiled once."""

    def run(gradients_Tx3: jax.Array) -> Any:
        def step(carry: Any, gradient: jax.Array) -> Any:
            params, state = carry
            updates, state = optimizer.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), (params, state)

        return jax.lax.scan(step, (START_3, optimizer.init(START_3)), gradients_Tx3)[1]

    return jax.jit(run)


# By hand, from theta = 1 with learning rate 1/2, momentum 1/2 and g = 1, 2, 3, 4. All values are exact in binary.


def test_delayed_nesterov_with_two_in_the_buffer_by_hand():
    optimizer = delayed_nesterov(0.5, momentum=0.5, buffer=2)
    expected = [
        1 - 0.5 * (1 / 2),  # t = 0, m = 0: 0.75
        0.75 - 0.5 * (0.5 * 1.5 + 2 / 2),  # t = 1, m = (1 + 2) / 2 = 1.5: -0.125
        -0.125 - 0.5 * (3 / 2),  # t = 2, m stays: -0.875
        -0.875 - 0.5 * (0.5 * 4.25 + 4 / 2),  # t = 3, m = 0.5 * 1.5 + (3 + 4) / 2 = 4.25: -2.9375
    ]
    assert thetas(optimizer, [1, 2, 3, 4]) == expected == [0.75, -0.125, -0.875, -2.9375]
    states = trajectory(optimizer, jnp.ones((), jnp.float32), [1, 2, 3, 4])[1]
    assert [float(state.momentum) for state in states] == [0, 1.5, 1.5, 4.25]
    assert [float(state.buffer) for state in states] == [1, 0, 3, 0]
    assert [int(state.seen) for state in states] == [1, 2, 3, 4]


def test_delayed_nesterov_with_a_share_of_momentum_in_every_step_by_hand():
    optimizer = delayed_nesterov(0.5, momentum=0.5, buffer=2, c=0.25)
    # 1 - cN + c = 1 - 0.5 + 0.25 = 0.75 where the momentum is renewed, c = 0.25 elsewhere; m = 0, 1.5, 1.5, 4.25.
    expected = [
        1 - 0.5 * (0.25 * 0.5 * 0 + 1 / 2),
        0.75 - 0.5 * (0.75 * 0.5 * 1.5 + 2 / 2),
        -0.03125 - 0.5 * (0.25 * 0.5 * 1.5 + 3 / 2),
        -0.875 - 0.5 * (0.75 * 0.5 * 4.25 + 4 / 2),
    ]
    assert thetas(optimizer, [1, 2, 3, 4]) == expected == [0.75, -0.03125, -0.875, -2.671875]


def test_a_buffer_passes_the_mean_of_its_pseudo_gradients_on_by_hand():
    sgd = optax.sgd(0.5)
    assert thetas(buffered(sgd, 2), [1, 3, 2, 6]) == [1, 1 - 0.5 * 2, 0, 0 - 0.5 * 4]
    heavy_ball = optax.sgd(0.5, momentum=0.5)  # m = 2, then 0.5 * 2 + 4 = 5
    assert thetas(buffered(heavy_ball, 2), [1, 3, 2, 6]) == [1, 0, 0, -2.5]


def test_a_buffer_leaves_the_state_behind_it_alone_until_it_is_full():
    states = trajectory(buffered(optax.sgd(0.5, momentum=0.5), 3), jnp.ones((), jnp.float32), [3, 6, 9, 1])[1]
    assert [float(jax.tree.leaves(state.inner)[0]) for state in states] == [0, 0, 6, 6]
    assert [float(state.total) for state in states] == [3, 9, 0, 1]
    assert [int(state.filled) for state in states] == [1, 2, 0, 1]


def test_heavy_ball_by_hand():
    # m = 1, 2.5, 4.25
    outer = HeavyBallOuter(optimizer="heavy_ball", learning_rate=0.5, momentum=0.5)
    assert thetas(build_outer(outer), [1, 2, 3]) == [1 - 0.5 * 1, 0.5 - 0.5 * 2.5, -0.75 - 0.5 * 4.25]


def test_nesterov_by_hand():
    # m = 1, 2.5, 4.25; the step is g + 0.5 m
    outer = NesterovOuter(optimizer="nesterov", learning_rate=0.5, momentum=0.5)
    assert thetas(build_outer(outer), [1, 2, 3]) == [1 - 0.5 * 1.5, 0.25 - 0.5 * 3.25, -1.375 - 0.5 * 5.125]


def test_sgd_with_learning_rate_one_ends_where_the_worker_ended():
    start, end = jnp.array([3.0, -1.0], jnp.float32), jnp.array([2.5, 4.0], jnp.float32)
    [params] = trajectory(build_outer(SGDOuter(optimizer="sgd", learning_rate=1.0)), start, [start - end])[0]
    np.testing.assert_array_equal(params, end)


# Against optax.

NESTEROV = compiled(optax.sgd(0.7, momentum=0.9, nesterov=True))
HEAVY_BALL = compiled(optax.sgd(0.7, momentum=0.9))
DN_1 = compiled(delayed_nesterov(0.7, 0.9, buffer=1))
DN_4 = compiled(delayed_nesterov(0.7, 0.9, buffer=4))
DN_4_SHARED = compiled(delayed_nesterov(0.7, 0.9, buffer=4, c=0.1))
BUFFERED_4 = compiled(buffered(optax.sgd(0.7, momentum=0.9, nesterov=True), 4))
RANDOM_8x3 = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)


@settings(max_examples=50)
@given(gradients_8x3)
def test_delayed_nesterov_with_a_buffer_of_one_is_nesterov(gradients: np.ndarray):
    (params, state), (expected, (trace, _)) = DN_1(gradients), NESTEROV(gradients)
    np.testing.assert_allclose(params, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(state.momentum, trace.trace, rtol=1e-5, atol=1e-5)


def test_nesterov_is_neither_heavy_ball_nor_delayed():
    expected = NESTEROV(RANDOM_8x3)[0]
    assert not np.allclose(HEAVY_BALL(RANDOM_8x3)[0], expected, atol=0.1)
    assert not np.allclose(DN_4(RANDOM_8x3)[0][-1], expected[-1], atol=0.1)


@settings(max_examples=50)
@given(gradients_8x3)
def test_without_shared_momentum_each_block_is_one_nesterov_step_on_its_mean(gradients: np.ndarray):
    params, state = DN_4(gradients)
    means_2x3 = gradients.reshape(2, 4, 3).mean(axis=1)
    expected, (trace, _) = NESTEROV(means_2x3)
    np.testing.assert_allclose(params[3::4], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(state.momentum[3::4], trace.trace, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(state.buffer[3::4], 0)


def test_with_shared_momentum_the_blocks_differ_from_nesterov_once_there_is_momentum_but_the_momentum_does_not():
    # In the first block the shares c of m = 0 are nothing, and the last step takes 1 - 3c of m instead of all.
    (params, state), (expected, (trace, _)) = DN_4_SHARED(RANDOM_8x3), NESTEROV(RANDOM_8x3.reshape(2, 4, 3).mean(1))
    short = 0.7 * 0.3 * 0.9 * trace.trace[0]  # eps * 3c * beta * m
    assert np.abs(short).max() > 0.01
    np.testing.assert_allclose(params[3] - expected[0], short, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(state.momentum[3::4], trace.trace, rtol=1e-5, atol=1e-6)


@settings(max_examples=50)
@given(gradients_8x3)
def test_a_buffer_before_nesterov_and_delayed_nesterov_meet_after_each_block(gradients: np.ndarray):
    through_buffer, delayed = BUFFERED_4(gradients)[0], DN_4(gradients)[0]
    np.testing.assert_allclose(through_buffer[3::4], delayed[3::4], rtol=1e-5, atol=1e-5)


def test_a_buffer_before_nesterov_and_delayed_nesterov_part_within_a_block():
    through_buffer, delayed = BUFFERED_4(RANDOM_8x3)[0], DN_4(RANDOM_8x3)[0]
    np.testing.assert_array_equal(through_buffer[:3], np.broadcast_to(START_3, (3, 3)))
    assert not np.allclose(delayed[:3], through_buffer[:3], atol=0.1)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_buffer_full_of_the_same_pseudo_gradient_is_one_step_with_it(size: int):
    nesterov = optax.sgd(0.7, momentum=0.9, nesterov=True)
    once = trajectory(nesterov, START_3, [RANDOM_8x3[0], RANDOM_8x3[1]])[0]
    repeated = trajectory(buffered(nesterov, size), START_3, [RANDOM_8x3[0]] * size + [RANDOM_8x3[1]] * size)[0]
    np.testing.assert_allclose(repeated[size - 1], once[0], rtol=1e-5)
    np.testing.assert_allclose(repeated[-1], once[1], rtol=1e-5)


# The paper's Eq. 5: k = 4 equal pseudo-gradients, one after another.


@pytest.mark.parametrize("b", [0.5, 0.9])
def test_four_equal_pseudo_gradients_in_turn_step_as_equation_5_says(b: float):
    # m is the momentum before the four. After j of them it is b^j m + (1 + ... + b^(j-1)) g, and step j is
    # g + b m_j = (1 + ... + b^j) g + b^(j+1) m; the four add up to the equation.
    eps, g, m = 0.1, 2.0, 3.0
    optimizer = optax.sgd(eps, momentum=b, nesterov=True)
    after = thetas(optimizer, [m, g, g, g, g])  # from rest, one pseudo-gradient m leaves the momentum m
    from_equation = eps * ((4 + 4 * b + 3 * b**2 + 2 * b**3 + b**4) * g + b**2 * (1 + b + b**2 + b**3) * m)
    assert after[0] - after[4] == pytest.approx(from_equation, rel=1e-5)
    one_step = eps * ((1 + b) * g + b**2 * m)  # on their mean, as a synchronous round takes it
    assert from_equation > 3 * one_step


# What is refused.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be above 0, not 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0, not nan"),
        ({"momentum": 0.0}, "momentum must be between 0 and 1, not 0.0"),
        ({"momentum": 1.0}, "momentum must be between 0 and 1, not 1.0"),
        ({"buffer": 0}, "buffer must be at least 1, not 0"),
        ({"buffer": 4, "c": 0.26}, "c must be from 0 to 1/buffer = 0.25, not 0.26"),
        ({"c": -0.1}, "c must be from 0 to 1/buffer = 0.25, not -0.1"),
    ],
)
def test_delayed_nesterov_refuses_values_out_of_range(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        delayed_nesterov(**{"learning_rate": 0.7} | settings)


def test_a_share_of_one_nth_is_the_largest_that_delayed_nesterov_takes():
    # c = 1/N: every step takes the same share of momentum; on renewal 1 - cN + c = c too.
    optimizer = delayed_nesterov(0.5, momentum=0.5, buffer=2, c=0.5)
    assert thetas(optimizer, [1, 2, 3])[1:] == [0.75 - 0.5 * (0.25 * 1.5 + 1), 0.0625 - 0.5 * (0.25 * 1.5 + 1.5)]


def test_an_empty_buffer_is_refused():
    with pytest.raises(ValueError, match=r"^size must be at least 1, not 0$"):
        buffered(optax.sgd(1.0), 0)
