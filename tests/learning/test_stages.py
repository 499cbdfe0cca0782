"""Asynchronous pipelines against direct loops, on a quadratic function whose every gradient needs all parameters."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import models
from simulator.experiment.schema.inner import Inner
from simulator.experiment.schema.pipeline import AsynchronousStages
from simulator.host.errors import SettingError
from simulator.learning import (
    OptimizerError,
    Programs,
    Recipe,
    RoundData,
    RoundResult,
    SerialTrainer,
    StaleStages,
    Stretch,
    inner_optimizer,
    stages_of,
)
from simulator.learning.memory import sizes_of
from tests.learning.quadratic import Workers

WIDTH, STEPS, RATE = 2, 12, 0.04
_random = np.random.default_rng(11)
TARGETS = _random.normal(size=(64, 3 * WIDTH)).astype(np.float32)
COUPLING = np.eye(3 * WIDTH) + 0.3 * _random.normal(size=(3 * WIDTH, 3 * WIDTH))
HESSIAN = (COUPLING @ COUPLING.T).astype(np.float32)
START = _random.normal(size=3 * WIDTH).astype(np.float32)


def tree(x: np.ndarray) -> dict[str, jax.Array]:
    return {name: jnp.asarray(part, jnp.float32) for name, part in zip("abc", np.split(x, 3), strict=True)}


def flat(params: Any) -> np.ndarray:
    return np.concatenate([np.asarray(leaf) for leaf in jax.tree.leaves(params)])


def loss(params: Any, target: jax.Array, key: Any) -> jax.Array:
    away = jnp.concatenate([params[name] for name in "abc"]) - target
    return 0.5 * away @ jnp.asarray(HESSIAN) @ away


def gradient(step: int, x: np.ndarray) -> np.ndarray:
    return HESSIAN @ (x - TARGETS[step])


def inner(optimizer: str = "sgd", count: int = 3, passes: int = 1, **settings: Any) -> Inner:
    stages = {"kind": "asynchronous", "count": count, "passes_per_update": passes, **settings.pop("stages", {})}
    base = {"optimizer": optimizer, "learning_rate": RATE, "batch_size": passes, "stages": stages}
    return Inner.model_validate(base | settings)


def recipe(settings: Inner) -> Recipe:
    optimizer = inner_optimizer(settings, params=tree(START))
    point = optimizer.point if isinstance(optimizer, StaleStages) else None
    fetch = lambda arrays, examples: arrays["targets"][examples[0]]  # noqa: E731
    return Recipe(loss, fetch, optimizer, settings.state == "keep", point=point)


def data() -> RoundData:
    arrays = {"targets": jnp.asarray(TARGETS)}
    order = lambda shard, first, steps: np.arange(first, first + steps, dtype=np.int32)[:, None]  # noqa: E731
    rates = lambda shard, first, steps: np.full(steps, RATE, np.float32)  # noqa: E731
    return RoundData(arrays, order, rates, STEPS, jax.random.key(0))


def trained(made: Recipe, *rounds: int, start: np.ndarray = START) -> np.ndarray:
    """Parameters after rounds of so many steps, each from where the last one ended."""
    programs, rows = Programs(made), data()
    params, first = tree(start), 0
    state = made.initial_state(params) if made.keep_state else ()
    for number, steps in enumerate(rounds):
        inputs = rows.inputs(Stretch(number, 0, 0, first, steps), params, state)
        [(result, state)] = programs.run(rows.arrays, rows.key, [inputs])
        params, first = result.params, first + steps
    assert programs.compilations == 1
    return flat(params)


def close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


def mixed(history: list[np.ndarray], delays: tuple[int, ...]) -> np.ndarray:
    """The point at which a gradient is taken: of each stage its part of an old version, or of the first."""
    parts = [history[max(len(history) - 1 - delay, 0)] for delay in delays]
    return np.concatenate([np.split(x, 3)[stage] for stage, x in enumerate(parts)])


def delayed_sgd(steps: int, delays: tuple[int, ...] = (2, 1, 0), rates: Any = None) -> np.ndarray:
    history = [START.astype(float)]
    for step in range(steps):
        rate = RATE if rates is None else np.repeat(rates(step), WIDTH)
        history.append(history[-1] - rate * gradient(step, mixed(history, delays)))
    return history[-1]


@pytest.mark.parametrize(
    ("count", "passes", "delays"),
    [(1, 1, (0,)), (4, 1, (3, 2, 1, 0)), (4, 2, (1, 1, 0, 0)), (8, 3, (2, 2, 1, 1, 1, 0, 0, 0)), (4, 4, (0,) * 4)],
)
def test_delays_by_hand(count: int, passes: int, delays: tuple[int, ...]):
    section = AsynchronousStages(kind="asynchronous", count=count, passes_per_update=passes)
    assert section.delays == delays


def test_without_momentum_it_is_delayed_sgd():
    found = trained(recipe(inner()), STEPS)
    close(found, delayed_sgd(STEPS))
    assert np.abs(found - delayed_sgd(STEPS, (0, 0, 0))).max() > 0.01
    assert np.abs(found - delayed_sgd(STEPS, (2, 2, 2))).max() > 0.01


def test_the_rule_with_the_discounted_gradient_is_optaxs_nesterov_at_what_lies_ahead():
    gamma, eta = 0.9, RATE / (1 - 0.9)
    w, before, ahead = START.astype(float), START.astype(float), []
    for step in range(STEPS):
        d = gamma * (w - before)
        ahead.append(w + d)
        w, before = w + d - eta * (1 - gamma) * gradient(step, mixed(ahead, (2, 1, 0))), w
    found = trained(recipe(inner(arguments={"momentum": gamma, "nesterov": True})), STEPS)
    close(found, w + gamma * (w - before))


@pytest.mark.parametrize(("count", "passes"), [(1, 1), (3, 3), (2, 4)])
@pytest.mark.parametrize("optimizer", ["nadamw", "sgd"])
def test_without_delays_it_is_the_plain_optimizer(count: int, passes: int, optimizer: str, mixed_dtypes: None):
    settings = inner(optimizer, count, passes)
    plain = recipe(settings.model_copy(update={"stages": None}))
    assert plain.point is None
    close(trained(recipe(settings), STEPS), trained(plain, STEPS))


def test_stages_with_delays_are_not_the_plain_optimizer(mixed_dtypes: None):
    settings = inner("nadamw")
    plain = recipe(settings.model_copy(update={"stages": None}))
    assert np.abs(trained(recipe(settings), STEPS) - trained(plain, STEPS)).max() > 1e-3


def test_versions_stay_from_round_to_round_where_the_state_does():
    close(trained(recipe(inner()), 5, 1, 6), delayed_sgd(STEPS))


def test_a_drained_pipeline_begins_each_round_with_where_that_begins():
    found = trained(recipe(inner(state="reset")), 5, 7)
    history = [START.astype(float)]
    for first, steps in ((0, 5), (5, 7)):
        history = history[-1:]
        for step in range(first, first + steps):
            history.append(history[-1] - RATE * gradient(step, mixed(history, (2, 1, 0))))
    close(found, history[-1])
    assert np.abs(found - delayed_sgd(STEPS)).max() > 1e-3


def test_a_worker_begins_with_versions_of_its_own_start():
    made = recipe(inner())
    workers = Workers(SerialTrainer(Programs(made), data()))
    for worker, start in enumerate((START, 2 * START)):
        result: RoundResult = workers.submit(Stretch(worker, worker, 0, 0, 4), tree(start)).get()[0]
        close(flat(result.params), trained(made, 4, start=start))


def test_a_stages_rate_is_divided_by_its_delay_at_first():
    """By 2 ** (1 - t / 4) at update t of the first stage, until the fourth; others are less than two updates late."""
    factors = [2 ** -(1 - t / 4) for t in (1, 2, 3, 4)] + [1.0] * (STEPS - 4)
    expected = delayed_sgd(STEPS, rates=lambda step: RATE * np.array([factors[step], 1.0, 1.0]))
    close(trained(recipe(inner(stages={"correction_steps": 4})), STEPS), expected)
    assert np.abs(expected - delayed_sgd(STEPS)).max() > 1e-3


@pytest.mark.parametrize("optimizer", ["sgd", "nadamw"])
def test_momentum_grows_towards_the_first_stage(optimizer: str, mixed_dtypes: None):
    """0.6 + (0.9 - 0.6) (P - i) / P for i = 1, 2, 3 of P = 3; a sum of gradients is discounted, a mean is not."""
    name, momenta = {"sgd": "momentum", "nadamw": "b1"}[optimizer], (0.8, 0.7, 0.6)
    settings = inner(optimizer, arguments={name: 0.6}, stages={"adaptive_momentum": 0.9})
    rates = [RATE * (1 - each) / (1 - 0.6) if optimizer == "sgd" else RATE for each in momenta]
    build = {"sgd": optax.sgd, "nadamw": optax.nadamw}[optimizer]
    each = [build(rate, **{name: own}) for rate, own in zip(rates, momenta, strict=True)]
    parts = list(jnp.split(jnp.asarray(START), 3))
    states = [own.init(part) for own, part in zip(each, parts, strict=True)]
    history = [START]
    for step in range(STEPS):
        slopes = np.split(gradient(step, mixed(history, (2, 1, 0))).astype(np.float32), 3)
        for stage in range(3):
            updates, states[stage] = each[stage].update(jnp.asarray(slopes[stage]), states[stage], parts[stage])
            parts[stage] = optax.apply_updates(parts[stage], updates)
        history.append(np.concatenate(parts))
    close(trained(recipe(settings), STEPS), history[-1])


def test_each_stage_clips_its_own_gradient():
    found = trained(recipe(inner(clip_norm=0.1)), 1)
    for moved, slope in zip(np.split(START - found, 3), np.split(gradient(0, START), 3), strict=True):
        np.testing.assert_allclose(moved, RATE * 0.1 * slope / np.linalg.norm(slope), rtol=1e-3)


def test_an_optimizer_without_momentum_has_none_to_adapt():
    settings = inner("rmsprop", stages={"adaptive_momentum": 0.9})
    assert inner_optimizer(inner("rmsprop"), params=tree(START))
    changed = settings.model_copy(update={"optimizer": "adagrad"})
    with pytest.raises(OptimizerError, match="adagrad has neither b1 nor momentum: leave it out"):
        inner_optimizer(changed, params=tree(START))


def test_the_memory_of_versions_is_counted():
    """Of stages that are 2, 1 and 0 updates late: two versions of the first, and one of the second."""
    arrays = {"targets": TARGETS}

    def sizes(settings: Inner) -> Any:
        return sizes_of(recipe(settings), tree(START), (), arrays, np.zeros(1, np.int32), 1)

    plain, stale = sizes(inner().model_copy(update={"stages": None})), sizes(inner())
    assert (plain.inner, stale.inner) == (0, 4 * WIDTH * (2 + 1) + 4)  # and the count of updates
    assert stale.activations == plain.activations + 4 * 3 * WIDTH  # the point of the gradient


CONFIG = models.TransformerConfig(vocabulary=32, layers=5, width=8, heads=2, context=4, tied=False)


def stages_by_path(params: Any, count: int) -> dict[str, int]:
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    return dict(zip(paths, stages_of(params, count).of, strict=True))


def test_stages_of_a_transformer_are_in_the_order_of_a_forward_pass():
    found = stages_by_path(models.transformer(CONFIG).init(jax.random.key(0)), 3)
    blocks = [{stage for path, stage in found.items() if f"['blocks']['{block}']" in path} for block in range(5)]
    assert blocks == [{0}, {0}, {1}, {1}, {2}]
    outside = {path: stage for path, stage in found.items() if "blocks" not in path}
    assert outside == {
        "['token_embedding']": 0,
        "['position_embedding']": 0,
        "['norm_final']['scale']": 2,
        "['unembedding']": 2,
    }


def test_stages_of_a_perceptron_are_whole_layers_in_their_order():
    layers = 12
    params = models.mlp(models.MLPConfig(3, (4,) * (layers - 1), 2)).init(jax.random.key(0))
    found = stages_by_path(params, layers)
    assert found == {
        f"['layers']['{layer}']['{part}']": layer for layer in range(layers) for part in ("bias", "kernel")
    }


def test_more_stages_than_blocks_are_refused():
    params = models.transformer(dataclasses.replace(CONFIG, layers=2)).init(jax.random.key(0))
    with pytest.raises(ValueError, match="has 2 blocks or layers, which cannot be divided into 3 stages: choose fewer"):
        stages_of(params, 3)
    with pytest.raises(SettingError) as found:
        inner_optimizer(inner(), params=params)
    assert (found.value.key, found.value.value) == ("inner.stages.count", 3)
