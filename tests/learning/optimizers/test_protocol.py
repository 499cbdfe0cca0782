"""Calls of optimizers of one's own, and what is said of those that cannot step, before anything runs."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from simulator import Cache, simulate
from simulator.experiment import ExperimentError, registry
from simulator.experiment.schema.outer import NamedOuter
from simulator.learning import OptimizerError, build_outer, register_outer
from simulator.simulation.checks import check
from tests.experiments import tiny
from tests.killed_runs import CLASSIFIER

COUNTS = {"staleness": np.int32(3), "worker": np.int32(2), "steps": np.int32(5), "tokens": np.float32(40)}
EXTRA = {**COUNTS, "pulled_params": {"x": jnp.zeros(2)}}
PARAMS = {"x": jnp.ones(2)}


@pytest.fixture(autouse=True)
def own_names() -> Iterator[None]:
    """What a test registers is gone after it."""
    with registry.emptied():
        yield


def scaled(gradients: Any, factor: Any) -> Any:
    return jax.tree.map(lambda g: -jnp.float32(factor) * g, gradients)


def built(update: Callable[..., Any], kind: Any = optax.GradientTransformation, init: Any = lambda params: ()) -> Any:
    register_outer("own", lambda learning_rate: kind(init, update))
    return build_outer(NamedOuter(optimizer="own", learning_rate=1.0))


def step(optimizer: Any) -> list[float]:
    updates, _ = optimizer.update({"x": jnp.ones(2)}, optimizer.init(PARAMS), PARAMS, **EXTRA)
    return np.asarray(updates["x"]).tolist()


def by_default(updates, state, params=None, staleness=0):
    assert params is not None
    return scaled(updates, staleness), state


def by_keyword(updates, state, params=None, *, staleness):
    return scaled(updates, staleness), state


def instead_of_params(updates, state, staleness):
    return scaled(updates, staleness), state


def two_of_them(updates, state, _, *, pulled_params, worker):
    return scaled(jax.tree.map(jnp.add, updates, pulled_params), worker + 1), state


def params_by_keyword(updates, state, *, params, worker):
    return scaled(params, worker + 1), state


def anything(*given, **extra):
    assert extra.keys() == EXTRA.keys()
    return scaled(given[2], extra["staleness"]), given[1]


def any_keyword(updates, state, **extra):
    assert extra.keys() == {"params", *EXTRA}
    return scaled(extra["params"], extra["staleness"]), state


def two_arguments(updates, state):
    return scaled(updates, 3), state


@pytest.mark.parametrize("kind", [optax.GradientTransformation, optax.GradientTransformationExtraArgs])
@pytest.mark.parametrize(
    "update",
    [
        by_default,
        by_keyword,
        instead_of_params,
        two_of_them,
        params_by_keyword,
        anything,
        any_keyword,
        two_arguments,
    ],
)
def test_an_update_is_given_what_its_signature_takes(update: Callable[..., Any], kind: Any):
    assert step(built(update, kind)) == [-3.0, -3.0]


@pytest.mark.parametrize("kind", [optax.GradientTransformation, optax.GradientTransformationExtraArgs])
def test_what_is_told_changes_what_is_learned(kind: Any, mixed_dtypes: None):
    def update(updates: Any, state: Any, params: Any = None, staleness: Any = 0) -> Any:
        return jax.tree.map(lambda g: -0.5 * g / (1.0 + jnp.asarray(staleness, jnp.float32)), updates), state

    register_outer("fresh", lambda learning_rate: kind(lambda params: optax.EmptyState(), update))
    changes = CLASSIFIER | {"budget": {"local_steps": 60}}
    own = {"outer": {"optimizer": "fresh", "learning_rate": 0.5, "weight": 1.0}}
    staleness = {"kind": "polynomial", "power": 1.0}
    same = {"outer": {"optimizer": "sgd", "learning_rate": 0.5, "weight": 1.0, "staleness": staleness}}
    cache = Cache()
    losses = [simulate(tiny(**changes, **outer), cache=cache).evaluations["loss"] for outer in (own, same)]
    np.testing.assert_allclose(*losses, rtol=1e-6)
    del same["outer"]["staleness"]
    assert not np.allclose(losses[0], simulate(tiny(**changes, **same), cache=cache).evaluations["loss"])


def needs_loss(updates, state, params, loss):
    return updates, state


def returns(*made: Any) -> Callable[..., Any]:
    def update(updates: Any, state: Any, params: Any = None) -> Any:
        [found] = [each(updates, state) if callable(each) else each for each in made]
        return found

    return update


def branches(updates, state, params=None, *, staleness):
    return (updates, state) if staleness > 3 else (scaled(updates, 1), state)


def absent(updates, state, params=None):
    raise KeyError("momentum")


CANNOT = "it cannot step with these arguments, gradients and parameters alone: its update raises "
WRONG = {
    "needs_loss": (
        needs_loss,
        "its update cannot be called as update(updates, state, params): missing a required argument: 'loss'; by name "
        "it may take staleness, worker, steps, tokens, pulled_params",
    ),
    "None": (returns(None), "its update returned None: return the updates and the new state"),
    "no state": (returns(lambda g, s: g), "its update returned {'matrix'...: return the updates and the new state"),
    "no updates": (
        returns(lambda g, s: (None, s)),
        "its update returned updates unlike the parameters: ['matrix'] is missing",
    ),
    "half": (
        returns(lambda g, s: (jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), g), s)),
        "its update returned updates unlike the parameters: ['matrix'] is bfloat16[3, 2], not float32[3, 2]",
    ),
    "sums": (
        returns(lambda g, s: (jax.tree.map(jnp.sum, g), s)),
        "its update returned updates unlike the parameters: ['matrix'] is float32[], not float32[3, 2]",
    ),
    "more": (
        returns(lambda g, s: (g | {"z": jnp.zeros(2)}, s)),
        "its update returned updates unlike the parameters: ['z'] is too much",
    ),
    "list": (
        returns(lambda g, s: (g, list(s))),
        "its update returned state unlike its init: it is PyTreeDef([*]), not PyTreeDef((*,))",
    ),
    "lost state": (returns(lambda g, s: (g, ())), "its update returned state unlike its init: [0] is missing"),
    "float state": (
        returns(lambda g, s: (g, (s[0] + 0.5,))),
        "its update returned state unlike its init: [0] is float32[], not int32[]",
    ),
    "branches": (
        branches,
        CANNOT + "TracerBoolConversionError at line ...test_protocol.py: Attempted ...",
    ),
    "raises": (absent, CANNOT + "KeyError at line ...test_protocol.py: 'momentum'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_optimizer_that_cannot_step_is_refused_in_one_line(name: str):
    update, message = WRONG[name]
    with pytest.raises(OptimizerError) as caught:
        built(update, init=lambda params: (jnp.zeros((), jnp.int32),))
    assert (caught.value.key, caught.value.value) == ("outer.optimizer", "own")
    assert re.fullmatch(re.escape(message).replace(re.escape("..."), ".*"), caught.value.message)


def test_a_part_of_a_chain_is_told_what_it_takes_or_refused():
    def chained(update: Callable[..., Any], kind: Any) -> Any:
        part = kind(lambda params: optax.EmptyState(), update)
        with registry.emptied():
            register_outer("own", lambda learning_rate: optax.chain(part, optax.scale(learning_rate)))
            return build_outer(NamedOuter(optimizer="own", learning_rate=1.0))

    def told(updates: Any, state: Any, params: Any = None, *, staleness: Any, **extra: Any) -> Any:
        return scaled(updates, staleness), state

    assert step(chained(told, optax.GradientTransformationExtraArgs)) == [-3.0, -3.0]
    with pytest.raises(OptimizerError, match="optax tells staleness to no part of a chain that is not a Gradient"):
        chained(by_default, optax.GradientTransformation)
    with pytest.raises(
        OptimizerError, match=r"'worker'; a part of a chain takes all that it does not need as \*\*extra"
    ):
        chained(by_keyword, optax.GradientTransformationExtraArgs)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (3, "its factory returned 3: return an optax.GradientTransformation"),
        (None, "its factory returned None: return an optax.GradientTransformation"),
    ],
)
def test_a_factory_that_makes_no_optimizer_is_refused(made: Any, message: str):
    register_outer("own", lambda learning_rate: made)
    with pytest.raises(OptimizerError, match=f"{message}$"):
        build_outer(NamedOuter(optimizer="own", learning_rate=1.0))


def test_what_a_factory_raises_is_said_with_its_line():
    def factory(learning_rate: float) -> Any:
        return {}["momentum"]

    register_outer("own", factory)
    with pytest.raises(OptimizerError, match=r"own refuses them: KeyError at line \d+ of .*test_protocol.py: 'mom"):
        build_outer(NamedOuter(optimizer="own", learning_rate=1.0))


@pytest.fixture
def deep() -> Any:
    """An experiment with an optimizer that takes matrices of some sizes alone, as only its model has them."""

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        return jax.tree.map(lambda g: g[:, None], updates), state

    register_outer("own", lambda learning_rate: optax.GradientTransformation(lambda params: (), update))
    return tiny(**CLASSIFIER, outer={"optimizer": "own", "learning_rate": 1.0})


def test_it_is_tried_on_the_models_own_parameters_before_a_simulation(deep: Any):
    expected = "unlike the parameters: ['layers']['0']['bias'] is float32["
    cache = Cache()
    [problem] = check(deep, cache)
    assert problem.key == "outer.optimizer"
    assert expected in problem.message
    with pytest.raises(ExperimentError, match=re.escape(expected)) as caught:
        simulate(deep, cache=cache)
    assert len(str(caught.value).splitlines()) == 1
