import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from pydantic import TypeAdapter

from simulator.experiment import Experiment, registry
from simulator.experiment.problems import OF_PLUGINS
from simulator.experiment.schema.outer import NamedOuter, Outer
from simulator.learning import (
    OptimizerError,
    build_inner,
    build_outer,
    delayed_nesterov,
    outer_optimizers,
    register_outer,
)
from simulator.learning.optimizers.outer import optax_optimizers
from tests.learning.quadratic import inner

EXTRA = {"staleness": jnp.int32(3), "worker": jnp.int32(0)}


@pytest.fixture(autouse=True)
def own_names() -> Iterator[None]:
    """What a test registers is gone after it."""
    with registry.emptied():
        yield


def outer(**section: Any) -> Any:
    return TypeAdapter(Outer).validate_python({"learning_rate": 0.5} | section)


def first_step(optimizer: Any, gradient: float = 4.0, **extra: Any) -> float:
    params = jnp.ones((), jnp.float32)
    updates, _ = optimizer.update(jnp.float32(gradient), optimizer.init(params), params, **extra)
    return float(updates)


def capped(learning_rate: float, cap: float) -> optax.GradientTransformationExtraArgs:
    """Plain steps that count less the staler they are, and are never longer than `cap`."""

    def update(updates: Any, state: Any, params: Any = None, *, staleness: Any, **extra: Any) -> Any:
        del params, extra
        share = learning_rate / (1.0 + jnp.asarray(staleness, jnp.float32))
        return jax.tree.map(lambda g: jnp.clip(-share * g, -cap, cap), updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


# One's own.


def test_an_outer_optimizer_of_ones_own_is_used_by_name_from_an_experiment():
    register_outer("capped", capped)
    experiment = Experiment.model_validate(
        {
            "name": "own",
            "model": {"kind": "mlp", "hidden": [4]},
            "data": {"source": "gaussian-clusters"},
            "cluster": {"devices": {"seconds_per_step": [1.0, 2.0]}},
            "inner": {"learning_rate": 0.1, "batch_size": 1},
            "synchronization": {"kind": "asynchronous"},
            "outer": {"optimizer": "capped", "learning_rate": 0.5, "weight": 2.0, "arguments": {"cap": 1.5}},
            "budget": {"local_steps": 10},
        }
    )
    assert isinstance(experiment.outer, NamedOuter)
    optimizer = build_outer(experiment.outer)
    assert first_step(optimizer, **EXTRA) == -0.5 / 4 * 2 * 4
    assert first_step(optimizer, **EXTRA | {"staleness": jnp.int32(0)}) == -1.5


def test_registering_works_as_a_decorator_and_is_listed():
    @functools.partial(register_outer, "halving")
    def halving(learning_rate: float) -> optax.GradientTransformation:
        return optax.scale(-learning_rate / 2)

    assert outer_optimizers()["halving"] is halving
    assert first_step(build_outer(outer(optimizer="halving"))) == -1.0


@pytest.mark.parametrize("name", ["capped", *registry.SLOTS["outer"].built_in])
def test_a_taken_name_is_refused(name: str):
    register_outer("capped", capped)
    with pytest.raises(ValueError, match=f"^outer.optimizer '{name}' exists already: give another name$"):
        register_outer(name, optax.sgd)


def test_what_is_no_factory_is_not_registered():
    with pytest.raises(TypeError, match=r"^the factory of 'mine' must be a function, not 3$"):
        register_outer("mine", 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^the factory of 'mine' must be a function, not None$"):
        registry.register("local_steps", "mine", None)  # type: ignore[arg-type]


def test_every_built_in_name_of_the_schema_has_a_factory():
    assert set(outer_optimizers()) == set(registry.SLOTS["outer"].built_in)


# The schema's own.


def test_the_parts_of_an_outer_section_act_in_their_order():
    # g = 4: compensated 4 + 0.5 * 16 * (1 - 0.75) = 6; weighted 3; (1 + 3)^-0.5 of it 1.5; the buffer averages two of
    # them, 1.5 and 3 (staleness 0); the learning rate is 0.5.
    section = outer(
        optimizer="sgd",
        weight=0.5,
        delay_compensation=0.5,
        arrivals_per_update=2,
        staleness={"kind": "polynomial", "drop_above": 3},
    )
    optimizer = build_outer(section)
    params = jnp.ones((), jnp.float32)
    state = optimizer.init(params)
    steps = []
    for staleness in (3, 4, 0):  # the second is dropped
        updates, state = optimizer.update(
            jnp.float32(4.0), state, params, staleness=jnp.int32(staleness), pulled_params=jnp.float32(0.75)
        )
        steps.append(float(updates))
    assert steps == [0.0, 0.0, -0.5 * (1.5 + 3.0) / 2]


def test_a_threshold_alone_drops_and_does_not_weight():
    optimizer = build_outer(outer(optimizer="sgd", staleness={"kind": "threshold", "drop_above": 3}))
    assert first_step(optimizer, staleness=jnp.int32(3)) == -2.0
    assert first_step(optimizer, staleness=jnp.int32(4)) == 0.0


@pytest.mark.parametrize("arrivals_per_update", [1, 3])
def test_the_buffer_of_delayed_nesterov_is_its_own_and_arrivals_may_be_averaged_before_it(arrivals_per_update):
    section = outer(
        optimizer="delayed_nesterov", buffer=2, momentum=0.5, c=0.5, arrivals_per_update=arrivals_per_update
    )
    optimizer = build_outer(section)
    params = jnp.ones((), jnp.float32)
    state = optimizer.init(params)
    steps = []
    for gradient in jnp.arange(2 * arrivals_per_update, dtype=jnp.float32) % arrivals_per_update:
        updates, state = optimizer.update(gradient + 5 - arrivals_per_update / 2 - 0.5, state, params)
        steps.append(float(updates))
    first, second = steps[arrivals_per_update - 1], steps[-1]
    # g = 4 on average: eps g / N, then m = 4 and 1 - cN + c = 0.5: eps (0.5 * 0.5 * 4 + g / N)
    assert (first, second) == (-0.5 * 2, -0.5 * (0.5 * 0.5 * 4 + 2))
    assert sum(step != 0 for step in steps) == 2


def test_settings_of_adam_are_passed_on(mixed_dtypes: None):
    # With eps 4 the first step is lr * g / (|g| + 4) = 0.5 * 4 / 8.
    assert first_step(build_outer(outer(optimizer="adam", eps=4.0))) == pytest.approx(-0.25, rel=1e-5)


# Anything in optax.


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("lion", {"weight_decay": 0.0}, -0.5),  # the sign
        ("rmsprop", {"decay": 0.75, "eps": 0.0}, -0.5 * 4 / 2),  # sqrt(0.25 * 16) = 2
        ("adagrad", {"initial_accumulator_value": 9.0, "eps": 0.0}, -0.5 * 4 / 5),  # sqrt(9 + 16) = 5
        ("signum", {}, -0.5),
        ("lars", {"weight_decay": 0.0, "trust_coefficient": 1.0}, -0.5 * 4 * (1 / 4)),  # trust ratio |theta| / |g|
    ],
)
def test_any_optimizer_of_optax_is_an_outer_one_by_name(name: str, arguments: dict[str, Any], expected: float):
    optimizer = build_outer(outer(optimizer=name, arguments=arguments))
    assert first_step(optimizer, **EXTRA) == pytest.approx(expected, rel=1e-5)


INNER_ONES = [
    name
    for name in optax_optimizers()
    if name not in ("lbfgs", "rprop", "scale_by_rprop")  # refused, see below
    and name not in ("noisy_sgd", "optimistic_adam")  # optax warns of them
]


def test_the_optimizers_of_optax_are_found():
    assert {"adamw", "adam", "lion", "rmsprop", "adagrad", "sgd", "lamb", "adafactor"} <= set(INNER_ONES)


@pytest.mark.parametrize("name", INNER_ONES)
def test_any_optimizer_of_optax_is_an_inner_one_at_the_learning_rate_of_the_step(name: str, mixed_dtypes: None):
    at = build_inner(inner(name))
    params = jnp.array([1.0, 2.0], jnp.float32)
    state = at(1.0).init(params)

    @jax.jit
    def updates(rate: jax.Array) -> jax.Array:
        return at(rate).update(jnp.array([3.0, -1.0], jnp.float32), state, params)[0]

    full, half, none = (updates(jnp.float32(rate)) for rate in (1.0, 0.5, 0.0))
    assert np.abs(full).min() > 0
    np.testing.assert_allclose(none, 0, atol=1e-6)
    if name != "fromage":  # which also shrinks the parameters by 1 / sqrt(1 + rate^2)
        np.testing.assert_allclose(half, full / 2, rtol=1e-5)
    else:
        assert not np.allclose(half, full, rtol=0.1)


# What is refused.


OF_OPTAX = "(inner optimizers are optax's; --plugin FILE brings outer ones)"


def refused(section: str, name: str, **arguments: Any) -> OptimizerError:
    settings = {"optimizer": name, "learning_rate": 0.5, "arguments": arguments}
    with pytest.raises(OptimizerError) as caught:
        build_inner(inner(**settings)) if section == "inner" else build_outer(NamedOuter(**settings))
    return caught.value


@pytest.mark.parametrize(
    ("section", "name", "nearest"),
    [
        ("inner", "adamww", "adamw"),
        ("inner", "rmsprob", "rmsprop"),
        ("inner", "AdamW", "adamw"),
        ("inner", "SGD", "sgd"),
        ("inner", "RMSprop", "rmsprop"),
        ("inner", "NAdam", "nadam"),
        ("inner", "AdaGrad", "adagrad"),
        ("outer", "nestrov", "nesterov"),
        ("outer", "Nesterov", "nesterov"),
        ("outer", "HeavyBall", "heavy_ball"),
        ("outer", "AdamW", "adamw"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(section: str, name: str, nearest: str):
    error = refused(section, name)
    assert (error.key, error.value) == (f"{section}.optimizer", name)
    own = OF_PLUGINS if section == "outer" else OF_OPTAX
    assert error.message == f"no such optimizer; did you mean '{nearest}'? {own}"


def test_ones_own_name_is_suggested_for_the_outer_optimizer_and_not_for_the_inner():
    register_outer("capped", capped)
    assert refused("outer", "cappt").message == f"no such optimizer; did you mean 'capped'? {OF_PLUGINS}"
    message = refused("inner", "cappt").message
    assert message.startswith("no such optimizer; valid: adabelief, ")
    assert message.endswith(f" {OF_OPTAX}")


@pytest.mark.parametrize("name", ["chain", "contrib", "GradientTransformation", "scale", "__doc__"])
def test_what_optax_has_besides_optimizers_is_refused(name: str):
    assert refused("inner", name).message.startswith("no such optimizer; ")


def test_an_argument_that_an_optimizer_does_not_take_is_named_with_those_that_it_takes():
    error = refused("inner", "sgd", momentun=0.9)
    assert (error.key, error.value) == ("inner.arguments", {"momentun": 0.9})
    assert "'momentun'" in error.message
    assert "it takes momentum, nesterov" in error.message


def test_an_argument_that_is_missing_is_named():
    register_outer("capped", capped)
    error = refused("outer", "capped")
    assert error.key == "outer.arguments"
    assert "missing a required argument: 'cap'" in error.message


def test_what_an_optimizer_says_of_the_value_of_an_argument_is_passed_on():
    register_outer("delayed", lambda learning_rate, buffer: delayed_nesterov(learning_rate, buffer=buffer))
    error = refused("outer", "delayed", buffer=0)
    assert error.key == "outer.arguments"
    assert error.message == "delayed refuses them: buffer must be at least 1, not 0"


def test_an_argument_that_no_step_can_be_taken_with_is_refused_before_anything_is_trained():
    error = refused("outer", "yogi", b1=[0.9])
    assert (error.key, error.value) == ("outer.optimizer", "yogi")
    message = "it cannot step with these arguments, gradients and parameters alone: its update raises TypeError: "
    assert error.message.startswith(message)


@pytest.mark.parametrize(
    ("name", "argument", "value", "message"),
    [
        ("yogi", "b1", "fast", "yogi expects a number"),
        ("adamw", "b1", True, "adamw expects a number"),
        ("adamw", "nesterov", "no", "adamw expects true or false"),  # any text is true
        ("rmsprop", "nesterov", 1, "rmsprop expects true or false"),
        ("lars", "trust_ratio_mask", "bias", "lars expects true or false"),
    ],
)
def test_an_argument_of_another_kind_than_optax_has_it_is_refused(name: str, argument: str, value: Any, message: str):
    for section in ("inner", "outer"):
        error = refused(section, name, **{argument: value})
        assert (error.key, error.value, error.message) == (f"{section}.arguments.{argument}", value, message)


def test_a_dtype_is_given_by_its_name(mixed_dtypes: None):
    state = build_inner(inner("adamw", arguments={"mu_dtype": "bfloat16", "nesterov": True}))(0.1).init(jnp.ones(2))
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} >= {jnp.dtype("bfloat16"), jnp.dtype("float32")}
    assert "not understood" in refused("inner", "adamw", mu_dtype="float17").message


# Which parameters decay.


def decayed(**settings: Any) -> list[float]:
    """What a step makes of a vector and a matrix of ones without gradients."""
    optimizer = build_inner(inner(**settings))(1.0)
    params = {"bias": jnp.ones(1), "kernel": jnp.ones((1, 1))}
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    return [round(float(updates[name].ravel()[0]), 6) for name in ("bias", "kernel")]


@pytest.mark.parametrize("name", ["adamw", "lion", "nadamw", "adamaxw"])
def test_all_parameters_decay_or_matrices_alone(name: str, mixed_dtypes: None):
    assert decayed(optimizer=name, weight_decay=0.25) == [-0.25, -0.25]
    assert decayed(optimizer=name, weight_decay=0.25, decay="matrices") == [0.0, -0.25]


def test_optaxs_own_decay_is_masked_too(mixed_dtypes: None):
    assert decayed(optimizer="adamw") == [-1e-4, -1e-4]
    assert decayed(optimizer="adamw", decay="matrices") == [0.0, -1e-4]


@pytest.mark.parametrize(
    ("name", "settings"),
    [("sgd", {}), ("novograd", {"weight_decay": 0.1}), ("lamb", {}), ("adamw", {"weight_decay": 0.0})],
)
def test_a_choice_of_what_decays_where_nothing_does_is_refused(name: str, settings: dict[str, Any]):
    with pytest.raises(OptimizerError, match=f"has no effect: with {name} as it is set no parameters decay") as caught:
        build_inner(inner(name, decay="matrices", **settings))
    assert caught.value.key == "inner.decay"


@pytest.mark.parametrize(("name", "mask"), [("adamw", "mask"), ("adadelta", "weight_decay_mask")])
@pytest.mark.parametrize("value", ["bias", True, {"x": True}])
def test_a_mask_among_the_arguments_is_refused(name: str, mask: str, value: Any):
    error = refused("inner", name, **{mask: value})
    assert (error.key, error.value) == (f"inner.arguments.{mask}", value)
    assert error.message == "leave it out: inner.decay says which parameters decay, all or matrices"


@pytest.mark.parametrize("section", ["inner", "outer"])
def test_a_second_learning_rate_among_the_arguments_is_refused(section: str):
    error = refused(section, "lion", learning_rate=0.1)
    assert error.key == f"{section}.arguments"
    assert error.message == f"learning_rate is given as {section}.learning_rate: take it out of the arguments"


def test_weight_decay_on_an_optimizer_that_has_none_is_refused():
    with pytest.raises(OptimizerError, match=r"sgd takes none: leave it out, or set it to null$"):
        build_inner(inner("sgd", weight_decay=0.1))


def test_weight_decay_given_twice_is_refused():
    with pytest.raises(OptimizerError, match=r"weight_decay is given as inner\.weight_decay"):
        build_inner(inner("lion", weight_decay=0.1, arguments={"weight_decay": 0.2}))


@pytest.mark.parametrize("section", ["inner", "outer"])
def test_a_line_search_which_needs_the_loss_is_refused(section: str):
    error = refused(section, "lbfgs")
    assert (error.key, error.value) == (f"{section}.optimizer", "lbfgs")
    assert "cannot step with these arguments, gradients and parameters alone" in error.message
    assert "'value_fn'" in error.message


@pytest.mark.parametrize("name", ["rprop", "scale_by_rprop"])
def test_an_inner_optimizer_that_no_schedule_reaches_is_refused(name: str):
    error = refused("inner", name)
    assert (error.key, error.value) == ("inner.optimizer", name)
    assert "keeps its first learning rate in its state" in error.message


@pytest.mark.parametrize("name", ["heavy_ball", "delayed_nesterov"])
def test_outer_optimizers_are_not_inner_ones(name: str):
    with pytest.raises(OptimizerError, match=rf"^inner\.optimizer = '{name}': no such optimizer"):
        build_inner(inner(optimizer=name))
