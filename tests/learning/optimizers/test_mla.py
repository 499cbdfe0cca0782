"""Momentum look-ahead, the correction of HeLoCo, the table of DuDe, gates and restarts, by hand and by loops."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from simulator.learning.optimizers.dude import dude
from simulator.learning.optimizers.mla import heloco, mla
from simulator.learning.optimizers.restarts import restarted
from simulator.learning.optimizers.ringleader import ringleader
from simulator.learning.optimizers.staleness import gate

RANDOM = np.random.default_rng(1)
GRADIENTS = RANDOM.normal(size=(9, 4)).astype(np.float32)


def stepped(optimizer: Any, gradients: Any, x: Any = None, **extra: Any) -> np.ndarray:
    """Returns the parameters after steps from zero."""
    params = jnp.zeros(4) if x is None else jnp.asarray(x)
    state = optimizer.init(params)
    for number, gradient in enumerate(gradients):
        told = {name: value[number] for name, value in extra.items()}
        updates, state = jax.jit(optimizer.update)(jnp.asarray(gradient), state, params, **told)
        params = optax.apply_updates(params, updates)
    return np.asarray(params)


def test_the_servers_form_is_the_look_ahead_form_whatever_the_delays():
    """d = -rate * decay * m; x' = x + d - rate * g(x + d) of the point where the worker began, some versions ago."""
    rate, decay, target = 0.3, 0.8, np.array([1.0, -2.0, 0.5, 3.0])
    delays = [0, 0, 1, 2, 0, 3, 1]
    theta, m, points = np.zeros(4), np.zeros(4), []
    x, momentum, ahead = np.zeros(4), np.zeros(4), []
    for delay in delays:
        points.append(theta)
        g = points[-1 - delay] - target
        m = decay * m + (1 - decay) * g
        theta = theta - rate * (g + decay * m)

        d = -rate * decay * momentum
        ahead.append(x + d)
        gradient = ahead[-1 - delay] - target
        x = x + d - rate * gradient
        momentum = decay * momentum + (1 - decay) * gradient
    np.testing.assert_allclose(theta, x - rate * decay * momentum, atol=1e-12)
    gradients = [points[number - delay] - target for number, delay in enumerate(delays)]
    np.testing.assert_allclose(stepped(mla(rate, decay), np.float32(gradients)), theta, rtol=1e-5, atol=1e-6)


def test_without_momentum_it_is_sgd_and_constant_pseudo_gradients_step_by_one_and_a_share():
    np.testing.assert_allclose(stepped(mla(0.7, 0.0), GRADIENTS), stepped(optax.sgd(0.7), GRADIENTS), rtol=1e-6)
    long = [[1.0, 0, 0, 0]] * 200
    assert stepped(mla(0.1, 0.9), long)[0] - stepped(mla(0.1, 0.9), long[1:])[0] == pytest.approx(-0.19, rel=1e-3)


class TestHeLoCo:
    def corrected(self, g: Any, m: Any, **settings: Any) -> np.ndarray:
        """Returns the pseudo-gradient as the momentum sees it: (new m - decay * m) / (1 - decay)."""
        optimizer = heloco(1.0, 0.5, **settings)
        state = optimizer.init(jnp.zeros(2))._replace(momentum=jnp.asarray(m, jnp.float32))
        _, after = optimizer.update(jnp.asarray(g, jnp.float32), state)
        return 2 * np.asarray(after.momentum) - np.asarray(m)

    def test_what_is_opposed_loses_an_eighth(self):
        """Opposite and as long: confidence 1 / (1 + 3), a half of it taken away."""
        np.testing.assert_allclose(self.corrected([-2, 0], [2, 0]), [-2 * 0.875, 0], rtol=1e-5)

    def test_what_is_aligned_or_first_stays(self):
        np.testing.assert_allclose(self.corrected([1, 0.5], [3, 0]), [1, 0.5], rtol=1e-5)
        np.testing.assert_allclose(self.corrected([1, 0.5], [0, 0]), [1, 0.5], rtol=1e-5)
        np.testing.assert_allclose(self.corrected([0, 0], [1, 0]), [0, 0], atol=1e-7)

    def test_what_is_across_is_turned_and_keeps_its_length(self):
        """At a right angle and as long: a quarter of the way, (3, 1) / sqrt(10)."""
        np.testing.assert_allclose(self.corrected([0, 2], [2, 0]), 2 * np.array([1, 3]) / np.sqrt(10), rtol=1e-5)

    def test_turning_may_fade_out_towards_what_is_aligned(self):
        """At a right angle, halfway from -0.2 to 0.2, an eighth of the way; hardly below 0.2, where the other jumps."""
        np.testing.assert_allclose(
            self.corrected([0, 2], [2, 0], worst=-0.2), 2 * np.array([1, 7]) / np.sqrt(50), rtol=1e-5
        )
        np.testing.assert_allclose(self.corrected([0, 2], [2, 0], worst=0.0), self.corrected([0, 2], [2, 0]), rtol=1e-5)
        almost = 0.1999 * np.array([2.0, 0]) + np.sqrt(1 - 0.1999**2) * np.array([0, 2.0])
        np.testing.assert_allclose(self.corrected(almost, [2, 0], worst=-0.2), almost, rtol=1e-3)
        assert np.abs(self.corrected(almost, [2, 0]) - almost).max() > 0.1

    def test_the_bound_may_come_before_the_confidence(self):
        """Opposite and as long, of k = 4: min(4 * 1 / 4, 0.5) of it, or min(4 * 1, 0.5) / 4."""
        np.testing.assert_allclose(self.corrected([-2, 0], [2, 0], opposed=4.0), [-2 * 0.5, 0], rtol=1e-5)
        found = self.corrected([-2, 0], [2, 0], opposed=4.0, bound_first=True)
        np.testing.assert_allclose(found, [-2 * 0.875, 0], rtol=1e-5)

    def test_with_everything_aligned_it_is_mla(self):
        np.testing.assert_allclose(
            stepped(heloco(0.3, 0.8, aligned=-1.0), GRADIENTS), stepped(mla(0.3, 0.8), GRADIENTS), rtol=1e-6
        )


class TestDuDe:
    def test_it_steps_by_the_mean_of_the_last_of_each_once_all_have_offered(self):
        workers = [0, 0, 1, 2, 1, 0, 2, 2, 1]
        table, x = {}, np.zeros(4)
        for worker, gradient in zip(workers, GRADIENTS, strict=True):
            table[worker] = gradient
            if len(table) == 3:
                x = x - 0.4 * np.mean(list(table.values()), axis=0)
        found = stepped(dude(0.4, 3), GRADIENTS, worker=np.int32(workers))
        np.testing.assert_allclose(found, x, rtol=1e-5, atol=1e-6)

    def test_one_worker_is_sgd(self):
        found = stepped(dude(0.4, 1), GRADIENTS, worker=np.zeros(9, np.int32))
        np.testing.assert_allclose(found, stepped(optax.sgd(0.4), GRADIENTS), rtol=1e-6)


def test_ringleader_collects_and_then_steps_once_for_each_worker():
    """A loop of lists: worker 2 completes the table, then one step of each, beside arrivals for the next cycle."""
    workers = [0, 1, 0, 1, 2, 0, 0, 2, 1, 2, 1, 0, 2]
    gradients = np.random.default_rng(2).normal(size=(len(workers), 4)).astype(np.float32)
    present, following, due, x, steps = {}, {}, set(), np.zeros(4), []
    for worker, gradient in zip(workers, gradients, strict=True):
        steps.append(False)
        if not due:
            present.setdefault(worker, []).append(gradient)
            if len(present) < 3:
                continue
            due = {0, 1, 2}
        elif worker in due:
            present[worker].append(gradient)
        else:
            following.setdefault(worker, []).append(gradient)
            continue
        x = x - 0.4 * np.mean([np.mean(each, axis=0) for each in present.values()], axis=0)
        due, steps[-1] = due - {worker}, True
        if not due:
            present, following = following, {}
    assert steps == [False, False, False, False, True, True, False, False, True, False, True, True, True]
    found = stepped(ringleader(0.4, 3), gradients, worker=np.int32(workers))
    np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-6)
    alone = stepped(ringleader(0.4, 1), GRADIENTS, worker=np.zeros(9, np.int32))
    np.testing.assert_allclose(alone, stepped(optax.sgd(0.4), GRADIENTS), rtol=1e-6)


def test_restarts_forget_the_momentum_and_nothing_else():
    nesterov = optax.with_extra_args_support(optax.sgd(0.2, momentum=0.9, nesterov=True))
    x = np.zeros(4)
    for first in range(0, 9, 3):
        x = stepped(nesterov, GRADIENTS[first : first + 3], x)
    np.testing.assert_allclose(stepped(restarted(nesterov, 3), GRADIENTS), x, rtol=1e-6)
    np.testing.assert_allclose(stepped(restarted(nesterov, 100), GRADIENTS), stepped(nesterov, GRADIENTS), rtol=1e-6)


def test_a_gate_lets_through_all_that_is_fresh_and_nothing_from_the_cutoff_on():
    weights = [float(gate(0.5, 4)(jnp.int32(staleness))) for staleness in (0, 2, 4, 9)]
    np.testing.assert_allclose(weights, [1, np.exp(-1) / 2, 0, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mla(0.0), "learning_rate must be above 0"),
        (lambda: heloco(1.0, worst=0.2), "worst must be below aligned, 0.2, got 0.2"),
        (lambda: heloco(1.0, 1.0), "momentum must be from 0 up to below 1"),
        (lambda: dude(1.0, 0), "workers must be at least 1"),
        (lambda: ringleader(1.0, 0), "workers must be at least 1"),
        (lambda: restarted(optax.identity(), 0), "every must be at least 1"),
        (lambda: gate(-1.0, 3), "decay must be at least 0"),
    ],
)
def test_hyperparameters_out_of_range_are_refused(make: Any, message: str):
    with pytest.raises(ValueError, match=message):
        make()
