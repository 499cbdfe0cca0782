import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models.loss import cross_entropy


def test_strict_settings_are_on():
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones(2) + jnp.ones((2, 2))
    with pytest.raises(jax.dtypes.TypePromotionError, match="strict"):
        jnp.ones(2, jnp.bfloat16) + jnp.ones(2, jnp.float32)


def test_uniform_logits_give_the_log_of_the_number_of_classes():
    loss = cross_entropy(jnp.full((2, 3, 11), 5.0), jnp.zeros((2, 3), jnp.int32))
    assert float(loss) == pytest.approx(math.log(11), rel=1e-6)


def test_by_hand():
    # Row 1: -ln(3 / (1 + 3)) = ln(4/3); row 2: -ln(1 / (1 + 1)) = ln 2.
    logits = jnp.array([[0.0, math.log(3.0)], [7.0, 7.0]])
    loss = cross_entropy(logits, jnp.array([1, 0]))
    assert float(loss) == pytest.approx((math.log(4 / 3) + math.log(2)) / 2, rel=1e-6)


def test_equals_optax_in_value_and_gradient():
    logits = 3 * jax.random.normal(jax.random.key(0), (4, 5, 13))
    labels = jax.random.randint(jax.random.key(1), (4, 5), 0, 13)
    loss, gradient = jax.value_and_grad(cross_entropy)(logits, labels)
    expected, expected_gradient = jax.value_and_grad(
        lambda logits: optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    )(logits)
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-7)


def test_large_logits_neither_overflow_nor_lose_the_answer():
    loss, gradient = jax.value_and_grad(cross_entropy)(jnp.array([[1e30, 0.0], [-1e4, 1e4]]), jnp.array([0, 0]))
    assert float(loss) == pytest.approx((0 + 2e4) / 2)
    assert np.isfinite(gradient).all()


def test_bfloat16_logits_are_summed_in_float32():
    # 257 equal classes: exp(0) summed in bfloat16 would stop at 256.
    loss = cross_entropy(jnp.zeros((1, 4096), jnp.bfloat16), jnp.zeros(1, jnp.int32))
    assert loss.dtype == jnp.float32
    assert float(loss) == pytest.approx(math.log(4096), rel=1e-6)


def test_labels_must_fit_the_logits():
    with pytest.raises(ValueError, match=r"labels of shape \(3,\) do not fit logits of shape \(2, 5\)"):
        cross_entropy(jnp.zeros((2, 5)), jnp.zeros(3, jnp.int32))
    with pytest.raises(ValueError, match="labels must be integers, not float32"):
        cross_entropy(jnp.zeros((2, 5)), jnp.zeros(2))
