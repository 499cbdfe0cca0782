import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simulator.experiment.schema.inner import ConstantSchedule, CosineSchedule
from simulator.learning import build_inner, learning_rates, warmup_cosine
from simulator.learning.optimizers.inner import linear_warmup
from tests.learning.quadratic import inner


def cosine(**settings: Any) -> CosineSchedule:
    return CosineSchedule(**{"kind": "cosine"} | settings)


def test_warm_up_cosine_and_floor_by_hand():
    def at(*steps: int) -> np.ndarray:
        return warmup_cosine(np.array(steps), peak=0.8, final=0.2, warmup_steps=4, total_steps=12)

    # Linear up to step 4, then 0.2 + 0.3 (1 + cos(pi (t - 4) / 8)).
    assert at(0, 1, 2, 3) == pytest.approx([0.0, 0.2, 0.4, 0.6], abs=1e-6)
    expected = [0.8, 0.2 + 0.3 * (1 + math.sqrt(0.5)), 0.5, 0.2 + 0.3 * (1 - math.sqrt(0.5)), 0.2]
    assert at(4, 6, 8, 10, 12) == pytest.approx(expected, abs=1e-6)
    assert at(13, 20, 10_000) == pytest.approx([0.2, 0.2, 0.2], abs=1e-6)


def test_without_warm_up_the_cosine_starts_at_its_peak():
    rates = warmup_cosine(np.arange(3), peak=0.8, final=0.0, warmup_steps=0, total_steps=2)
    assert rates == pytest.approx([0.8, 0.4, 0.0], abs=1e-6)
    assert rates.dtype == np.float32


def test_the_warm_up_of_pretraining_takes_its_first_step_and_then_stays():
    assert linear_warmup(np.array([0, 1, 3, 4, 100]), 0.8, 4) == pytest.approx([0.2, 0.4, 0.8, 0.8, 0.8])
    assert linear_warmup(np.arange(2), 0.8, 0) == pytest.approx([0.8, 0.8])
    assert linear_warmup(np.arange(2), 0.8, 4).dtype == np.float32


def test_a_constant_schedule_never_changes():
    rates = learning_rates(ConstantSchedule(kind="constant"), 0.25, np.array([0, 5, 10_000]), 10)
    assert rates.tolist() == [0.25, 0.25, 0.25]
    assert rates.dtype == np.float32


def test_a_schedule_ends_where_it_says_or_else_with_the_shards_part_of_the_budget():
    steps = np.array([0, 2, 4, 8])
    own = learning_rates(cosine(total_steps=4, final_learning_rate=0.1), 0.9, steps, total_steps=8)
    budget = learning_rates(cosine(final_learning_rate=0.1), 0.9, steps, total_steps=8)
    assert own == pytest.approx([0.9, 0.5, 0.1, 0.1], abs=1e-6)
    assert budget[[0, 2, 3]] == pytest.approx([0.9, 0.5, 0.1], abs=1e-6)


@pytest.mark.parametrize(("warmup_steps", "total_steps"), [(0, 0), (10, 10), (11, 10)])
def test_a_schedule_that_ends_within_its_warm_up_is_refused(warmup_steps: int, total_steps: int):
    with pytest.raises(ValueError, match=f"^total_steps {total_steps} must be above warmup_steps {warmup_steps}$"):
        warmup_cosine(np.arange(3), peak=0.1, final=0.0, warmup_steps=warmup_steps, total_steps=total_steps)


def test_the_learning_rate_is_no_part_of_the_optimizers_state():
    build = build_inner(inner("sgd", arguments={"momentum": 0.5}))
    params = jnp.ones((), jnp.float32)
    state = build(jnp.float32(0.1)).init(params)
    jax.tree.map(np.testing.assert_array_equal, build(jnp.float32(9.0)).init(params), state)
    # m = 2, then 0.5 * 2 + 2 = 3: each step at the rate it is given, whatever the rate before it was.
    updates, state = build(jnp.float32(0.5)).update(jnp.float32(2.0), state, params)
    assert float(updates) == -0.5 * 2
    updates, _ = build(jnp.float32(0.25)).update(jnp.float32(2.0), state, params)
    assert float(updates) == -0.25 * 3


def test_gradients_are_clipped_to_a_global_norm_before_the_optimizer_sees_them():
    params = {"a": jnp.zeros((), jnp.float32), "b": jnp.zeros((), jnp.float32)}
    gradient = {"a": jnp.float32(3.0), "b": jnp.float32(4.0)}  # norm 5
    for clip_norm, scale in ((None, 1.0), (10.0, 1.0), (2.5, 0.5)):
        optimizer = build_inner(inner("sgd", clip_norm=clip_norm))(0.5)
        updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        assert float(updates["a"]) == pytest.approx(-0.5 * 3 * scale, rel=1e-6)
        assert float(updates["b"]) == pytest.approx(-0.5 * 4 * scale, rel=1e-6)


def test_weight_decay_and_arguments_reach_the_optimizer():
    # Lion: theta - lr (sign(g) + decay * theta)
    optimizer = build_inner(inner("lion", weight_decay=0.5))(0.25)
    params = jnp.float32(3.0)
    updates, _ = optimizer.update(jnp.float32(8.0), optimizer.init(params), params)
    assert float(updates) == -0.25 * (1 + 0.5 * 3)
    optimizer = build_inner(inner("rmsprop", arguments={"decay": 0.75, "eps": 0.0}))(0.25)
    updates, _ = optimizer.update(jnp.float32(4.0), optimizer.init(params), params)
    assert float(updates) == pytest.approx(-0.25 * 4 / 2, rel=1e-5)
