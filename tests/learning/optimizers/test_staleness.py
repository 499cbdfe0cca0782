import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from simulator.learning import delay_compensation, drop_stale, polynomial, scale_by_staleness

PARAMS = {"w": jnp.array([1.0, -2.0], jnp.float32)}
GRADIENT = {"w": jnp.array([4.0, 6.0], jnp.float32)}


def assert_same(one: object, other: object) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize(("staleness", "weight"), [(0, 1.0), (3, 0.5), (8, 1 / 3), (99, 0.1)])
def test_the_polynomial_weight_is_one_over_the_root_of_one_plus_staleness(staleness: int, weight: float):
    assert float(polynomial()(jnp.int32(staleness))) == pytest.approx(weight, rel=1e-6)


def test_the_power_of_the_polynomial_weight():
    assert float(polynomial(1.0)(jnp.int32(3))) == 0.25
    assert float(polynomial(2.0)(jnp.int32(3))) == 0.0625
    assert float(polynomial(0.0)(jnp.int32(3))) == 1.0


def test_pseudo_gradients_are_multiplied_by_their_weight():
    rule = scale_by_staleness(polynomial())
    updates, _ = rule.update(GRADIENT, rule.init(PARAMS), PARAMS, staleness=3)
    np.testing.assert_allclose(updates["w"], [2.0, 3.0], rtol=1e-6)


def test_a_weight_of_ones_own_may_be_a_number_of_python_but_only_one():
    rule = scale_by_staleness(lambda staleness: 0.5)
    updates, _ = rule.update(GRADIENT, rule.init(PARAMS), PARAMS, staleness=3)
    np.testing.assert_array_equal(updates["w"], [2.0, 3.0])
    many = scale_by_staleness(lambda staleness: jnp.ones(2))
    with pytest.raises(ValueError, match=r"one number, not of shape \(2,\)"):
        many.update(GRADIENT, many.init(PARAMS), PARAMS, staleness=3)


def test_a_dropped_arrival_leaves_parameters_and_state_untouched():
    optimizer = drop_stale(optax.sgd(0.5, momentum=0.5), above=2)
    updates, state = optimizer.update(GRADIENT, optimizer.init(PARAMS), PARAMS, staleness=2)
    assert_same(updates, {"w": jnp.array([-2.0, -3.0], jnp.float32)})
    updates, after = optimizer.update(GRADIENT, state, PARAMS, staleness=3)
    assert_same(updates, {"w": jnp.zeros(2, jnp.float32)})
    assert_same(after.inner_state, state.inner_state)
    assert_same(optax.apply_updates(PARAMS, updates), PARAMS)


def test_up_to_the_threshold_an_arrival_goes_through_as_if_there_were_none():
    plain, guarded = (
        optax.sgd(0.5, momentum=0.5, nesterov=True),
        drop_stale(optax.sgd(0.5, momentum=0.5, nesterov=True), 2),
    )
    plain_state, guarded_state = plain.init(PARAMS), guarded.init(PARAMS)
    for staleness in (0, 2, 1):
        expected, plain_state = plain.update(GRADIENT, plain_state, PARAMS)
        updates, guarded_state = guarded.update(GRADIENT, guarded_state, PARAMS, staleness=staleness)
        assert_same(updates, expected)
        assert_same(guarded_state.inner_state, plain_state)


def test_what_is_behind_the_threshold_learns_the_staleness():
    optimizer = drop_stale(scale_by_staleness(polynomial()), above=10)
    updates, _ = optimizer.update(GRADIENT, optimizer.init(PARAMS), PARAMS, staleness=3)
    np.testing.assert_allclose(updates["w"], [2.0, 3.0], rtol=1e-6)


def test_delay_compensation_by_hand():
    rule = delay_compensation(0.25)
    pulled = {"w": jnp.array([0.5, 1.0], jnp.float32)}
    updates, _ = rule.update(GRADIENT, rule.init(PARAMS), PARAMS, pulled_params=pulled)
    # g + lambda g^2 (now - pulled): 4 + 0.25 * 16 * 0.5 and 6 + 0.25 * 36 * (-3)
    assert_same(updates, {"w": jnp.array([6.0, -21.0], jnp.float32)})


def test_nothing_is_compensated_where_the_parameters_did_not_move():
    rule = delay_compensation(0.25)
    updates, _ = rule.update(GRADIENT, rule.init(PARAMS), PARAMS, pulled_params=PARAMS)
    assert_same(updates, GRADIENT)


def test_delay_compensation_is_exact_to_first_order_where_the_curvature_is_the_squared_gradient():
    # f(x) = -ln x has f' = -1/x and f'' = f'^2, so the compensated gradient is a first-order Taylor expansion of f'.
    rule = delay_compensation(1.0)
    pulled, now = jnp.float32(1.0), jnp.float32(1.02)
    updates, _ = rule.update(-1 / pulled, rule.init(now), now, pulled_params=pulled)
    assert abs(-1 / now - (-1 / pulled)) > 0.015
    assert float(updates) == pytest.approx(float(-1 / now), abs=5e-4)


def test_delay_compensation_needs_the_present_parameters():
    rule = delay_compensation(0.25)
    with pytest.raises(ValueError, match="needs the present parameters"):
        rule.update(GRADIENT, rule.init(PARAMS), pulled_params=PARAMS)


def test_values_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"^power must be at least 0, not -0\.5$"):
        polynomial(-0.5)
    with pytest.raises(ValueError, match=r"^above must be at least 0, not -1$"):
        drop_stale(optax.sgd(1.0), -1)
    with pytest.raises(ValueError, match=r"^strength must be at least 0, not -0\.5$"):
        delay_compensation(-0.5)
