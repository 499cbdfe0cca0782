"""Rules that every outer optimizer and every wrapper has to keep to."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from pydantic import TypeAdapter

from simulator.experiment.registry import SLOTS
from simulator.experiment.schema.outer import Outer
from simulator.learning import (
    buffered,
    build_outer,
    delay_compensation,
    delayed_nesterov,
    drop_stale,
    outer_optimizers,
    polynomial,
    scale_by_staleness,
)

ARGUMENTS = {
    "heavy_ball": {"momentum": 0.9},
    "nesterov": {"momentum": 0.9},
    "dude": {"workers": 1},
    "ringleader": {"workers": 1},
}
REQUIRED = {"delayed_nesterov": {"buffer": 2}, "dude": {"workers": 1}, "ringleader": {"workers": 1}}
EXTRAS = {
    "weight": 0.5,
    "staleness": {"kind": "polynomial", "drop_above": 5},
    "delay_compensation": 0.1,
    "arrivals_per_update": 2,
}


@dataclasses.dataclass(frozen=True)
class Case:
    """An outer optimizer.

    Attributes:
      build: makes it.
      adam: whether optax's Adam is inside; it cannot run under strict dtype promotion.
      gossips: whether it moves towards what others began with.
    """

    build: Callable[[], optax.GradientTransformation]
    adam: bool = False
    gossips: bool = False


def _registered(name: str) -> Case:
    return _case(name, lambda: outer_optimizers()[name](learning_rate=0.5, **ARGUMENTS.get(name, {})))


def _schema(name: str) -> Case:
    section = {"optimizer": name, "learning_rate": 0.5} | EXTRAS | REQUIRED.get(name, {})
    return _case(name, lambda: build_outer(TypeAdapter(Outer).validate_python(section)))


def _case(name: str, build: Callable[[], optax.GradientTransformation]) -> Case:
    return Case(build, adam=name == "adam", gossips=name == "noloco")


CASES = {
    **{f"registered {name}": _registered(name) for name in outer_optimizers()},
    "buffered": Case(lambda: buffered(optax.sgd(0.5, momentum=0.9), 2)),
    "drop_stale": Case(lambda: drop_stale(optax.sgd(0.5, momentum=0.9), 5)),
    "scale_by_staleness, polynomial": Case(lambda: scale_by_staleness(polynomial())),
    "delay_compensation": Case(lambda: delay_compensation(0.1)),
    "delayed_nesterov, c > 0": Case(lambda: delayed_nesterov(0.5, buffer=3, c=0.2)),
    "all wrappers in one another": Case(
        lambda: drop_stale(buffered(optax.chain(delay_compensation(0.1), delayed_nesterov(0.5)), 2), 5)
    ),
    **{f"schema {name}, all extras": _schema(name) for name in (*SLOTS["outer"].built_in, "rmsprop")},
}


@dataclasses.dataclass(frozen=True)
class Subject:
    """An outer optimizer, plain and compiled."""

    case: Case
    optimizer: optax.GradientTransformationExtraArgs
    init: Callable[..., Any]
    update: Callable[..., Any]


@pytest.fixture(scope="module", params=CASES)
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    case = CASES[request.param]
    with jax.numpy_dtype_promotion("standard" if case.adam else "strict"):
        optimizer = optax.with_extra_args_support(case.build())
        yield Subject(case, optimizer, jax.jit(optimizer.init), jax.jit(optimizer.update))


def tree(seed: int, dtype: Any = jnp.float32, lanes: tuple[int, ...] = ()) -> Any:
    random = np.random.default_rng(seed)

    def leaf(*shape: int) -> jax.Array:
        return jnp.asarray(random.normal(size=lanes + shape), dtype)

    return {"w": leaf(2, 3), "block": {"scale": leaf(4), "bias": leaf()}}


def told(staleness: int = 2, dtype: Any = jnp.float32) -> dict[str, Any]:
    """What the server tells of an arrival."""
    return {"staleness": np.int32(staleness), "worker": np.int32(0), "pulled_params": tree(9, dtype)}


def kinds(values: Any) -> Any:
    """Shape and dtype of every leaf."""
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), values)


def assert_close(one: Any, other: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one, other)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_tree_shapes_and_dtypes_stay(subject: Subject, dtype: Any):
    params = start = tree(0, dtype)
    state = subject.init(params)
    expected_state = kinds(state)
    for _ in range(4):
        updates, state = subject.update(tree(1, dtype), state, params, **told(dtype=dtype))
        assert kinds(updates) == kinds(params)
        assert kinds(state) == expected_state
        params = optax.apply_updates(params, updates)
    for now, before in zip(jax.tree.leaves(params), jax.tree.leaves(start), strict=True):
        assert np.abs(np.float32(now) - np.float32(before)).max() > 0


def test_the_state_is_made_of_arrays_and_survives_a_trip_to_the_host(subject: Subject):
    params = tree(0)
    _, state = subject.update(tree(1), subject.init(params), params, **told())
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    leaves, structure = jax.tree.flatten(state)
    restored = jax.tree.unflatten(structure, [np.asarray(leaf) for leaf in leaves])
    expected = subject.update(tree(2), state, params, **told())
    assert_close(subject.update(tree(2), restored, params, **told()), expected)


def test_further_keyword_arguments_change_nothing(subject: Subject):
    params = tree(0)
    state = subject.init(params)
    expected = subject.update(tree(1), state, params, **told())
    assert_close(subject.update(tree(1), state, params, **told(), loss=np.float32(3.0)), expected)


def test_it_composes_with_chain(subject: Subject):
    chained = optax.chain(optax.scale(0.25), subject.optimizer)
    chained_update = jax.jit(chained.update)
    params = tree(0)
    state, chained_state = subject.init(params), chained.init(params)
    for seed in (3, 4):
        quarter = jax.tree.map(lambda leaf: 0.25 * leaf, tree(seed))
        updates, state = subject.update(quarter, state, params, **told())
        chained_updates, chained_state = chained_update(tree(seed), chained_state, params, **told())
        assert_close(chained_updates, updates)
    assert_close(chained_state[1], state)


def test_one_program_serves_all_arrivals(subject: Subject):
    traces = 0

    def update(*values: Any, **extra: Any) -> Any:
        nonlocal traces
        traces += 1
        return subject.optimizer.update(*values, **extra)

    compiled = jax.jit(update)
    params = tree(0)
    state = subject.init(params)
    for arrival in range(4):
        updates, state = compiled(tree(arrival), state, params, **told(3 * arrival))
        params = optax.apply_updates(params, updates)
    assert traces == 1


def test_compiled_and_plain_agree(subject: Subject):
    params = tree(0)
    state = compiled_state = subject.optimizer.init(params)
    for staleness in (2, 7):  # 7 is above the threshold of those that have one
        updates, state = subject.optimizer.update(tree(1), state, params, **told(staleness))
        compiled_updates, compiled_state = subject.update(tree(1), compiled_state, params, **told(staleness))
        assert_close(compiled_updates, updates)
        assert_close(compiled_state, state)


def test_side_by_side_and_alone_agree(subject: Subject):
    params_Lx, gradients_Lx = tree(0, lanes=(3,)), tree(1, lanes=(3,))
    staleness_L = np.array([0, 7, 2], np.int32)

    def take(gradients: Any, state: Any, params: Any, staleness: Any) -> Any:
        return subject.optimizer.update(gradients, state, params, **told() | {"staleness": staleness})

    mapped = jax.jit(jax.vmap(take))
    states_Lx = together = jax.vmap(subject.optimizer.init)(params_Lx)
    for _ in range(2):
        updates_Lx, together = mapped(gradients_Lx, together, params_Lx, staleness_L)
    for lane in range(3):
        gradients, params, state, expected = jax.tree.map(
            lambda leaf, lane=lane: leaf[lane], (gradients_Lx, params_Lx, states_Lx, (updates_Lx, together))
        )
        for _ in range(2):
            updates, state = subject.update(gradients, state, params, **told(int(staleness_L[lane])))
        assert_close((updates, state), expected)


def test_a_pseudo_gradient_of_zero_leaves_fresh_parameters(subject: Subject):
    params = tree(0)
    zero = jax.tree.map(jnp.zeros_like, params)
    state, pulled = subject.init(params), {"pulled_params": params} if subject.case.gossips else {}
    for _ in range(2):
        updates, state = subject.update(zero, state, params, **told(1) | pulled)
        jax.tree.map(np.testing.assert_array_equal, optax.apply_updates(params, updates), params)
